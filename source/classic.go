package source

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"hb/source/innodb"
	"hb/source/mysqld"
	"hb/stream/disk"
)

// lockTableDDL takes a metadata lock on every table, where asked.
func (b *backup) lockTableDDL(ctx context.Context) (err error) {
	if b.opt.LockDDLPerTable {
		b.opt.Progress.Begin("waiting for locks on tables", 0)
		b.mysql.tables, _, err = b.srv.LockTableDDL(ctx)
	}
	return err
}

// lockGlobal takes the final lock, which includes the metadata locks. Percona
// Server's blocks no reader and does not wait for one.
func (b *backup) lockGlobal(ctx context.Context) error {
	if err := b.takeFinal(ctx); err != nil {
		return err
	}
	if b.mysql.tables == nil {
		return nil
	}
	return b.mysql.tables.Release(ctx)
}

func (b *backup) takeFinal(ctx context.Context) (err error) {
	b.opt.Progress.Begin("waiting for the final lock", 0)
	var l *mysqld.Lock
	if b.srv.Dialect.TablesLock {
		l, err = b.srv.LockTables(ctx)
	} else {
		l, err = b.srv.LockGlobal(ctx, b.lockPolicy())
	}
	if err == nil {
		b.mysql.global = append(b.mysql.global, l)
	}
	return err
}

// underGlobalLock brings everything to its final state: what DDL did is over,
// nobody writes to tables without transactions. Then nobody may commit either,
// and position and LSN are taken.
func (b *backup) underGlobalLock(ctx context.Context) error {
	b.opt.Progress.Begin("copying changed files", 0)
	b.underStage()
	if err := b.restage(ctx); err != nil {
		return err
	}
	if err := b.knowRedo(ctx); err != nil {
		return err
	}
	b.follower.Hold()
	if err := b.copyLast(ctx); err != nil {
		return err
	}
	if b.srv.Dialect.BinlogLock {
		l, err := b.srv.LockBinlog(ctx)
		if err != nil {
			return err
		}
		b.mysql.global = append(b.mysql.global, l)
	}
	if err := b.takePosition(ctx); err != nil {
		return err
	}
	return b.srv.FlushEngineLogs(ctx)
}

// knowRedo waits until the redo of all DDL is in hand, which says what was
// changed without redo.
func (b *backup) knowRedo(ctx context.Context) error {
	lsn, err := b.srv.CurrentLSN(ctx)
	if err != nil {
		return err
	}
	if err := b.srv.FlushEngineLogs(ctx); err != nil {
		return err
	}
	return b.follower.Reach(ctx, lsn)
}

// lastTries is how often undo tablespaces are copied again that purge, which no
// lock stops, truncates under the copier's hands.
const lastTries = 5

// copyLast copies what is not in the archive as it is now, and takes the LSN.
// Purge goes on: what it writes to pages before they are copied is in the redo
// before that LSN.
func (b *backup) copyLast(ctx context.Context) error {
	b.copier.again, b.layout.skipUndo = false, false
	for range lastTries {
		if err := b.awaitTruncations(ctx); err != nil {
			return err
		}
		checkpoint, err := b.checkpoint()
		if err != nil {
			return err
		}
		list, err := b.list(ctx)
		if err != nil {
			return err
		}
		if b.last, err = b.inventory.look(ctx, list.tablespaces); err != nil {
			return err
		}
		b.databases = list.databases
		if _, err := b.copyMissing(ctx, b.last); err != nil {
			return err
		}
		if b.end, err = b.srv.CurrentLSN(ctx); err != nil {
			return err
		}
		n, err := b.voidTruncated()
		if err != nil {
			return err
		}
		if n == 0 {
			b.replayUndoFrom(checkpoint)
			return errors.Join(b.last.unique(), b.proveComplete(ctx))
		}
	}
	return fmt.Errorf("the server truncated an undo tablespace %d times while it was copied under the final lock: "+
		"back up again, or set innodb_undo_log_truncate to OFF for the time of the backup", lastTries)
}

// replayUndoFrom notes that redo from before a checkpoint must not be applied to
// undo tablespaces that were copied after it, because they may have been
// truncated: that ends with a checkpoint, and nothing in the redo tells of it.
func (b *backup) replayUndoFrom(checkpoint innodb.LSN) {
	b.mysql.replayFrom = make(map[innodb.SpaceID]innodb.LSN)
	for _, t := range b.last.files {
		if b.stage.has(t.name) && undoName.MatchString(t.name) {
			b.mysql.replayFrom[t.space.ID] = checkpoint
		}
	}
}

