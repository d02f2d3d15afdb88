package tables_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hb/sink"
	"hb/sink/backupdir"
	"hb/sink/export"
	"hb/sink/export/committed"
	"hb/sink/extract"
	"hb/sink/restore"
	"hb/sink/tables"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/stream"
	"hb/stream/disk"
	"hb/stream/progress"
)

// extracted extracts tables of an archive.
func extracted(t *testing.T, archive string, server committed.Server, names ...tables.Name) (dir string, _ *tables.Result, _ error) {
	t.Helper()
	in, err := (&stream.ReadFlags{Archive: archive}).OpenParts(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	dir = filepath.Join(t.TempDir(), "out")
	s, err := tables.Select(names, in.Parts, server.Program != "")
	if err != nil {
		return dir, nil, err
	}
	var archiveReader io.Reader
	if in.Parts == nil {
		archiveReader = in
	}
	r, err := tables.Extract(t.Context(), archiveReader, s, tables.Options{Options: sink.Options{Directory: dir, Parts: in.Parts, Tool: "hb", Progress: new(progress.Tracker)}, Server: &server})
	return dir, r, err
}

// names are the files in a directory, and below it.
func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			out = append(out, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return out
}

// brought imports a table that was extracted to dir into the database u of a server that has it
// in d.
func brought(t *testing.T, s *mysqldtest.Server, dir, name string) {
	t.Helper()
	s.Exec(t, "CREATE TABLE u."+name+" LIKE d."+name)
	innodb := slices.Contains(names(t, dir), "d/"+name+".ibd")
	if innodb {
		s.Exec(t, "ALTER TABLE u."+name+" DISCARD TABLESPACE")
	} else {
		s.Exec(t, "FLUSH TABLES u."+name)
	}
	for _, file := range names(t, filepath.Join(dir, "d")) {
		if strings.HasPrefix(file, name+".") {
			if err := os.RemoveAll(filepath.Join(s.Datadir, "u", file)); err != nil {
				t.Fatal(err)
			}
			if err := mysqldtest.CopyFile(filepath.Join(s.Datadir, "u", file), filepath.Join(dir, "d", file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if innodb {
		s.Exec(t, "ALTER TABLE u."+name+" IMPORT TABLESPACE")
	} else {
		s.Exec(t, "FLUSH TABLES u."+name)
	}
	if c := s.Rows(t, "CHECK TABLE u."+name+" EXTENDED"); c[len(c)-1][3] != "OK" {
		t.Errorf("%s: %v", s.Root.Name, c)
	}
}

// TestExtract: tables of a backup are imported as they were when it was made. Those in which a
// transaction was open are refused, unless a server rolls it back; then nothing of it is in them.
// Nothing is left of the directory in which all that is done, and what failed is marked.
func TestExtract(t *testing.T) {
	mysqldtest.Each(t, allServers, func(t *testing.T, root *mysqldtest.Root) {
		away := t.TempDir()
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"loose-innodb-directories=" + away}})
		s.Exec(t, "CREATE DATABASE d", "CREATE DATABASE u", "CREATE DATABASE left_out")
		for name, options := range map[string]string{"away": "ENGINE=InnoDB DATA DIRECTORY='" + away + "'", "plain": "ENGINE=InnoDB", "zip": "ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4", "busy": "ENGINE=InnoDB", "my": "ENGINE=MyISAM"} {
			s.Exec(t, "CREATE TABLE d."+name+" (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(300), c LONGTEXT, KEY (b(50))) "+options, "INSERT INTO d."+name+" (b, c) VALUES ('"+name+"', REPEAT('c', 20000))")
			for range 8 {
				s.Exec(t, "INSERT INTO d."+name+" (b, c) SELECT CONCAT(b, a), IF(a % 9, 'short', c) FROM d."+name)
			}
		}
		s.Exec(t, "CREATE TABLE left_out.busy LIKE d.busy", "INSERT INTO left_out.busy SELECT * FROM d.busy", "CREATE VIEW d.seen AS SELECT 1 AS a")
		want := map[string]string{}
		for _, name := range []string{"plain", "zip", "busy", "my", "away"} {
			want[name] = s.Rows(t, "CHECKSUM TABLE d."+name)[0][1]
		}
		open := s.Conn(t)
		for _, q := range []string{"BEGIN", "UPDATE d.busy SET b = REPEAT('u', 250) WHERE a % 3 = 0", "DELETE FROM d.busy WHERE a % 5 = 0", "INSERT INTO d.busy (b) SELECT b FROM d.plain", "UPDATE left_out.busy SET b = 'x'"} {
			if _, err := open.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		s.WriteOut(t)
		archive, _ := backup(t, s, source.Options{}, 0, nil)
		if found, err := filepath.Glob(filepath.Join(away, "d", "away.ibd")); err != nil || len(found) != 1 {
			t.Errorf("%s: d.away is not elsewhere: %v", s.Root.Name, err)
		}
		if _, err := open.ExecContext(t.Context(), "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
		table := func(name string) tables.Name { return tables.Name{Database: "d", Table: name} }
		full, err := spaceOf(t, archive, table("plain"))
		if !errors.Is(err, syscall.ENOSPC) || names(t, full) != nil {
			t.Errorf("%s: without space: %v, %q", s.Root.Name, err, names(t, full))
		}
		quiet := []string{"plain", "zip", "my", "away"}
		dir, r, err := extracted(t, archive, committed.Server{}, table("plain"), table("zip"), table("my"), table("away"))
		if err != nil {
			t.Fatalf("%s: %v", s.Root.Name, err)
		}
		for _, name := range quiet {
			brought(t, s, dir, name)
			if sum := s.Rows(t, "CHECKSUM TABLE u."+name)[0][1]; sum != want[name] {
				t.Errorf("%s: %s has checksum %s, not %s", s.Root.Name, name, sum, want[name])
			}
		}
		t.Logf("%s: %s: %q", s.Root.Name, r.Describe(dir, time.Second), names(t, dir))
		for _, name := range names(t, dir) {
			if !strings.HasPrefix(name, "d/") && name != restore.ScriptName {
				t.Errorf("%s: %s is left", s.Root.Name, name)
			}
		}
		for _, c := range []tables.Name{table("busy"), {Database: "d"}} {
			dir, r, err := extracted(t, archive, committed.Server{}, c)
			if err == nil && s.Root.Name != mysqldtest.MySQL56 { // hb has rolled back itself
				if n := slices.IndexFunc(r.Tables, func(w *export.Written) bool { return w.RolledBack != nil }); n < 0 || r.Tables[n].Table.Name != "busy" {
					t.Errorf("%s: %v: nothing was rolled back", s.Root.Name, c)
				}
				brought(t, s, dir, "busy")
				if sum := s.Rows(t, "CHECKSUM TABLE u.busy")[0][1]; sum != want["busy"] {
					t.Errorf("%s: busy has checksum %s, not %s", s.Root.Name, sum, want["busy"])
				}
				s.Exec(t, "DROP TABLE u.busy")
				continue
			}
			pending, ok := errors.AsType[*committed.PendingError](err)
			if !ok || len(pending.Tables) != 1 || pending.Tables[0].Table != "d.busy" {
				t.Errorf("%s: %v: %v", s.Root.Name, c, err)
			}
			if left := names(t, dir); !slices.Equal(left, []string{backupdir.MarkerName}) {
				t.Errorf("%s: %q is left", s.Root.Name, left)
			}
			if _, err := extract.Open(nil, dir); !isTarget(err, "left from an extract that did not finish") {
				t.Errorf("%s: %v", s.Root.Name, err)
			}
		}
		program := committed.Server{Program: s.Root.Tool("mysqld").Path}
		for _, l := range s.Root.Lines() {
			program.Options = append(program.Options, "--"+l)
		}
		if dir, r, err = extracted(t, archive, program, table("busy")); err != nil {
			t.Fatalf("%s: %v", s.Root.Name, err)
		}
		if r.Finished == nil || len(r.Finished.Tables) != 1 {
			t.Errorf("%s: the server finished %+v", s.Root.Name, r.Finished)
		}
		brought(t, s, dir, "busy")
		if sum := s.Rows(t, "CHECKSUM TABLE u.busy")[0][1]; sum != want["busy"] {
			t.Errorf("%s: busy has checksum %s, not %s", s.Root.Name, sum, want["busy"])
		}
		if dir, _, err = extracted(t, archive, committed.Server{}, table("seen")); err == nil {
			t.Errorf("%s: a view gives %q", s.Root.Name, names(t, dir))
		}
	})
}

// spaceOf extracts a table to a directory in which a little less is free than the table takes.
func spaceOf(t *testing.T, archive string, name tables.Name) (dir string, err error) {
	t.Helper()
	in, err := (&stream.ReadFlags{Archive: archive}).OpenParts(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	s, err := tables.Select([]tables.Name{name}, in.Parts, false)
	if err != nil {
		t.Fatal(err)
	}
	if s.Bytes() < 1<<16 {
		t.Errorf("%v has %d bytes", name, s.Bytes())
	}
	above := t.TempDir()
	dir = filepath.Join(above, "new", "out")
	_, err = tables.Extract(t.Context(), nil, s, tables.Options{Options: sink.Options{Directory: dir, Parts: in.Parts, Tool: "hb", Progress: new(progress.Tracker)}, Server: &committed.Server{},
		Free: func(dir string) (int64, error) {
			if dir != above {
				t.Errorf("looked for space in %s", dir)
			}
			return s.Bytes() - 1, nil
		}})
	return dir, err
}

func isTarget(err error, what string) bool {
	_, ok := errors.AsType[*backupdir.TargetError](err)
	return ok && strings.Contains(err.Error(), what)
}

// TestPeer: of an archive of mariadb-backup, which is read from front to back, a table has the rows
// of its server; what other tables the redo log changes does not matter.
func TestPeer(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE DATABASE u", "CREATE DATABASE other")
		for _, name := range []string{"d.plain", "d.left", "other.left"} {
			s.Exec(t, "CREATE TABLE "+name+" (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(300), KEY (b)) ENGINE=InnoDB", "INSERT INTO "+name+" (b) VALUES ('x')")
			for range 10 {
				s.Exec(t, "INSERT INTO "+name+" (b) SELECT CONCAT(b, a) FROM "+name)
			}
		}
		s.WriteOut(t)
		s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct = 90", "UPDATE d.plain SET b = 'late' WHERE a % 3 = 0", "UPDATE other.left SET b = 'late'", "UPDATE d.left SET b = 'late'")
		dir := t.TempDir()
		archive := filepath.Join(dir, "archive")
		out, err := os.Create(archive)
		if err != nil {
			t.Fatal(err)
		}
		var errs bytes.Buffer
		cmd := s.Root.Tool("mariadb-backup", "--defaults-file="+s.DefaultsFile, "--backup", "--stream=xbstream", "--target-dir="+dir)
		cmd.Stdout, cmd.Stderr = out, &errs
		if err := errors.Join(cmd.Run(), out.Close()); err != nil {
			t.Fatalf("mariadb-backup: %v\n%s", err, errs.Bytes()[max(0, errs.Len()-4000):])
		}
		to, r, err := extracted(t, archive, committed.Server{}, tables.Name{Database: "d", Table: "plain"})
		refused, ok := errors.AsType[*tables.RefusedError](err)
		if !ok || len(refused.Refused) != 1 || !strings.Contains(err.Error(), "has no CREATE TABLE for it: the backup has no definitions") {
			t.Fatalf("%s: %v", s.Root.Name, err)
		}
		if w := r.Warnings(); !r.Extracted.Foreign || len(w) != 1 || !strings.Contains(w[0], "cannot be proven") {
			t.Errorf("%s: %q", s.Root.Name, w)
		}
		brought(t, s, to, "plain")
		if want, got := s.Rows(t, "CHECKSUM TABLE d.plain")[0][1], s.Rows(t, "CHECKSUM TABLE u.plain")[0][1]; got != want {
			t.Errorf("%s: checksum %s, not %s", s.Root.Name, got, want)
		}
		_, _, err = extracted(t, archive, committed.Server{}, tables.Name{Database: "d", Table: "plane"})
		if e, ok := errors.AsType[*tables.NotFoundError](err); !ok || !slices.Equal(e.Near, []string{"d.plain"}) {
			t.Errorf("%s: %v", s.Root.Name, err)
		}
	})
}

// sequences are those of TestDatabase: what is executed with each, and what the next value is.
var sequences = []struct{ name, options, then, next string }{
	{"fresh", "START WITH 5", "DO 0", "5"},
	{"used", "CACHE 10 INCREMENT BY 3", "DO NEXTVAL(e.used), NEXTVAL(e.used)", "31"},
	{"down", "MINVALUE -1000 MAXVALUE -2 START WITH -7 INCREMENT BY -5 NOCACHE", "DO NEXTVAL(e.down)", "-12"},
	{"back", "START WITH 100 NOCACHE", "ALTER SEQUENCE e.back RESTART WITH 3", "3"},
	{"ended", "MAXVALUE 2 NOCACHE", "DO NEXTVAL(e.ended), NEXTVAL(e.ended)", ""},
	{"round", "MINVALUE 4 MAXVALUE 5 NOCACHE CYCLE", "DO NEXTVAL(e.round), NEXTVAL(e.round)", "4"},
}

// remakeSequences makes a database of sequences again, and looks which values these give.
func remakeSequences(t *testing.T, s *mysqldtest.Server, dir string, r *tables.Result) {
	t.Helper()
	s.Exec(t, "DROP DATABASE e")
	srv := client.Open(t, s)
	from, err := disk.OS.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	made, err := restore.Into(t.Context(), from, nil, restore.Options{
		Open: func(ctx context.Context) (restore.Connection, error) { return srv.Open(ctx) }, Objects: r.Objects, From: r.From, PageSize: r.PageSize})
	if err := errors.Join(err, from.Close(), srv.Close()); err != nil {
		t.Fatal(err)
	}
	for _, w := range slices.Concat(r.Warnings(), made.Warnings) {
		if strings.Contains(w, "sequence") {
			t.Errorf("%s: %s", s.Root.Name, w)
		}
	}
	script, err := os.ReadFile(filepath.Join(dir, restore.ScriptName))
	if err != nil || !strings.Contains(string(script), "ALTER SEQUENCE `e`.`used` RESTART WITH 31;\n") || !strings.Contains(string(script), "DO SETVAL(`e`.`ended`, 2, 1);\n") {
		t.Errorf("%s: %v\n%s", s.Root.Name, err, script)
	}
	conn := s.Conn(t)
	for _, q := range sequences {
		var next string
		if err := conn.QueryRowContext(t.Context(), "SELECT NEXTVAL(e."+q.name+")").Scan(&next); (err != nil) != (q.next == "") || next != q.next {
			t.Errorf("%s: %s gives %q, not %q: %v", s.Root.Name, q.name, next, q.next, err)
		}
	}
}

// TestDatabase: each table of a database is either extracted, or named as one that cannot be.
// Sequences go on where they were.
func TestDatabase(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE e", "CREATE TABLE e.plain (a INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO e.plain VALUES (1)", "CREATE TABLE e.`in-memory` (a INT) ENGINE=MEMORY",
			"CREATE VIEW e.seen AS SELECT a FROM e.plain", "CREATE TABLE e.my (a INT) ENGINE=MyISAM", "CREATE DATABASE f", "CREATE TABLE f.other (a INT) ENGINE=MEMORY")
		want := []string{"e.in-memory"}
		if s.Root.MariaDB() {
			s.Exec(t, "CREATE TABLE e.ar (a INT) ENGINE=Aria")
			for _, q := range sequences {
				s.Exec(t, "CREATE SEQUENCE e."+q.name+" "+q.options+" ENGINE=InnoDB", q.then)
			}
			want = append(want, "e.ar")
		} else if s.Root.AtLeast(5, 7) {
			s.Exec(t, "CREATE TABLESPACE g ADD DATAFILE 'g.ibd' ENGINE=InnoDB", "CREATE TABLE e.general (a INT PRIMARY KEY) TABLESPACE g")
			want = append(want, "e.general")
		}
		if !s.Root.MariaDB() || !s.Root.AtLeast(11, 0) {
			s.Exec(t, "SET GLOBAL innodb_file_per_table=0", "CREATE TABLE e.insystem (a INT PRIMARY KEY) ENGINE=InnoDB", "SET GLOBAL innodb_file_per_table=1")
			want = append(want, "e.insystem")
		}
		archive, _ := backup(t, s, source.Options{}, 0, nil)
		dir, r, err := extracted(t, archive, committed.Server{}, tables.Name{Database: "e"})
		refused, ok := errors.AsType[*tables.RefusedError](err)
		if !ok || r == nil {
			t.Fatalf("%s: %v", s.Root.Name, err)
		}
		var got []string
		for _, err := range refused.Refused {
			one, ok := errors.AsType[*export.RefusedError](err)
			if !ok {
				t.Errorf("%s: %v", s.Root.Name, err)
				continue
			}
			got = append(got, one.Table)
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: refused are %q, not %q", s.Root.Name, got, want)
		}
		var written []string
		for _, w := range r.Tables {
			written = append(written, w.Table.String())
		}
		if left := names(t, dir); !slices.Equal(written, []string{"e.my", "e.plain"}) || !slices.Contains(left, "e/plain.ibd") || slices.Contains(left, backupdir.MarkerName) {
			t.Errorf("%s: extracted are %q: %q", s.Root.Name, written, left)
		}
		for _, name := range want {
			_, table, _ := strings.Cut(name, ".")
			if dir, _, err := extracted(t, archive, committed.Server{}, tables.Name{Database: "e", Table: table}); err == nil {
				t.Errorf("%s: %s gives %q", s.Root.Name, name, names(t, dir))
			}
		}
		if s.Root.MariaDB() {
			remakeSequences(t, s, dir, r)
		}
	})
}
