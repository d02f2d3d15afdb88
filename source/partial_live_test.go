package source_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"hb/sink/apply"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/scope"
	"hb/source/since"
)

// backupSome makes an archive of some tables of s. during is run once, while pages are
// copied.
func backupSome(t testing.TB, s *mysqldtest.Server, archive string, o source.Options, during func()) (*source.Result, error) {
	t.Helper()
	srv := client.Open(t, s)
	defer srv.Close()
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o.Parallel, o.Tmpdir, o.Tool, o.ToolVersion = 2, t.TempDir(), "hb", "test"
	var once sync.Once
	o.Pace = func(context.Context, int) error {
		if during != nil {
			once.Do(during)
		}
		return nil
	}
	return source.Run(t.Context(), srv, f, o)
}

// someTables makes two databases: d is backed up without d.left, other is not.
func someTables(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	numbers(t, s)
	s.Exec(t, "CREATE DATABASE other")
	for _, name := range []string{"d.a", "d.goes", "d.left", "other.a", "other.comes"} {
		fill(t, s, name, "")
	}
	s.Exec(t, "CREATE TABLE d.text (id INT PRIMARY KEY, t TEXT, FULLTEXT (t)) ENGINE=InnoDB", "INSERT INTO d.text SELECT s, CONCAT('word', s % 7, ' and more') FROM d.seq",
		"CREATE TABLE d.left_text (id INT PRIMARY KEY, t TEXT, FULLTEXT (t)) ENGINE=InnoDB", "INSERT INTO d.left_text SELECT s, 'word' FROM d.seq",
		"CREATE TABLE d.parts (id INT PRIMARY KEY, v INT) ENGINE=InnoDB PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN MAXVALUE)", "INSERT INTO d.parts SELECT s, s FROM d.seq",
		"CREATE TABLE other.x (id INT PRIMARY KEY, v INT) ENGINE=InnoDB", "INSERT INTO other.x VALUES (1, 4711)",
		"CREATE TABLE d.my (id INT PRIMARY KEY) ENGINE=MyISAM", "INSERT INTO d.my VALUES (1), (2)", "CREATE TABLE other.my LIKE d.my", "CREATE TABLE d.left_my LIKE d.my",
		"CREATE TABLE other.child (id INT PRIMARY KEY, CONSTRAINT fk FOREIGN KEY (id) REFERENCES d.seq (s)) ENGINE=InnoDB", "INSERT INTO other.child VALUES (1)",
		"CREATE VIEW d.v AS SELECT id FROM d.a", "CREATE TABLE d.counts (n INT) ENGINE=InnoDB", "INSERT INTO d.counts VALUES (0)",
		"CREATE TRIGGER d.trg AFTER INSERT ON d.a FOR EACH ROW UPDATE d.counts SET n = n + 1", "SET GLOBAL innodb_max_dirty_pages_pct = 90")
}

// leaves is the scope of these tests.
func leaves() scope.Options {
	return scope.Options{Databases: []string{"d"}, TablesExclude: []string{"^d[.]left"}}
}

// gone makes sure that a server does not serve a table, and that its name can be used again.
func gone(t *testing.T, r *mysqldtest.Server, table string) {
	t.Helper()
	var n int
	err := r.DB().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n)
	if err == nil {
		t.Errorf("%s is served, with %d rows", table, n)
	}
	t.Logf("%s: %v", table, err)
}

