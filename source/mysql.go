package source

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/position"
	"hb/source/pages"
	"hb/source/subject"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// mysqlBackup is a backup of MySQL: what those of all series have in common.
// Whatever was not needed is nil.
type mysqlBackup struct {
	*backup
	replica *position.PausedReplica
	dump    *mysqld.BufferPoolDump

	spaces []contents.Tablespace // that the server knew at the end
}

// closeReplica ends what may still be held of a replica after an error.
func (b *mysqlBackup) closeReplica() error {
	if b.replica == nil {
		return nil
	}
	return b.replica.Close()
}

func (b *mysqlBackup) closeDump() error {
	if b.dump == nil {
		return nil
	}
	return b.dump.Close()
}

// closeLock ends a lock that may still be held, if there is one.
func closeLock(l *locks.Lock) error {
	if l == nil {
		return nil
	}
	return l.Close()
}

// rules: page 0 of a tablespace is in its file before its creation is in the redo.
func (b *mysqlBackup) rules() pages.Rules { return pages.Rules{} }

func (b *mysqlBackup) describe(m *metadata.Manifest) {
	m.UndoSpaces = b.spaceIDs(func(s contents.Tablespace) bool { return s.Kind == contents.SpaceUndo })
	m.TemporarySpaces = b.spaceIDs(func(s contents.Tablespace) bool {
		return s.Kind == contents.SpaceTemporary || datadir.IsTemporary(s)
	})
}

// lookLast lists tablespaces and databases for the last time: they cannot change.
func (b *mysqlBackup) lookLast(ctx context.Context) error {
	list, err := b.List(ctx)
	if err != nil {
		return err
	}
	if err := b.lookAt(ctx, list); err != nil {
		return err
	}
	if b.Server.Series.LogStatus {
		// The dictionary has all databases; of one that has no directory, nobody can drop
		// a table.
		b.databases = list.Databases
	}
	return b.proveUnique(ctx)
}

// replace makes room for second copies. The second copy of a
// table has another name in the archive. System and undo tablespaces can have no
// other; but what is only staged is not in the archive yet.
func (b *mysqlBackup) replace(void []*pages.Copy) error {
	for _, a := range void {
		if _, ok := a.Table(); ok {
			continue
		}
		if a.ID == 0 {
			return &UnloggedError{Name: a.Name, Series: &b.Server.Series}
		}
		staged := true
		for _, suffix := range b.copier.Suffixes() {
			staged = b.stage.Drop(a.Name+suffix) && staged
		}
		if !staged {
			return fmt.Errorf("the undo tablespace %s was truncated after it was copied: back up again, with one setting of innodb_undo_log_truncate throughout", a.Name)
		}
		b.registry.Release(a)
	}
	return nil
}

// UnloggedError says that DDL changed a file without redo after hb had copied it, and
// that the archive can have that file only once: a file of the system tablespace has no
// other name that hb apply, or a peer's tool, would rename it from, and to hold it back until
// the end, as undo tablespaces are, would take as much room in --tmpdir as all tables in it.
type UnloggedError struct {
	Name   string
	Series *mysqld.Series
}

func (e *UnloggedError) Error() string {
	option := "--lock-ddl-per-table"
	if e.Series.LogStatus {
		option = "--lock-ddl=ON"
	}
	return fmt.Sprintf("ALTER TABLE or CREATE INDEX built an index in %s during the backup, without redo: "+
		"back up again when no such statement runs, or with %s", e.Name, option)
}

