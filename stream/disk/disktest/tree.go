package disktest

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// ReadTree reads the files below a directory, by their paths from there. A symbolic
// link is "-> " and where it leads.
func ReadTree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if d.Type() == fs.ModeSymlink {
			target, err := os.Readlink(filepath.Join(dir, name))
			files[name] = "-> " + target
			return err
		}
		content, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
