package sink

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"hb/source/innodb"
	"hb/stream/disk"
)

// XtraBackup settles what DDL did while it copied by the ids of tablespaces
// (--lock-ddl=REDUCED, ddl_tracker.cc of 8.0.35 and later):
//
//	db/17.del        tablespace 17 was dropped
//	db/17.ren        tablespace 17 was renamed: its content is the new name, db2/t2.ibd
//	db/t.ibd.new     db/t.ibd, copied whole once more
//	db/t.ibd.crpt    what was copied of db/t.ibd is damaged
//
// All of one kind take effect before the next. Renames may form chains and
// cycles: so every renamed file first moves out of the way, to hb-moved-17, and
// then all of them to their new names. Killed anywhere and run again, this
// comes to the same end: the ids are in the files, and what says what to do is
// removed last.
const (
	extCorrupt  = ".crpt"
	movedPrefix = "hb-moved-"
)

func (m *mysqlFamily) fixUp() error {
	if m.backup.own {
		return fixUp(m.root, anywhere)
	}
	x := &idFixer{root: m.root}
	if err := x.list(m.backup.isSystem); err != nil {
		return err
	}
	return x.run()
}

// idFixer brings tablespaces to their final names by their ids.
type idFixer struct {
	root    disk.Dir
	files   map[innodb.SpaceID]string // by the id on page 0
	deletes []idFile
	renames []idFile
	created []string // with extNew
	// did, if not nil, is told of every change to the directory; tests
	// interrupt there.
	did func() error
}

// idFile is a file that says something of a tablespace.
type idFile struct {
	name string
	id   innodb.SpaceID
}

// list finds what there is to do, and the tablespaces that it is about: those
// of which twice the same id is found are reported later.
func (x *idFixer) list(isSystem func(name string) bool) error {
	x.files = make(map[innodb.SpaceID]string)
	return eachFile(x.root, func(file string) error {
		base, ext := path.Base(file), path.Ext(file)
		switch {
		case ext == extDelete || ext == extRename:
			id, err := strconv.ParseUint(strings.TrimSuffix(base, ext), 10, 32)
			if err != nil {
				return fmt.Errorf("%s: its name is not a tablespace's number", file)
			}
			f := idFile{file, innodb.SpaceID(id)}
			if ext == extDelete {
				x.deletes = append(x.deletes, f)
			} else {
				x.renames = append(x.renames, f)
			}
		case ext == extNew:
			x.created = append(x.created, file)
		case ext == extCorrupt:
			return fmt.Errorf("%s: XtraBackup could not copy this table whole: prepare the backup with XtraBackup", file)
		case (ext == extTable || undoFile.MatchString(base)) && !isSystem(file):
			space, err := readSpace(x.root, file)
			if err == nil {
				x.files[space.ID] = file
			} else if !errors.Is(err, innodb.ErrZeroHeader) {
				return fmt.Errorf("page 0 of %s: %w", file, err)
			}
		}
		return nil
	})
}

// step does one change to the directory.
func (x *idFixer) step(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if x.did != nil {
		return x.did()
	}
	return nil
}

func (x *idFixer) run() error {
	for _, f := range x.deletes {
		if name := x.files[f.id]; name != "" {
			if err := x.step("removing a dropped table", x.root.Remove(name)); err != nil {
				return err
			}
		}
		if err := x.step("settling a dropped table", x.root.Remove(f.name)); err != nil {
			return err
		}
	}
	targets := make([]string, len(x.renames))
	for i, f := range x.renames {
		to, err := anywhere.readRename(x.root, f.name)
		if err == nil {
			targets[i] = to
			err = x.moveAway(f, to)
		}
		if err != nil {
			return err
		}
	}
	for i, f := range x.renames {
		if err := x.moveBack(f, targets[i]); err != nil {
			return err
		}
	}
	for _, name := range x.created {
		if err := x.step("settling a new table", x.root.Rename(name, strings.TrimSuffix(name, extNew))); err != nil {
			return err
		}
	}
	return nil
}

func movedName(id innodb.SpaceID) string { return fmt.Sprintf("%s%d", movedPrefix, id) }

// moveAway is the first step of a rename.
func (x *idFixer) moveAway(f idFile, to string) error {
	moved, err := exists(x.root, movedName(f.id))
	if err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	from := x.files[f.id]
	switch {
	case moved || from == to:
		return nil
	case from == "" && slices.Contains(x.created, to+extNew):
		return nil // renamed, and then copied whole under its new name
	case from == "":
		return missing("%s renames tablespace %d, which is not there: the backup is incomplete", f.name, f.id)
	}
	return x.step(fmt.Sprintf("renaming %s, as %s says", from, f.name), x.root.Rename(from, movedName(f.id)))
}

// moveBack is the second step of a rename.
func (x *idFixer) moveBack(f idFile, to string) error {
	moved, err := exists(x.root, movedName(f.id))
	if err == nil && moved {
		var taken bool
		if taken, err = exists(x.root, to); err == nil && taken {
			err = errors.New("another tablespace has that name")
		}
		if err == nil {
			err = x.root.MkdirAll(path.Dir(to), dirMode)
		}
		if err == nil {
			err = x.root.Rename(movedName(f.id), to)
		}
		if err := x.step(fmt.Sprintf("renaming tablespace %d to %s", f.id, to), err); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	return x.step("renaming a table", x.root.Remove(f.name))
}
