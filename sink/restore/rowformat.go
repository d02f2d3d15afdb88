package restore

import (
	"hb/sink/export"
	"hb/xbstream/createtable"
)

// Row formats by sdi.Table.RowFormat; COMPRESSED has options of its own.
var rowFormats = map[int]string{2: "DYNAMIC", 4: "REDUNDANT", 5: "COMPACT"}

// Flags of a table in the dictionary of MySQL 5 and MariaDB: its pages are compressed if any
// bit of zipMask is set.
const (
	flagCompact = 1
	zipMask     = 0x1E
	flagLong    = 1 << 5 // columns on other pages have nothing in the row: DYNAMIC
)

// rowFormat is that of a table's files, which IMPORT compares; empty: COMPRESSED.
func rowFormat(t *export.Table) string {
	if t.SDI != nil {
		return rowFormats[t.SDI.RowFormat]
	}
	if len(t.Dict) == 0 {
		return ""
	}
	switch f := t.Dict[0].Flags(); {
	case f&zipMask != 0:
		return ""
	case f&flagCompact == 0:
		return "REDUNDANT"
	case f&flagLong == 0:
		return "COMPACT"
	}
	return "DYNAMIC"
}

// setRowFormat makes a statement that of a table whose rows are as in the table's files, also if
// the definition does not give a format, and that of the server that made the table was another
// than what servers have by default: innodb_default_row_format, or COMPACT before 5.7.
func setRowFormat(split *createtable.Split, t *export.Table, s Server) {
	byDefault := "DYNAMIC"
	if !s.MariaDB && s.Version < firstDynamic {
		byDefault = "COMPACT"
	}
	if format := rowFormat(t); format != "" {
		split.SetRowFormat(format, byDefault)
	}
}

const firstDynamic = 50700 // the first MySQL that has innodb_default_row_format
