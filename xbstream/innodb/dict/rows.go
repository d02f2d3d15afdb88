package dict

import (
	"encoding/binary"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
)

// reader reads the dictionary's tables.
type reader struct {
	Dictionary
	pages   btree.Pages
	foreign map[string]*Foreign // by their ids
}

// system is a table of the dictionary.
type system struct {
	name string
	// sizes of the fields in bytes; 0: a name. The last optional ones may be missing.
	sizes    []int
	optional int
	row      func(r *reader, f fields) error
}

// Sizes of DB_TRX_ID and DB_ROLL_PTR.
const trx, roll = 6, 7

var (
	sysTables      = system{"SYS_TABLES", []int{0, trx, roll, 8, 4, 4, 8, 4, 0, 4}, 0, (*reader).table}
	sysColumns     = system{"SYS_COLUMNS", []int{8, 4, trx, roll, 0, 4, 4, 4, 4}, 0, (*reader).column}
	sysIndexes     = system{"SYS_INDEXES", []int{8, 8, trx, roll, 0, 4, 4, 4, 4, 4}, 1, (*reader).index}
	sysFields      = system{"SYS_FIELDS", []int{8, 4, trx, roll, 0}, 0, (*reader).field}
	sysVirtual     = system{"SYS_VIRTUAL", []int{8, 4, 4, trx, roll}, 0, (*reader).base}
	sysForeign     = system{"SYS_FOREIGN", []int{0, trx, roll, 0, 0, 4}, 0, (*reader).foreignKey}
	sysForeignCols = system{"SYS_FOREIGN_COLS", []int{0, 4, trx, roll, 0, 0}, 0, (*reader).foreignColumn}
)

// read reads all rows of a table.
func (r *reader) read(s system, root innodb.PageNo, id uint64) error {
	tree := &btree.Tree{Pages: r.pages, Root: root, ID: id}
	err := tree.Walk(func(rec *btree.Record) error {
		if rec.Deleted {
			return nil
		}
		if err := s.check(rec); err != nil {
			return &innodb.PageError{PageID: innodb.PageID{No: rec.Page}, What: fmt.Sprintf("the record at %d %v", rec.Origin, err)}
		}
		return s.row(r, rec.Fields)
	})
	if err != nil {
		return fmt.Errorf("reading %s: %w", s.name, err)
	}
	return nil
}

// check makes sure that a record has the table's fields.
func (s *system) check(rec *btree.Record) error {
	f := rec.Fields
	if len(f) > len(s.sizes) || len(f) < len(s.sizes)-s.optional {
		return fmt.Errorf("has %d fields, not %d", len(f), len(s.sizes))
	}
	for i, v := range f {
		if v.External || s.sizes[i] != 0 && !v.Null && len(v.Data) != s.sizes[i] {
			return fmt.Errorf("has %d bytes in field %d, not %d", len(v.Data), i, s.sizes[i])
		}
	}
	return nil
}

// fields are those of a record that was checked. A NULL is 0, or "".
type fields []btree.Value

func (f fields) text(i int) string { return string(f[i].Data) }

func (f fields) number(i int) (v uint64) {
	for _, b := range f[i].Data {
		v = v<<8 | uint64(b)
	}
	return v
}

func (f fields) u32(i int) uint32 {
	if len(f[i].Data) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(f[i].Data)
}

func (r *reader) table(f fields) error {
	t := &Table{Name: f.text(0), Trx: f.number(1), ID: f.number(3), columns: f.u32(4), kind: f.u32(5),
		Flags2: f.u32(7), Space: innodb.SpaceID(f.u32(9))}
	if r.byID[t.ID] != nil {
		return &InconsistentError{t.Name, "table " + r.byID[t.ID].Name + " has the same id"}
	}
	r.Tables, r.byID[t.ID] = append(r.Tables, t), t
	return nil
}

// Rows of other tables whose table is not there are those of a table that is being made or
// dropped; servers ignore them, too.

func (r *reader) column(f fields) error {
	t := r.byID[f.number(0)]
	if t == nil {
		return nil
	}
	c := Column{Pos: f.u32(1), Name: f.text(4), MType: f.u32(5), PRType: f.u32(6), Len: f.u32(7)}
	if c.PRType&virtualColumn != 0 {
		t.Virtual = append(t.Virtual, c)
	} else {
		t.Columns = append(t.Columns, c)
	}
	return nil
}

// virtualColumn is the bit of Column.PRType of virtual columns (DATA_VIRTUAL).
const virtualColumn = 8192

func (r *reader) index(f fields) error {
	t := r.byID[f.number(0)]
	if t == nil {
		return nil
	}
	i := &Index{ID: f.number(1), Trx: f.number(2), Name: f.text(4), fields: f.u32(5), Type: f.u32(6),
		Space: innodb.SpaceID(f.u32(7)), Root: innodb.PageNo(f.u32(8))}
	t.Indexes, r.indexes[i.ID] = append(t.Indexes, i), i
	return nil
}

// field reads a field of an index. POS is its number if no field of the index is a prefix,
// and none is descending; else it is number << 16 | descending << 15 | prefix.
func (r *reader) field(f fields) error {
	i := r.indexes[f.number(0)]
	if i == nil {
		return nil
	}
	pos, no := f.u32(1), uint32(len(i.Fields))
	field := Field{Column: f.text(4)}
	switch {
	case pos>>16 == no && (no > 0 || pos != 0):
		field.Descending, field.Prefix = pos&descending != 0, pos&(descending-1)
	case pos != no:
		return &InconsistentError{"of index " + i.Name, fmt.Sprintf("field %d is number %#x", no, pos)}
	}
	i.Fields = append(i.Fields, field)
	return nil
}

const descending = 1 << 15

func (r *reader) base(f fields) error {
	t := r.byID[f.number(0)]
	if t == nil {
		return nil
	}
	for i := range t.Virtual {
		if t.Virtual[i].Pos == f.u32(1) {
			t.Virtual[i].Bases = append(t.Virtual[i].Bases, f.u32(2))
		}
	}
	return nil
}

func (r *reader) foreignKey(f fields) error {
	k := &Foreign{ID: f.text(0), For: f.text(3), Ref: f.text(4), Type: f.u32(5) >> 24, columns: f.u32(5) & (1<<24 - 1)}
	if r.foreign == nil {
		r.foreign = map[string]*Foreign{}
	}
	r.Foreign, r.foreign[k.ID] = append(r.Foreign, k), k
	return nil
}

func (r *reader) foreignColumn(f fields) error {
	k := r.foreign[f.text(0)]
	if k == nil {
		return nil
	}
	if f.u32(1) != uint32(len(k.Columns)) {
		return &InconsistentError{k.For, fmt.Sprintf("column %d of foreign key %s is number %d", len(k.Columns), k.ID, f.u32(1))}
	}
	k.Columns = append(k.Columns, [2]string{f.text(4), f.text(5)})
	return nil
}
