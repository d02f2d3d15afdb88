package mysqldtest

import (
	"io/fs"
	"os"
	"path/filepath"
)

// CopyTree copies the directories and regular files below src to dst, with their
// holes.
func CopyTree(dst, src string) error {
	return filepath.WalkDir(src, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dst, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		case d.Type().IsRegular():
			return CopyFile(to, path)
		}
		return nil // sockets and the like
	})
}
