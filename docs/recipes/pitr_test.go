package recipes

import (
	"slices"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

func init() {
	register("pitr-mariadb.md", testPITRMariaDB, mysqldtest.MariaDB1011, mysqldtest.MariaDB118)
	register("pitr-mysql.md", testPITRMySQL, mysqldtest.MySQL57, mysqldtest.MySQL97)
}

func testPITRMariaDB(t *testing.T, r *recipe, root *mysqldtest.Root) {
	a := newAccident(t, root, "binlog.000002")
	r.run(a.sh, "Find the moment")
	r.run(a.sh, "Restore the backup")
	a.ways(r,
		way{section: "Repeat up to there, by file and position", after: true},
		way{section: "Repeat up to there, by time"},
		way{section: "Repeat up to there, by GTID", after: true})
	r.run(a.sh, "Let clients in")
	a.letIn()
}

func testPITRMySQL(t *testing.T, r *recipe, root *mysqldtest.Root) {
	a := newAccident(t, root, "binlog.000003")
	if !a.db.at.HasTool("mysqlbinlog") {
		a.db.program("mysqlbinlog", mysqldtest.Need(t, mysqldtest.MySQL97), "mysqlbinlog")
	}
	r.run(a.sh, "Find the moment")
	r.run(a.sh, "Restore the backup")
	if knows := "What the restored server has, MySQL 5.6 and 5.7"; root.AtLeast(8, 0) {
		r.leave(knows)
	} else {
		r.run(a.sh, knows)
	}
	has := a.db.db().Value(t, "SELECT @@global.gtid_executed")
	if at, err := mysqldtest.RecordedPosition(a.db.path("/var/lib/mysql")); err != nil || has != at.GTID {
		t.Errorf("the restored server has the transactions %s, and the backup's position is %v, %v", has, at, err)
	}
	a.ways(r,
		way{section: "Repeat up to there, by file and position", after: true},
		way{section: "Repeat up to there, by time"},
		way{section: "Repeat all but the mistake, by GTID", whole: true})
	r.run(a.sh, "Let clients in")
	a.letIn()
	if got := a.db.db().Value(t, "SELECT @@global.gtid_executed"); got != a.executed {
		t.Errorf("in the end the server has the transactions %s, want %s", got, a.executed)
	}
}

// accident is a server of which there is a backup, and on which a table was
// dropped by mistake since then.
type accident struct {
	t        *testing.T
	db       *host
	sh       *shell
	before   map[string]string // checksums before the mistake
	after    map[string]string // and what there would be now without it
	executed string            // MySQL: the transactions of the server at last
}

// newAccident has the mistake happen in the binary log file of that name.
func newAccident(t *testing.T, root *mysqldtest.Root, file string) *accident {
	t.Helper()
	db := newHost(t, "db", root)
	a := &accident{t: t, db: db, sh: db.shell()}
	s := db.serve(mysqldtest.Options{Binlog: true, Config: []string{"sync-binlog=0", "innodb-flush-log-at-trx-commit=2"}})
	fill(t, s)
	a.sh.must("hb backup > /var/backups/backup.hb")
	s.Exec(t, "UPDATE shop.orders SET note = CONCAT(note, 'paid') WHERE id % 10 = 0")
	for {
		s.Exec(t, "INSERT INTO shop.orders (note) VALUES (UNHEX('00010D0A270D00'))", "DELETE FROM shop.old_orders WHERE id % 7 = 0")
		at, err := s.BinlogPosition(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if at.File == file {
			break
		}
		s.Exec(t, "FLUSH BINARY LOGS")
	}
	a.before = checksums(t, s)
	time.Sleep(time.Second) // times in binary logs are whole seconds
	a.sh.must("when='" + s.Value(t, "SELECT DATE_FORMAT(NOW(), '%Y-%m-%d %H:%i:%s')") + "'")
	s.Exec(t, "DROP TABLE shop.orders", "CREATE TABLE shop.bills (id INT PRIMARY KEY)", "INSERT INTO shop.bills VALUES (7)",
		"INSERT INTO shop.old_orders VALUES (1000000, 'after the mistake')")
	after, err := workload.Checksums(t.Context(), s.DB())
	if err != nil {
		t.Fatal(err)
	}
	const dropped = "`shop`.`orders`"
	if after[dropped] != "" {
		t.Fatal("the table is still there")
	}
	after[dropped] = a.before[dropped]
	a.after = after
	if !root.MariaDB() {
		a.executed = s.Value(t, "SELECT @@global.gtid_executed")
	}
	return a
}

// way is one of the ways to repeat the binary logs.
type way struct {
	section string
	whole   bool // does what came after the mistake, too, in its first block
	after   bool // has a second block for that
}

// ways repeats the binary logs in several ways, each on the server as it was
// restored.
func (a *accident) ways(r *recipe, ways ...way) {
	a.t.Helper()
	a.sh.must("systemctl stop mysql && cp -a --sparse=always /var/lib/mysql /var/lib/restored && systemctl start mysql")
	for i, w := range ways {
		if i > 0 {
			a.sh.must("systemctl stop mysql && rm -r /var/lib/mysql && cp -a --sparse=always /var/lib/restored /var/lib/mysql && systemctl start mysql")
		}
		blocks := slices.DeleteFunc(r.take(w.section), func(b block) bool { return b.script() == "" })
		first, want := blocks[:1], a.before
		if w.whole {
			first, want = blocks, a.after
		}
		a.repeat(r, first, want)
		if w.after {
			a.repeat(r, blocks[1:], a.after)
		}
	}
}

// repeat does what blocks say, and compares what there is then.
func (a *accident) repeat(r *recipe, blocks []block, want map[string]string) {
	a.t.Helper()
	if _, err := r.do(a.sh, blocks); err != nil {
		a.t.Fatal(err)
	}
	hasTables(a.t, a.db.db(), want)
}

// letIn sees that clients are let in again.
func (a *accident) letIn() {
	a.t.Helper()
	if got := a.db.db().Value(a.t, "SELECT @@skip_networking"); got != "0" {
		a.t.Errorf("skip_networking = %s in the end", got)
	}
}
