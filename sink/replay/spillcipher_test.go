package replay

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"hb/stream/disk"
)

// TestSpillSealed: nothing of what is put aside is in the file as it was, from anywhere it
// is read as it was written, and another file has other bytes.
func TestSpillSealed(t *testing.T) {
	content := bytes.Repeat([]byte("a row that is encrypted in its table. "), 5000)
	var files [2][]byte
	for i := range files {
		name := filepath.Join(t.TempDir(), "spill")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		plain, err := disk.OS.OpenRegular(name, false)
		if err != nil {
			t.Fatal(err)
		}
		defer plain.Close()
		s, err := newSealedFile(writable{plain, f})
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < len(content); {
			n := min(1+rand.IntN(30000), len(content)-at)
			if _, err := s.WriteAt(content[at:at+n], int64(at)); err != nil {
				t.Fatal(err)
			}
			at += n
		}
		for range 100 {
			at := rand.IntN(len(content))
			b := make([]byte, rand.IntN(len(content)-at))
			if _, err := s.ReadAt(b, int64(at)); err != nil || !bytes.Equal(b, content[at:at+len(b)]) {
				t.Fatalf("%d bytes at %d are others (%v)", len(b), at, err)
			}
		}
		if files[i], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
		if len(files[i]) != len(content) || bytes.Contains(files[i], []byte("encrypted")) {
			t.Error("the file has the bytes in clear, or not all of them")
		}
	}
	if bytes.Equal(files[0][:64], files[1][:64]) {
		t.Error("two files have one key")
	}
}

// writable is a disk.File that writes to another one of the same file.
type writable struct {
	disk.File
	w *os.File
}

func (w writable) WriteAt(p []byte, off int64) (int, error) { return w.w.WriteAt(p, off) }
