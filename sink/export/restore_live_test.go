package export_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hb/sink/export"
	"hb/sink/restore"
	"hb/source/mysqld"
	"hb/source/mysqld/login"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk"
)

// moreRows are rows for tables of otherTables.
var moreRows = []string{
	"INSERT INTO `my-db`.`my-table` VALUES (1,'one'),(2,NULL)", "INSERT INTO `my-db`.`c#v` VALUES (7),(8)", "INSERT INTO `my-db`.archived VALUES (3),(4)",
	"INSERT INTO `my-db`.ft VALUES (1,'some words'),(2,'other words')",
}

// writtenTables are tables of a server of all kinds, as Write left them in a directory, with
// what SHOW CREATE TABLE says of them, and their rows.
type writtenTables struct {
	root    *mysqldtest.Root
	dir     string
	out     disk.Dir
	sources []restore.Source
	refused []string
	creates map[string]string
	rows    map[string][]string
}

// from is what Into is told of the server that the tables are of.
func (w *writtenTables) from(t *testing.T) restore.Server {
	return restore.Server{MariaDB: w.root.MariaDB(), Version: versionID(t, w.root)}
}

// writeAll makes tables of all kinds, and writes them.
func writeAll(t *testing.T, s *mysqldtest.Server) *writtenTables {
	t.Helper()
	kinds := makeTables(t, s)
	s.Exec(t, otherTables(s.Root)...)
	s.Exec(t, moreRows...)
	s.Exec(t, "CREATE TABLE `my-db`.checked2 (a INT PRIMARY KEY, b INT, CONSTRAINT positive CHECK (b > 0))", "INSERT INTO `my-db`.checked2 VALUES (1,1)")
	if s.Root.MariaDB() {
		s.Exec(t, "INSERT INTO `my-db`.arplain VALUES (1),(2)", "INSERT INTO `my-db`.partplain VALUES (1),(2),(3)")
		if s.Root.AtLeast(11, 7) {
			s.Exec(t, "INSERT INTO `my-db`.vec VALUES (1,x'000000000000803f00000040'),(2,x'000000000000803f0000803f')")
		}
	}
	for _, name := range kinds {
		if q := someRows[name]; q != "" {
			s.Exec(t, strings.ReplaceAll(q, "%s", "t."+name))
		}
	}
	return writeShown(t, s)
}

// writeShown writes the tables of a server's databases t and my-db, which is stopped.
func writeShown(t *testing.T, s *mysqldtest.Server) *writtenTables {
	t.Helper()
	w := &writtenTables{root: s.Root, dir: t.TempDir(), creates: map[string]string{}, rows: map[string][]string{}}
	w.look(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	w.write(t, s)
	return w
}

// look notes how a server's tables are defined, and their rows.
func (w *writtenTables) look(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	for _, r := range s.Rows(t, "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE','SYSTEM VERSIONED') AND TABLE_SCHEMA IN ('t','my-db') AND TABLE_NAME<>'gone'") {
		name := restore.Name{Database: r[0], Table: r[1]}
		w.creates[name.String()] = showCreate(t, s, name)
		w.rows[name.String()] = sortedRows(t, s, name.SQL())
	}
}

// write writes the tables of a server that is stopped.
func (w *writtenTables) write(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	var err error
	if w.out, err = disk.OS.OpenDir(w.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.out.Close() }) // nothing is left to be written
	d := openDirectory(t, s)
	tables, err := d.Tables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if table.Database != "t" && table.Database != "my-db" {
			continue
		}
		written, err := d.Write(t.Context(), table, w.out)
		if _, no := errors.AsType[*export.RefusedError](err); no {
			w.refused = append(w.refused, table.Name)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		w.sources = append(w.sources, restore.Source{Written: written, Create: w.creates[table.String()]})
	}
}

// showCreate is what the server shows of a table with an empty sql_mode, without AUTO_INCREMENT.
func showCreate(t *testing.T, s *mysqldtest.Server, name restore.Name) string {
	t.Helper()
	conn := s.Conn(t)
	if _, err := conn.ExecContext(t.Context(), "SET SESSION sql_mode='', time_zone='+00:00'"); err != nil {
		t.Fatal(err)
	}
	var table, create string
	if err := conn.QueryRowContext(t.Context(), "SHOW CREATE TABLE "+name.SQL()).Scan(&table, &create); err != nil {
		t.Fatal(err)
	}
	return autoIncrement.ReplaceAllString(create, "")
}

