package source

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"hb/source/datadir"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/position"
	"hb/source/pages"
	"hb/source/redo"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// mysql5Backup is a backup of MySQL 5.6 or 5.7. Whatever was not needed is nil.
type mysql5Backup struct {
	mysqlBackup
	tables *locks.Lock // metadata locks on all tables
	global *locks.Lock // the final lock
	cuts   *datadir.Truncations
	builds builds

	replayFrom map[innodb.SpaceID]innodb.LSN
}

// release ends what may still be held after an error, last taken first.
func (b *mysql5Backup) release() error {
	err := errors.Join(closeLock(b.global), b.closeReplica(), closeLock(b.tables), b.closeDump())
	if b.cuts != nil {
		err = errors.Join(err, b.cuts.Close())
	}
	return err
}

func (b *mysql5Backup) openRedo(context.Context) (err error) {
	b.follower, err = redo.OpenMySQL(b.Disk, b.Layout.RedoDir, b.Options.Tmpdir, redo.MySQLOptions{PageSize: b.PageSize})
	return err
}

func (b *mysql5Backup) describe(m *metadata.Manifest) {
	b.mysqlBackup.describe(m)
	m.ReplayFrom = b.replayFrom
}

// lockTableDDL takes a metadata lock on every table, where asked.
func (b *mysql5Backup) lockTableDDL(ctx context.Context) (err error) {
	if b.Options.LockDDLPerTable {
		b.Options.Progress.Begin("waiting for locks on tables", 0)
		b.tables, _, err = b.locks.TableDDL(ctx)
	}
	return err
}

// lockGlobal takes the final lock, which includes the metadata locks. They are
// released earlier only if DDL waits for them: hb copies again what that DDL changes.
// Percona Server's lock neither blocks readers nor waits for them.
func (b *mysql5Backup) lockGlobal(ctx context.Context) error {
	if b.tables == nil {
		return b.takeFinal(ctx)
	}
	stop, err := b.tables.GiveWay(ctx)
	if err != nil {
		return err
	}
	err = b.takeFinal(ctx)
	gave, watchErr := stop()
	if err := errors.Join(err, watchErr); err != nil || gave {
		return err
	}
	return b.tables.Release(ctx)
}

func (b *mysql5Backup) takeFinal(ctx context.Context) (err error) {
	b.Options.Progress.Begin("waiting for the final lock", 0)
	if b.Server.Series.TablesLock {
		b.global, err = b.locks.Tables(ctx)
	} else {
		b.global, err = b.locks.Global(ctx, b.lockPolicy())
	}
	return err
}

// unlockGlobal releases the final lock, which proves that it was held to now.
func (b *mysql5Backup) unlockGlobal(ctx context.Context) error { return b.global.Release(ctx) }

// underGlobalLock brings everything to its final state: DDL is locked out, and nobody
// writes to non-transactional tables. Then it blocks commits, too, and takes position
// and LSN.
func (b *mysql5Backup) underGlobalLock(ctx context.Context) error {
	b.Options.Progress.Begin("copying changed files", 0)
	b.underStage()
	if err := b.restage(ctx); err != nil {
		return err
	}
	b.definitions.Locked(ctx)
	if err := b.knowRedo(ctx); err != nil {
		return err
	}
	if err := b.copyLast(ctx); err != nil {
		return err
	}
	if err := position.FlushEngineLogs(ctx, b.Server); err != nil {
		return err
	}
	return b.definitions.Await()
}

// lastTries is how often hb copies again undo tablespaces that purge truncates while
// they are copied; no lock stops purge.
const lastTries = 5

// copyLast copies what is not in the archive as it is now, and takes position and LSN.
// Purge goes on: the redo of its changes to pages that are copied afterwards lies
// before that LSN.
func (b *mysql5Backup) copyLast(ctx context.Context) error {
	b.copier.Again, b.Layout.SkipUndo = false, false
	for range lastTries {
		if err := b.cuts.Await(ctx); err != nil {
			return err
		}
		checkpoint, err := b.Checkpoint()
		if err != nil {
			return err
		}
		if err := b.lookLast(ctx); err != nil {
			return err
		}
		if _, err := b.copyMissing(ctx, b.last); err != nil {
			return err
		}
		if err := b.standStill(ctx); err != nil {
			return err
		}
		n, err := b.voidTruncated()
		if err != nil {
			return err
		}
		if n == 0 {
			b.replayUndoFrom(checkpoint)
			return b.proveComplete(ctx)
		}
	}
	return fmt.Errorf("the server truncated an undo tablespace %d times while it was copied under the final lock: "+
		"back up again, or set innodb_undo_log_truncate to OFF for the time of the backup", lastTries)
}

