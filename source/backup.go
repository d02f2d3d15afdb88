// Package source makes an archive of a live server: it copies InnoDB's pages
// while they are written, follows the redo log that makes them consistent, and
// takes what belongs to other engines under a lock as short as it can be.
//
// The order of a backup, for each kind of server, is in sequence.go.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"hb/source/innodb"
	"hb/source/mysqld"
	"hb/source/redo"
	"hb/source/spool"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// SystemError says that hb does not back up on an operating system.
type SystemError struct{ System string }

func (e *SystemError) Error() string {
	return fmt.Sprintf("hb backs up servers on Linux alone, and this is %s: here it is for archives and directories (extract, apply, verify, list)", e.System)
}

// CheckSystem reports why hb cannot back up on an operating system, which has the
// name that Go has for it.
func CheckSystem(system string) error {
	if system != "linux" {
		return &SystemError{system}
	}
	return nil
}

// Options say how to make a backup.
type Options struct {
	Parallel    int    // readers, 1 to 64
	Tmpdir      string // where redo and staged files are spooled that memory does not hold
	Datadir     string // where the server's data directory is seen from here; empty: where it says
	SlaveInfo   bool   // record the position of the server's own replication
	GaleraInfo  bool   // record the Galera position (MariaDB)
	Tool        string // name of the program, for metadata
	ToolVersion string
	Compressed  bool // what the stages behind out do, for metadata
	Encrypted   bool
	Command     string // the command line without secrets, for metadata

	// Progress is told how far the backup is; nil: nobody looks.
	Progress *progress.Meter
	// Warn is told what the user should know although the backup is good, when it
	// is noticed; it must not wait. The manifest has it too. nil: nobody is.
	Warn func(text string)

	// MySQL and Percona Server only, from here to Pace.

	// FTWRL says how FLUSH TABLES WITH READ LOCK is taken, where it is
	// (--ftwrl-wait-timeout, -threshold and -query-type,
	// --kill-long-queries-timeout, --kill-long-query-type). Its Killed is
	// told to the backup, which makes a warning of it, and then to the caller.
	FTWRL mysqld.FTWRL
	// LockDDLPerTable takes a metadata lock on every InnoDB table before
	// copying begins, so that DDL on them waits for the end of the backup (5.6
	// and 5.7; later servers have one lock for that). Without it DDL goes on,
	// and what it changed is copied again under the final lock.
	LockDDLPerTable bool
	// SafeSlave stops the replica's applier threads, waits at most
	// SafeSlaveTimeout (0: DefaultSafeSlaveTimeout) until no temporary table of
	// replication is open, and starts them again after the locks. On 5.6 and
	// 5.7 that is around the final lock; later servers let nobody stop the
	// threads while the instance is locked, so that they rest while pages are
	// copied.
	SafeSlave        bool
	SafeSlaveTimeout time.Duration
	// DumpBufferPool has the server write down which pages its buffer pool
	// holds, DumpBufferPoolPct percent of each instance (0: as it is set), and
	// waits at most DumpBufferPoolTimeout (0: DefaultDumpTimeout) beyond the
	// time that copying takes. Without it the file of an earlier dump is taken.
	DumpBufferPool        bool
	DumpBufferPoolPct     int
	DumpBufferPoolTimeout time.Duration

	// Pace is asked before so many bytes of a tablespace are read, and may
	// wait; nil: full speed. Redo is never slowed down.
	Pace func(ctx context.Context, bytes int) error
}

// Result is what a finished backup has to tell.
type Result struct {
	Manifest metadata.Manifest
	Locks    []mysqld.LockTime // in the order in which they were asked for
	Bytes    int64             // of the archive, before compression
}

// The waits that XtraBackup has by default.
const (
	DefaultSafeSlaveTimeout = 300 * time.Second
	DefaultDumpTimeout      = 10 * time.Second
)

// maxParallel bounds the readers, each of which has a buffer of segmentSize.
const maxParallel = 64

// stageMemory is how many bytes of staged files are kept in memory.
const stageMemory = 16 << 20