// connect returns what opens connections as hb does.
func connect(t *testing.T, s *mysqldtest.Server) func(context.Context) (restore.Connection, error) {
	t.Helper()
	srv, err := mysqld.Connect(t.Context(), login.Options{Network: "unix", Socket: s.Socket, User: "root"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return func(ctx context.Context) (restore.Connection, error) { return srv.Open(ctx) }
}

// TestInto: tables of all kinds and engines come into another server of the same release, with
// the definitions and rows of the originals, and nothing is left of the way.
func TestInto(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		w := writeAll(t, s)
		s = target(t, s.Root)
		var said []string
		o := restore.Options{Open: connect(t, s), From: w.from(t), PageSize: 16 << 10, Report: func(text string) { said = append(said, text) }}
		o.Free = func(dir string) (int64, error) { return 100000, nil }
		if _, err := restore.Into(t.Context(), w.out, w.sources, o); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), s.Datadir) {
			t.Errorf("%s: without space: %v", w.root.Name, err)
		}
		noRemains(t, s)
		o.Free = nil
		result, err := restore.Into(t.Context(), w.out, w.sources, o)
		if err != nil {
			t.Fatalf("%s: %v", w.root.Name, err)
		}
		warnings := 0
		if w.root.Name == mysqldtest.MySQL56 {
			warnings = 1 // a foreign key refers to a table that 5.6 does not import
			delete(w.creates, "t.foreign")
		}
		if len(result.Tables) != len(w.sources) || len(said) != len(w.sources) || len(result.Warnings) != warnings {
			t.Errorf("%s: %d tables of %d, %d reports, warnings %q", w.root.Name, len(result.Tables), len(w.sources), len(said), result.Warnings)
		}
		compareTables(t, s, w, result, nil)
		noRemains(t, s)
		t.Logf("%s: %d tables, refused %q; %q", w.root.Name, len(result.Tables), w.refused, said[0])
	})
}

// TestIntoLater brings tables to later releases of MariaDB.
func TestIntoLater(t *testing.T) {
	mysqldtest.EachServer(t, []string{mysqldtest.MariaDB105, mysqldtest.MariaDB1011}, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		w := writeAll(t, s)
		for _, later := range []string{mysqldtest.MariaDB1011, mysqldtest.MariaDB118} {
			if later == w.root.Name {
				continue
			}
			s := target(t, mysqldtest.Need(t, later))
			result, err := restore.Into(t.Context(), w.out, w.sources, restore.Options{Open: connect(t, s), From: w.from(t), PageSize: 16 << 10, Report: func(string) {}})
			if err != nil {
				t.Fatalf("%s to %s: %v", w.root.Name, later, err)
			}
			compareTables(t, s, w, result, map[string]restore.Name{})
			noRemains(t, s)
			t.Logf("%s to %s: %d tables", w.root.Name, later, len(result.Tables))
		}
	})
}

// target starts a server that tables are brought to.
func target(t *testing.T, root *mysqldtest.Root) *mysqldtest.Server {
	t.Helper()
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	if root.MariaDB() {
		s.Exec(t, "INSTALL SONAME 'ha_archive'")
	}
	return s
}

// compareTables compares what Into has made with the originals; as: names that are not theirs.
func compareTables(t *testing.T, s *mysqldtest.Server, w *writtenTables, result *restore.Result, as map[string]restore.Name) {
	t.Helper()
	names := map[string]string{} // what they were called, by what they are called
	for _, src := range w.sources {
		was := src.Written.Table.String()
		names[was] = was
		if renamed, ok := as[was]; ok {
			names[renamed.String()] = was
		}
	}
	for _, got := range result.Tables {
		was := names[got.Name.String()]
		rows := sortedRows(t, s, got.Name.SQL())
		if !slices.Equal(rows, w.rows[was]) || int64(len(rows)) != got.Rows {
			t.Errorf("%s: %s has %d rows, %d by Into, not %d: %.300q, not %.300q", w.root.Name, was, len(rows), got.Rows, len(w.rows[was]), rows, w.rows[was])
		}
		if create := showCreate(t, s, got.Name); as == nil && w.creates[was] != "" && !sameLines(create, w.creates[was]) {
			t.Errorf("%s: %s is\n%s\nnot\n%s", w.root.Name, was, create, w.creates[was])
		}
	}
}

// sameLines compares definitions, whose FULLTEXT indexes and the like come last.
func sameLines(a, b string) bool {
	split := func(s string) []string {
		lines := strings.Split(strings.ReplaceAll(s, ",\n", "\n"), "\n")
		slices.Sort(lines)
		return lines
	}
	return slices.Equal(split(a), split(b))
}

