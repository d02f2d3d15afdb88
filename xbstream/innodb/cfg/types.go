package cfg

import (
	"fmt"

	"hb/xbstream/innodb/sdi"
)

// Whether a table has a column, or had it before it was dropped instantly: servers then
// describe its type otherwise.
const (
	existing = iota
	wasDropped
)

// typeRule is what follows from the type of a column in the dictionary.
type typeRule struct {
	code, dropped uint32 // in DATA_MYSQL_TYPE_MASK of the precise type
	mtype         uint32
	size          uint32 // bytes; 0: see sizeOf
	collation     uint32 // of types that InnoDB takes for strings, though they have none
	flags         uint32 // bits of the precise type
	signs         bool   // the column says whether it is unsigned
}

const (
	collationBinary = 63
	collationLatin1 = 8
	// collationNumber is that of numbers and times. Of columns that were dropped servers
	// say that it is collationBinary.
	collationNumber  = collationLatin1
	collationUTF8Bin = 46 // utf8mb4_bin
)

// typeRules are those of all types but strings. (get_innobase_type_from_mysql_dd_type of
// handler/ha_innodb.cc, dd_get_old_field_type, calc_pack_length of 9.7.2)
var typeRules = map[int]typeRule{
	sdi.ColumnTiny:       {1, 1, mInt, 1, 0, binaryType, true},
	sdi.ColumnShort:      {2, 2, mInt, 2, 0, binaryType, true},
	sdi.ColumnLong:       {3, 3, mInt, 4, 0, binaryType, true},
	sdi.ColumnFloat:      {4, 4, mFloat, 4, 0, binaryType, true},
	sdi.ColumnDouble:     {5, 5, mDouble, 8, 0, binaryType, true},
	sdi.ColumnTimestamp:  {7, 7, mInt, 4, 0, binaryType | unsigned, false},
	sdi.ColumnLongLong:   {8, 8, mInt, 8, 0, binaryType, true},
	sdi.ColumnInt24:      {9, 9, mInt, 3, 0, binaryType, true},
	sdi.ColumnDate:       {10, 10, mInt, 4, 0, binaryType, false},
	sdi.ColumnTime:       {11, 11, mInt, 3, 0, binaryType, false},
	sdi.ColumnDatetime:   {12, 12, mInt, 8, 0, binaryType, false},
	sdi.ColumnYear:       {13, 13, mInt, 1, 0, binaryType | unsigned, false},
	sdi.ColumnNewDate:    {10, 14, mInt, 3, 0, binaryType, false},
	sdi.ColumnBit:        {16, 16, mFixBin, 0, collationBinary, binaryType | unsigned, false},
	sdi.ColumnTimestamp2: {7, 17, mFixBin, 0, collationNumber, binaryType, false},
	sdi.ColumnDatetime2:  {12, 18, mFixBin, 0, collationNumber, binaryType, false},
	sdi.ColumnTime2:      {11, 19, mFixBin, 0, collationNumber, binaryType, false},
	sdi.ColumnNewDecimal: {246, 246, mFixBin, 0, collationNumber, binaryType, true},
	sdi.ColumnEnum:       {254, 247, mInt, 0, 0, unsigned, false},
	sdi.ColumnSet:        {254, 248, mInt, 0, 0, unsigned, false},
	sdi.ColumnGeometry:   {255, 255, mGeometry, 12, 0, binaryType, false},
	sdi.ColumnJSON:       {245, 245, mBlob, 12, collationUTF8Bin, binaryType, false},
}

