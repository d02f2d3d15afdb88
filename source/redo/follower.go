// Package redo follows the redo log of a running server: from its checkpoint
// on, at the server's pace, up to an LSN that the server names at the end.
//
// The reader never waits for the archive: redo that the archive does not take at
// once goes to a spool, first in memory and then on disk. A log that is
// overwritten before it was read is noticed for certain, by the numbers of its
// blocks or by its checkpoints. While it reads, the follower parses the log as
// far as it takes to know of files that are created, renamed and deleted.
package redo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"hb/source/spool"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/keyring"
)

const (
	// Reads grow from the smaller size, for the polls of an idle log, to the
	// larger one while there is that much; it holds any mini-transaction.
	minRead = 64 << 10
	maxRead = 2 * mariadbredo.MaxMTR

	// sendSize is how much the archive is given at a time: as much as of a tablespace.
	sendSize = 1 << 20

	// The log is polled; pauses grow while nothing comes, and end at once when
	// somebody waits for an LSN.
	minPause = time.Millisecond
	maxPause = 20 * time.Millisecond

	// stallTimeout is how long a log may stand still short of an LSN that the
	// server reports to have reached.
	stallTimeout = 60 * time.Second

	// hb reports to a server that keeps redo for it after so many bytes, or fewer
	// after a pause.
	advanceStep  = 1 << 20
	advancePause = 50 * time.Millisecond

	// spoolMemory is what is kept in memory before the spool goes to disk.
	spoolMemory = 16 << 20
)

// OverrunError says that the server overwrote redo before hb had read it.
type OverrunError struct {
	Read innodb.LSN // up to where it was read
	Now  innodb.LSN // an LSN that the server has certainly reached
}

func (e *OverrunError) Error() string {
	return fmt.Sprintf("the server overwrote its redo log before it could be read: read up to LSN %d, the server is past %d; "+
		"make the log larger (innodb_log_file_size, or innodb_redo_log_capacity), back up at a quieter time, or run hb on a faster machine", e.Read, e.Now)
}

// Follower reads one server's log. Its owner calls Open, Start, then Hold and
// Finish, and Close in any case.
type Follower struct {
	log     liveLog // the reader's, until it is done
	answer  answer  // the reader's
	lsns    ServerLSNs
	advance func(context.Context, innodb.LSN) error
	spool   *spool.Spool
	wake    chan struct{} // ends the reader's pause
	wg      sync.WaitGroup

	mu                sync.Mutex
	changed           chan struct{}   // closed and replaced when anything below changes
	queue             []piece         // read, and not sent
	end               innodb.LSN      // of the last whole mini-transaction that was read
	last              []byte          // the block after the queue, if it is not full
	lastAt            innodb.LSN      // its LSN
	why               error           // why the last look at the log brought no more
	wanted            bool            // somebody waits for an LSN: read without pauses
	held              bool            // nothing that comes now may be sent
	heldEnd           innodb.LSN      // end when it was held
	ends              []innodb.LSN    // ends of the mini-transactions read since then
	heldOps           []fileOp        // what they did to files
	target            innodb.LSN      // where to stop; 0: not known yet
	tail              []byte          // what follows the queue at the target
	done              bool            // the reader has reached the target
	sent              int64           // bytes that the archive has taken
	phase             *progress.Phase // counts them, since Drain
	err               error           // the first failure
	ops               map[innodb.SpaceID]*FileState
	opsSize, opsLimit int // about how many bytes of memory ops takes, and may take
}

// piece is a run of log bytes in the spool.
type piece struct {
	spool.Extent
	start innodb.LSN // of its first byte; LSNs and bytes run alike
}

// ServerLSNs asks the server up to where its log file is written and flushed,
// and where its log ends, in the file or not. Only the 10.8+ format needs it: see
// liveLog.next.
type ServerLSNs func(context.Context) (flushed, current innodb.LSN, err error)

// Open opens MariaDB's log in dir and reads its newest checkpoint, where
// following will begin. Nothing is read on before Start. keys are for a log that is encrypted,
// and stays so in the copy; nil: there are none.
func Open(system disk.System, dir, tmpdir string, lsns ServerLSNs, keys *keyring.Keys) (*Follower, error) {
	if keys == nil {
		keys = new(keyring.Keys)
	}
	log, err := openMariaDB(system, filepath.Join(dir, logName), keys)
	if err != nil {
		return nil, err
	}
	if log.blocks() {
		lsns = nil
	}
	f := newFollower(system, log, tmpdir)
	f.lsns = lsns
	return f, nil
}

