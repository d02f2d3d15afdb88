// Package apply recovers a directory that a backup was extracted into: a backup comes
// in, and a directory that a server starts on comes out. [Run] does it; [Ahead] reads
// the redo log while the archive arrives; [Inspect], [Survey] and [Rehearse] are for
// verifying a directory: they find out what Run would do with it.
//
// What both server families share is here; what differs is in the two families, and
// the redo records are replayed by package replay.
package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// DefaultMemory is Run's default memory limit, in bytes.
const DefaultMemory = 256 << 20

// Options are how Run works. The zero value is usable.
type Options struct {
	// Parallel is the number of pages batches recovered at a time; 0: as many
	// as there are processors.
	Parallel int `type:"count" help:"Number of workers, as far as --memory allows (default: processors)." placeholder:"N"`
	// Memory is about how many bytes of memory to use; 0: DefaultMemory. Redo
	// that does not fit goes to a temporary file in the directory, which takes
	// up to one and a half times the redo log's size.
	Memory int64 `type:"size" help:"Memory for redo records (default 256MiB); more records are sorted on disk." placeholder:"SIZE"`
	// InPlace: the server of the backup is stopped, and the directory takes its
	// place. Old tablespaces outside the directory are set aside.
	InPlace bool `help:"Restore over the original server, which must be stopped. Rename its old tablespaces outside the data directory, and its binary log if that is outside, to FILE.hb-aside."`
	// ByServer: nothing is replayed. The redo log goes where the server looks
	// for it, and the server recovers the directory when it is started.
	ByServer       bool `help:"Do not replay. Put the redo log where a server of that series looks for it, so that the server recovers the directory when it starts."`
	KeyringOptions `group:"Encryption at rest"`
	// LogBin is log_bin of the server that will start on the directory: where the
	// binary log that came with a backup goes. Empty: in the directory, as the backup
	// has it, unless the backed up server had it elsewhere; then it must be given.
	LogBin string `help:"log_bin of the server that will start on the directory: put the binary log of the backup there, with its index (default: in the directory; required if the original server kept it elsewhere)." placeholder:"PATH"`

	// Keys are those of what is encrypted; nil: there are none.
	Keys *keyring.Keys `kong:"-"`
	// Identities open the keys that the backup itself has (keyring.SealedName); nil: only
	// Keys are used.
	Identities func() ([]age.Identity, error) `kong:"-"`
	// Tool is named as the creator of the new redo log: "hb 1.0".
	Tool string `kong:"-"`
	// Progress counts what is done; nil: nobody looks.
	Progress *progress.Tracker `kong:"-"`
	// System is the files that directories are among; nil: the operating system's.
	System disk.System `kong:"-"`
	// Scratch: tables are to be taken out of the directory, which has not the others. No
	// warning is about those, or about a server that would start on it.
	Scratch bool `kong:"-"`
	// PassOver tells the tablespaces that the directory is known to leave out, before its
	// manifest is there: their redo is not kept. nil: all is.
	PassOver func(innodb.SpaceID) bool `kong:"-"`
}

// KeyringOptions are the keys for the server that will start on the directory.
type KeyringOptions struct {
	// WriteKeyring is a new file for the keys that the server needs; "": none.
	WriteKeyring string `help:"Write the keys of the backup to this new file, for the server that will start on the directory: a file of component_keyring_file (MySQL) or of file_key_management (MariaDB)." placeholder:"FILE" type:"path"`
	// KeyringFormat is that of WriteKeyring on MySQL.
	KeyringFormat keyring.Format `help:"Format of --write-keyring on MySQL: component, of component_keyring_file, or plugin, of the plugin keyring_file of 5.7 and 8.0." enum:"component,plugin" default:"component" placeholder:"component|plugin"`
	// NewMasterKey: WriteKeyring has a new master key instead of the old ones, and the
	// tablespaces of MySQL need it.
	NewMasterKey bool `help:"MySQL: encrypt the keys of all tablespaces by a new master key, and give --write-keyring that one instead of the server's."`
}

// Result is what Run did.
type Result struct {
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
	ByServer       bool       // the directory is ready for a server to recover it
	OfRoot         bool       // the files belong to root
	Warnings       []string
	Binlog         *metadata.BinlogPos // of the server that was backed up; nil: the manifest has none, or there is no manifest
}

