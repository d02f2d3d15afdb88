//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// tablespaces lists InnoDB's files in a data directory, except for the redo log.
func tablespaces(datadir string) (files []string, err error) {
	err = filepath.WalkDir(datadir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.Type().IsRegular() && (strings.HasSuffix(name, ".ibd") || strings.HasPrefix(name, "ibdata") || strings.HasPrefix(name, "undo")) {
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

// readAll brings files into the page cache.
func readAll(files []string) error {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		_, err = io.Copy(struct{ io.Writer }{io.Discard}, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// dropCached throws files out of the page cache. They are on disk: the kernel keeps
// what is not.
func dropCached(files []string) error {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("throwing %s out of the page cache: %w", name, err)
		}
	}
	return nil
}

// emptyDir makes dir an empty directory, and has the disk finish the work for its
// former content now.
func emptyDir(dir string) error {
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o750)); err != nil {
		return err
	}
	return syncDir(dir)
}

// copyDir makes to a copy of from that is in the cache and on disk.
func copyDir(ctx context.Context, from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if _, err := run(ctx, "cp", "-a", from, to); err != nil {
		return err
	}
	return syncDir(to)
}

// syncDir brings the file system that dir is on to disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// removeAll removes files that nobody needs any more, to make room for others;
// what cannot be removed now goes with the directory of all files.
func removeAll(names ...string) {
	for _, name := range names {
		_ = os.RemoveAll(name)
	}
}
