package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"hb/source/aria"
	"hb/source/spool"
	"hb/stream/disk"
	"hb/stream/progress"
)

// stage holds copies of files that go into the archive after the final lock:
// tablespaces that were copied under it, and all files that are not InnoDB's. These are copied once
// before the final lock, at leisure, and under it those again that were
// written since; they go into the archive after it, however slow that is. So
// the lock lasts as long as what changed takes to be read from the page cache.
type stage struct {
	disk  disk.System
	spool *spool.Spool
	mu    sync.Mutex // guards files while tablespaces are staged
	files map[string]*staged
	// mapped says that the server may write files through memory maps, which
	// leaves no trace in their times: such files always count as changed.
	mapped bool
	buf    []byte
	phase  *progress.Phase // counts bytes staged ahead, and then bytes sent
}

// staged is the copy of one file.
type staged struct {
	info    fileInfo // as it was before copying began
	extents []spool.Extent
	size    int64
	// unsure says that the file may have changed unnoticed: it was written so
	// short before or while it was copied that its times need not show it.
	unsure bool
}

// stagedOutput is a tablespace being staged instead of sent.
type stagedOutput struct {
	s *stage
	c staged
}

// output begins a tablespace that is copied under the lock: it goes into the
// archive later, because the archive may be slow to take it.
func (s *stage) output(name string) (output, error) {
	return &stagedOutput{s, staged{info: fileInfo{name: name}}}, nil
}

// Write appends to the tablespace's copy.
func (o *stagedOutput) Write(p []byte) (int, error) {
	e, err := o.s.spool.Append(p)
	if err != nil {
		return 0, err
	}
	o.c.extents = append(o.c.extents, e)
	o.c.size += e.Len()
	return len(p), nil
}

// Close ends it.
func (o *stagedOutput) Close() error {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.s.files[o.c.info.name] = &o.c
	return nil
}

// has reports whether a file is staged.
func (s *stage) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[name] != nil
}

// drop forgets a staged file, and reports whether there was one.
func (s *stage) drop(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.files[name]
	delete(s.files, name)
	return ok
}

// timeGrain is more than the resolution of time stamps of any file system that
// a server runs on; the kernel advances them once a tick (1 to 10 ms).
const timeGrain = 100 * time.Millisecond

func newStage(system disk.System, sp *spool.Spool) *stage {
	return &stage{disk: system, spool: sp, files: make(map[string]*staged), buf: make([]byte, segmentSize)}
}

// stageAhead stages lists of files, in a phase of their own.
func (b *backup) stageAhead(ctx context.Context, lists ...[]fileInfo) error {
	var total int64
	for _, files := range lists {
		for _, info := range files {
			total += info.size
		}
	}
	b.stage.phase = b.opt.Progress.Begin("copying other files", total)
	for _, files := range lists {
		if err := b.stage.copyAhead(ctx, files); err != nil {
			return err
		}
	}
	return nil
}

// copyAhead copies all files before any lock. A file that cannot be read
// consistently now is left to refresh.
func (s *stage) copyAhead(ctx context.Context, files []fileInfo) error {
	for _, info := range files {
		if err := s.copyOne(ctx, info, ahead); err != nil {
			return err
		}
		s.phase.Add(info.size)
	}
	return nil
}

// refresh brings the stage to what is on disk now, while the files' writers
// are locked out: it copies what is new or changed and forgets what is gone.
// Only files that match belongs are looked at.
func (s *stage) refresh(ctx context.Context, files []fileInfo, belongs func(name string) bool) error {
	there := make(map[string]bool)
	for _, info := range files {
		if !belongs(info.name) {
			continue
		}
		there[info.name] = true
		if old := s.files[info.name]; old != nil && !old.unsure && info.sameContent(old.info) && !s.mapped {
			continue
		}
		if err := s.copyOne(ctx, info, locked); err != nil {
			return err
		}
	}
	maps.DeleteFunc(s.files, func(name string, _ *staged) bool { return belongs(name) && !there[name] })
	return nil
}

// when says under which protection a file is copied.
type when bool

const (
	ahead  when = false // anything may happen to it, and it will be looked at again
	locked when = true  // it must be right
)

