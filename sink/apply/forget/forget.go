// Package forget takes tables out of the dictionary of InnoDB that MySQL 5.6 and 5.7 and
// MariaDB have in the system tablespace: those whose tablespaces a partial backup leaves
// out. In go the recovered system tablespace and the ids; what comes out is as DROP TABLE
// would leave it, except that rows of SYS_COLUMNS, SYS_INDEXES, SYS_FIELDS and SYS_VIRTUAL
// stay, which no table has any more.
//
// Without this, a server logs errors about the missing files, refuses to make tables of
// those names, and MySQL 5.7.29 crashes (row_purge_step) when its purge comes to a row of a
// table whose file is missing.
//
// A row is taken out as DELETE does it, by its delete mark. Rows that refer to others come
// first, and SYS_TABLES last: an interrupted run can be repeated.
//
// Source: the description of these tables in package dict, and what servers do with the
// result (TestPartial of package source).
package forget

import (
	"encoding/binary"
	"errors"
	"fmt"

	"hb/sink/replay"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
)

// Tables takes the tables out of the dictionary whose tablespaces left reports, and returns
// how many there are. It closes e.
func Tables(e *replay.Editor, left func(innodb.SpaceID) bool) (n int, err error) {
	defer func() { err = errors.Join(err, e.Close()) }()
	d := &dictionary{
		Editor: e, left: left, tables: make(map[uint64]bool), names: make(map[string]bool), keys: make(map[string]bool),
		system: make(map[string]uint64), indexes: make(map[uint64][]index),
	}
	if err := d.find(); err != nil {
		return 0, err
	}
	return len(d.tables), d.forget()
}

// dictionary is what is known of it.
type dictionary struct {
	*replay.Editor
	left    func(innodb.SpaceID) bool
	tables  map[uint64]bool // ids of the tables to forget; also those forgotten by an interrupted run
	names   map[string]bool // "db/table", of those that are still there
	keys    map[string]bool // foreign keys of these
	system  map[string]uint64
	indexes map[uint64][]index // of the tables in system, in the order of their ids
}

// index is an index of a table of the dictionary.
type index struct {
	id   uint64
	root innodb.PageNo
}

// The dictionary's header is page 7. Its indexes with fixed ids, and where in the header
// their roots are, in bytes from the page's start.
const headerPage innodb.PageNo = 7

var (
	tablesByName = fixed{1, innodb.OffsetBody + 32}
	tablesByID   = fixed{5, innodb.OffsetBody + 36}
	indexesByID  = fixed{3, innodb.OffsetBody + 44}
)

type fixed struct {
	id   uint64
	root int
}

// Fields of the rows, by their numbers: see package dict.
const (
	tableID, tableSpace         = 3, 9  // SYS_TABLES, by name
	indexTable, indexID         = 0, 1  // SYS_INDEXES
	indexRoot                   = 8     //
	foreignID, foreignFor       = 0, 3  // SYS_FOREIGN, by id
	tableFields, indexFields    = 10, 9 // at least
	foreignFields, secondFields = 4, 2  // likewise
	idSize, spaceSize           = 8, 4  // bytes
	sysForeign, sysForeignCols  = "SYS_FOREIGN", "SYS_FOREIGN_COLS"
	sysSpaces, sysFiles         = "SYS_TABLESPACES", "SYS_DATAFILES" // not in MariaDB 10.6 and later
)

func (d *dictionary) fixed(f fixed) (index, error) {
	header, err := d.Page(headerPage)
	if err != nil {
		return index{}, err
	}
	return index{f.id, innodb.PageNo(binary.BigEndian.Uint32(header[f.root:]))}, nil
}

// walk calls f for each row of an index, those that are marked as deleted, too. A row has
// that many fields at least.
func (d *dictionary) walk(i index, fields int, f func(*btree.Record) error) error {
	tree := &btree.Tree{Pages: d.Editor, Root: i.root, ID: i.id}
	return tree.Walk(func(r *btree.Record) error {
		if len(r.Fields) < fields {
			return &innodb.PageError{PageID: innodb.PageID{No: r.Page}, What: fmt.Sprintf("the record at %d has %d fields, not %d or more", r.Origin, len(r.Fields), fields)}
		}
		return f(r)
	})
}

// number is a field of a row; 0 if it does not have that size.
func number(r *btree.Record, field, size int) (v uint64) {
	if b := r.Fields[field].Data; len(b) == size {
		for _, c := range b {
			v = v<<8 | uint64(c)
		}
	}
	return v
}

