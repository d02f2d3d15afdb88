package disk_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"hb/stream/disk"
)

// TestOpenRegular: a pipe is not waited for, and a link is followed only where asked.
func TestOpenRegular(t *testing.T) {
	dir := t.TempDir()
	pipe, link, file := filepath.Join(dir, "pipe"), filepath.Join(dir, "link"), filepath.Join(dir, "file")
	if err := errors.Join(unix.Mkfifo(pipe, 0o600), os.WriteFile(file, nil, 0o600), os.Symlink(file, link)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path  string
		links bool
		want  error
	}{{pipe, false, disk.ErrNotRegular}, {dir, true, disk.ErrNotRegular}, {link, false, unix.ELOOP}, {link, true, nil}, {file, false, nil}} {
		f, err := disk.OS.OpenRegular(test.path, test.links)
		if !errors.Is(err, test.want) {
			t.Errorf("%s, links %v: %v, want %v", test.path, test.links, err, test.want)
		}
		if f != nil {
			f.Close()
		}
	}
}
