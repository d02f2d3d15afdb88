// Package disktest helps tests with directories and files that fail.
package disktest

import (
	"encoding/json"
	"os"
	"testing"

	"hb/stream/disk"
)

// Memory returns a new directory, in memory where this machine has such a file
// system: for tests that sync much, and would wait for the disk.
func Memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "hb-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ReadJSON reads a file that holds one value as JSON.
func ReadJSON[T any](t testing.TB, path string) (value T) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatalf("%s: %v: %s", path, err, text)
	}
	return value
}

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
