package source_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/extract"
	"hb/source/mysqld/mysqldtest"
)

// TestImportWhileCopied has a server import a tablespace into a file that is being
// copied: it is copied again, and what is restored is what was imported.
func TestImportWhileCopied(t *testing.T) {
	mysqldtest.Concurrent(t, mysqldtest.MariaDB1011)
	export := []string{"FLUSH TABLES d.b FOR EXPORT", "@cp d/b.ibd d/keep", "@cp d/b.cfg d/keepcfg", "UNLOCK TABLES"}
	place := func(table string) []string {
		return []string{"ALTER TABLE d." + table + " DISCARD TABLESPACE", "@cp d/keep d/" + table + ".ibd", "@cp d/keepcfg d/" + table + ".cfg"}
	}
	const change = "UPDATE d.b SET v = CONCAT('x', LEFT(v, 40)) WHERE id % 7 = 0"
	cases := []struct {
		name, table string
		before      []string
		logged      bool // the redo log says that the file was discarded
		purged      bool // the file has rows that the import purges, without redo
	}{
		{"another's", "c", []string{"CREATE TABLE d.c LIKE d.a"}, false, false},
		{"its own", "b", nil, false, false},
		{"its own, discarded in the log", "b", nil, true, false},
		{"its own, with deleted rows", "b", nil, false, true},
	}
	mysqldtest.Each(t, append(slices.Clone(mysqldtest.MariaDB), mysqldtest.MySQL97), func(t *testing.T, root *mysqldtest.Root) {
		for i, c := range cases {
			// MySQL starts with no second file of another tablespace's id.
			if root.MariaDB() && !itsTurn(i, mysqldtest.MariaDB, root.Name) || !root.MariaDB() && (c.table != "b" || c.logged && !mysqldtest.Long()) {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-max-dirty-pages-pct=99"}})
				numbers(t, s)
				fill(t, s, "d.a", "")
				fill(t, s, "d.b", "")
				run(t, s, c.before)
				s.Exec(t, change)
				if c.purged {
					exportDeleted(t, s, export)
				} else {
					run(t, s, export)
				}
				s.Exec(t, "UPDATE d.b SET b = REVERSE(b)", "INSERT INTO d.b SELECT id + 100000, v, b FROM d.b WHERE id % 3 = 0")
				run(t, s, place(c.table))
				if !c.logged {
					if err := s.Stop(); err != nil {
						t.Fatal(err)
					}
					s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Config: []string{"innodb-max-dirty-pages-pct=99"}})
				}
				dir := t.TempDir()
				archive := filepath.Join(dir, "archive")
				done := false
				hookedBackup(t, s, archive, hooks{pace: func(int) {
					if !done && began(archive, "d/"+c.table+".ibd") {
						done = true
						run(t, s, []string{"ALTER TABLE d." + c.table + " IMPORT TABLESPACE", "UPDATE d." + c.table + " SET v = CONCAT('after', LEFT(v, 40)) WHERE id % 11 = 0",
							"DELETE FROM d." + c.table + " WHERE id % 13 = 0",
							"REPLACE INTO d." + c.table + " SELECT id, CONCAT('again', LEFT(v, 30)), b FROM d.a WHERE id % 4 = 1"})
					}
				}})
				if !done {
					t.Fatal("nothing was imported during the backup")
				}
				compareRestored(t, root, s, archive, filepath.Join(dir, "restored"), nil)
			})
		}
	})
}

