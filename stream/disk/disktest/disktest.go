// Package disktest helps tests with directories and files that fail.
package disktest

import (
	"testing"

	"hb/stream/disk"
)

// Open opens a directory until the test ends.
func Open(t testing.TB, path string) disk.Dir {
	t.Helper()
	d, err := disk.OS.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
