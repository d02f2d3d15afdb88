package export

import (
	"context"
	"errors"
	"fmt"
	"path"

	"hb/sink/backupdir"
	"hb/sink/export/committed"
	"hb/sink/export/rollback"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/cfg"
	"hb/xbstream/innodb/undo"
	"hb/xbstream/metadata"
)

// State reads what transactions, and the change buffer, have left pending in the directory as
// it is now.
func (d *Directory) State() (state *committed.State, err error) {
	return state, d.withUndo(func(spaces undo.Spaces) error {
		state, err = committed.Read(spaces, d.version)
		return err
	})
}

// withUndo opens the system tablespace and the undo tablespaces for the time of a call.
func (d *Directory) withUndo(f func(undo.Spaces) error) error {
	system, err := d.systemNow()
	if err != nil {
		return err
	}
	spaces := undo.Spaces{0: system}
	names, err := d.root.ReadDir(".")
	if err != nil {
		return fmt.Errorf("looking for undo tablespaces: %w", err)
	}
	for _, e := range names {
		if !backupdir.UndoFile.MatchString(e.Name()) {
			continue
		}
		file, size, err := d.open(e.Name())
		if err != nil {
			return err
		}
		defer file.Close() // only read
		p, err := Open([]File{{ReaderAt: file, Name: e.Name(), Size: size}}, d.keys)
		if err != nil {
			return err
		}
		if spaces[p.Space().ID] != nil {
			return &backupdir.DamageError{File: e.Name(), Err: fmt.Errorf("another file is tablespace %d, too", p.Space().ID)}
		}
		spaces[p.Space().ID] = p
	}
	if err := d.checkUndo(spaces); err != nil {
		return err
	}
	return f(spaces)
}

// checkUndo makes sure that the undo tablespaces are there that the backup says the server had.
// A server that ran can have truncated one, which has another id of the same number then.
func (d *Directory) checkUndo(spaces undo.Spaces) error {
	missing := func(what any) error {
		return backupdir.Missing("undo tablespace %v is missing: what was not committed cannot be told; extract the backup again", what)
	}
	numbers := map[int]bool{}
	for id := range spaces {
		numbers[innodb.UndoNumber(id)] = true
	}
	if m := d.backup.Manifest; m != nil {
		for _, id := range m.UndoSpaces {
			if n := innodb.UndoNumber(id); spaces[id] == nil && (n == 0 || !numbers[n]) {
				return missing(id)
			}
		}
	}
	external, err := metadata.ReadExternal(d.root.FS())
	if err != nil {
		return err
	}
	for _, s := range external.Spaces {
		if s.Type != metadata.ExternalUndo {
			continue
		}
		own, err := backupdir.Exists(d.root, path.Base(s.File))
		if err == nil && !own {
			own, err = backupdir.Exists(d.root, path.Base(s.Name)+".ibu")
		}
		if err != nil {
			return err
		}
		if !own {
			return missing(s.Name)
		}
	}
	return nil
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
	for n := range t.Parts {
		c.IDs = append(c.IDs, t.id(n))
	}
	return c, nil
}

// Check returns a *committed.PendingError if something is pending for one of the tables: the files
// in the directory are not what was committed.
func (d *Directory) Check(tables ...*Table) error { return d.checkPending(tables, false) }

// Writable returns a *committed.PendingError if something is pending for one of the tables that
// Write does not take out of the copy that it makes.
func (d *Directory) Writable(tables ...*Table) error { return d.checkPending(tables, true) }

func (d *Directory) checkPending(tables []*Table, rolledBack bool) error {
	var e committed.PendingError
	for _, t := range tables {
		p, err := d.pending(t)
		if err != nil {
			return err
		}
		if p != nil && p.Why == "" && rolledBack {
			if err := d.tryRollBack(t, p); err != nil {
				return err
			}
		}
		if p != nil && (p.Why != "" || !rolledBack) {
			e.Tables = append(e.Tables, *p)
		}
	}
	if len(e.Tables) > 0 {
		return &e
	}
	return nil
}

