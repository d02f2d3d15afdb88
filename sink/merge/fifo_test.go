//go:build unix

package merge_test

import (
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// fifo makes a pipe with a name, and writes to it once.
func fifo(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := unix.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = f.Write(content) // the reader may leave
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(wg.Wait)
}
