package testd

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
)

// shopObjects are a database with objects of all kinds.
var shopObjects = []string{
	"CREATE DATABASE shop CHARACTER SET utf8mb4", "CREATE TABLE shop.orders (id INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(50), c TEXT, KEY (b), FULLTEXT KEY words (c)) ENGINE=InnoDB CHARSET=latin1 COLLATE=latin1_german2_ci",
	"INSERT INTO shop.orders (b,c) VALUES ('x','some text'),('y','more text')", "CREATE TABLE shop.lines (id INT PRIMARY KEY, o INT, CONSTRAINT o FOREIGN KEY (o) REFERENCES shop.orders (id)) ENGINE=InnoDB",
	"INSERT INTO shop.lines VALUES (1,1),(2,2)", "CREATE TABLE shop.plain (a INT PRIMARY KEY, t TEXT, FULLTEXT KEY words (t)) ENGINE=MyISAM", "INSERT INTO shop.plain VALUES (1,'green text'),(2,'blue text')",
	"CREATE VIEW shop.a AS SELECT 1 AS x", "CREATE VIEW shop.v AS SELECT id FROM shop.orders", "CREATE VIEW shop.b AS SELECT v.id FROM shop.v JOIN shop.a",
	"CREATE TRIGGER shop.tr BEFORE INSERT ON shop.plain FOR EACH ROW SET NEW.a=NEW.a+10", "CREATE FUNCTION shop.five () RETURNS INT DETERMINISTIC RETURN 5",
	"CREATE PROCEDURE shop.p () BEGIN SELECT 'ü$$;' AS u; SELECT 2; END", "CREATE EVENT shop.e ON SCHEDULE EVERY 1 YEAR DISABLE DO SET @x=1",
}

// TestExtractInto: a table that was dropped, the same beside today's and in its place, from a
// backup in one command; and a database on another server by its script.
func TestExtractInto(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, shopObjects...)
		x := &tablesOf{T: t, dir: t.TempDir()}
		x.backup(s, "full")
		rows := func(s *mysqldtest.Server, name string) [][]string {
			return s.Rows(t, "SELECT * FROM shop."+name+" ORDER BY 1")
		}
		orders, lines := rows(s, "orders"), rows(s, "lines")
		into := func(code int, args ...string) string {
			t.Helper()
			x.count++
			r := hbtest.Finish(t, hb(t, slices.Concat([]string{"extract", "--no-defaults", "--into", "-u", "root", "-S", s.Socket, "-C", x.in(strings.Repeat("d", x.count))}, args, []string{x.in("full")})...))
			if r.Code != code {
				t.Errorf("%s: %q: exit code %d, not %d: %s", root.Name, args, r.Code, code, r.Stderr)
			}
			return r.Stderr
		}
		same := func(what string, got, want [][]string) {
			t.Helper()
			if !slices.EqualFunc(got, want, slices.Equal) {
				t.Errorf("%s: %s: %q, not %q", root.Name, what, got, want)
			}
		}
		s.Exec(t, "DROP TABLE shop.lines", "DELETE FROM shop.orders WHERE id=1")
		if said := into(0, "--table", "shop.lines"); !strings.Contains(said, "without a foreign key") {
			t.Errorf("%s: an order of lines is not there any more: %s", root.Name, said)
		}
		same("dropped", rows(s, "lines"), lines)
		into(8, "--table", "shop.orders")
		same("untouched", rows(s, "orders"), orders[1:])
		into(0, "--table", "shop.orders", "--as", "shop.orders_restored")
		same("beside", rows(s, "orders_restored"), orders)
		into(0, "--table", "shop.orders", "--replace")
		same("replaced", rows(s, "orders"), orders)
		same("words", s.Rows(t, "SELECT id FROM shop.orders WHERE MATCH(c) AGAINST ('more')"), [][]string{{"2"}})
		plain := rows(s, "plain")
		into(0, "--table", "shop.plain", "--as", "shop.plain_restored")
		same("another engine", rows(s, "plain_restored"), plain)
		same("its words", s.Rows(t, "SELECT a FROM shop.plain_restored WHERE MATCH(t) AGAINST ('blue' IN BOOLEAN MODE)"), [][]string{{"2"}})
		s.Exec(t, "DROP TABLE shop.lines")
		into(0, "--table", "shop.lines")
		if keys := s.Rows(t, "SELECT CONSTRAINT_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA='shop'"); len(keys) != 1 {
			t.Errorf("%s: foreign keys %q", root.Name, keys)
		}
		into(2, "--table", "shop.orders", "--database", "shop", "--as", "a.b")
		into(2, "--table", "shop.orders", "--as", "b")
		x.toAnother(s, root)
	})
}

// toAnother brings the database to another server, by the script.
func (x *tablesOf) toAnother(s *mysqldtest.Server, root *mysqldtest.Root) {
	x.Helper()
	dir := x.in("database")
	hbtest.Succeed(x.T, hb(x.T, "extract", "--database", "shop", "-C", dir, x.in("full")))
	other := mysqldtest.Start(x.T, root, mysqldtest.Options{})
	args := []string{"--socket=" + other.Socket, "--user=root"}
	if root.MariaDB() {
		args = append(args, "--skip-ssl")
	} else if root.AtLeast(8, 0) {
		args = append(args, "--loose-commands", "--loose-system-command")
	}
	c := root.Tool("mysql", args...)
	script, err := os.Open(filepath.Join(dir, "import.sql"))
	if err != nil {
		x.Fatal(err)
	}
	defer script.Close() // only read
	c.Dir, c.Stdin, c.Env = dir, script, append(os.Environ(), "DATADIR="+other.Datadir)
	if out, err := c.CombinedOutput(); err != nil {
		x.Fatalf("%s: %v\n%s", root.Name, err, out)
	}
	for _, q := range []string{
		"SELECT TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA='shop' AND TABLE_NAME NOT LIKE '%restored' ORDER BY 1", "SELECT * FROM shop.orders", "SELECT * FROM shop.lines", "SELECT * FROM shop.plain", "SELECT * FROM shop.b", "SELECT shop.five()",
		"SHOW CREATE TABLE shop.lines", "SHOW CREATE TABLE shop.plain", "SHOW CREATE VIEW shop.b", "SELECT ROUTINE_NAME, ROUTINE_DEFINITION, SQL_MODE, DEFINER FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA='shop' ORDER BY 1",
		"SELECT EVENT_NAME, STATUS, EVENT_DEFINITION, SQL_MODE FROM information_schema.EVENTS WHERE EVENT_SCHEMA='shop'", "SELECT TRIGGER_NAME, ACTION_STATEMENT, SQL_MODE FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA='shop'",
		"SELECT DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME='shop'",
	} {
		// Of a view the server also shows the character set of the connection.
		cut := func(rows [][]string) [][]string {
			for i := range rows {
				rows[i] = rows[i][:min(len(rows[i]), 4)]
				if strings.HasPrefix(q, "SHOW CREATE VIEW") {
					rows[i] = rows[i][:2]
				}
			}
			return rows
		}
		want, got := cut(s.Rows(x.T, q)), cut(other.Rows(x.T, q))
		if len(want) == 0 || !slices.EqualFunc(want, got, slices.Equal) {
			x.Errorf("%s: %s:\n%q, not\n%q", root.Name, q, got, want)
		}
	}
}