// firstSoundImport is the first version whose imports do not crash at tables of
// ROW_FORMAT=REDUNDANT with an index of several pages: 5.6.24 does, in
// PageConverter::update_records (TestRedundantImport).
const firstSoundImport = 50700

// checkRedundant refuses tables at whose import a server crashes: also those of one page with
// rows that are deleted and not yet purged, which nobody has tried.
func (d *Directory) checkRedundant(t *Table, f *cfg.File, pages *Pages) error {
	if d.version >= firstSoundImport || f.Compact() {
		return nil
	}
	refused := &RefusedError{t.String(), "it is of ROW_FORMAT=REDUNDANT, with an index of several pages, or with rows that are deleted and not yet purged: MySQL 5.6 crashes when it imports it; restore the whole backup, and dump the table there"}
	for _, i := range f.Indexes {
		format, _, err := f.Format(i)
		if err != nil {
			return err
		}
		tree := &btree.Tree{Pages: pages, Root: innodb.PageNo(i.Root), ID: i.ID, Format: format}
		err = tree.Walk(func(r *btree.Record) error {
			if r.Deleted || r.Page != tree.Root {
				return refused
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pending returns what is pending for a table; nil: nothing.
func (d *Directory) pending(t *Table) (*committed.Pending, error) {
	c, err := d.Committed(t)
	if err != nil {
		return nil, err
	}
	if d.state == nil {
		if d.state, err = d.State(); err != nil {
			return nil, err
		}
	}
	e, ok := errors.AsType[*committed.PendingError](d.state.Check(c))
	if !ok {
		return nil, nil
	}
	p := &e.Tables[0]
	if p.Why = d.state.OnlyServer(*p); d.version < firstSoundImport && len(p.Transactions) > 0 {
		p.Why = "hb leaves tables of MySQL 5.6 to a server"
	}
	return p, nil
}

// rollBack takes what transactions that had not ended did to a table out of one of its parts;
// rebuild: its secondary indexes are built again. write gets the pages that change, as they are to
// be stored, and where; nil: it is only tried. What hb leaves to a server is a
// *rollback.UnableError.
func (d *Directory) rollBack(t *Table, part int, rebuild bool, write func(page []byte, at int64) (int, error)) error {
	id := t.id(part)
	if !d.state.Changed(id) {
		return nil
	}
	return d.withUndo(func(spaces undo.Spaces) error {
		history, err := undo.NewHistory(spaces, d.version)
		if err != nil {
			return err
		}
		return d.with(t.Parts[part].Path, func(pages *Pages) error {
			file, err := d.config(t, part, pages)
			if err != nil {
				return err
			}
			w := rollback.Work{Pages: pages, Config: file, History: history, Table: id, Open: d.state.Open(), RowsOnly: rebuild}
			if write != nil {
				w.Write = func(no innodb.PageNo, page []byte) error {
					if err := pages.stamp(no, page); err != nil {
						return err
					}
					_, err := write(page, int64(no)*int64(len(page)))
					return err
				}
			}
			return w.Run()
		})
	})
}

// tryRollBack looks whether hb can take back what is pending, and if not, sets p.Why.
func (d *Directory) tryRollBack(t *Table, p *committed.Pending) error {
	for n := range t.Parts {
		err := d.rollBack(t, n, p.Buffered > 0, nil)
		if unable, ok := errors.AsType[*rollback.UnableError](err); ok {
			p.Why = unable.What
			return nil
		}
		if err != nil {
			return fmt.Errorf("table %s: %w", t, err)
		}
	}
	return nil
}

// id is InnoDB's id of the table, or of the partition, in a part of a table that was described.
func (t *Table) id(part int) uint64 {
	if t.SDI == nil {
		return t.Dict[part].ID
	}
	if p := t.partition(t.Parts[part].Space); p != nil {
		return p.PrivateID
	}
	return t.SDI.PrivateID
}

// Finish lets a server finish what is pending for the tables: see committed.Server.Finish. The
// directory is to be opened again after that: definitions can have changed, too.
func (d *Directory) Finish(ctx context.Context, server *committed.Server, tables ...*Table) (*committed.Finished, error) {
	all, err := d.allCommitted(tables)
	if err != nil {
		return nil, err
	}
	d.state = nil // it will be another one
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
