// Package stage holds files back until the lock is released, so that a copy under the
// lock does not wait for the archive.
//
// In come files of other engines and tablespaces that are copied under the lock; out
// they go, when all locks are released, to files that the caller creates. A spool
// (package spool) holds them.
package stage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hb/source/datadir"
	"hb/source/spool"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/keyring"
)

// Memory is how many bytes of staged files a backup keeps in memory; the others are on
// disk.
const Memory = 16 << 20

// Stage holds copies of files that go into the archive after the final lock:
// tablespaces that were copied under it, and all files that are not InnoDB's. These
// are copied once before the final lock, at leisure, and under it those again that
// were written since; they go into the archive after it, however slow that is. So
// the lock is held only while the changed files are read from the page cache.
type Stage struct {
	disk  disk.System
	spool *spool.Spool
	mu    sync.Mutex // guards files while tablespaces are staged
	files map[string]*staged
	// Mapped says that the server may write files through memory maps, which
	// leaves no trace in their times: such files always count as changed.
	Mapped bool
	// Keys are those of encrypted Aria tables; nil: there are none.
	Keys  *keyring.Keys
	aria  atomic.Bool // some Aria table is encrypted
	buf   []byte
	Phase *progress.Phase // counts bytes staged ahead, and then bytes sent
	// Kept is asked before a file is sent: a file of which an earlier backup has the same
	// content is not. size is in bytes; sum returns the content's CRC-32 (IEEE). nil: all
	// files are sent.
	Kept func(name string, size int64, sum func() (uint32, error)) (bool, error)
}

// staged is the copy of one file.
type staged struct {
	info    datadir.File // as it was before copying began
	extents []spool.Extent
	size    int64
	lines   uint64 // of a log table in CSV format
	// unsure says that the file may have changed unnoticed: it was written so
	// short before or while it was copied that its times need not show it.
	unsure bool
	// settled says that every change of the file or its name since shows in info.
	settled bool
}

// stagedOutput is a tablespace being staged instead of sent.
type stagedOutput struct {
	s *Stage
	c staged
}

// Output begins a tablespace that is copied under the lock: it goes into the
// archive later, because the archive may be slow to take it.
func (s *Stage) Output(name string) (io.WriteCloser, error) {
	return &stagedOutput{s, staged{info: datadir.File{Name: name}}}, nil
}

// Write appends to the tablespace's copy.
func (o *stagedOutput) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		e, err := o.s.spool.Append(p[:min(len(p), pieceSize)])
		if err != nil {
			return n, err
		}
		o.c.extents = append(o.c.extents, e)
		o.c.size += e.Len()
		n, p = n+int(e.Len()), p[e.Len():]
	}
	return n, nil
}

// Close ends it.
func (o *stagedOutput) Close() error {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.s.files[o.c.info.Name] = &o.c
	return nil
}

// Has reports whether a file is staged.
func (s *Stage) Has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[name] != nil
}

// Drop forgets a staged file, and reports whether there was one.
func (s *Stage) Drop(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.files[name]
	delete(s.files, name)
	return ok
}

// forget drops the staged files whose names match.
func (s *Stage) forget(match func(name string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.files, func(name string, _ *staged) bool { return match(name) })
}

// pieceSize is how many bytes of a file are read at a time.
const pieceSize = 1 << 20

// timeGrain is more than the resolution of time stamps of any file system that
// a server runs on; the kernel advances them once a tick (1 to 10 ms).
const timeGrain = 100 * time.Millisecond

// New returns an empty stage over sp, which is closed with it.
func New(system disk.System, sp *spool.Spool) *Stage {
	return &Stage{disk: system, spool: sp, files: make(map[string]*staged), buf: make([]byte, pieceSize)}
}

// CopyAhead copies all files before any lock. A file that cannot be read
// consistently now is left to Refresh.
func (s *Stage) CopyAhead(ctx context.Context, files []datadir.File) error {
	for _, info := range files {
		if err := s.copyOne(ctx, info, ahead); err != nil {
			return err
		}
		s.Phase.Add(info.Size)
	}
	return nil
}

// Refresh brings the stage up to date, while the files' writers are locked out: it
// copies files that are new or changed and forgets those that are gone.
// Only files that match belongs are looked at.
func (s *Stage) Refresh(ctx context.Context, files []datadir.File, belongs func(name string) bool) error {
	there := make(map[string]bool)
	for _, info := range files {
		if !belongs(info.Name) {
			continue
		}
		there[info.Name] = true
		if old := s.files[info.Name]; old != nil && !old.unsure && info.SameContent(old.info) && !s.Mapped {
			continue
		}
		if err := s.copyOne(ctx, info, locked); err != nil {
			return err
		}
	}
	s.forget(func(name string) bool { return belongs(name) && !there[name] })
	return nil
}

