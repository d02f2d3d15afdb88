package fixup

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"hb/sink/backupdir"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// ByID carries out the fix-up files of XtraBackup, which names tablespaces by their
// ids. isSystem recognises the files of the system tablespace.
func ByID(root disk.Dir, isSystem func(name string) bool, did func() error) error {
	x := &idFixer{root: root, did: did}
	if err := x.list(isSystem); err != nil {
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
	created []string // with backupdir.ExtNew
	// did, if not nil, is called after every change to the directory; tests
	// interrupt there.
	did func() error
}

// idFile is a fix-up file for a tablespace.
type idFile struct {
	name string
	id   innodb.SpaceID
}

// list finds the fix-up files, and the tablespaces that they are about. Two
// tablespaces with the same id are reported later.
func (x *idFixer) list(isSystem func(name string) bool) error {
	x.files = make(map[innodb.SpaceID]string)
	return backupdir.EachFile(x.root, func(file string) error {
		base, ext := path.Base(file), path.Ext(file)
		switch {
		case ext == backupdir.ExtDelete || ext == backupdir.ExtRename:
			id, err := strconv.ParseUint(strings.TrimSuffix(base, ext), 10, 32)
			if err != nil {
				return fmt.Errorf("%s: its name is not a tablespace's number", file)
			}
			f := idFile{file, innodb.SpaceID(id)}
			if ext == backupdir.ExtDelete {
				x.deletes = append(x.deletes, f)
			} else {
				x.renames = append(x.renames, f)
			}
		case ext == backupdir.ExtNew:
			x.created = append(x.created, file)
		case ext == backupdir.ExtCorrupt:
			return fmt.Errorf("%s: XtraBackup could not copy this table whole: prepare the backup with XtraBackup", file)
		case (ext == backupdir.ExtTable || backupdir.UndoFile.MatchString(base)) && !isSystem(file):
			space, err := backupdir.ReadSpace(x.root, file)
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
	targets := make(map[string]string) // of renames
	for _, f := range x.renames {
		to, err := anywhere.readRename(x.root, f.name)
		if err != nil {
			return err
		}
		targets[f.name] = to
	}
	created := make([]idFile, len(x.created))
	for i, name := range x.created {
		created[i].name = name
	}
	return inSteps(x.root, []fixStep[idFile]{
		{x.deletes, x.drop},
		{x.deletes, func(f idFile) error { return x.step("settling a dropped table", x.root.Remove(f.name)) }},
		{x.renames, func(f idFile) error { return x.moveAway(f, targets[f.name]) }},
		{x.renames, func(f idFile) error { return x.moveBack(f, targets[f.name]) }},
		{x.renames, func(f idFile) error { return x.step("renaming a table", x.root.Remove(f.name)) }},
		{created, func(f idFile) error {
			return x.step("settling a new table", x.root.Rename(f.name, strings.TrimSuffix(f.name, backupdir.ExtNew)))
		}},
	})
}

// drop removes a table that was dropped.
func (x *idFixer) drop(f idFile) error {
	name := x.files[f.id]
	if name == "" {
		return nil
	}
	return x.step("removing a dropped table", x.root.Remove(name))
}

// moveAway is the first step of a rename.
func (x *idFixer) moveAway(f idFile, to string) error {
	moved, err := backupdir.Exists(x.root, backupdir.MovedName(f.id))
	if err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	from := x.files[f.id]
	switch {
	case moved || from == to:
		return nil
	case from == "" && slices.Contains(x.created, to+backupdir.ExtNew):
		return nil // renamed, and then copied whole under its new name
	case from == "":
		return backupdir.Missing("%s renames tablespace %d, which is not there: the backup is incomplete", f.name, f.id)
	}
	return x.step(fmt.Sprintf("renaming %s, as %s says", from, f.name), x.root.Rename(from, backupdir.MovedName(f.id)))
}

// moveBack is the second step of a rename.
func (x *idFixer) moveBack(f idFile, to string) error {
	moved, err := backupdir.Exists(x.root, backupdir.MovedName(f.id))
	if err != nil {
		return fmt.Errorf("renaming a table: %w", err)
	}
	if !moved {
		return nil
	}
	taken, err := backupdir.Exists(x.root, to)
	if err == nil && taken {
		err = errors.New("another tablespace has that name")
	}
	if err == nil {
		err = backupdir.HaveDir(x.root, path.Dir(to))
	}
	if err == nil {
		err = x.root.Rename(backupdir.MovedName(f.id), to)
	}
	return x.step(fmt.Sprintf("renaming tablespace %d to %s", f.id, to), err)
}
