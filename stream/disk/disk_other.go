//go:build !linux

package disk

import (
	"errors"
	"io/fs"
	"iter"
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

// Holes yields nothing: see the one for Linux.
func Holes(File) iter.Seq2[int64, int64] { return func(func(int64, int64) bool) {} }
