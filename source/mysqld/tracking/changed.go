package tracking

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/position"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

const (
	// listDir is where the component writes lists, in the data directory.
	listDir = "#meb"
	// entrySize is the size of an entry in bytes: tablespace and page number, both
	// big-endian.
	entrySize = 8
	// maxEntries bounds a list, which hb holds in memory: 64 MiB, for 128 GiB of changed
	// pages of 16 KiB. A scan is not much slower then.
	maxEntries = 8 << 20
	// listTries is how often a list is asked for while the server adds to it, and
	// listPause the time between: the block to which it adds holds 2044 entries.
	listTries = 20
	listPause = 100 * time.Millisecond
)

// Request is what Changed has to know.
type Request struct {
	Base    *metadata.PageTracking // nil: the base's manifest has none
	Redo    innodb.LSN             // where the redo of this backup begins
	Disk    disk.System            // of the server
	Datadir string                 // as hb sees it
	Wait    time.Duration          // for a checkpoint
}

// Check reports why the list since a base cannot be used, as far as that can be known
// before DDL is locked out. The error is an *Unusable if all pages have to be read.
func Check(ctx context.Context, srv *mysqld.Server, r Request) error {
	_, err := check(ctx, srv, r)
	return err
}

// check is Check, and returns where the server's whole list begins if the entries from
// there can be counted (see countable), else 0.
func check(ctx context.Context, srv *mysqld.Server, r Request) (start innodb.LSN, err error) {
	if r.Base == nil || !IsRun(r.Base.Run) {
		return 0, &Unusable{Reason: Unmarked}
	}
	s, err := Read(ctx, srv)
	switch {
	case err != nil:
		return 0, err
	case s.Run != r.Base.Run:
		return 0, &Unusable{Reason: OtherRun}
	case r.Base.ResetLSN < s.Start:
		return 0, &Unusable{Reason: Gap}
	}
	files, err := archiveFiles(r.Disk, r.Datadir, s.Start)
	switch {
	case err != nil:
		return 0, err
	case !grown(files):
		return 0, &Unusable{Reason: Young}
	case r.Base.ResetLSN > s.Start && countable(files):
		return s.Start, nil
	}
	return 0, nil
}

const (
	// blockEntries is how many entries a block of the server's own list holds, and
	// archiveBlock its size: 32 bytes more.
	blockEntries = 2044
	archiveBlock = 16 << 10
	// grownBytes is how long the first file of the server's own list is when its first
	// block of entries is full: a block of resets, that one, and a second one.
	grownBytes = 3 * archiveBlock
	// maxCounted bounds, in bytes, the list whose entries hb has the server count from
	// its beginning: the server counts their bytes in 32 bits (get_num_pages of
	// arch0page.cc).
	maxCounted = 2 << 30
)

// archiveFiles returns the sizes of the files of the server's own list, by number.
func archiveFiles(system disk.System, datadir string, start innodb.LSN) (map[string]int64, error) {
	dir := filepath.Join(datadir, "#ib_archive", fmt.Sprintf("page_group_%d", start))
	entries, err := system.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, &Unusable{Reason: Unreadable, Detail: err.Error()}
	}
	files := make(map[string]int64)
	for _, f := range entries {
		number, ok := strings.CutPrefix(f.Name(), "ib_page_")
		if !ok {
			continue
		}
		facts, err := system.Lstatx(filepath.Join(dir, f.Name()))
		if err == nil && facts.Mode == 0 {
			files[number] = facts.Size
		}
	}
	return files, nil
}

// grown reports whether the list is past the server's first block of entries: counting the
// entries of a range that ends there can make the server look for a block before the
// first, for which it aborts (find_stop_point of arch0page.cc; seen on 9.7.4). The server
// has begun a second block when that is in the file, and a later checkpoint is in it or
// beyond.
func grown(files map[string]int64) bool {
	for number, size := range files {
		if number != "0" || size >= grownBytes {
			return true
		}
	}
	return false
}