// backup is one run.
type backup struct {
	disk     disk.System
	opt      Options
	srv      *mysqld.Server
	sequence *sequence
	layout   Layout
	pageSize int
	started  time.Time
	fail     context.CancelCauseFunc // ends the context of all steps

	archive   *archive
	registry  *registry
	copier    *copier
	inventory *inventory
	follower  *redo.Follower
	redoFile  *archiveFile
	stage     *stage

	mariadb mariadbState
	mysql   mysqlState

	spot      *metadata.BinlogPos // nil: the binary log is off
	slave     mysqld.ReplicaState
	end       innodb.LSN           // the LSN that the server reported under the lock
	newest    innodb.LSN           // newest checkpoint when following ended
	last      found                // the tablespaces at the end
	now       map[spaceFile]string // and their final names
	databases []string             // at the end
	watcher   watcher
	warnMu    sync.Mutex
	warnings  []string
	manifest  metadata.Manifest
}

// Run backs srv up into out. When it returns nil the archive is complete; after
// an error what was written has no valid end. Locks are released in any case:
// where out has a method Interrupt, it is called when the backup fails, so that a
// write that nobody takes does not keep them.
func Run(ctx context.Context, srv *mysqld.Server, out io.Writer, opt Options) (*Result, error) {
	return runOn(ctx, disk.OS, srv, out, opt)
}

func runOn(ctx context.Context, system disk.System, srv *mysqld.Server, out io.Writer, opt Options) (_ *Result, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	b, err := newBackup(system, srv, out, opt)
	if err != nil {
		cancel(err)
		return nil, err
	}
	b.fail = cancel
	defer func() {
		cancel(err)
		err = b.close(err)
	}()
	if i, ok := out.(interface{ Interrupt() }); ok {
		defer context.AfterFunc(ctx, i.Interrupt)() // what follows a backup that succeeded goes on
	}
	if err := b.run(ctx); err != nil {
		// The first failure, which ended the context, says more than what
		// followed from it.
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	return b.result()
}

func newBackup(system disk.System, srv *mysqld.Server, out io.Writer, opt Options) (*backup, error) {
	layout, err := newLayout(system, srv.Vars, opt.Datadir)
	if err != nil {
		return nil, err
	}
	pageSize, err := srv.Vars.PageSize()
	if err != nil {
		return nil, err
	}
	b := &backup{
		disk: system, pageSize: pageSize,
		opt: opt, srv: srv, layout: layout, started: time.Now(), sequence: sequenceOf(&srv.Dialect),
		archive:   &archive{w: xbstream.NewWriter(out)},
		registry:  newRegistry(),
		inventory: newInventory(system, pageSize),
		stage:     newStage(system, spool.New(system, opt.Tmpdir, stageMemory)),
	}
	b.layout.General = srv.Flavor == mysqld.MySQL
	b.stage.mapped = srv.Vars.Bool("myisam_use_mmap")
	b.copier = &copier{disk: system, create: b.archive.output, registry: b.registry, pageSize: pageSize, parallel: min(max(1, opt.Parallel), maxParallel), wait: opt.Pace}
	return b, nil
}

// run takes the steps.
func (b *backup) run(ctx context.Context) error {
	for _, step := range b.sequence.steps {
		if err := step(b, ctx); err != nil {
			return err
		}
	}
	return nil
}

// close ends everything that may still run or be held after an error, and
// keeps that error first.
func (b *backup) close(err error) error {
	if err != nil {
		b.archive.w.Abort(err)
	}
	others := errors.Join(b.mariadb.close(), b.mysql.close())
	b.watcher.wait()
	if b.follower != nil {
		others = errors.Join(others, b.follower.Close())
	}
	others = errors.Join(others, b.stage.spool.Close())
	if err != nil {
		return err
	}
	return others
}

// warn notes what the user should know although the backup is good.
func (b *backup) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if b.opt.Warn != nil {
		b.opt.Warn(text)
	}
	b.warnMu.Lock()
	defer b.warnMu.Unlock()
	b.warnings = append(b.warnings, text)
}

