package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"hb/source/datadir"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/position"
	"hb/source/pages"
	"hb/source/subject"
	"hb/xbstream/innodb"
)

// DDL goes on while hb copies pages of MySQL 8.0 and later. What it does to files is in
// the redo log, and the listing under the final lock has the names. What it does to pages
// is in the redo log too, with two exceptions: indexes that are built without redo, and
// tablespaces that are imported. The redo log shows when such a build begins, or the
// discarding before an import, and neither when it ends nor whether its pages are on disk
// (redo.FileState.Unlogged; LOCK=SHARED and full-text indexes leave no record at their
// end: ddl0builder.cc of 9.7, Builder::finish).
//
// LOCK INSTANCE FOR BACKUP tells that: the server grants it when no DDL runs, and DDL ends
// with its pages on disk. So a copy is right if it began after a moment when the lock
// was held, and if nothing was built or imported in its tablespace since that moment.

// calm is a moment when no DDL ran, and what the server was like then.
type calm struct {
	lsn innodb.LSN
	// discarded are the tablespaces that an import may write at any time after.
	discarded map[innodb.SpaceID]contents.Build
	alters    contents.Alterations // ALTER INSTANCE up to the first moment
}

// lockFirst takes the lock with which the backup begins: the redo of a build that was under
// way then would begin before the redo that hb copies.
func (b *mysql8Backup) lockFirst(ctx context.Context) error {
	// Pages that the server lists as changed are those up to a moment: from then on nothing
	// may change them without redo.
	tracked := b.Base != nil && b.Base.Manifest.Tracking != nil
	b.late = b.Options.LockDDL != subject.LockDDLOn && !tracked
	if !b.late {
		if err := b.pauseReplica(ctx); err != nil { // the lock forbids it
			return err
		}
	}
	return b.lockInstance(ctx)
}

func (b *mysql8Backup) lockInstance(ctx context.Context) (err error) {
	b.Options.Progress.Begin("waiting for LOCK INSTANCE FOR BACKUP", 0)
	b.instance, err = b.locks.Instance(ctx)
	return err
}

// letDDL releases the first lock, unless the backup holds it to the end.
func (b *mysql8Backup) letDDL(ctx context.Context) (err error) {
	if !b.late {
		return nil
	}
	if b.calm.alters, err = contents.CountAlterations(ctx, b.Server); err != nil {
		return err
	}
	if err := b.keepCalm(ctx); err != nil {
		return err
	}
	b.copier.Since = func() innodb.LSN { return b.calm.lsn }
	b.pace = b.copier.Wait
	b.besideDDL()
	lock := b.instance
	b.instance = nil
	return lock.Release(ctx)
}

// besideDDL has the copier copy into the archive while DDL goes on.
func (b *mysql8Backup) besideDDL() {
	b.copier.Again, b.Layout.SkipUndo = true, true
	b.copier.Create, b.copier.Wait = b.archive.output, b.pace
	b.copier.Builds = func(_ context.Context, id innodb.SpaceID) (map[uint64]contents.Build, error) {
		if d, ok := b.calm.discarded[id]; ok {
			return map[uint64]contents.Build{uint64(id): d}, nil
		}
		return nil, nil
	}
}

// keepCalm notes the moment: the lock is held.
func (b *mysql8Backup) keepCalm(ctx context.Context) error {
	lsn, err := position.CurrentLSN(ctx, b.Server)
	if err != nil {
		return err
	}
	spaces, err := contents.Tablespaces(ctx, b.Server)
	if err != nil {
		return err
	}
	discarded := make(map[innodb.SpaceID]contents.Build)
	for _, s := range spaces {
		if s.Discarded {
			discarded[s.ID] = contents.Build{Space: s.ID, State: "discarded"}
		}
	}
	b.calm.lsn, b.calm.discarded = lsn, discarded
	return nil
}

// Between the first lock and the last one hb takes the lock for a moment only, and does
// not let DDL queue up for long: it gives up after calmWait, and asks again up to
// calmTries times, after pauses of the same length.
const (
	calmWait  = time.Second
	calmTries = 5
)