// MySQLOptions are what following MySQL's log can do with.
type MySQLOptions struct {
	// Advance, if there is one, tells the server that the redo before an LSN was
	// read: a server that keeps redo for a registered consumer stalls its
	// writers if it is not told. It is called every MiB, and every 50 ms while
	// there is less, from a goroutine of its own; its error ends the backup.
	Advance  func(context.Context, innodb.LSN) error
	PageSize int // innodb_page_size; 0: 16 KiB, the default
	// Keys decrypt blocks of an encrypted log; nil: such a block is an error. The copy has
	// the blocks encrypted.
	Keys *keyring.Keys
}

// OpenMySQL is Open for MySQL 5.6 to 9.x. dir is innodb_log_group_home_dir: the
// directory of ib_logfile0, or the one that mysqlredo.RedoDir is in. The copy is what
// xtrabackup_logfile is: mysqlredo.BackupHead and blocks, the last one not full.
// Disabled redo logging is an error, now and later.
func OpenMySQL(system disk.System, dir, tmpdir string, o MySQLOptions) (*Follower, error) {
	log, err := openMySQL(system, dir, o.Keys)
	if err != nil {
		return nil, err
	}
	log.grants.PageSize = uint32(cmp.Or(o.PageSize, defaultPageSize))
	f := newFollower(system, log, tmpdir)
	f.advance = o.Advance
	return f, nil
}

func newFollower(system disk.System, log liveLog, tmpdir string) *Follower {
	return &Follower{
		log: log, end: log.begin(),
		spool:   spool.New(system, tmpdir, spoolMemory),
		wake:    make(chan struct{}, 1),
		changed: make(chan struct{}),
		ops:     make(map[innodb.SpaceID]*FileState), opsLimit: maxFileMemory,
	}
}

// Format is the log's format.
func (f *Follower) Format() Format { return f.log.format() }

// Sealed reports whether the copy is encrypted, or a part of it. It is for after Finish.
func (f *Follower) Sealed() bool { return f.log.sealed() }

// Checkpoint is the checkpoint at which the copy begins.
func (f *Follower) Checkpoint() Checkpoint { return Checkpoint{f.log.begin()} }

// Newest reads the newest checkpoint that the log has now. It is for after
// Finish.
func (f *Follower) Newest() (Checkpoint, error) {
	lsn, err := f.log.newest()
	return Checkpoint{lsn}, err
}

// Start begins to follow. The log goes to out, header first; tool names the
// program in that header. A failure is given to fail, once.
func (f *Follower) Start(ctx context.Context, out io.Writer, tool string, fail func(error)) {
	stop := func(err error) {
		if err == nil {
			return
		}
		f.update(func() {
			if f.err == nil {
				f.err = err
				fail(err)
			}
		})
	}
	f.wg.Go(func() { stop(f.read(ctx)) })
	f.wg.Go(func() { stop(f.send(ctx, out, f.log.head(tool))) })
	if f.advance != nil {
		f.wg.Go(func() { stop(f.tellServer(ctx)) })
	}
}

// Close waits for the follower to end, which it does after Finish, a failure,
// or the end of the context given to Start, and releases its resources.
func (f *Follower) Close() error {
	f.wg.Wait()
	return errors.Join(f.log.close(), f.spool.Close())
}

