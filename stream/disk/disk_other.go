//go:build !linux

package disk

import (
	"errors"
	"io/fs"
	"os"
)

func (system) Statx(path string) (Facts, error) { return noFacts(path) }

func (system) Lstatx(path string) (Facts, error) { return noFacts(path) }

func openFlags(bool) int { return 0 }

func (f file) Statx() (Facts, error) { return noFacts(f.Name()) }

func noFacts(path string) (Facts, error) {
	return Facts{}, &fs.PathError{Op: "statx", Path: path, Err: errors.ErrUnsupported}
}

func unnamed(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func (f file) ReadAtOnce(p []byte, off int64) (int, error) { return f.ReadAt(p, off) }

func (f file) StartWriteback(off, n int64) {}
