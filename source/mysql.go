package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"hb/source/innodb"
	"hb/source/mysqld"
	"hb/source/redo"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// mysqlState is what only a backup of MySQL has. Whatever was not needed is nil.
type mysqlState struct {
	consumer *mysqld.RedoConsumer
	instance *mysqld.Lock   // LOCK INSTANCE FOR BACKUP
	tables   *mysqld.Lock   // metadata locks on all tables
	global   []*mysqld.Lock // the final lock or, of Percona Server, locks
	replica  *mysqld.PausedReplica
	dump     *mysqld.BufferPoolDump
	cuts     *truncations
	binlog   disk.File // that the position is in

	spaces     []mysqld.Tablespace // that the server knew at the end
	replayFrom map[innodb.SpaceID]innodb.LSN

	lostConsumer sync.Once // to warn
}

// close ends what may still be held after an error, last taken first.
func (m *mysqlState) close() error {
	var errs []error
	for _, l := range slices.Backward(m.global) {
		errs = append(errs, l.Close())
	}
	if m.replica != nil {
		errs = append(errs, m.replica.Close())
	}
	for _, l := range []*mysqld.Lock{m.tables, m.instance} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	if m.consumer != nil {
		errs = append(errs, m.consumer.Close())
	}
	if m.dump != nil {
		errs = append(errs, m.dump.Close())
	}
	if m.cuts != nil {
		errs = append(errs, m.cuts.close())
	}
	if m.binlog != nil {
		errs = append(errs, m.binlog.Close())
	}
	return errors.Join(errs...)
}

// openMySQLRedo opens the redo log and, where the server keeps it for hb, tells it
// what was read. A registration that is lost is no harm by itself: what is
// overwritten before it is read is noticed.
func (b *backup) openMySQLRedo() (err error) {
	var o redo.MySQLOptions
	if c := b.mysql.consumer; c != nil {
		o.Advance = func(ctx context.Context, lsn innodb.LSN) error {
			if err := c.Advance(ctx, lsn); err != nil && ctx.Err() == nil {
				b.mysql.lostConsumer.Do(func() { b.warn("the server no longer keeps redo log files for hb: %v", err) })
			}
			return nil
		}
	}
	b.follower, err = redo.OpenMySQL(b.disk, b.layout.RedoDir, b.opt.Tmpdir, o)
	return err
}

// addRemote adds to a listing the tablespaces that the server knows and that
// were not found: those outside the data directory. They are archived as if
// they lay in it (see archiveName).
func (b *backup) addRemote(ctx context.Context, list *listing) error {
	spaces, err := b.srv.Tablespaces(ctx)
	if err != nil {
		return err
	}
	there := make(map[fileID]bool)
	for _, info := range list.tablespaces {
		there[info.fileID] = true
	}
	for _, s := range spaces {
		if s.Kind == mysqld.SpaceSystem || s.Kind == mysqld.SpaceTemporary || isTemporary(s) ||
			s.Kind == mysqld.SpaceUndo && b.layout.skipUndo {
			continue
		}
		name := b.layout.archiveName(s)
		info, err := statFile(b.disk, b.layout.seen(s.Path), name)
		if err != nil {
			if ignoreGone(err) != nil {
				return err
			}
			continue // DDL, or proveComplete, explains it
		}
		if !there[info.fileID] {
			list.tablespaces = append(list.tablespaces, info)
		}
	}
	return nil
}

// isTemporary reports whether a tablespace is one that the server drops at its
// next start: a temporary table of 5.6, a table of an ALTER that was cut short.
func isTemporary(s mysqld.Tablespace) bool {
	return strings.HasPrefix(filepath.Base(s.Path), temporaryTable)
}

// archiveName is the name of a tablespace's file in the archive: where it lies in
// the data directory or, from elsewhere, where a server looks for it that knows
// nothing of that place.
//
//   - Tables and partitions: db/table.ibd. 5.6 and 5.7 fall back to that path
//     without a link file, and 8.0 and later find a file by the id in it.
//   - General tablespaces: their name and .ibd.
//   - Undo tablespaces: undo_001 for those that the server made, otherwise their
//     name and .ibu.
//
// So XtraBackup names them, too, except that it puts them back to where they
// came from.
func (l *Layout) archiveName(s mysqld.Tablespace) string {
	path := l.seen(s.Path)
	if rel, err := filepath.Rel(l.Datadir, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	base := filepath.Base(path)
	switch {
	case s.Kind == mysqld.SpaceUndo && l.isUndo(base):
		return base
	case s.Kind == mysqld.SpaceUndo:
		return s.Name + ".ibu"
	case strings.Contains(s.Name, "/"):
		return filepath.Join(filepath.Base(filepath.Dir(path)), base)
	}
	return s.Name + ".ibd"
}

// MissingSpacesError says that tablespaces that the server knows were not found.
type MissingSpacesError struct{ Spaces []mysqld.Tablespace }

func newMissingSpaces(spaces []mysqld.Tablespace) *MissingSpacesError {
	slices.SortFunc(spaces, func(a, b mysqld.Tablespace) int { return cmp.Compare(a.ID, b.ID) })
	return &MissingSpacesError{spaces}
}

func (e *MissingSpacesError) Error() string {
	const most = 5
	var names []string
	for _, s := range e.Spaces[:min(len(e.Spaces), most)] {
		names = append(names, fmt.Sprintf("tablespace %d, %s (%s)", s.ID, s.Name, s.Path))
	}
	more := ""
	if n := len(e.Spaces) - most; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the server knows of tablespaces whose files are not there: %s%s; "+
		"a backup without them could not be restored: drop the tables, or bring the files back", strings.Join(names, "; "), more)
}

