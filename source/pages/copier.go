// Package pages copies tablespaces while they are written and while DDL renames,
// drops and creates them, and knows which of them the archive has.
//
// In come lists of files (package datadir) and what the redo log tells of
// tablespaces; out go checked pages, to files that its caller creates, the fix-ups
// that bring the archive's names to their final state, and the error when a
// tablespace is damaged or missing. It asks no server for anything: what it has to
// know its caller's functions tell.
package pages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hb/source/datadir"
	"hb/source/mysqld/contents"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// SegmentSize is how much of a tablespace one worker reads, checks and sends at a
// time: a multiple of every page size. Each worker has one such buffer, so it
// bounds the copier's memory.
const SegmentSize = 1 << 20

// Copier sends tablespaces into the archive. Several workers read segments,
// in turns of as many files as there are workers, so that the reader of the
// archive can write several files at a time, and at the end all of the last one.
// The segments of a file leave in order, each worker waiting for its turn.
type Copier struct {
	Disk     disk.System
	Create   func(name string) (io.WriteCloser, error) // begins a file of the archive, or of the stage
	Registry *Registry
	PageSize int // innodb_page_size, bytes
	Parallel int
	Keys     *keyring.Keys                          // of encrypted tablespaces; nil: there are none
	Wait     func(ctx context.Context, n int) error // paces reading; nil: full speed
	Since    func() innodb.LSN                      // up to where the redo has been read; nil: it does not matter
	Begun    func(innodb.SpaceID) innodb.LSN        // where the redo begins a tablespace again (redo.FileState.Begun); nil: nowhere
	// Info returns the encryption information that the redo has for page 0 of a tablespace
	// (redo.FileState.Info); nil: it never has any.
	Info func(innodb.SpaceID) []byte
	// Truncated reports whether the server has truncated an undo tablespace since its
	// page 0 had an LSN, or does so just now; nil: it never truncates a file in place.
	Truncated func(ctx context.Context, id innodb.SpaceID, page0 innodb.LSN) (bool, error)
	// Builds returns what changes pages of a tablespace without redo just now; nil:
	// nothing does.
	Builds func(ctx context.Context, id innodb.SpaceID) (map[uint64]contents.Build, error)
	// Again: DDL may cut a file or write another tablespace into it while it is
	// copied (TRUNCATE TABLE of MySQL 5.7, IMPORT TABLESPACE); it will be
	// copied again.
	Again bool
	// Known are the tablespaces that the server has open, or can open; nil: it does not list them, or it
	// does not matter. The server imports into other files, and then may write
	// pages of the same tablespace id without redo.
	Known map[innodb.SpaceID]bool
	Phase *progress.Phase // counts bytes sent, or read for an increment
	// Increment leaves out what a base has; nil: a full backup.
	Increment *Increment

	mu    sync.Mutex
	tally innodb.Tally // of what was sent
	zero  []ZeroPage   // likewise
}

// File is one file being copied.
type File struct {
	datadir.File
	Space    innodb.File
	undo     bool // by its name: the server may truncate it while it lives
	unlisted bool // the server did not know it when it was copied

	f        disk.File
	usage    usage
	head     innodb.LSN // of page 0 when it was read first
	page0    []byte     // as it was before size was taken; nil: another file has it, or it was sent
	since    innodb.LSN // see Copier
	builds   map[uint64]contents.Build
	out      io.WriteCloser
	segments int                // of the size when it was opened
	chosen   []innodb.PageRange // a segment each, counted from the start of the file; nil: all pages are read
	next     int                // first segment that no worker has
	turn     chan struct{}      // closed when segment next may be sent; owned by the work list
	ended    atomic.Bool        // the file was removed or overwritten while it was read: nothing more follows
}

// CopyFiles copies the given files, and returns when all are in the archive.
// Files that have vanished, or are in the archive already by identity, are
// passed over: Settle decides about them.
func (c *Copier) CopyFiles(ctx context.Context, files []*File) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &work{files: files, width: c.Parallel}
	var wg sync.WaitGroup
	for range c.Parallel {
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
			f.Close() // again, for those that were finished: an error without meaning
		}
		for _, t := range files {
			if ch, ok := t.out.(*changes); ok {
				err = errors.Join(err, ch.release())
			}
		}
	}
	return err
}

// Tally counts the pages that were sent by what vouches for them.
func (c *Copier) Tally() innodb.Tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tally
}

