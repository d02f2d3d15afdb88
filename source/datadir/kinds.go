package datadir

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"hb/source/mysqld/contents"
)

// otherSuffixes are the files beside InnoDB's that belong to a database:
// table definitions (.frm, and .sdi since MySQL 8.0), options, triggers,
// partitions, and the data of MyISAM, Aria, MERGE, ARCHIVE and CSV tables.
var otherSuffixes = map[string]bool{
	".frm": true, ".sdi": true, ".opt": true, ".par": true, ".TRG": true, ".TRN": true,
	".MYD": true, ".MYI": true, ".MAD": true, ".MAI": true, ".MRG": true,
	".ARM": true, ".ARZ": true, ".CSM": true, ".CSV": true,
}

var (
	// undoName are the undo tablespaces that the server gives names to, which
	// truncates them as they are, and newUndoName are those of MySQL 8.0 and
	// later, which makes new ones instead.
	undoName    = regexp.MustCompile(`^undo[0-9]{3}$`)
	newUndoName = regexp.MustCompile(`^undo_[0-9]{3}$`)
	ariaLogName = regexp.MustCompile(`^aria_log\.[0-9]{8}$`)
)

// TruncatedInPlace reports whether a file is, by its name, an undo tablespace that
// the server truncates as it is.
func TruncatedInPlace(name string) bool { return undoName.MatchString(name) }

// IsAriaLog reports whether a file is, by its name, one of the Aria log's.
func IsAriaLog(name string) bool { return ariaLogName.MatchString(name) }

// temporaryTable starts the names of tables that a server makes for itself
// during DDL, and drops after a crash.
const temporaryTable = "#sql"

// IsTemporaryTable reports whether that is the name of such a table's file.
func IsTemporaryTable(base string) bool { return strings.HasPrefix(base, temporaryTable) }

// LogTables are the log tables in the database mysql, which the server writes
// whenever it logs a statement.
var LogTables = []string{"general_log", "slow_log"}

// isLogFile reports whether a file belongs to a log table.
func isLogFile(name string) bool {
	base, ok := strings.CutPrefix(name, "mysql/")
	table, _, _ := strings.Cut(base, ".")
	if strings.HasSuffix(base, ".sdi") { // general_log_224.sdi
		table = table[:max(0, strings.LastIndexByte(table, '_'))]
	}
	return ok && slices.Contains(LogTables, table) && otherSuffixes[filepath.Ext(base)]
}

// IsLogData reports whether a file holds, or describes, rows of a log table in one
// of the engines that write them without a lock.
func IsLogData(name string) bool {
	return isLogFile(name) && slices.Contains([]string{".CSV", ".CSM", ".MYD", ".MYI"}, filepath.Ext(name))
}

// lateDatabase is the database whose files of other engines are final only after
// MariaDB has blocked commits: until then it writes log and statistics tables, and from
// 11.8 on it closes only then those that are in use (sql/backup.cc, FLUSH_SYS_TABLES).
const lateDatabase = "mysql"

// IsLateFile reports whether a file is one of lateDatabase, and not InnoDB's.
func IsLateFile(name string) bool {
	return strings.HasPrefix(name, lateDatabase+"/") && AnyFile(name)
}

// IsTemporary reports whether a tablespace is one that the server drops at its
// next start: a temporary table of 5.6, a table of an ALTER that was cut short.
func IsTemporary(s contents.Tablespace) bool {
	return IsTemporaryTable(filepath.Base(s.Path))
}

// AnyFile matches the names of Listing.Others.
func AnyFile(name string) bool { return otherSuffixes[filepath.Ext(name)] }

// IsNoLog matches the names of Listing.Others that IsLogData does not match.
func IsNoLog(name string) bool { return AnyFile(name) && !IsLogData(name) }

// IsPlainFile reports whether a file has the rows of a non-transactional table
// that a lock on tables keeps still: in any database, as plugins and upgrades leave
// some in mysql, but not of a log table.
func IsPlainFile(name string) bool {
	return plainEngines[filepath.Ext(name)] != "" && !isLogFile(name)
}
