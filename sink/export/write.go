package export

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"hb/sink/backupdir"
	"hb/sink/export/committed"
	"hb/sink/export/rollback"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/cfg"
	"hb/xbstream/innodb/tde"
)

// Written is what became of a table.
type Written struct {
	Table *Table
	Files []string // in the directory that they were written to
	Bytes int64    // of all files
	// RolledBack is what was taken back of transactions that had not ended; nil: there was
	// nothing.
	RolledBack *committed.Pending
	// Rebuild: the secondary indexes do not fit the rows, because changes of them are only in the
	// change buffer. The server is to build them again after it imported the table.
	Rebuild bool
}

// Write puts into a directory what a server needs to import a table: its tablespaces and
// their .cfg and .cfp files, or its files of another engine, in a directory that is called as
// the database's. They are on disk when it returns; the names are once the directory is synced
// (backupdir.SyncTree). A file of that name is replaced. With Options.Below the files of the table
// are gone from d then. After an error none of the files is
// there.
func (d *Directory) Write(ctx context.Context, t *Table, to disk.Dir) (_ *Written, err error) {
	if err := d.Describe(t); err != nil {
		return nil, err
	}
	w := &Written{Table: t}
	p, err := d.pending(t)
	if err != nil {
		return nil, err
	}
	if p != nil && p.Why != "" {
		return nil, &committed.PendingError{Tables: []committed.Pending{*p}}
	}
	if p != nil && len(p.Transactions) > 0 {
		w.RolledBack = p
	}
	w.Rebuild = p != nil && p.Buffered > 0
	defer func() {
		if err == nil {
			return
		}
		for _, name := range w.Files {
			if e := to.Remove(name); !errors.Is(e, os.ErrNotExist) {
				err = errors.Join(err, e)
			}
		}
	}()
	for n := range t.Parts {
		if err := d.describe(t, n, to, w); err != nil {
			return nil, fmt.Errorf("exporting table %s: %w", t, err)
		}
	}
	for i, name := range t.files() {
		if err := backupdir.HaveDir(to, path.Dir(name)); err != nil {
			return nil, err
		}
		w.Files = append(w.Files, name)
		n, err := d.put(ctx, t, i, name, to, w)
		if err != nil {
			return nil, fmt.Errorf("exporting table %s: %w", t, err)
		}
		w.Bytes += n
	}
	return w, nil
}

// put writes the file number i of a table, or moves it where the directory is not needed any
// more. Of one that changes, a copy changes: it is read meanwhile.
func (d *Directory) put(ctx context.Context, t *Table, i int, name string, to disk.Dir, w *Written) (int64, error) {
	switch {
	case w.RolledBack == nil && d.below != "":
		return d.place(name, to)
	case w.RolledBack == nil:
		return d.copy(ctx, name, to, nil)
	}
	n, err := d.copy(ctx, name, to, func(f disk.File) error { return d.rollBack(t, i, w.Rebuild, f.WriteAt) })
	if unable, ok := errors.AsType[*rollback.UnableError](err); ok {
		w.RolledBack.Why = unable.What
		err = &committed.PendingError{Tables: []committed.Pending{*w.RolledBack}}
	}
	return n, err
}

// files are the files of the table that hold its rows. What defines it is made by CREATE TABLE.
func (t *Table) files() (names []string) {
	for _, p := range t.Parts {
		names = append(names, p.Path)
	}
	for _, name := range t.Others {
		if ext := path.Ext(name); !slices.Contains(definitions, ext) && engines[ext] != Merge {
			names = append(names, name)
		}
	}
	return names
}

// describe writes the .cfg and .cfp files of a tablespace.
func (d *Directory) describe(t *Table, n int, to disk.Dir, w *Written) error {
	part := &t.Parts[n]
	if err := backupdir.HaveDir(to, path.Dir(part.Path)); err != nil {
		return err
	}
	files, err := d.descriptions(t, n, moved)
	if err != nil {
		return err
	}
	for _, f := range files {
		w.Files, w.Bytes = append(w.Files, f.name), w.Bytes+int64(len(f.content))
		if err := f.write(to, nil); err != nil {
			return err
		}
	}
	return nil
}

// description is a .cfg or .cfp file.
type description struct {
	name    string
	mode    os.FileMode
	content []byte
}

// write writes the file, with the owner of another one, if that is given.
func (f *description) write(to disk.Dir, like os.FileInfo) error {
	var made func(disk.File) error
	if like != nil {
		made = func(file disk.File) error { return backupdir.SameOwner(file, like) }
	}
	if err := disk.Replace(to, f.name, f.name+backupdir.ExtTemporary, f.mode, f.content, made); err != nil {
		return fmt.Errorf("writing %s: %w", f.name, err)
	}
	return nil
}

