package stream

import (
	"context"
	"sync"
	"time"
)

const (
	// burstTime is how much unused rate may be saved up: long enough for the
	// timers to keep up, short enough for the limit to be smooth.
	burstTime = 100 * time.Millisecond
	// minBurst keeps a very low rate from being written byte by byte.
	minBurst = 4 << 10
)

// Pacer is a token bucket: it makes its callers wait so that they use at most a
// given number of bytes a second together. It may be used by several goroutines
// at once.
type Pacer struct {
	rate  float64 // bytes a second
	burst float64 // bytes

	mu     sync.Mutex
	tokens float64 // bytes that may pass now; below 0: they are promised already
	last   time.Time
}

// NewPacer returns a pacer of rate bytes a second, which must be above 0.
func NewPacer(rate Size) *Pacer {
	burst := max(float64(rate)*burstTime.Seconds(), minBurst)
	return &Pacer{rate: float64(rate), burst: burst, tokens: burst, last: time.Now()}
}

// Wait returns when n more bytes may be used, or with the cause of the
// context's end.
func (p *Pacer) Wait(ctx context.Context, n int) error {
	delay := p.reserve(n)
	if delay <= 0 {
		return nil
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reserve takes n tokens and returns how long to wait until they are available.
func (p *Pacer) reserve(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.tokens = min(p.burst, p.tokens+now.Sub(p.last).Seconds()*p.rate) - float64(n)
	p.last = now
	return time.Duration(-p.tokens / p.rate * float64(time.Second))
}
