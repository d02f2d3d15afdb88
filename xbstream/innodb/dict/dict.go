// Package dict reads InnoDB's own dictionary of MySQL 5.6 and 5.7 and of MariaDB: tables in
// the system tablespace that describe all tables. MySQL 8.0 and later have package sdi's.
//
// Page 7 of the system tablespace, the dictionary's header, has from byte 38, big-endian:
//
//	 0  8  next row id   8  8  next table id   16  8  next index id   24  4  newest tablespace
//	32  4  root of SYS_TABLES, index 1         40  4  root of SYS_COLUMNS, index 2
//	44  4  root of SYS_INDEXES, index 3        48  4  root of SYS_FIELDS, index 4
//
// SYS_VIRTUAL, SYS_FOREIGN and SYS_FOREIGN_COLS are found in these as other tables are. All
// are of ROW_FORMAT=REDUNDANT. Their fields, of 4 bytes unless said otherwise, where the key
// is followed by DB_TRX_ID (6) and DB_ROLL_PTR (7):
//
//	SYS_TABLES        NAME; ID (8), N_COLS, TYPE, MIX_ID (8), MIX_LEN, CLUSTER_NAME, SPACE
//	SYS_COLUMNS       TABLE_ID (8), POS; NAME, MTYPE, PRTYPE, LEN, PREC
//	SYS_INDEXES       TABLE_ID (8), ID (8); NAME, N_FIELDS, TYPE, SPACE, PAGE_NO,
//	                  MERGE_THRESHOLD (since MySQL 5.7 and MariaDB 10.2)
//	SYS_FIELDS        INDEX_ID (8), POS; COL_NAME
//	SYS_VIRTUAL       TABLE_ID (8), POS, BASE_POS
//	SYS_FOREIGN       ID; FOR_NAME, REF_NAME, N_COLS
//	SYS_FOREIGN_COLS  ID, POS; FOR_COL_NAME, REF_COL_NAME
//
// Source: dict0boot.h, dict0load.cc and dict0crea.cc of MySQL 5.7 and MariaDB 10.5 to 11.8. A
// test compares what is read with information_schema.INNODB_SYS_* of five servers.
package dict

import (
	"encoding/binary"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
)

// A Dictionary describes the tables of a server, those of the dictionary included. It has
// what was committed, and what transactions did that had not ended: see Table.Trx. Records
// that are marked as deleted are left out.
type Dictionary struct {
	Tables   []*Table // in the order of their names, as bytes
	Foreign  []*Foreign
	MaxSpace innodb.SpaceID // the newest tablespace's

	byID    map[uint64]*Table
	indexes map[uint64]*Index
}

// A Table is a row of SYS_TABLES, with those of other tables that belong to it.
type Table struct {
	Name    string // "database/table", as files are named; of a partition with its name
	ID      uint64
	Trx     uint64         // the transaction that wrote the row last
	Space   innodb.SpaceID // 0: the system tablespace
	Columns []Column       // in their order, without virtual ones
	Virtual []Column       // in the order of their numbers
	Indexes []*Index       // in the order of their ids; the first is the clustered one

	// Flags2 is MIX_LEN: 1 temporary, 2 it has a column FTS_DOC_ID, 4 a FULLTEXT index, 8
	// that column is hidden, 16 it has a tablespace of its own (dict0mem.h, DICT_TF2_*).
	Flags2 uint32

	columns uint32 // as SYS_TABLES has it: how many, and how many are virtual; COMPACT
	kind    uint32 // TYPE
}

// A Column is a row of SYS_COLUMNS. Its Type fields are in InnoDB's terms (data0type.h).
type Column struct {
	Name   string
	Pos    uint32 // of virtual ones: (their number + 1) << 16 | position among all columns
	MType  uint32
	PRType uint32
	Len    uint32
	Bases  []uint32 // of virtual ones: positions of the columns that they are computed of
}

// An Index is a row of SYS_INDEXES.
type Index struct {
	ID     uint64
	Name   string // begins with 0xFF while the index is being built
	Type   uint32 // 1 clustered, 2 unique, 32 FULLTEXT, 64 SPATIAL, 128 of virtual columns
	Space  innodb.SpaceID
	Root   innodb.PageNo // PageNull: it has none
	Trx    uint64
	Fields []Field

	fields uint32
}

// Unfinished reports whether the index was being built.
func (i *Index) Unfinished() bool { return len(i.Name) > 0 && i.Name[0] == 0xFF }