func space(r *btree.Record, field int) innodb.SpaceID {
	return innodb.SpaceID(number(r, field, spaceSize))
}

// find finds the tables to forget, and the indexes of the tables of the dictionary.
func (d *dictionary) find() error {
	all, err := d.fixed(tablesByName)
	if err != nil {
		return err
	}
	err = d.walk(all, tableFields, func(r *btree.Record) error {
		name, id := string(r.Fields[0].Data), number(r, tableID, idSize)
		switch {
		case d.left(space(r, tableSpace)):
			d.tables[id] = true
			if !r.Deleted {
				d.names[name] = true
			}
		case r.Deleted:
		case name == sysForeign || name == sysForeignCols || name == sysSpaces || name == sysFiles:
			d.system[name] = id
		}
		return nil
	})
	if err != nil {
		return err
	}
	ours := make(map[uint64]bool)
	for _, id := range d.system {
		ours[id] = true
	}
	byID, err := d.fixed(indexesByID)
	if err != nil {
		return err
	}
	return d.walk(byID, indexFields, func(r *btree.Record) error {
		if table := number(r, indexTable, idSize); ours[table] && !r.Deleted {
			d.indexes[table] = append(d.indexes[table], index{number(r, indexID, idSize), innodb.PageNo(number(r, indexRoot, spaceSize))})
		}
		return nil
	})
}

// of are the indexes of a table of the dictionary; none if the server has no such table.
func (d *dictionary) of(name string) []index { return d.indexes[d.system[name]] }

// forget marks the rows.
func (d *dictionary) forget() error {
	if err := d.forgetForeign(); err != nil {
		return err
	}
	for _, name := range []string{sysFiles, sysSpaces} {
		for _, i := range d.of(name) {
			if err := d.mark(i, 1, func(r *btree.Record) bool { return d.left(space(r, 0)) }); err != nil {
				return err
			}
		}
	}
	byID, err := d.fixed(tablesByID)
	if err != nil {
		return err
	}
	if err := d.mark(byID, secondFields, func(r *btree.Record) bool { return d.tables[number(r, 0, idSize)] }); err != nil {
		return err
	}
	byName, err := d.fixed(tablesByName)
	if err != nil {
		return err
	}
	return d.mark(byName, tableFields, func(r *btree.Record) bool { return d.left(space(r, tableSpace)) })
}

// forgetForeign marks the foreign keys of the tables. Those of other tables that refer to
// them stay, as they do where foreign_key_checks is off.
func (d *dictionary) forgetForeign() error {
	all := d.of(sysForeign)
	if len(all) == 0 {
		return nil
	}
	err := d.walk(all[0], foreignFields, func(r *btree.Record) error {
		if d.names[string(r.Fields[foreignFor].Data)] {
			d.keys[string(r.Fields[foreignID].Data)] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, i := range d.of(sysForeignCols) {
		if err := d.mark(i, 1, func(r *btree.Record) bool { return d.keys[string(r.Fields[foreignID].Data)] }); err != nil {
			return err
		}
	}
	for n := len(all) - 1; n >= 0; n-- { // the secondary ones are by FOR_NAME and REF_NAME, then ID
		key := 1
		if n == 0 {
			key = foreignID
		}
		if err := d.mark(all[n], secondFields, func(r *btree.Record) bool { return d.keys[string(r.Fields[key].Data)] }); err != nil {
			return err
		}
	}
	return nil
}

// deleteMark is the bit of a row's info bits, which lie infoBits before its origin in rows
// of ROW_FORMAT=REDUNDANT.
const (
	deleteMark = 0x20
	infoBits   = 6
)

// mark marks rows of an index as deleted.
func (d *dictionary) mark(i index, fields int, which func(*btree.Record) bool) error {
	var page innodb.PageNo
	var origins []int
	flush := func() error {
		if len(origins) == 0 {
			return nil
		}
		err := d.Change(page, func(page []byte) {
			for _, at := range origins {
				page[at-infoBits] |= deleteMark
			}
		})
		origins = origins[:0]
		return err
	}
	err := d.walk(i, fields, func(r *btree.Record) error {
		if r.Deleted || !which(r) {
			return nil
		}
		if r.Page != page {
			if err := flush(); err != nil {
				return err
			}
			page = r.Page
		}
		origins = append(origins, r.Origin)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}
