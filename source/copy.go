package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"hb/source/innodb"
	"hb/stream/disk"
	"hb/stream/progress"
)

const (
	// segmentSize is how much of a tablespace one worker reads, checks and
	// sends at a time: a multiple of every page size. Each worker has one such
	// buffer, so it bounds the copier's memory.
	segmentSize = 1 << 20

	// A page that fails its check may be in the middle of being written: it is
	// read again after pauses that double, about one second in all.
	pageRetries    = 10
	firstPageRetry = time.Millisecond
)

// copier sends tablespaces into the archive. Several workers read segments,
// in turns of as many files as there are workers, so that whoever unpacks the
// archive can write several files at a time, and at the end all of the last one.
// The segments of a file leave in order, each worker waiting for its turn.
type copier struct {
	disk     disk.System
	create   func(name string) (output, error) // begins a file of the archive
	registry *registry
	pageSize int // innodb_page_size, bytes
	parallel int
	wait     func(ctx context.Context, n int) error // paces reading; nil: full speed
	since    func() innodb.LSN                      // up to where the redo is in hand; nil: it does not matter
	// again: DDL may cut a file or write another tablespace into it while it is
	// copied (TRUNCATE TABLE of MySQL 5.7, IMPORT TABLESPACE); it will be
	// copied again.
	again bool
	phase *progress.Phase // counts bytes sent
}

// output is a file of the archive being written, at once or by way of the stage.
type output interface {
	io.Writer
	Close() error // ends the file
}

// tablespaceFile is one file being copied.
type tablespaceFile struct {
	fileInfo
	space     innodb.File
	mayShrink bool // undo tablespaces are truncated while they live

	f        disk.File
	since    innodb.LSN // see copier
	out      output
	segments int           // of the size when it was opened
	next     int           // first segment that no worker has
	turn     chan struct{} // closed when segment next may be sent; owned by the work list
	ended    atomic.Bool   // the file was dropped or cut while it was read: nothing more follows
}

// work is what the workers of one copy share.
type work struct {
	mu     sync.Mutex
	files  []*tablespaceFile // not opened yet
	active []*tablespaceFile // with segments that no worker has, in the order in which they are due
	width  int               // how many of them there may be, as long as there are others
	opened []disk.File       // all that were, to be closed after an error
}

// copyFiles copies the given files, and returns when all are in the archive.
// Files that have vanished, or are in the archive already by identity, are
// passed over: the final settling sees to them.
func (c *copier) copyFiles(ctx context.Context, files []*tablespaceFile) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &work{files: files, width: c.parallel}
	var wg sync.WaitGroup
	for range c.parallel {
		wg.Go(func() {
			if err := c.worker(ctx, w); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	err := context.Cause(ctx)
	if err != nil {
		for _, f := range w.opened {
			f.Close() // again, for those that were finished: an error that says nothing
		}
	}
	return err
}

func (c *copier) worker(ctx context.Context, w *work) error {
	buf := make([]byte, segmentSize)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		seg, t := w.take()
		if t == nil {
			return nil
		}
		if seg == nil {
			opened, err := c.open(ctx, t, buf)
			if err != nil {
				return err
			}
			if opened {
				w.add(t)
			}
			continue
		}
		if err := c.copySegment(ctx, seg, buf); err != nil {
			return fmt.Errorf("copying %s: %w", t.path, err)
		}
	}
}

// segment is a piece of one file, with its place in the order of that file.
type segment struct {
	t     *tablespaceFile
	index int
	turn  <-chan struct{} // closed when the segment before was sent
	done  chan struct{}   // to be closed when this one was
}

// take returns the next segment, or a file that wants opening, or neither.
func (w *work) take() (*segment, *tablespaceFile) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.files) > 0 && len(w.active) < w.width {
		t := w.files[0]
		w.files = w.files[1:]
		return nil, t
	}
	if len(w.active) == 0 {
		return nil, nil
	}
	t := w.active[0]
	w.active = w.active[1:]
	seg := &segment{t: t, index: t.next, turn: t.turn, done: make(chan struct{})}
	t.turn = seg.done
	if t.next++; t.next < t.segments {
		w.active = append(w.active, t)
	}
	return seg, t
}