// copyOne copies one file into the spool. A file that grows only at its end is
// continued where the earlier copy is known to be final.
func (s *stage) copyOne(ctx context.Context, info fileInfo, w when) (err error) {
	f, err := s.disk.Open(info.path)
	if err != nil {
		return ignoreGone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	now, err := statOpen(f, info.path, info.name)
	if err != nil {
		return err
	}
	verify, err := verifierFor(s.disk, f, info.path)
	if err != nil && (w == locked || systemFailed(err)) {
		return fmt.Errorf("%s: %w", info.path, err)
	}
	c := &staged{info: now, unsure: err != nil || now.modified > time.Now().Add(-timeGrain).UnixNano()}
	s.keep(c, s.files[info.name])
	if err := s.read(ctx, f, c, verify, w); err != nil {
		return fmt.Errorf("copying %s: %w", info.path, err)
	}
	s.files[info.name] = c
	return nil
}

// keep takes over what an earlier copy of an append-only file has for certain.
func (s *stage) keep(c, old *staged) {
	final := appendOnly(c.info.name)
	if old == nil || final == nil || old.info.fileID != c.info.fileID || c.info.size < old.size {
		return
	}
	left := final(old.size)
	for _, e := range old.extents {
		if e.Len() > left {
			break
		}
		c.extents = append(c.extents, e)
		c.size += e.Len()
		left -= e.Len()
	}
}

// ariaLogPage is the size of a page of the Aria log (TRANSLOG_PAGE_SIZE).
const ariaLogPage = 8 << 10

// appendOnly tells of a file that its server only ever appends to, and how many
// of its first bytes cannot change any more: the log tables in CSV format all
// of them, an Aria log all but its last page, which is written again as it
// fills. It is nil for all other files.
func appendOnly(name string) func(size int64) int64 {
	switch {
	case name == "mysql/general_log.CSV" || name == "mysql/slow_log.CSV":
		return func(size int64) int64 { return size }
	case ariaLogName.MatchString(name):
		return func(size int64) int64 { return max(0, (size-1)/ariaLogPage*ariaLogPage) }
	}
	return nil
}

// read appends the rest of f to the copy, up to the size that it had at first,
// checking blocks where the format has checksums.
func (s *stage) read(ctx context.Context, f disk.File, c *staged, verify verifier, w when) error {
	for c.size < c.info.size {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		chunk := s.buf[:min(int64(len(s.buf)), c.info.size-c.size)]
		n, err := f.ReadAtOnce(chunk, c.size)
		if err == io.EOF && w == ahead {
			c.unsure = true // it shrank: it is being written
			return nil
		}
		if err != nil {
			return err
		}
		if err := verify.check(ctx, f, chunk[:n], c.size, w); err != nil {
			if w == locked || systemFailed(err) {
				return err
			}
			c.unsure = true
		}
		e, err := s.spool.Append(chunk[:n])
		if err != nil {
			return err
		}
		c.extents = append(c.extents, e)
		c.size += int64(n)
	}
	return nil
}

// send writes all files into the archive and forgets them.
func (s *stage) send(ctx context.Context, a *archive) error {
	for _, c := range slices.SortedFunc(maps.Values(s.files), func(a, b *staged) int {
		return cmp.Compare(a.info.name, b.info.name)
	}) {
		if err := s.sendOne(ctx, a, c); err != nil {
			return fmt.Errorf("sending %s: %w", c.info.name, err)
		}
	}
	s.files = nil
	return s.spool.Reset()
}

func (s *stage) sendOne(ctx context.Context, a *archive, c *staged) error {
	f, err := a.create(c.info.name)
	if err != nil {
		return err
	}
	for _, e := range c.extents {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		b := s.buf[:e.Len()]
		if _, err := s.spool.ReadAt(e, b, 0); err != nil {
			return err
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
		s.phase.Add(e.Len())
	}
	return f.Close()
}

// size returns how many bytes are staged.
func (s *stage) size() (n int64) {
	for _, c := range s.files {
		n += c.size
	}
	return n
}

// verifier checks the blocks of a crash-safe Aria table; the zero value checks
// nothing.
type verifier struct {
	block  int // bytes; 0: nothing to check
	check1 func(block []byte, no int64) error
}

// verifierFor returns what can be checked of the file at path.
func verifierFor(system disk.System, f disk.File, path string) (verifier, error) {
	base, isData := strings.CutSuffix(path, ".MAD")
	if !isData && !strings.HasSuffix(path, ".MAI") {
		return verifier{}, nil
	}
	mai := f
	if isData {
		var err error
		if mai, err = system.Open(base + ".MAI"); err != nil {
			return verifier{}, err
		}
		defer mai.Close()
	}
	t, err := aria.ReadTable(mai)
	if err != nil || !t.CrashSafe {
		return verifier{}, err
	}
	if isData {
		return verifier{t.BlockSize, t.VerifyData}, nil
	}
	return verifier{t.BlockSize, t.VerifyIndex}, nil
}

// check verifies the whole blocks of data, which was read at off. Under the
// lock a block that fails is read again: a crash-safe table may still be
// written, by statements that will not be in the backup.
func (v verifier) check(ctx context.Context, f disk.File, data []byte, off int64, w when) error {
	if v.block == 0 {
		return nil
	}
	for at := 0; at+v.block <= len(data); at += v.block {
		block, pos := data[at:at+v.block], off+int64(at)
		err := v.check1(block, pos/int64(v.block))
		if err != nil && w == locked {
			err = retryPage(ctx, func() error {
				if _, err := f.ReadAt(block, pos); err != nil {
					return err
				}
				return v.check1(block, pos/int64(v.block))
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
