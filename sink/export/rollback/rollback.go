// Package rollback takes what transactions that had not ended did to a table out of a tablespace
// that is to be imported. In go its pages, its description and the undo records; out come pages
// that are to be written in the place of others, or an *UnableError.
//
// This is not what a server does, and need not be: ALTER TABLE … IMPORT TABLESPACE takes records
// that are marked as deleted out of all indexes, makes all others its own, and compares how
// many entries the secondary indexes have with how many rows there are. So
//
//   - a row that such a transaction inserted is marked as deleted;
//   - another one of which such a transaction made the newest version gets the columns, and the
//     mark, of the newest version of a transaction that had ended: DB_ROLL_PTR of the row names
//     an undo record, with the transaction and the DB_ROLL_PTR of the version before, and the
//     columns in which it is different;
//   - of the entries of these rows in secondary indexes, that is marked as not deleted which has
//     the row's columns, and all others are marked as deleted.
//
// Where entries are in the change buffer, and not in the secondary indexes, the server that
// imports the table builds these again: then the rows are enough (Work.RowsOnly).
//
// Whatever else could be necessary is left to a server: rows that do not fit into their page any
// more; columns that were changed in parts; columns that are computed.
//
// Pages where a change of such a transaction put columns that did not fit into the row stay in
// the file, unused.
//
// Sources: row0vers.cc, row0undo.cc, row0umod.cc and row0import.cc of MySQL 5.7 and 9.7.2 and
// MariaDB 10.5; TestRollback of package export compares with what six servers roll back.
package rollback

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/cfg"
	"hb/xbstream/innodb/undo"
)

// An UnableError says why hb leaves a table to a server.
type UnableError struct{ What string }

func (e *UnableError) Error() string { return e.What }

func unable(format string, args ...any) error { return &UnableError{fmt.Sprintf(format, args...)} }

// Work is what is to be done in a tablespace.
type Work struct {
	Pages   btree.Pages
	Config  *cfg.File // its description
	History *undo.History
	Table   uint64          // InnoDB's id of the table or partition
	Open    map[uint64]bool // the transactions that had not ended
	// RowsOnly: secondary indexes are left as they are.
	RowsOnly bool
	// Write gets each page that changes, as a server has it in memory, once and in no
	// particular order; nil: it is only tried.
	Write func(no innodb.PageNo, page []byte) error
}

// Limits of what is kept in memory: rows, and bytes of their columns.
const (
	maxRows  = 1 << 20
	maxBytes = 64 << 20
	maxValue = 16 << 20 // of a column of which an index has the beginning
)

// Run does the work. The error is an *UnableError, a *innodb.PageError, or one of Pages,
// History or Write.
func (w *Work) Run() error {
	if err := w.check(); err != nil {
		return err
	}
	c := &clustered{Work: w, index: w.Config.Clustered(), rows: map[string]*row{}}
	if err := c.run(); err != nil {
		return err
	}
	for _, i := range w.Config.Indexes {
		if i.IsClustered() || i.IsSDI() || w.RowsOnly {
			continue
		}
		if err := (&secondary{clustered: c, index: i}).run(); err != nil {
			return err
		}
	}
	return nil
}

// check refuses tables of kinds that hb does not edit.
func (w *Work) check() error {
	s := w.Pages.Space()
	switch {
	case s.Zip():
		return unable("it is of ROW_FORMAT=COMPRESSED")
	case s.PageCompressed || w.Config.Compression != 0:
		return unable("its pages are compressed")
	case s.Encrypted():
		return unable("it is encrypted")
	case w.Config.Instant():
		return unable("it has instantly added or dropped columns")
	}
	if w.Config.Clustered().HasPrefix() {
		return unable("its primary key has only the beginning of a column")
	}
	for _, i := range w.Config.Indexes {
		if i.IsComputed() {
			return unable("its index %s is of computed values", i.Name)
		}
	}
	return nil
}

// editor changes the pages of an index while it is walked through.
type editor struct {
	*Work
	tree     btree.Tree
	buf      []byte // the page that is being looked at; nil: none
	no       innodb.PageNo
	dirty    bool
	versions map[int]btree.Version // records that change their size, by their origins
}