// update changes the shared state and wakes all waiting goroutines.
func (f *Follower) update(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

// waitFor blocks until ready, which is called with the state locked, returns true,
// or the follower fails.
func (f *Follower) waitFor(ctx context.Context, ready func() bool) error {
	for {
		f.mu.Lock()
		ok, err, changed := ready(), f.err, f.changed
		f.mu.Unlock()
		if err != nil {
			return err
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// Reach returns when the redo up to lsn has been read: the server must flush it,
// by itself or because it was asked to. It fails when nothing new has come for
// stallTimeout.
func (f *Follower) Reach(ctx context.Context, lsn innodb.LSN) error {
	f.hurry()
	defer f.update(func() { f.wanted = f.held })
	for {
		before := f.End()
		timeout, cancel := context.WithTimeoutCause(ctx, stallTimeout, errStalled)
		err := f.waitFor(timeout, func() bool { return f.inHand(lsn) })
		cancel()
		if !errors.Is(err, errStalled) {
			return err
		}
		if end := f.End(); end == before {
			return f.stalled(end, lsn)
		}
	}
}

// inHand reports whether all redo before lsn was read. Of a log of blocks that
// includes the block that it ends in, even where nothing has been written since
// the checkpoint. The state is locked.
func (f *Follower) inHand(lsn innodb.LSN) bool {
	if f.end < lsn {
		return false
	}
	if !f.log.blocks() || lsn == redolog.Canonical(redolog.BlockOf(lsn)) {
		return true
	}
	block := redolog.BlockOf(lsn)
	return block < f.lastAt || block == f.lastAt && len(f.last) > 0
}

func (f *Follower) stalled(end, lsn innodb.LSN) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Errorf("the redo log stopped at LSN %d (%v) while the server reports LSN %d: "+
		"is %s the log of this server?", end, f.why, lsn, f.log.where())
}

var errStalled = errors.New("redo log stalled")

// hurry makes the reader poll without pauses until Reach returns, or after Hold
// until Finish.
func (f *Follower) hurry() {
	f.update(func() { f.wanted = true })
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Hold holds back everything that is read after this, until Finish sets where the
// copy ends. Call it before you ask the server for that LSN: redo
// beyond it must not reach the archive.
func (f *Follower) Hold() {
	f.update(func() { f.held, f.heldEnd = true, f.end })
	f.hurry()
}

// Finish ends the copy exactly at lsn, which must be the end of a
// mini-transaction, not before the Hold: it waits until the redo has been read.
// Drain then waits until the archive has it.
func (f *Follower) Finish(ctx context.Context, lsn innodb.LSN) error {
	if f.log.blocks() {
		lsn = redolog.Canonical(lsn)
	}
	if err := f.Reach(ctx, lsn); err != nil {
		return err
	}
	var err error
	f.update(func() { err = f.truncate(lsn) })
	if err != nil {
		return err
	}
	return f.waitFor(ctx, func() bool { return f.done })
}

// truncate drops from the queue the redo after lsn. The state is locked.
func (f *Follower) truncate(lsn innodb.LSN) error {
	if !f.boundary(lsn) {
		return fmt.Errorf("LSN %d, which the server named, is not the end of a mini-transaction in its redo log", lsn)
	}
	limit := lsn
	if f.log.blocks() {
		limit = redolog.BlockOf(lsn) // the block that it is in is made again
		block, err := f.blockAt(limit)
		if err != nil {
			return err
		}
		if f.tail, err = f.log.lastBlock(block, lsn); err != nil {
			return fmt.Errorf("end of the redo copy at LSN %d: %w", lsn, err)
		}
	}
	for i, p := range f.queue {
		if p.start+innodb.LSN(p.Len()) > limit {
			if p.start < limit {
				f.queue[i].Extent = p.First(int64(limit - p.start))
				i++
			}
			f.queue = f.queue[:i]
			break
		}
	}
	for _, op := range f.heldOps {
		if op.end > lsn {
			continue
		}
		if err := f.track(op); err != nil {
			return err
		}
	}
	f.target, f.ends, f.heldOps = lsn, nil, nil
	return nil
}

// blockAt returns the block at an LSN as it was read: it may be that the server
// has overwritten it since. If the server had not begun it yet it is zero. The
// state is locked.
func (f *Follower) blockAt(lsn innodb.LSN) ([]byte, error) {
	b := make([]byte, redolog.BlockSize)
	if lsn == f.lastAt && len(f.last) > 0 {
		copy(b, f.last)
		return b, nil
	}
	for _, p := range f.queue {
		if p.start <= lsn && lsn < p.start+innodb.LSN(p.Len()) {
			_, err := f.spool.ReadAt(p.Extent, b, int64(lsn-p.start))
			return b, err
		}
	}
	return b, nil
}

// boundary reports whether a mini-transaction ends at lsn, as far as can be
// known: at the hold, or at one of the ends seen since.
func (f *Follower) boundary(lsn innodb.LSN) bool {
	if lsn == f.heldEnd || lsn == f.end {
		return true
	}
	for _, end := range f.ends {
		if end == lsn {
			return true
		}
	}
	return false
}

// Pending returns how many bytes have been read and not sent.
func (f *Follower) Pending() (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.queue {
		n += p.Len()
	}
	return n
}

// Spooled returns how many bytes the follower's spool holds.
func (f *Follower) Spooled() int64 { return f.spool.Size() }

// Drain returns when the archive has taken everything, and how many bytes that
// was. phase, which may be nil, counts the redo that it takes after this.
func (f *Follower) Drain(ctx context.Context, phase *progress.Phase) (int64, error) {
	f.mu.Lock()
	f.phase = phase
	f.mu.Unlock()
	done := make(chan struct{})
	go func() { f.wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sent, f.err
}

// End returns the LSN up to which the redo has been read.
func (f *Follower) End() innodb.LSN {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.end
}

// File returns the state of one tablespace so far.
func (f *Follower) File(id innodb.SpaceID) FileState {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.ops[id]; s != nil {
		return *s
	}
	return FileState{}
}
