package mergedir

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"hb/sink/backupdir"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/delta"
	"hb/xbstream/metadata"
)

// change makes the base a backup of the increment's LSN. A crash of the machine leaves what
// was synced, and any of the names that were changed since:
//
//  1. The mark of an extract that did not finish is there, which all commands refuse (mark).
//  2. The system tablespace has its second name: no server starts (hold).
//  3. Files have their names, pages and content, each synced when it is done with; the
//     redo log and the metadata are the increment's; all directories are synced.
//  4. The system tablespace has its name back. A server that starts now recovers from the
//     increment's redo log, as hb apply would.
//  5. The mark is gone.
func (m *merging) change() error {
	mark, err := m.root.OpenFile(backupdir.MarkerName, os.O_CREATE|os.O_EXCL|os.O_WRONLY, backupdir.FileMode)
	if err != nil {
		return fmt.Errorf("making %s: %w", backupdir.MarkerName, err)
	}
	if err := errors.Join(mark.Sync(), mark.Close(), backupdir.SyncIn(m.root, ".")); err != nil {
		return err
	}
	if err := m.base.Hold(m.root); err != nil {
		return err
	}
	for _, do := range []func() error{m.settleNames, m.putPages, m.removeOthers, m.copyOthers, m.putMetadata} {
		if err := do(); err != nil {
			return err
		}
	}
	if err := backupdir.SyncTree(m.root); err != nil {
		return err
	}
	if err := m.base.Release(m.root); err != nil {
		return err
	}
	if err := m.root.Remove(backupdir.MarkerName); err != nil {
		return fmt.Errorf("removing %s: %w", backupdir.MarkerName, err)
	}
	return backupdir.SyncIn(m.root, ".")
}

// settleNames removes tablespaces that are gone or come whole, and renames the others.
func (m *merging) settleNames() error {
	kept := make(map[innodb.SpaceID]*entry)
	for _, e := range m.entries {
		if e.delta != "" {
			kept[e.id] = e
		}
	}
	moved := make(map[string]string)
	for _, file := range sorted(m.spaces) {
		id := m.spaces[file]
		e := kept[id]
		var err error
		switch {
		case e == nil:
			err = m.root.Remove(file)
		case e.name != file:
			moved[backupdir.MovedName(id)] = e.name
			err = m.root.Rename(file, backupdir.MovedName(id))
		}
		if err != nil {
			return fmt.Errorf("putting %s where the increment has it: %w", file, err)
		}
	}
	for _, from := range sorted(moved) {
		if err := m.root.MkdirAll(path.Dir(moved[from]), backupdir.DirMode); err != nil {
			return fmt.Errorf("making the directory of a database: %w", err)
		}
		if err := m.root.Rename(from, moved[from]); err != nil {
			return fmt.Errorf("renaming a tablespace to %s: %w", moved[from], err)
		}
	}
	return nil
}

// putPages writes the changed pages, and files that come whole.
func (m *merging) putPages() error {
	for _, e := range m.entries {
		if m.ctx.Err() != nil {
			return context.Cause(m.ctx)
		}
		var err error
		if e.delta == "" {
			err = m.copyFile(e.whole, e.name)
		} else {
			err = m.putDelta(e)
		}
		if err != nil {
			return err
		}
	}
	return m.growSystem()
}

// growSystem makes the system tablespace as long as its page 0 says: new pages at its end
// that are all zero are in no delta.
func (m *merging) growSystem() error {
	space, err := backupdir.ReadSpace(m.root, m.base.SystemFiles[0])
	if err != nil {
		return &backupdir.DamageError{File: m.base.System, Err: err}
	}
	var before, size int64 // without the last file, and of it
	for _, name := range m.base.SystemFiles {
		st, err := m.root.Stat(name)
		if err != nil {
			return fmt.Errorf("looking at the system tablespace: %w", err)
		}
		before, size = before+size, st.Size()
	}
	want := int64(space.Size)*int64(space.Physical) - before
	if size >= want {
		return nil
	}
	last := m.base.SystemFiles[len(m.base.SystemFiles)-1]
	f, err := m.root.OpenFile(last, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("opening the system tablespace: %w", err)
	}
	if err := errors.Join(f.Truncate(want), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("making %s longer: %w", last, err)
	}
	return nil
}

