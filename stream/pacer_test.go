package stream

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// use takes n bytes from a pacer in pieces, as readers of tablespaces do.
func use(t *testing.T, p *Pacer, n int, used func(piece int)) {
	t.Helper()
	for n > 0 {
		piece := min(n, 4<<10)
		if err := p.Wait(t.Context(), piece); err != nil {
			t.Fatal(err)
		}
		used(piece)
		n -= piece
	}
}

func TestPacer(t *testing.T) {
	const rate = 10 << 20
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(rate)
		start := time.Now()
		use(t, p, 50<<20, func(int) {})
		// One burst of a tenth of a second is free.
		if took := time.Since(start).Seconds(); took < 4.89 || took > 5.01 {
			t.Errorf("50 MiB at 10 MiB/s took %.2f s", took)
		}
		// A pause must not be saved up beyond the burst.
		time.Sleep(time.Hour)
		start = time.Now()
		use(t, p, rate, func(int) {})
		if took := time.Since(start).Seconds(); took < 0.89 || took > 1.01 {
			t.Errorf("a second's worth after a pause took %.2f s", took)
		}
	})
}

// TestPacerIsSmooth: at no time have more bytes passed than the rate and one burst
// allow.
func TestPacerIsSmooth(t *testing.T) {
	const rate = 5000
	synctest.Test(t, func(t *testing.T) {
		p, start, total := NewPacer(rate), time.Now(), 0
		for _, n := range []int{1, 3000, 9000, 17, 40000} {
			use(t, p, n, func(piece int) {
				total += piece
				if over := float64(total) - time.Since(start).Seconds()*rate; over > minBurst+1 {
					t.Errorf("%.0f bytes more have passed than the rate allows; the burst is %d", over, minBurst)
				}
			})
		}
	})
}

func TestPacerCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errStop := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errStop) })
		start := time.Now()
		if err := NewPacer(1000).Wait(ctx, 1<<20); !errors.Is(err, errStop) {
			t.Errorf("Wait: %v", err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %v to stop", took)
		}
	})
}
