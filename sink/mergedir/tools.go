package mergedir

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"hb/sink/backupdir"
	"hb/sink/replay/mariadb"
	"hb/sink/replay/mysql/scan"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// tool is what differs between the tools whose increments are merged.
type tool struct {
	name string
	log  string // the file of the redo log
	// cuts: a tablespace is as long as its page 0 says. XtraBackup leaves that to recovery.
	cuts bool
	// needed are tablespaces that every server of the family has, if the base has them.
	needed func(name string) bool
	fixUp  func(m *merging, f *fixUps) error
	// checkBase makes sure that the base was recovered, and that nothing happened to it since.
	checkBase func(m *merging, done bool) error
}

// tools are the tools, by the family of servers.
var tools = map[string]*tool{
	metadata.FlavorMariaDB: {
		name: "mariadb-backup", log: mariadb.LogName, cuts: true,
		needed: backupdir.UndoFile.MatchString, fixUp: (*merging).fixUpByName, checkBase: (*merging).checkApplied,
	},
	metadata.FlavorMySQL: {
		name: "XtraBackup", log: scan.LogName,
		needed: neededByMySQL, fixUp: (*merging).fixUpByID, checkBase: (*merging).checkUnrolled,
	},
}

// dictionaryName is the tablespace of the data dictionary of MySQL 8.0 and later.
const dictionaryName = "mysql.ibd"

// neededByMySQL: of undo tablespaces, those that are made by statements may be dropped.
func neededByMySQL(name string) bool {
	return name == dictionaryName || backupdir.UndoFile.MatchString(name) && path.Ext(name) != ".ibu"
}

// checkApplied is for MariaDB, whose redo log shows that the base was applied.
func (m *merging) checkApplied(done bool) error {
	if !done {
		return m.no("it was not applied yet: run hb apply on it first, without --merge")
	}
	return nil
}

// serverUUID is the file that MySQL makes when it starts in a directory. No backup has it.
const serverUUID = "auto.cnf"

// checkUnrolled is for MySQL: no transaction must have been rolled back in the base. hb apply
// rolls nothing back, and XtraBackup does not with --apply-log-only; a server does when it
// starts. XtraBackup's checks end with backup_type (log-applied).
func (m *merging) checkUnrolled(done bool) error {
	ran, err := backupdir.Exists(m.root, serverUUID)
	if err != nil {
		return fmt.Errorf("looking for %s: %w", serverUUID, err)
	}
	const again = "its increments do not fit any more; take the full backup again"
	switch {
	case ran:
		return m.no(fmt.Sprintf("a server has run on it since it was applied (%s exists): %s", serverUUID, again))
	case m.base.Checkpoints.BackupType == metadata.LogApplied:
		return nil
	case !done:
		return m.no("it was not applied yet: run hb apply on it first, without --merge, or xtrabackup --prepare --apply-log-only")
	}
	left, err := backupdir.ReadApplied(m.root)
	if err != nil {
		return err
	}
	if left == nil {
		return m.no(fmt.Sprintf("XtraBackup prepared it without --apply-log-only and rolled transactions back: %s, and prepare it with hb apply or with --apply-log-only", again))
	}
	same, err := left.SameLog(m.root)
	if err != nil {
		return fmt.Errorf("comparing the redo log with %s: %w", backupdir.AppliedName, err)
	}
	if !same {
		return m.no("a server has run on it since hb apply recovered it: " + again)
	}
	return nil
}

// fixUps are the increment's files that say what DDL did during the backup, by the names
// before their extensions, and the tablespaces, by their names.
type fixUps struct {
	named                  map[string]*entry
	deleted, renamed, made []string
}

// readRename reads the new name in a .ren file, as a file of the backup.
func (m *merging) readRename(base string, named func(string) (string, error)) (string, error) {
	file := base + backupdir.ExtRename
	text, err := m.inc.ReadFile(file)
	if err != nil || len(text) > backupdir.MaxRenameFile {
		return "", m.damage(file, errors.Join(errors.New("it cannot be read, or is too long"), err))
	}
	to, err := named(strings.TrimSpace(strings.TrimRight(string(text), "\x00")))
	if err != nil {
		return "", m.damage(file, err)
	}
	return to, nil
}

