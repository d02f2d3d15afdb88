package catalog

import (
	"context"
	"errors"
	"testing"
	"time"

	"hb/xbstream"
)

func TestBuffers(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	b := NewBuffers(ctx)
	var lent [][]byte
	total := 0
	take := func(n int) {
		t.Helper()
		buf, err := b.Get(n)
		if err != nil || len(buf) != n {
			t.Fatalf("get(%d) = %d bytes, %v", n, len(buf), err)
		}
		lent = append(lent, buf)
		if total += cap(buf); total > maxBuffers {
			t.Fatalf("%d bytes are lent", total)
		}
	}
	for _, n := range []int{1, smallBuffer, smallBuffer + 1, 10 << 20, 10 << 20, 10 << 20, 10<<20 + 1, 30 << 20} {
		take(n)
	}
	// The next has to wait until enough came back.
	got := make(chan []byte)
	go func() {
		buf, _ := b.Get(xbstream.MaxPayload)
		got <- buf
	}()
	for _, buf := range lent {
		select {
		case <-got:
			t.Fatal("more was lent than the bound")
		case <-time.After(2 * time.Millisecond):
		}
		b.Put(buf)
	}
	buf := <-got
	if len(buf) != xbstream.MaxPayload {
		t.Fatalf("got %d bytes", len(buf))
	}
	errStop := errors.New("stop")
	time.AfterFunc(5*time.Millisecond, func() { cancel(errStop) })
	if _, err := b.Get(30 << 20); !errors.Is(err, errStop) {
		t.Errorf("get beyond the bound = %v", err)
	}
	b.Put(nil)
}
