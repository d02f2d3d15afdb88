package export_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"hb/sink/export"
	"hb/sink/export/committed"
	"hb/source/mysqld/mysqldtest"
	"hb/source/scope"
	"hb/xbstream/innodb/btree"
)

// rollbackKinds are the tables of TestRollback: the rest of CREATE TABLE.
var rollbackKinds = []struct{ name, rest string }{
	{"dynamic", "PRIMARY KEY (a)) ROW_FORMAT=DYNAMIC"}, {"compact", "PRIMARY KEY (a)) ROW_FORMAT=COMPACT"}, {"redundant", "PRIMARY KEY (a)) ROW_FORMAT=REDUNDANT"},
	{"nokey", "KEY a (a)) ROW_FORMAT=DYNAMIC"}, {"composite", "PRIMARY KEY (d, a)) ROW_FORMAT=DYNAMIC"}, {"utf8", "PRIMARY KEY (a)) DEFAULT CHARSET=utf8mb4 ROW_FORMAT=DYNAMIC"},
	{"cold", "PRIMARY KEY (a)) DEFAULT CHARSET=latin1 ROW_FORMAT=DYNAMIC"},
}

// changer makes random changes of a table.
type changer struct {
	*rand.Rand
	table string
	next  int
}

// text is a random string of up to n letters.
func (c *changer) text(n int) string {
	return fmt.Sprintf("CONCAT('%c', REPEAT('%c', %d))", 'a'+rune(c.IntN(26)), 'a'+rune(c.IntN(26)), c.IntN(n))
}

func (c *changer) row(a int) string {
	return fmt.Sprintf("(%d, %s, %s, %d, 'd%d', %s, %s)", a, c.maybe(c.text(150)), c.maybe(c.text([]int{30, 9000, 30000}[c.IntN(3)])), c.unique(), c.IntN(900), c.maybe(fmt.Sprintf("'2020-01-01' + INTERVAL %d DAY", c.IntN(900))), c.maybe(fmt.Sprint(c.IntN(50))))
}

func (c *changer) unique() int { c.next++; return c.next }

func (c *changer) maybe(s string) string {
	if c.IntN(6) == 0 {
		return "NULL"
	}
	return s
}

// change is a statement on rows that one of two transactions has for itself.
func (c *changer) change(half int) string {
	a := 2*c.IntN(150) + half
	set := func(what string) string { return fmt.Sprintf("UPDATE %s SET %s WHERE a = %d", c.table, what, a) }
	switch c.IntN(13) {
	case 0, 1:
		return fmt.Sprintf("INSERT IGNORE INTO %s VALUES %s", c.table, c.row(2*c.IntN(400)+half))
	case 2:
		return fmt.Sprintf("DELETE FROM %s WHERE a = %d", c.table, a)
	case 3:
		return set("b = " + c.maybe(c.text(150)))
	case 4:
		return set("b = IF(b IS NULL, 'x', UPPER(b))")
	case 5:
		return set(fmt.Sprintf("u = %d", c.unique()))
	case 6:
		return set("e = " + c.maybe("'2021-02-03'"))
	case 7:
		return set("c = " + c.maybe(c.text(20000)))
	case 8:
		return set(fmt.Sprintf("a = %d", 2*(400+c.unique())+half))
	case 9:
		return set(fmt.Sprintf("i = %d, d = 'd%d'", c.IntN(50), c.IntN(900)))
	case 10:
		return set("i = i + 1")
	case 11:
		return fmt.Sprintf("UPDATE %s SET i = 7, c = LEFT(c, 100) WHERE a IN (%d, %d, %d)", c.table, a, a+2, a+4)
	}
	return fmt.Sprintf("REPLACE INTO %s VALUES %s", c.table, c.row(a))
}

