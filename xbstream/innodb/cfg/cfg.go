// Package cfg writes the .cfg files from which ALTER TABLE … IMPORT TABLESPACE takes a
// table's definition, and .cfp files with the key of an encrypted tablespace, as FLUSH TABLES
// … FOR EXPORT does.
//
// A .cfg file, big-endian; S is 4 bytes, the length with a final NUL, and the text with it;
// "n:" marks what only versions since n have:
//
//	4   version
//	S   host       S  table, "database/name" as files are named       8  next AUTO_INCREMENT
//	4   page size  4  flags of the table                              4  number of columns
//	5: 4  columns that can be NULL before the first that ALTER TABLE added instantly
//	7: 4  columns at first     4  now     4  with those that were dropped instantly
//	   4  dropped instantly    4  version of rows
//	2: 4  flags of the tablespace
//	6: 1  compression: 0 none, 1 zlib, 2 lz4
//
// Then each column, virtual ones excepted:
//
//	4   precise type   4  main type   4  bytes   4  bytes of a character: most * 5 + least
//	4   number         4  whether an index orders by it      4  longest prefix that one has
//	S   name
//	7: 1 (8: 2)  version of rows that added it       1 (8: 2)  that dropped it; all ones: none
//	   4  position in rows
//	   of dropped columns:  1  can be NULL   1  unsigned   4  characters   4  type   4  scale
//	                        8  collation;    of ENUM and SET: 4  values    S  each
//	3: 1  0: it was not added instantly. 1: 1  1: its default is NULL; 0: 4  bytes, default
//
// Then 4, the number of indexes, and each, the clustered one first; before it that of the
// serialized dictionary information:
//
//	8   id     4  tablespace    4  root page        4  type    4  bytes before DB_TRX_ID, or 0
//	4   columns that the user named          4  fields that make entries unique
//	4   fields that can be NULL              4  fields         S  name
//	    each field:  4  bytes of a prefix, or 0    4  bytes of a fixed length, or 0; MariaDB:
//	                                                  with the highest bit if it descends
//	                 4: 4  whether it ascends      S  name
//
// Source: row0quiesce.cc and row0import.cc of MySQL 5.6, 5.7, 8.0 and 9.7.2 and of MariaDB
// 10.5 to 11.8. A test compares the files with those that six servers write.
package cfg

import (
	"encoding/binary"
	"fmt"
	"slices"

	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/sdi"
)

// Ext and ExtKey are the ends of the names of both files.
const (
	Ext    = ".cfg"
	ExtKey = ".cfp"
)

// A File is the content of a .cfg file.
type File struct {
	Version     int
	Host        string
	Table       string // "database/name", as files are named; of a partition with its name
	AutoInc     uint64 // the next value; 0: servers find it when they open the table
	PageSize    uint32
	Flags       uint32
	SpaceFlags  uint32
	Compression byte // 0 none, 1 zlib, 2 lz4
	// InstantNullable is how many columns can be NULL before the first that ALTER TABLE
	// added instantly.
	InstantNullable uint32
	// Counts are how many columns there were at first, there are, there are with those
	// that were dropped instantly, and how many those are.
	Initial, Current, Total, Dropped uint32
	RowVersion                       uint32
	// Core is that of the clustered index after columns were added instantly without versions
	// of rows; nil: none were. The file does not have it.
	Core *btree.Core
	// Moved: columns were dropped or moved instantly on MariaDB, so that rows have them in
	// another order. The file has no field for this.
	Moved bool

	Columns []Column
	Indexes []*Index
}

// A Column is a column of the table, in InnoDB's terms (data0type.h).
type Column struct {
	Name          string
	PRType, MType uint32
	Len           uint32 // bytes
	MBMinMax      uint32 // bytes of a character, most * 5 + least; 0: not a string
	Ordering      bool   // an index orders by it
	MaxPrefix     uint32 // bytes of the longest prefix that one has; 0: one has it whole

	Added, Dropped uint16 // versions of rows; NoVersion
	Position       uint32 // in rows
	Was            *Was   // of a column that was dropped instantly
	Default        *Default
}

