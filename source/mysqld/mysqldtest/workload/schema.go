package workload

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
)

// The databases of the load. Two names need encoding in the file system.
const (
	bankDB  = "hb_bank"
	docsDB  = "hb_docs"
	miscDB  = "hb_misc"
	oddDB   = "döt-db"
	emptyDB = "hb_empty"
)

var ddlDBs = []string{"hb_ddl1", "hb_ddl2", "hb ddl-3"}

func databases() []string {
	return append([]string{bankDB, docsDB, miscDB, oddDB, emptyDB}, ddlDBs...)
}

const (
	// opening is each account's balance at the start.
	opening = 1000
	// partRows is the number of rows in each partitioned table, and of their sums.
	partRows = 400
	// numbers is how many rows the table of numbers has; no statement inserts more.
	numbers = 1000
)

// Options bound a load. Zero values mean the defaults.
type Options struct {
	Writers  int     // connections that write; 4
	Accounts int     // rows in each table of accounts; 200
	Rate     float64 // transactions a second for each writer; 50
	DDLRate  float64 // DDL statements a second; 5. Negative: no DDL
	MaxBlob  int     // bytes of the largest document; 100000
	Seed     uint64  // of the random choices

	// DataDirectory is a directory of the server's machine for tables outside the
	// data directory, from MySQL 5.6 on and MariaDB; empty: there are none. From
	// MySQL 8.0 on it must be one of innodb_directories.
	DataDirectory string

	// DDLInnoDBOnly keeps the DDL to tables of InnoDB: backup tools that copy
	// other engines' files without care for DDL lose them.
	DDLInnoDBOnly bool
}

func (o *Options) defaults() {
	if o.Writers == 0 {
		o.Writers = 4
	}
	if o.Accounts == 0 {
		o.Accounts = 200
	}
	if o.Rate == 0 {
		o.Rate = 50
	}
	if o.DDLRate == 0 {
		o.DDLRate = 5
	}
	if o.MaxBlob == 0 {
		o.MaxBlob = 100000
	}
}

// InstallEngines loads the engines that the load uses where the server has them
// as plugins. [Prepare] does it; a replica that starts empty needs it too, as
// this does not replicate.
func InstallEngines(ctx context.Context, db *sql.DB) error {
	d, err := readDialect(ctx, db)
	if err != nil {
		return err
	}
	if !d.mariadb || d.engines["ARCHIVE"] {
		return nil
	}
	// A server without the plugin's file has no ARCHIVE: the load does without.
	if _, err := db.ExecContext(ctx, "INSTALL SONAME 'ha_archive'"); err != nil && !hasNumber(err, 1126) {
		return fmt.Errorf("install the ARCHIVE engine: %w", err)
	}
	return nil
}

// account is a table of accounts.
type account struct{ name, clause string } // name is quoted

func (d *dialect) accounts() []account {
	var a []account
	for _, f := range d.formats() {
		a = append(a, account{quote(bankDB, "acct_"+f.name), f.clause})
	}
	if d.general {
		a = append(a, account{quote(bankDB, "acct_general"), "TABLESPACE=" + generalSpaces[0]})
	}
	if d.remote {
		a = append(a, account{quote(bankDB, remoteTable), ""})
	}
	if d.remote && d.general {
		a = append(a, account{quote(bankDB, "acct_far"), "TABLESPACE=" + farSpace})
	}
	return append(a, account{quote(oddDB, "t#1"), "ROW_FORMAT=DYNAMIC"}, account{quote(oddDB, "a/b. ü`c"), "ROW_FORMAT=COMPACT"})
}

// Tables and tablespaces outside the data directory.
const (
	remoteTable = "acct_remote"
	farSpace    = "hb_far"
)

// generalSpaces are the general tablespaces of the load.
var generalSpaces = []string{"hb_general", "hb_general2"}