func (c *Copier) worker(ctx context.Context, w *work) error {
	buf := make([]byte, SegmentSize)
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
			return fmt.Errorf("copying %s: %w", t.Path, err)
		}
	}
}

// open opens a file, learns from its first page what it is, and begins it in
// the archive. It reports false where there is nothing to copy now.
func (c *Copier) open(ctx context.Context, t *File, buf []byte) (bool, error) {
	if c.Since != nil {
		t.since = c.Since()
	}
	expected := t.Size
	f, err := c.Disk.OpenRegular(t.Path, t.Linked)
	if err != nil {
		c.Phase.Expect(-expected)
		return false, datadir.IgnoreGone(err)
	}
	ok, err := c.begin(ctx, t, f, buf)
	if err != nil || !ok {
		c.Phase.Expect(-expected)
		return false, errors.Join(err, f.Close())
	}
	c.Phase.Expect(t.toRead() - expected)
	return true, nil
}

func (c *Copier) begin(ctx context.Context, t *File, f disk.File, buf []byte) (bool, error) {
	if t.Space.First == 0 && t.page0 == nil {
		if ok, err := c.identify(ctx, t, f, buf[:c.PageSize]); err != nil || !ok {
			return false, err
		}
	} else if c.Builds != nil { // the system tablespace is never imported
		var err error
		if t.builds, err = c.Builds(ctx, t.Space.ID); err != nil {
			return false, err
		}
	}
	info, err := datadir.StatOpen(f, t.File)
	if err != nil {
		return false, err
	}
	t.File, t.f = info, f
	if err := RefuseEncrypted(t); err != nil {
		return false, err
	}
	t.unlisted = c.Known != nil && !c.Known[t.Space.ID]
	a, isNew := c.Registry.Add(t, t.since)
	if !isNew {
		return false, nil
	}
	c.forgetZero(t.Key())
	if t.out, err = c.create(t, a); err != nil {
		return true, err
	}
	t.segments = max(1, int((t.Size+SegmentSize-1)/SegmentSize))
	if t.chosen != nil {
		t.segments = max(1, len(t.chosen))
	}
	return true, nil
}

// identify learns from page 0 which tablespace an open file is, and from the server
// what changes it without redo. Then page 0 is read again, as every page is read
// after that: an import may have ended between.
func (c *Copier) identify(ctx context.Context, t *File, f disk.File, page []byte) (bool, error) {
	space, err := readSpace(ctx, f, c.Keys, page)
	if err == nil && c.Builds != nil {
		if t.builds, err = c.Builds(ctx, space.ID); err != nil {
			return false, err
		}
		before := space.ID
		if space, err = readSpace(ctx, f, c.Keys, page); err == nil && space.ID != before {
			return false, nil // it was imported just now, and is copied later
		}
	}
	if errors.Is(err, innodb.ErrZeroHeader) {
		return false, nil // its identity is in the redo log: see Settle
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", t.Path, err)
	}
	if lacksKey(&space) {
		if err := c.findKey(ctx, &space, page); err != nil {
			return false, fmt.Errorf("%s: %w", t.Path, err)
		}
	}
	t.Space.Space, t.page0 = space, bytes.Clone(page[:space.Physical])
	t.head = innodb.HeaderLSN(t.page0)
	if err := RefuseEncrypted(t); err != nil {
		return false, err
	}
	return c.awaitLength(ctx, t, f)
}

// awaitLength makes sure that an open file has the pages that its page 0, which
// was read before, counts. A file that grows in the meantime is copied to its
// place, for IMPORT TABLESPACE: it reports false, and the file is copied later. An
// undo tablespace that was truncated may be shorter: it is cut first, and page 0
// follows. So it is with a table that MySQL 5.7 truncates in place, which the redo
// log tells.
func (c *Copier) awaitLength(ctx context.Context, t *File, f disk.File) (bool, error) {
	first := int64(-1)
	var size int64
	err := datadir.Retry(ctx, func() error {
		facts, err := f.Statx()
		if err != nil || facts.Links == 0 {
			return err
		}
		if size = facts.Size; first < 0 {
			first = size
		}
		err = t.Space.CheckLength(size)
		if c.Begun != nil && c.Begun(t.Space.ID) > t.head {
			return nil
		}
		return err
	})
	if datadir.SystemFailed(err) { // no change by the server explains it
		return false, fmt.Errorf("%s: %w", t.Path, err)
	}
	if err != nil && t.undo {
		cut, cerr := c.wasTruncated(ctx, t)
		if cut || cerr != nil {
			return cut, cerr
		}
	}
	if err != nil && c.Again && (size > first || c.Builds != nil && !t.undo) {
		return false, nil // 5.7: the redo of a truncation may not be read yet
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w; check the table on the server (CHECK TABLE) before backing up", t.Path, err)
	}
	return true, nil
}

