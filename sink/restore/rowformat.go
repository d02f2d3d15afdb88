package restore

import (
	"context"
	"strings"

	"hb/sink/export"
	"hb/xbstream/createtable"
	"hb/xbstream/innodb/sdi"
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

// defaultRowFormat is innodb_default_row_format of a server; empty: it does not have that.
func defaultRowFormat(ctx context.Context, s Session) (string, error) {
	rows, err := s.Rows(ctx, "SHOW GLOBAL VARIABLES LIKE 'innodb_default_row_format'")
	if err != nil || len(rows) != 1 {
		return "", err
	}
	return strings.ToUpper(rows[0]["Value"]), nil
}

// rowFormat is that of a table's files, which IMPORT compares; empty: COMPRESSED.
func rowFormat(t *export.Table) string {
	if t.SDI != nil {
		return rowFormats[sdiFormat(t.SDI)]
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

// sdiFormat is the row format in a document: that of the partitions where they have another one,
// which all of them have.
func sdiFormat(t *sdi.Table) int {
	format := 0
	own := func(p *sdi.Partition) {
		n, ok := p.Private.Number("format")
		switch {
		case !ok:
			n = uint64(t.RowFormat)
		case n > 6:
			n = 0
		}
		if format == 0 {
			format = int(n)
		}
		if format != int(n) {
			format = -1 // no CREATE TABLE makes partitions of several formats
		}
	}
	for i := range t.Partitions {
		p := &t.Partitions[i]
		if len(p.Subpartitions) == 0 {
			own(p)
		}
		for j := range p.Subpartitions {
			own(&p.Subpartitions[j])
		}
	}
	if format == 0 {
		format = t.RowFormat
	}
	return format
}

// setRowFormat makes a statement that of a table whose rows are as in the table's files, also if
// the definition does not give a format, and that of the server that made the table was another
// than what servers have by default: innodb_default_row_format, or COMPACT before 5.7.
func setRowFormat(split *createtable.Split, t *export.Table, s Server) {
	byDefault := s.RowFormat
	switch {
	case byDefault != "":
	case !s.MariaDB && s.Version < firstDynamic:
		byDefault = "COMPACT"
	default:
		byDefault = "DYNAMIC"
	}
	if format := rowFormat(t); format != "" {
		split.SetRowFormat(format, byDefault)
	}
}

const firstDynamic = 50700 // the first MySQL that has innodb_default_row_format
