package backupdir

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"

	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// PackedExts are what files are called that were compressed or encrypted one by
// one.
var PackedExts = []string{".zst", ".lz4", ".qp", ".xbcrypt"}

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
// their new names; which of the two a file still needs is in the name of what was
// its .ren:
//
//	t.ibd → t.hb-moved          for all, then for all:
//	t.ren → t.hb-ren
//	t.hb-moved → t2.ibd
//	remove t.hb-ren
//
// The machine may crash anywhere, too, and lose any of the changes that are not on
// disk. So all directories are synced after each of these steps, and each step is
// one in which no change relies on another.
const (
	ExtTable  = ".ibd"
	ExtDelete = ".del"
	ExtRename = ".ren"
	ExtNew    = ".new"
	ExtMoved  = ".hb-moved"
	ExtSecond = ".hb-ren"
)

// MaxRenameFile bounds a .ren file: two names of at most 64 characters, each
// encoded in up to five bytes, and partition names.
const MaxRenameFile = 4 << 10

// EachFile calls f for each file in root and in each directory of it.
func EachFile(root disk.Dir, f func(file string) error) error {
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
	return EachDatabaseFile(root, f)
}

// EachDatabaseFile calls f for each file in each directory of root, as
// dir/name.
func EachDatabaseFile(root disk.Dir, f func(file string) error) error {
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

func Exists(root disk.Dir, name string) (bool, error) {
	_, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// SpacePath returns where in a backup the file is that the server names so:
// that of a table, or of a general tablespace, which is in no directory.
func SpacePath(name string) (string, error) {
	relative := strings.TrimPrefix(name, "./")
	if strings.Contains(relative, "/") {
		return TablePath(relative)
	}
	if relative == "" || relative == "." || relative == ".." || strings.ContainsAny(relative, "\x00\\") {
		return "", fmt.Errorf("%q names no tablespace", name)
	}
	return relative, nil
}

// TablePath returns where in a backup a table's file is that the server names
// so: the last two parts of the path. ./db/t.ibd, /elsewhere/db/t.ibd and db/t
// all mean the files in db.
func TablePath(name string) (string, error) {
	parts := strings.Split(name, "/")
	n := len(parts)
	if n < 2 {
		return "", fmt.Errorf("%q names no table", name)
	}
	db, table := parts[n-2], strings.TrimSuffix(parts[n-1], ExtTable)
	for _, part := range []string{db, table} {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\x00\\") {
			return "", fmt.Errorf("%q names no table", name)
		}
	}
	return db + "/" + table + ExtTable, nil
}

// XtraBackup settles what DDL did while it copied by the ids of tablespaces
// (--lock-ddl=REDUCED, ddl_tracker.cc of 8.0.35 and later):
//
//	db/17.del        tablespace 17 was dropped
//	db/17.ren        tablespace 17 was renamed: its content is the new name, db2/t2.ibd
//	db/t.ibd.new     db/t.ibd, copied whole once more
//	db/t.ibd.crpt    the copy of db/t.ibd is damaged
//
// All of one kind take effect before the next. Renames may form chains and cycles: so
// every renamed file first moves out of the way, to hb-moved-17, and then all of them
// to their new names. Killed anywhere and run again, this comes to the same end: the
// ids are in the files, and the file that says what to do is removed last. Each step
// is on disk before the next begins.
const ExtCorrupt = ".crpt"

// MovedPrefix begins the names of files that are out of the way.
const MovedPrefix = "hb-moved-"

// MovedName is what a tablespace's file is called while it is out of the way.
func MovedName(id innodb.SpaceID) string { return fmt.Sprintf("%s%d", MovedPrefix, id) }

// UndoFile are the names of undo tablespaces: undo001 (5.6, 5.7), undo_001, and
// the files of those that were created by statements.
var UndoFile = regexp.MustCompile(`^undo_?[0-9]+$|\.ibu$`)

// TablespaceName are the names of tablespaces' files in a backup, the system
// tablespace's excepted.
var TablespaceName = regexp.MustCompile(`\.ib[du]$|^undo_?[0-9]+$|\.new$`)
