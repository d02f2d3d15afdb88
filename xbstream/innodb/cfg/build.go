package cfg

import (
	"fmt"
	"slices"
)

// Types of columns (data0type.h): main types, and bits of precise ones.
const (
	mVarChar  = 1
	mChar     = 2
	mFixBin   = 3
	mBinary   = 4
	mBlob     = 5
	mInt      = 6
	mSys      = 8
	mFloat    = 9
	mDouble   = 10
	mDecimal  = 11
	mVarMySQL = 12
	mMySQL    = 13
	mGeometry = 14
	mPoint    = 15
	mVarPoint = 16

	notNull     = 256
	unsigned    = 512
	binaryType  = 1024
	longVarchar = 4096
	virtual     = 8192
	multiValue  = 16384
	charsetBits = 16
)

// Types of indexes (dict0mem.h).
const (
	indexClustered  = 1
	indexUnique     = 2
	indexFullText   = 32
	indexSpatial    = 64
	indexVirtual    = 128
	indexSDI        = 256
	indexMultiValue = 512
)

// Names and lengths of the columns that each table has besides those of its definition.
var systemColumns = [...]struct {
	name string
	size uint32
}{{"DB_ROW_ID", 6}, {"DB_TRX_ID", 6}, {"DB_ROLL_PTR", 7}}

const (
	rowID = iota
	trxID
	rollPtr
)

const (
	mbrSize  = 32  // of a point in a SPATIAL index: its bounding box
	maxFixed = 768 // a longer column of fixed length is treated as one of variable length

	flagCompact = 1 // of File.Flags
)

// key is an index as the table's definition has it.
type key struct {
	Index
	fields []keyField
}

type keyField struct {
	column     *Column
	prefix     uint32
	descending bool
}

// builder adds to a file what servers derive from the definition: the system columns, fields
// of indexes that no user named, and what follows for columns. (dict_index_build_internal_clust,
// dict_index_build_internal_non_clust, dict_index_add_to_cache, dict_index_add_col.)
type builder struct {
	*File
	stored    int // columns of the definition; the system columns follow
	versioned bool
	longest   bool // MySQL 5.6: MaxPrefix is the longest prefix, even if an index has all of a column
}

// mbMinMax is Column.MBMinMax by the types of a column.
func mbMinMax(mtype, prtype uint32) uint32 {
	if mtype > mBlob && mtype != mMySQL && mtype != mVarMySQL {
		return 0
	}
	least, most := CharWidth(prtype >> charsetBits)
	return most*5 + least
}

// addSystem adds the system columns after those of the definition.
func (b *builder) addSystem() {
	b.stored = len(b.Columns)
	for i, c := range systemColumns {
		b.Columns = append(b.Columns, Column{Name: c.name, MType: mSys, PRType: uint32(i) | notNull, Len: c.size,
			Added: NoVersion, Dropped: NoVersion, Position: noPosition})
	}
}

const noPosition = 0xFFFFFFFF

// system returns a system column.
func (b *builder) system(i int) *Column { return &b.Columns[b.stored+i] }

// fixedSize is how many bytes all values of a column have; 0: it varies.
func (b *builder) fixedSize(c *Column) uint32 {
	switch c.MType {
	case mSys, mChar, mFixBin, mInt, mFloat, mDouble, mPoint:
		return c.Len
	case mMySQL:
		if c.PRType&binaryType != 0 || b.Flags&flagCompact == 0 || c.MBMinMax/5 == c.MBMinMax%5 {
			return c.Len
		}
	}
	return 0
}

// add appends a field to an index.
func (b *builder) add(i *Index, k keyField) {
	f := Field{Name: k.column.Name, Prefix: k.prefix, Descending: k.descending, column: k.column}
	if i.Type&indexSpatial != 0 && len(i.Fields) == 0 && (k.column.MType == mPoint || k.column.MType == mVarPoint) {
		f.Fixed = mbrSize
	} else {
		f.Fixed = b.fixedSize(k.column)
	}
	if f.Prefix != 0 {
		f.Fixed = min(f.Fixed, f.Prefix)
	}
	if f.Fixed > maxFixed {
		f.Fixed = 0
	}
	if k.column.PRType&notNull == 0 {
		i.Nulls++
	}
	i.Fields = append(i.Fields, f)
}

// build makes the indexes, of which the first is the clustered one.
func (b *builder) build(keys []key) error {
	for n, k := range keys {
		i := k.Index
		i.UserFields = uint32(len(k.fields))
		for _, f := range k.fields {
			b.add(&i, f)
		}
		switch {
		case n == 0 && i.Type&indexClustered == 0 || n > 0 && i.Type&indexClustered != 0:
			return fmt.Errorf("table %s: index %s is number %d, and its type is %d", b.Table, i.Name, n, i.Type)
		case n == 0:
			b.clustered(&i)
		case i.Type&indexFullText == 0:
			b.secondary(&i)
		}
		b.order(&i)
		b.Indexes = append(b.Indexes, &i)
	}
	return nil
}

// clustered completes the clustered index.
func (b *builder) clustered(i *Index) {
	if i.Type&indexUnique == 0 {
		b.add(i, keyField{column: b.system(rowID)})
	}
	i.Unique = uint32(len(i.Fields))
	for _, f := range i.Fields {
		size := b.fixedSize(f.column)
		if size == 0 || f.Prefix != 0 {
			i.TrxOffset = 0
			break
		}
		i.TrxOffset += size
	}
	b.add(i, keyField{column: b.system(trxID)})
	b.add(i, keyField{column: b.system(rollPtr)})
	for n := range b.Columns[:b.stored] {
		if c := &b.Columns[n]; !i.has(c) {
			b.add(i, keyField{column: c})
		}
	}
	if !b.versioned {
		i.setPositions()
	}
}

// setPositions numbers the columns as they follow each other in rows. A column of which the
// key has a prefix is there twice.
func (i *Index) setPositions() {
	const twice = 0x8000
	for n, f := range i.Fields {
		switch c := f.column; {
		case f.Prefix != 0:
			c.Position = uint32(n)<<16 | twice
		case c.Position != noPosition && c.Position&twice != 0:
			c.Position |= uint32(n)
		default:
			c.Position = uint32(n)
		}
	}
}

// has reports whether a field of the index has all of a column.
func (i *Index) has(c *Column) bool {
	return slices.ContainsFunc(i.Fields, func(f Field) bool { return f.column == c && f.Prefix == 0 })
}

// secondary completes an index that is not the clustered one.
func (b *builder) secondary(i *Index) {
	user := *i
	clustered := b.Indexes[0]
	for _, f := range clustered.Fields[:clustered.Unique] {
		if i.Type&indexSpatial != 0 || !user.has(f.column) {
			b.add(i, keyField{f.column, f.Prefix, f.Descending})
		}
	}
	if i.Unique = uint32(len(i.Fields)); i.Type&indexUnique != 0 {
		i.Unique = i.UserFields
	}
}

// order notes which columns the index orders by.
func (b *builder) order(i *Index) {
	for _, f := range i.Fields[:i.Unique] {
		switch c := f.column; {
		case !c.Ordering:
			c.Ordering, c.MaxPrefix = true, f.Prefix
		case b.longest:
			c.MaxPrefix = max(c.MaxPrefix, f.Prefix)
		case f.Prefix == 0:
			c.MaxPrefix = 0
		case c.MaxPrefix != 0:
			c.MaxPrefix = max(c.MaxPrefix, f.Prefix)
		}
	}
}
