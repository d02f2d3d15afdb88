// Package source makes an archive of a live server: it copies InnoDB's pages
// while they are written, follows the redo log that makes them consistent, and
// takes what belongs to other engines under a lock as short as it can be.
//
// The order of a backup of MariaDB, which Run is written in:
//
//  1. BACKUP STAGE START, which blocks nothing but other backups.
//  2. The redo follower starts at the newest checkpoint; only then are the
//     tablespaces listed. All that is written from here on is either on the
//     pages that are copied or in the redo that is followed.
//  3. All tablespaces are copied, the files of other engines go to the stage,
//     and then, while DDL goes on, tablespaces that appeared meanwhile are copied.
//  4. BACKUP STAGE BLOCK_DDL: what appeared at last is copied, files of other
//     engines that changed are staged again. Transactions go on.
//  5. BACKUP STAGE BLOCK_COMMIT: binary log position, LSN, the tail of the Aria
//     log, log and statistics tables.
//  6. BACKUP STAGE END. The redo up to that LSN is waited for: a server with
//     innodb_flush_log_at_trx_commit=0 writes it to the file only once a second,
//     whatever is flushed. Then tablespaces are settled (settle.go), and what is
//     staged and spooled goes into the archive, then fix-ups, metadata and the
//     manifest.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"hb/source/innodb"
	"hb/source/mysqld"
	"hb/source/redo"
	"hb/source/spool"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// Options say how to make a backup.
type Options struct {
	Parallel    int    // readers, 1 to 64
	Tmpdir      string // where redo and staged files are spooled that memory does not hold
	Datadir     string // where the server's data directory is seen from here; empty: where it says
	SlaveInfo   bool   // record the position of the server's own replication
	GaleraInfo  bool   // record the Galera position
	Tool        string // name of the program, for metadata
	ToolVersion string
	Compressed  bool // what the stages behind out do, for metadata
	Encrypted   bool
	Command     string // the command line without secrets, for metadata

	// Pace is asked before so many bytes of a tablespace are read, and may
	// wait; nil: full speed. Redo is never slowed down.
	Pace func(ctx context.Context, bytes int) error
}

// Result is what a finished backup has to tell.
type Result struct {
	Manifest metadata.Manifest
	Stages   []mysqld.StageTime
	Bytes    int64 // of the archive, before compression
}

// maxParallel bounds the readers, each of which has a buffer of segmentSize.
const maxParallel = 64

// stageMemory is how many bytes of staged files are kept in memory.
const stageMemory = 16 << 20

// backup is one run.
type backup struct {
	opt      Options
	srv      *mysqld.Server
	layout   Layout
	pageSize int
	started  time.Time

	archive   *archive
	registry  *registry
	copier    *copier
	inventory *inventory
	follower  *redo.Follower
	redoFile  *archiveFile
	stage     *stage
	stages    *mysqld.Stages

	position  *metadata.BinlogPos // nil: the binary log is off
	slave     mysqld.ReplicaState
	galera    *mysqld.GaleraState  // nil: not asked for, or no cluster
	end       innodb.LSN           // the LSN that the server reported under the lock
	newest    innodb.LSN           // newest checkpoint when following ended
	last      found                // the tablespaces under the lock
	now       map[spaceFile]string // and their final names
	databases []string
	manifest  metadata.Manifest
}

// Run backs srv up into out. When it returns nil the archive is complete; after
// an error what was written has no valid end. Locks are released in any case.
func Run(ctx context.Context, srv *mysqld.Server, out io.Writer, opt Options) (_ *Result, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	b, err := newBackup(srv, out, opt)
	if err != nil {
		cancel(err)
		return nil, err
	}
	defer func() {
		cancel(err)
		err = b.close(err)
	}()
	if err := b.run(ctx, cancel); err != nil {
		// The first failure, which ended the context, says more than what
		// followed from it.
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	return b.result()
}

func newBackup(srv *mysqld.Server, out io.Writer, opt Options) (*backup, error) {
	layout, err := newLayout(srv.Vars, opt.Datadir)
	if err != nil {
		return nil, err
	}
	b := &backup{
		opt: opt, srv: srv, layout: layout, started: time.Now(),
		archive:   &archive{w: xbstream.NewWriter(out)},
		registry:  newRegistry(),
		inventory: newInventory(),
		stage:     newStage(spool.New(opt.Tmpdir, stageMemory)),
		stages:    srv.Stages(),
	}
	if b.pageSize, err = srv.Vars.PageSize(); err != nil {
		return nil, err
	}
	b.stage.mapped = srv.Vars.Bool("myisam_use_mmap")
	b.copier = &copier{create: b.archive.output, registry: b.registry, parallel: min(max(1, opt.Parallel), maxParallel), wait: opt.Pace}
	return b, nil
}

// newLayout finds the server's files, below datadir instead of the place that
// the server names where that is given.
func newLayout(v mysqld.Vars, datadir string) (Layout, error) {
	seen := func(path string) string {
		if rel, ok := strings.CutPrefix(path+"/", v.Datadir()+"/"); ok && datadir != "" {
			return filepath.Join(datadir, rel)
		}
		return path
	}
	system, err := v.SystemFiles()
	if err != nil {
		return Layout{}, err
	}
	for i := range system {
		system[i] = seen(system[i])
	}
	return Layout{
		Datadir: seen(v.Datadir()), System: system,
		UndoDir: seen(v.UndoDir()), RedoDir: seen(v.LogDir()), AriaLogDir: seen(v.AriaLogDir()),
		IgnoreDirs: v.IgnoredDirs(),
	}, nil
}

// close ends everything that may still run or be held after an error, and
// keeps that error first.
func (b *backup) close(err error) error {
	if err != nil {
		b.archive.w.Abort(err)
	}
	others := b.stages.Close()
	if b.follower != nil {
		others = errors.Join(others, b.follower.Close())
	}
	others = errors.Join(others, b.stage.spool.Close())
	if err != nil {
		return err
	}
	return others
}

func (b *backup) run(ctx context.Context, fail context.CancelCauseFunc) error {
	if err := b.preflight(ctx); err != nil {
		return err
	}
	if err := b.enter(ctx, mysqld.StageStart); err != nil {
		return err
	}
	if err := b.followRedo(ctx, fail); err != nil {
		return err
	}
	if err := b.copyAhead(ctx); err != nil {
		return err
	}
	// Flushed now, little is left to be flushed under the lock.
	if err := b.srv.FlushEngineLogs(ctx); err != nil {
		return err
	}
	if err := b.enter(ctx, mysqld.StageBlockDDL); err != nil {
		return err
	}
	if err := b.underBlockDDL(ctx); err != nil {
		return err
	}
	if err := b.enter(ctx, mysqld.StageBlockCommit); err != nil {
		return err
	}
	if err := b.underBlockCommit(ctx); err != nil {
		return err
	}
	if err := b.stages.End(ctx); err != nil {
		return err
	}
	return b.sendRest(ctx)
}

func (b *backup) enter(ctx context.Context, stage mysqld.Stage) error {
	if err := b.stages.Enter(ctx, stage); err != nil {
		return fmt.Errorf("entering backup stage %v: %w", stage, err)
	}
	return nil
}

// followRedo begins the archive and the copy of the redo log in it.
func (b *backup) followRedo(ctx context.Context, fail context.CancelCauseFunc) error {
	var err error
	if b.follower, err = redo.Open(b.layout.RedoDir, b.opt.Tmpdir, b.srv.LSNs); err != nil {
		return err
	}
	if err := b.sendArchiveHeader(); err != nil {
		return err
	}
	if b.redoFile, err = b.archive.create("ib_logfile0"); err != nil {
		return err
	}
	b.follower.Start(ctx, b.redoFile, b.opt.Tool, fail)
	return nil
}

// aheadRounds bounds how often the databases are listed again for tablespaces
// that appeared while others were copied. Each round is shorter than the one
// before, and what is left for the lock is what appeared during the last.
const aheadRounds = 4

// copyAhead copies whatever can be copied while DDL and writers go on.
func (b *backup) copyAhead(ctx context.Context) error {
	list, err := b.layout.list()
	if err != nil {
		return err
	}
	system, err := b.systemFiles(ctx)
	if err != nil {
		return err
	}
	largestFirst(list.tablespaces)
	if err := b.copier.copyFiles(ctx, append(system, unopened(list.tablespaces)...)); err != nil {
		return err
	}
	if list, err = b.layout.list(); err != nil {
		return err
	}
	if err := b.stageAhead(ctx, list); err != nil {
		return err
	}
	for range aheadRounds {
		n, err := b.copyNew(ctx)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	return nil
}

// stageAhead stages the files of other engines, Aria's control file first: it
// names the point in the Aria log where recovery begins, so that nothing that
// is copied after it may be older.
func (b *backup) stageAhead(ctx context.Context, list *listing) error {
	control, logs, err := b.layout.ariaFiles()
	if err != nil {
		return err
	}
	for _, files := range [][]fileInfo{control, list.others, logs} {
		if err := b.stage.copyAhead(ctx, files); err != nil {
			return err
		}
	}
	return nil
}

// copyNew copies the tablespaces that are in no file of the archive yet and
// returns how many there were.
func (b *backup) copyNew(ctx context.Context) (int, error) {
	list, err := b.layout.list()
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
	var missing []*tablespaceFile
	for _, t := range look.files {
		if !b.registry.has(t.spaceFile()) {
			missing = append(missing, t)
		}
	}
	return len(missing), b.copier.copyFiles(ctx, missing)
}

// underBlockDDL brings tablespaces and the files of other engines to their
// final state, while DDL and the writers of those engines wait.
func (b *backup) underBlockDDL(ctx context.Context) error {
	list, err := b.layout.list()
	if err != nil {
		return err
	}
	if err := b.stage.refresh(ctx, list.others, anyFile); err != nil {
		return err
	}
	if b.last, err = b.inventory.look(ctx, list.tablespaces); err != nil {
		return err
	}
	b.databases = list.databases
	b.copier.create, b.copier.wait = b.stage.output, nil
	_, err = b.copyMissing(ctx, b.last)
	return err
}

// underBlockCommit takes the position, and all that only this lock holds still.
// Here every microsecond counts: no commit goes through.
func (b *backup) underBlockCommit(ctx context.Context) (err error) {
	b.follower.Hold()
	if err := b.takePosition(ctx); err != nil {
		return err
	}
	if b.end, err = b.srv.CurrentLSN(ctx); err != nil {
		return err
	}
	if err := b.srv.FlushEngineLogs(ctx); err != nil {
		return err
	}
	return b.stageLast(ctx)
}

// takePosition records where in the binary logs the backup stands.
func (b *backup) takePosition(ctx context.Context) error {
	var err error
	if b.position, err = b.srv.BinlogPosition(ctx); err != nil {
		return err
	}
	if b.opt.SlaveInfo {
		if b.slave, err = b.srv.ReplicaState(ctx); err != nil {
			return err
		}
	}
	if b.opt.GaleraInfo {
		galera, on, err := b.srv.GaleraState(ctx)
		if err != nil {
			return err
		}
		if on {
			b.galera = &galera
		}
	}
	return nil
}

// stageLast stages what is written until commits are blocked: the log and
// statistics tables, and at the very end the Aria log, which then holds every
// change to the crash-safe Aria tables that were staged before.
func (b *backup) stageLast(ctx context.Context) error {
	late, err := b.layout.lateFiles()
	if err != nil {
		return err
	}
	if err := b.stage.refresh(ctx, late, isLateFile); err != nil {
		return err
	}
	_, logs, err := b.layout.ariaFiles()
	if err != nil {
		return err
	}
	return b.stage.refresh(ctx, logs, ariaLogName.MatchString)
}

// sendRest sends what was held in hand under the lock, and ends the archive.
func (b *backup) sendRest(ctx context.Context) error {
	if err := b.follower.Finish(ctx, b.end); err != nil {
		return err
	}
	if err := b.settle(); err != nil {
		return err
	}
	if err := b.stage.send(ctx, b.archive); err != nil {
		return err
	}
	newest, err := b.follower.Newest()
	if err != nil {
		return err
	}
	b.newest = min(newest.LSN, b.end)
	if _, err := b.follower.Drain(ctx); err != nil {
		return err
	}
	if err := b.redoFile.Close(); err != nil {
		return err
	}
	if err := b.sendMetadata(ctx); err != nil {
		return err
	}
	return b.archive.w.Close()
}
