package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
)

// mariadb-backup settles what DDL did while it copied in three kinds of files
// (extra/mariabackup/xtrabackup.cc, prepare_export and its callers):
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

// fixUp brings the tables of a directory to their final names.
func fixUp(root *os.Root) error {
	found, err := listFixUps(root)
	if err != nil {
		return err
	}
	for _, name := range found[extDelete] {
		if err := removeIfThere(root, name+extTable); err != nil {
			return err
		}
		if err := root.Remove(name + extDelete); err != nil {
			return fmt.Errorf("settling a dropped table: %w", err)
		}
	}
	for _, name := range found[extRename] {
		if err := moveAway(root, name, found[extNew]); err != nil {
			return err
		}
		found[extSecond] = append(found[extSecond], name)
	}
	for _, name := range found[extSecond] {
		if err := moveBack(root, name); err != nil {
			return err
		}
	}
	for _, name := range found[extNew] {
		if err := root.Rename(name+extNew, name+extTable); err != nil {
			return fmt.Errorf("settling a new table: %w", err)
		}
	}
	return nil
}

// listFixUps returns the files in database directories by their extension, as
// db/name without it.
func listFixUps(root *os.Root) (map[string][]string, error) {
	found := make(map[string][]string)
	err := eachDatabaseFile(root, func(file string) error {
		switch ext := path.Ext(file); ext {
		case extDelete, extRename, extNew, extSecond:
			found[ext] = append(found[ext], strings.TrimSuffix(file, ext))
		}
		return nil
	})
	return found, err
}

// eachDatabaseFile calls f for each file in each directory of root, as
// dir/name.
func eachDatabaseFile(root *os.Root, f func(file string) error) error {
	top, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return fmt.Errorf("listing the backup directory: %w", err)
	}
	for _, d := range top {
		if !d.IsDir() {
			continue
		}
		files, err := fs.ReadDir(root.FS(), d.Name())
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

func removeIfThere(root *os.Root, name string) error {
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing a dropped table: %w", err)
	}
	return nil
}

func exists(root *os.Root, name string) (bool, error) {
	_, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// moveAway is the first step of a rename.
func moveAway(root *os.Root, name string, created []string) error {
	moved, err := exists(root, name+extMoved)
	if err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	if !moved {
		err := root.Rename(name+extTable, name+extMoved)
		if errors.Is(err, fs.ErrNotExist) {
			// Renamed, and then copied whole under its new name.
			to, rerr := readRename(root, name+extRename)
			if rerr != nil {
				return rerr
			}
			for _, n := range created {
				if n == to {
					err = nil
				}
			}
		}
		if err != nil {
			return fmt.Errorf("renaming a table, as %s%s says: %w", name, extRename, err)
		}
	}
	if err := root.Rename(name+extRename, name+extSecond); err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	return nil
}

// moveBack is the second step of a rename.
func moveBack(root *os.Root, name string) error {
	to, err := readRename(root, name+extSecond)
	if err != nil {
		return err
	}
	moved, err := exists(root, name+extMoved)
	if err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	if moved {
		if taken, err := exists(root, to+extTable); err != nil {
			return fmt.Errorf("renaming a table: %w", err)
		} else if taken {
			return fmt.Errorf("renaming table %s to %s: a table of that name is there already", name, to)
		}
		if err := root.MkdirAll(path.Dir(to), 0o750); err != nil {
			return fmt.Errorf("renaming table %s to %s: %w", name, to, err)
		}
		if err := root.Rename(name+extMoved, to+extTable); err != nil {
			return fmt.Errorf("renaming table %s to %s: %w", name, to, err)
		}
	}
	if err := root.Remove(name + extSecond); err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	return nil
}

// readRename returns the new name in a .ren file, db/table.
func readRename(root *os.Root, file string) (string, error) {
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
	to, err := tablePath(strings.TrimRight(string(text), "\x00\r\n"))
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return strings.TrimSuffix(to, extTable), nil
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