// awaitCalm waits for a moment when no DDL runs. It reports false if there is none soon:
// the copies that need one are then made under the last lock.
func (b *mysql8Backup) awaitCalm(ctx context.Context) (bool, error) {
	b.Options.Progress.Begin("waiting for a moment without DDL", 0)
	for try := range calmTries {
		if try > 0 {
			if err := datadir.Pause(ctx, calmWait); err != nil {
				return false, err
			}
		}
		lock, err := b.locks.InstanceWithin(ctx, calmWait)
		if _, late := errors.AsType[*locks.TimeoutError](err); late {
			continue
		}
		if err != nil {
			return false, err
		}
		if err := b.keepCalm(ctx); err != nil {
			return false, errors.Join(err, lock.Close())
		}
		return true, lock.Release(ctx)
	}
	return false, nil
}

// copyCalm copies, while DDL goes on, what DDL made or changed while others were copied.
func (b *mysql8Backup) copyCalm(ctx context.Context) error {
	if !b.late {
		return nil
	}
	for range copyRounds {
		ok, err := b.awaitCalm(ctx)
		if err != nil || !ok {
			return err
		}
		if err := b.knowRedo(ctx); err != nil {
			return err
		}
		n, err := b.copyNew(ctx)
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// voidChanged voids the copies of tablespaces in which something may have been built or
// imported since the last calm moment before they began, so that hb copies them again.
func (b *mysql8Backup) voidChanged(context.Context) error {
	if !b.late {
		return nil
	}
	return b.replace(b.registry.Discard(func(a *pages.Copy) bool {
		return b.follower.File(a.ID).Unlogged > a.Since || len(a.Builds) > 0
	}))
}

// stageUndo stages the undo tablespaces, whose copies can be replaced until they are in
// the archive: the server truncates an undo tablespace by making it again, with another
// id, in a file of the same name.
func (b *mysql8Backup) stageUndo(ctx context.Context) error {
	if !b.late {
		return nil
	}
	create := b.copier.Create
	b.copier.Create, b.Layout.SkipUndo = b.stage.Output, false
	defer func() { b.copier.Create = create }()
	_, err := b.copyNew(ctx)
	return err
}

// underLastLock takes the lock with which the copies end, if it is not held, copies what changed
// last, and takes the position. So late a backup is not given up for an ALTER TABLE that takes
// long, or a statement that uses a table of another engine; and DDL does not queue up behind hb
// for as long. So hb asks for the locks for a while, lets DDL pass for as long, looks again what
// changed, and asks again, until it has waited for Options.LockWait. (ALTER INSTANCE ROTATE …
// waits for the first lock, and hb for that statement: only letting it pass helps.)
func (b *mysql8Backup) underLastLock(ctx context.Context) error {
	if !b.late {
		return b.lookUnderLock(ctx, 0)
	}
	if err := b.pauseReplica(ctx); err != nil { // the lock forbids it
		return err
	}
	began := time.Now()
	for wait := calmWait; ; wait = min(2*wait, maxLastWait) {
		left := b.Server.LockWait() - time.Since(began)
		err := b.lockLast(ctx, min(wait, max(left, calmWait)))
		if err == nil {
			err = b.lookUnderLock(ctx, wait)
		}
		if errors.Is(err, errMuchLeft) {
			from := time.Now()
			if err := b.copyMuch(ctx); err != nil {
				return err
			}
			began = began.Add(time.Since(from))
			continue
		}
		timeout, late := errors.AsType[*locks.TimeoutError](err)
		if !late {
			return err
		}
		if timeout.After = time.Since(began); timeout.After+wait >= b.Server.LockWait() {
			return err
		}
		if err := b.letPass(ctx); err != nil {
			return err
		}
		if err := datadir.Pause(ctx, wait); err != nil {
			return err
		}
	}
}

// maxLastWait is how long DDL queues up behind the last lock before hb lets it pass, at most;
// and behind hb that waits for tables of other engines under that lock.
const maxLastWait = 8 * time.Second

// lockLast asks once for the lock.
func (b *mysql8Backup) lockLast(ctx context.Context, wait time.Duration) error {
	b.Options.Progress.Begin("waiting for LOCK INSTANCE FOR BACKUP", 0)
	l, err := b.locks.InstanceWithin(ctx, wait)
	if err == nil {
		b.instance = l
	}
	return err
}

// letPass releases the lock, if it is held.
func (b *mysql8Backup) letPass(ctx context.Context) error {
	if b.instance == nil {
		return nil
	}
	lock := b.instance
	b.instance = nil
	return errors.Join(b.definitions.Await(), lock.Release(ctx))
}

// lookUnderLock does all that needs the lock. It can be done again after the lock was released.
func (b *mysql8Backup) lookUnderLock(ctx context.Context, wait time.Duration) error {
	if err := b.underInstanceLock(ctx); err != nil {
		return err
	}
	if err := b.rotateBinlog(ctx); err != nil {
		return err
	}
	return b.position(ctx, wait)
}

// underInstanceLock makes sure that the archive has all tablespaces as they are now; or
// copies what is not in the archive as it is now, if DDL went on.
func (b *mysql8Backup) underInstanceLock(ctx context.Context) error {
	b.definitions.Locked(ctx)
	if !b.late {
		return b.proveUnchanged(ctx)
	}
	b.copier.Again, b.copier.Builds = false, nil
	b.underStage()
	if err := b.proveLogged(ctx); err != nil {
		return err
	}
	if err := contents.CheckFeatures(ctx, b.Server); err != nil { // DDL may have made what hb does not back up
		return err
	}
	if err := b.restage(ctx); err != nil { // position asks which tables these files are of
		return err
	}
	if err := b.knowRedo(ctx); err != nil {
		return err
	}
	if err := b.lookLast(ctx); err != nil {
		return err
	}
	if err := b.dropUndo(); err != nil {
		return err
	}
	missing, err := b.missing(ctx, b.last)
	if err != nil {
		return err
	}
	if b.isMuch(missing) {
		return errMuchLeft
	}
	if err := b.copyFiles(ctx, "copying changed tablespaces", missing); err != nil {
		return err
	}
	return b.proveComplete(ctx)
}

// mostLast is how many bytes of tablespaces hb copies under the last lock. If DDL has changed
// more since the last calm moment, hb copies that while DDL goes on again, copyRounds times
// at most: each time it takes DDL as many bytes to keep hb from ending.
const mostLast = 128 << 20

// errMuchLeft means that more is left to copy under the last lock than mostLast.
var errMuchLeft = errors.New("much is left to copy")

// isMuch reports whether hb had better copy these while DDL goes on. Undo tablespaces, and
// those that wait for an import, count only if they are copied under the lock.
func (b *mysql8Backup) isMuch(missing []*pages.File) bool {
	var bytes int64
	for _, t := range missing {
		if _, waits := b.calm.discarded[t.Space.ID]; !waits && !b.Layout.HasUndoName(t.Name) {
			bytes += t.Size
		}
	}
	return bytes > mostLast && b.passes < copyRounds
}

// copyMuch lets DDL go on, and copies what was left under the lock. The moment at which the
// lock is held is a calm one.
func (b *mysql8Backup) copyMuch(ctx context.Context) error {
	b.passes++
	if err := b.keepCalm(ctx); err != nil {
		return err
	}
	if err := b.letPass(ctx); err != nil {
		return err
	}
	b.besideDDL()
	_, err := b.copyNew(ctx)
	b.Layout.SkipUndo = false
	return err
}

// dropUndo takes the copies of undo tablespaces out of the stage that were truncated or
// dropped since.
func (b *mysql8Backup) dropUndo() error {
	there := make(map[pages.Key]bool)
	for _, t := range b.last.Files {
		there[t.Key()] = true
	}
	return b.replace(b.registry.Discard(func(a *pages.Copy) bool {
		_, table := a.Table()
		return !table && a.ID != 0 && !there[a.Key]
	}))
}

// UnloggedInstanceError says that redo logging may have been off for a while during the
// backup, so that changes are missing in the redo log.
type UnloggedInstanceError struct {
	Alterations uint64
	Denied      bool // the account may not read which they were
}

func (e *UnloggedInstanceError) Error() string {
	which := "other than to rotate a key or to reload TLS"
	if e.Denied {
		which = "and the account may not read what for (GRANT SELECT ON performance_schema.events_statements_summary_by_digest)"
	}
	return fmt.Sprintf("ALTER INSTANCE was executed %d times during the backup, %s: "+
		"redo logging may have been off for a while, so that the redo log lacks changes. Back up again without that, or with --lock-ddl=ON", e.Alterations, which)
}

// proveLogged makes sure, under the last lock, that nobody switched redo logging off and on
// again while DDL went on: afterwards nothing shows that. Both need the lock's opposite, so
// that no statement is under way that does.
func (b *mysql8Backup) proveLogged(ctx context.Context) error {
	now, err := contents.CountAlterations(ctx, b.Server)
	if err != nil {
		return err
	}
	if n := now.Unexplained(b.calm.alters); n > 0 {
		return &UnloggedInstanceError{n, now.Denied}
	}
	return nil
}
