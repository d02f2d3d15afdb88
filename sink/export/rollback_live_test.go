package export_test

import (
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

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

// TestRollback: what hb takes out of tables, of transactions that were open when the backup
// ended, is what six servers roll back that start on the same backup: all rows are equal, also
// by their indexes, and the imported tables are sound. Some tables hb leaves to a server.
func TestRollback(t *testing.T) {
	rounds := 1
	if mysqldtest.Long() {
		rounds = 50
	}
	o := mysqldtest.Options{Config: []string{"loose-innodb-change-buffering=none", "transaction-isolation=READ-COMMITTED", "innodb-lock-wait-timeout=1"}}
	mysqldtest.EachServer(t, allServers, o, func(t *testing.T, s *mysqldtest.Server) {
		for round := range rounds {
			rollbackRound(t, s, uint64(round)+rand.Uint64N(1<<32)<<8)
		}
	})
}

func rollbackRound(t *testing.T, s *mysqldtest.Server, seed uint64) {
	t.Helper()
	t.Logf("%s: seed %d", s.Root.Name, seed)
	s.Exec(t, "DROP DATABASE IF EXISTS t", "CREATE DATABASE t")
	var names []string
	var open []*sql.Conn
	for i, kind := range rollbackKinds {
		for n := range 4 {
			c := &changer{rand.New(rand.NewPCG(seed, uint64(10*i+n))), fmt.Sprintf("t.%s%d", kind.name, n), 0}
			names = append(names, strings.TrimPrefix(c.table, "t."))
			create := fmt.Sprintf("CREATE TABLE %s (a INT NOT NULL, b VARCHAR(150), c LONGBLOB, u INT NOT NULL, d CHAR(6) NOT NULL, e DATETIME, i INT, UNIQUE u (u), KEY b (b), KEY eb (e, b), KEY i (i), KEY c (c(20)), %s", c.table, kind.rest)
			s.Exec(t, create)
			open = append(open, changeTable(t, s, c, n)...)
		}
	}
	dir := recoveredOf(t, s, scope.Options{})
	for _, c := range open {
		if err := c.Close(); err != nil { // the server rolls back
			t.Fatal(err)
		}
	}
	d, tables := openTables(t, dir, names, export.Options{})
	var chosen []*export.Table
	refused := map[string]int{}
	for _, of := range tables {
		pending, ok := errors.AsType[*committed.PendingError](d.Writable(of))
		if !ok {
			chosen = append(chosen, of)
			continue
		}
		if pending.Tables[0].Why == "" {
			t.Errorf("%v", pending)
		}
		refused[pending.Tables[0].Why]++
	}
	out := exportTo(t, d, chosen)
	r := mysqldtest.StartOn(t, s.Root, dir, mysqldtest.Options{})
	rolledBack(t, r)
	r.Exec(t, "CREATE DATABASE u")
	for _, of := range chosen {
		importFrom(t, r, out, of.Name)
		equalTables(t, r, of.Name)
	}
	t.Logf("%s: %d of %d tables; left to a server: %v", s.Root.Name, len(chosen), len(names), refused)
	if s.Root.Name == mysqldtest.MySQL56 {
		if len(chosen) > 0 {
			t.Errorf("%d tables are not left to a server", len(chosen))
		}
	} else if len(chosen) < len(names)/4 {
		t.Errorf("%s: only %d of %d tables: %v", s.Root.Name, len(chosen), len(names), refused)
	}
	if err := r.Kill(); err != nil {
		t.Error(err)
	}
}

// changeTable fills a table, and changes it in transactions that stay open: by little, by
// much, all of it, and, the last one, from nothing.
func changeTable(t *testing.T, s *mysqldtest.Server, c *changer, n int) (open []*sql.Conn) {
	t.Helper()
	run := func(conn *sql.Conn, q string) {
		_, err := conn.ExecContext(t.Context(), q)
		// A statement that waits in vain, or makes a key twice, is rolled back by itself.
		if e, ok := errors.AsType[*mysql.MySQLError](err); err != nil && (!ok || e.Number != 1205 && e.Number != 1062) {
			t.Fatalf("%s: %s: %v", s.Root.Name, q, err)
		}
	}
	conn := s.Conn(t)
	if n < 3 {
		var rows []string
		for a := range 300 {
			rows = append(rows, c.row(a))
		}
		run(conn, "INSERT INTO "+c.table+" VALUES "+strings.Join(rows, ","))
		for range 30 {
			run(conn, c.change(c.IntN(2)))
		}
	}
	for half := range 1 + n%2 {
		conn := s.Conn(t)
		open = append(open, conn)
		run(conn, "BEGIN")
		for range []int{5, 60, 200, 0}[n] {
			run(conn, c.change(half))
			if c.IntN(20) == 0 {
				run(conn, "SAVEPOINT p")
				run(conn, c.change(half))
				run(conn, c.change(half))
				run(conn, "ROLLBACK TO p")
			}
		}
	}
	if n == 3 {
		for range 100 {
			run(open[0], fmt.Sprintf("INSERT INTO %s VALUES %s", c.table, c.row(2*c.unique())))
		}
	}
	return open
}

// TestRollbackMany: the same of trees of several levels, with columns on other pages, where hb
// must be able to.
func TestRollbackMany(t *testing.T) {
	servers := slices.DeleteFunc(slices.Clone(allServers), func(name string) bool { return name == mysqldtest.MySQL56 })
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
		out := exportTo(t, d, tables)
		r := mysqldtest.StartOn(t, s.Root, dir, mysqldtest.Options{})
		rolledBack(t, r)
		r.Exec(t, "CREATE DATABASE u")
		for _, name := range names {
			importFrom(t, r, out, name)
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