// countable reports whether the server can count the entries from the beginning of its
// list: no file was purged, and there are not too many.
func countable(files map[string]int64) bool {
	var sum int64
	for _, size := range files {
		sum += size
	}
	_, first := files["0"]
	return first && sum < maxCounted
}

// Changed returns the pages that were changed since a base. DDL must be locked out, and
// the redo that the backup will have must have begun: the package's comment says why.
// The error is an *Unusable if all pages have to be read instead.
func Changed(ctx context.Context, srv *mysqld.Server, r Request) (*Pages, error) {
	start, err := check(ctx, srv, r)
	if err != nil {
		return nil, err
	}
	checkpoint, err := settle(ctx, srv, r, start)
	if err != nil {
		return nil, err
	}
	switch from := r.Base.ResetLSN; {
	case checkpoint < r.Redo:
		return nil, fmt.Errorf("the server's checkpoint went back, to LSN %d from %d", checkpoint, r.Redo)
	case checkpoint-1 <= from || from < 1:
		return nil, &Unusable{Reason: NoCheckpoint, Detail: fmt.Sprintf("tracking began at LSN %d, checkpoint %d", from, checkpoint)}
	}
	list := lister{
		count: func(ctx context.Context) (int64, error) { return call(ctx, srv, countIn(r.Base.ResetLSN, checkpoint)) },
		write: func(ctx context.Context) (int64, error) {
			return call(ctx, srv, listFunction+over(r.Base.ResetLSN, checkpoint))
		},
		clear: func(ctx context.Context) error { return setID(ctx, srv, r.Base.Run) },
		open:  func() (disk.File, error) { return openList(r.Disk, r.Datadir, r.Base.Run) },
		pause: listPause,
	}
	pages, err := list.get(ctx)
	if err != nil {
		return nil, err
	}
	pages.Until = checkpoint
	// Another tool may have set the id meanwhile, and the server writes all lists to the
	// file of the newest id.
	if err := Check(ctx, srv, r); err != nil {
		return nil, err
	}
	return pages, nil
}

// settle returns a checkpoint such that the list up to it has all pages that were written
// without redo before the call. That is so if
//
//   - the server began to take stock of it after the call. A checkpoint that it makes known
//     after the call may have been begun before, and the next one was not. One that is not
//     before the log's present end was not either, as far as it matters: DDL that ended
//     before the call had written its last redo.
//   - the list up to it ends in the block that the server fills now. It ends with the block
//     that was open at the checkpoint, and only the newest block is not full: the count from
//     the beginning of the server's list, where a block begins, is not one of full blocks.
//     So this asks for no checkpoint if fewer pages than a block has were written since the
//     last one. It does not count if the checkpoint may be in the first block, for which
//     see grown: start is 0, or the checkpoint is not after the base's reset. Of all resets
//     only the first is in that block (is_gap_small of arch0page.cc).
func settle(ctx context.Context, srv *mysqld.Server, r Request, start innodb.LSN) (innodb.LSN, error) {
	end, err := position.CurrentLSN(ctx, srv)
	if err != nil {
		return 0, err
	}
	checkpoint := func(ctx context.Context) (innodb.LSN, error) { return position.CheckpointLSN(ctx, srv) }
	return awaitCheckpoint(ctx, r.Wait, checkpoint, func(c innodb.LSN, advances int) (bool, error) {
		if c >= end || advances >= 2 {
			return true, nil
		}
		if start == 0 || c-1 <= r.Base.ResetLSN {
			return false, nil
		}
		n, err := call(ctx, srv, countIn(start, c))
		return n%blockEntries != 0, err
	})
}

// over are the arguments of a list, or of its count, from a reset to a checkpoint. It begins
// with the first reset at the first LSN. It ends with the first block that was open at a
// checkpoint above the last LSN, or later. Count and list take different ones for the
// checkpoint itself if several were open (find_stop_point and get_pages of arch0page.cc);
// none was at the LSN before it.
func over(reset, checkpoint innodb.LSN) string { return fmt.Sprintf("(%d, %d)", reset, checkpoint-1) }

