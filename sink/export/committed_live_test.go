package export_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/export"
	"hb/sink/export/committed"
	"hb/sink/extract"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/scope"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// buffering makes servers keep changes of cold secondary indexes in the change buffer, if they
// have one.
var buffering = []string{"loose-innodb-change-buffering=all", "innodb-buffer-pool-size=8M", "innodb-io-capacity=100", "loose-innodb-buffer-pool-load-at-startup=0"}

// recoveredOf backs up a server, as a partial backup if o says so, and returns the directory
// that hb apply makes of that.
func recoveredOf(t *testing.T, s *mysqldtest.Server, o scope.Options) string {
	t.Helper()
	archive, dir := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "dir")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	srv := client.Open(t, s)
	_, err = source.Run(t.Context(), srv, f, source.Options{Scope: o, Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	if err := errors.Join(err, srv.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := extract.Run(t.Context(), f, dir, extract.Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := apply.Run(t.Context(), dir, apply.Options{Tool: "hb test"}); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(archive); err != nil {
		t.Fatal(err)
	}
	return dir
}

// pendingTables are the tables of these tests.
var pendingTables = []string{"inserted", "updated", "deleted", "mixed", "prepared", "cold", "part", "same"}

// makePending makes tables, of which t.cold has buffered changes, and returns connections with
// open transactions. The server is another one then.
func makePending(t *testing.T, root *mysqldtest.Root, o mysqldtest.Options) *mysqldtest.Server {
	t.Helper()
	s := mysqldtest.Start(t, root, o)
	s.Exec(t, "CREATE DATABASE t", "CREATE TABLE t.n (n INT PRIMARY KEY)", "INSERT INTO t.n VALUES (1),(2),(3),(4),(5),(6),(7),(8)")
	for range 6 {
		s.Exec(t, "INSERT INTO t.n SELECT n+(SELECT m FROM (SELECT MAX(n) m FROM t.n) x) FROM t.n")
	}
	for _, name := range pendingTables {
		extra, cold := "", ""
		if name == "part" {
			extra = " PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (200), PARTITION p1 VALUES LESS THAN MAXVALUE)"
		} else {
			cold = ", UNIQUE KEY (u)"
		}
		s.Exec(t, "CREATE TABLE t."+name+" (a INT PRIMARY KEY, b VARCHAR(400), c LONGBLOB, u INT NOT NULL, KEY(b)"+cold+") ENGINE=InnoDB"+extra,
			"INSERT INTO t."+name+" SELECT n, CONCAT(SHA2(n, 224), REPEAT('b', 100 + n % 50)), REPEAT('c', IF(n % 10 = 0, 20000, 20)), n FROM t.n")
	}
	for range 5 {
		s.Exec(t, "INSERT INTO t.cold SELECT a + (SELECT m FROM (SELECT MAX(a) m FROM t.cold) x), CONCAT(SHA2(RAND(), 224), REPEAT('b', 100)), 'c', u + (SELECT m FROM (SELECT MAX(a) m FROM t.cold) x) FROM t.cold")
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return mysqldtest.StartOn(t, root, s.Datadir, o)
}

// openPending opens transactions, and makes changes that stay in the change buffer.
func openPending(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	run := func(statements ...string) {
		c := s.Conn(t)
		for _, q := range statements {
			if _, err := c.ExecContext(t.Context(), q); err != nil {
				t.Fatalf("%s: %s: %v", s.Root.Name, q, err)
			}
		}
	}
	s.Exec(t, "UPDATE t.same SET b = 'done' WHERE a = 3", "DELETE FROM t.same WHERE a = 4")
	run("XA START 'global','branch',7", "INSERT INTO t.prepared VALUES (1000, 'x', 'y', 1000)", "UPDATE t.prepared SET b = 'z' WHERE a = 1", "DELETE FROM t.prepared WHERE a = 7",
		"XA END 'global','branch',7", "XA PREPARE 'global','branch',7")
	run("BEGIN", "INSERT INTO t.inserted SELECT a + 1000, b, c, u + 1000 FROM t.same",
		"UPDATE t.updated SET b = REPEAT('l', 399)", "UPDATE t.updated SET b = 's', c = REPEAT('v', IF(a % 3 = 0, 30000, 3)) WHERE a % 2 = 0", "UPDATE t.updated SET a = a + 5000 WHERE a % 5 = 0",
		"DELETE FROM t.deleted WHERE a % 3 <> 0")
	run("BEGIN", "DELETE FROM t.mixed WHERE a < 300", "INSERT INTO t.mixed SELECT a, 'again', c, u FROM t.same WHERE a < 200", "UPDATE t.mixed SET u = u + 1000 ORDER BY a DESC",
		"SAVEPOINT p", "DELETE FROM t.mixed WHERE a > 250", "ROLLBACK TO p", "DELETE FROM t.part WHERE a BETWEEN 190 AND 210", "INSERT INTO t.part VALUES (999, 'p', 'q', 3)")
	s.Exec(t, "INSERT INTO t.cold SELECT a + 100000, SHA2(RAND(), 224), 'c', u + 100000 FROM t.cold LIMIT 3000", "DELETE FROM t.cold WHERE a % 97 = 0")
}

// pendingTable describes a table of the test for package committed.
func pendingTable(t *testing.T, s *mysqldtest.Server, name string) committed.Table {
	t.Helper()
	view := "INNODB_SYS_TABLES"
	if !s.Root.MariaDB() && s.Root.AtLeast(8, 0) {
		view = "INNODB_TABLES"
	}
	of := committed.Table{Name: "t." + name}
	for _, row := range s.Rows(t, "SELECT TABLE_ID, SPACE FROM information_schema."+view+" WHERE NAME = ? OR NAME LIKE ?", "t/"+name, "t/"+name+"#%") {
		var id uint64
		var space innodb.SpaceID
		if _, err := fmt.Sscan(row[0]+" "+row[1], &id, &space); err != nil {
			t.Fatal(err)
		}
		of.IDs, of.Spaces = append(of.IDs, id), append(of.Spaces, space)
	}
	if len(of.IDs) == 0 {
		t.Fatalf("there is no table %s", name)
	}
	return of
}

// read reads the state of a directory.
func readState(t *testing.T, root *mysqldtest.Root, dir string) func() (*committed.State, error) {
	return func() (*committed.State, error) { return committed.Read(undoSpaces(t, dir), versionID(t, root)) }
}

// importFrom imports a table that was exported to a directory into the database u of a server;
// rebuild: see export.Written.
func importFrom(t *testing.T, s *mysqldtest.Server, dir, name string, rebuild bool) {
	t.Helper()
	spaces := tablespaces(t, dir, []string{name})[name]
	tables := ""
	if spaces[0] != name {
		tables = " PARTITION ALL"
	}
	create := strings.Replace(s.Rows(t, "SHOW CREATE TABLE t."+name)[0][1], "CREATE TABLE `", "CREATE TABLE u.`", 1)
	s.Exec(t, create, "ALTER TABLE u."+name+" DISCARD"+tables+" TABLESPACE")
	for _, space := range spaces {
		for _, ext := range []string{".ibd", ".cfg"} {
			if err := mysqldtest.CopyFile(filepath.Join(s.Datadir, "u", space+ext), filepath.Join(dir, "t", space+ext)); err != nil {
				t.Fatal(err)
			}
		}
	}
	conn := s.Conn(t)
	if _, err := conn.ExecContext(t.Context(), "ALTER TABLE u."+name+" IMPORT"+tables+" TABLESPACE"); err != nil {
		t.Errorf("%s: importing %s: %v", s.Root.Name, name, err)
		return
	}
	var level, code, text string
	if err := conn.QueryRowContext(t.Context(), "SHOW WARNINGS").Scan(&level, &code, &text); err == nil && (!rebuild || code != "1817") {
		t.Errorf("%s: importing %s: %s %s", s.Root.Name, name, code, text)
	}
	if rebuild {
		s.Exec(t, "ALTER TABLE u."+name+" FORCE")
	}
}

// equalTables compares a table in u with that in t, also by its secondary indexes.
func equalTables(t *testing.T, s *mysqldtest.Server, name string) {
	t.Helper()
	if check := s.Rows(t, "CHECK TABLE u."+name+" EXTENDED"); check[0][3] != "OK" {
		t.Errorf("%s: %s: %v", s.Root.Name, name, check)
	}
	want, got := sortedRows(t, s, "t."+name), sortedRows(t, s, "u."+name)
	if !slices.Equal(want, got) {
		t.Errorf("%s: %s: %d rows, not %d: %.300q, not %.300q", s.Root.Name, name, len(got), len(want), got, want)
	}
	byKey := "SELECT COUNT(*), SUM(CRC32(CONCAT(a, b))) FROM %s FORCE INDEX (b) WHERE b >= ''"
	if want, got := s.Rows(t, fmt.Sprintf(byKey, "t."+name)), s.Rows(t, fmt.Sprintf(byKey, "u."+name)); !slices.Equal(want[0], got[0]) {
		t.Errorf("%s: %s: by its index %v, not %v", s.Root.Name, name, got, want)
	}
}

// rolledBack waits until a server that started on a backup has rolled back what was open, and
// rolls back what was prepared.
func rolledBack(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	for _, row := range s.Rows(t, "XA RECOVER") {
		var global, branch int
		if _, err := fmt.Sscan(row[1]+" "+row[2], &global, &branch); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, fmt.Sprintf("XA ROLLBACK '%s','%s',%s", row[3][:global], row[3][global:], row[0]))
	}
	mysqldtest.Await(t, "the server rolls back", func() bool {
		// The server answers from a list that it does not make again for somebody who asks
		// within 100 ms (trx0i_s.cc of 9.7.2, CACHE_MIN_IDLE_TIME).
		time.Sleep(200 * time.Millisecond)
		return s.Value(t, "SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_mysql_thread_id = 0") == "0"
	})
}

// openTables opens a recovered directory, and finds tables in it.
func openTables(t *testing.T, dir string, names []string, o export.Options) (*export.Directory, []*export.Table) {
	t.Helper()
	d, err := export.OpenDirectory(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	all, err := d.Tables()
	if err != nil {
		t.Fatal(err)
	}
	var chosen []*export.Table
	for _, name := range names {
		i := slices.IndexFunc(all, func(of *export.Table) bool { return of.Database == "t" && of.Name == name })
		if i < 0 {
			t.Fatalf("%s has no table %s", dir, name)
		}
		chosen = append(chosen, all[i])
	}
	return d, chosen
}

// exportTo exports tables to a new directory.
func exportTo(t *testing.T, d *export.Directory, tables []*export.Table) (dir string, written map[string]*export.Written) {
	t.Helper()
	to, err := disk.OS.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	written = map[string]*export.Written{}
	for _, of := range tables {
		w, err := d.Write(t.Context(), of, to)
		if err != nil {
			t.Fatal(err)
		}
		written[of.Name] = w
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return to.Name(), written
}

// TestCommitted: what is pending in a backup is what transactions did to each table, and none
// of it is in the tables that are imported after a server of the series finished it: they have
// the rows of the whole backup, restored.
func TestCommitted(t *testing.T) {
	mysqldtest.Each(t, allServers, func(t *testing.T, root *mysqldtest.Root) {
		// With the binary log, that of 9.7 is in the backup, for the server to look into.
		o := mysqldtest.Options{Config: buffering, Binlog: root.Name == mysqldtest.MySQL97}
		s := makePending(t, root, o)
		openPending(t, s)
		var tables []committed.Table
		names := slices.DeleteFunc(slices.Clone(pendingTables), func(name string) bool { return name == "part" && (root.MariaDB() || !root.AtLeast(5, 7)) })
		for _, name := range names {
			tables = append(tables, pendingTable(t, s, name))
		}
		part := recoveredOf(t, s, scope.Options{Databases: []string{"t"}})
		whole := recoveredOf(t, s, scope.Options{})
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		comparePending(t, root, part, tables, true)
		comparePending(t, root, whole, tables, false) // the server makes buffered changes all the time
		server := committed.Server{Program: root.Tool("mysqld").Path, Timeout: 5 * time.Minute}
		for _, l := range root.Lines() {
			server.Options = append(server.Options, "--"+l)
		}
		begin := time.Now()
		d, chosen := openTables(t, part, names, export.Options{})
		for i, of := range chosen {
			if got, err := d.Committed(of); err != nil || !slices.Equal(slices.Sorted(slices.Values(got.IDs)), slices.Sorted(slices.Values(tables[i].IDs))) ||
				!slices.Equal(slices.Sorted(slices.Values(got.Spaces)), slices.Sorted(slices.Values(tables[i].Spaces))) {
				t.Errorf("%s: %+v, not %+v: %v", root.Name, got, tables[i], err)
			}
		}
		done, err := d.Finish(t.Context(), &server, chosen...)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := export.OpenDirectory(part, export.Options{}); err == nil {
			t.Errorf("%s: a directory on which a server has run is taken for a recovered one", root.Name)
		}
		d, chosen = openTables(t, part, names, export.Options{Served: true})
		if err := d.Check(chosen...); err != nil {
			t.Error(err)
		}
		out, _ := exportTo(t, d, chosen)
		t.Logf("%s: finished in %v", root.Name, time.Since(begin))
		if logs, err := filepath.Glob(filepath.Join(part, "binlog.0*")); err != nil || o.Binlog && len(logs) < 2 {
			t.Errorf("%s: the server did not go on with the binary log: %q, %v", root.Name, logs, err)
		}
		if len(done.RolledBack) != 1 || committed.XAName(done.RolledBack[0]) != "'global','branch',7" {
			t.Errorf("%s: %d XA transactions were rolled back", root.Name, len(done.RolledBack))
		}
		r := mysqldtest.StartOn(t, root, whole, mysqldtest.Options{})
		rolledBack(t, r)
		r.Exec(t, "CREATE DATABASE u")
		for _, name := range names {
			importFrom(t, r, out, name, false)
			equalTables(t, r, name)
		}
		if n := r.Value(t, "SELECT COUNT(*) FROM u.updated WHERE a <= 512 AND LEFT(b, 56) = CONVERT(SHA2(a, 224) USING latin1)"); n != "512" {
			t.Errorf("%s: %s of 512 rows are those of before", root.Name, n)
		}
	})
}

// patched is a program that says that it is a later version of a server's series.
func patched(t *testing.T, root *mysqldtest.Root) string {
	t.Helper()
	parts := strings.SplitN(root.Version, ".", 3)
	version := parts[0] + "." + parts[1] + ".99"
	if root.MariaDB() {
		version += "-MariaDB"
	}
	file := filepath.Join(t.TempDir(), "mysqld")
	if err := os.WriteFile(file, []byte("#!/bin/sh\necho 'mysqld  Ver "+version+" for Linux'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestFinishWhole: on a whole backup a server ends what was open, and prepared XA transactions
// stay for their coordinator.
func TestFinishWhole(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MySQL57, mysqldtest.MariaDB1011}, func(t *testing.T, root *mysqldtest.Root) {
		s := makePending(t, root, mysqldtest.Options{Config: []string{"loose-innodb-change-buffering=none"}})
		openPending(t, s)
		mixed, prepared := pendingTable(t, s, "mixed"), pendingTable(t, s, "prepared")
		dir := recoveredOf(t, s, scope.Options{})
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		server := committed.Server{Program: root.Tool("mysqld").Path, Whole: true}
		for _, l := range root.Lines() {
			server.Options = append(server.Options, "--"+l)
		}
		read := readState(t, root, dir)
		if done, err := server.Finish(t.Context(), dir, read, prepared); err != nil || done.Served() {
			t.Errorf("%s: only for a prepared one: %+v, %v", root.Name, done, err)
		}
		done, err := server.Finish(t.Context(), dir, read, mixed, prepared)
		if err != nil || !done.Served() || len(done.RolledBack) != 0 {
			t.Fatalf("%s: %+v, %v", root.Name, done, err)
		}
		state, err := read()
		if err != nil {
			t.Fatal(err)
		}
		pending, ok := errors.AsType[*committed.PendingError](state.Check(prepared))
		if err := state.Check(mixed); err != nil || !ok || len(pending.Tables[0].XA()) != 1 {
			t.Errorf("%s: %v, %v", root.Name, err, pending)
		}
	})
}

// TestUndoMissing: without one of the undo tablespaces nobody knows what was not committed.
func TestUndoMissing(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE t", "CREATE TABLE t.same (a INT PRIMARY KEY)", "CREATE UNDO TABLESPACE third ADD DATAFILE 'third.ibu'")
	dir := recoveredOf(t, s, scope.Options{})
	d, tables := openTables(t, dir, []string{"same"}, export.Options{})
	if err := d.Check(tables...); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "third.ibu")); err != nil {
		t.Fatal(err)
	}
	d, tables = openTables(t, dir, []string{"same"}, export.Options{})
	if _, ok := errors.AsType[*backupdir.MissingError](d.Check(tables...)); !ok {
		t.Errorf("%v", d.Check(tables...))
	}
}

// comparePending compares what is pending in a directory with what was done; buffered: changes
// were buffered just before.
func comparePending(t *testing.T, root *mysqldtest.Root, dir string, tables []committed.Table, buffered bool) {
	t.Helper()
	state, err := readState(t, root, dir)()
	if err != nil {
		t.Fatal(err)
	}
	buffers := !root.MariaDB() || !root.AtLeast(11, 0)
	// 511 inserts; 512 and 256 updates, and 102 rows of another key, deleted and inserted; 342
	// deletions; 299, 198 inserts, 411 updates, and nothing of what was rolled back.
	want := map[string]string{
		"t.inserted": "open 511", "t.updated": "open 972", "t.deleted": "open 342", "t.mixed": "open 908",
		"t.prepared": "prepared as XA 'global','branch',7 3", "t.part": "open 22", "t.same": "", "t.cold": "",
	}
	changes := regexp.MustCompile(`transaction [0-9]+ was (.*), with ([0-9]+) changes of the table$`)
	for _, of := range tables {
		pending, _ := errors.AsType[*committed.PendingError](state.Check(of))
		got := ""
		if pending != nil {
			for _, x := range pending.Tables[0].Transactions {
				got += changes.ReplaceAllString(x.String(), "$1 $2")
			}
			if b := pending.Tables[0].Buffered; of.Name == "t.cold" && (b > 0 && !buffers || b == 0 && buffers && buffered) {
				t.Errorf("%s: %s has %d buffered changes", root.Name, of.Name, b)
			} else {
				t.Logf("%s: %v", root.Name, pending)
			}
		} else if of.Name == "t.cold" && buffers && buffered {
			t.Errorf("%s: %s has no buffered changes", root.Name, of.Name)
		}
		if got != want[of.Name] {
			t.Errorf("%s: %s: %q, not %q", root.Name, of.Name, got, want[of.Name])
		}
	}
}

// TestFinishRefused: what a server did not finish is found out, whatever it says; servers of
// other series, and those that do not start or end in time, are errors that show their log.
func TestFinishRefused(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MySQL97, mysqldtest.MariaDB1011}, func(t *testing.T, root *mysqldtest.Root) {
		s := makePending(t, root, mysqldtest.Options{})
		openPending(t, s)
		of := pendingTable(t, s, "mixed")
		dir := recoveredOf(t, s, scope.Options{Databases: []string{"t"}})
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		other, series := mysqldtest.Need(t, mysqldtest.MySQL57), "5.7.29"
		if root.MariaDB() {
			other, series = mysqldtest.Need(t, mysqldtest.MariaDB118), "11.8"
		}
		program, log := root.Tool("mysqld").Path, "its error log ends with"
		for _, test := range []struct {
			name   string
			server committed.Server
			wants  []string
		}{
			{"another series", committed.Server{Program: other.Tool("mysqld").Path}, []string{series, "use a server of the series"}},
			{"no server", committed.Server{Program: filepath.Join(t.TempDir(), "none")}, []string{"does not say its version"}},
			{"no server at all", committed.Server{Program: "/bin/true"}, []string{"does not say its version"}},
			{"an option that it does not know", committed.Server{Program: program, Options: []string{"--no-such-option"}}, []string{"ended before it had started", "no-such-option", log}},
			{"too slow", committed.Server{Program: program, Timeout: time.Millisecond}, []string{"not done in 1ms (--server-timeout)"}},
			{"another version on a whole backup", committed.Server{Program: patched(t, root), Whole: true}, []string{"use a server of just that version"}},
			{"no rollback", committed.Server{Program: program, Options: []string{"--innodb-force-recovery=3"}}, []string{"did not finish everything", "t.mixed has more, or less", "was open, with 908 changes"}},
		} {
			for _, l := range root.Lines() {
				test.server.Options = append(test.server.Options, "--"+l)
			}
			copied := filepath.Join(t.TempDir(), "copy")
			if err := mysqldtest.CopyTree(copied, dir); err != nil {
				t.Fatal(err)
			}
			_, err := test.server.Finish(t.Context(), copied, readState(t, root, copied), of)
			if _, ok := errors.AsType[*committed.ServerError](err); !ok {
				t.Errorf("%s: %v", test.name, err)
				continue
			}
			for _, want := range test.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %v", test.name, err)
				}
			}
			// Where a server was at work, nothing more is done.
			test.server = committed.Server{Program: program}
			_, again := test.server.Finish(t.Context(), copied, func() (*committed.State, error) { return readState(t, root, dir)() }, of)
			if _, ok := errors.AsType[*backupdir.NotBackupError](again); ok == (test.name == "another series" || strings.HasPrefix(test.name, "another version") || strings.HasPrefix(test.name, "no server")) {
				t.Errorf("%s: again: %v", test.name, again)
			}
			t.Logf("%s: %v", root.Name, err)
		}
	})
}