// spaces returns the statements that make the general tablespaces.
func (d *dialect) spaces(dir string) (q []string) {
	if !d.general {
		return nil
	}
	for _, s := range generalSpaces {
		q = append(q, "CREATE TABLESPACE "+s+" ADD DATAFILE '"+s+".ibd' ENGINE=InnoDB")
	}
	if d.remote {
		q = append(q, "CREATE TABLESPACE "+farSpace+" ADD DATAFILE '"+filepath.Join(dir, farSpace+".ibd")+"' ENGINE=InnoDB")
	}
	return q
}

// docTables returns the quoted names of the tables of documents; the first one
// is referenced by doc_tags and has a FULLTEXT index.
func (d *dialect) docTables() []account {
	a := []account{{quote(docsDB, "docs_dynamic"), "ROW_FORMAT=DYNAMIC"}, {quote(docsDB, "docs_redundant"), "ROW_FORMAT=REDUNDANT"}}
	for _, f := range d.formats() {
		if f.name == "zip8" || f.name == "zip2" || f.name == "pagecomp" {
			a = append(a, account{quote(docsDB, "docs_"+f.name), f.clause})
		}
	}
	return a
}

func partTables() []string {
	return []string{quote(miscDB, "parts_range"), quote(miscDB, "parts_hash"), quote(miscDB, "parts_key")}
}

// quote quotes the names of a database and a table.
func quote(db, table string) string {
	return quoteName(db) + "." + quoteName(table)
}

func quoteName(n string) string { return "`" + strings.ReplaceAll(n, "`", "``") + "`" }

// Prepare makes the databases and their first rows on a server that does not
// have them, and returns a load that can run on it.
func Prepare(ctx context.Context, db *sql.DB, o Options) (*Load, error) {
	o.defaults()
	if err := InstallEngines(ctx, db); err != nil {
		return nil, err
	}
	d, err := readDialect(ctx, db)
	if err != nil {
		return nil, err
	}
	var q []string
	for _, n := range databases() {
		q = append(q, "CREATE DATABASE "+quoteName(n)+" DEFAULT CHARACTER SET utf8mb4")
	}
	d.remote = o.DataDirectory != ""
	q = append(q, d.spaces(o.DataDirectory)...)
	q = append(q, numberTable()...)
	q = append(q, d.bankSchema(o.Accounts, o.DataDirectory)...)
	q = append(q, d.docsSchema(o.Writers)...)
	q = append(q, d.miscSchema(o.Writers)...)
	q = append(q, d.counterSchema(o.Writers)...)
	q = append(q, d.xaSchema(o.Writers)...)
	for _, s := range q {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return nil, fmt.Errorf("prepare the load: %s: %w", s, err)
		}
	}
	return newLoad(db, d, o), nil
}

func numberTable() []string {
	n := quote(miscDB, "numbers")
	digit := "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)"
	return []string{
		"CREATE TABLE " + n + " (n INT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
		"INSERT INTO " + n + " SELECT a.d*100+b.d*10+c.d+1 FROM " + digit + " a, " + digit + " b, " + digit + " c",
	}
}

