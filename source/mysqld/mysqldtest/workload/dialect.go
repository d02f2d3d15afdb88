// Package workload is the live load that hb's tests put on a server while it is
// backed up, and the rules by which a copy of that server is right.
//
// [Prepare] makes the databases: every InnoDB row format, compressed pages of
// several sizes, partitions, off-page columns, FULLTEXT, SPATIAL, foreign keys,
// triggers, virtual columns, a view, a procedure, general tablespaces and tables
// outside the data directory, the engines other than InnoDB, names that need
// encoding. [Load.Run] keeps writers busy with transactions, external XA ones
// among them, and one more connection with DDL, that of tablespaces included. [Check]
// verifies what must hold at every instant at which a backup may cut
// the load, on the source or on any copy. [Checksums] makes two servers comparable.
//
// What must hold, at every cut:
//
//   - The sum of all balances is constant, and each balance agrees with the
//     journal of transfers, which go between tables of different formats.
//   - Triggers have counted the documents of each writer and their bytes; every
//     document's body agrees with its CRC-32; no child row is an orphan.
//   - A big transaction is there whole or not at all.
//   - Each writer's rows in the non-transactional tables are numbered without a
//     gap and end where an InnoDB row says they do, or one further: non-InnoDB
//     files and InnoDB are of the same instant.
//   - The tables of the DDL connection are exactly those of the state that it
//     recorded before its current statement, or of the one after it: names,
//     engine, columns, indexes, partitions, rows, sums.
//   - Each index agrees with its table.
//   - No AUTO_INCREMENT counter gives out a number again, where the server keeps
//     counters: tables whose highest rows are deleted say so.
//   - XA transactions are whole or not there, and prepared exactly where another
//     session noted that they are.
//
// All data is a function of statements that are safe to replicate in row format,
// so a replica that has caught up has equal checksums.
package workload

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
)

// dialect is what the server can do; the only place where servers differ.
type dialect struct {
	mariadb      bool
	major, minor int
	pageSize     int // innodb_page_size in bytes
	engines      map[string]bool

	virtual    bool   // indexed virtual columns
	descending bool   // descending indexes
	spatial    bool   // SPATIAL indexes in InnoDB
	fulltext   bool   // FULLTEXT indexes in InnoDB
	pageComp   string // the clause of a table with compressed pages; "": there is none
	general    bool   // general tablespaces
	undo       bool   // CREATE, ALTER and DROP UNDO TABLESPACE
	xa         bool   // XA transactions outlive their session, or the load makes up for it
	persistent bool   // AUTO_INCREMENT counters outlive a restart
	remote     bool   // the load has tables outside the data directory
	sequence   bool   // CREATE SEQUENCE
	pointType  string // how a POINT column is declared
}

func readDialect(ctx context.Context, db *sql.DB) (*dialect, error) {
	var version string
	d := &dialect{engines: map[string]bool{}}
	if err := db.QueryRowContext(ctx, "SELECT VERSION(), @@innodb_page_size").Scan(&version, &d.pageSize); err != nil {
		return nil, fmt.Errorf("read the server's version: %w", err)
	}
	d.mariadb = strings.Contains(version, "MariaDB")
	parts := strings.SplitN(version, ".", 3)
	if len(parts) < 3 {
		return nil, fmt.Errorf("server version %q is not understood", version)
	}
	d.major, _ = strconv.Atoi(parts[0])
	d.minor, _ = strconv.Atoi(parts[1])
	rows, err := db.QueryContext(ctx, "SELECT engine FROM information_schema.engines WHERE support IN ('YES','DEFAULT')")
	if err != nil {
		return nil, fmt.Errorf("read the server's engines: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var e string
		if err := rows.Scan(&e); err != nil {
			return nil, err
		}
		d.engines[strings.ToUpper(e)] = true
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	d.derive()
	err = db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = ? AND table_name = ?", bankDB, remoteTable).Scan(&d.remote)
	return d, err
}

func (d *dialect) derive() {
	d.virtual = d.mariadb || d.atLeast(5, 7)
	d.descending = d.mariadb && d.atLeast(10, 8) || !d.mariadb && d.atLeast(8, 0)
	d.spatial = d.mariadb || d.atLeast(5, 7)
	d.fulltext = true
	d.sequence = d.mariadb
	d.general = !d.mariadb && d.atLeast(5, 7)
	d.undo = !d.mariadb && d.atLeast(8, 0)
	d.xa = !d.mariadb
	d.persistent = d.mariadb || d.atLeast(8, 0)
	switch {
	case d.mariadb:
		d.pageComp = "PAGE_COMPRESSED=1"
	case d.atLeast(5, 7):
		d.pageComp = "COMPRESSION='zlib'"
	}
	d.pointType = "POINT NOT NULL"
	if !d.mariadb && d.atLeast(8, 0) {
		d.pointType = "POINT NOT NULL SRID 0"
	}
}

func (d *dialect) atLeast(major, minor int) bool {
	return d.major > major || d.major == major && d.minor >= minor
}

// desc returns the keyword for a descending index part, if there is one.
func (d *dialect) desc() string {
	if d.descending {
		return " DESC"
	}
	return ""
}

// format is a way to store an InnoDB table.
type format struct{ name, clause string }

// formats returns the row formats that the server has at its page size.
func (d *dialect) formats() []format {
	f := []format{
		{"redundant", "ROW_FORMAT=REDUNDANT"},
		{"compact", "ROW_FORMAT=COMPACT"},
		{"dynamic", "ROW_FORMAT=DYNAMIC"},
	}
	switch {
	case d.pageSize == 4096:
		f = append(f, format{"zip4", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"}, format{"zip2", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2"})
	case d.pageSize <= 16384: // larger pages have no COMPRESSED
		f = append(f, format{"zip4", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"}, format{"zip8", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"},
			format{"zip2", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2"})
	}
	if d.pageComp != "" {
		f = append(f, format{"pagecomp", "ROW_FORMAT=DYNAMIC " + d.pageComp})
	}
	if d.pageComp != "" && !d.mariadb {
		f = append(f, format{"pagelz4", "ROW_FORMAT=DYNAMIC COMPRESSION='lz4'"})
	}
	return f
}

// logTable is a table of an engine without transactions.
type logTable struct {
	name, engine, clause string
	keyed                bool // has a primary key
	deletes              bool // the engine can delete
}

// logTables returns the non-transactional tables that the server can have.
func (d *dialect) logTables() []logTable {
	t := []logTable{
		{"log_myisam", "MyISAM", "", true, true},
		{"log_myisam_fixed", "MyISAM", "ROW_FORMAT=FIXED", true, true},
	}
	if d.engines["ARIA"] {
		t = append(t,
			logTable{"log_aria", "Aria", "TRANSACTIONAL=1 ROW_FORMAT=PAGE", true, true},
			logTable{"log_aria_plain", "Aria", "TRANSACTIONAL=0 ROW_FORMAT=DYNAMIC", true, true})
	}
	if d.engines["CSV"] {
		t = append(t, logTable{"log_csv", "CSV", "", false, true})
	}
	if d.engines["ARCHIVE"] {
		t = append(t, logTable{"log_archive", "ARCHIVE", "", false, false})
	}
	return t
}
