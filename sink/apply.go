package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"slices"

	"hb/sink/replay"
	"hb/source/innodb"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/metadata"
)

// DefaultMemory is what Apply uses of memory unless told, in bytes.
const DefaultMemory = 256 << 20

// ApplyOptions are how Apply works. The zero value is usable.
type ApplyOptions struct {
	// Parallel is the number of pages batches recovered at a time; 0: as many
	// as there are processors.
	Parallel int
	// Memory is about how many bytes of memory to use; 0: DefaultMemory. Redo
	// that does not fit goes to a temporary file in the directory, which takes
	// up to one and a half times the redo log's size.
	Memory int64
	// Tool is named as the creator of the new redo log: "hb 1.0".
	Tool string
	// ByServer: nothing is replayed. The redo log goes where the server looks
	// for it, and the server recovers the directory when it is started.
	ByServer bool
	// Progress is told how far the work is; nil: nobody looks.
	Progress *progress.Meter
}

// ApplyResult is what Apply did.
type ApplyResult struct {
	// AlreadyApplied: the directory was recovered before, by hb or another
	// tool, or made ready for recovery by the server, and nothing was done.
	AlreadyApplied bool
	FromLSN        innodb.LSN // where the redo begins
	LSN            innodb.LSN // of the directory now
	MTRs           uint64     // mini-transactions read
	Runs           uint64     // groups of records for one page in them
	Pages          uint64     // written
	Spilled        int64      // bytes that went through a temporary file
	Resumed        bool       // an earlier run was interrupted
	ReadAhead      bool       // the redo log was read while it arrived, by Restore
	Warnings       []string
}

// fill sets what is not set.
func (o *ApplyOptions) fill() {
	if o.Parallel <= 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
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
	dir      string
	root     disk.Dir
	backup   *backupDir
	family   family
	verified bool       // the manifest was compared with the files just now
	fresh    bool       // the files were written just now, by Restore
	ahead    *readAhead // reads the redo log meanwhile; or nil
	result   ApplyResult
}

// Apply recovers an extracted backup of MariaDB or MySQL, hb's, mariadb-backup's
// or XtraBackup's: it replays the redo log that was copied with the pages, and
// leaves the directory so that a server of that series starts on it. Rolling back transactions that
// were not committed is the server's business at its start.
//
// Before it changes anything, all files of a backup of hb's are compared with its
// manifest. What is wrong with a backup is a *DamageError or a *MissingError; a
// directory that is none, or in use, a *NotBackupError.
//
// It is idempotent: killed at any point and run again, it ends in the same
// bytes. On an error nothing is promised of the directory but that running it
// again is safe.
func Apply(ctx context.Context, dir string, o ApplyOptions) (*ApplyResult, error) {
	return applyOn(ctx, disk.OS, dir, o)
}

