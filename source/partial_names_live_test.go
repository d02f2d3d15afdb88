package source_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/scope"
	"hb/xbstream/metadata"
)

// backupTables makes a partial backup, restores it, and starts a server on it. The server that
// was backed up is stopped before, and its directories elsewhere are removed.
func backupTables(t *testing.T, s *mysqldtest.Server, o scope.Options, elsewhere ...string) *mysqldtest.Server {
	t.Helper()
	archive, target := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "restored")
	if _, err := backupSome(t, s, archive, source.Options{Scope: o}, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, dir := range elsewhere {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	restoreSome(t, s.Root, archive, target)
	return mysqldtest.StartOn(t, s.Root, target, mysqldtest.Options{})
}

// TestPartialVector: the vector index of a table, which MariaDB has in a table of its own,
// goes with the table.
func TestPartialVector(t *testing.T) {
	t.Parallel()
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MariaDB118), mysqldtest.Options{})
	numbers(t, s)
	const near = " ORDER BY VEC_DISTANCE_EUCLIDEAN(v, VEC_FromText('[5,5,5]')) LIMIT 3"
	engines := map[string]string{"vec": "InnoDB", "vec_my": "MyISAM", "left_vec": "InnoDB"}
	for table, engine := range engines {
		s.Exec(t, "CREATE TABLE d."+table+" (id INT PRIMARY KEY, v VECTOR(3) NOT NULL, VECTOR INDEX (v)) ENGINE="+engine,
			"INSERT INTO d."+table+" SELECT s, VEC_FromText(CONCAT('[', s, ',5,5]')) FROM d.seq WHERE s < 300")
	}
	if found, err := filepath.Glob(filepath.Join(s.Datadir, "d", "vec#i#*.ibd")); err != nil || len(found) != 1 {
		t.Fatalf("the vector index is in %q, %v", found, err)
	}
	r := backupTables(t, s, scope.Options{Databases: []string{"d.vec d.vec_my"}})
	for table := range engines {
		if strings.HasPrefix(table, "left") {
			continue
		}
		if got := r.Rows(t, "EXPLAIN SELECT id FROM d."+table+near); got[0][5] != "v" {
			t.Errorf("%s is searched without its index: %q", table, got)
		}
		if got := r.Rows(t, "SELECT id FROM d."+table+near); len(got) != 3 || got[0][0] != "5" {
			t.Errorf("%s: near are %q", table, got)
		}
		r.Exec(t, "INSERT INTO d."+table+" VALUES (1000, VEC_FromText('[1000,5,5]'))", "DELETE FROM d."+table+" WHERE id = 5")
		if got := r.Rows(t, "CHECK TABLE d."+table+" EXTENDED"); got[len(got)-1][3] != "OK" {
			t.Errorf("%v", got)
		}
	}
	gone(t, r, "d.left_vec")
	r.Exec(t, "CREATE TABLE d.left_vec (id INT PRIMARY KEY, v VECTOR(3) NOT NULL, VECTOR INDEX (v)) ENGINE=InnoDB")
}

// TestPartialLongNames: the .sdi file of a table of another engine, which has a part of the
// table's name only, goes with the table.
func TestPartialLongNames(t *testing.T) {
	t.Parallel()
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.left_out (id INT PRIMARY KEY)")
	for _, table := range []string{"a_table_with_a_long_name", "a_table_with_a_left_name", "`ä täble with a long name`", "sixteen_letters_", "sixteen_letters_and"} {
		s.Exec(t, "CREATE TABLE d."+table+" (id INT) ENGINE=MyISAM", "INSERT INTO d."+table+" VALUES (1)")
	}
	r := backupTables(t, s, scope.Options{Tables: []string{"^d[.].*(long|letters_$)"}})
	found, err := filepath.Glob(filepath.Join(r.Datadir, "d", "*.sdi"))
	if err != nil {
		t.Fatal(err)
	}
	have := make(map[string]bool)
	for _, name := range found {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), `"dd_object":{"name":"`)
		table, _, _ := strings.Cut(rest, `"`)
		t.Logf("%s: %s", filepath.Base(name), table)
		have[table] = true
	}
	if !have["a_table_with_a_long_name"] || !have["ä täble with a long name"] || !have["sixteen_letters_"] || len(have) != 3 {
		t.Errorf("the definitions are those of %v", have)
	}
	for _, table := range []string{"a_table_with_a_long_name", "`ä täble with a long name`", "sixteen_letters_"} {
		if n := r.Value(t, "SELECT COUNT(*) FROM d."+table); n != "1" {
			t.Errorf("%s has %s rows", table, n)
		}
	}
}