// Describe describes the result for a directory, and the time that it took.
func (r *Result) Describe(dir string, took time.Duration) string {
	owner := ""
	if r.OfRoot {
		owner = fmt.Sprintf(", once its user owns the files: chown -R mysql: %s", dir)
	}
	switch {
	case r.AlreadyApplied:
		return fmt.Sprintf("%s was applied before: nothing to do", dir)
	case r.ByServer:
		return fmt.Sprintf("the redo log, LSN %d to %d, is where the server looks for it: %s recovers when a server starts on it%s",
			r.FromLSN, r.LSN, dir, owner)
	}
	return fmt.Sprintf("applied redo from LSN %d to %d, %d pages written, in %s; a server can start on %s%s",
		r.FromLSN, r.LSN, r.Pages, took, dir, owner)
}

// Facts are the result for programs.
func (r *Result) Facts() []slog.Attr {
	facts := []slog.Attr{slog.Bool("already_applied", r.AlreadyApplied), slog.Bool("by_server", r.ByServer),
		slog.Uint64("from_lsn", uint64(r.FromLSN)), slog.Uint64("last_lsn", uint64(r.LSN)), slog.Uint64("recovered_pages", r.Pages)}
	if r.Binlog != nil {
		facts = append(facts, slog.Any("binlog", r.Binlog))
	}
	return facts
}

// fill sets defaults.
func (o *Options) fill() {
	if o.Parallel <= 0 {
		o.Parallel = runtime.GOMAXPROCS(0)
	}
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	if o.System == nil {
		o.System = disk.OS
	}
}

// applier is one call of Run.
type applier struct {
	Options
	dir      string
	root     disk.Dir
	backup   *backupdir.Backup
	family   family
	verified bool        // the manifest was compared with the files just now
	fresh    bool        // the files were written just now, by Restore
	ahead    *Ahead      // reads the redo log during the extraction; or nil
	binlog   binlogPlace // if it has files, they are to be put there
	master   string      // the name of the new master key, once there is one
	result   Result
}