// TestPartial backs up some tables while others change, and while DDL moves tables into the
// scope and out of it: the restored server has those that are in it at the end.
func TestPartial(t *testing.T) {
	mysqldtest.Each(t, allServers(), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		someTables(t, s)
		open := s.Conn(t)
		for _, q := range []string{"BEGIN", "UPDATE d.a SET v = 'open' WHERE id % 2 = 0", "DELETE FROM d.left WHERE id % 2 = 0", "UPDATE other.a SET b = 'open'"} {
			if _, err := open.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		ddl := []string{
			"RENAME TABLE d.goes TO other.went, other.comes TO d.came", "UPDATE d.came SET v = 'came' WHERE id % 7 = 0", "UPDATE other.went SET v = 'went'",
			"CREATE TABLE d.fresh LIKE d.seq", "INSERT INTO d.fresh SELECT * FROM d.seq", "CREATE TABLE other.fresh LIKE d.seq", "INSERT INTO other.fresh SELECT * FROM d.seq",
			"DROP TABLE d.n", "CREATE TABLE d.text2 LIKE d.text", "INSERT INTO d.text2 SELECT * FROM d.text",
		}
		if !root.MariaDB() || root.AtLeast(10, 6) {
			ddl = append(ddl, "ALTER TABLE d.parts EXCHANGE PARTITION p0 WITH TABLE other.x")
		}
		archive, target := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "restored")
		o := source.Options{Scope: leaves()}
		result, err := backupSome(t, s, archive, o, func() { s.Exec(t, ddl...) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := open.ExecContext(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		want := checksums(t, s)
		for name := range want {
			if strings.HasPrefix(name, "left") || want[name] == "" { // a view has none
				delete(want, name)
			}
		}
		left := result.Manifest.Scope
		t.Logf("%v, %d ranges left out: %v", left, len(left.LeftOut), left.LeftOut)
		if v, err := verifyArchive(t, archive); err != nil {
			t.Errorf("verify --replay: %v, %v", v, err)
		}
		restoreSome(t, root, archive, target)
		if _, err := verify.Directory(t.Context(), target, verify.Options{}); err != nil {
			t.Error(err)
		}
		noAuxiliary(t, s, target)
		if _, err := os.Stat(filepath.Join(target, "other")); (err == nil) != (!root.MariaDB() && root.AtLeast(8, 0)) {
			t.Errorf("the directory of a database that was left out: %v", err)
		}
		r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
		for name, sum := range want {
			if got := r.Rows(t, "CHECKSUM TABLE d."+name)[0][1]; got != sum {
				t.Errorf("%s: checksum %s, want %s", name, got, sum)
			}
			if c := r.Rows(t, "CHECK TABLE d."+name+" EXTENDED"); c[len(c)-1][3] != "OK" {
				t.Errorf("%v", c)
			}
		}
		for _, name := range []string{"a", "came", "fresh", "text", "text2", "parts", "my", "counts", "seq"} {
			if want[name] == "" {
				t.Errorf("%s is not among the tables compared: %v", name, want)
			}
		}
		if n := r.Value(t, "SELECT COUNT(*) FROM d.text WHERE MATCH (t) AGAINST ('word3')"); n != "429" && n != "428" {
			t.Errorf("FULLTEXT finds %s rows", n)
		}
		r.Exec(t, "INSERT INTO d.a VALUES (100000, 'x', 'y')")
		if n := r.Value(t, "SELECT n FROM d.counts"); n != "1" {
			t.Errorf("the trigger counted %s", n)
		}
		if r.Root.MariaDB() || !r.Root.AtLeast(8, 0) {
			forgotten(t, r)
		} else {
			droppable(t, r)
		}
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// noAuxiliary makes sure that a directory has the FULLTEXT auxiliary tables of d.text, and not
// those of d.left_text.
func noAuxiliary(t *testing.T, s *mysqldtest.Server, dir string) {
	t.Helper()
	list := "INNODB_SYS_TABLES"
	if !s.Root.MariaDB() && s.Root.AtLeast(8, 0) {
		list = "INNODB_TABLES"
	}
	for table, want := range map[string]bool{"text": true, "left_text": false} {
		id := s.Value(t, "SELECT LOWER(LPAD(HEX(TABLE_ID), 16, '0')) FROM information_schema."+list+" WHERE NAME = ?", "d/"+table)
		found, err := filepath.Glob(filepath.Join(dir, "d", "*_"+id+"_*"))
		if err != nil || id == "" || (len(found) > 0) != want {
			t.Errorf("auxiliary tables of %s, id %q: %q, %v", table, id, found, err)
		}
	}
}

// restoreSome restores a partial backup. Where the tables that it leaves out remain in the
// data dictionary, hb apply says so, and nothing else.
func restoreSome(t *testing.T, root *mysqldtest.Root, archive, target string) {
	t.Helper()
	warnings := applied(t, archive, target)
	if keeps := !root.MariaDB() && root.AtLeast(8, 0); keeps && (len(warnings) != 1 || !strings.Contains(warnings[0], "drop these tables")) || !keeps && len(warnings) != 0 {
		t.Errorf("apply: warnings %q", warnings)
	}
}

// leftOut are the tables that are not in the backup, and one that was dropped.
var leftOut = []string{"d.left", "d.left_text", "d.left_my", "other.a", "other.went", "other.fresh", "other.my", "other.comes", "other.x", "d.goes", "d.n"}

// forgotten makes sure that a server whose dictionary is in the system tablespace knows nothing
// of tables that were left out: their names can be used again, and it complains of nothing.
func forgotten(t *testing.T, r *mysqldtest.Server) {
	t.Helper()
	for _, table := range leftOut {
		gone(t, r, table)
	}
	r.Exec(t, "CREATE DATABASE other", "CREATE TABLE d.ref (id INT PRIMARY KEY, CONSTRAINT fk FOREIGN KEY (id) REFERENCES d.seq (s)) ENGINE=InnoDB")
	for _, table := range leftOut {
		r.Exec(t, "CREATE TABLE "+table+" (id INT PRIMARY KEY, t TEXT, FULLTEXT (t)) ENGINE=InnoDB", "INSERT INTO "+table+" VALUES (1, 'word')", "DROP TABLE "+table)
	}
	if log := complain(t, r); strings.Contains(log, "missing") || strings.Contains(log, "find") {
		t.Errorf("%s", log)
	}
}

// droppable makes sure that a server whose dictionary has the tables that were left out can do
// without: nothing of them is served, and they can be dropped.
func droppable(t *testing.T, r *mysqldtest.Server) {
	t.Helper()
	r.Exec(t, "DROP TABLE d.left", "CREATE TABLE d.left (id INT PRIMARY KEY)", "DROP TABLE d.left_text", "DROP TABLE IF EXISTS d.left_my", "DROP TABLE other.a")
	gone(t, r, "other.went")
	gone(t, r, "other.x")
	r.Exec(t, "DROP DATABASE other", "CREATE DATABASE other", "CREATE TABLE other.a (id INT PRIMARY KEY)", "INSERT INTO other.a VALUES (1)")
	gone(t, r, "d.goes")
	t.Logf("%.3000s", complain(t, r))
}

// complain is the lines of a server's error log that are not notes.
func complain(t *testing.T, r *mysqldtest.Server) string {
	t.Helper()
	log, err := r.ErrorLog()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.SplitSeq(log, "\n") {
		if strings.Contains(line, "ERROR") || strings.Contains(line, "Warning") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

func verifyArchive(t *testing.T, archive string) (*verify.Result, error) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return verify.Archive(t.Context(), f, verify.Options{Replay: true, Tmpdir: t.TempDir()})
}

// chosen are the files of tables in a directory, without those of the databases that every
// backup of hb's has; FULLTEXT auxiliary tables, which the peer leaves to be chosen one by
// one; what it takes for tables of that name: the options of databases, db.opt, and triggers'
// names, trg.TRN; and second copies, with what says so.
func chosen(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		db, base := filepath.Split(name)
		if err == nil && !e.IsDir() && db != "" && !slices.Contains(scope.Always, filepath.Clean(db)) && base != "db.opt" && !strings.HasPrefix(base, "FTS_") &&
			!strings.Contains(base, "#hb#") && !slices.Contains([]string{".TRN", ".del", ".ren"}, filepath.Ext(base)) {
			if table, made := strings.CutSuffix(name, ".new"); made { // the peer's, of a table that its redo log makes
				name = table + ".ibd"
			}
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestPartialPeer: hb and mariadb-backup choose the same files by the same options, and each
// recovers what the other made.
func TestPartialPeer(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		someTables(t, s)
		s.Exec(t, "CREATE TABLE d.`odd-name` (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE DATABASE empty", "CREATE DATABASE `more-data`", "CREATE TABLE `more-data`.a LIKE d.seq")
		dir := t.TempDir()
		list := filepath.Join(dir, "list")
		if err := os.WriteFile(list, []byte("d.a\nd.parts\nother.my\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		for i, o := range []scope.Options{
			{Databases: []string{"d"}, TablesExclude: []string{"^d[.]left"}},
			{Databases: []string{"d.a d.odd@002dname other more@002ddata"}},
			{DatabasesExclude: []string{"other more@002ddata"}},
			{Tables: []string{"^d[.](a|pa)", "[.]my$,@002d"}, TablesExclude: []string{"^other[.]m"}},
			{TablesFile: list}, {TablesExclude: []string{"[.]x$,^[^d]+[.]c"}},
			{Databases: []string{"d"}, Tables: []string{"^other[.]"}}, {Databases: []string{"d other.x"}, DatabasesExclude: []string{"d.a"}, Tables: []string{"[.]a$"}},
		} {
			ours, theirs, archive := filepath.Join(dir, fmt.Sprint(i, "hb")), filepath.Join(dir, fmt.Sprint(i, "peer")), filepath.Join(dir, fmt.Sprint(i))
			args := []string{"--defaults-file=" + s.DefaultsFile, "--backup", "--target-dir=" + theirs}
			for name, value := range map[string]string{"databases": strings.Join(o.Databases, " "), "databases-exclude": strings.Join(o.DatabasesExclude, " "),
				"tables": strings.Join(o.Tables, ","), "tables-exclude": strings.Join(o.TablesExclude, ","), "tables-file": o.TablesFile} {
				if value != "" {
					args = append(args, "--"+name+"="+value)
				}
			}
			command(t, root.Tool("mariadb-backup", args...), "")
			if _, err := backupSome(t, s, archive, source.Options{Scope: o}, nil); err != nil {
				t.Fatal(err)
			}
			extracted(t, archive, ours)
			got, want := chosen(t, ours), chosen(t, theirs)
			if !slices.Equal(got, want) || len(want) == 0 {
				t.Errorf("%v:\nhb             %q\nmariadb-backup %q", args[3:], got, want)
			}
			if i > 0 {
				continue
			}
			// --export starts the program itself as a server, which it cannot here: it runs
			// under the loader of another distribution.
			command(t, root.Tool("mariadb-backup", "--prepare", "--target-dir="+ours), "")
			if _, err := apply.Run(t.Context(), theirs, apply.Options{Tool: "hb test"}); err != nil {
				t.Error(err)
			}
			r := mysqldtest.StartOn(t, root, ours, mysqldtest.Options{})
			for _, table := range []string{"d.a", "d.text", "d.parts", "d.my", "d.counts"} {
				if got, want := r.Rows(t, "CHECKSUM TABLE "+table)[0][1], s.Rows(t, "CHECKSUM TABLE "+table)[0][1]; got != want {
					t.Errorf("%s: checksum %s after --prepare, want %s", table, got, want)
				}
			}
			imported(t, s, theirs, "d", "a")
			if err := r.Stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

// imported imports the recovered file of a table into the server it is from, and compares the
// rows. Without a .cfg, MariaDB needs the secondary indexes dropped.
func imported(t *testing.T, s *mysqldtest.Server, dir, db, table string) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE IF NOT EXISTS again", "CREATE TABLE again."+table+" LIKE "+db+"."+table, "ALTER TABLE again."+table+" DROP KEY v",
		"ALTER TABLE again."+table+" DISCARD TABLESPACE")
	if err := mysqldtest.CopyFile(filepath.Join(s.Datadir, "again", table+".ibd"), filepath.Join(dir, db, table+".ibd")); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "ALTER TABLE again."+table+" IMPORT TABLESPACE")
	if got, want := s.Rows(t, "CHECKSUM TABLE again."+table)[0][1], s.Rows(t, "CHECKSUM TABLE "+db+"."+table)[0][1]; got != want {
		t.Errorf("%s of the peer's backup, recovered by hb: checksum %s, want %s", table, got, want)
	}
	s.Exec(t, "DROP DATABASE again")
}

// extracted extracts an archive.
func extracted(t *testing.T, archive, target string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := extract.Run(t.Context(), f, target, extract.Options{}); err != nil {
		t.Fatal(err)
	}
}

// TestPartialIncrement: increments of the same tables build on a partial backup, while tables
// move into the scope and out of it; those of others are refused by name.
func TestPartialIncrement(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MySQL97, mysqldtest.MySQL57, mysqldtest.MariaDB1011}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		someTables(t, s)
		dir := t.TempDir()
		base, first, second := filepath.Join(dir, "base"), filepath.Join(dir, "first"), filepath.Join(dir, "second")
		take := func(archive, since string, during ...string) {
			t.Helper()
			if _, err := backupSome(t, s, archive, source.Options{Scope: leaves(), Since: since}, func() { s.Exec(t, during...) }); err != nil {
				t.Fatal(err)
			}
		}
		take(base, "", "RENAME TABLE d.goes TO other.went")
		s.Exec(t, "UPDATE other.went SET v = 'went' WHERE id % 2 = 0", "RENAME TABLE other.went TO d.goes", "UPDATE d.goes SET v = 'back' WHERE id % 3 = 0", "RENAME TABLE d.counts TO other.counts2",
			"UPDATE d.a SET v = 'first' WHERE id % 11 = 0", "DROP TRIGGER d.trg")
		take(first, base, "RENAME TABLE other.comes TO d.came", "RENAME TABLE d.text TO d.left_over")
		s.Exec(t, "UPDATE d.came SET v = 'second' WHERE id % 5 = 1", "RENAME TABLE other.counts2 TO d.counts", "RENAME TABLE d.left_over TO d.text", "UPDATE other.a SET v = 'other'")
		take(second, first, "UPDATE d.a SET v = 'second' WHERE id % 13 = 0")
		for what, o := range map[string]scope.Options{"all tables": {}, "others": {Databases: []string{"d"}}} {
			_, err := backupSome(t, s, filepath.Join(dir, "refused"), source.Options{Scope: o, Since: second}, nil)
			if refused, ok := errors.AsType[*since.ScopeError](err); !ok || !strings.Contains(err.Error(), "--databases=") {
				t.Errorf("%s: %v, %v", what, refused, err)
			} else {
				t.Log(err)
			}
		}
		full := filepath.Join(dir, "full")
		if _, err := backupSome(t, s, full, source.Options{}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := backupSome(t, s, filepath.Join(dir, "refused"), source.Options{Scope: leaves(), Since: full}, nil); err == nil {
			t.Error("a partial increment of a full backup")
		}
		want := checksums(t, s)
		merged, target := filepath.Join(dir, "merged"), filepath.Join(dir, "target")
		mergeChain(t, merged, []string{base, first, second})
		if _, err := verifyArchive(t, merged); err != nil {
			t.Error(err)
		}
		restoreSome(t, root, merged, target)
		r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
		compared := 0
		for name, sum := range want {
			if strings.HasPrefix(name, "left") || sum == "" {
				continue
			}
			if got := r.Rows(t, "CHECKSUM TABLE d."+name)[0][1]; got != sum {
				t.Errorf("%s: checksum %s, want %s", name, got, sum)
			}
			if c := r.Rows(t, "CHECK TABLE d."+name+" EXTENDED"); c[len(c)-1][3] != "OK" {
				t.Errorf("%v", c)
			}
			compared++
		}
		if compared != 9 { // a goes came text parts my counts n seq
			t.Errorf("%d tables compared: %v", compared, want)
		}
		gone(t, r, "other.a")
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestPartialMistakes: what is asked for and not there is refused by name, before anything is
// locked; and what goes during the backup, when it has.
func TestPartialMistakes(t *testing.T) {
	for _, name := range []string{mysqldtest.MySQL97, mysqldtest.MariaDB1011} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mysqldtest.Start(t, mysqldtest.Need(t, name), mysqldtest.Options{})
			someTables(t, s)
			archive := filepath.Join(t.TempDir(), "archive")
			for says, o := range map[string]scope.Options{
				"no database othr. Did you mean other?":       {Databases: []string{"d othr"}},
				"no table d.pars. Did you mean d.parts?":      {Databases: []string{"d.pars"}},
				"no table matches":                            {Tables: []string{"^d[.]b$"}},
				"does not mean the same in all tools":         {Tables: []string{`\d`}},
				"a server needs the database mysql":           {DatabasesExclude: []string{"mysql"}},
				"--tables-exclude: no table matches":          {Databases: []string{"d"}, TablesExclude: []string{"^mysql[.]"}},
				"--databases-exclude: the server has no data": {DatabasesExclude: []string{"nothing"}},
			} {
				r, err := backupSome(t, s, archive, source.Options{Scope: o}, nil)
				if err == nil || !strings.Contains(err.Error(), says) || r != nil && len(r.Locks) > 0 {
					t.Errorf("%+v: %v", o, err)
				}
			}
			_, err := backupSome(t, s, archive, source.Options{Scope: scope.Options{Databases: []string{"other d.parts"}}}, func() { s.Exec(t, "DROP TABLE d.parts") })
			if gone, ok := errors.AsType[*scope.NameError](err); !ok || !gone.Gone || gone.Name != "d.parts" {
				t.Errorf("dropped during the backup: %v", err)
			}
			_, err = backupSome(t, s, archive, source.Options{Scope: scope.Options{Databases: []string{"d other"}}}, func() { s.Exec(t, "DROP DATABASE other") })
			if gone, ok := errors.AsType[*scope.NameError](err); !ok || !gone.Gone || gone.Name != "other" {
				t.Errorf("dropped during the backup: %v", err)
			}
		})
	}
}
