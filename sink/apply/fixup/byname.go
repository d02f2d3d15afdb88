// Package fixup carries out what a backup's files say of DDL that went on during the
// backup: tables that were dropped, renamed, or copied once more. In goes a directory
// with fix-up files, out comes one without, in which every table has its final name.
// Killed anywhere and run again, it comes to the same end: package backupdir has the
// names of the files and the order of the steps.
package fixup

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"hb/sink/backupdir"
	"hb/stream/disk"
	"hb/xbstream"
)

// InDatabases carries out the fix-up files of mariadb-backup, or of hb for MariaDB, in
// the directories of databases. It calls did, if not nil, after every change to the
// directory; tests interrupt there.
func InDatabases(root disk.Dir, did func() error) error {
	return (&fixer{root: root, scope: inDatabases, did: did}).run()
}

// Anywhere carries out those that hb writes for MySQL: also for the general tablespaces
// in the top directory.
func Anywhere(root disk.Dir) error { return (&fixer{root: root, scope: anywhere}).run() }

// scope is where tables are: functions that list the files that count, and map
// which of them a name means.
type scope struct {
	each func(root disk.Dir, f func(file string) error) error
	path func(name string) (file string, err error)
}

var (
	inDatabases = scope{backupdir.EachDatabaseFile, backupdir.TablePath}
	anywhere    = scope{backupdir.EachFile, backupdir.SpacePath}
)

// fixer does it step by step.
type fixer struct {
	root disk.Dir
	scope
	// did, if not nil, is called after every change to the directory; tests
	// interrupt there.
	did func() error
}

// step does one change to the directory.
func (x *fixer) step(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if x.did != nil {
		return x.did()
	}
	return nil
}

func (x *fixer) run() error {
	found, err := x.list()
	if err != nil {
		return err
	}
	renamed := slices.Clone(found[backupdir.ExtSecond])
	for _, name := range found[backupdir.ExtRename] {
		renamed = append(renamed, movedAs(name))
	}
	return inSteps(x.root, []fixStep[string]{
		{found[backupdir.ExtDelete], x.drop},
		{found[backupdir.ExtDelete], func(name string) error {
			return x.step("settling a dropped table", x.root.Remove(name+backupdir.ExtDelete))
		}},
		{found[backupdir.ExtRename], func(name string) error { return x.moveAway(name, found[backupdir.ExtNew]) }},
		{found[backupdir.ExtRename], func(name string) error {
			return x.step("renaming a table", x.root.Rename(name+backupdir.ExtRename, movedAs(name)+backupdir.ExtSecond))
		}},
		{renamed, x.moveBack},
		{renamed, func(name string) error { return x.step("renaming a table", x.root.Remove(name+backupdir.ExtSecond)) }},
		{found[backupdir.ExtNew], func(name string) error {
			return x.step("settling a new table", x.root.Rename(name+backupdir.ExtNew, name+backupdir.ExtTable))
		}},
	})
}

// fixStep is what is done to several tables, in any order.
type fixStep[T any] struct {
	tables []T
	do     func(T) error
}

// inSteps does steps one after the other, each on disk before the next begins.
func inSteps[T any](root disk.Dir, steps []fixStep[T]) error {
	for _, step := range steps {
		for _, table := range step.tables {
			if err := step.do(table); err != nil {
				return err
			}
		}
		if len(step.tables) > 0 {
			if err := backupdir.SyncTree(root); err != nil {
				return err
			}
		}
	}
	return nil
}

// drop removes a table that was dropped.
func (x *fixer) drop(name string) error {
	err := x.root.Remove(name + backupdir.ExtTable)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return x.step("removing a dropped table", err)
}

// list returns the fix-up files, by their extension and without it, as db/name.
func (x *fixer) list() (map[string][]string, error) {
	found := make(map[string][]string)
	err := x.each(x.root, func(file string) error {
		switch ext := path.Ext(file); ext {
		case backupdir.ExtDelete, backupdir.ExtRename, backupdir.ExtNew, backupdir.ExtSecond:
			found[ext] = append(found[ext], strings.TrimSuffix(file, ext))
		}
		return nil
	})
	return found, err
}

// longestAside is how long a table's name may be so that it stays distinct from
// its names while it is renamed.
const longestAside = xbstream.MaxName - max(len(backupdir.ExtMoved), len(backupdir.ExtSecond), len(backupdir.ExtTemporary))

// movedAs is a table's name while it is renamed: its own or, where that
// would be too long for a file system, by a digest of its name.
func movedAs(name string) string {
	dir, base := path.Split(name)
	if len(base) <= longestAside {
		return name
	}
	sum := sha256.Sum256([]byte(base))
	return dir + fmt.Sprintf("hb-%x", sum[:16])
}

// moveAway is the first step of a rename. created are the names of tables that
// were copied whole.
func (x *fixer) moveAway(name string, created []string) error {
	aside := movedAs(name)
	moved, err := backupdir.Exists(x.root, aside+backupdir.ExtMoved)
	if err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	if moved {
		return nil
	}
	err = x.root.Rename(name+backupdir.ExtTable, aside+backupdir.ExtMoved)
	if errors.Is(err, fs.ErrNotExist) {
		to, rerr := x.newName(name + backupdir.ExtRename)
		if rerr != nil {
			return rerr
		}
		if slices.Contains(created, to) {
			err = nil // renamed, and then copied whole under its new name
		}
	}
	return x.step(fmt.Sprintf("renaming a table, as %s%s says", name, backupdir.ExtRename), err)
}

// moveBack is the second step of a rename.
func (x *fixer) moveBack(name string) error {
	to, err := x.newName(name + backupdir.ExtSecond)
	if err != nil {
		return err
	}
	moved, err := backupdir.Exists(x.root, name+backupdir.ExtMoved)
	if err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	if !moved {
		return nil
	}
	taken, err := backupdir.Exists(x.root, to+backupdir.ExtTable)
	if err == nil && taken {
		err = errors.New("a table of that name is there already")
	}
	if err == nil {
		err = backupdir.HaveDir(x.root, path.Dir(to))
	}
	if err == nil {
		err = x.root.Rename(name+backupdir.ExtMoved, to+backupdir.ExtTable)
	}
	return x.step(fmt.Sprintf("renaming table %s to %s", name, to), err)
}

// newName returns the new name in a .ren file, db/table.
func (x *fixer) newName(file string) (string, error) {
	to, err := x.readRename(x.root, file)
	return strings.TrimSuffix(to, backupdir.ExtTable), err
}

// readRename returns the new name in a .ren file, as a file of the backup.
func (in scope) readRename(root disk.Dir, file string) (string, error) {
	st, err := root.Stat(file)
	if err != nil {
		return "", fmt.Errorf("renaming a table: %w", err)
	}
	if st.Size() > backupdir.MaxRenameFile {
		return "", fmt.Errorf("%s has %d bytes, more than a name can have", file, st.Size())
	}
	text, err := root.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("renaming a table: %w", err)
	}
	to, err := in.path(strings.TrimRight(string(text), "\x00\r\n"))
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return to, nil
}