// Run recovers an extracted backup of MariaDB or MySQL, hb's, mariadb-backup's or
// XtraBackup's: it replays the redo log that was copied with the pages, and leaves the
// directory so that a server of that series starts on it. Rolling back transactions
// that were not committed is the server's business at its start.
//
// Before it changes anything, all files of a backup of hb's are compared with its
// manifest. A fault of the backup is a *DamageError or a *MissingError; a
// directory that is not a backup, or in use, a *NotBackupError.
//
// It is idempotent: killed at any point and run again, it ends in the same
// bytes. On an error nothing is promised of the directory but that running it
// again is safe.
func Run(ctx context.Context, dir string, o Options) (_ *Result, err error) {
	o.fill()
	root, err := backupdir.Open(o.System, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	a := &applier{Options: o, dir: dir, root: root, ahead: NewAhead(ctx, root, o), result: Result{ByServer: o.ByServer}}
	defer func() { err = errors.Join(err, a.ahead.Close()) }()
	if err := a.run(ctx); err != nil {
		return nil, err
	}
	return &a.result, a.conclude()
}

// conclude is what follows once a server could start.
func (a *applier) conclude() error {
	st, err := a.root.Lstat(a.backup.SystemFiles[0])
	if err != nil {
		return fmt.Errorf("looking whose the files are: %w", err)
	}
	a.result.OfRoot = backupdir.OfRoot(st)
	if err := a.writeKeyring(); err != nil {
		return err
	}
	if a.Scratch {
		return nil
	}
	return a.settleOutside()
}

func (a *applier) run(ctx context.Context) (err error) {
	if err := a.open(); err != nil {
		return err
	}
	unlock, err := backupdir.LockSystem(a.root, a.backup.SystemFiles[0])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()

	st, err := backupdir.ReadState(a.root, backupdir.ApplyingName, a.backup.Flavor)
	if err == nil {
		err = a.checkNewMaster(st)
	}
	if err == nil {
		err = a.checkLinks()
	}
	if err == nil {
		err = a.checkOutside()
	}
	if err != nil {
		return err
	}
	a.result.Resumed = st.Stage != ""
	if st.Stage == "" {
		lsn, done, err := a.done()
		if err == nil && a.backup.Held() {
			err = a.endHeld(done)
		}
		if done || err != nil {
			a.result.AlreadyApplied, a.result.LSN = done, lsn
			if err == nil {
				err = a.checkRewrapped()
			}
			if err == nil {
				err = a.warnAgain()
			}
			return err
		}
		if err := a.compare(ctx); err != nil {
			return err
		}
	}
	if err := a.findBinlog(); err != nil {
		return err
	}
	switch {
	case a.ByServer && st.Stage != backupdir.StageFinish:
		return backupdir.AsDamage(ctx, a.byServer(ctx, st))
	case st.Stage == backupdir.StageServer && st.Looked:
		return &backupdir.NotBackupError{Dir: a.dir, What: "it was being made ready for recovery by the server: go on with --by-server"}
	case st.Stage != backupdir.StageFinish:
		if st, err = a.replay(ctx, st); err != nil {
			return backupdir.AsDamage(ctx, err)
		}
	}
	a.result.LSN = st.End
	a.warnLost(st.Left.Lost)
	if err := a.binlog.fill(); err != nil {
		return err
	}
	return a.finish(st)
}

// compare compares the files of a backup of hb's with its manifest, and has the redo
// log read at the same time, which takes one processor. What the files hold is not
// read again where they were written just now. If files are missing or damaged, the
// error names all of them.
func (a *applier) compare(ctx context.Context) error {
	if !a.backup.Own || a.verified {
		return nil
	}
	files, listed, err := backupdir.CheckNames(a.root)
	if a.fresh || err != nil && !backupdir.OfContent(err) {
		return err
	}
	if err == nil { // not before the names: it makes a file, for a moment
		a.ahead.whole(a.backup.Archive, listed)
	}
	err = errors.Join(err, backupdir.ReadFiles(ctx, a.root, files, a.workers(backupdir.SegmentSize), a.Progress))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(err, backupdir.MatchContent(files, listed))
}

// checkLinks makes sure that no file that is to be changed has a second name: in a
// copy of the backup, or as another table.
func (a *applier) checkLinks() error {
	if a.fresh || a.verified { // made just now, or changes are thrown away
		return nil
	}
	return backupdir.EachFile(a.root, func(file string) error {
		base := path.Base(file)
		switch {
		case a.backup.IsSystem(file), backupdir.UndoFile.MatchString(base), strings.HasPrefix(base, backupdir.MovedPrefix):
		case !slices.Contains([]string{backupdir.ExtTable, backupdir.ExtNew, backupdir.ExtMoved}, path.Ext(base)):
			return nil
		}
		st, err := a.root.Lstat(file)
		if err != nil {
			return fmt.Errorf("looking at %s: %w", file, err)
		}
		names := backupdir.Links(st)
		if a.backup.Held() && (file == a.backup.System || file == a.backup.SystemFiles[0]) {
			// An interrupted run may have been giving it its second name.
			if own, err := a.root.Lstat(a.backup.System); err == nil && os.SameFile(own, st) {
				names--
			}
		}
		if names > 1 && st.Mode().IsRegular() {
			return &backupdir.NotBackupError{Dir: a.dir, What: fmt.Sprintf("%s has %d names (hard links), and hb apply would change the file under all of them: copy the directory without hard links (cp -a, without -l) and apply the copy", file, names)}
		}
		return nil
	})
}

// endHeld ends the work on a directory that is held and has no state file:
// all was done but this, if the directory is done.
func (a *applier) endHeld(done bool) error {
	if done {
		return a.clean()
	}
	return &backupdir.NotBackupError{Dir: a.dir, What: fmt.Sprintf("an earlier hb apply did not finish (%s exists), and %s, which records its progress, is missing: remove the directory and extract the backup again", a.backup.SystemFiles[0], backupdir.ApplyingName)}
}

// done reports whether the directory is already recovered, and of which LSN
// it is, or will be once a server has recovered it.
func (a *applier) done() (innodb.LSN, bool, error) {
	st, err := backupdir.ReadState(a.root, backupdir.HandedOverName, a.backup.Flavor)
	if err != nil {
		return 0, false, err
	}
	if st.Stage != "" {
		return st.End, true, a.family.checkHandedOver(st)
	}
	return a.family.alreadyApplied()
}

// open reads the backup's metadata.
func (a *applier) open() (err error) {
	if a.backup, err = backupdir.Read(a.root); err != nil {
		return err
	}
	if a.backup.Manifest != nil {
		a.result.Binlog = a.backup.Manifest.Binlog
	}
	if err := a.openKeys(); err != nil {
		return err
	}
	if m := a.backup.Manifest; m != nil {
		if err := a.Keys.Expect(m.KeyChecks, m.Encryption.Needs); err != nil {
			return err
		}
	}
	if err := a.Keys.DefaultAlgorithm(keyring.Algorithm(a.backup.KeyAlgorithm)); err != nil {
		return err
	}
	a.family = &mariadbFamily{applier: a}
	if a.backup.Flavor == metadata.FlavorMySQL {
		a.family = &mysqlFamily{applier: a}
	}
	return nil
}

// redo is a backup's redo log and the part that was read of it.
type redo struct {
	redoLog
	plan    *replay.Plan
	scanned *replay.Scanned // after look
}

// Shares of the memory limit, in eighths: for the plan, and for what the workers
// have, those that compare files first, then those that recover pages. Merging what
// the plan put aside comes out of the rest.
const (
	planShare   = 5
	workerShare = 2
)

// planMemory is how much of memory the plan holds, in bytes.
func (o *Options) planMemory() int64 { return o.Memory / 8 * planShare }

// workers is how many workers fit, if each takes so many bytes.
func (o *Options) workers(each int64) int {
	return min(o.Parallel, max(1, int(o.Memory/8*workerShare/each)))
}

// newPlan makes an empty plan, with its temporary file in the directory.
func (o *Options) newPlan(root disk.Dir) *replay.Plan {
	plan := replay.NewPlan(root, o.planMemory())
	plan.PassOver(o.PassOver)
	return plan
}

func (a *applier) openRedo() (*redo, error) {
	log, err := a.family.openLog()
	if err != nil {
		return nil, err
	}
	return &redo{redoLog: log, plan: a.newPlan(a.root)}, nil
}

// Close ends the use of the log.
func (r *redo) Close() error { return errors.Join(r.plan.Close(), r.redoLog.Close()) }

// replay brings the pages up to the end of the redo log.
func (a *applier) replay(ctx context.Context, st backupdir.State) (_ backupdir.State, err error) {
	r, err := a.openRedo()
	if err != nil {
		return backupdir.State{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := a.checkKeys(); err != nil {
		return backupdir.State{}, err
	}
	if err := a.makeMaster(); err != nil {
		return backupdir.State{}, err
	}
	if err := a.enter(backupdir.State{Stage: backupdir.StageReplay, Looked: st.Looked, Cut: st.Cut, Zero: st.Zero}); err != nil {
		return backupdir.State{}, err
	}
	spaces, err := a.look(ctx, r)
	if err != nil {
		return backupdir.State{}, err
	}
	if err := a.keepLooked(st, spaces); err != nil {
		return backupdir.State{}, err
	}
	left, err := a.recoverPages(ctx, r, spaces)
	if err != nil {
		return backupdir.State{}, err
	}
	if err := a.forgetLeftOut(r, spaces); err != nil {
		return backupdir.State{}, err
	}
	a.Progress.Begin("syncing directories", 0)
	if err := backupdir.SyncTree(a.root); err != nil {
		return backupdir.State{}, err
	}
	if err := a.family.complete(spaces); err != nil {
		return backupdir.State{}, err
	}
	if st, err = a.family.recovered(r.scanned); err == nil {
		st.Left = left
	}
	return st, err
}

// identity distinguishes this recovery from others.
func (a *applier) identity(r *redo) replay.Identity {
	return replay.Identity{From: r.Start(), To: a.backup.Checkpoints.LastLSN}
}

// restoreTorn writes the pages that an interrupted run was writing, by the ids in the
// files: that run may have renamed some of them.
func (a *applier) restoreTorn(r *redo) error {
	var found *tablespaces
	n, err := replay.RestoreDoublewrite(a.root, a.identity(r), func(id innodb.SpaceID) (_ *replay.Tablespace, err error) {
		if found == nil {
			found, err = findTablespaces(a.root, a.backup, a.family.rules(), new(replay.Files))
		}
		if err != nil {
			return nil, err
		}
		return found.ids[id], nil
	})
	a.result.Resumed = a.result.Resumed || n > 0
	return err
}

// keepLooked records which files are cut, and which pages are in use and zero, while the
// pages are as they were copied. An interrupted run may have recovered some since: then
// its note counts.
func (a *applier) keepLooked(st backupdir.State, spaces *tablespaces) (err error) {
	if st.Looked {
		spaces.cut, spaces.before = st.Cut, st.Zero
		return nil
	}
	if len(spaces.cut) > maxCut {
		return fmt.Errorf("%d tablespaces are shorter than their page 0 says", len(spaces.cut))
	}
	if spaces.before, err = spaces.listZero(a.root, a.Keys); err != nil {
		return err
	}
	return a.note(backupdir.State{Stage: backupdir.StageReplay, Looked: true, Cut: spaces.cut, Zero: spaces.before})
}

// look settles the files' names, reads the log, and finds the
// tablespaces that it changes.
func (a *applier) look(ctx context.Context, r *redo) (*tablespaces, error) {
	if err := a.checkRange(r); err != nil {
		return nil, err
	}
	if err := a.family.fixUp(); err != nil {
		return nil, err
	}
	if err := a.restoreTorn(r); err != nil {
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
	if err == nil {
		err = spaces.planMoves()
	}
	if err == nil {
		spaces.cut, err = spaces.checkLengths(a.root, r.plan)
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
		plan, scanned, err := a.ahead.Take(goal)
		if err != nil {
			return err
		}
		if plan != nil {
			r.plan, r.scanned, a.result.ReadAhead = plan, scanned, a.fresh
		}
	}
	for id, lsn := range a.backup.ReplayFrom() {
		if err := r.plan.Discard(id, lsn); err != nil {
			return err
		}
	}
	if r.scanned == nil {
		goal.Read = a.Progress.Begin(readingLog, int64(goal.Target)-int64(r.Start()))
		if r.scanned, err = r.Scan(r.plan, goal); err == nil {
			err = r.plan.Settle() // the last write of runs may have failed
		}
	}
	return err
}

// checkRange makes sure that the redo log is the one that the manifest speaks
// of.
func (a *applier) checkRange(r *redo) error {
	m, c := a.backup.Manifest, a.backup.Checkpoints
	if m == nil || m.FromLSN == r.Start() && m.LastLSN == c.LastLSN {
		return nil
	}
	return &backupdir.DamageError{Err: fmt.Errorf("the redo log begins at LSN %d and ends at %d by %s, but begins at %d and ends at %d by the manifest",
		r.Start(), c.LastLSN, a.backup.CheckpointsName, m.FromLSN, m.LastLSN)}
}

// recoverPages applies the plan to the tablespaces and settles their sizes and
// names. It returns which pages are in use and zero then.
func (a *applier) recoverPages(ctx context.Context, r *redo, spaces *tablespaces) (left backupdir.Left, err error) {
	done, err := replay.Recover(ctx, r.plan, replay.Options{
		Root: a.root, Log: r, Identity: a.identity(r), PageSize: a.backup.PageSize, End: r.scanned.End,
		Checksum: a.backup.Checksum,
		Keys:     a.Keys, EncryptTables: a.backup.EncryptTables,
		Parallel:   a.workers(replay.WorkerMemory),
		Tablespace: spaces.byID,
		Progress:   a.Progress.Begin("recovering pages", r.plan.Size()),
	})
	if err != nil {
		return left, err
	}
	a.warnUnproven()
	a.result.Pages, a.result.Spilled = done.Pages, r.plan.Spilled()
	if err := spaces.cut.checkMade(a.root, spaces, a.Keys); err != nil {
		return left, err
	}
	if err := replay.SetSizes(a.root, r.plan, spaces.all, spaces.rules.extents); err != nil {
		return left, err
	}
	found, err := spaces.findZero(a.root, a.Keys)
	if err != nil {
		return left, err
	}
	left.Lost = found.warning() // by the names in the backup
	err = spaces.settleNames(a.root)
	if !a.Scratch {
		a.result.Warnings = slices.Concat(a.result.Warnings, spaces.warnings)
	}
	left.Unwritten = found.unwritten()
	return left, err
}

// byServer makes the directory one that the server recovers by itself.
func (a *applier) byServer(ctx context.Context, st backupdir.State) (err error) {
	if st.Stage == backupdir.StageReplay {
		return &backupdir.NotBackupError{Dir: a.dir, What: "its redo log was being replayed: go on without --by-server"}
	}
	if st.End == 0 {
		if st, err = a.surveyForServer(ctx, st.Looked); err != nil {
			return err
		}
	}
	if err := a.enter(st); err != nil {
		return err
	}
	a.result.LSN = st.End
	if err := a.binlog.fill(); err != nil {
		return err
	}
	if err := a.family.handOver(); err != nil {
		return err
	}
	if err := backupdir.WriteState(a.root, backupdir.HandedOverName, st); err != nil {
		return err
	}
	return a.clean()
}

// surveyForServer looks at log and tablespaces as if the one were to be replayed:
// the server would not report what is missing. looked: an interrupted run had come so
// far that it changed the directory for a server, which stays recorded.
func (a *applier) surveyForServer(ctx context.Context, looked bool) (_ backupdir.State, err error) {
	r, err := a.openRedo()
	if err != nil {
		return backupdir.State{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if m := a.backup.Manifest; m != nil && m.Scope != nil {
		return backupdir.State{}, notByServer(a.dir, "it is a partial backup, and a server does not know which tables it leaves out")
	}
	if len(a.backup.ReplayFrom()) > 0 {
		return backupdir.State{}, notByServer(a.dir, "undo tablespaces may have been truncated during the backup, and a server would apply redo from before")
	}
	if err := a.enter(backupdir.State{Stage: backupdir.StageServer, Looked: looked}); err != nil {
		return backupdir.State{}, err
	}
	spaces, err := a.look(ctx, r)
	if err != nil {
		return backupdir.State{}, err
	}
	if err := a.family.complete(spaces); err != nil {
		return backupdir.State{}, err
	}
	for _, id := range slices.Sorted(maps.Keys(spaces.cut)) {
		return backupdir.State{}, notByServer(a.dir, "%s is shorter than its page 0 says, and a server would not check whether the redo log makes the missing pages", spaces.ids[id].Name())
	}
	if err := a.family.checkHandOver(spaces, r.scanned); err != nil {
		return backupdir.State{}, err
	}
	st := backupdir.State{Stage: backupdir.StageServer, Looked: true}
	if err := a.note(st); err != nil {
		return backupdir.State{}, err
	}
	if spaces.rules.lengthen {
		if err := replay.Lengthen(a.root, r.plan, spaces.all, spaces.rules.extents); err != nil {
			return backupdir.State{}, err
		}
	}
	a.result.Warnings = slices.Concat(a.result.Warnings, spaces.warnings)
	st.From, st.End = r.Start(), r.scanned.End
	return st, a.family.prepareHandOver(r.scanned)
}

// notByServer refuses backups that hb can recover and a server cannot. Apart from
// fix-up files, the directory is not changed yet: hb can recover it.
func notByServer(dir, format string, args ...any) error {
	return &backupdir.NotBackupError{Dir: dir, What: fmt.Sprintf(format, args...) + ": apply it without --by-server"}
}

// recoveredBefore is for an archive, which is verified as one that was not.
func (a *applier) recoveredBefore() error {
	return &backupdir.NotBackupError{Dir: a.dir, What: fmt.Sprintf("%s says that it was recovered before it was archived: extract it, and verify the directory", a.backup.CheckpointsName)}
}

// survey looks at a backup as replay does, but does not change its pages. It returns
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
	a.result.Warnings = slices.Concat(a.result.Warnings, spaces.warnings, spaces.cut.warnings(spaces))
	return r.scanned.End, a.family.complete(spaces)
}

// needLog explains that a redo log cannot be opened.
func (a *applier) needLog(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &backupdir.NotBackupError{Dir: a.dir, What: fmt.Sprintf("the redo log %s is missing", name)}
	}
	return err
}