func countIn(reset, checkpoint innodb.LSN) string {
	return "get_changed_page_count" + over(reset, checkpoint)
}

// openList opens the server's list. hb may be allowed to read what the server is not:
// it follows no link.
func openList(system disk.System, datadir, id string) (disk.File, error) {
	dir := filepath.Join(datadir, listDir)
	facts, err := system.Lstatx(dir)
	if err != nil {
		return nil, err
	}
	if facts.Mode != fs.ModeDir {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: errors.New("it is not a directory")}
	}
	return system.OpenRegular(filepath.Join(dir, id+".idx"), false)
}

// lister gets one list from a server.
type lister struct {
	count func(context.Context) (int64, error) // how many entries the list has now
	write func(context.Context) (int64, error) // writes the list; 0: it was written
	clear func(context.Context) error          // removes it
	open  func() (disk.File, error)
	pause time.Duration
}

// get returns the list. The server reports success whatever happens to the file (it
// could not be written, a block of the list could not be read), so that the number of
// entries is what vouches for it, counted before and after.
func (l *lister) get(ctx context.Context) (pages *Pages, err error) {
	defer func() {
		if cerr := l.clear(context.WithoutCancel(ctx)); err == nil {
			err = cerr
		}
	}()
	for range listTries {
		pages, err = l.once(ctx)
		if err == nil || !errors.Is(err, &Unusable{Reason: Incomplete}) {
			return pages, err
		}
		if err := mysqld.Pause(ctx, l.pause); err != nil {
			return nil, err
		}
	}
	return nil, err
}

func (l *lister) once(ctx context.Context) (*Pages, error) {
	if err := l.clear(ctx); err != nil {
		return nil, err
	}
	before, err := l.count(ctx)
	if err != nil {
		return nil, err
	}
	if before > maxEntries {
		return nil, &Unusable{Reason: TooMany, Detail: fmt.Sprintf("%d entries, at most %d", before, maxEntries)}
	}
	switch code, err := l.write(ctx); {
	case err != nil:
		return nil, err
	case code == erRangeNotTracked:
		return nil, &Unusable{Reason: Gap}
	case code != 0:
		return nil, &Unusable{Reason: Refused, Detail: fmt.Sprintf("error %d", code)}
	}
	ids, err := l.read(before)
	if err != nil {
		return nil, err
	}
	after, err := l.count(ctx)
	if err != nil {
		return nil, err
	}
	if n := int64(len(ids)); n != before || n != after {
		return nil, &Unusable{Reason: Incomplete, Detail: fmt.Sprintf("%d entries, %d counted before and %d after", n, before, after)}
	}
	return newPages(ids), nil
}

// read reads a list of n entries. The server makes no file for an empty one.
func (l *lister) read(n int64) (ids []uint64, err error) {
	f, err := l.open()
	if errors.Is(err, fs.ErrNotExist) && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, &Unusable{Reason: Unreadable, Detail: err.Error()}
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return nil, &Unusable{Reason: Unreadable, Detail: err.Error()}
	}
	switch size := st.Size(); {
	case size > maxEntries*entrySize: // the server counts the bytes in 32 bits (get_num_pages of arch0page.cc)
		return nil, &Unusable{Reason: TooMany, Detail: fmt.Sprintf("%d bytes", size)}
	case size != n*entrySize:
		return nil, &Unusable{Reason: Incomplete, Detail: fmt.Sprintf("%s has %d bytes for %d entries", f.Name(), size, n)}
	}
	if ids, err = readIDs(io.NewSectionReader(f, 0, n*entrySize), n); err != nil {
		return nil, &Unusable{Reason: Unreadable, Detail: err.Error()}
	}
	return ids, nil
}