// wasTruncated reports whether the server has truncated an undo tablespace since its
// page 0 was read: then what is cut off is not needed.
func (c *Copier) wasTruncated(ctx context.Context, t *File) (bool, error) {
	if !t.undo || c.Truncated == nil {
		return false, nil
	}
	return c.Truncated(ctx, t.Space.ID, t.head)
}

// readSpace reads and verifies page 0 of an open tablespace, and opens its encryption with
// the keys. buf is as long as innodb_page_size: the pages after page 0 may be written
// before page 0 is.
func readSpace(ctx context.Context, f disk.File, keys *keyring.Keys, buf []byte) (innodb.Space, error) {
	var s innodb.Space
	err := datadir.Retry(ctx, func() error {
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
	if err == nil {
		s.Cipher, err = tde.OpenToVerify(&s, buf[:s.Physical], keys)
	}
	return s, err
}

// findKey looks for the key of an encrypted tablespace of MySQL whose page 0 has none: the
// server has just made the file, and the redo log has the key before any page is encrypted.
// What page 0 is in the copy does not change.
func (c *Copier) findKey(ctx context.Context, space *innodb.Space, page []byte) (err error) {
	if c.Info == nil {
		return nil // RefuseEncrypted has the words for it
	}
	for end := time.Now().Add(keyPatience); ; {
		if info := c.Info(space.ID); info != nil {
			copy(space.MySQLInfo[:], info)
			space.Cipher, err = tde.OpenToVerify(space, page, c.Keys)
			return err
		}
		if time.Now().After(end) {
			return nil // the same
		}
		if err := datadir.Pause(ctx, keyPause); err != nil {
			return err
		}
	}
}

// keyPatience is how long a copy waits for a key that is in the redo log: on a busy machine
// the goroutine that reads the log may be behind by much. It looks again after keyPause.
const (
	keyPatience = time.Minute
	keyPause    = 10 * time.Millisecond
)

// EncryptedError refuses a tablespace of MySQL that is marked as encrypted and has no key.
type EncryptedError struct{ Path string }

func (e *EncryptedError) Error() string {
	return fmt.Sprintf("page 0 of %s marks the tablespace as encrypted and has no key, so that its pages cannot be verified: "+
		"check the table on the server (CHECK TABLE), and back up again", e.Path)
}

// RefuseEncrypted refuses an encrypted tablespace of MySQL that has no key. The checksums of
// MariaDB's cover what is stored.
func RefuseEncrypted(t *File) error {
	if lacksKey(&t.Space.Space) {
		return &EncryptedError{t.Path}
	}
	return nil
}

// lacksKey reports whether page 0 is marked and has no encryption information.
func lacksKey(s *innodb.Space) bool {
	return s.MySQLEncrypted() && s.MySQLInfo == [innodb.MySQLInfoSize]byte{}
}

// place is where a segment is in the file, in bytes, and its length: that of whole pages,
// as the file may be growing just now.
func (seg *segment) place() (off, n int64) {
	t, size := seg.t, int64(seg.t.Space.Physical)
	if t.chosen == nil {
		off = int64(seg.index) * SegmentSize
		n = min(SegmentSize, t.Size-off)
		return off, n - n%size
	}
	if seg.index >= len(t.chosen) { // no page was chosen
		return 0, 0
	}
	r := t.chosen[seg.index]
	return int64(r.First) * size, int64(r.End-r.First) * size
}

// toRead is how many bytes of an open file are read.
func (t *File) toRead() (n int64) {
	if t.chosen == nil {
		return t.Size
	}
	for _, r := range t.chosen {
		n += int64(r.End-r.First) * int64(t.Space.Physical)
	}
	return n
}

// copySegment reads, checks and sends one segment when its turn has come. The
// last one ends the file.
func (c *Copier) copySegment(ctx context.Context, seg *segment, buf []byte) error {
	t := seg.t
	defer close(seg.done)
	off, n := seg.place()
	data, cut, err := c.readSegment(ctx, t, off, buf[:n])
	var tally innodb.Tally
	if err == nil {
		tally, err = c.verify(ctx, t, data, off)
	}
	if err != nil {
		return c.abandon(ctx, seg, err)
	}
	if err := await(ctx, seg.turn); err != nil {
		return err
	}
	if len(data) > 0 && !t.ended.Load() {
		if ch, ok := t.out.(*changes); ok {
			ch.next = innodb.PageNo(off / int64(t.Space.Physical))
		}
		if _, err := t.out.Write(data); err != nil {
			return err
		}
		c.Phase.Add(int64(len(data)))
		c.mu.Lock()
		c.tally.Add(tally)
		c.mu.Unlock()
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

// finish ends the file after its last segment.
func (t *File) finish(seg *segment) error {
	if seg.index != t.segments-1 {
		return nil
	}
	return errors.Join(t.f.Close(), t.out.Close())
}

// abandon decides about a segment that could not be read. Only the open file can
// excuse that: it has no name any more, or the server is writing another
// tablespace into it, or cuts it, and it will be copied again. That its path is
// gone, or leads to another file, proves nothing: it may have been renamed.
func (c *Copier) abandon(ctx context.Context, seg *segment, cause error) error {
	t := seg.t
	now, err := t.f.Statx()
	if err != nil {
		return errors.Join(cause, err)
	}
	if now.Links > 0 && datadir.SystemFailed(cause) { // no change by the server explains it
		return cause
	}
	page, _ := errors.AsType[*innodb.PageError](cause)
	overwritten := c.Again && !t.undo && (now.Size < t.Size || page != nil && page.Foreign)
	encrypted := false
	if page != nil {
		if encrypted, err = c.sealedSince(ctx, t, page.No); err == nil && !encrypted {
			encrypted, err = t.encryptedSince()
		}
		if err != nil {
			return errors.Join(cause, err)
		}
		// Only tables can have a second copy: see Copy.Table.
		if encrypted && (!c.Again || t.Space.ID == 0 || !strings.HasSuffix(t.Name, ".ibd")) {
			return fmt.Errorf("%w; the server began to encrypt the tablespace while hb copied it (innodb_encrypt_tables, innodb_undo_log_encrypt, ALTER TABLESPACE): run the backup again", cause)
		}
	}
	cut := false
	if now.Size < t.Size {
		if cut, err = c.wasTruncated(ctx, t); err != nil {
			return errors.Join(cause, err)
		}
	}
	switch {
	case now.Links == 0:
		c.Registry.lose(t.Key())
	case cut: // no page that follows is needed: see readSegment
	case overwritten, encrypted:
		c.Registry.Discard(func(a *Copy) bool { return a.Key == t.Key() })
	default:
		return cause
	}
	if err := await(ctx, seg.turn); err != nil {
		return err
	}
	t.ended.Store(true)
	return t.finish(seg)
}

// encryptedSince reports whether the server began to encrypt the tablespace after page 0 was
// read, which is in the archive as it was: MariaDB has the data on page 0 on disk before it
// encrypts other pages (fil_crypt_start_encrypting_space in fil0crypt.cc of 10.11).
func (t *File) encryptedSince() (bool, error) {
	if t.Space.First != 0 || t.Space.Encryption.Present {
		return false, nil // of other files of the system tablespace it is not known
	}
	page := make([]byte, t.Space.Physical)
	if _, err := t.f.ReadAt(page, 0); err != nil {
		return false, err
	}
	now, err := innodb.ParseSpace(page)
	return err == nil && now.ID == t.Space.ID && now.Encryption.Present, nil
}

// sealedSince reports whether a server of MySQL encrypted the tablespace in place after page 0
// was read, for the first time or with another key, so that page no is encrypted with a key that
// only the redo log has for certain. When page 0 comes to disk nobody knows before the
// statement ends, so the file cannot be copied again right away.
func (c *Copier) sealedSince(ctx context.Context, t *File, no innodb.PageNo) (bool, error) {
	if c.Info == nil || no < t.Space.First || t.Space.MySQLEncrypted() && !c.Again {
		return false, nil
	}
	page := make([]byte, t.Space.Physical)
	if _, err := t.f.ReadAt(page, int64(no-t.Space.First)*int64(len(page))); err != nil {
		if datadir.SystemFailed(err) {
			return false, err
		}
		return false, nil // it was cut: the cause counts
	}
	if kind := innodb.HeaderType(page); kind < innodb.TypeEncrypted || kind > innodb.TypeRTreeEncrypted {
		return false, nil
	}
	for end := time.Now().Add(keyPatience); !c.newKey(t); {
		if time.Now().After(end) {
			return false, nil
		}
		if err := datadir.Pause(ctx, keyPause); err != nil {
			return false, err
		}
	}
	return true, nil
}

// newKey reports whether the redo log has a key of a tablespace of MySQL that it had not
// when page 0 was read. A key under another master key is not another key.
func (c *Copier) newKey(t *File) bool {
	info := c.Info(t.Space.ID)
	if info == nil || !t.Space.MySQLEncrypted() {
		return info != nil
	}
	now := t.Space.Space
	copy(now.MySQLInfo[:], info)
	cipher, err := tde.OpenToVerify(&now, nil, c.Keys)
	return err == nil && !tde.SameKey(t.Space.Cipher, cipher)
}

// readSegment fills buf with the pages of a segment at off. It reports whether the file
// was found cut off there.
func (c *Copier) readSegment(ctx context.Context, t *File, off int64, buf []byte) (data []byte, cut bool, err error) {
	if len(buf) == 0 || t.ended.Load() {
		return nil, false, nil
	}
	if c.Wait != nil {
		if err := c.Wait(ctx, len(buf)); err != nil {
			return nil, false, err
		}
	}
	n, err := t.f.ReadAtOnce(buf, off)
	switch {
	case err == io.EOF:
		// The truncation of an undo tablespace is in the redo that we follow
		// (TRIM_PAGES of MariaDB), so that what is cut off is not needed, or the file
		// is copied again (5.7).
		if cut, err = c.wasTruncated(ctx, t); err == nil && !cut {
			err = fmt.Errorf("the file became shorter than its %d bytes while it was read", t.Size)
		}
		if err != nil {
			return nil, false, err
		}
		n -= n % t.Space.Physical
	case err != nil:
		return nil, false, err
	}
	if off == 0 && t.page0 != nil {
		// The file may have grown since, and its page 0 with it: the copy would be
		// shorter than the size in its page 0.
		copy(buf[:n], t.page0)
		t.page0 = nil
	}
	return buf[:n], cut, nil
}

// verify checks every page of data, which was read at offset off, and reads
// again those that fail.
func (c *Copier) verify(ctx context.Context, t *File, data []byte, off int64) (tally innodb.Tally, err error) {
	size := t.Space.Physical
	for at := 0; at < len(data); at += size {
		page, pos := data[at:at+size], off+int64(at)
		sum, err := t.Space.VerifyAt(page, pos)
		if err != nil || sum == innodb.ChecksumNone {
			sum, err = t.reread(ctx, page, pos)
		}
		if err != nil {
			return tally, fmt.Errorf("%w; the page is damaged on the server: check the table there (CHECK TABLE) before backing up", err)
		}
		if sum == innodb.ChecksumUnset {
			if err := c.noteZero(ctx, t, t.Space.First+innodb.PageNo(pos/int64(size))); err != nil {
				return tally, err
			}
		}
		tally.Count(&t.Space.Space, sum)
	}
	return tally, nil
}

// reread reads a page until it is right. One without a checksum must be the same
// twice: of a page that is written from front to back, two reads between which it
// changes differ, so that only a write that stands still for so long could pass,
// and that the second LSN tells, where there is one.
func (t *File) reread(ctx context.Context, page []byte, pos int64) (sum innodb.Checksum, err error) {
	before := make([]byte, len(page))
	err = datadir.Retry(ctx, func() error {
		copy(before, page)
		if _, err := t.f.ReadAt(page, pos); err != nil {
			return err
		}
		var err error
		sum, err = t.Space.VerifyAt(page, pos)
		if err == nil && sum == innodb.ChecksumNone && !bytes.Equal(before, page) {
			no := t.Space.First + innodb.PageNo(pos/int64(t.Space.Physical))
			err = &innodb.PageError{PageID: innodb.PageID{Space: t.Space.ID, No: no}, What: "has no checksum, and changes whenever it is read"}
		}
		return err
	})
	return sum, err
}