// when is the protection under which a file is copied.
type when bool

const (
	ahead  when = false // anything may happen to it, and it will be looked at again
	locked when = true  // it must be right
)

// copyOne copies one file into the spool. A file that grows only at its end is
// continued where the earlier copy is known to be final.
func (s *Stage) copyOne(ctx context.Context, info datadir.File, w when) (err error) {
	f, err := s.disk.OpenRegular(info.Path, info.Linked)
	if err != nil {
		return datadir.IgnoreGone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	now, err := datadir.StatOpen(f, info)
	if err != nil {
		return err
	}
	verify, err := s.verifierFor(f, info.Path)
	if err != nil && (w == locked || datadir.SystemFailed(err)) {
		return fmt.Errorf("%s: %w", info.Path, err)
	}
	sure := time.Now().Add(-timeGrain).UnixNano()
	c := &staged{info: now, unsure: err != nil || now.Modified > sure, settled: now.Changed <= sure && now.Modified <= sure}
	if err := s.keep(c, s.files[info.Name], f); err != nil {
		return fmt.Errorf("copying %s: %w", info.Path, err)
	}
	if err := s.read(ctx, f, c, verify, w); err != nil {
		return fmt.Errorf("copying %s: %w", info.Path, err)
	}
	s.files[info.Name] = c
	return nil
}

// keep takes over what an earlier copy of f, a file that is only appended to, has
// for certain.
func (s *Stage) keep(c, old *staged, f disk.File) error {
	final := appendOnly(c.info.Name)
	if old == nil || final == nil || old.info.FileID != c.info.FileID || c.info.Size < old.size {
		return nil
	}
	if same, err := s.sameEnd(f, old); !same || err != nil {
		return err
	}
	c.lines = old.lines
	left := final(old.size)
	for _, e := range old.extents {
		if e.Len() > left {
			break
		}
		c.extents = append(c.extents, e)
		c.size += e.Len()
		left -= e.Len()
	}
	return nil
}

// endCompared is how many bytes at the end of a copy are compared, which hold
// times, or LSNs.
const endCompared = 64 << 10

// sameEnd reports whether the end of an earlier copy of a log is still at its
// place: a log table that was truncated, which leaves its file the same, and has
// grown beyond the copy since, has later rows there.
func (s *Stage) sameEnd(f disk.File, old *staged) (bool, error) {
	if len(old.extents) == 0 || datadir.IsAriaLog(old.info.Name) {
		return true, nil
	}
	last := old.extents[len(old.extents)-1]
	n := min(endCompared, last.Len())
	had, has := make([]byte, n), make([]byte, n)
	if _, err := s.spool.ReadAt(last, had, last.Len()-n); err != nil {
		return false, err
	}
	got, err := f.ReadAt(has, old.size-n)
	if err == io.EOF {
		err = nil // it was truncated just now
	}
	return int64(got) == n && bytes.Equal(had, has), err
}

// ariaLogPage is the size of a page of the Aria log (TRANSLOG_PAGE_SIZE).
const ariaLogPage = 8 << 10

// appendOnly returns, for a file that the server only ever appends to, how many of
// its first bytes cannot change any more: all bytes of a log table in CSV format, and
// all but the last page of an Aria log, which is written again as it fills. It is nil
// for all other files.
func appendOnly(name string) func(size int64) int64 {
	switch {
	case name == "mysql/general_log.CSV" || name == "mysql/slow_log.CSV":
		return func(size int64) int64 { return size }
	case datadir.IsAriaLog(name):
		return func(size int64) int64 { return max(0, (size-1)/ariaLogPage*ariaLogPage) }
	}
	return nil
}

// read appends the rest of f to the copy, up to the size that it had at first,
// checking blocks where the format has checksums.
func (s *Stage) read(ctx context.Context, f disk.File, c *staged, verify verifier, w when) error {
	log := datadir.IsLogData(c.info.Name)
	for c.size < c.info.Size {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		chunk := s.buf[:min(int64(len(s.buf)), c.info.Size-c.size)]
		n, err := f.ReadAtOnce(chunk, c.size)
		if err == io.EOF && w == ahead {
			c.unsure = true // it shrank: it is being written
			return nil
		}
		if err != nil {
			return err
		}
		if err := verify.check(ctx, f, chunk[:n], c.size, w); err != nil {
			if w == locked || datadir.SystemFailed(err) || keyring.IsKeyError(err) {
				return err
			}
			c.unsure = true
		}
		e, err := s.spool.Append(chunk[:n])
		if err != nil {
			return err
		}
		if log {
			c.lines += uint64(bytes.Count(chunk[:n], []byte{'\n'}))
		}
		c.extents = append(c.extents, e)
		c.size += int64(n)
	}
	return nil
}

// Send writes all files into the archive, where create begins them, and forgets
// them.
func (s *Stage) Send(ctx context.Context, create func(name string) (io.WriteCloser, error)) error {
	for _, c := range slices.SortedFunc(maps.Values(s.files), func(a, b *staged) int {
		return cmp.Compare(a.info.Name, b.info.Name)
	}) {
		if err := s.sendOne(ctx, create, c); err != nil {
			return fmt.Errorf("sending %s: %w", c.info.Name, err)
		}
	}
	s.files = nil
	return s.spool.Reset()
}

func (s *Stage) sendOne(ctx context.Context, create func(name string) (io.WriteCloser, error), c *staged) error {
	if s.Kept != nil {
		kept, err := s.Kept(c.info.Name, c.size, func() (uint32, error) { return s.sum(ctx, c) })
		if err != nil || kept {
			return errors.Join(err, s.release(c))
		}
	}
	f, err := create(c.info.Name)
	if err != nil {
		return err
	}
	err = s.each(ctx, c, func(e spool.Extent, b []byte) error {
		if err := s.spool.Release(e); err != nil {
			return err
		}
		_, err := f.Write(b)
		s.Phase.Add(e.Len())
		return err
	})
	if err != nil {
		return err
	}
	return f.Close()
}

// each reads a copy back.
func (s *Stage) each(ctx context.Context, c *staged, f func(e spool.Extent, b []byte) error) error {
	for _, e := range c.extents {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		b := s.buf[:e.Len()]
		if _, err := s.spool.ReadAt(e, b, 0); err != nil {
			return err
		}
		if err := f(e, b); err != nil {
			return err
		}
	}
	return nil
}

// sum is the CRC-32 of a copy.
func (s *Stage) sum(ctx context.Context, c *staged) (crc uint32, err error) {
	err = s.each(ctx, c, func(_ spool.Extent, b []byte) error {
		crc = crc32.Update(crc, crc32.IEEETable, b)
		return nil
	})
	return crc, err
}

// release forgets a copy that nobody needs.
func (s *Stage) release(c *staged) error {
	for _, e := range c.extents {
		if err := s.spool.Release(e); err != nil {
			return err
		}
		s.Phase.Add(e.Len())
	}
	return nil
}

// Names are those of the staged files.
func (s *Stage) Names() iter.Seq[string] { return maps.Keys(s.files) }

// Each passes on each staged file of the server as it was when it was copied. settled:
// every change of the file or its name since then shows in its description.
func (s *Stage) Each(f func(info datadir.File, settled bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.files {
		f(c.info, c.settled)
	}
}

// Sizes are the staged files' names and sizes in bytes.
func (s *Stage) Sizes() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for name, c := range s.files {
			if !yield(name, c.size) {
				return
			}
		}
	}
}

