package stream

import (
	"context"
	"io"
	"time"
)

const (
	// burstTime is how much unused rate may be saved up: long enough for the
	// timers to keep up, short enough for the limit to be smooth.
	burstTime = 100 * time.Millisecond
	// minBurst keeps a very low rate from being written byte by byte.
	minBurst = 4 << 10
)

// Limiter is a writer that passes on at most a given number of bytes in a
// second (a token bucket). It belongs to one goroutine.
type Limiter struct {
	ctx    context.Context
	w      io.Writer
	rate   float64 // bytes a second
	burst  float64 // bytes
	tokens float64 // bytes that may pass now
	last   time.Time
}

// NewLimiter returns a Limiter on w of rate bytes a second. A rate of 0 or
// less is no limit. Waiting ends when ctx does, with the cause of its end.
func NewLimiter(ctx context.Context, w io.Writer, rate Size) io.Writer {
	if rate <= 0 {
		return w
	}
	burst := max(float64(rate)*burstTime.Seconds(), minBurst)
	return &Limiter{ctx: ctx, w: w, rate: float64(rate), burst: burst, tokens: burst, last: time.Now()}
}

// Write passes p on in pieces, each as soon as the rate allows it.
func (l *Limiter) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		piece := p[:min(len(p), int(l.burst))]
		if err := l.wait(len(piece)); err != nil {
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

// wait takes n tokens, n at most the burst, waiting until they are there.
func (l *Limiter) wait(n int) error {
	l.refill()
	if missing := float64(n) - l.tokens; missing > 0 {
		timer := time.NewTimer(time.Duration(missing / l.rate * float64(time.Second)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
		l.refill()
	}
	// Rounding may leave it below 0 by a fraction, which the next wait pays.
	l.tokens -= float64(n)
	return nil
}

func (l *Limiter) refill() {
	now := time.Now()
	l.tokens = min(l.burst, l.tokens+now.Sub(l.last).Seconds()*l.rate)
	l.last = now
}
