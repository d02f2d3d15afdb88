//go:build !linux

package stream

import (
	"fmt"
	"os"
	"sync/atomic"
)

// Sink writes to a file. It belongs to one goroutine at a time, but for
// Interrupt. Nothing is backed up elsewhere than on Linux, where it does more.
type Sink struct {
	f           *os.File
	interrupted atomic.Bool
}

// NewSink returns a Sink on f.
func NewSink(f *os.File) (*Sink, error) { return &Sink{f: f}, nil }

// Interrupt makes all Writes that come later fail.
func (s *Sink) Interrupt() { s.interrupted.Store(true) }

// Write writes all of p.
func (s *Sink) Write(p []byte) (int, error) {
	if s.interrupted.Load() {
		return 0, errGivenUp
	}
	return s.f.Write(p)
}

// WriteVec writes all slices.
func (s *Sink) WriteVec(bufs ...[]byte) (total int, err error) {
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
func (s *Sink) Close() error {
	info, err := s.f.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = s.f.Sync()
	}
	if err != nil {
		return fmt.Errorf("syncing %s: %w", s.f.Name(), err)
	}
	return nil
}
