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
	head memory    // the first bytes, at most limit
	file disk.File // everything after head; nil until it is needed
	size int64
}

// memory holds bytes in blocks, so that what is there is not copied as more comes.
type memory struct {
	blocks [][]byte // of blockSize bytes each; those behind size are free
	size   int64
}

const blockSize = 128 << 10

// append stores p behind what is there.
func (m *memory) append(p []byte) {
	for len(p) > 0 {
		if m.size == int64(len(m.blocks))*blockSize {
			m.blocks = append(m.blocks, make([]byte, blockSize))
		}
		n := copy(m.blocks[m.size/blockSize][m.size%blockSize:], p)
		m.size, p = m.size+int64(n), p[n:]
	}
}

// copyTo fills p with what is there from an offset on, and returns how much it is.
func (m *memory) copyTo(p []byte, off int64) (n int) {
	for n < len(p) && off < m.size {
		part := m.blocks[off/blockSize][off%blockSize:]
		got := copy(p[n:], part[:min(int64(len(part)), m.size-off)])
		n, off = n+got, off+int64(got)
	}
	return n
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
		s.head.append(p)
		s.size += e.n
		return e, nil
	}
	if s.file == nil {
		if err := s.openFile(); err != nil {
			return Extent{}, err
		}
	}
	if _, err := s.file.WriteAt(p, e.off-s.head.size); err != nil {
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
	at := e.off + off
	n := s.head.copyTo(p, at)
	if n < len(p) {
		if s.file == nil {
			return n, errors.New("spool: internal error: extent beyond the end")
		}
		m, err := s.file.ReadAt(p[n:], at+int64(n)-s.head.size)
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
	s.head.size, s.size = 0, 0
	return s.closeFile()
}

// Close releases memory and file.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.head, s.size = memory{}, 0
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
