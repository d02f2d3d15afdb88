package export_test

import (
	"errors"
	"strings"
	"testing"

	"hb/sink/export"
	"hb/source/mysqld/mysqldtest"
	"hb/source/scope"
	"hb/stream/disk"
)

// TestRedundantImport: MySQL 5.6.24 crashes when it imports a table of ROW_FORMAT=REDUNDANT that
// has an index of several pages, so that hb does not export such a table; of other formats, and
// of one page, it does.
func TestRedundantImport(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL56), mysqldtest.Options{Config: []string{"loose-innodb-change-buffering=none"}})
	s.Exec(t, "CREATE DATABASE t", "CREATE TABLE t.n (n INT PRIMARY KEY)", "INSERT INTO t.n VALUES (1),(2),(3),(4),(5),(6),(7),(8)")
	for range 8 {
		s.Exec(t, "INSERT INTO t.n SELECT n+(SELECT m FROM (SELECT MAX(n) m FROM t.n) x) FROM t.n")
	}
	s.Exec(t, "CREATE TABLE t.sound (a INT PRIMARY KEY, b VARCHAR(100), KEY b (b)) ROW_FORMAT=REDUNDANT", "INSERT INTO t.sound SELECT n, 'b' FROM t.n WHERE n < 300")
	names := []string{"dynamic", "compact", "redundant"}
	for _, name := range names {
		s.Exec(t, "CREATE TABLE t."+name+" (a INT PRIMARY KEY, b VARCHAR(100), c LONGBLOB, KEY b (b)) ROW_FORMAT="+name, "INSERT INTO t."+name+" SELECT n, REPEAT('b', n % 90), REPEAT('c', 1000) FROM t.n")
	}
	old := s.Conn(t)
	if _, err := old.ExecContext(t.Context(), "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		t.Fatal(err)
	}
	if _, err := old.ExecContext(t.Context(), "SELECT COUNT(*) FROM t.n"); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		s.Exec(t, "DELETE FROM t."+name+" WHERE a = 1")
	}
	dir := recoveredOf(t, s, scope.Options{})
	names = []string{"dynamic", "compact", "sound", "redundant"}
	d, tables := openTables(t, dir, names, export.Options{})
	to, err := disk.OS.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Write(t.Context(), tables[3], to)
	if refused, ok := errors.AsType[*export.RefusedError](errors.Join(err, to.Close())); !ok || !strings.Contains(refused.What, "crashes when it imports") {
		t.Errorf("%v", err)
	}
	out, _ := exportTo(t, d, tables[:3])
	r := mysqldtest.StartOn(t, s.Root, dir, mysqldtest.Options{})
	r.Exec(t, "CREATE DATABASE u")
	for _, name := range names[:3] {
		importFrom(t, r, out, name, false)
		equalTables(t, r, name)
	}
}