// TestRollback: what an import gets of a table, in which transactions were open or prepared when
// the backup ended, or whose indexes were in part in the change buffer, is what six servers have
// that start on the same backup: all rows are equal, also by their indexes, and the imported
// tables are sound. What hb leaves to a server, a server finishes. HB_TEST_SEED repeats a round.
func TestRollback(t *testing.T) {
	rounds := 1
	if mysqldtest.Long() {
		rounds = 50
	}
	first := rand.Uint64N(1e9)
	if env := os.Getenv("HB_TEST_SEED"); env != "" {
		rounds = 1
		if _, err := fmt.Sscan(env, &first); err != nil {
			t.Fatal(err)
		}
	}
	o := mysqldtest.Options{Config: append([]string{"transaction-isolation=READ-COMMITTED", "innodb-lock-wait-timeout=1"}, buffering...)}
	mysqldtest.EachServer(t, allServers, o, func(t *testing.T, s *mysqldtest.Server) {
		var sum rollbackSum
		for round := range rounds {
			seed := first + uint64(round)
			if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { rollbackRound(t, s, seed, &sum) }) {
				t.Fatalf("%s: HB_TEST_SEED=%d", s.Root.Name, seed)
			}
		}
		t.Logf("%s: seeds %d to %d: %+v", s.Root.Name, first, first+uint64(rounds)-1, sum)
		if rounds > 1 && (sum.Served == 0 || sum.Alone < rounds && s.Root.Name != mysqldtest.MySQL56 || sum.Rebuilt == 0 && (!s.Root.MariaDB() || !s.Root.AtLeast(11, 0))) {
			t.Errorf("%s: %+v", s.Root.Name, sum)
		}
	})
}

// rollbackSum is what was compared.
type rollbackSum struct {
	Alone   int            // tables that hb rolled back
	Rebuilt int            // tables whose indexes were built again
	Served  int            // tables that a server finished
	Quiet   int            // tables of which nothing was pending
	Why     map[string]int // why hb did not
}

func rollbackRound(t *testing.T, s *mysqldtest.Server, seed uint64, sum *rollbackSum) {
	t.Helper()
	s.Exec(t, "DROP DATABASE IF EXISTS t", "CREATE DATABASE t")
	var names []string
	var changers []*changer
	for i, kind := range rollbackKinds {
		if kind.name == "redundant" && s.Root.Name == mysqldtest.MySQL56 {
			continue // see TestRedundantImport
		}
		c := &changer{rand.New(rand.NewPCG(seed, uint64(i))), "t." + kind.name, 0}
		names, changers = append(names, kind.name), append(changers, c)
		s.Exec(t, fmt.Sprintf("CREATE TABLE %s (a INT NOT NULL, b VARCHAR(150), c LONGBLOB, u INT NOT NULL, d CHAR(6) NOT NULL, e DATETIME, i INT, UNIQUE u (u), KEY b (b), KEY eb (e, b), KEY i (i), KEY c (c(20)), %s", c.table, kind.rest))
	}
	amounts := make([]int, len(changers))
	for i, c := range changers {
		amounts[i] = c.IntN(4)
		fillTable(t, s, c, amounts[i])
	}
	var open []*ending
	for i, c := range changers {
		open = append(open, changeTable(t, s, c, amounts[i])...)
	}
	dir := recoveredOf(t, s, scope.Options{})
	for _, c := range open {
		c.end(t)
	}
	d, tables := openTables(t, dir, names, export.Options{})
	var alone, served []*export.Table
	for _, of := range tables {
		pending, ok := errors.AsType[*committed.PendingError](d.Writable(of))
		if !ok {
			alone = append(alone, of)
			continue
		}
		why := pending.Tables[0].Why
		if why == "" {
			t.Errorf("%v", pending)
		}
		served = append(served, of)
		if sum.Why == nil {
			sum.Why = map[string]int{}
		}
		sum.Why[why]++
	}
	out, from := exportTo(t, d, alone)
	var finished string
	if len(served) > 0 {
		finished = finishOn(t, s.Root, dir, served)
	}
	r := mysqldtest.StartOn(t, s.Root, dir, mysqldtest.Options{})
	rolledBack(t, r)
	r.Exec(t, "CREATE DATABASE u")
	for _, of := range alone {
		w := from[of.Name]
		importFrom(t, r, out, of.Name, w.Rebuild)
		equalTables(t, r, of.Name)
		switch {
		case w.Rebuild:
			sum.Rebuilt++
		case w.RolledBack == nil:
			sum.Quiet++
		}
		if w.RolledBack != nil {
			sum.Alone++
		}
	}
	for _, of := range served {
		importFrom(t, r, finished, of.Name, false)
		equalTables(t, r, of.Name)
		sum.Served++
	}
}