// proveComplete checks, while the list cannot change, that every tablespace
// that the server knows is in the archive, by its id: a server that starts
// without an undo tablespace makes an empty one, and never says that
// transactions were lost with it.
func (b *backup) proveComplete(ctx context.Context) error {
	spaces, err := b.srv.Tablespaces(ctx)
	if err != nil {
		return err
	}
	b.mysql.spaces = spaces
	if n := len(b.externalSpaces()); n > 0 && !b.srv.Version.AtLeast(5, 7) {
		b.warn("%d tables lie outside the data directory; a restored server has them inside, where MySQL 5.6 can use but not drop them: "+
			"move them to where %s says, or elsewhere, and name the new path in a file TABLE.isl", n, metadata.ExternalName)
	}
	have := b.registry.ids()
	var missing []mysqld.Tablespace
	for _, s := range spaces {
		switch {
		case have[s.ID] || s.Kind == mysqld.SpaceTemporary || isTemporary(s):
		case s.Discarded:
			b.warn("tablespace %d, %s, has no file: it was discarded (ALTER TABLE … DISCARD TABLESPACE), and will be in a restored server too", s.ID, s.Name)
		default:
			missing = append(missing, s)
		}
	}
	if len(missing) > 0 {
		return newMissingSpaces(missing)
	}
	return nil
}

// spaceIDs returns the ids of the server's tablespaces for which is holds.
func (m *mysqlState) spaceIDs(is func(mysqld.Tablespace) bool) []innodb.SpaceID {
	var ids []innodb.SpaceID
	for _, s := range m.spaces {
		if is(s) {
			ids = append(ids, s.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// externalSpaces are those that xtrabackup_tablespaces lists.
func (b *backup) externalSpaces() []metadata.ExternalSpace {
	var out []metadata.ExternalSpace
	for _, s := range b.mysql.spaces {
		kind := metadata.ExternalTable
		if s.Kind == mysqld.SpaceUndo {
			kind = metadata.ExternalUndo
		}
		rel, err := filepath.Rel(b.layout.Datadir, b.layout.seen(s.Path))
		outside := err != nil || !filepath.IsLocal(rel)
		if s.Kind == mysqld.SpaceUndo && b.srv.Dialect.LogStatus || s.Kind == mysqld.SpaceTables && outside && !s.Discarded && !isTemporary(s) {
			out = append(out, metadata.ExternalSpace{File: s.Path, Name: s.Name, Type: kind})
		}
	}
	slices.SortFunc(out, func(a, b metadata.ExternalSpace) int { return strings.Compare(a.File, b.File) })
	return out
}

// stageOthers stages the files of other engines.
func (b *backup) stageOthers(ctx context.Context) error {
	list, err := b.layout.list()
	if err != nil {
		return err
	}
	return b.stageAhead(ctx, list.others)
}

// dumpBufferPool asks for the dump, which goes on while pages are copied.
func (b *backup) dumpBufferPool(ctx context.Context) (err error) {
	if b.opt.DumpBufferPool {
		b.mysql.dump, err = b.srv.DumpBufferPool(ctx, b.opt.DumpBufferPoolPct)
	}
	return err
}

// awaitBufferPool stages the file that says which pages the buffer pool held, of
// this dump or an earlier one: a server warms up faster with it.
func (b *backup) awaitBufferPool(ctx context.Context) error {
	if b.mysql.dump != nil {
		b.opt.Progress.Begin("waiting for the dump of the buffer pool", 0)
		done, err := b.mysql.dump.Wait(ctx, cmp.Or(b.opt.DumpBufferPoolTimeout, DefaultDumpTimeout))
		if err != nil {
			return err
		}
		if !done {
			b.warn("the dump of the buffer pool was not complete in time: an earlier one, if any, is in the backup")
		}
		if err := b.mysql.dump.Close(); err != nil {
			return err
		}
	}
	name := cmp.Or(b.srv.Vars.String("innodb_buffer_pool_filename"), "ib_buffer_pool")
	if filepath.Base(name) != name {
		return nil
	}
	info, err := statFile(b.disk, filepath.Join(b.layout.Datadir, name), name)
	if err != nil {
		return ignoreGone(err)
	}
	return b.stage.copyAhead(ctx, []fileInfo{info})
}

// pauseReplica stops the replica's applier where asked.
func (b *backup) pauseReplica(ctx context.Context) (err error) {
	if b.opt.SafeSlave {
		b.opt.Progress.Begin("waiting for the replica's temporary tables", 0)
		b.mysql.replica, err = b.srv.PauseReplica(ctx, cmp.Or(b.opt.SafeSlaveTimeout, DefaultSafeSlaveTimeout))
	}
	return err
}

func (b *backup) resumeReplica(ctx context.Context) error { return b.mysql.replica.Resume(ctx) }

// lockPolicy says how long others may hold up a lock.
func (b *backup) lockPolicy() mysqld.FTWRL {
	policy := b.opt.FTWRL
	policy.Killed = func(p mysqld.Process) {
		b.warn("killed a statement that held up the backup's lock: %v", p)
		if b.opt.FTWRL.Killed != nil {
			b.opt.FTWRL.Killed(p)
		}
	}
	return policy
}

// unlockGlobal releases the final lock, which proves that it was held to now.
func (b *backup) unlockGlobal(ctx context.Context) error {
	for len(b.mysql.global) > 0 {
		last := len(b.mysql.global) - 1
		l := b.mysql.global[last]
		b.mysql.global = b.mysql.global[:last]
		if err := l.Release(ctx); err != nil {
			return err
		}
	}
	return nil
}

// underStage has tablespaces copied into the stage from now on, at full speed:
// the archive may be slow to take them, and somebody waits.
func (b *backup) underStage() { b.copier.create, b.copier.wait = b.stage.output, nil }