// Close frees the stage's memory and files.
func (s *Stage) Close() error { return s.spool.Close() }

// Spooled is how many bytes of memory and disk the stage takes.
func (s *Stage) Spooled() int64 { return s.spool.Size() }

// Size returns how many bytes are staged.
func (s *Stage) Size() (n int64) {
	for _, c := range s.files {
		n += c.size
	}
	return n
}

// prefixWait bounds the wait for a file to reach the length that the server reports.
const prefixWait = 10 * time.Second

// CopyPrefix stages the first n bytes of f, which grows, under a name.
func (s *Stage) CopyPrefix(ctx context.Context, f io.ReaderAt, name string, n int64) error {
	c := &staged{info: datadir.File{Name: name}}
	for end := time.Now().Add(prefixWait); c.size < n; {
		chunk := s.buf[:min(int64(len(s.buf)), n-c.size)]
		got, err := f.ReadAt(chunk, c.size)
		if err != nil && err != io.EOF {
			return err
		}
		if got == 0 {
			if time.Now().After(end) {
				return fmt.Errorf("it has %d bytes, but the server reports position %d", c.size, n)
			}
			if err := datadir.Pause(ctx, prefixPoll); err != nil {
				return err
			}
			continue
		}
		e, err := s.spool.Append(chunk[:got])
		if err != nil {
			return err
		}
		c.extents = append(c.extents, e)
		c.size += e.Len()
	}
	s.files[name] = c
	return nil
}

// prefixPoll is the time between two looks at a file that is too short.
const prefixPoll = 10 * time.Millisecond

// Put stages a small file that is made here.
func (s *Stage) Put(name string, content []byte) error {
	e, err := s.spool.Append(content)
	if err != nil {
		return err
	}
	s.files[name] = &staged{info: datadir.File{Name: name}, extents: []spool.Extent{e}, size: e.Len()}
	return nil
}
