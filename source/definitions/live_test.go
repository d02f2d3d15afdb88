package definitions

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/source/datadir"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/spool"
	"hb/source/stage"
	"hb/source/subject"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

type closer struct{ *bytes.Buffer }

func (closer) Close() error { return nil }

// steps are a recorder's, with what happens between them.
func steps(t *testing.T, s *mysqldtest.Server, before, during, after func(r *Recorder)) *metadata.Definitions {
	t.Helper()
	srv := client.Connect(t, client.Options(s))
	sub, err := subject.New(disk.OS, srv, subject.Options{})
	if err != nil {
		t.Fatal(err)
	}
	list := func() []datadir.File {
		all, err := sub.Layout.List()
		if err != nil {
			t.Fatal(err)
		}
		return all.Others
	}
	st := stage.New(disk.OS, spool.New(disk.OS, t.TempDir(), 1<<20))
	if err := st.CopyAhead(t.Context(), list()); err != nil {
		t.Fatal(err)
	}
	r := New(Options{Server: srv, Disk: disk.OS, Layout: &sub.Layout, Tmpdir: t.TempDir(), Stage: st, Warn: sub.Warn})
	if err := r.Ahead(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	before(r)
	if err := st.Refresh(t.Context(), list(), datadir.IsNoLog); err != nil {
		t.Fatal(err)
	}
	r.Locked(t.Context()) // nobody runs DDL: it is as if the lock were held
	during(r)
	if err := r.Await(); err != nil {
		t.Fatal(err)
	}
	after(r)
	if err := r.After(t.Context()); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := r.Send(t.Context(), func(string) (io.WriteCloser, error) { return closer{&out}, nil }, srv.String()); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	for _, w := range sub.Warnings() {
		t.Logf("warning: %s", w)
	}
	d, err := metadata.ReadDefinitions(&out, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func nothing(*Recorder) {}

// TestLate: with no time under the lock at all, and with a connection that is lost there or
// before, hb records what it can prove, and says that the rest is missing.
func TestLate(t *testing.T) {
	mysqldtest.EachServer(t, append(slices.Clone(mysqldtest.MySQL), mysqldtest.MariaDB...), mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.p (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE d.c (id INT PRIMARY KEY, CONSTRAINT f FOREIGN KEY (id) REFERENCES d.p (id)) ENGINE=InnoDB")
		for i := range 4 {
			s.Exec(t, fmt.Sprintf("CREATE TABLE d.t%d (id INT PRIMARY KEY) ENGINE=InnoDB", i), fmt.Sprintf("CREATE PROCEDURE d.q%d() SELECT 1", i), fmt.Sprintf("CREATE VIEW d.v%d AS SELECT 1 AS a", i),
				fmt.Sprintf("CREATE EVENT d.e%d ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1", i), fmt.Sprintf("CREATE TRIGGER d.g%d BEFORE INSERT ON d.t%d FOR EACH ROW SET @a = 1", i, i))
		}
		time.Sleep(3100 * time.Millisecond)
		times := 0
		change := func(i int) {
			times++
			s.Exec(t, fmt.Sprintf("ALTER TABLE d.t%d COMMENT 'changed%d'", i, times), fmt.Sprintf("DROP PROCEDURE d.q%d", i), fmt.Sprintf("CREATE PROCEDURE d.q%d() SELECT 'changed'", i),
				fmt.Sprintf("ALTER VIEW d.v%d AS SELECT 'changed' AS a", i), fmt.Sprintf("ALTER EVENT d.e%d COMMENT 'changed'", i), fmt.Sprintf("DROP TRIGGER d.g%d", i),
				fmt.Sprintf("CREATE TRIGGER d.g%d BEFORE INSERT ON d.t%d FOR EACH ROW SET @a = 'changed'", i, i))
		}
		// says is what is recorded: "old", "new", or why not.
		says := func(d *metadata.Definition) string {
			switch {
			case d == nil:
				return "none"
			case d.Missing != "":
				return "missing"
			case strings.Contains(d.Create, "changed"):
				return "new"
			}
			return "old"
		}
		files := s.Root.MariaDB() || !s.Root.AtLeast(8, 0)
		check := func(what string, d *metadata.Definitions, i int, want map[metadata.DefinitionKind]string) {
			t.Helper()
			for kind, name := range map[metadata.DefinitionKind]string{"table": "t", "procedure": "q", "view": "v", "event": "e", "trigger": "g"} {
				got := says(d.Find(kind, "d", fmt.Sprintf("%s%d", name, i)))
				if kind == "table" && !files {
					continue
				}
				if !strings.Contains(want[kind], got) {
					t.Errorf("%s: %s %s%d is %s, want %s: %+v", what, kind, name, i, got, want[kind], d.Find(kind, "d", fmt.Sprintf("%s%d", name, i)))
				}
			}
		}
		all := func(w string) map[metadata.DefinitionKind]string {
			return map[metadata.DefinitionKind]string{"table": w, "procedure": w, "view": w, "event": w, "trigger": w}
		}
		kill := func(r *Recorder) {
			s.Exec(t, "KILL "+r.conn.ID)
			r.budget = time.Minute
		}
		for what, hurt := range map[string]func(r *Recorder){"no time": func(r *Recorder) { r.budget = 0 }, "a lost connection": kill} {
			d := steps(t, s, hurt, nothing, nothing)
			check(what+", nothing changes", d, 0, all("old"))
			if c := d.Find("table", "d", "c"); files && says(c) != "old" {
				t.Errorf("%s: the child is %s", what, says(c))
			}
			// Files are known under the lock: what changed before is asked for after it.
			d = steps(t, s, func(r *Recorder) { change(1); time.Sleep(150 * time.Millisecond); hurt(r) }, nothing, nothing)
			want := all("missing")
			if files {
				want["table"], want["view"], want["trigger"] = "new", "new", "new"
			}
			check(what+", changed before the lock", d, 1, want)
			again := steps(t, s, func(r *Recorder) { change(0); time.Sleep(150 * time.Millisecond); hurt(r) }, nothing, func(*Recorder) { change(0) })
			check(what+", changed before the lock and after it", again, 0, all("missing none")) // what it is may not be known
			d = steps(t, s, func(r *Recorder) { change(1); time.Sleep(150 * time.Millisecond); hurt(r) }, nothing, nothing)
			check(what+", others change before the lock", d, 3, map[metadata.DefinitionKind]string{"table": "old", "procedure": map[bool]string{true: "old", false: "missing"}[files], "event": "old", "trigger": "old", "view": map[bool]string{true: "old", false: "missing"}[files]})
			// What changes after the lock is as before in the backup.
			d = steps(t, s, hurt, nothing, func(*Recorder) { change(2) })
			if files {
				want["table"], want["view"], want["trigger"] = "old", "old", "old"
			}
			check(what+", changed after the lock", d, 2, want)
			// Dropped after the lock: the backup has it.
			d = steps(t, s, hurt, nothing, func(*Recorder) { s.Exec(t, "DROP PROCEDURE d.q3", "DROP VIEW d.v3") })
			if got := says(d.Find("procedure", "d", "q3")); got != "missing" {
				t.Errorf("%s: a procedure that was dropped after the lock is %s", what, got)
			}
			s.Exec(t, "CREATE PROCEDURE d.q3() SELECT 1", "CREATE VIEW d.v3 AS SELECT 1 AS a")
			for i := range 4 {
				s.Exec(t, fmt.Sprintf("DROP TABLE d.t%d", i), fmt.Sprintf("CREATE TABLE d.t%d (id INT PRIMARY KEY) ENGINE=InnoDB", i), fmt.Sprintf("DROP PROCEDURE d.q%d", i), fmt.Sprintf("CREATE PROCEDURE d.q%d() SELECT 1", i),
					fmt.Sprintf("ALTER VIEW d.v%d AS SELECT 1 AS a", i), fmt.Sprintf("ALTER EVENT d.e%d COMMENT 'x'", i), fmt.Sprintf("CREATE TRIGGER d.g%d BEFORE INSERT ON d.t%d FOR EACH ROW SET @a = 1", i, i))
			}
			time.Sleep(3100 * time.Millisecond)
		}
	})
}

// TestParents: a table that foreign keys refer to is renamed and renamed back, which changes
// the definition of the table that has them, and not its file: hb asks again under the lock,
// or says that the definition is missing. Parents that change nothing cost nothing.
func TestParents(t *testing.T) {
	servers := append([]string{mysqldtest.MySQL56, mysqldtest.MySQL57}, mysqldtest.MariaDB...)
	mysqldtest.EachServer(t, servers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE DATABASE e", "CREATE TABLE e.`p-ü` (id INT PRIMARY KEY, a INT, b INT, KEY (a, b)) ENGINE=InnoDB",
			"CREATE TABLE d.c (id INT PRIMARY KEY, a INT, b INT, CONSTRAINT f FOREIGN KEY (a, b) REFERENCES e.`p-ü` (a, b)) ENGINE=InnoDB")
		time.Sleep(200 * time.Millisecond)
		child := func(budget time.Duration, before func()) *metadata.Definition {
			return steps(t, s, func(r *Recorder) { r.budget = budget; before() }, nothing, nothing).Find("table", "d", "c")
		}
		want := s.Rows(t, "SHOW CREATE TABLE d.c")[0][1]
		for _, budget := range []time.Duration{0, time.Minute} {
			if d := child(budget, func() {}); d == nil || d.Create != want {
				t.Errorf("nothing changes: %+v", d)
			}
			s.Exec(t, "RENAME TABLE e.`p-ü` TO d.other")
			time.Sleep(200 * time.Millisecond)
			d := child(budget, func() { s.Exec(t, "RENAME TABLE d.other TO e.`p-ü`"); time.Sleep(200 * time.Millisecond) })
			if d == nil || d.Create != want && (d.Create != "" || budget > 0) {
				t.Errorf("renamed, with %v: %+v", budget, d)
			}
		}
	})
}
