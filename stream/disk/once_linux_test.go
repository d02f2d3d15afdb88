package disk

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReadAtOnce: both ways read the same, leave what was in the page cache, and
// nothing else.
func TestReadAtOnce(t *testing.T) {
	const size, piece = 8 << 20, 1 << 20
	content := make([]byte, size+100)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	file := file{f}
	for name, read := range map[string]func(p []byte, off int64) (int, error){
		"once": file.ReadAtOnce, "by looking": file.readAndDrop,
	} {
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		drops := !file.cached(0, size) // it is not, in memory file systems
		warm := make([]byte, piece)
		if _, err := f.ReadAt(warm, 3*piece); err != nil {
			t.Fatal(err)
		}
		warmed := [2]bool{file.cached(2*piece, piece), file.cached(4*piece, piece)} // by reading ahead
		buf := make([]byte, piece)
		var got []byte
		for off := int64(0); ; off += piece {
			n, err := read(buf, off)
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, or others", name, len(got))
		}
		if n, err := read(buf, size+200); n != 0 || err != io.EOF {
			t.Errorf("%s: behind the end: %d, %v", name, n, err)
		}
		if !file.cached(3*piece, piece) {
			t.Errorf("%s: it dropped what was in the page cache", name)
		}
		for _, at := range []int64{0, 1, 6, 7} {
			if drops && file.cached(at*piece, piece) {
				t.Errorf("%s: it left MiB %d in the page cache (read ahead before: %v)", name, at, warmed)
			}
		}
	}
}