// NoVersion is Column.Added and Column.Dropped of columns that were not added or dropped
// instantly.
const NoVersion = 0xFFFF

// Was is how a column was defined that was dropped instantly.
type Was struct {
	Nullable, Unsigned  bool
	Length, Type, Scale uint32
	Collation           uint64
	Elements            [][]byte // of ENUM and SET
}

// A Default is what rows have that are older than a column that was added instantly.
type Default struct {
	Null  bool
	Value []byte
}

// An Index is an index, with the fields that InnoDB adds.
type Index struct {
	ID                        uint64
	Space, Root, Type         uint32
	TrxOffset                 uint32 // bytes before DB_TRX_ID, if all before it are of fixed length
	UserFields, Unique, Nulls uint32
	Name                      string
	Fields                    []Field
}

// A Field is a field of an index.
type Field struct {
	Name          string
	Prefix, Fixed uint32 // bytes
	Descending    bool

	column *Column
}

// Clustered is the index that holds the rows.
func (f *File) Clustered() *Index {
	for _, i := range f.Indexes {
		if i.Type&(indexClustered|indexSDI) == indexClustered {
			return i
		}
	}
	return &Index{}
}

// ForgetDataDir takes DATA DIRECTORY out of the flags of a table of MySQL, whose tablespace is
// to be imported where the data directory is. Page 0 has the flag, too: SpaceDataDir.
func (f *File) ForgetDataDir() {
	f.Flags &^= flagDataDir
	f.SpaceFlags &^= SpaceDataDir
}

// HasPrefix reports whether the index has only the beginning of a column that the user named.
func (i *Index) HasPrefix() bool {
	return slices.ContainsFunc(i.Fields[:i.UserFields], func(f Field) bool { return f.Prefix != 0 })
}

// versions are those of the format that servers write, by the number of the server's version.
var versions = []struct{ server, format int }{
	{50600, 1}, {80000, 2}, {80011, 3}, {80019, 4}, {80020, 5}, {80023, 6}, {80029, 7}, {90100, 8},
}

// MariaDB is the version of the format that MariaDB writes, all releases until 11.8.
const MariaDB = 1

// Version is the version of the format that a server of MySQL writes, whose version is such
// as 80036 for 8.0.36.
func Version(mysql int) int {
	v := 1
	for _, e := range versions {
		if mysql >= e.server {
			v = e.format
		}
	}
	return v
}

// descends marks the fixed length of a descending field in what MariaDB 10.8 and later write.
const descends = 1 << 31

// Versions of the format, by what they brought.
const (
	withSpaceFlags  = 2
	withDefaults    = 3
	withOrder       = 4
	withNullable    = 5
	withCompression = 6
	withRowVersions = 7
	withWideRows    = 8
	newest          = withWideRows
)

// writer appends to the file.
type writer struct {
	out     []byte
	version int
	err     error
}

func (w *writer) u8(v byte) { w.out = append(w.out, v) }

func (w *writer) u32(values ...uint32) {
	for _, v := range values {
		w.out = binary.BigEndian.AppendUint32(w.out, v)
	}
}

func (w *writer) u64(v uint64) { w.out = binary.BigEndian.AppendUint64(w.out, v) }

func (w *writer) text(s string) {
	w.u32(uint32(len(s) + 1))
	w.out = append(append(w.out, s...), 0)
}

func (w *writer) flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// Marshal returns the file.
func (f *File) Marshal() ([]byte, error) {
	if f.Version < 1 || f.Version > newest {
		return nil, fmt.Errorf("hb writes no .cfg file of version %d", f.Version)
	}
	w := &writer{version: f.Version}
	f.head(w)
	for i := range f.Columns {
		f.Columns[i].write(w, uint32(i))
	}
	w.u32(uint32(len(f.Indexes)))
	for _, i := range f.Indexes {
		i.write(w)
	}
	return w.out, w.err
}