// Page begins with a page. (btree.Pages)
func (e *editor) Page(no innodb.PageNo) ([]byte, error) {
	if err := e.flush(); err != nil {
		return nil, err
	}
	b, err := e.Pages.Page(no)
	if err != nil {
		return nil, err
	}
	e.buf, e.no = slices.Clone(b), no
	return e.buf, nil
}

// Space describes the tablespace. (btree.Pages)
func (e *editor) Space() *innodb.Space { return e.Pages.Space() }

// walk calls f for each record of an index. f may change the bytes of the record.
func (e *editor) walk(i *cfg.Index, f func(*btree.Record) error) error {
	e.versions = map[int]btree.Version{}
	format, _, err := e.Config.Format(i) // its fields are those of i: see check
	if err != nil {
		return err
	}
	e.tree = btree.Tree{Pages: e, Root: innodb.PageNo(i.Root), ID: i.ID, Format: format}
	if err := e.tree.Walk(func(r *btree.Record) error {
		if len(r.Fields) != len(i.Fields) {
			return unable("rows of its index %s have %d columns, not %d", i.Name, len(r.Fields), len(i.Fields))
		}
		return f(r)
	}); err != nil {
		return err
	}
	return e.flush()
}

// mark sets or takes away the delete mark of the record.
func (e *editor) mark(r *btree.Record, deleted bool) {
	if r.Deleted != deleted {
		btree.SetDeleted(e.buf, r.Origin, e.tree.Format.Compact, deleted)
		e.dirty = true
	}
}

// flush ends the work on a page.
func (e *editor) flush() error {
	b := e.buf
	e.buf = nil
	if len(e.versions) > 0 {
		out, fits, err := e.tree.Rebuild(b, e.versions, false)
		if err == nil && !fits { // an import takes out what is marked as deleted, anyway
			out, fits, err = e.tree.Rebuild(b, e.versions, true)
		}
		switch {
		case err != nil:
			return err
		case !fits:
			return unable("rows as they were do not fit into their pages any more")
		}
		b, e.dirty = out, true
		clear(e.versions)
	}
	if !e.dirty || e.Write == nil {
		e.dirty = false
		return nil
	}
	e.dirty = false
	return e.Write(e.no, b)
}

// row is a row that a transaction changed.
type row struct {
	live   bool
	fields []btree.Value // as it is to be
	seen   int           // entries of it in the index that is being looked at
}

// clustered is the work in the clustered index.
type clustered struct {
	*Work
	editor
	index *cfg.Index
	trx   int // the number of the field DB_TRX_ID; DB_ROLL_PTR follows
	rows  map[string]*row
	bytes int
	live  int // rows that are not deleted in the end
}

func (c *clustered) run() error {
	c.editor.Work = c.Work
	c.trx = int(c.index.Unique)
	if c.trx+1 >= len(c.index.Fields) || c.index.Fields[c.trx].Name != "DB_TRX_ID" {
		return unable("its clustered index has no DB_TRX_ID as field %d", c.trx)
	}
	return c.walk(c.index, c.record)
}

// number reads a big-endian number.
func number(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

func (c *clustered) record(r *btree.Record) error {
	if !c.Open[number(r.Fields[c.trx].Data)] {
		if !r.Deleted {
			c.live++
		}
		return nil
	}
	v, err := c.version(r)
	if err != nil {
		return err
	}
	if err := c.remember(r, v); err != nil {
		return err
	}
	if !v.live {
		c.disown(r)
		c.mark(r, true)
		return nil
	}
	c.live++
	own(v.fields)
	if sameShape(r.Fields, v.fields) {
		for i := range v.fields {
			copy(r.Fields[i].Data, v.fields[i].Data)
		}
		c.dirty = true
		c.mark(r, false)
		return nil
	}
	if !c.tree.Format.Compact {
		return unable("it is of ROW_FORMAT=REDUNDANT, and columns were longer or shorter")
	}
	c.versions[r.Origin] = btree.Version{Fields: v.fields}
	return nil
}

// remember keeps a row for the secondary indexes.
func (c *clustered) remember(r *btree.Record, v *row) error {
	k := key(r.Fields[:c.trx])
	if c.rows[k] != nil {
		return unable("page %d has a row for a second time", r.Page)
	}
	c.rows[k] = v
	c.bytes += len(k)
	for _, f := range v.fields {
		c.bytes += len(f.Data)
	}
	if c.bytes > maxBytes || len(c.rows) > maxRows {
		return unable("more than %d rows of it, or %d MiB of them, were changed", maxRows, maxBytes>>20)
	}
	return nil
}

// key makes one string of several fields.
func key(fields []btree.Value) string {
	var b []byte
	for _, f := range fields {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f.Data)))
		b = append(b, f.Data...)
	}
	return string(b)
}