// A Field is a row of SYS_FIELDS: a column of an index, as it was defined.
type Field struct {
	Column     string
	Prefix     uint32 // bytes; 0: the whole column
	Descending bool   // MariaDB 10.8 and later
}

// A Foreign is a foreign key.
type Foreign struct {
	ID       string // "database/name"
	For, Ref string // the tables, as Table.Name
	Type     uint32 // what happens when a row it refers to changes (dict0mem.h, DICT_FOREIGN_*)
	Columns  [][2]string

	columns uint32
}

// Table returns the table of that name; nil: there is none.
func (d *Dictionary) Table(name string) *Table {
	for _, t := range d.Tables {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// TableByID returns the table with that id; nil: there is none.
func (d *Dictionary) TableByID(id uint64) *Table { return d.byID[id] }

// InconsistentError says that the parts of the dictionary do not fit.
type InconsistentError struct {
	Table string
	What  string
}

func (e *InconsistentError) Error() string {
	return fmt.Sprintf("the dictionary describes table %s inconsistently: %s", e.Table, e.What)
}

const (
	compactBit  = 1 << 31
	flagCompact = 1
	// typeFlags are the bits of TYPE that are also flags of the table.
	typeFlags = 0xFFE
)

// Flags are the table's, as servers have them in memory and in information_schema: bit 0
// COMPACT, 1 to 4 the size of compressed pages, 5 DYNAMIC or COMPRESSED, 6 DATA DIRECTORY,
// from 7 on MariaDB's page_compressed and its level.
func (t *Table) Flags() uint32 {
	f := t.kind & typeFlags
	if t.columns&compactBit != 0 {
		f |= flagCompact
	}
	return f
}

// Check returns an *InconsistentError if not everything that the table's rows count is there.
func (t *Table) Check() error {
	bad := func(format string, args ...any) error {
		return &InconsistentError{t.Name, fmt.Sprintf(format, args...)}
	}
	if stored, virtual := int(t.columns&0xFFFF), int(t.columns&^compactBit>>16); stored != len(t.Columns) || virtual != len(t.Virtual) {
		return bad("it has %d columns and %d virtual ones, not %d and %d", len(t.Columns), len(t.Virtual), stored, virtual)
	}
	for i, c := range t.Columns {
		if t.columns&^compactBit>>16 == 0 && int(c.Pos) != i {
			return bad("column %s is number %d, not %d", c.Name, c.Pos, i)
		}
	}
	if len(t.Indexes) == 0 || t.Indexes[0].Type&IndexClustered == 0 {
		return bad("it has no clustered index")
	}
	for _, i := range t.Indexes {
		if int(i.fields) != len(i.Fields) {
			return bad("index %s has %d fields, not %d", i.Name, len(i.Fields), i.fields)
		}
	}
	return nil
}

// IndexClustered is the bit of Index.Type of the index that holds the rows.
const IndexClustered = 1

// headerPage is the page of the system tablespace where the dictionary begins.
const headerPage innodb.PageNo = 7

// Read reads the dictionary from the system tablespace.
func Read(pages btree.Pages) (*Dictionary, error) {
	header, err := pages.Page(headerPage)
	if err != nil {
		return nil, err
	}
	r := &reader{pages: pages, Dictionary: Dictionary{byID: map[uint64]*Table{}, indexes: map[uint64]*Index{}}}
	body := header[innodb.OffsetBody:]
	r.MaxSpace = innodb.SpaceID(binary.BigEndian.Uint32(body[24:]))
	for id, s := range []struct {
		root int
		what system
	}{{32, sysTables}, {40, sysColumns}, {44, sysIndexes}, {48, sysFields}} {
		root := innodb.PageNo(binary.BigEndian.Uint32(body[s.root:]))
		if err := r.read(s.what, root, uint64(id+1)); err != nil {
			return nil, err
		}
	}
	for _, s := range []system{sysVirtual, sysForeign, sysForeignCols} {
		t := r.Table(s.name)
		if t == nil { // MySQL 5.6 has no SYS_VIRTUAL, and nobody has foreign keys at first
			continue
		}
		if len(t.Indexes) == 0 {
			return nil, &InconsistentError{s.name, "it has no clustered index"}
		}
		if err := r.read(s, t.Indexes[0].Root, t.Indexes[0].ID); err != nil {
			return nil, err
		}
	}
	return &r.Dictionary, nil
}
