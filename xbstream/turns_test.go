package xbstream

import (
	"bytes"
	"sync"
	"testing"
	"time"
)

// TestTurns: with eight files whose chunks always wait, a file that hurries has
// every second turn, and one of them the others; without others it has all.
func TestTurns(t *testing.T) {
	var log bytes.Buffer // by whoever has the turn
	var tr turns
	tr.begin(false)
	var wg sync.WaitGroup
	for _, name := range []byte("abcdefgh") {
		queue(&tr, &wg, false, func() { log.WriteByte(name) })
	}
	for range 12 {
		queue(&tr, &wg, true, func() { log.WriteByte('!') })
	}
	tr.end()
	wg.Wait()
	if got, want := log.String(), "!a!b!c!d!e!f!g!h!!!!"; got != want {
		t.Errorf("turns: %s, want %s", got, want)
	}
}

// queue begins to wait for a turn, and returns when it does.
func queue(tr *turns, wg *sync.WaitGroup, hurry bool, do func()) {
	count := func() int {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		return len(tr.waiting) + len(tr.hurrying)
	}
	before := count()
	wg.Go(func() {
		tr.begin(hurry)
		defer tr.end()
		do()
	})
	for count() == before {
		time.Sleep(time.Millisecond)
	}
}
