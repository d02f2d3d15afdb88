// Package spool keeps bytes that a backup has read and cannot send yet: first
// in memory, and past a limit in temporary files that have no names and so
// cannot be left behind.
//
// Two things wait in a spool. The redo follower reads the log at the server's
// pace and the archive takes it at the network's; files that may still change
// are copied before the final lock and sent after it.
//
// Bytes that were sent are released. They lie in segments, each of which is memory
// or a file of its own: when all of a segment is released, the space is free. That
// holds on every file system; holes in one file would need one that can.
package spool

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"hb/stream/disk"
)

const (
	blockSize = 128 << 10 // bytes of memory are in blocks

	// A segment is full when it has so many bytes: in memory; in a file, which has
	// at least an eighth of what is on disk, so that there are not too many files.
	memorySegment = 1 << 20
	fileSegment   = 64 << 20
	fileShare     = 8
)

// Extent is a run of bytes that was appended to a Spool.
type Extent struct {
	in  *segment
	off int64
	n   int64
}

// Len returns the extent's length in bytes.
func (e Extent) Len() int64 { return e.n }

// First returns the extent's first n bytes.
func (e Extent) First(n int64) Extent { return Extent{e.in, e.off, min(n, e.n)} }

// After returns the extent without its first n bytes.
func (e Extent) After(n int64) Extent {
	n = min(n, e.n)
	return Extent{e.in, e.off + n, e.n - n}
}

// Spool is a store that is appended to, and whose contents can be read at any
// extent. Its methods may be called from several goroutines at once.
type Spool struct {
	disk  disk.System
	dir   string
	limit int64 // bytes kept in memory
	full  int64 // fileSegment, or less in tests

	mu       sync.RWMutex
	memory   *segment   // that is appended to in memory; nil: none
	onDisk   *segment   // likewise in a file
	files    []*segment // all that have one
	inMemory int64      // bytes of segments in memory, released or not
	inFiles  int64      // likewise in files
	held     int64      // bytes that were not released
	spare    [][]byte   // blocks to be used again
}

// segment is where extents lie: one after the other, each in one segment.
type segment struct {
	file   disk.File // nil: in memory
	blocks [][]byte  // of blockSize bytes each
	size   int64
	live   int64 // bytes of it that were not released
	full   int64 // nothing is appended at this size
}

// New returns an empty spool that keeps up to limit bytes in memory and the
// rest in unnamed files in dir.
func New(system disk.System, dir string, limit int64) *Spool {
	return &Spool{disk: system, dir: dir, limit: limit, full: fileSegment}
}

// Append stores p. It fails where a temporary file cannot be created or written;
// nothing of p counts then.
func (s *Spool) Append(p []byte) (Extent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(len(p))
	seg, err := s.place(n)
	if err != nil {
		return Extent{}, err
	}
	e := Extent{in: seg, off: seg.size, n: n}
	if seg.file == nil {
		s.keep(seg, p)
		s.inMemory += n
	} else {
		if _, err := seg.file.WriteAt(p, e.off); err != nil {
			return Extent{}, fmt.Errorf("spooling to %s: %w (give another place with --tmpdir)", s.dir, err)
		}
		s.inFiles += n
	}
	seg.size += n
	seg.live += n
	s.held += n
	return e, nil
}

// place returns the segment for another n bytes.
func (s *Spool) place(n int64) (*segment, error) {
	current, full := &s.memory, int64(memorySegment)
	inFile := s.inMemory+n > s.limit
	if inFile {
		current, full = &s.onDisk, max(s.full, s.inFiles/fileShare)
	}
	if c := *current; c != nil && c.size < c.full {
		return c, nil
	}
	seg := &segment{full: full}
	if inFile {
		file, err := s.disk.Temp(s.dir)
		if err != nil {
			return nil, fmt.Errorf("spool file in %s: %w (give another place with --tmpdir)", s.dir, err)
		}
		seg.file = file
		s.files = append(s.files, seg)
	}
	*current = seg
	return seg, nil
}

// keep stores p in memory, at the end of the segment.
func (s *Spool) keep(seg *segment, p []byte) {
	for at := seg.size; len(p) > 0; {
		if at == int64(len(seg.blocks))*blockSize {
			seg.blocks = append(seg.blocks, s.block())
		}
		n := copy(seg.blocks[at/blockSize][at%blockSize:], p)
		at, p = at+int64(n), p[n:]
	}
}

func (s *Spool) block() []byte {
	if n := len(s.spare); n > 0 {
		b := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return b
	}
	return make([]byte, blockSize)
}

// ReadAt reads len(p) bytes of extent e, which was not released, from offset off
// on. It returns io.EOF where the extent ends before p is full.
func (s *Spool) ReadAt(e Extent, p []byte, off int64) (int, error) {
	short := error(nil)
	if left := e.n - off; int64(len(p)) > left {
		p, short = p[:max(left, 0)], io.EOF
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(p) == 0 {
		return 0, short
	}
	if e.in.live == 0 {
		return 0, errors.New("spool: internal error: the extent was released")
	}
	n, err := e.in.readAt(p, e.off+off)
	if n < len(p) {
		return n, fmt.Errorf("reading back the spool in %s: %w", s.dir, err)
	}
	return n, short
}

// readAt fills p, or returns an error.
func (seg *segment) readAt(p []byte, at int64) (n int, err error) {
	if seg.file != nil {
		return seg.file.ReadAt(p, at)
	}
	for n < len(p) && at < seg.size {
		part := seg.blocks[at/blockSize][at%blockSize:]
		got := copy(p[n:], part[:min(int64(len(part)), seg.size-at)])
		n, at = n+got, at+int64(got)
	}
	if n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Size returns how many bytes the spool holds: those that were not released.
func (s *Spool) Size() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.held
}

// Space returns how many bytes of disk the spool takes.
func (s *Spool) Space() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.inFiles
}

// Release says that an extent, or a part of one, is not needed any more: it must
// not be read again, nor be released. An error is that of closing a file.
func (s *Spool) Release(e Extent) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.n == 0 {
		return nil
	}
	e.in.live -= e.n
	s.held -= e.n
	if e.in.live > 0 {
		return nil
	}
	return s.drop(e.in)
}

// drop gives a segment's space back.
func (s *Spool) drop(seg *segment) error {
	if seg.file == nil {
		if s.memory == seg {
			s.memory = nil
		}
		s.inMemory -= seg.size
		s.spare = append(s.spare, seg.blocks...)
		seg.blocks = nil
		return nil
	}
	if s.onDisk == seg {
		s.onDisk = nil
	}
	s.inFiles -= seg.size
	s.files = slices.DeleteFunc(s.files, func(other *segment) bool { return other == seg })
	return seg.file.Close()
}

// Reset releases everything that was appended.
func (s *Spool) Reset() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, seg := range s.files {
		seg.live = 0
		errs = append(errs, seg.file.Close())
	}
	s.memory, s.onDisk, s.files, s.spare = nil, nil, nil, nil
	s.inMemory, s.inFiles, s.held = 0, 0, 0
	return errors.Join(errs...)
}

// Close releases memory and files.
func (s *Spool) Close() error { return s.Reset() }
