package disktest

import (
	"crypto/sha256"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// ReadTree returns the contents of the files below dir by their paths from there,
// and of a symbolic link "-> " and what it names.
//
// A content that was returned before is returned again without new memory: tests
// read most trees many times, and the race detector makes each new byte dear.
func ReadTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(path)
			files[name] = "-> " + target
			return err
		}
		files[name], err = known.read(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// maxKnown is how many bytes of contents are kept, before all are forgotten.
const maxKnown = 512 << 20

// contents are those of the files that were read, by their sums.
type contents struct {
	mu    sync.Mutex
	bySum map[[sha256.Size]byte]string
	size  int    // of all
	file  []byte // the one that is read
}

var known = contents{bySum: make(map[[sha256.Size]byte]string)}

func (c *contents) read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := int(info.Size()); n > len(c.file) {
		c.file = make([]byte, 2*n)
	}
	content := c.file[:info.Size()]
	if _, err := io.ReadFull(f, content); err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)
	s, ok := c.bySum[sum]
	if !ok {
		if c.size += len(content); c.size > maxKnown {
			clear(c.bySum)
			c.size = len(content)
		}
		s = string(content)
		c.bySum[sum] = s
	}
	return s, nil
}
