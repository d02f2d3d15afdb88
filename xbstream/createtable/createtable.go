// Package createtable writes the CREATE TABLE statement of a table that MySQL 8.0 or later
// describes in the serialized dictionary information, and takes statements apart, of whichever
// server, for tables that are to be imported: FULLTEXT indexes and foreign keys come later.
//
// The statement is what SHOW CREATE TABLE of MySQL 9.7.4 shows in a session with sql_mode=”,
// time_zone='+00:00', sql_quote_show_create=1, show_create_table_verbosity=0,
// show_create_table_skip_secondary_engine=0 and
// show_gipk_in_create_table_and_information_schema=1, also of tables that older servers made.
// Other values of sql_mode change it: ANSI_QUOTES the quotes of names, ANSI leaves options out,
// NO_DIR_IN_CREATE directories, PAD_CHAR_TO_FULL_LENGTH pads defaults. It differs where the
// server's own statement would make another table:
//
//   - Values of ENUM and SET, and expressions, have characters outside of the Basic Multilingual
//     Plane, where the server shows question marks.
//   - Binary values of ENUM that are not text are hexadecimal with two digits a byte; the server
//     leaves out a leading zero.
//
// Constraints stand in the order of their names in small letters; the server's order of letters
// with accents is different.
//
// Source: store_create_info of sql/sql_show.cc, generate_partition_syntax of
// sql/sql_partition.cc and sql/dd_table_share.cc of MySQL 9.7.2; tests compare with 9.7.4.
package createtable

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"hb/xbstream/innodb/sdi"
)

// Session are the statements after which a session of any server takes the statements of this
// package as they are meant: default values that strict modes refuse, times in UTC. A session
// in which sql_generate_invisible_primary_key is on makes another table where there is no
// primary key, which IMPORT TABLESPACE then refuses.
var Session = []string{
	"SET NAMES utf8mb4",
	"SET SESSION sql_mode='ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION', time_zone='+00:00'",
}

// Options are facts of a table that its document does not have.
type Options struct {
	// Space is the document of the table's tablespace, or of its first partition's; nil: the
	// table has no AUTOEXTEND_SIZE and no DATA DIRECTORY.
	Space *sdi.Tablespace
	// AutoIncrement is the next value; 0: that of the document, which servers write only when
	// the table is made or altered. 1 is not shown.
	AutoIncrement uint64
	// SchemaEncrypted says that the database has DEFAULT ENCRYPTION='Y': ENCRYPTION='N' is
	// then shown.
	SchemaEncrypted bool
}

// maxStatement bounds a statement: 8192 partitions with comments of 1 KiB have one of 10 MB.
const maxStatement = 64 << 20

var errLong = errors.New("the statement is longer than 64 MiB")

// FromSDI returns the CREATE TABLE statement of a table, without a semicolon.
func FromSDI(t *sdi.Table, o Options) (string, error) {
	s := &statement{def: t, options: o}
	var err error
	if s.collation, err = collationOf(t.Collation); err == nil {
		err = s.write()
	}
	if err != nil {
		return "", fmt.Errorf("the definition of table %s.%s: %w", t.Schema, t.Name, err)
	}
	return s.out.String(), nil
}

// statement writes one.
type statement struct {
	def       *sdi.Table
	options   Options
	collation collation // of the table
	spaces    *bool     // see partitionSpaces
	out       strings.Builder
}

// add appends texts. The statement's length is checked for each element of it.
func (s *statement) add(texts ...string) {
	for _, t := range texts {
		s.out.WriteString(t)
	}
}

func (s *statement) write() error {
	s.add("CREATE TABLE ", quoteName(s.def.Name), " (\n")
	first := true
	for i := range s.def.Columns {
		c := &s.def.Columns[i]
		if c.Hidden == sdi.HiddenEngine || c.Hidden == sdi.HiddenServer {
			continue
		}
		if !first {
			s.add(",\n")
		}
		first = false
		if err := s.column(c); err != nil {
			return fmt.Errorf("column %s: %w", c.Name, err)
		}
		if s.out.Len() > maxStatement {
			return errLong
		}
	}
	if err := s.indexes(); err != nil {
		return err
	}
	if err := s.foreignKeys(); err != nil {
		return err
	}
	if err := s.checks(); err != nil {
		return err
	}
	s.add("\n)")
	if err := s.tableOptions(); err != nil {
		return err
	}
	if s.def.PartitionType != 0 {
		if err := s.partitions(); err != nil {
			return err
		}
	}
	if s.out.Len() > maxStatement {
		return errLong
	}
	return nil
}

// quoteName returns a name in backquotes.
func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// quoteText returns a text in quotes, as servers escape it. (append_unescaped of sql/table.cc)
func quoteText(text string) string { return "'" + textEscapes.Replace(text) + "'" }

var textEscapes = strings.NewReplacer("\x00", `\0`, "\n", `\n`, "\r", `\r`, `\`, `\\`, "'", "''")

// plainName returns a name as servers write those of partitions: in backquotes only if that
// is needed.
func plainName(name string) string {
	if keywords[strings.ToLower(name)] || needsQuotes(name) {
		return quoteName(name)
	}
	return name
}

// needsQuotes reports whether a name has other characters than Latin letters, digits,
// underscores and, not at its beginning, dollar signs, or only digits. (require_quotes of sql/sql_show.cc)
func needsQuotes(name string) bool {
	digits := true
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= '0' && c <= '9':
			continue
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '$' && i > 0:
			digits = false
		default:
			return true
		}
	}
	return digits
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }
