package source_test

import (
	"bytes"
	"context"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"hb/source"
	"hb/source/check"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// recordedBy backs s up as a user, and returns what is recorded, and the warnings about that.
func recordedBy(t *testing.T, s *mysqldtest.Server, user string, o source.Options) (all *metadata.Definitions, warnings []string) {
	t.Helper()
	opt := client.Options(s)
	opt.User = user
	srv := client.Connect(t, opt)
	var out bytes.Buffer
	o.Tmpdir, o.Tool, o.ToolVersion = t.TempDir(), "hb", "test"
	r, err := source.Run(t.Context(), srv, &out, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range r.Manifest.Warnings {
		if strings.Contains(w, "definitions") {
			warnings = append(warnings, w)
		}
	}
	text := xbtest.ReadAll(t, bytes.NewReader(out.Bytes()))[metadata.DefinitionsName]
	if text == nil {
		return nil, warnings
	}
	all, err = metadata.ReadDefinitions(bytes.NewReader(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return all, warnings
}

// TestDefinitionsAccount: with the privileges that hb check --grants prints, an account
// records all that root records. Without them the backup is complete, warns once,
// and names what is missing; each privilege that is missing is named only if it is.
func TestDefinitionsAccount(t *testing.T) {
	mysqldtest.EachServer(t, allServers(), mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		kindsOf(t, s)
		s.Exec(t, "CREATE USER few@localhost")
		want, warnings := recordedBy(t, s, "root", source.Options{})
		if len(warnings) > 0 || len(want.Head.Lacking) > 0 {
			t.Fatalf("root: %q", warnings)
		}
		opt := client.Options(s)
		opt.User = "few"
		srv := client.Connect(t, opt)
		grants := func(o source.Options) (out []string) {
			t.Helper()
			o.Tmpdir = t.TempDir()
			out, err := check.MissingGrants(t.Context(), srv, o)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		run := func(statements []string) {
			t.Helper()
			for _, q := range statements {
				s.Exec(t, strings.TrimSuffix(q, ";"))
			}
		}
		o := source.Options{NoDefinitions: true}
		run(grants(o))
		if got := grants(o); len(got) > 0 {
			t.Errorf("without definitions: %q", got)
		}
		if got, warnings := recordedBy(t, s, "few", o); got != nil || len(warnings) > 0 {
			t.Errorf("not asked for: %v, %q", got, warnings)
		}
		o = source.Options{}
		lacking := grants(o)
		got, warnings := recordedBy(t, s, "few", o)
		if len(warnings) != 1 || !strings.Contains(warnings[0], strings.Join(lacking, " ")) || len(got.Of("d")) > 0 && len(got.Head.Lacking) == 0 {
			t.Errorf("lacking %q: %q, %+v", lacking, warnings, got.Head)
		}
		run(lacking)
		t.Logf("granted %q", lacking)
		all, warnings := recordedBy(t, s, "few", o)
		if len(warnings) > 0 {
			t.Errorf("with all: %q", warnings)
		}
		for _, db := range []string{"d", "d-é", "nothing"} {
			a, b := all.Of(db), want.Of(db)
			if len(b) == 0 || !reflect.DeepEqual(a, b) {
				t.Errorf("%s: %d definitions, and %d as root", db, len(a), len(b))
				for i := range min(len(a), len(b)) {
					if !reflect.DeepEqual(a[i], b[i]) {
						t.Errorf("%+v\n%+v", a[i], b[i])
					}
				}
			}
		}
		for privilege, kind := range map[string]metadata.DefinitionKind{"TRIGGER": metadata.DefinesTrigger, "EVENT": metadata.DefinesEvent} {
			s.Exec(t, "REVOKE "+privilege+" ON *.* FROM few@localhost")
			some, warnings := recordedBy(t, s, "few", o)
			if len(warnings) != 1 || !reflect.DeepEqual(some.Head.Lacking, []string{privilege}) || len(some.Of("d", kind)) > 0 || len(some.Of("d", metadata.DefinesProcedure)) == 0 {
				t.Errorf("without %s: %q, %+v", privilege, warnings, some.Head)
			}
			s.Exec(t, "GRANT "+privilege+" ON *.* TO few@localhost")
		}
	})
}

// TestDefinitionsBlocked: a table that DDL keeps locked holds hb up for a second, and is recorded
// when the lock is released.
func TestDefinitionsBlocked(t *testing.T) {
	mysqldtest.EachServer(t, allServers(), mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.aa (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE d.zz (id INT PRIMARY KEY) ENGINE=InnoDB",
			"CREATE TRIGGER d.tr BEFORE INSERT ON d.aa FOR EACH ROW SET @a = 1")
		settle()
		reader, renames := s.Conn(t), s.Conn(t)
		for _, q := range []string{"BEGIN", "SELECT * FROM d.zz"} {
			if _, err := reader.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := renames.ExecContext(t.Context(), "SET lock_wait_timeout = 4"); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		var once sync.Once
		began := time.Now()
		all, warnings := recordedBy(t, s, "root", source.Options{Pace: func(context.Context, int) error {
			once.Do(func() { // it has d.aa, and waits for d.zz
				go func() {
					_, err := renames.ExecContext(context.WithoutCancel(t.Context()), "RENAME TABLE d.aa TO d.ab, d.zz TO d.zy")
					ended <- err
				}()
				mysqldtest.Await(t, "RENAME", func() bool {
					return s.Value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'RENAME%' AND STATE LIKE '%metadata lock%'") == "1"
				})
			})
			return nil
		}})
		if err := <-ended; err == nil || !strings.Contains(err.Error(), "1205") {
			t.Errorf("RENAME: %v", err)
		}
		t.Logf("it took %v", time.Since(began))
		if len(warnings) > 0 {
			t.Errorf("%q", warnings)
		}
		if d := all.Find(metadata.DefinesTrigger, "d", "tr"); d == nil || d.Create == "" || d.Table != "aa" {
			t.Errorf("the trigger: %+v", d)
		}
		if d := all.Find(metadata.DefinesTable, "d", "aa"); all.Head.Tables && (d == nil || d.Create == "") {
			t.Errorf("the table: %+v", d)
		}
	})
}

// TestDefinitionsRefused: a server that refuses a list, as of a damaged table of its own, is
// backed up, and all else is recorded.
func TestDefinitionsRefused(t *testing.T) {
	servers := append([]string{mysqldtest.MySQL56, mysqldtest.MySQL57}, mysqldtest.MariaDB...)
	mysqldtest.EachServer(t, servers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.a (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE PROCEDURE d.p() SELECT 1", "CREATE EVENT d.e ON SCHEDULE EVERY 1 DAY DISABLE DO SELECT 1")
		c := s.Conn(t)
		for _, q := range []string{"SET sql_mode = ''", "ALTER TABLE mysql.event DROP COLUMN originator"} {
			if _, err := c.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		settle()
		all, warnings := recordedBy(t, s, "root", source.Options{})
		if len(warnings) != 1 || !strings.Contains(warnings[0], "originator") || len(all.Head.Incomplete) != 1 || !strings.Contains(all.Head.Incomplete[0], "originator") {
			t.Errorf("%q, %+v", warnings, all.Head)
		}
		for kind, name := range map[metadata.DefinitionKind]string{metadata.DefinesTable: "a", metadata.DefinesProcedure: "p"} {
			if d := all.Find(kind, "d", name); d == nil || d.Create == "" {
				t.Errorf("%s: %+v", name, d)
			}
		}
	})
}

// TestDefinitionsUnclosed: hb does not have the server repair tables that a crash left open, and
// records those that are marked as open because the server has them open.
func TestDefinitionsUnclosed(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MySQL57, mysqldtest.MariaDB105, mysqldtest.MariaDB118}, func(t *testing.T, root *mysqldtest.Root) {
		engine := "MyISAM"
		if root.MariaDB() {
			engine = "Aria TRANSACTIONAL=0"
		}
		o := mysqldtest.Options{Config: []string{"myisam_recover_options=BACKUP,QUICK"}}
		s := mysqldtest.Start(t, root, o)
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.crashed (a INT PRIMARY KEY) ENGINE="+engine, "CREATE TABLE d.used (a INT PRIMARY KEY) ENGINE="+engine,
			"CREATE TRIGGER d.tr BEFORE INSERT ON d.crashed FOR EACH ROW SET @a = 1", "FLUSH TABLES", "INSERT INTO d.crashed VALUES (1)")
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, o)
		s.Exec(t, "INSERT INTO d.used VALUES (1)")
		settle()
		all, warnings := recordedBy(t, s, "root", source.Options{})
		if d := all.Find(metadata.DefinesTable, "d", "used"); d == nil || d.Create == "" {
			t.Errorf("the table in use: %+v", d)
		}
		if d := all.Find(metadata.DefinesTable, "d", "crashed"); d == nil || !strings.Contains(d.Missing, "not closed properly") || len(warnings) != 1 {
			t.Errorf("the other: %+v, %q", d, warnings)
		}
		if log, err := s.ErrorLog(); err != nil || strings.Contains(log, "d/crashed") {
			t.Errorf("%v: the server repaired the table: %s", err, log)
		}
		s.Exec(t, "INSERT INTO d.crashed VALUES (2)") // it does now
		if log, err := s.ErrorLog(); err != nil || !strings.Contains(log, "d/crashed") {
			t.Errorf("%v: the table was not open: %s", err, log)
		}
	})
}

// settle waits until hb does not take what was made just now for changed.
func settle() { time.Sleep(3100 * time.Millisecond) }