// noRemains makes sure that neither tables nor files are left of the way.
func noRemains(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	if left := s.Rows(t, "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA LIKE 'hb\\_%' OR TABLE_NAME LIKE 'hb\\_%'"); len(left) > 0 {
		t.Errorf("%s: left are %q", s.Root.Name, left)
	}
	for _, pattern := range []string{"*/*.cfg", "*/*.cfp", "*/*.hb-tmp", "hb_*"} {
		if left, err := filepath.Glob(filepath.Join(s.Datadir, pattern)); err != nil || len(left) > 0 {
			t.Errorf("%s: left are %q, %v", s.Root.Name, left, err)
		}
	}
}

var autoIncrement = regexp.MustCompile(` AUTO_INCREMENT=[0-9]+`)

// TestScript: the client runs the script, and the tables are those of the originals.
func TestScript(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		w := writeAll(t, s)
		var tables []*restore.Table
		done := &restore.Result{}
		for _, src := range w.sources {
			table, err := restore.New(src.Written, src.Create, w.from(t), restore.Name{})
			if err != nil {
				t.Fatal(err)
			}
			if table.Name.Table == "foreign" && s.Root.Name == mysqldtest.MySQL56 {
				continue // 5.6 does not import the table that it refers to
			}
			tables = append(tables, table)
			done.Tables = append(done.Tables, restore.Imported{Name: table.Name, Rows: int64(len(w.rows[table.Name.String()]))})
		}
		script, err := restore.Script(tables, w.from(t), restore.Objects{})
		if err != nil {
			t.Fatal(err)
		}
		s = target(t, s.Root)
		out, err := runScript(t, s, w.dir, script)
		if err != nil {
			t.Fatalf("%s: %v\n%s", s.Root.Name, err, out)
		}
		compareTables(t, s, w, done, nil)
		if strings.Count(out, "check\tstatus\tOK") != len(tables) {
			t.Errorf("%s: CHECK TABLE: %s", s.Root.Name, out)
		}
		// Again: the first statement that makes a table ends it.
		if out, err := runScript(t, s, w.dir, script); err == nil || !strings.Contains(out, "exists") {
			t.Errorf("%s: a second time: %v\n%s", s.Root.Name, err, out)
		}
		// A file that is missing ends it, before anything else is done with the table.
		other := target(t, s.Root)
		file := filepath.Join(w.dir, "t", "nokey.ibd")
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if out, err := runScript(t, other, w.dir, script); err == nil || strings.Contains(out, "t.notthere") || !strings.Contains(out, "nokey.ibd") {
			t.Errorf("%s: without %s: %v\n%s", s.Root.Name, file, err, out)
		}
		t.Logf("%s: %d tables, %d bytes of script", s.Root.Name, len(tables), len(script))
	})
}

// runScript runs a script as it says itself.
func runScript(t *testing.T, s *mysqldtest.Server, dir string, script []byte) (string, error) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, restore.ScriptName), script, 0o600); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`DATADIR=/var/lib/mysql mysql(.*) < import.sql`).FindSubmatch(script)
	if line == nil {
		t.Fatalf("%.500s", script)
	}
	args := strings.Fields(string(line[1]))
	if s.Root.MariaDB() {
		args = append(args, "--skip-ssl")
	}
	c := s.Tool("mysql", append(args, "--socket="+s.Socket, "--user=root")...)
	in, err := os.Open(filepath.Join(dir, restore.ScriptName))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close() // only read
	c.Dir, c.Stdin = dir, in
	c.Env = append(os.Environ(), "DATADIR="+s.Datadir)
	out, err := c.CombinedOutput()
	return string(out), err
}

// pick leaves only some of the tables.
func (w *writtenTables) pick(names ...string) {
	w.sources = slices.DeleteFunc(w.sources, func(s restore.Source) bool { return !slices.Contains(names, s.Written.Table.String()) })
}

