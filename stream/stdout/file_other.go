//go:build !linux

package stdout

import (
	"fmt"
	"os"
	"sync/atomic"
)

// File writes to a file. It belongs to one goroutine at a time, except for
// Interrupt. Nothing is backed up elsewhere than on Linux, where it does more.
type File struct {
	f           *os.File
	interrupted atomic.Bool
}

// New returns a File on f.
func New(f *os.File) (*File, error) { return &File{f: f}, nil }

// Interrupt makes all Writes that come later fail.
func (s *File) Interrupt() { s.interrupted.Store(true) }

// Write writes all of p.
func (s *File) Write(p []byte) (int, error) {
	if s.interrupted.Load() {
		return 0, errGivenUp
	}
	n, err := s.f.Write(p)
	if err != nil {
		err = &OutputError{err}
	}
	return n, err
}

// WriteVec writes all slices.
func (s *File) WriteVec(bufs ...[]byte) (total int, err error) {
	for _, b := range bufs {
		n, err := s.Write(b)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Close makes a regular file durable. It does not close the file.
func (s *File) Close() error {
	info, err := s.f.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = s.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("syncing %s: %w", s.f.Name(), err)
	}
	return nil
}