func applyOn(ctx context.Context, system disk.System, dir string, o ApplyOptions) (_ *ApplyResult, err error) {
	o.fill()
	root, err := openBackup(system, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	a := &applier{ApplyOptions: o, dir: dir, root: root, ahead: newReadAhead(ctx, root, o.planMemory())}
	defer func() { err = errors.Join(err, a.ahead.Close()) }()
	if err := a.run(ctx); err != nil {
		return nil, err
	}
	return &a.result, nil
}

func (a *applier) run(ctx context.Context) (err error) {
	if err := a.open(); err != nil {
		return err
	}
	unlock, err := lockSystemTablespace(a.root, a.backup.systemFiles[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	st, err := readState(a.root, ApplyingName, a.backup.flavor)
	if err != nil {
		return err
	}
	a.result.Resumed = st.Stage != ""
	if st.Stage == "" {
		if a.backup.held() { // all was done but this
			if err := a.backup.release(a.root); err != nil {
				return err
			}
		}
		lsn, done, err := a.done()
		if done || err != nil {
			a.result.AlreadyApplied, a.result.LSN = done, lsn
			return err
		}
		if err := a.compare(ctx); err != nil {
			return err
		}
	}
	switch {
	case a.ByServer && st.Stage != stageFinish:
		return badBackup(ctx, a.byServer(ctx, st))
	case st.Stage == stageServer:
		return &NotBackupError{a.dir, "it was being made ready for recovery by the server: go on with --by-server"}
	case st.Stage != stageFinish:
		if st, err = a.replay(ctx); err != nil {
			return badBackup(ctx, err)
		}
	}
	a.result.LSN = st.End
	return a.finish(st)
}

// compare compares the files of a backup of hb's with its manifest, and has the
// redo log read meanwhile, which takes one processor. What the files hold is not
// read again where they were written just now.
func (a *applier) compare(ctx context.Context) error {
	if !a.backup.own || a.verified {
		return nil
	}
	files, listed, err := checkNames(a.root)
	if err != nil || a.fresh {
		return err
	}
	// Not before the names: it makes a file, for a moment.
	a.ahead.whole(a.backup.archive, listed)
	if err := readFiles(ctx, a.root, files, a.workers(readSegment), a.Progress); err != nil {
		return err
	}
	return matchContent(files, listed)
}

// done reports whether nothing has to be done to the directory, and of which LSN
// it is, or will be once a server has recovered it.
func (a *applier) done() (innodb.LSN, bool, error) {
	st, err := readState(a.root, HandedOverName, a.backup.flavor)
	if err != nil {
		return 0, false, err
	}
	if st.Stage != "" {
		return st.End, true, a.family.checkHandedOver(st)
	}
	return a.family.alreadyApplied()
}

// open reads what the backup is.
func (a *applier) open() (err error) {
	if a.backup, err = readBackupDir(a.root); err != nil {
		return err
	}
	a.family = &mariadbFamily{applier: a}
	if a.backup.flavor == metadata.FlavorMySQL {
		a.family = &mysqlFamily{applier: a}
	}
	return nil
}

// redo is a backup's redo log and what was read of it.
type redo struct {
	redoLog
	plan    *replay.Plan
	scanned *replay.Scanned // after look
}

// Shares of the memory limit, in eighths: what the plan holds and what workers
// have, those that compare files first, then those that recover pages. Merging what
// the plan put aside comes out of what is left.
const (
	planShare   = 5
	workerShare = 2
)

// planMemory is how much of memory the plan holds, in bytes.
func (o *ApplyOptions) planMemory() int64 { return o.Memory / 8 * planShare }

// workers is how many workers there are that take so many bytes each.
func (o *ApplyOptions) workers(each int64) int {
	return min(o.Parallel, max(1, int(o.Memory/8*workerShare/each)))
}

func (a *applier) openRedo() (*redo, error) {
	log, err := a.family.openLog()
	if err != nil {
		return nil, err
	}
	return &redo{redoLog: log, plan: replay.NewPlan(a.root, a.planMemory())}, nil
}

// Close ends the use of the log.
func (r *redo) Close() error { return errors.Join(r.plan.Close(), r.redoLog.Close()) }

// replay brings the pages up to the end of the redo log.
func (a *applier) replay(ctx context.Context) (_ state, err error) {
	r, err := a.openRedo()
	if err != nil {
		return state{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := a.enter(state{Stage: stageReplay}); err != nil {
		return state{}, err
	}
	id := replay.Identity{From: r.Start(), To: a.backup.checkpoints.LastLSN}
	if n, err := replay.RestoreDoublewrite(a.root, id); err != nil {
		return state{}, err
	} else if n > 0 {
		a.result.Resumed = true
	}
	spaces, err := a.look(ctx, r)
	if err != nil {
		return state{}, err
	}
	if err := a.recoverPages(ctx, r, id, spaces); err != nil {
		return state{}, err
	}
	a.Progress.Begin("syncing directories", 0)
	if err := syncTree(a.root); err != nil {
		return state{}, err
	}
	if err := a.family.complete(spaces); err != nil {
		return state{}, err
	}
	return a.family.recovered(r.scanned)
}

// look settles what the files are called, reads the log, and finds the
// tablespaces that it changes.
func (a *applier) look(ctx context.Context, r *redo) (*tablespaces, error) {
	if err := a.checkRange(r); err != nil {
		return nil, err
	}
	if err := a.family.fixUp(); err != nil {
		return nil, err
	}
	if err := a.scan(r); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	a.result.FromLSN, a.result.MTRs, a.result.Runs = r.Start(), r.scanned.MTRs, r.plan.Runs()
	if r.scanned.Torn {
		a.result.Warnings = append(a.result.Warnings, fmt.Sprintf("the redo log ends in a part of a mini-transaction after LSN %d, which was left out", r.scanned.End))
	}
	spaces, err := findTablespaces(a.root, a.backup, a.family.rules(), &r.scanned.Files)
	if err == nil {
		err = spaces.resolve(r.plan.Spaces())
	}
	if err == nil {
		err = spaces.checkDeferred(r.plan)
	}
	return spaces, err
}

// scan reads the log into its plan, unless that was done already.
func (a *applier) scan(r *redo) (err error) {
	goal := a.family.goal()
	if a.ahead != nil {
		if a.ahead.log != nil {
			a.Progress.Enter(a.ahead.log.phase)
		}
		plan, scanned, err := a.ahead.take(goal)
		if err != nil {
			return err
		}
		if plan != nil {
			r.plan, r.scanned, a.result.ReadAhead = plan, scanned, a.fresh
		}
	}
	for id, lsn := range a.backup.replayFrom() {
		r.plan.Discard(id, lsn)
	}
	if r.scanned == nil {
		goal.Read = a.Progress.Begin(readingLog, int64(goal.Target)-int64(r.Start()))
		if r.scanned, err = r.Scan(r.plan, goal); err == nil {
			err = r.plan.Settle() // what was put aside last may have failed
		}
	}
	return err
}

// checkRange makes sure that the redo log is the one that the manifest speaks
// of.
func (a *applier) checkRange(r *redo) error {
	m, c := a.backup.manifest, a.backup.checkpoints
	if m == nil || m.FromLSN == r.Start() && m.LastLSN == c.LastLSN {
		return nil
	}
	return &DamageError{Err: fmt.Errorf("the redo log is from LSN %d, to %d as %s says, but the manifest says from %d to %d",
		r.Start(), c.LastLSN, a.backup.checkpointsName, m.FromLSN, m.LastLSN)}
}

// recoverPages applies the plan to the tablespaces and settles their sizes and
// names.
func (a *applier) recoverPages(ctx context.Context, r *redo, id replay.Identity, spaces *tablespaces) error {
	done, err := replay.Recover(ctx, r.plan, replay.Options{
		Root: a.root, Dialect: r, Identity: id, PageSize: a.backup.pageSize, End: r.scanned.End,
		Checksum:   a.backup.checksum,
		Parallel:   a.workers(replay.WorkerMemory),
		Tablespace: spaces.byID,
		Progress:   a.Progress.Begin("recovering pages", r.plan.Size()),
	})
	if err != nil {
		return err
	}
	a.result.Pages, a.result.Spilled = done.Pages, r.plan.Spilled()
	if err := replay.SetSizes(a.root, r.plan, spaces.all, spaces.rules.extents); err != nil {
		return err
	}
	err = spaces.settleNames(a.root)
	a.result.Warnings = slices.Concat(a.result.Warnings, spaces.warnings)
	return err
}

// byServer makes the directory one that the server recovers by itself.
func (a *applier) byServer(ctx context.Context, st state) (err error) {
	if st.Stage == stageReplay {
		return &NotBackupError{a.dir, "its redo log was being replayed: go on without --by-server"}
	}
	if st.End == 0 {
		if st, err = a.surveyForServer(ctx); err != nil {
			return err
		}
	}
	if err := a.enter(st); err != nil {
		return err
	}
	a.result.LSN = st.End
	if err := a.family.handOver(); err != nil {
		return err
	}
	if err := writeState(a.root, HandedOverName, st); err != nil {
		return err
	}
	return a.clean()
}

// surveyForServer looks at log and tablespaces as if the one were to be replayed:
// what is missing, the server would not tell.
func (a *applier) surveyForServer(ctx context.Context) (_ state, err error) {
	r, err := a.openRedo()
	if err != nil {
		return state{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if len(a.backup.replayFrom()) > 0 {
		return state{}, &NotBackupError{a.dir, "undo tablespaces may have been truncated during the backup, and a server would apply redo from before: apply it without --by-server"}
	}
	if err := a.enter(state{Stage: stageServer}); err != nil {
		return state{}, err
	}
	spaces, err := a.look(ctx, r)
	if err != nil {
		return state{}, err
	}
	if err := a.family.complete(spaces); err != nil {
		return state{}, err
	}
	a.result.Warnings = slices.Concat(a.result.Warnings, spaces.warnings)
	return state{Stage: stageServer, From: r.Start(), End: r.scanned.End}, a.family.prepareHandOver(spaces, r.scanned)
}

// recoveredBefore is for an archive, which is verified as one that was not.
func (a *applier) recoveredBefore() error {
	return &NotBackupError{a.dir, fmt.Sprintf("%s says that it was recovered before it was archived: extract it, and verify the directory", a.backup.checkpointsName)}
}

// survey looks at a backup as replay does, but leaves its pages alone. It returns
// the LSN where the redo log ends.
func (a *applier) survey(ctx context.Context) (end innodb.LSN, err error) {
	if err := a.open(); err != nil {
		return 0, err
	}
	if _, done, err := a.done(); err != nil {
		return 0, err
	} else if done {
		return 0, a.recoveredBefore()
	}
	r, err := a.openRedo()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	spaces, err := a.look(ctx, r)
	if err != nil {
		return 0, err
	}
	a.result.Warnings = slices.Concat(a.result.Warnings, spaces.warnings)
	return r.scanned.End, a.family.complete(spaces)
}

// needLog explains that a redo log cannot be opened.
func (a *applier) needLog(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &NotBackupError{a.dir, fmt.Sprintf("the redo log %s is missing", name)}
	}
	return err
}
