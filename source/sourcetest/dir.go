// Package sourcetest makes data directories for tests of source and its packages.
package sourcetest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"hb/source/datadir"
	"hb/stream/disk"
)

// Dir is a data directory made for a test.
type Dir struct {
	T      *testing.T
	Layout datadir.Layout
}

// NewDir returns an empty one.
func NewDir(t *testing.T) *Dir {
	dir := t.TempDir()
	return &Dir{t, datadir.Layout{Disk: disk.OS, Datadir: dir, UndoDir: dir, AriaLogDir: dir, RedoDir: dir}}
}

// Path is where a file of the directory is.
func (d *Dir) Path(name string) string { return filepath.Join(d.Layout.Datadir, name) }

// Write writes a file, and makes its directory.
func (d *Dir) Write(name string, content []byte) {
	d.T.Helper()
	if err := os.MkdirAll(filepath.Dir(d.Path(name)), 0o755); err != nil {
		d.T.Fatal(err)
	}
	if err := os.WriteFile(d.Path(name), content, 0o644); err != nil {
		d.T.Fatal(err)
	}
}

// Tick waits until the clock of file times has moved on.
func (d *Dir) Tick() {
	d.T.Helper()
	changed := func() time.Time {
		d.Write("../tick", nil)
		st, err := os.Stat(d.Path("../tick"))
		if err != nil {
			d.T.Fatal(err)
		}
		return st.ModTime()
	}
	for before := changed(); changed().Equal(before); {
		time.Sleep(time.Millisecond)
	}
}

// Remove removes a file.
func (d *Dir) Remove(name string) {
	d.T.Helper()
	if err := os.Remove(d.Path(name)); err != nil {
		d.T.Fatal(err)
	}
}

// Rename renames a file.
func (d *Dir) Rename(from, to string) {
	d.T.Helper()
	if err := os.Rename(d.Path(from), d.Path(to)); err != nil {
		d.T.Fatal(err)
	}
}

// List looks at the directory.
func (d *Dir) List() *datadir.Listing {
	d.T.Helper()
	l, err := d.Layout.List()
	if err != nil {
		d.T.Fatal(err)
	}
	return l
}
