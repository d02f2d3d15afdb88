package createtable

import (
	"fmt"
	"path"
	"strings"
)

// rowFormats are by the number that sdi.Table.RowFormat has.
var rowFormats = map[string]string{"1": "FIXED", "2": "DYNAMIC", "3": "COMPRESSED", "4": "REDUNDANT", "5": "COMPACT", "6": "PAGED"}

const yes, no = "1", "0"

// option is one of the options of tables: what a value is shown as; empty: not at all.
type option struct {
	key  string
	show func(value string) string
}

// tableValues are in the order in which servers write them.
var tableValues = []option{
	{"min_rows", positive(" MIN_ROWS=")},
	{"max_rows", positive(" MAX_ROWS=")},
	{"avg_row_length", positive(" AVG_ROW_LENGTH=")},
	{"pack_keys", switched(" PACK_KEYS=1", " PACK_KEYS=0")},
	{"stats_persistent", switched(" STATS_PERSISTENT=1", " STATS_PERSISTENT=0")},
	{"stats_auto_recalc", func(v string) string {
		return map[string]string{"1": " STATS_AUTO_RECALC=1", "2": " STATS_AUTO_RECALC=0"}[v]
	}},
	{"stats_sample_pages", positive(" STATS_SAMPLE_PAGES=")},
	{"checksum", switched(" CHECKSUM=1", "")},
	{"delay_key_write", switched(" DELAY_KEY_WRITE=1", "")},
	{"row_type", func(v string) string { return " ROW_FORMAT=" + rowFormats[v] }},
	{"key_block_size", positive(" KEY_BLOCK_SIZE=")},
	{"compress", func(v string) string { return choose(v == "", "", " COMPRESSION="+quoteText(v)) }},
}

func positive(clause string) func(string) string {
	return func(v string) string { return choose(v == no || v == "", "", clause+v) }
}

func switched(on, off string) func(string) string {
	return func(v string) string { return choose(v == no, off, on) }
}

func (s *statement) tableOptions() error {
	o := s.def.Options
	s.add(s.tablespaceClause())
	if s.options.Space != nil {
		if n, ok := s.options.Space.Options.Number("autoextend_size"); ok && n > 0 && (s.space() == "" || s.space() == filePerTable) {
			s.add(" /*!80023 AUTOEXTEND_SIZE=", number(n), " */")
		}
	}
	s.add(" ENGINE=", s.def.Engine)
	if n := s.nextValue(); n > 1 {
		s.add(" AUTO_INCREMENT=", number(n))
	}
	s.add(" DEFAULT CHARSET=", s.collation.charset())
	if !s.collation.primary || s.def.Collation == collationDefault {
		s.add(" COLLATE=", s.collation.name)
	}
	for _, v := range tableValues {
		if value, ok := o[v.key]; ok {
			s.add(v.show(value))
		}
	}
	s.add(s.encryption())
	if s.def.Comment != "" {
		s.add(" COMMENT=", quoteText(s.def.Comment))
	}
	if v := o["connection_string"]; v != "" {
		s.add(" CONNECTION=", quoteText(v))
	}
	if v := o["secondary_engine"]; v != "" {
		s.add(" SECONDARY_ENGINE=", v)
	}
	if err := s.attributes(s.def.Attribute, s.def.SecondaryAttribute, "="); err != nil {
		return err
	}
	dir, err := s.directory()
	if dir != "" {
		s.add(" DATA DIRECTORY='", dir, "'")
	}
	return err
}

// filePerTable is the name that stands for a tablespace of the table's own.
const filePerTable = "innodb_file_per_table"

// space is the tablespace that was given for the table; empty: none was.
func (s *statement) space() string {
	switch {
	case s.def.Options["explicit_tablespace"] != yes:
		return ""
	case s.def.Tablespace != "":
		return s.def.Tablespace
	}
	return s.def.Options["tablespace"]
}

func (s *statement) tablespaceClause() string {
	clause := ""
	if name := s.space(); name != "" {
		clause = " TABLESPACE " + quoteName(name)
	}
	clause += map[string]string{"1": " STORAGE DISK", "2": " STORAGE MEMORY"}[s.def.Options["storage"]]
	if clause == "" {
		return ""
	}
	return " /*!50100" + clause + " */"
}

// nextValue is that of AUTO_INCREMENT; 0: the table has no such column.
func (s *statement) nextValue() uint64 {
	has := false
	for i := range s.def.Columns {
		has = has || s.def.Columns[i].AutoInc
	}
	if !has {
		return 0
	}
	n := s.options.AutoIncrement
	if last, ok := s.def.Private.Number("autoinc"); n == 0 && ok && last < 1<<64-1 {
		n = last + 1
	}
	return n
}

// encryption is shown if the table has it, or the database has it and the table does not.
func (s *statement) encryption() string {
	v := s.def.Options["encrypt_type"]
	encrypted := v != "" && v != "N" && v != "n"
	if encrypted == s.options.SchemaEncrypted && !encrypted {
		return ""
	}
	if v == "" {
		v = "N"
	}
	clause := " ENCRYPTION=" + quoteText(v)
	if s.space() != "" && s.def.Tablespace != "" {
		return " /*!80016" + clause + " */"
	}
	return clause
}

// directory is that of DATA DIRECTORY, of a table that is not partitioned: the file's, without
// the directory of the database.
func (s *statement) directory() (string, error) {
	if s.def.PartitionType != 0 || s.def.Private["data_directory"] != yes || s.options.Space == nil {
		return "", nil
	}
	if len(s.options.Space.Files) != 1 || !strings.HasPrefix(s.options.Space.Files[0].Name, "/") {
		return "", fmt.Errorf("the table has DATA DIRECTORY, and its tablespace %s does not name a file outside of the data directory", s.options.Space.Name)
	}
	dir := path.Dir(path.Dir(s.options.Space.Files[0].Name))
	return strings.TrimSuffix(dir, "/") + "/", nil
}
