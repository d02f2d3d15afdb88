package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"

	"hb/sink/replay"
	"hb/sink/replay/mariadb"
	"hb/source/innodb"
	"hb/source/innodb/redolog"
	"hb/xbstream/metadata"
)

// DefaultMemory is what Apply uses of memory unless told, in bytes.
const DefaultMemory = 256 << 20

// ApplyOptions are how Apply works. The zero value is usable.
type ApplyOptions struct {
	// Parallel is the number of pages batches recovered at a time; 0: as many
	// as there are processors.
	Parallel int
	// Memory is about how many bytes of memory to use; 0: DefaultMemory. What
	// does not fit goes to a temporary file in the directory.
	Memory int64
	// Tool is named as the creator of the new redo log: "hb 1.0".
	Tool string
}

// ApplyResult is what Apply did.
type ApplyResult struct {
	// AlreadyApplied: the directory was recovered before, by hb or another
	// tool, and nothing was done.
	AlreadyApplied bool
	FromLSN        innodb.LSN // where the redo begins
	LSN            innodb.LSN // of the directory now
	MTRs           uint64     // mini-transactions read
	Runs           uint64     // groups of records for one page in them
	Pages          uint64     // written
	Spilled        int64      // bytes that went through a temporary file
	Resumed        bool       // an earlier run was interrupted
	Warnings       []string
}

// NotBackupError says that a directory is not one that Apply can work on.
type NotBackupError struct {
	Dir  string
	What string // what it is, or lacks, and what to do
}

func (e *NotBackupError) Error() string { return e.Dir + ": " + e.What }

// applier is one call of Apply.
type applier struct {
	ApplyOptions
	dir    string
	root   *os.Root
	backup *backupDir
	result ApplyResult
}

// Apply recovers an extracted backup of MariaDB, hb's or mariadb-backup's: it
// replays the redo log that was copied with the pages, and leaves the directory
// so that a server of that series starts on it. Rolling back transactions that
// were not committed is the server's business at its start.
//
// It is idempotent: killed at any point and run again, it ends in the same
// bytes. On an error nothing is promised of the directory but that running it
// again is safe.
func Apply(ctx context.Context, dir string, o ApplyOptions) (_ *ApplyResult, err error) {
	if o.Parallel <= 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &NotBackupError{dir, "there is no such directory"}
	}
	if err != nil {
		return nil, fmt.Errorf("opening the backup directory: %w", err)
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	a := &applier{ApplyOptions: o, dir: dir, root: root}
	if err := a.run(ctx); err != nil {
		return nil, err
	}
	return &a.result, nil
}

func (a *applier) run(ctx context.Context) (err error) {
	if a.backup, err = readBackupDir(a.dir, a.root); err != nil {
		return err
	}
	unlock, err := lockSystemTablespace(a.root, a.backup.systemFiles[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	st, err := readState(a.root)
	if err != nil {
		return err
	}
	a.result.Resumed = st.Stage != ""
	if st.Stage == "" {
		if done, err := a.alreadyApplied(); done || err != nil {
			return err
		}
	}
	if st.Stage != stageFinish {
		if st, err = a.replay(ctx); err != nil {
			return err
		}
	}
	a.result.LSN = st.End
	return a.finish(st)
}

// alreadyApplied recognises a directory that was recovered, and that nothing
// has to be done to.
func (a *applier) alreadyApplied() (bool, error) {
	b := a.backup
	if b.checkpoints.BackupType != metadata.LogApplied && b.checkpoints.BackupType != metadata.Prepared {
		return false, nil
	}
	log, err := mariadb.OpenLog(a.root, 0)
	if errors.Is(err, redolog.ErrEmptyLog) {
		a.result.AlreadyApplied = true
		a.result.LSN = b.checkpoints.LastLSN
		return true, nil
	}
	if foreign, ok := errors.AsType[*mariadb.ForeignLogError](err); ok {
		return false, &NotBackupError{a.dir, fmt.Sprintf("this backup was recovered already, and a server (%s) has run on it since", foreign.Creator)}
	}
	if err != nil {
		return false, err
	}
	lsn, clean := log.Clean()
	if err := log.Close(); err != nil {
		return false, err
	}
	if !clean {
		return false, &NotBackupError{a.dir, fmt.Sprintf("%s says that it was recovered, but its redo log was not: restore it again", b.checkpointsName)}
	}
	a.result.AlreadyApplied, a.result.LSN = true, lsn
	return true, nil
}

// Shares of the memory limit: entries of the plan, and the part of the redo log
// that is mapped. The rest is for workers and the runtime.
const (
	planShare = 2 // of 4
	logShare  = 1
)

// replay brings the pages up to the end of the redo log.
func (a *applier) replay(ctx context.Context) (_ state, err error) {
	b := a.backup
	log, err := mariadb.OpenLog(a.root, a.Memory/4*logShare)
	if errors.Is(err, redolog.ErrEmptyLog) {
		return state{}, &NotBackupError{a.dir, "the redo log is empty, but the backup was not recovered yet: extract it again"}
	}
	if err != nil {
		return state{}, a.explain(err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	if err := writeState(a.root, state{Stage: stageReplay}); err != nil {
		return state{}, err
	}
	id := replay.Identity{From: log.Checkpoint.LSN, To: b.checkpoints.LastLSN}
	if n, err := replay.RestoreDoublewrite(a.root, id); err != nil {
		return state{}, err
	} else if n > 0 {
		a.result.Resumed = true
	}
	if err := fixUp(a.root); err != nil {
		return state{}, err
	}

	plan := replay.NewPlan(a.dir, a.Memory/4*planShare)
	defer func() { err = errors.Join(err, plan.Close()) }()
	scanned, err := log.Scan(plan, b.checkpoints.ToLSN, b.checkpoints.LastLSN, b.exact(log.Header.Format))
	if err != nil {
		return state{}, err
	}
	if err := ctx.Err(); err != nil {
		return state{}, context.Cause(ctx)
	}
	spaces, err := findTablespaces(a.root, b, &scanned.Files)
	if err != nil {
		return state{}, err
	}
	if err := spaces.resolve(plan.Spaces()); err != nil {
		return state{}, err
	}
	done, err := replay.Recover(ctx, plan, replay.Options{
		Root: a.root, Dialect: log, Identity: id, PageSize: b.pageSize, End: scanned.End,
		Parallel:   min(a.Parallel, max(1, int(a.Memory/4/replay.WorkerMemory))),
		Tablespace: spaces.byID,
	})
	if err != nil {
		return state{}, err
	}
	if err := replay.SetSizes(a.root, plan, spaces.all); err != nil {
		return state{}, err
	}
	if err := spaces.rename(a.root); err != nil {
		return state{}, err
	}
	r := &a.result
	r.FromLSN, r.MTRs, r.Runs, r.Pages = log.Checkpoint.LSN, scanned.MTRs, plan.Runs(), done.Pages
	r.Spilled = plan.Spilled()
	r.Warnings = slices.Concat(r.Warnings, spaces.warnings)
	if scanned.Torn {
		r.Warnings = append(r.Warnings, fmt.Sprintf("the redo log ends in a part of a mini-transaction after LSN %d, which was left out", scanned.End))
	}
	if err := syncTree(a.root); err != nil {
		return state{}, err
	}
	return state{Stage: stageFinish, End: scanned.End, Format: uint8(log.Header.Format)}, nil
}

// explain adds what to do to errors about the redo log.
func (a *applier) explain(err error) error {
	if foreign, ok := errors.AsType[*mariadb.ForeignLogError](err); ok {
		return &NotBackupError{a.dir, foreign.Error()}
	}
	return err
}