func (f *File) head(w *writer) {
	w.u32(uint32(f.Version))
	w.text(f.Host)
	w.text(f.Table)
	w.u64(f.AutoInc)
	w.u32(f.PageSize, f.Flags, uint32(len(f.Columns)))
	if w.version >= withNullable {
		w.u32(f.InstantNullable)
	}
	if w.version >= withRowVersions {
		w.u32(f.Initial, f.Current, f.Total, f.Dropped, f.RowVersion)
	} else if f.RowVersion != 0 {
		w.err = fmt.Errorf("table %s had columns added or dropped instantly, which a .cfg file of version %d cannot say", f.Table, w.version)
	}
	if w.version >= withSpaceFlags {
		w.u32(f.SpaceFlags)
	}
	if w.version >= withCompression {
		w.u8(f.Compression)
	}
}

func (c *Column) write(w *writer, no uint32) {
	w.u32(c.PRType, c.MType, c.Len, c.MBMinMax, no, uint32(w.flag(c.Ordering)), c.MaxPrefix)
	w.text(c.Name)
	if w.version >= withRowVersions {
		for _, v := range []uint16{c.Added, c.Dropped} {
			if w.version >= withWideRows {
				w.u8(byte(v >> 8))
			}
			w.u8(byte(v))
		}
		w.u32(c.Position)
		if c.Was != nil {
			c.Was.write(w)
		}
	}
	if w.version < withDefaults {
		return
	}
	w.u8(w.flag(c.Default != nil))
	if c.Default == nil {
		return
	}
	w.u8(w.flag(c.Default.Null))
	if !c.Default.Null {
		w.u32(uint32(len(c.Default.Value)))
		w.out = append(w.out, c.Default.Value...)
	}
}

func (c *Was) write(w *writer) {
	w.u8(w.flag(c.Nullable))
	w.u8(w.flag(c.Unsigned))
	w.u32(c.Length, c.Type, c.Scale)
	w.u64(c.Collation)
	if c.Type == sdi.ColumnEnum || c.Type == sdi.ColumnSet {
		w.u32(uint32(len(c.Elements)))
		for _, e := range c.Elements {
			w.text(string(e))
		}
	}
}

func (i *Index) write(w *writer) {
	w.u64(i.ID)
	w.u32(i.Space, i.Root, i.Type, i.TrxOffset, i.UserFields, i.Unique, i.Nulls, uint32(len(i.Fields)))
	w.text(i.Name)
	for _, f := range i.Fields {
		fixed := f.Fixed
		if f.Descending && w.version == MariaDB {
			fixed |= descends
		}
		w.u32(f.Prefix, fixed)
		if w.version >= withOrder {
			w.u32(uint32(w.flag(!f.Descending)))
		}
		w.text(f.Name)
	}
}

// IsSDI reports whether the index has serialized dictionary information.
func (i *Index) IsSDI() bool { return i.Type&indexSDI != 0 }

// IsComputed reports whether its entries are not bytes of columns: SPATIAL, FULLTEXT, and those
// of virtual columns.
func (i *Index) IsComputed() bool {
	return i.Type&(indexSpatial|indexFullText|indexVirtual|indexMultiValue) != 0
}

// Instant reports whether rows can have other columns than the table, or in another order.
func (f *File) Instant() bool {
	return f.RowVersion != 0 || f.Moved || f.Core != nil || slices.ContainsFunc(f.Columns, func(c Column) bool { return c.Default != nil || c.Was != nil })
}

// MaxChar is how many bytes a character of the field can have; 1 if it is not of characters.
func (f *Field) MaxChar() int { return int(max(1, f.column.MBMinMax/5)) }
