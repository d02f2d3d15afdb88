package mysqldtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
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

// CopyFile copies a file, as long as it is now, to one that is not there yet, with its
// holes. The kernel copies: the race detector would look at every byte.
func CopyFile(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); ; {
		at, err = in.Seek(at, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO), err == nil && at >= info.Size(): // it may have grown
			return out.Truncate(info.Size())
		case err != nil:
			return err
		}
		end, err := in.Seek(at, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := out.Seek(at, io.SeekStart); err != nil {
			return err
		}
		for at < min(end, info.Size()) {
			n, err := unix.Sendfile(int(out.Fd()), int(in.Fd()), &at, int(min(end, info.Size())-at))
			if err != nil {
				return fmt.Errorf("copy %s: %w", src, err)
			}
			if n == 0 { // it has become shorter
				return out.Truncate(at)
			}
		}
	}
}