// finishOn lets a server finish what is pending for tables, on a copy of a recovered directory, and
// exports them.
func finishOn(t *testing.T, root *mysqldtest.Root, dir string, tables []*export.Table) string {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "served")
	if err := mysqldtest.CopyTree(copied, dir); err != nil {
		t.Fatal(err)
	}
	server := committed.Server{Program: root.Tool("mysqld").Path, Timeout: 5 * time.Minute}
	for _, l := range root.Lines() {
		server.Options = append(server.Options, "--"+l)
	}
	var names []string
	for _, of := range tables {
		names = append(names, of.Name)
	}
	d, chosen := openTables(t, copied, names, export.Options{})
	if _, err := d.Finish(t.Context(), &server, chosen...); err != nil {
		t.Fatal(err)
	}
	d, chosen = openTables(t, copied, names, export.Options{Served: true})
	out, _ := exportTo(t, d, chosen)
	return out
}

// run executes a statement of a round.
func (c *changer) run(t *testing.T, conn *sql.Conn, q string) {
	t.Helper()
	_, err := conn.ExecContext(t.Context(), q)
	// A statement that waits in vain, or makes a key twice, is rolled back by itself.
	if e, ok := errors.AsType[*mysql.MySQLError](err); err != nil && (!ok || e.Number != 1205 && e.Number != 1062) {
		t.Fatalf("%.300s: %v", q, err)
	}
}

// fillTable fills a table, unless one transaction is to make all of it. That whose indexes are to
// be changed in the change buffer is so large that they do not stay in memory.
func fillTable(t *testing.T, s *mysqldtest.Server, c *changer, amount int) {
	t.Helper()
	conn := s.Conn(t)
	rows := 300
	switch {
	case c.table == "t.cold":
		rows = 256
	case amount == 3:
		return
	}
	var values []string
	for a := range rows {
		values = append(values, c.row(a))
	}
	c.run(t, conn, "INSERT INTO "+c.table+" VALUES "+strings.Join(values, ","))
	if c.table == "t.cold" {
		for ; rows < 8192; rows *= 2 {
			c.run(t, conn, c.more(rows, rows, "TRUE"))
		}
		c.next = 1 << 20
	}
}

// more is a statement that makes a row of each of some, with a key that is larger by n.
func (c *changer) more(n, u int, where string) string {
	return fmt.Sprintf("INSERT INTO %s SELECT a + %d, CONCAT(SHA2(CONCAT(a, %d), 224), REPEAT('b', 80)), LEFT(c, 50), u + %d, d, e, i FROM (SELECT * FROM %s WHERE %s) x", c.table, n, c.Uint32(), u, c.table, where)
}

// ending is a transaction that is to be open, or prepared, when the backup ends.
type ending struct {
	*sql.Conn
	xa string // its name; "": it is not an XA transaction
}

