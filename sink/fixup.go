package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"hb/stream/disk"
)

// mariadb-backup settles what DDL did while it copied in three kinds of files
// (extra/mariabackup/xtrabackup.cc of 10.5 to 11.8, xtrabackup_prepare_func):
//
//	db/t.del   t was dropped: remove db/t.ibd
//	db/t.ren   t was renamed: its content is the new name, db2/t2
//	db/t.new   t was created, or rebuilt, and copied whole: it is db/t.ibd
//
// They take effect in this order, all of one kind before the next. Names in
// databases hold no dot (they are encoded), so no table is meant by mistake.
//
// Renames may form chains and cycles, and the process may be killed anywhere.
// So every renamed file first moves out of the way, and then all of them to
// their new names; which of the two a file has behind it is in the name of what
// was its .ren:
//
//	t.ibd → t.hb-moved, t.ren → t.hb-ren          for all, then for all:
//	t.hb-moved → t2.ibd, remove t.hb-ren
const (
	extTable  = ".ibd"
	extDelete = ".del"
	extRename = ".ren"
	extNew    = ".new"
	extMoved  = ".hb-moved"
	extSecond = ".hb-ren"
)

// maxRenameFile bounds a .ren file: two names of at most 64 characters, each
// encoded in up to five bytes, and partition names.
const maxRenameFile = 4 << 10

//
// hb writes such files for MySQL too, there also for the general tablespaces in
// the top directory.

// fixUp brings the tables of a directory to their final names.
func fixUp(root disk.Dir, in scope) error { return (&fixer{root: root, scope: in}).run() }

// scope is where tables are: what lists the files that count, and what tells
// which of them a name means.
type scope struct {
	each func(root disk.Dir, f func(file string) error) error
	path func(name string) (file string, err error)
}

var (
	inDatabases = scope{eachDatabaseFile, tablePath}
	anywhere    = scope{eachFile, spacePath}
)

// fixer does it step by step.
type fixer struct {
	root disk.Dir
	scope
	// did, if not nil, is told of every change to the directory; tests
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
	for _, name := range found[extDelete] {
		err := x.root.Remove(name + extTable)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err := x.step("removing a dropped table", err); err != nil {
			return err
		}
		if err := x.step("settling a dropped table", x.root.Remove(name+extDelete)); err != nil {
			return err
		}
	}
	for _, name := range found[extRename] {
		if err := x.moveAway(name, found[extNew]); err != nil {
			return err
		}
		found[extSecond] = append(found[extSecond], name)
	}
	for _, name := range found[extSecond] {
		if err := x.moveBack(name); err != nil {
			return err
		}
	}
	for _, name := range found[extNew] {
		if err := x.step("settling a new table", x.root.Rename(name+extNew, name+extTable)); err != nil {
			return err
		}
	}
	return nil
}

// list returns the files that say what to do, by their extension and without
// it, as db/name.
func (x *fixer) list() (map[string][]string, error) {
	found := make(map[string][]string)
	err := x.each(x.root, func(file string) error {
		switch ext := path.Ext(file); ext {
		case extDelete, extRename, extNew, extSecond:
			found[ext] = append(found[ext], strings.TrimSuffix(file, ext))
		}
		return nil
	})
	return found, err
}

// eachFile calls f for each file in root and in each directory of it.
func eachFile(root disk.Dir, f func(file string) error) error {
	top, err := root.ReadDir(".")
	if err != nil {
		return fmt.Errorf("listing the backup directory: %w", err)
	}
	for _, d := range top {
		if d.IsDir() {
			continue
		}
		if err := f(d.Name()); err != nil {
			return err
		}
	}
	return eachDatabaseFile(root, f)
}

// eachDatabaseFile calls f for each file in each directory of root, as
// dir/name.
func eachDatabaseFile(root disk.Dir, f func(file string) error) error {
	top, err := root.ReadDir(".")
	if err != nil {
		return fmt.Errorf("listing the backup directory: %w", err)
	}
	for _, d := range top {
		if !d.IsDir() {
			continue
		}
		files, err := root.ReadDir(d.Name())
		if err != nil {
			return fmt.Errorf("listing the backup directory: %w", err)
		}
		for _, file := range files {
			if file.IsDir() {
				continue
			}
			if err := f(d.Name() + "/" + file.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func exists(root disk.Dir, name string) (bool, error) {
	_, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// moveAway is the first step of a rename. created are the names of tables that
// were copied whole.
func (x *fixer) moveAway(name string, created []string) error {
	moved, err := exists(x.root, name+extMoved)
	if err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	if !moved {
		err := x.root.Rename(name+extTable, name+extMoved)
		if errors.Is(err, fs.ErrNotExist) {
			to, rerr := x.newName(name + extRename)
			if rerr != nil {
				return rerr
			}
			if slices.Contains(created, to) {
				err = nil // renamed, and then copied whole under its new name
			}
		}
		if err := x.step(fmt.Sprintf("renaming a table, as %s%s says", name, extRename), err); err != nil {
			return err
		}
	}
	return x.step("renaming a table", x.root.Rename(name+extRename, name+extSecond))
}

// moveBack is the second step of a rename.
func (x *fixer) moveBack(name string) error {
	to, err := x.newName(name + extSecond)
	if err != nil {
		return err
	}
	moved, err := exists(x.root, name+extMoved)
	if err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	if moved {
		what := fmt.Sprintf("renaming table %s to %s", name, to)
		taken, err := exists(x.root, to+extTable)
		if err == nil && taken {
			err = errors.New("a table of that name is there already")
		}
		if err == nil {
			err = x.root.MkdirAll(path.Dir(to), 0o750)
		}
		if err == nil {
			err = x.root.Rename(name+extMoved, to+extTable)
		}
		if err := x.step(what, err); err != nil {
			return err
		}
	}
	return x.step("renaming a table", x.root.Remove(name+extSecond))
}

// newName returns the new name in a .ren file, db/table.
func (x *fixer) newName(file string) (string, error) {
	to, err := x.readRename(x.root, file)
	return strings.TrimSuffix(to, extTable), err
}

// readRename returns the new name in a .ren file, as a file of the backup.
func (in scope) readRename(root disk.Dir, file string) (string, error) {
	st, err := root.Stat(file)
	if err != nil {
		return "", fmt.Errorf("renaming a table: %w", err)
	}
	if st.Size() > maxRenameFile {
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

// spacePath returns where in a backup the file is that the server names so:
// that of a table, or of a general tablespace, which is in no directory.
func spacePath(name string) (string, error) {
	relative := strings.TrimPrefix(name, "./")
	if strings.Contains(relative, "/") {
		return tablePath(relative)
	}
	if relative == "" || relative == "." || relative == ".." || strings.ContainsAny(relative, "\x00\\") {
		return "", fmt.Errorf("%q names no tablespace", name)
	}
	return relative, nil
}

// tablePath returns where in a backup a table's file is that the server names
// so: the last two parts of the path. ./db/t.ibd, /elsewhere/db/t.ibd and db/t
// all mean what is in db.
func tablePath(name string) (string, error) {
	parts := strings.Split(name, "/")
	n := len(parts)
	if n < 2 {
		return "", fmt.Errorf("%q names no table", name)
	}
	db, table := parts[n-2], strings.TrimSuffix(parts[n-1], extTable)
	for _, part := range []string{db, table} {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\x00\\") {
			return "", fmt.Errorf("%q names no table", name)
		}
	}
	return db + "/" + table + extTable, nil
}
