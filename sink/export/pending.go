package export

import (
	"context"
	"fmt"

	"hb/sink/backupdir"
	"hb/sink/export/committed"
	"hb/xbstream/innodb/undo"
)

// State reads what transactions, and the change buffer, have left pending in the directory as
// it is now.
func (d *Directory) State() (*committed.State, error) {
	system, err := d.systemNow()
	if err != nil {
		return nil, err
	}
	spaces := undo.Spaces{0: system}
	names, err := d.root.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("looking for undo tablespaces: %w", err)
	}
	for _, e := range names {
		if !backupdir.UndoFile.MatchString(e.Name()) {
			continue
		}
		f, size, err := d.open(e.Name())
		if err != nil {
			return nil, err
		}
		defer f.Close() // only read
		p, err := Open([]File{{ReaderAt: f, Name: e.Name(), Size: size}}, d.keys)
		if err != nil {
			return nil, err
		}
		if spaces[p.Space().ID] != nil {
			return nil, &backupdir.DamageError{File: e.Name(), Err: fmt.Errorf("another file is tablespace %d, too", p.Space().ID)}
		}
		spaces[p.Space().ID] = p
	}
	return committed.Read(spaces, d.version)
}

// systemNow opens the system tablespace, whose files may have grown.
func (d *Directory) systemNow() (*Pages, error) {
	var files []File
	for i, f := range d.files {
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		files = append(files, File{ReaderAt: f, Name: d.backup.SystemFiles[i], Size: st.Size()})
	}
	return Open(files, d.keys)
}

// Committed describes a table for package committed. A table of another engine has no
// transactions.
func (d *Directory) Committed(t *Table) (committed.Table, error) {
	c := committed.Table{Name: t.String()}
	if err := d.Describe(t); err != nil || t.Engine != InnoDB {
		return c, err
	}
	for _, p := range t.Parts {
		c.Spaces = append(c.Spaces, p.Space)
	}
	for _, def := range t.Dict {
		c.IDs = append(c.IDs, def.ID)
	}
	if t.SDI == nil {
		return c, nil
	}
	if parts := t.leaves(); len(parts) > 0 {
		for _, p := range parts {
			c.IDs = append(c.IDs, p.PrivateID)
		}
	} else {
		c.IDs = append(c.IDs, t.SDI.PrivateID)
	}
	return c, nil
}

// Check returns a *committed.PendingError if something is pending for one of the tables: they
// cannot leave the directory as they are.
func (d *Directory) Check(tables ...*Table) error {
	all, err := d.allCommitted(tables)
	if err != nil {
		return err
	}
	state, err := d.State()
	if err != nil {
		return err
	}
	return state.Check(all...)
}

// Finish lets a server finish what is pending for the tables: see committed.Server.Finish. The
// directory is to be opened again after that: definitions can have changed, too.
func (d *Directory) Finish(ctx context.Context, server *committed.Server, tables ...*Table) (*committed.Finished, error) {
	all, err := d.allCommitted(tables)
	if err != nil {
		return nil, err
	}
	return server.Finish(ctx, d.root.Name(), d.State, all...)
}

func (d *Directory) allCommitted(tables []*Table) (all []committed.Table, err error) {
	for _, t := range tables {
		c, err := d.Committed(t)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}