// Where the files go: beside the tablespace, or with a copy of it.
const (
	beside = false
	moved  = true
)

// descriptions makes the .cfg and .cfp files of a tablespace.
func (d *Directory) descriptions(t *Table, n int, moves bool) (files []description, err error) {
	part := &t.Parts[n]
	err = d.with(part.Path, func(pages *Pages) error {
		file, err := d.config(t, n, pages)
		if err != nil {
			return err
		}
		if err := d.check(t, file); err != nil {
			return err
		}
		if err := d.checkRedundant(t, file, pages); err != nil {
			return err
		}
		if elsewhere := !d.MariaDB() && pages.Space().Flags&cfg.SpaceDataDir != 0; elsewhere && !moves {
			return &RefusedError{t.String(), "it had DATA DIRECTORY, and MySQL 5.6 and 5.7 crash when they import its file as it is: take it out of an archive with hb extract --table"}
		}
		if moves && !d.MariaDB() {
			file.ForgetDataDir()
		}
		content, err := file.Marshal()
		if err != nil {
			return err
		}
		files = append(files, description{part.Base() + cfg.Ext, backupdir.FileMode, content})
		if d.MariaDB() || !pages.Space().Encrypted() {
			return nil
		}
		if content, err = d.keyFile(pages); err != nil {
			return err
		}
		files = append(files, description{part.Base() + cfg.ExtKey, 0o600, content})
		return nil
	})
	return files, err
}

// keyFile returns the .cfp file of an encrypted tablespace of MySQL.
func (d *Directory) keyFile(pages *Pages) ([]byte, error) {
	info, err := tde.ParseMySQLInfo(pages.Space().MySQLInfo[:])
	if err != nil {
		return nil, err
	}
	key, err := info.Unlock(d.keys)
	if err != nil {
		return nil, err
	}
	return cfg.KeyFile(key)
}

// copy copies a file, and returns how many bytes it has. edit, which may be nil, changes the
// copy.
func (d *Directory) copy(ctx context.Context, name string, to disk.Dir, edit func(disk.File) error) (n int64, err error) {
	from, size, err := d.open(name)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	temporary := name + backupdir.ExtTemporary
	if err := to.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	f, err := to.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, backupdir.FileMode)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, copySize)
	for n < size && err == nil {
		k := min(size-n, copySize)
		if _, err = io.ReadFull(from, buf[:k]); err == nil && n == 0 && path.Ext(name) == backupdir.ExtTable {
			err = d.forgetDataDir(buf[:k])
		}
		if err == nil {
			_, err = f.Write(buf[:k])
		}
		if n += k; err == nil {
			err = context.Cause(ctx)
		}
	}
	if err == nil && edit != nil {
		err = edit(f)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return n, errors.Join(fmt.Errorf("copying %s: %w", name, err), to.Remove(temporary))
	}
	return n, to.Rename(temporary, name)
}

// forgetDataDir takes the flag for DATA DIRECTORY off page 0 of a tablespace of MySQL: in a
// backup it is in the data directory, and so it is on the server that imports it. MySQL 5.6 and 5.7
// crash if the table has no DATA DIRECTORY and the page has the flag. MariaDB ignores it.
func (d *Directory) forgetDataDir(head []byte) error {
	space, err := innodb.ParseSpace(head)
	if err != nil || d.MariaDB() || space.Flags&cfg.SpaceDataDir == 0 {
		return err
	}
	if len(head) < space.Physical {
		return io.ErrUnexpectedEOF
	}
	page := head[:space.Physical]
	sum, err := space.Verify(page, 0)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(page[innodb.OffsetFSPFlags:], space.Flags&^cfg.SpaceDataDir)
	space.Stamp(page, sum)
	return nil
}

// copySize is how many bytes are copied at a time.
const copySize = 1 << 20

// check refuses tables that servers do not import as they are, or damage.
func (d *Directory) check(t *Table, f *cfg.File) error {
	switch {
	case d.version < firstPurePK && f.Clustered().HasPrefix():
		return &RefusedError{t.String(), "its primary key has only the beginning of a column, and MySQL 5.6 does not import such a table: restore the whole backup, and dump the table there"}
	case d.MariaDB() && d.version < firstInstantOK && f.Moved:
		return &RefusedError{t.String(), "columns of it were dropped or moved instantly, and MariaDB 10.5 damages such a table when it imports it: restore the whole backup, and dump the table there; ALTER TABLE … FORCE before the next backup removes this"}
	}
	return nil
}