// add puts an opened file up for copying.
func (w *work) add(t *tablespaceFile) {
	t.turn = make(chan struct{})
	close(t.turn)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active = append(w.active, t)
	w.opened = append(w.opened, t.f)
}

// open opens a file, learns from its first page what it is, and begins it in
// the archive. It reports false where there is nothing to copy now.
func (c *copier) open(ctx context.Context, t *tablespaceFile, buf []byte) (bool, error) {
	if c.since != nil {
		t.since = c.since()
	}
	expected := t.size
	f, err := c.disk.Open(t.path)
	if err != nil {
		c.phase.Expect(-expected)
		return false, ignoreGone(err)
	}
	ok, err := c.begin(ctx, t, f, buf)
	if err != nil || !ok {
		c.phase.Expect(-expected)
		return false, errors.Join(err, f.Close())
	}
	c.phase.Expect(t.size - expected)
	return true, nil
}

func (c *copier) begin(ctx context.Context, t *tablespaceFile, f disk.File, buf []byte) (bool, error) {
	info, err := statOpen(f, t.path, t.name)
	if err != nil {
		return false, err
	}
	t.fileInfo, t.f = info, f
	if t.space.First == 0 {
		t.space.Space, err = readSpace(ctx, f, buf[:c.pageSize])
		if errors.Is(err, innodb.ErrZeroHeader) {
			return false, nil // its identity is in the redo log: see settle
		}
		if err != nil {
			return false, fmt.Errorf("%s: %w", t.path, err)
		}
	}
	if err := refuseEncrypted(t); err != nil {
		return false, err
	}
	name, isNew := c.registry.add(t, t.since)
	if !isNew {
		return false, nil
	}
	t.segments = max(1, int((t.size+segmentSize-1)/segmentSize))
	t.out, err = c.create(name)
	return true, err
}

// readSpace reads and verifies page 0 of an open tablespace. buf is as long as
// innodb_page_size: what is behind page 0 may be written before page 0 is.
func readSpace(ctx context.Context, f disk.File, buf []byte) (innodb.Space, error) {
	var s innodb.Space
	err := retryPage(ctx, func() error {
		n, err := f.ReadAt(buf, 0)
		if err != nil && err != io.EOF {
			return err
		}
		if n < innodb.MinZipSize {
			return innodb.ErrZeroHeader // created, and not yet extended to its first size
		}
		if s, err = innodb.ParseSpace(buf[:n]); err != nil {
			return err
		}
		if n < s.Physical {
			return fmt.Errorf("the file ends within page 0, after %d bytes", n)
		}
		_, err = s.Verify(buf[:s.Physical], 0)
		return err
	})
	return s, err
}