// end rolls back.
func (e *ending) end(t *testing.T) {
	t.Helper()
	q := "ROLLBACK"
	if e.xa != "" {
		q = "XA ROLLBACK " + e.xa
	}
	if _, err := e.ExecContext(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// changeTable changes a table, and again in transactions that stay open: by little, by much, all
// of it, or, with amount 3, from nothing.
func changeTable(t *testing.T, s *mysqldtest.Server, c *changer, amount int) (open []*ending) {
	t.Helper()
	conn, cold := s.Conn(t), c.table == "t.cold"
	if cold {
		c.run(t, conn, c.more(100000, 1<<21, fmt.Sprintf("a %% 13 = %d", c.IntN(13))))
		c.run(t, conn, fmt.Sprintf("DELETE FROM %s WHERE a %% 31 = %d", c.table, c.IntN(31)))
		c.run(t, conn, fmt.Sprintf("UPDATE %s SET b = REVERSE(b), u = u + %d WHERE a %% 29 = %d", c.table, 1<<22, c.IntN(29)))
		if amount == 0 {
			return nil
		}
	}
	if amount < 3 {
		for range 30 {
			c.run(t, conn, c.change(c.IntN(2)))
		}
	}
	for half := range 1 + amount%2 {
		e := &ending{Conn: s.Conn(t)}
		open = append(open, e)
		if c.IntN(4) == 0 {
			e.xa = fmt.Sprintf("'%s','%d'", c.table, half)
			c.run(t, e.Conn, "XA START "+e.xa)
		} else {
			c.run(t, e.Conn, "BEGIN")
		}
		for range []int{5, 60, 200, 0}[amount] {
			c.run(t, e.Conn, c.change(half))
			if c.IntN(20) == 0 && e.xa == "" {
				c.run(t, e.Conn, "SAVEPOINT p")
				c.run(t, e.Conn, c.change(half))
				c.run(t, e.Conn, c.change(half))
				c.run(t, e.Conn, "ROLLBACK TO p")
			}
		}
		if amount == 3 && half == 0 {
			for range 100 {
				c.run(t, e.Conn, fmt.Sprintf("INSERT INTO %s VALUES %s", c.table, c.row(2*c.unique())))
			}
		}
		if e.xa != "" {
			c.run(t, e.Conn, "XA END "+e.xa)
			c.run(t, e.Conn, "XA PREPARE "+e.xa)
		}
	}
	return open
}

// TestRollbackMany: the same of trees of several levels, with columns on other pages, where hb
// must be able to.
func TestRollbackMany(t *testing.T) {
	servers := []string{mysqldtest.MySQL57, mysqldtest.MySQL97, mysqldtest.MariaDB1011}
	if mysqldtest.Long() {
		servers = append(servers, mysqldtest.MariaDB105, mysqldtest.MariaDB118)
	}
	o := mysqldtest.Options{Config: []string{"loose-innodb-change-buffering=none"}}
	mysqldtest.EachServer(t, servers, o, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE t", "CREATE TABLE t.n (n INT PRIMARY KEY)", "INSERT INTO t.n VALUES (1),(2),(3),(4),(5),(6),(7),(8)")
		for range 11 {
			s.Exec(t, "INSERT INTO t.n SELECT n+(SELECT m FROM (SELECT MAX(n) m FROM t.n) x) FROM t.n")
		}
		names := []string{"many", "all", "emptied", "blobs", "part"}
		for _, name := range names {
			part := ""
			if name == "part" && s.Root.MariaDB() {
				continue // which imports no partitions
			} else if name == "part" {
				part = " PARTITION BY HASH (a) PARTITIONS 3"
			}
			s.Exec(t, "CREATE TABLE t."+name+" (a INT PRIMARY KEY, b VARCHAR(100), u INT NOT NULL, c LONGBLOB, KEY b (b), KEY u (u, b), KEY c (c(30))) ROW_FORMAT=DYNAMIC"+part)
		}
		if s.Root.MariaDB() {
			names = names[:4]
		}
		rows := "SELECT n, CONCAT(SHA2(n, 224), n), n, IF(n % 7 = 0, NULL, 'c') FROM t.n"
		for _, name := range slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == "all" || name == "blobs" }) {
			s.Exec(t, "INSERT INTO t."+name+" "+rows)
		}
		// Its rows are so long that most pages have only one. What is deleted now stays, marked,
		// for the first transaction to see.
		s.Exec(t, "CREATE TABLE t.wide (a INT PRIMARY KEY, b VARCHAR(7000), u INT NOT NULL, c LONGBLOB, KEY b (b(30))) CHARSET latin1 ROW_FORMAT=DYNAMIC",
			"INSERT INTO t.wide SELECT n, REPEAT('w', 6000 + n), n, REPEAT(CHAR(97 + n % 26), 20000 + n) FROM t.n WHERE n < 200")
		names = append(names, "wide")
		old := s.Conn(t)
		if _, err := old.ExecContext(t.Context(), "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "INSERT INTO t.blobs SELECT n, SHA2(n, 224), n, REPEAT(CHAR(97 + n % 26), 10000 + n * 10) FROM t.n WHERE n < 600", "DELETE FROM t.many WHERE a % 11 = 0", "UPDATE t.many SET b = 'other' WHERE a % 13 = 0")
		conn := s.Conn(t)
		for _, q := range []string{
			"BEGIN", "INSERT INTO t.many SELECT n + 100000, SHA2(n + 1, 224), n, 'new' FROM t.n", "UPDATE t.many SET b = REVERSE(b), u = u + 1 WHERE a % 3 = 0", "DELETE FROM t.many WHERE a % 5 = 0",
			"UPDATE t.many SET u = u - 1, b = LEFT(b, 20) WHERE a % 4 = 0", "INSERT INTO t.many SELECT n, 'again', n, NULL FROM t.n WHERE n % 50 = 0",
			"INSERT INTO t.all " + rows, "DELETE FROM t.emptied",
			"UPDATE t.wide SET a = a + 1000", "UPDATE t.blobs SET a = a + 5000 WHERE a % 5 = 0", "UPDATE t.blobs SET c = REPEAT('z', 30000) WHERE a % 7 = 0", "DELETE FROM t.blobs WHERE a % 4 = 0", "UPDATE t.blobs SET c = NULL WHERE a % 9 = 0",
		} {
			if _, err := conn.ExecContext(t.Context(), q); err != nil {
				t.Fatalf("%s: %s: %v", s.Root.Name, q, err)
			}
		}
		if slices.Contains(names, "part") {
			if _, err := conn.ExecContext(t.Context(), "DELETE FROM t.part WHERE a % 3 = 0"); err != nil {
				t.Fatal(err)
			}
		}
		dir := recoveredOf(t, s, scope.Options{})
		d, tables := openTables(t, dir, names, export.Options{})
		if err := d.Writable(tables...); err != nil {
			t.Fatal(err)
		}
		for _, of := range tables { // the files in the directory itself stay as they are
			if _, ok := errors.AsType[*committed.PendingError](d.Check(of)); !ok {
				t.Errorf("%s: nothing is pending for %v", s.Root.Name, of)
			}
		}
		out, _ := exportTo(t, d, tables)
		r := mysqldtest.StartOn(t, s.Root, dir, mysqldtest.Options{})
		rolledBack(t, r)
		r.Exec(t, "CREATE DATABASE u")
		for _, name := range names {
			importFrom(t, r, out, name, false)
			equalTables(t, r, name)
			if name == "wide" { // pages that are not in use, and should be, are used now
				r.Exec(t, "INSERT INTO u.wide SELECT a + 20000, 'new', u, REPEAT('Q', 30000) FROM u.wide")
				if want, got := sortedRows(t, r, "t.wide"), sortedRows(t, r, "u.wide WHERE a < 20000"); !slices.Equal(want, got) {
					t.Errorf("%s: rows of wide are other ones after new ones came", s.Root.Name)
				}
			}
			r.Exec(t, "INSERT INTO u."+name+" (a, u) SELECT a + 1000000, u FROM u."+name, "DELETE FROM u."+name+" WHERE a % 2 = 0", "UPDATE u."+name+" SET c = 'x'")
			if check := r.Rows(t, "CHECK TABLE u."+name+" EXTENDED"); check[0][3] != "OK" {
				t.Errorf("%s: %s, changed: %v", s.Root.Name, name, check)
			}
		}
		owned(t, r, out)
		if n := r.Value(t, "SELECT COUNT(*) FROM t.blobs WHERE LENGTH(c) >= 10000"); n != "599" {
			t.Errorf("%s: the whole backup has %s of 599 rows", s.Root.Name, n)
		}
	})
}

// owned makes sure that rows which are not deleted own their columns on other pages, as the
// flag 80 in the reference says: if not, these pages would never be used again.
func owned(t *testing.T, s *mysqldtest.Server, dir string) {
	t.Helper()
	tree := clustered(t, s, "wide")
	tree.Pages = open(t, filepath.Join(dir, "t", "wide.ibd"), nil)
	tree.Format = btree.Format{Compact: true, Key: 1, Fields: []btree.Field{{Fixed: 4}, {Fixed: 6}, {Fixed: 7}, {Long: true, Nullable: true}, {Fixed: 4}, {Long: true, Nullable: true}}}
	columns := 0
	err := tree.Walk(func(r *btree.Record) error {
		if c := r.Fields[5]; !r.Deleted && c.External {
			columns++
			if c.Data[len(c.Data)-btree.RefSize+12]&0x80 != 0 {
				return fmt.Errorf("a row of page %d does not own its column", r.Page)
			}
		}
		return nil
	})
	if err != nil || columns != 199 {
		t.Errorf("%s: %d columns, %v", s.Root.Name, columns, err)
	}
}