// followRedo begins the archive and the copy of the redo log in it.
func (b *backup) followRedo(ctx context.Context) error {
	if err := b.sequence.openRedo(b); err != nil {
		return err
	}
	b.copier.since = b.follower.End
	if err := b.sendArchiveHeader(); err != nil {
		return err
	}
	var err error
	if b.redoFile, err = b.archive.create(b.sequence.redoName); err != nil {
		return err
	}
	b.follower.Start(ctx, b.redoFile, b.opt.Tool, b.fail)
	b.watcher.start(ctx, b)
	return nil
}

// copyTablespaces copies the tablespaces that there are.
func (b *backup) copyTablespaces(ctx context.Context) error {
	list, err := b.list(ctx)
	if err != nil {
		return err
	}
	system, err := b.systemFiles(ctx)
	if err != nil {
		return err
	}
	largestFirst(list.tablespaces)
	return b.copyFiles(ctx, "copying tablespaces", append(system, unopened(list.tablespaces)...))
}

// copyFiles copies tablespaces, in a phase of that name.
func (b *backup) copyFiles(ctx context.Context, phase string, files []*tablespaceFile) error {
	if len(files) == 0 {
		return nil
	}
	var total int64
	for _, t := range files {
		total += t.size
	}
	b.copier.phase = b.opt.Progress.Begin(phase, total)
	return b.copier.copyFiles(ctx, files)
}

// list looks at the databases, and asks the server where it knows more.
func (b *backup) list(ctx context.Context) (*listing, error) {
	list, err := b.layout.list()
	if err != nil || !b.layout.General {
		return list, err
	}
	return list, b.addRemote(ctx, list)
}

// copyRounds bounds how often the databases are listed again for tablespaces
// that appeared, or were changed without redo, while others were copied. Each
// round is shorter than the one before, and what is left for the lock is what
// happened during the last.
const copyRounds = 4

// copyRounds copies what appeared while others were copied.
func (b *backup) copyRounds(ctx context.Context) error {
	for range copyRounds {
		n, err := b.copyNew(ctx)
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// copyNew copies the tablespaces that are in no file of the archive yet, or not
// as they are now, and returns how many there were.
func (b *backup) copyNew(ctx context.Context) (int, error) {
	list, err := b.list(ctx)
	if err != nil {
		return 0, err
	}
	look, err := b.inventory.look(ctx, list.tablespaces)
	if err != nil {
		return 0, err
	}
	return b.copyMissing(ctx, look)
}

func (b *backup) copyMissing(ctx context.Context, look found) (int, error) {
	if err := b.voidUnlogged(); err != nil {
		return 0, err
	}
	var missing []*tablespaceFile
	for _, t := range look.files {
		if !b.registry.has(t.spaceFile()) {
			missing = append(missing, t)
		}
	}
	return len(missing), b.copyFiles(ctx, "copying changed tablespaces", missing)
}

// flushLogs has the redo log written out now, so that little is left to be
// written under the lock. From here on the server is asked for nothing but what
// the backup needs.
func (b *backup) flushLogs(ctx context.Context) error {
	b.watcher.rest()
	return b.srv.FlushEngineLogs(ctx)
}

// finishRedo waits for the redo up to the LSN that the server reported.
func (b *backup) finishRedo(ctx context.Context) error {
	b.opt.Progress.Begin("waiting for the redo log", 0)
	return b.follower.Finish(ctx, b.end)
}

// sendRest sends what was held in hand under the lock, and ends the archive.
func (b *backup) sendRest(ctx context.Context) error {
	b.stage.phase = b.opt.Progress.Begin("sending other files", b.stage.size())
	if err := b.stage.send(ctx, b.archive); err != nil {
		return err
	}
	newest, err := b.follower.Newest()
	if err != nil {
		return err
	}
	b.newest = min(newest.LSN, b.end)
	if _, err := b.follower.Drain(ctx, b.opt.Progress.Begin("sending the redo log", b.follower.Pending())); err != nil {
		return err
	}
	if err := b.redoFile.Close(); err != nil {
		return err
	}
	b.opt.Progress.Begin("sending the manifest", 0)
	if err := b.sendMetadata(ctx); err != nil {
		return err
	}
	return b.archive.w.Close()
}