// proveComplete checks, while the list cannot change, that every tablespace that
// the server knows has a file, and that the archive has a copy of that very file. If
// a file was removed after it was copied, settle would drop the copy, too; IMPORT
// TABLESPACE gives an id another file; and a server that starts without an undo
// tablespace makes an empty one and does not report the lost transactions.
func (b *mysqlBackup) proveComplete(ctx context.Context) error {
	spaces, err := contents.Tablespaces(ctx, b.Server)
	if err != nil {
		return err
	}
	b.spaces = spaces
	if n := len(b.externalSpaces()); n > 0 && !b.Server.Version.AtLeast(5, 7) {
		b.Warn("%d tables lie outside the data directory; a restored server has them inside, where MySQL 5.6 can read and write them, but not drop, truncate or rename them (it may crash, or not start again): "+
			"move them to where %s says, or elsewhere, and name the new path in a file TABLE.isl", n, metadata.ExternalName)
	}
	have := map[innodb.SpaceID]bool{0: true}
	files := make(map[innodb.SpaceID]*pages.File)
	for _, t := range b.last.Files {
		have[t.Space.ID], files[t.Space.ID] = b.registry.Has(t.Key()), t
	}
	for _, t := range b.last.Left { // out of the scope of the backup
		have[t.Space.ID], files[t.Space.ID] = true, t
	}
	var missing []contents.Tablespace
	for _, s := range spaces {
		if t := files[s.ID]; t != nil && have[s.ID] && !s.Discarded && wasMoved(t.Name, s) {
			at, err := datadir.Stat(b.Disk, b.Layout.Seen(s.Path), t.Name)
			if datadir.IgnoreGone(err) != nil {
				return err
			}
			have[s.ID] = err == nil && at.FileID == t.FileID
		}
		switch {
		case have[s.ID] || s.Kind == contents.SpaceSystem || s.Kind == contents.SpaceTemporary || datadir.IsTemporary(s):
		case s.Discarded:
			b.Warn("tablespace %d, %s, has no file: it was discarded (ALTER TABLE … DISCARD TABLESPACE), and will be in a restored server too", s.ID, s.Name)
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
func (b *mysqlBackup) spaceIDs(is func(contents.Tablespace) bool) []innodb.SpaceID {
	var ids []innodb.SpaceID
	for _, s := range b.spaces {
		if is(s) {
			ids = append(ids, s.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// externalSpaces are those that xtrabackup_tablespaces lists.
func (b *mysqlBackup) externalSpaces() []metadata.ExternalSpace {
	var out []metadata.ExternalSpace
	for _, s := range b.spaces {
		if !b.Layout.Scope.Has(b.Layout.ArchiveName(s)) { // 8.0 and later have names of tables as in SQL
			continue
		}
		kind := metadata.ExternalTable
		if s.Kind == contents.SpaceUndo {
			kind = metadata.ExternalUndo
		}
		outside := b.Layout.IsOutside(b.Layout.Seen(s.Path))
		if s.Kind == contents.SpaceUndo && b.Server.Series.LogStatus || s.Kind == contents.SpaceTables && outside && !s.Discarded && !datadir.IsTemporary(s) {
			out = append(out, metadata.ExternalSpace{File: s.Path, Name: s.Name, Type: kind, Outside: outside})
		}
	}
	slices.SortFunc(out, func(a, b metadata.ExternalSpace) int { return strings.Compare(a.File, b.File) })
	return out
}

// stageOthers stages the files of other engines.
func (b *mysqlBackup) stageOthers(ctx context.Context) error {
	list, err := b.Layout.List()
	if err != nil {
		return err
	}
	return b.stageAhead(ctx, list.Others)
}

// restage stages again, under the lock, the files of other engines that changed since
// they were staged.
func (b *mysqlBackup) restage(ctx context.Context) error {
	list, err := b.Layout.List()
	if err != nil {
		return err
	}
	if err := b.stage.Refresh(ctx, list.Others, datadir.IsNoLog); err != nil {
		return err
	}
	return b.stage.RefreshLogTables(ctx, list.Others, b.flushLogTable)
}

// dumpBufferPool asks for the dump, which goes on while pages are copied.
func (b *mysqlBackup) dumpBufferPool(ctx context.Context) (err error) {
	if b.Options.DumpBufferPool {
		b.dump, err = b.Server.DumpBufferPool(ctx, b.Options.DumpBufferPoolPct)
	}
	return err
}

// awaitBufferPool stages the list of the buffer pool's pages, from this dump or an
// earlier one: a server warms up faster with it, and logs an error without it. Servers
// have it where the system tablespace is (get_buf_dump_dir,
// storage/innobase/buf/buf0dump.cc).
func (b *mysqlBackup) awaitBufferPool(ctx context.Context) error {
	if b.dump != nil {
		b.Options.Progress.Begin("waiting for the dump of the buffer pool", 0)
		done, err := b.dump.Wait(ctx, cmp.Or(b.Options.DumpBufferPoolTimeout, subject.DefaultDumpTimeout))
		if err != nil {
			return err
		}
		if !done {
			b.Warn("the dump of the buffer pool was not complete in time: an earlier one, if any, is in the backup")
		}
		if err := b.dump.Close(); err != nil {
			return err
		}
	}
	name := cmp.Or(b.Server.Vars.String("innodb_buffer_pool_filename"), "ib_buffer_pool")
	if filepath.Base(name) != name {
		return nil
	}
	info, err := b.Layout.Find(filepath.Join(b.Layout.Seen(b.Server.Vars.InnodbHome()), name), name)
	if err != nil || info == nil {
		return datadir.IgnoreGone(err)
	}
	return b.stage.CopyAhead(ctx, []datadir.File{*info})
}

// pauseReplica stops the replica's applier where asked.
func (b *mysqlBackup) pauseReplica(ctx context.Context) (err error) {
	if b.Options.SafeSlave {
		b.Options.Progress.Begin("waiting for the replica's temporary tables", 0)
		b.replica, err = position.PauseReplica(ctx, b.Server, cmp.Or(b.Options.SafeSlaveTimeout, subject.DefaultSafeSlaveTimeout))
	}
	return err
}

func (b *mysqlBackup) resumeReplica(ctx context.Context) error { return b.replica.Resume(ctx) }

// lockPolicy says how long to wait for a lock, and what to kill.
func (b *mysqlBackup) lockPolicy() locks.FTWRL {
	policy := b.Options.FTWRL
	policy.Killed = func(p locks.Process) {
		b.Warn("killed a statement that held up the backup's lock: %v", p)
		if b.Options.FTWRL.Killed != nil {
			b.Options.FTWRL.Killed(p)
		}
	}
	return policy
}