// TestIntoReplace: a table that exists stays as it is, unless it is to be replaced; then only
// its rows are others. Under another name the table comes beside it. What would be lost with the
// old table keeps it from being replaced.
func TestIntoReplace(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		w := writeAll(t, s)
		w.pick("my-db.checked2", "t.external", "my-db.größe")
		s = target(t, s.Root)
		o := restore.Options{Open: connect(t, s), From: w.from(t), PageSize: 16 << 10, Report: func(string) {}}
		into := func() (*restore.Result, error) { return restore.Into(t.Context(), w.out, w.sources, o) }
		if _, err := into(); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "DELETE FROM t.external", "INSERT INTO `my-db`.checked2 VALUES (5,5)", "DELETE FROM `my-db`.größe")
		_, err := into()
		if _, refused := errors.AsType[*restore.TargetServerError](err); !refused || !strings.Contains(err.Error(), "--replace") {
			t.Errorf("%s: %v", s.Root.Name, err)
		}
		if n := s.Value(t, "SELECT COUNT(*) FROM `my-db`.checked2"); n != "2" {
			t.Errorf("%s: the table has %s rows", s.Root.Name, n)
		}
		as := map[string]restore.Name{}
		for i := range w.sources {
			was := w.sources[i].Written.Table
			w.sources[i].As = restore.Name{Database: was.Database, Table: was.Name + "_restored"}
			as[was.String()] = w.sources[i].As
		}
		result, err := into()
		if err != nil {
			t.Fatalf("%s: %v", s.Root.Name, err)
		}
		compareTables(t, s, w, result, as)
		for i := range w.sources {
			w.sources[i].As = restore.Name{}
		}
		o.Replace = true
		if result, err = into(); err != nil {
			t.Fatalf("%s: %v", s.Root.Name, err)
		}
		compareTables(t, s, w, result, nil)
		for _, table := range result.Tables {
			if !table.Replaced {
				t.Errorf("%s: %s was not replaced", s.Root.Name, table.Name)
			}
		}
		noRemains(t, s)
		s.Exec(t, "CREATE TRIGGER `my-db`.tr BEFORE INSERT ON `my-db`.checked2 FOR EACH ROW SET NEW.b=1", "CREATE TABLE t.child (a INT, FOREIGN KEY (a) REFERENCES t.external (a))")
		for _, name := range []string{"my-db.checked2", "t.external"} {
			all := w.sources
			w.sources = slices.Clone(all)
			w.pick(name)
			_, err := into()
			w.sources = all
			if _, refused := errors.AsType[*restore.TargetServerError](err); !refused || !strings.Contains(err.Error(), "tr)") && !strings.Contains(err.Error(), "t.child") {
				t.Errorf("%s: %s: %v", s.Root.Name, name, err)
			}
		}
		if n := s.Value(t, "SELECT COUNT(*) FROM `my-db`.checked2"); n != "1" {
			t.Errorf("%s: the table has %s rows", s.Root.Name, n)
		}
	})
}

// TestIntoFails: of a table whose import fails nothing is left, and one that was to be replaced
// is as it was.
func TestIntoFails(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		w := writeAll(t, s)
		w.pick("t.external")
		name := filepath.Join(w.dir, "t", "external.ibd")
		good, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.Clone(good)
		for at := 3*16<<10 + 200; at < 3*16<<10+300; at++ { // of the root of the clustered index, or of the SDI
			bad[at] ^= 0xFF
		}
		for at := 4*16<<10 + 200; at < 4*16<<10+300; at++ {
			bad[at] ^= 0xFF
		}
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s = target(t, s.Root)
		o := restore.Options{Open: connect(t, s), From: w.from(t), PageSize: 16 << 10, Report: func(string) {}}
		if r, err := restore.Into(t.Context(), w.out, w.sources, o); err == nil {
			t.Fatalf("%s: %+v", s.Root.Name, r)
		}
		if left := s.Rows(t, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA='t'"); len(left) > 0 {
			t.Errorf("%s: %q is left", s.Root.Name, left)
		}
		if left, err := filepath.Glob(filepath.Join(s.Datadir, "t", "external*")); err != nil || len(left) > 0 {
			t.Errorf("%s: %q are left, %v", s.Root.Name, left, err)
		}
		noRemains(t, s)
		s.Exec(t, "CREATE TABLE t.external (a INT)", "INSERT INTO t.external VALUES (1),(2)")
		o.Replace = true
		if r, err := restore.Into(t.Context(), w.out, w.sources, o); err == nil {
			t.Fatalf("%s: %+v", s.Root.Name, r)
		}
		if n := s.Value(t, "SELECT COUNT(*) FROM t.external"); n != "2" {
			t.Errorf("%s: the old table has %s rows", s.Root.Name, n)
		}
		noRemains(t, s)
		if err := os.WriteFile(name, good, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := restore.Into(t.Context(), w.out, w.sources, o); err != nil {
			t.Errorf("%s: with the good file: %v", s.Root.Name, err)
		}
		noRemains(t, s)
		o.From.Version += 1000000
		if _, err := restore.Into(t.Context(), w.out, w.sources, o); err == nil || !strings.Contains(err.Error(), "does not import") {
			t.Errorf("%s: of a later release: %v", s.Root.Name, err)
		}
	})
}
