// Package spool keeps bytes that a backup has read and cannot send yet: first
// in memory, and past a limit in one temporary file that has no name and so
// cannot be left behind.
//
// Two things wait in a spool. The redo follower reads the log at the server's
// pace and the archive takes it at the network's; files that may still change
// are copied before the final lock and sent after it.
package spool

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"hb/stream/disk"
)

// Extent is a run of bytes that was appended to a Spool.
type Extent struct {
	off int64
	n   int64
}

// Len returns the extent's length in bytes.
func (e Extent) Len() int64 { return e.n }

// First returns the extent's first n bytes.
func (e Extent) First(n int64) Extent { return Extent{e.off, min(n, e.n)} }

// Spool is an append-only store whose contents can be read at any extent. Its
// methods may be called from several goroutines at once.
type Spool struct {
	disk  disk.System
	dir   string
	limit int64 // bytes kept in memory

	mu   sync.RWMutex
	head []byte    // the first bytes, at most limit
	file disk.File // everything after head; nil until it is needed
	size int64
}

// New returns an empty spool that keeps up to limit bytes in memory and the
// rest in an unnamed file in dir.
func New(system disk.System, dir string, limit int64) *Spool {
	return &Spool{disk: system, dir: dir, limit: limit}
}

// Append stores p behind everything that is there. It fails where the
// temporary file cannot be created or written; nothing of p counts then.
func (s *Spool) Append(p []byte) (Extent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := Extent{off: s.size, n: int64(len(p))}
	if s.file == nil && s.size+e.n <= s.limit {
		s.head = append(s.head, p...)
		s.size += e.n
		return e, nil
	}
	if s.file == nil {
		if err := s.openFile(); err != nil {
			return Extent{}, err
		}
	}
	if _, err := s.file.WriteAt(p, e.off-int64(len(s.head))); err != nil {
		return Extent{}, fmt.Errorf("spooling to %s: %w (give another place with --tmpdir)", s.dir, err)
	}
	s.size += e.n
	return e, nil
}

func (s *Spool) openFile() (err error) {
	if s.file, err = s.disk.Temp(s.dir); err != nil {
		return fmt.Errorf("spool file in %s: %w (give another place with --tmpdir)", s.dir, err)
	}
	return nil
}

// ReadAt reads len(p) bytes of extent e from offset off on. It returns io.EOF
// where the extent ends before p is full.
func (s *Spool) ReadAt(e Extent, p []byte, off int64) (int, error) {
	short := error(nil)
	if left := e.n - off; int64(len(p)) > left {
		p, short = p[:max(left, 0)], io.EOF
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	at, n := e.off+off, 0
	if at < int64(len(s.head)) {
		n = copy(p, s.head[at:])
	}
	if n < len(p) {
		if s.file == nil {
			return n, errors.New("spool: internal error: extent beyond the end")
		}
		m, err := s.file.ReadAt(p[n:], at+int64(n)-int64(len(s.head)))
		if n += m; n < len(p) {
			return n, fmt.Errorf("reading back the spool in %s: %w", s.dir, err)
		}
	}
	return n, short
}

// Size returns how many bytes the spool holds.
func (s *Spool) Size() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.size
}

// Reset forgets everything that was appended and gives the disk space back.
// Extents of before are invalid afterwards.
func (s *Spool) Reset() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head, s.size = s.head[:0], 0
	return s.closeFile()
}

// Close releases memory and file.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head, s.size = nil, 0
	return s.closeFile()
}

func (s *Spool) closeFile() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}
