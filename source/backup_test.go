package source

import (
	"runtime"
	"testing"
)

// TestReaders: as many as are asked for, within bounds.
func TestReaders(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	for asked, want := range map[int]int{-1: 3, 0: 3, 1: 1, 20: 20, 1000: maxParallel} {
		if got := readers(asked); got != want {
			t.Errorf("%d are asked for: %d, want %d", asked, got, want)
		}
	}
	runtime.GOMAXPROCS(100)
	if got := readers(0); got != defaultParallel {
		t.Errorf("by default with 100 processors: %d", got)
	}
}