// retryPage calls read until it succeeds, or says for certain that the page is
// not there, or fails for the last time. What the system reports is no torn page
// and not tried again.
func retryPage(ctx context.Context, read func() error) error {
	wait := firstPageRetry
	for try := 0; ; try++ {
		err := read()
		if err == nil || errors.Is(err, innodb.ErrZeroHeader) || systemFailed(err) || try == pageRetries {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait *= 2
	}
}

// systemFailed reports whether the system could not do what was asked of it:
// nothing that the server did meanwhile explains that.
func systemFailed(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok && !errors.Is(err, fs.ErrNotExist)
}

// pause waits, or returns why the context ended.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// EncryptedError refuses a tablespace that is encrypted at rest.
type EncryptedError struct{ Path string }

func (e *EncryptedError) Error() string {
	return fmt.Sprintf("%s is an encrypted tablespace: hb cannot verify and recover its pages without the server's keys; "+
		"decrypt it (ALTER TABLE … ENCRYPTED=NO on MariaDB, ENCRYPTION='N' on MySQL), or back this server up with its own tool", e.Path)
}

func refuseEncrypted(t *tablespaceFile) error {
	if t.space.Encrypted() {
		return &EncryptedError{t.path}
	}
	return nil
}

// copySegment reads, checks and sends one segment when its turn has come. The
// last one ends the file.
func (c *copier) copySegment(ctx context.Context, seg *segment, buf []byte) error {
	t := seg.t
	defer close(seg.done)
	data, cut, err := c.readSegment(ctx, seg, buf)
	if err != nil {
		return c.abandon(ctx, seg, err)
	}
	if err := await(ctx, seg.turn); err != nil {
		return err
	}
	if len(data) > 0 && !t.ended.Load() {
		if _, err := t.out.Write(data); err != nil {
			return err
		}
		c.phase.Add(int64(len(data)))
	}
	if cut {
		t.ended.Store(true)
	}
	return t.finish(seg)
}

// await waits for a segment's turn. After an error elsewhere the turn never
// comes, and the context ends the wait.
func await(ctx context.Context, turn <-chan struct{}) error {
	select {
	case <-turn:
		return ctx.Err()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// finish ends the file behind its last segment.
func (t *tablespaceFile) finish(seg *segment) error {
	if seg.index != t.segments-1 {
		return nil
	}
	return errors.Join(t.f.Close(), t.out.Close())
}

// abandon decides about a segment that could not be read: a file that was
// dropped meanwhile may end anywhere, and so it does here, as does one that will
// be copied again; all else is an error.
func (c *copier) abandon(ctx context.Context, seg *segment, cause error) error {
	t := seg.t
	now, err := statFile(c.disk, t.path, t.name)
	dropped := errors.Is(err, fs.ErrNotExist) || err == nil && now.fileID != t.fileID
	var page *innodb.PageError
	overwritten := c.again && err == nil && (now.size < t.size || errors.As(cause, &page) && page.Foreign)
	if !dropped && !overwritten {
		return cause
	}
	if err := await(ctx, seg.turn); err != nil {
		return err
	}
	t.ended.Store(true)
	if overwritten {
		c.registry.discard(func(a *archivedSpace) bool { return a.spaceFile == t.spaceFile() })
	}
	return t.finish(seg)
}

// readSegment fills buf with the whole pages of a segment and verifies them.
// It reports whether the file was found cut off there.
func (c *copier) readSegment(ctx context.Context, seg *segment, buf []byte) (data []byte, cut bool, err error) {
	t := seg.t
	off := int64(seg.index) * segmentSize
	want := int(min(segmentSize, t.size-off))
	want -= want % t.space.Physical // the file may be growing just now
	if want == 0 || t.ended.Load() {
		return nil, false, nil
	}
	if c.wait != nil {
		if err := c.wait(ctx, want); err != nil {
			return nil, false, err
		}
	}
	n, err := t.f.ReadAtOnce(buf[:want], off)
	switch {
	case err == io.EOF && t.mayShrink:
		// Truncation of an undo tablespace is in the redo that we follow
		// (TRIM_PAGES), so that what is cut off is not needed.
		n -= n % t.space.Physical
		cut = true
	case err == io.EOF:
		return nil, false, fmt.Errorf("the file became shorter than its %d bytes while it was read", t.size)
	case err != nil:
		return nil, false, err
	}
	return buf[:n], cut, t.verify(ctx, buf[:n], off)
}

// verify checks every page of data, which was read at offset off, and reads
// again those that fail.
func (t *tablespaceFile) verify(ctx context.Context, data []byte, off int64) error {
	size := t.space.Physical
	for at := 0; at < len(data); at += size {
		page := data[at : at+size]
		pos := off + int64(at)
		if t.space.VerifyAt(page, pos) == nil {
			continue
		}
		err := retryPage(ctx, func() error {
			if _, err := t.f.ReadAt(page, pos); err != nil {
				return err
			}
			return t.space.VerifyAt(page, pos)
		})
		if err != nil {
			return fmt.Errorf("%w; the page is damaged on the server: check the table there (CHECK TABLE) before backing up", err)
		}
	}
	return nil
}