func (d *dialect) bankSchema(rows int, remote string) []string {
	var q, view []string
	for i, a := range d.accounts() {
		virtual := ""
		if strings.HasSuffix(a.name, quoteName(remoteTable)) {
			a.clause = "DATA DIRECTORY='" + remote + "'"
		}
		if d.virtual && strings.Contains(a.clause, "DYNAMIC") {
			// Without an index: MariaDB's recovery leaves delete-marked records
			// behind in indexes on virtual columns whose base column changes
			// (10.11.18, 11.8.6), of which CHECK TABLE warns.
			virtual = ", bucket INT AS (balance % 97) VIRTUAL"
		}
		q = append(q,
			"CREATE TABLE "+a.name+" (id INT NOT NULL PRIMARY KEY, code VARCHAR(40) NOT NULL, balance BIGINT NOT NULL,"+
				" note VARCHAR(200) CHARACTER SET ascii NOT NULL DEFAULT '', extra MEDIUMTEXT CHARACTER SET latin1,"+
				" UNIQUE KEY code (code), KEY balance (balance"+d.desc()+"), KEY note (note(50), id)"+virtual+
				") ENGINE=InnoDB "+a.clause,
			fmt.Sprintf("INSERT INTO %s (id, code, balance, note, extra) SELECT n, CONCAT('c', n), %d, 'opened', REPEAT('x', n) FROM %s WHERE n <= %d",
				a.name, opening, quote(miscDB, "numbers"), rows))
		view = append(view, fmt.Sprintf("SELECT %d AS tab, COUNT(*) AS n, SUM(balance) AS total FROM %s", i, a.name))
	}
	j := quote(bankDB, "journal")
	first := d.accounts()[0].name
	return append(q,
		"CREATE TABLE "+j+" (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL, seq BIGINT NOT NULL,"+
			" ftab INT NOT NULL, fid INT NOT NULL, ttab INT NOT NULL, tid INT NOT NULL, amount BIGINT NOT NULL,"+
			" UNIQUE KEY one (writer, seq), KEY f (ftab, fid), KEY t (ttab, tid)) ENGINE=InnoDB",
		"CREATE VIEW "+quote(bankDB, "totals")+" AS "+strings.Join(view, " UNION ALL "),
		"CREATE PROCEDURE "+quote(bankDB, "move")+" (w INT, s BIGINT, a INT, b INT, amt BIGINT) BEGIN"+
			" UPDATE "+first+" SET balance = balance - amt WHERE id = a;"+
			" UPDATE "+first+" SET balance = balance + amt WHERE id = b;"+
			" INSERT INTO "+j+" (writer, seq, ftab, fid, ttab, tid, amount) VALUES (w, s, 0, a, 0, b, amt); END")
}

func (d *dialect) docsSchema(writers int) []string {
	audit := quote(docsDB, "audit")
	q := []string{"CREATE TABLE " + audit + " (tab INT NOT NULL, writer INT NOT NULL, inserted BIGINT NOT NULL, deleted BIGINT NOT NULL," +
		" bytes BIGINT NOT NULL, PRIMARY KEY (tab, writer)) ENGINE=InnoDB"}
	for i, t := range d.docTables() {
		full := ""
		if i == 0 && d.fulltext {
			full = ", FULLTEXT KEY ft (title, txt)"
		} else if d.virtual {
			full = ", twice INT AS (writer * 2) VIRTUAL, KEY twice (twice, len)"
		}
		q = append(q, "CREATE TABLE "+t.name+" (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL, title VARCHAR(60) NOT NULL,"+
			" txt TEXT NOT NULL, body LONGBLOB NOT NULL, len INT NOT NULL, h INT UNSIGNED NOT NULL,"+
			" KEY w (writer, len), KEY title (title)"+full+") ENGINE=InnoDB "+t.clause)
		q = append(q, fmt.Sprintf("INSERT INTO %s SELECT %d, n, 0, 0, 0 FROM %s WHERE n <= %d", audit, i, quote(miscDB, "numbers"), writers))
		for _, tr := range []struct{ event, set, row string }{
			{"INSERT", "inserted = inserted + 1, bytes = bytes + LENGTH(NEW.body)", "NEW"},
			{"UPDATE", "bytes = bytes + LENGTH(NEW.body) - LENGTH(OLD.body)", "NEW"},
			{"DELETE", "deleted = deleted + 1, bytes = bytes - LENGTH(OLD.body)", "OLD"},
		} {
			q = append(q, fmt.Sprintf("CREATE TRIGGER %s AFTER %s ON %s FOR EACH ROW UPDATE %s SET %s WHERE tab = %d AND writer = %s.writer",
				quote(docsDB, fmt.Sprintf("tr_%d_%s", i, tr.event)), tr.event, t.name, audit, tr.set, i, tr.row))
		}
	}
	return append(q, "CREATE TABLE "+quote(docsDB, "tags")+" (doc BIGINT NOT NULL, tag INT NOT NULL, PRIMARY KEY (doc, tag), KEY tag (tag),"+
		" FOREIGN KEY (doc) REFERENCES "+d.docTables()[0].name+" (id) ON DELETE CASCADE) ENGINE=InnoDB")
}