// truncations notices for certain when MySQL 5.7 truncates a tablespace in place,
// with no or too little redo to tell: it makes a file undo_ID_trunc.log, or
// ib_ID_TABLE_trunc.log, in the directory of the redo log, and removes it when
// the tablespace is whole again. (storage/innobase/row/row0trunc.cc)
type truncations struct {
	disk  disk.System
	dir   string
	names *nameWatch
}

// truncName is the name of such a file; the first number is the tablespace's id.
var truncName = regexp.MustCompile(`^(?:undo_([0-9]+)|ib_([0-9]+)_[0-9]+)_trunc\.log$`)

func truncSpace(name string) (innodb.SpaceID, bool) {
	m := truncName.FindStringSubmatch(name)
	if m == nil {
		return 0, false
	}
	id, err := strconv.ParseUint(m[1]+m[2], 10, 32)
	return innodb.SpaceID(id), err == nil
}

// watchTruncation begins to look out for truncations. Undo tablespaces that the
// server may truncate are copied last.
func (b *backup) watchTruncation(context.Context) (err error) {
	b.copier.again = true
	b.layout.skipUndo = b.srv.Vars.Bool("innodb_undo_log_truncate")
	b.mysql.cuts, err = watchTruncations(b.disk, b.layout.RedoDir)
	return err
}

func watchTruncations(system disk.System, dir string) (*truncations, error) {
	names, err := watchNames(dir)
	if err != nil {
		return nil, fmt.Errorf("watching %s for truncations: %w", dir, err)
	}
	return &truncations{disk: system, dir: dir, names: names}, nil
}

func (w *truncations) close() error { return w.names.close() }

// seen returns the tablespaces whose truncation began or ended since the last
// call.
func (w *truncations) seen() (map[innodb.SpaceID]bool, error) {
	ids := make(map[innodb.SpaceID]bool)
	for name, err := range w.names.changed() {
		if err != nil {
			return nil, fmt.Errorf("watching %s for truncations: %w", w.dir, err)
		}
		if id, ok := truncSpace(name); ok {
			ids[id] = true
		}
	}
	return ids, nil
}

// running reports whether a truncation is under way.
func (w *truncations) running() (bool, error) {
	entries, err := w.disk.ReadDir(w.dir)
	if err != nil {
		return false, fmt.Errorf("looking for truncations: %w", err)
	}
	for _, e := range entries {
		if _, ok := truncSpace(e.Name()); ok {
			return true, nil
		}
	}
	return false, nil
}

// truncationWait bounds the wait for a truncation, which ends with a checkpoint.
const truncationWait = 60 * time.Second

// awaitTruncations waits until no tablespace is being truncated.
func (b *backup) awaitTruncations(ctx context.Context) error {
	for end := time.Now().Add(truncationWait); ; {
		running, err := b.mysql.cuts.running()
		if err != nil || !running {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("a tablespace has been being truncated for %v (there is a …_trunc.log in %s): back up again when it is done",
				truncationWait, b.mysql.cuts.dir)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// voidTruncated makes void the copies of tablespaces that were truncated since it
// was called last, and returns how many tablespaces were, copied or not.
func (b *backup) voidTruncated() (int, error) {
	if b.mysql.cuts == nil {
		return 0, nil
	}
	ids, err := b.mysql.cuts.seen()
	if err != nil {
		return 0, err
	}
	return len(ids), b.replace(b.registry.discard(func(a *archivedSpace) bool { return ids[a.id] }))
}

// voidUnlogged makes void the copies of tablespaces that were changed without
// redo since they began: by truncation, or by a bulk load of an index. (Records
// of the types 60 and 61 of MySQL 5.7 come when all pages are on disk.) They are
// to be copied again.
func (b *backup) voidUnlogged() error {
	if _, err := b.voidTruncated(); err != nil || !b.layout.General {
		return err
	}
	files := b.follower.Files()
	return b.replace(b.registry.discard(func(a *archivedSpace) bool {
		state := files[a.id]
		return max(state.IndexLoad, state.Truncate, state.PageZero) > a.since
	}))
}

// replace sees to it that void copies can be made again. The second copy of a
// table has another name in the archive. System and undo tablespaces can have no
// other; but what is only staged is not in the archive yet.
func (b *backup) replace(void []*archivedSpace) error {
	for _, a := range void {
		if _, ok := a.table(); ok {
			continue
		}
		if a.id == 0 {
			return errors.New("an index was built in the system tablespace without redo while it was copied: " +
				"back up again when no ALTER TABLE or CREATE INDEX runs, or with --lock-ddl-per-table")
		}
		if !b.stage.drop(a.name) {
			return fmt.Errorf("the undo tablespace %s was truncated after it was copied: back up again, with one setting of innodb_undo_log_truncate throughout", a.name)
		}
		b.registry.release(a)
	}
	return nil
}
