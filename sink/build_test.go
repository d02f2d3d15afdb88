package sink

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"hb/xbstream/xbtest"
)

// newArchive begins an archive of hb's with its header.
func newArchive() *xbtest.Archiver { return xbtest.NewArchiver(16<<10, 100, 200) }

// ended is an archive that its maker's Finish or Close returns.
func ended(t testing.TB, end func() ([]byte, error)) []byte {
	t.Helper()
	archive, err := end()
	if err != nil {
		t.Fatal(err)
	}
	return archive
}

// tree reads a directory.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[rel] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// hasType reports whether err is, or wraps, an error of type T.
func hasType[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