func (m *merging) putDelta(e *entry) (err error) {
	name := e.name
	if name == m.base.System { // it is held
		name = m.base.SystemFiles[0]
	}
	if err := m.root.MkdirAll(path.Dir(name), backupdir.DirMode); err != nil {
		return fmt.Errorf("making the directory of a database: %w", err)
	}
	in, err := m.inc.Open(e.delta)
	if err != nil {
		return fmt.Errorf("opening the increment: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := m.root.OpenFile(name, os.O_RDWR|os.O_CREATE, backupdir.FileMode)
	if err != nil {
		return fmt.Errorf("opening a tablespace: %w", err)
	}
	size, err := m.writePages(e, in, out)
	if err == nil && e.id != 0 {
		err = m.setSize(e, out, size)
	}
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("writing changed pages to %s: %w", e.name, err)
	}
	return nil
}

// newPages is how many pages a tablespace has when the server makes it
// (FIL_IBD_FILE_INITIAL_SIZE).
const newPages = 4

// setSize makes a file as long as its page 0 says, if the increment has that: so many bytes.
// A file of MySQL's of which it has nothing is one that the redo log fills.
func (m *merging) setSize(e *entry, out disk.File, size int64) error {
	st, err := out.Stat()
	if err != nil {
		return err
	}
	if st.Size() == 0 && size == 0 && !m.tool.cuts {
		size = newPages * int64(e.meta.PageSize)
	}
	if size > st.Size() || size > 0 && m.tool.cuts {
		return out.Truncate(size)
	}
	return nil
}

// writePages writes the pages of a delta into a file. If page 0 is among them, it returns
// how long the file is by that, in bytes.
func (m *merging) writePages(e *entry, in io.Reader, out disk.File) (size int64, err error) {
	r, err := delta.NewReader(bufio.NewReaderSize(in, 1<<20), e.meta.PageSize)
	if err != nil {
		return 0, err
	}
	n := int64(0)
	for {
		no, page, err := r.Next()
		if err == io.EOF {
			if n > 0 {
				m.result.Changed++
			}
			return size, nil
		}
		if err != nil {
			return 0, m.damage(e.delta, err)
		}
		if no == 0 {
			size = int64(binary.BigEndian.Uint32(page[innodb.OffsetFSPSize:])) * int64(e.meta.PageSize)
		}
		if _, err := out.WriteAt(page, int64(no)*int64(e.meta.PageSize)); err != nil {
			return 0, err
		}
		n++
		m.result.Pages++
	}
}

// removeOthers removes what is no tablespace's: the increment has all such files, too.
func (m *merging) removeOthers() error {
	var gone []string
	err := backupdir.EachFile(m.root, func(file string) error {
		if m.base.IsSystem(file) || path.Ext(file) == backupdir.ExtTable || m.isUndo(file) || file == backupdir.MarkerName {
			return nil
		}
		gone = append(gone, file)
		return nil
	})
	for _, file := range gone {
		err = errors.Join(err, m.root.Remove(file))
	}
	if err != nil {
		return fmt.Errorf("removing what the increment has, too: %w", err)
	}
	return m.removeDatabases()
}

// removeDatabases removes the directories of databases that were dropped: those that are
// empty, and that the increment does not have.
func (m *merging) removeDatabases() error {
	top, err := m.root.ReadDir(".")
	if err != nil {
		return fmt.Errorf("listing the backup directory: %w", err)
	}
	for _, d := range top {
		if !d.IsDir() {
			continue
		}
		files, err := m.root.ReadDir(d.Name())
		if err != nil {
			return fmt.Errorf("listing the backup directory: %w", err)
		}
		if _, err := m.inc.Lstat(d.Name()); len(files) == 0 && errors.Is(err, fs.ErrNotExist) {
			if err := m.root.Remove(d.Name()); err != nil {
				return fmt.Errorf("removing the directory of a database that was dropped: %w", err)
			}
		}
	}
	return nil
}

func (m *merging) copyOthers() error {
	for _, file := range sorted(m.others) {
		if m.ctx.Err() != nil {
			return context.Cause(m.ctx)
		}
		if err := m.copyFile(file, file); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies a file of the increment, which is not there.
func (m *merging) copyFile(from, to string) (err error) {
	if err := m.root.MkdirAll(path.Dir(to), backupdir.DirMode); err != nil {
		return fmt.Errorf("making the directory of a database: %w", err)
	}
	in, err := m.inc.Open(from)
	if err != nil {
		return fmt.Errorf("opening the increment: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := m.root.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, backupdir.FileMode)
	if err != nil {
		return fmt.Errorf("making %s: %w", to, err)
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copying %s: %w", from, err)
	}
	return nil
}

// putMetadata makes of the increment's checkpoints those of a full backup.
func (m *merging) putMetadata() error {
	c := *m.points
	c.BackupType, c.FromLSN = metadata.FullBackup, 0
	text, err := c.Marshal()
	if err != nil {
		return err
	}
	st, err := m.root.Stat(m.name)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", m.name, err)
	}
	return backupdir.ReplaceFile(m.root, m.name, text, st)
}
