package sdi

// Types of columns. (sql/dd/types/column.h, enum_column_types, of MySQL 9.7.2)
const (
	ColumnDecimal = iota + 1
	ColumnTiny
	ColumnShort
	ColumnLong
	ColumnFloat
	ColumnDouble
	ColumnNull
	ColumnTimestamp
	ColumnLongLong
	ColumnInt24
	ColumnDate
	ColumnTime
	ColumnDatetime
	ColumnYear
	ColumnNewDate
	ColumnVarchar
	ColumnBit
	ColumnTimestamp2
	ColumnDatetime2
	ColumnTime2
	ColumnNewDecimal
	ColumnEnum
	ColumnSet
	ColumnTinyBlob
	ColumnMediumBlob
	ColumnLongBlob
	ColumnBlob
	ColumnVarString
	ColumnString
	ColumnGeometry
	ColumnJSON
	ColumnVector
)

// IsPrefix reports whether so many bytes of a column in a key are not all of it.
func (c *Column) IsPrefix(n uint32) bool {
	switch c.Type {
	case ColumnVarchar, ColumnVarString, ColumnString:
		return n != c.Length
	case ColumnTinyBlob, ColumnMediumBlob, ColumnLongBlob, ColumnBlob, ColumnGeometry, ColumnVector:
		return true
	}
	return false
}