func (d *dialect) miscSchema(writers int) []string {
	cols := " (id INT NOT NULL, d INT NOT NULL, v BIGINT NOT NULL, pad VARCHAR(300) NOT NULL, PRIMARY KEY (id, d), KEY v (v)) ENGINE=InnoDB "
	bounds := "(PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN (200), PARTITION p2 VALUES LESS THAN (300), PARTITION px VALUES LESS THAN MAXVALUE)"
	nums := quote(miscDB, "numbers")
	var q []string
	for i, how := range []string{"RANGE (d) " + bounds, "HASH (d) PARTITIONS 4", "KEY (id, d) PARTITIONS 3"} {
		t := partTables()[i]
		q = append(q, "CREATE TABLE "+t+cols+"PARTITION BY "+how,
			fmt.Sprintf("INSERT INTO %s SELECT n, n, %d, REPEAT('p', n %% 300) FROM %s WHERE n <= %d", t, opening, nums, partRows))
	}
	q = append(q, "CREATE TABLE "+quote(miscDB, "bulk")+" (writer INT NOT NULL, batch INT NOT NULL, i INT NOT NULL, n INT NOT NULL,"+
		" pad VARCHAR(500) CHARACTER SET latin1 NOT NULL, PRIMARY KEY (writer, batch, i), KEY pad (pad(30), batch)) ENGINE=InnoDB",
		"CREATE TABLE "+quote(miscDB, "geo")+" (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, writer INT NOT NULL, x INT NOT NULL, y INT NOT NULL,"+
			" g "+d.pointType+", KEY w (writer), SPATIAL INDEX g (g)) ENGINE="+d.geoEngine(),
		"CREATE TABLE "+quote(miscDB, "marks")+" (writer INT NOT NULL PRIMARY KEY, n BIGINT NOT NULL) ENGINE=InnoDB",
		fmt.Sprintf("INSERT INTO %s SELECT n, 0 FROM %s WHERE n <= %d", quote(miscDB, "marks"), nums, writers))
	for _, l := range d.logTables() {
		payload, keys := "VARCHAR(400)", ""
		if l.clause == "ROW_FORMAT=FIXED" {
			payload = "CHAR(200)"
		}
		if l.keyed {
			keys = ", PRIMARY KEY (writer, n), KEY h (h)"
		}
		if l.name == "log_myisam" {
			keys += ", FULLTEXT KEY ft (payload)"
		}
		q = append(q, "CREATE TABLE "+quote(miscDB, l.name)+" (writer INT NOT NULL, n BIGINT NOT NULL, payload "+payload+
			" CHARACTER SET latin1 NOT NULL, h INT UNSIGNED NOT NULL"+keys+") ENGINE="+l.engine+" "+l.clause)
	}
	if d.engines["MRG_MYISAM"] {
		m := " (writer INT NOT NULL, n BIGINT NOT NULL, KEY w (writer, n)) ENGINE="
		one, two := quote(miscDB, "merge_one"), quote(miscDB, "merge_two")
		q = append(q, "CREATE TABLE "+one+m+"MyISAM", "CREATE TABLE "+two+m+"MyISAM",
			"CREATE TABLE "+quote(miscDB, "merge_all")+m+"MERGE UNION=("+one+","+two+") INSERT_METHOD=LAST",
			"INSERT INTO "+one+" VALUES (0, 1), (0, 2)")
	}
	if d.sequence {
		q = append(q, "CREATE SEQUENCE "+quote(miscDB, "seq")+" CACHE 20",
			"CREATE TABLE "+quote(miscDB, "seq_used")+" (n BIGINT NOT NULL PRIMARY KEY, writer INT NOT NULL) ENGINE=InnoDB")
	}
	return append(q, "CREATE TABLE "+ddlState+" (id INT NOT NULL PRIMARY KEY, before_state MEDIUMTEXT NOT NULL, after_state MEDIUMTEXT NOT NULL) ENGINE=InnoDB",
		"INSERT INTO "+ddlState+" VALUES (1, '{}', '{}')")
}

// geoEngine is the engine of the table with a SPATIAL index.
func (d *dialect) geoEngine() string {
	if d.spatial {
		return "InnoDB"
	}
	return "MyISAM"
}
