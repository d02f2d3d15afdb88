package mysqldtest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestCopyFile copies a file with holes, and one that grows meanwhile: the copy is
// what it was at the beginning.
func TestCopyFile(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	f, err := os.Create(src)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := bytes.Repeat([]byte("x"), 64<<10)
	for _, at := range []int64{0, 1 << 20, 3 << 20} {
		if _, err := f.WriteAt(block, at); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(5 << 20); err != nil { // ends in a hole
		t.Fatal(err)
	}
	want, err := os.ReadFile(src)
	if err != nil {
		t.Fatal(err)
	}
	if err := CopyFile(filepath.Join(dir, "copy"), src); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "copy")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the copy has %d bytes, and other ones: %v", len(got), err)
	}

	grown := make(chan error)
	go func() {
		for at := int64(5 << 20); at < 64<<20; at += int64(len(block)) {
			if _, err := f.WriteAt(block, at); err != nil {
				grown <- err
				return
			}
		}
		grown <- nil
	}()
	if err := CopyFile(filepath.Join(dir, "grown"), src); err != nil {
		t.Error(err)
	}
	if err := <-grown; err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "grown")); err != nil || !bytes.HasPrefix(got, want) {
		t.Errorf("the copy of what grew has %d bytes, and other ones: %v", len(got), err)
	}
}
