package source_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/sink"
	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/extract"
	"hb/source/mysqld/mysqldtest"
)

// TestInPlace: a backup is restored in the place of a server that had tablespaces
// outside its data directory, and the server starts on what the backup has, not on
// the old files.
func TestInPlace(t *testing.T) {
	servers := []string{mysqldtest.MySQL57, mysqldtest.MySQL97, mysqldtest.MariaDB105}
	if mysqldtest.Long() {
		servers = slices.Concat(mysqldtest.MySQL, mysqldtest.MariaDB)
	}
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		elsewhere := t.TempDir()
		o := mysqldtest.Options{Binlog: true}
		tables := map[string]string{"d.t": " DATA DIRECTORY='" + elsewhere + "'"}
		if !root.MariaDB() && root.AtLeast(8, 0) {
			o.Config = []string{"innodb-directories=" + elsewhere}
		}
		s := mysqldtest.Start(t, root, o)
		s.Exec(t, "CREATE DATABASE d")
		if !root.MariaDB() && root.AtLeast(5, 7) {
			s.Exec(t, "CREATE TABLESPACE far ADD DATAFILE '"+elsewhere+"/other.ibd'")
			tables["d.g"] = " TABLESPACE far"
		}
		for table, options := range tables {
			s.Exec(t, "CREATE TABLE "+table+" (id INT PRIMARY KEY) ENGINE=InnoDB"+options, "INSERT INTO "+table+" VALUES (1), (2)")
		}
		archive := filepath.Join(t.TempDir(), "archive")
		result := backup(t, s, archive)
		if w := strings.Join(result.Manifest.Warnings, "\n"); !strings.Contains(w, "outside the data directory") || !strings.Contains(w, elsewhere) {
			t.Errorf("warnings at backup: %q", w)
		}
		for table := range tables {
			s.Exec(t, "INSERT INTO "+table+" VALUES (3)")
		}
		running := filepath.Join(t.TempDir(), "beside")
		if _, err := restoreInPlace(t, archive, running); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("while the server runs: %v", err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.Datadir, s.Datadir+".before"); err != nil {
			t.Fatal(err)
		}
		applied, err := apply.Run(t.Context(), running, apply.Options{})
		if err != nil || !strings.Contains(strings.Join(applied.Warnings, "\n"), "--in-place") {
			t.Errorf("without --in-place: %+v, %v", applied, err)
		}
		if applied, err = restoreInPlace(t, archive, s.Datadir); err != nil || len(applied.Warnings) != len(tables) {
			t.Errorf("%+v, %v", applied, err)
		}
		r := mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Config: o.Config})
		for table := range tables {
			if got := r.Value(t, "SELECT GROUP_CONCAT(id ORDER BY id) FROM "+table); got != "1,2" {
				t.Errorf("%s has %s", table, got)
			}
			isSound(t, r, table)
		}
		r.Exec(t, "INSERT INTO d.t VALUES (4)", "ALTER TABLE d.t ADD v INT", "CREATE TABLE d.more (id INT PRIMARY KEY) ENGINE=InnoDB"+tables["d.g"])
		if root.MariaDB() || root.AtLeast(5, 7) {
			r.Exec(t, "DROP TABLE d.t")
		}
	})
}

func restoreInPlace(t *testing.T, archive, target string) (*apply.Result, error) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, applied, err := sink.Restore(t.Context(), f, target, extract.Options{}, apply.Options{Tool: "hb test", InPlace: true})
	return applied, err
}

// TestByServerOutside: MariaDB recovers a table where its redo log names the file.
// A backup has tables with DATA DIRECTORY inside, so that --by-server is refused
// where the log names one, and right where it does not.
func TestByServerOutside(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		elsewhere := filepath.Join(t.TempDir(), "elsewhere")
		if err := os.Mkdir(elsewhere, 0o777); err != nil {
			t.Fatal(err)
		}
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='"+elsewhere+"'", "INSERT INTO d.t VALUES (1), (2)")
		named := backedUp(t, s)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{})
		quiet := backedUp(t, s)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(elsewhere, elsewhere+".before"); err != nil {
			t.Fatal(err)
		}
		_, err := apply.Run(t.Context(), named, apply.Options{ByServer: true})
		if notBackup, ok := errors.AsType[*backupdir.NotBackupError](err); !ok || !strings.Contains(notBackup.What, elsewhere) {
			t.Errorf("the log names the file outside: %v", err)
		}
		for dir, byServer := range map[string]bool{named: false, quiet: true} {
			if _, err := apply.Run(t.Context(), dir, apply.Options{ByServer: byServer}); err != nil {
				t.Errorf("applied, by the server: %v: %v", byServer, err)
				continue
			}
			r := mysqldtest.StartOn(t, root, dir, mysqldtest.Options{})
			if got := r.Value(t, "SELECT GROUP_CONCAT(id ORDER BY id) FROM d.t"); got != "1,2" {
				t.Errorf("by the server: %v: the table has %s", byServer, got)
			}
			isSound(t, r, "d.t")
		}
	})
}

// backedUp is a backup of a server, extracted.
func backedUp(t *testing.T, s *mysqldtest.Server) string {
	t.Helper()
	base := t.TempDir()
	archive, dir := filepath.Join(base, "archive"), filepath.Join(base, "dir")
	backup(t, s, archive)
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := extract.Run(t.Context(), f, dir, extract.Options{}); err != nil {
		t.Fatal(err)
	}
	return dir
}