// exportDeleted exports a table with rows that were deleted and that purge must leave,
// as a transaction may yet read them.
func exportDeleted(t *testing.T, s *mysqldtest.Server, export []string) {
	t.Helper()
	reader, err := s.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := reader.ExecContext(t.Context(), "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "DELETE FROM d.b WHERE id % 4 = 1")
	run(t, s, export)
	if _, err := reader.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
}

// TestByServerImported: a table whose tablespace is discarded and imported during the
// backup is not left to a server, whose recovery would leave out what was committed after
// that. hb applies it: TestUnlogged, TestImportWhileCopied.
func TestByServerImported(t *testing.T) {
	servers := append([]string{mysqldtest.MySQL56, mysqldtest.MySQL57}, mysqldtest.MariaDB...)
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-max-dirty-pages-pct=99"}})
		numbers(t, s)
		fill(t, s, "d.a", "")
		fill(t, s, "d.b", "")
		run(t, s, []string{"FLUSH TABLES d.b FOR EXPORT", "@cp d/b.ibd d/keep", "@cp d/b.cfg d/keepcfg", "UNLOCK TABLES"})
		dir := t.TempDir()
		archive, target := filepath.Join(dir, "archive"), filepath.Join(dir, "restored")
		done := false
		result := hookedBackup(t, s, archive, hooks{pace: func(int) {
			if !done && (began(archive, "d/a.ibd") || began(archive, "d/b.ibd")) {
				done = true
				run(t, s, []string{"ALTER TABLE d.a DISCARD TABLESPACE", "@cp d/keep d/a.ibd", "@cp d/keepcfg d/a.cfg", "ALTER TABLE d.a IMPORT TABLESPACE",
					"DELETE FROM d.a WHERE id % 3 = 0"})
			}
		}})
		// Only MariaDB recovers an extracted directory without hb apply.
		if said := strings.Contains(strings.Join(result.Manifest.Warnings, ""), "d/a.ibd: imported during the backup"); said != root.MariaDB() {
			t.Errorf("warnings %q", result.Manifest.Warnings)
		}
		f, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := extract.Run(t.Context(), f, target, extract.Options{}); err != nil || !done {
			t.Fatal(done, err)
		}
		_, err = apply.Run(t.Context(), target, apply.Options{ByServer: true, Tool: "hb test"})
		notBackup, refused := errors.AsType[*backupdir.NotBackupError](err)
		switch {
		case refused && strings.Contains(notBackup.What, "IMPORT TABLESPACE") && strings.Contains(notBackup.What, "without --by-server"):
			return
		case err != nil:
			t.Fatal(err)
		}
		r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
		const rows = "SELECT COUNT(*) FROM d.a"
		t.Errorf("it was left to a server, which has %s rows in the table, and the source %s", r.Value(t, rows), s.Value(t, rows))
	})
}

// TestWaitingForImport: a copy of a tablespace that waits for IMPORT TABLESPACE is left
// out, and the table is discarded in the restored server too. Without the table it is a
// stray, and so it is at the place of a table that is not discarded.
func TestWaitingForImport(t *testing.T) {
	mysqldtest.Each(t, append(slices.Clone(mysqldtest.MySQL), mysqldtest.MariaDB...), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		numbers(t, s)
		fill(t, s, "d.a", "")
		run(t, s, []string{"CREATE TABLE d.c LIKE d.a", "CREATE TABLE d.e LIKE d.a", "INSERT INTO d.c SELECT * FROM d.a LIMIT 10", "ALTER TABLE d.c DISCARD TABLESPACE",
			"FLUSH TABLES d.a FOR EXPORT", "@cp d/a.ibd d/c.ibd", "@cp d/a.cfg d/c.cfg", "UNLOCK TABLES"})
		dir := t.TempDir()
		archive, target := filepath.Join(dir, "archive"), filepath.Join(dir, "restored")
		result := hookedBackup(t, s, archive, hooks{})
		if said := strings.Join(result.Manifest.Warnings, "\n"); !strings.Contains(said, "d/c.ibd is left out: it has the tablespace id of "+filepath.Join(s.Datadir, "d", "a.ibd")) {
			t.Errorf("warnings %q", said)
		}
		want := s.Value(t, "SELECT CONCAT(COUNT(*), ' ', SUM(id)) FROM d.a")
		copied := false
		err := paceBackup(t, s, func(int) { // hb looked for strays before
			if !copied {
				copied = true
				run(t, s, []string{"@cp d/a.ibd d/other.ibd"})
			}
		})
		if err == nil || !strings.Contains(err.Error(), "one of them is a stray copy") {
			t.Errorf("with a copy that belongs to no table: %v", err)
		}
		if err := os.Remove(filepath.Join(s.Datadir, "d", "other.ibd")); err != nil {
			t.Fatal(err)
		}
		file, aside := filepath.Join(s.Datadir, "d", "e.ibd"), filepath.Join(dir, "e.ibd")
		if err := os.Rename(file, aside); err != nil {
			t.Fatal(err)
		}
		run(t, s, []string{"@cp d/a.ibd d/e.ibd"})
		if _, err := tryBackup(t, s); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("with a copy in the place of a table that is not discarded: %v", err)
		}
		if err := os.Rename(aside, file); err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		restoreByHB(t, root, archive, target)
		r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
		if got := r.Value(t, "SELECT CONCAT(COUNT(*), ' ', SUM(id)) FROM d.a"); got != want {
			t.Errorf("the table that was copied from holds %s, want %s", got, want)
		}
		var no *mysql.MySQLError
		if _, err := r.DB().ExecContext(t.Context(), "SELECT COUNT(*) FROM d.c"); !errors.As(err, &no) || no.Number != 1814 {
			t.Errorf("the table that waits: %v", err)
		}
	})
}
