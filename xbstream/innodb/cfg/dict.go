package cfg

import (
	"encoding/binary"
	"fmt"
	"math"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/dict"
)

// FromDict returns the .cfg file of a table that MySQL 5.6 or 5.7 or MariaDB describes in its
// dictionary, in a tablespace of its own. server is the version of that server, such as 50729
// for 5.7.29. pages are those of the tablespace: MariaDB keeps there which columns were dropped
// or moved instantly, and the last AUTO_INCREMENT. Host is left to the caller, and with MySQL
// AutoInc.
func FromDict(t *dict.Table, pages btree.Pages, server int) (*File, error) {
	space := pages.Space()
	if err := t.Check(); err != nil {
		return nil, err
	}
	if t.Space != space.ID || t.Space == 0 {
		return nil, fmt.Errorf("table %s is in tablespace %d, not in tablespace %d", t.Name, t.Space, space.ID)
	}
	b := &builder{File: &File{Version: MariaDB, Table: t.Name, PageSize: uint32(space.Logical), Flags: t.Flags(), SpaceFlags: space.Flags},
		longest: server < 50700}
	for _, c := range t.Columns {
		b.Columns = append(b.Columns, fromDictColumn(&c))
	}
	b.addSystem()
	columns := map[string]*Column{}
	for i := range b.Columns {
		columns[b.Columns[i].Name] = &b.Columns[i]
	}
	for _, c := range t.Virtual {
		v := fromDictColumn(&c)
		columns[c.Name] = &v
	}
	var keys []key
	for _, i := range t.Indexes {
		k := key{Index: Index{ID: i.ID, Space: uint32(i.Space), Root: uint32(i.Root), Type: i.Type, Name: i.Name}}
		if i.Unfinished() || i.Root == innodb.PageNull && i.Type&indexFullText == 0 {
			return nil, fmt.Errorf("table %s: index %q was being built, or its tablespace is discarded", t.Name, i.Name)
		}
		if i.Type&indexFullText != 0 {
			continue
		}
		for _, f := range i.Fields {
			c := columns[f.Column]
			if c == nil {
				return nil, fmt.Errorf("table %s: index %s has a field %s, which is not a column", t.Name, i.Name, f.Column)
			}
			k.fields = append(k.fields, keyField{c, f.Prefix, f.Descending})
		}
		keys = append(keys, k)
	}
	if err := b.build(keys); err != nil {
		return nil, err
	}
	if server < firstMariaDB {
		return b.File, nil
	}
	if err := b.readAutoInc(pages); err != nil {
		return nil, err
	}
	return b.File, b.move(pages)
}

// firstMariaDB is the version from which on a server is one of MariaDB.
const firstMariaDB = 100000

// offsetAutoInc is where the root of a clustered index has the last AUTO_INCREMENT, in bytes
// from the page's start (PAGE_ROOT_AUTO_INC of MariaDB 10.2 and later).
const offsetAutoInc = innodb.OffsetBody + 18

// readAutoInc reads the next AUTO_INCREMENT; it is 0 if no row has had one.
func (b *builder) readAutoInc(pages btree.Pages) error {
	page, err := pages.Page(innodb.PageNo(b.Indexes[0].Root))
	if err != nil {
		return err
	}
	if len(page) < offsetAutoInc+8 {
		return fmt.Errorf("table %s: the root of its clustered index has %d bytes", b.Table, len(page))
	}
	if last := binary.BigEndian.Uint64(page[offsetAutoInc:]); last != 0 && last != math.MaxUint64 {
		b.AutoInc = last + 1
	}
	return nil
}

// move puts the fields of the clustered index into the order that rows have after columns were
// dropped or moved instantly.
func (b *builder) move(pages btree.Pages) error {
	i := b.Indexes[0]
	head := int(i.Unique) + 2 // DB_TRX_ID and DB_ROLL_PTR
	tree := &btree.Tree{Pages: pages, Root: innodb.PageNo(i.Root), ID: i.ID, Format: btree.Format{Compact: b.Flags&flagCompact != 0, Key: int(i.Unique)}}
	for _, f := range i.Fields[:i.Unique] {
		tree.Format.Fields = append(tree.Format.Fields, btree.Field{Fixed: int(f.Fixed), Long: f.column.isLong()})
	}
	var err error
	if b.Core, err = tree.Core(); err != nil {
		return err
	}
	list, err := tree.Moved()
	if err != nil || list == nil {
		return err
	}
	moved := *i
	moved.Fields, moved.Nulls = nil, 0
	for _, f := range i.Fields[:head] {
		b.add(&moved, keyField{f.column, f.Prefix, f.Descending})
	}
	for _, m := range list {
		switch {
		case m.Dropped:
			moved.Fields = append(moved.Fields, Field{Fixed: uint32(m.Fixed), column: droppedColumn(m)})
			if !m.NotNull {
				moved.Nulls++
			}
		case m.Column >= b.stored || moved.has(&b.Columns[m.Column]):
			return fmt.Errorf("table %s: the clustered index has column %d of %d, or has it twice", b.Table, m.Column, b.stored)
		default:
			b.add(&moved, keyField{column: &b.Columns[m.Column]})
		}
	}
	for n := range b.Columns[:b.stored] {
		if !moved.has(&b.Columns[n]) {
			return fmt.Errorf("table %s: the clustered index does not have column %s", b.Table, b.Columns[n].Name)
		}
	}
	*i, b.Moved = moved, true
	return nil
}

// droppedColumn has what rows need to be known of a column that was dropped.
func droppedColumn(m btree.Moved) *Column {
	c := &Column{MType: mBinary, Len: 1}
	if m.NotNull {
		c.PRType |= notNull
	}
	if m.Long {
		c.Len = maxShort + 1
	}
	return c
}

func fromDictColumn(c *dict.Column) Column {
	return Column{Name: c.Name, PRType: c.PRType, MType: c.MType, Len: c.Len, MBMinMax: mbMinMax(c.MType, c.PRType),
		Added: NoVersion, Dropped: NoVersion, Position: noPosition}
}