// replayUndoFrom notes that redo from before a checkpoint must not be applied to
// undo tablespaces that were copied after it, because they may have been
// truncated: that ends with a checkpoint, and the redo does not record it.
func (b *mysql5Backup) replayUndoFrom(checkpoint innodb.LSN) {
	b.replayFrom = make(map[innodb.SpaceID]innodb.LSN)
	for _, t := range b.last.Files {
		if b.stage.Has(t.Name+b.copier.Suffixes()[0]) && datadir.TruncatedInPlace(t.Name) {
			b.replayFrom[t.Space.ID] = checkpoint
		}
	}
}

// watchTruncation starts watching for truncations. Undo tablespaces that the
// server may truncate are copied last.
func (b *mysql5Backup) watchTruncation(context.Context) (err error) {
	b.copier.Again = true
	b.Layout.SkipUndo = b.Server.Vars.Bool("innodb_undo_log_truncate")
	b.cuts, err = datadir.WatchTruncations(b.Disk, b.Layout.RedoDir)
	b.copier.Truncated = func(_ context.Context, id innodb.SpaceID, _ innodb.LSN) (bool, error) { return b.cuts.Of(id) }
	return err
}

// voidTruncated makes void the copies of tablespaces that were truncated since it
// was called last, and returns how many tablespaces were, copied or not.
func (b *mysql5Backup) voidTruncated() (int, error) {
	ids, err := b.cuts.Seen()
	if err != nil {
		return 0, err
	}
	return len(ids), b.replace(b.registry.Discard(func(a *pages.Copy) bool { return ids[a.ID] }))
}

// builds is what changes pages of MySQL 5.6 and 5.7 without redo, and was under
// way when the server was asked last: indexes under construction, and tables
// whose tablespace is discarded. A copy that begins during one may have any part of
// its changes. The redo log records when one begins (redo.FileState.Unlogged), but
// not when it ends: after such a record hb asks the server again.
type builds struct {
	mu    sync.Mutex
	asked innodb.LSN // up to where the redo had been read before
	list  map[uint64]contents.Build
}

// watchBuilds asks for the first time. That is before any tablespace is copied.
func (b *mysql5Backup) watchBuilds(ctx context.Context) error {
	b.copier.Builds = b.buildsIn
	b.builds.mu.Lock()
	defer b.builds.mu.Unlock()
	return b.askBuilds(ctx)
}

// askBuilds is called with the state locked.
func (b *mysql5Backup) askBuilds(ctx context.Context) (err error) {
	b.builds.asked = b.follower.End()
	b.builds.list, err = contents.Builds(ctx, b.Server)
	return err
}

// buildsIn returns what is under way in a tablespace whose copy begins.
func (b *mysql5Backup) buildsIn(ctx context.Context, id innodb.SpaceID) (map[uint64]contents.Build, error) {
	now := &b.builds
	now.mu.Lock()
	defer now.mu.Unlock()
	if b.follower.File(id).Unlogged > now.asked || len(now.in(id)) > 0 {
		if err := b.askBuilds(ctx); err != nil {
			return nil, err
		}
	}
	return now.in(id), nil
}

// in is called with the state locked.
func (l *builds) in(id innodb.SpaceID) map[uint64]contents.Build {
	var out map[uint64]contents.Build
	for index, build := range l.list {
		if build.Space == id {
			if out == nil {
				out = make(map[uint64]contents.Build)
			}
			out[index] = build
		}
	}
	return out
}

// voidChanged voids the copies of tablespaces that were changed without redo since
// the copies began, so that hb copies them again: builds that began later are in the
// redo log, and earlier ones have ended or have another state.
func (b *mysql5Backup) voidChanged(ctx context.Context) error {
	if _, err := b.voidTruncated(); err != nil {
		return err
	}
	now, err := b.pendingBuilds(ctx)
	if err != nil {
		return err
	}
	return b.replace(b.registry.Discard(func(a *pages.Copy) bool {
		if b.follower.File(a.ID).Unlogged > a.Since {
			return true
		}
		for index, build := range a.Builds {
			if now[index] != build {
				return true
			}
		}
		return false
	}))
}

// pendingBuilds asks for what is under way, if any copy began while something was.
func (b *mysql5Backup) pendingBuilds(ctx context.Context) (map[uint64]contents.Build, error) {
	if !b.registry.Any(func(a *pages.Copy) bool { return len(a.Builds) > 0 }) {
		return nil, nil
	}
	b.builds.mu.Lock()
	defer b.builds.mu.Unlock()
	err := b.askBuilds(ctx)
	return b.builds.list, err
}