func sameShape(a, b []btree.Value) bool {
	return slices.EqualFunc(a, b, func(a, b btree.Value) bool {
		return a.Null == b.Null && a.External == b.External && len(a.Data) == len(b.Data)
	})
}

// maxVersions is how many versions of a row hb goes back.
const maxVersions = 1 << 16

// version goes back to the newest version of a row that was committed.
func (c *clustered) version(r *btree.Record) (*row, error) {
	v := &row{live: !r.Deleted}
	for _, f := range r.Fields {
		f.Data = slices.Clone(f.Data)
		v.fields = append(v.fields, f)
	}
	for range maxVersions {
		roll := undo.RollPtr(number(v.fields[c.trx+1].Data))
		u, err := c.History.Record(roll, c.trx)
		if err != nil { // or a bulk insert of MariaDB 10.6 and later, which has none
			return nil, unable("there is no undo record that hb can use: %v", err)
		}
		if u.Table != c.Table || (u.Type == undo.Inserted) != roll.Inserted() ||
			!slices.EqualFunc(u.Key, v.fields[:c.trx], func(k []byte, f btree.Value) bool { return bytes.Equal(k, f.Data) }) {
			return nil, unable("the undo record of a row of page %d is of another row", r.Page)
		}
		if roll.Inserted() {
			v.live = false
			return v, nil
		}
		if err := c.back(v, u); err != nil || !c.Open[u.Trx] {
			return v, err
		}
	}
	return nil, unable("a row of page %d has more than %d versions", r.Page, maxVersions)
}

// Bytes of DB_TRX_ID and DB_ROLL_PTR.
const trxSize, rollSize = 6, 7

// back makes of a row its version before.
func (c *clustered) back(v *row, u *undo.Record) error {
	v.live = !u.Deleted
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], u.Trx)
	copy(v.fields[c.trx].Data, b[8-trxSize:])
	binary.BigEndian.PutUint64(b[:], uint64(u.Roll))
	copy(v.fields[c.trx+1].Data, b[8-rollSize:])
	for _, f := range u.Changed {
		if f.Field <= c.trx+1 || f.Field >= len(v.fields) {
			return unable("an undo record changes column %d of its primary key, or one that there is not", f.Field)
		}
		if f.External && len(f.Data) < btree.RefSize {
			return unable("an undo record has a column of %d bytes for one on other pages", len(f.Data))
		}
		f.Data = slices.Clone(f.Data)
		v.fields[f.Field] = f.Value
	}
	return nil
}

// Flags in a reference to a column on other pages, in its byte 12 (btr0cur.h, lob0lob.h): the
// row does not own them, since one with another key does; and it has them from such a row.
const (
	refFlags     = 12
	flagNotOwner = 0x80
	flagFromRow  = 0x40
)

// disown makes sure that columns which a row has from one with another key, whose deletion was
// not committed, are not removed with the row.
func (c *clustered) disown(r *btree.Record) {
	for _, f := range r.Fields {
		if !f.External || len(f.Data) < btree.RefSize {
			continue
		}
		if flags := &f.Data[len(f.Data)-btree.RefSize+refFlags]; *flags&flagFromRow != 0 {
			*flags |= flagNotOwner
			c.dirty = true
		}
	}
}

// own gives a row its columns on other pages back.
func own(fields []btree.Value) {
	for _, f := range fields {
		if f.External {
			f.Data[len(f.Data)-btree.RefSize+refFlags] &^= flagNotOwner
		}
	}
}
