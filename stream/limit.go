package stream

import (
	"context"
	"io"
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

// reserve takes n tokens, and returns how long it lasts until they are there.
func (p *Pacer) reserve(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.tokens = min(p.burst, p.tokens+now.Sub(p.last).Seconds()*p.rate) - float64(n)
	p.last = now
	return time.Duration(-p.tokens / p.rate * float64(time.Second))
}

// Limiter is a writer that passes on at most a given number of bytes in a
// second. It belongs to one goroutine.
type Limiter struct {
	ctx   context.Context
	w     io.Writer
	pacer *Pacer
}

// NewLimiter returns a Limiter on w of rate bytes a second. A rate of 0 or
// less is no limit. Waiting ends when ctx does, with the cause of its end.
func NewLimiter(ctx context.Context, w io.Writer, rate Size) io.Writer {
	if rate <= 0 {
		return w
	}
	return &Limiter{ctx: ctx, w: w, pacer: NewPacer(rate)}
}

// Write passes p on in pieces, each as soon as the rate allows it.
func (l *Limiter) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		piece := p[:min(len(p), int(l.pacer.burst))]
		if err := l.pacer.Wait(l.ctx, len(piece)); err != nil {
			return total, err
		}
		n, err := l.w.Write(piece)
		total += n
		if err == nil && n != len(piece) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
		p = p[n:]
	}
	return total, nil
}