// stringRules are those of strings, whose main type depends on the collation.
var stringRules = map[int]struct {
	code, dropped         uint32
	latin1, binary, other uint32 // main types
	size                  uint32
}{
	sdi.ColumnVarchar:    {15, 15, mVarChar, mBinary, mVarMySQL, 0},
	sdi.ColumnVarString:  {253, 253, mVarChar, mBinary, mVarMySQL, 0},
	sdi.ColumnString:     {254, 254, mChar, mFixBin, mMySQL, 0},
	sdi.ColumnTinyBlob:   {252, 249, mBlob, mBlob, mBlob, 9},
	sdi.ColumnBlob:       {252, 252, mBlob, mBlob, mBlob, 10},
	sdi.ColumnMediumBlob: {252, 250, mBlob, mBlob, mBlob, 11},
	sdi.ColumnLongBlob:   {252, 251, mBlob, mBlob, mBlob, 12},
	sdi.ColumnVector:     {242, 242, mBlob, mBlob, mBlob, 12},
}

// columnType is a type in InnoDB's terms.
type columnType struct{ mtype, prtype, size uint32 }

// typeOf returns the type of a column.
func typeOf(c *sdi.Column, which int) (t columnType, err error) {
	var code [2]uint32
	if r, ok := typeRules[c.Type]; ok {
		code = [2]uint32{r.code, r.dropped}
		if which == wasDropped && r.collation == collationNumber {
			r.collation = collationBinary
		}
		t = columnType{r.mtype, r.flags | r.collation<<charsetBits, r.size}
		if r.signs && c.Unsigned {
			t.prtype |= unsigned
		}
		if (c.Type == sdi.ColumnEnum || c.Type == sdi.ColumnSet) && c.Collation == collationBinary {
			t.prtype |= binaryType
		}
	} else if r, ok := stringRules[c.Type]; ok {
		code = [2]uint32{r.code, r.dropped}
		t = columnType{r.other, uint32(c.Collation) << charsetBits, r.size}
		switch c.Collation {
		case collationBinary:
			t.mtype = r.binary
			t.prtype |= binaryType
		case collationLatin1:
			t.mtype = r.latin1
		}
	} else {
		return t, fmt.Errorf("column %s is of type %d, which hb does not know", c.Name, c.Type)
	}
	t.prtype |= code[which]
	if !c.Nullable {
		t.prtype |= notNull
	}
	if c.Type == sdi.ColumnVarchar && c.Length > 255 {
		t.prtype |= longVarchar
	}
	if t.size == 0 {
		t.size = sizeOf(c)
	}
	return t, nil
}

// Bytes that a time is displayed with, without a fraction.
const (
	widthTime     = 10
	widthDatetime = 19
)

// fraction is how many bytes the fraction of a time has that is displayed with so many.
func fraction(width, whole uint32) uint32 {
	if width <= whole {
		return 0
	}
	return (width - whole - 1 + 1) / 2
}

// sizeOf returns how many bytes a column has whose size depends on its definition.
func sizeOf(c *sdi.Column) uint32 {
	switch n := uint32(len(c.Elements)); c.Type {
	case sdi.ColumnBit:
		return (c.Length + 7) / 8
	case sdi.ColumnTime2:
		return 3 + fraction(c.Length, widthTime)
	case sdi.ColumnTimestamp2:
		return 4 + fraction(c.Length, widthDatetime)
	case sdi.ColumnDatetime2:
		return 5 + fraction(c.Length, widthDatetime)
	case sdi.ColumnNewDecimal:
		return decimalSize(c)
	case sdi.ColumnEnum:
		if n < 256 {
			return 1
		}
		return 2
	case sdi.ColumnSet:
		if n = (n + 7) / 8; n > 4 {
			return 8
		}
		return n
	}
	return c.Length
}

// decimalSize is how many bytes a DECIMAL has: 4 for each 9 digits before and after the
// point, and fewer for the rest. (my_decimal_get_binary_size)
func decimalSize(c *sdi.Column) uint32 {
	rest := [...]uint32{0, 1, 1, 2, 2, 3, 3, 4, 4, 4}
	digits := c.Length // with a sign and a point
	if !c.Unsigned && digits > 0 {
		digits--
	}
	if c.Scale > 0 && digits > 0 {
		digits--
	}
	digits = max(min(digits, 65), c.Scale)
	whole := digits - c.Scale
	return whole/9*4 + rest[whole%9] + c.Scale/9*4 + rest[c.Scale%9]
}
