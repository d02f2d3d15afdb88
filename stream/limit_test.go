package stream

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiter(t *testing.T) {
	const rate = 10 << 20
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		w := NewLimiter(t.Context(), &out, rate)
		data := pages(50<<20, 1)
		start := time.Now()
		if n, err := w.Write(data); n != len(data) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
		// One burst of a tenth of a second is free.
		if took := time.Since(start).Seconds(); took < 4.89 || took > 5.01 {
			t.Errorf("50 MiB at 10 MiB/s took %.2f s", took)
		}
		if !bytes.Equal(out.Bytes(), data) {
			t.Error("other bytes came out")
		}
		// A pause must not be saved up beyond the burst.
		time.Sleep(time.Hour)
		start = time.Now()
		w.Write(data[:rate])
		if took := time.Since(start).Seconds(); took < 0.89 || took > 1.01 {
			t.Errorf("a second's worth after a pause took %.2f s", took)
		}
	})
}

// stampSink notes how much had come by when.
type stampSink struct {
	start time.Time
	total int
	worst float64 // bytes over the rate
}

func (s *stampSink) Write(p []byte) (int, error) {
	s.total += len(p)
	s.worst = max(s.worst, float64(s.total)-time.Since(s.start).Seconds()*5000)
	return len(p), nil
}

func TestLimiterIsSmooth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &stampSink{start: time.Now()}
		w := NewLimiter(t.Context(), sink, 5000)
		for _, n := range []int{1, 3000, 9000, 17, 40000} {
			if _, err := w.Write(make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
		if sink.worst > minBurst+1 {
			t.Errorf("at some time %.0f bytes more had passed than the rate allows, the burst is %d", sink.worst, minBurst)
		}
	})
}

func TestLimiterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		errStop := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errStop) })
		start := time.Now()
		n, err := NewLimiter(ctx, &bytes.Buffer{}, 1000).Write(make([]byte, 1<<20))
		if !errors.Is(err, errStop) || n != minBurst {
			t.Errorf("Write = %d, %v", n, err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("it took %v to stop", took)
		}
	})
}

func TestLimiterOff(t *testing.T) {
	var out bytes.Buffer
	if w := NewLimiter(t.Context(), &out, 0); w != &out {
		t.Error("a rate of 0 puts something before the writer")
	}
}