// fixUpByName carries out mariadb-backup's, in whose names there is no .ibd: tables that were
// dropped, then those that were renamed, then those that were made.
func (m *merging) fixUpByName(f *fixUps) error {
	for _, base := range f.deleted {
		delete(f.named, base+backupdir.ExtTable)
	}
	moved := make(map[string]*entry)
	for _, base := range f.renamed {
		to, err := m.readRename(base, backupdir.TablePath)
		if err != nil {
			return err
		}
		if e := f.named[base+backupdir.ExtTable]; e != nil {
			delete(f.named, e.name)
			e.name = to
			moved[to] = e
		}
	}
	if err := m.putMoved(f, moved); err != nil {
		return err
	}
	for _, base := range f.made {
		if err := m.addWhole(f, base+backupdir.ExtTable, base+backupdir.ExtNew); err != nil {
			return err
		}
	}
	return nil
}

// fixUpByID carries out XtraBackup's, whose names have the ids of tablespaces
// (--lock-ddl=REDUCED): tables that were renamed, then those that were copied once more, whole
// or what changed of them, then those that were dropped.
func (m *merging) fixUpByID(f *fixUps) error {
	again := make(map[string]*entry)
	for _, name := range sorted(f.named) {
		if to, ok := strings.CutSuffix(name, backupdir.ExtNew); ok {
			again[to] = f.named[name]
			delete(f.named, name)
		}
	}
	byID := make(map[innodb.SpaceID]*entry)
	for _, e := range f.named {
		byID[e.id] = e
	}
	moved := make(map[string]*entry)
	for _, base := range f.renamed {
		id, err := m.idOf(base, backupdir.ExtRename)
		if err != nil {
			return err
		}
		to, err := m.readRename(base, backupdir.SpacePath)
		if err != nil {
			return err
		}
		e := byID[id]
		switch {
		case e != nil:
			delete(f.named, e.name)
			e.name = to
			moved[to] = e
		case again[to] == nil && !slices.Contains(f.made, to):
			return backupdir.Missing("%s: %s renames tablespace %d, of which it has nothing", m.inc.Name(), base+backupdir.ExtRename, id)
		}
	}
	if err := m.putMoved(f, moved); err != nil {
		return err
	}
	for to, e := range again {
		e.name, f.named[to] = to, e
	}
	for _, base := range f.made {
		if err := m.addWhole(f, base, base+backupdir.ExtNew); err != nil {
			return err
		}
	}
	return m.dropByID(f)
}

// dropByID removes the tables that were dropped.
func (m *merging) dropByID(f *fixUps) error {
	for _, base := range f.deleted {
		id, err := m.idOf(base, backupdir.ExtDelete)
		if err != nil {
			return err
		}
		for name, e := range f.named {
			if e.id == id && id != 0 {
				delete(f.named, name)
			}
		}
	}
	return nil
}

// idOf is the id in the name of a fix-up file: db/17.del, or db/17.ibd.del.
func (m *merging) idOf(base, ext string) (innodb.SpaceID, error) {
	id, err := strconv.ParseUint(strings.TrimSuffix(path.Base(base), backupdir.ExtTable), 10, 32)
	if err != nil {
		return 0, m.damage(base+ext, errors.New("its name is not a tablespace's number"))
	}
	return innodb.SpaceID(id), nil
}

// putMoved enters renamed tablespaces under their new names.
func (m *merging) putMoved(f *fixUps, moved map[string]*entry) error {
	for to, e := range moved {
		if f.named[to] != nil {
			return m.damage(e.delta, fmt.Errorf("it is renamed to %s, as which there is another tablespace", to))
		}
		f.named[to] = e
	}
	return nil
}

// addWhole enters a tablespace of which the increment has the whole file.
func (m *merging) addWhole(f *fixUps, name, file string) error {
	e := &entry{name: name, whole: file}
	space, err := backupdir.ReadSpace(m.inc, file)
	if errors.Is(err, innodb.ErrZeroHeader) {
		e.id, err = unwritten, nil
	} else {
		e.id = space.ID
	}
	if err != nil {
		return m.damage(file, err)
	}
	f.named[name] = e
	return nil
}
