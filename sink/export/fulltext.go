package export

import (
	"hb/xbstream/innodb/dict"
	"hb/xbstream/innodb/sdi"
)

// docID is a column that tables with a FULLTEXT index have, and tables that had one.
const docID = "FTS_DOC_ID"

// HasDocID reports whether the table has a column FTS_DOC_ID, the user's or a hidden one.
func (t *Table) HasDocID() bool {
	if t.SDI != nil {
		for i := range t.SDI.Columns {
			if t.SDI.Columns[i].Name == docID {
				return true
			}
		}
		return false
	}
	for _, c := range t.Dict[0].Columns {
		if c.Name == docID {
			return true
		}
	}
	return false
}

// TextColumn returns a column that a FULLTEXT index can be of; "" if no column can.
func (t *Table) TextColumn() string {
	if t.SDI != nil {
		for i := range t.SDI.Columns {
			if c := &t.SDI.Columns[i]; !c.Virtual && c.Hidden != sdi.HiddenEngine && c.Private["version_dropped"] == "" && isText(c) {
				return c.Name
			}
		}
		return ""
	}
	for i := range t.Dict[0].Columns {
		if c := &t.Dict[0].Columns[i]; isDictText(c) {
			return c.Name
		}
	}
	return ""
}

const collationBinary = 63

// isText reports whether a column has text.
func isText(c *sdi.Column) bool {
	switch c.Type {
	case sdi.ColumnVarchar, sdi.ColumnString, sdi.ColumnTinyBlob, sdi.ColumnMediumBlob, sdi.ColumnLongBlob, sdi.ColumnBlob:
		return c.Collation != collationBinary
	}
	return false
}

// isDictText reports whether a column has text: of the main types DATA_VARCHAR, DATA_CHAR,
// DATA_BLOB, DATA_VARMYSQL and DATA_MYSQL, and of a precise one that is no GEOMETRY (data0type.h).
func isDictText(c *dict.Column) bool {
	const geometry = 255
	switch c.MType {
	case 1, 2, 5, 12, 13:
		return c.PRType>>16&0x7FFF != collationBinary && c.PRType&0xFF != geometry
	}
	return false
}