// TestPartialStray: a stray file that has the name of a table which lies elsewhere does not
// take that out of the backup.
func TestPartialStray(t *testing.T) {
	t.Parallel()
	elsewhere := t.TempDir()
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Config: []string{"innodb-directories=" + elsewhere}})
	numbers(t, s)
	fill(t, s, "d.far", "DATA DIRECTORY='"+elsewhere+"'")
	fill(t, s, "d.dropped", "")
	s.WriteOut(t)
	if err := mysqldtest.CopyFile(filepath.Join(s.Datadir, "d", "far.ibd"), filepath.Join(s.Datadir, "d", "dropped.ibd")); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "DROP TABLE d.dropped")
	want := s.Rows(t, "CHECKSUM TABLE d.far")[0][1]
	for _, which := range []string{"the server", "a server that was restored from a backup, and has the table under hb's name"} {
		s = backupTables(t, s, scope.Options{Databases: []string{"d.far"}}, elsewhere)
		if got := s.Rows(t, "CHECKSUM TABLE d.far")[0][1]; got != want || want == "" {
			t.Errorf("%s: checksum %s, want %s", which, got, want)
		}
		t.Log(s.Value(t, "SELECT FILE_NAME FROM information_schema.FILES WHERE TABLESPACE_NAME = 'd/far'"))
		s.Exec(t, "DROP TABLE d.n", "DROP TABLE d.seq", "CREATE TABLE d.n (n INT PRIMARY KEY)", "CREATE TABLE d.seq (n INT PRIMARY KEY)") // left out next
	}
}

// TestPartialElsewhere: the list of what lies outside the data directory has a table that was
// asked for, whatever characters are in its name, and no other.
func TestPartialElsewhere(t *testing.T) {
	t.Parallel()
	elsewhere := t.TempDir()
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Config: []string{"innodb-directories=" + elsewhere}})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.`my-far` (id INT PRIMARY KEY) DATA DIRECTORY='"+elsewhere+"'", "CREATE TABLE d.`my-left` (id INT PRIMARY KEY) DATA DIRECTORY='"+elsewhere+"'")
	archive, target := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "extracted")
	if _, err := backupSome(t, s, archive, source.Options{Scope: scope.Options{Databases: []string{"d.my@002dfar"}}}, nil); err != nil {
		t.Fatal(err)
	}
	extracted(t, archive, target)
	text, err := os.ReadFile(filepath.Join(target, metadata.ExternalName))
	if err != nil || !strings.Contains(string(text), elsewhere+"/d/my@002dfar.ibd") || strings.Contains(string(text), "left") {
		t.Errorf("%s, %v", text, err)
	}
}

// TestPartialDiscarded: a table in the scope whose tablespace is discarded stays in the
// dictionary, also between tables that are left out, and its file can be imported.
func TestPartialDiscarded(t *testing.T) {
	servers := append([]string{mysqldtest.MySQL56, mysqldtest.MySQL57}, mysqldtest.MariaDB...)
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE DATABASE other", "CREATE TABLE other.a (id INT PRIMARY KEY) ENGINE=InnoDB",
			"CREATE TABLE d.away (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE other.b (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO d.away VALUES (4711)")
		aside := t.TempDir()
		export := s.Conn(t)
		exec := func(q string) {
			if _, err := export.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		files := []string{"away.ibd", "away.cfg"}
		exec("FLUSH TABLES d.away FOR EXPORT")
		for _, file := range files {
			if err := mysqldtest.CopyFile(filepath.Join(aside, file), filepath.Join(s.Datadir, "d", file)); err != nil {
				t.Fatal(err)
			}
		}
		exec("UNLOCK TABLES")
		s.Exec(t, "ALTER TABLE d.away DISCARD TABLESPACE")
		r := backupTables(t, s, scope.Options{Databases: []string{"d"}})
		if n := r.Value(t, "SELECT COUNT(*) FROM information_schema.INNODB_SYS_TABLES WHERE NAME = 'd/away'"); n != "1" {
			t.Errorf("the dictionary has %s tables d/away", n)
		}
		for _, file := range files {
			if err := mysqldtest.CopyFile(filepath.Join(r.Datadir, "d", file), filepath.Join(aside, file)); err != nil {
				t.Fatal(err)
			}
		}
		r.Exec(t, "ALTER TABLE d.away IMPORT TABLESPACE")
		if got := r.Value(t, "SELECT id FROM d.away"); got != "4711" {
			t.Errorf("imported: %q", got)
		}
		gone(t, r, "other.a")
	})
}
