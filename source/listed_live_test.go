package source

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/pages"
)

// TestProveListed: what the server lists and has no file for good reasons fails no
// backup; a file that was removed behind its back does.
func TestProveListed(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		elsewhere := t.TempDir()
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE DATABASE e", "CREATE TABLE d.other (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE d.discarded (id INT PRIMARY KEY) ENGINE=InnoDB", "ALTER TABLE d.discarded DISCARD TABLESPACE",
			"CREATE TABLE d.gone (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE d.far (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='"+elsewhere+"'",
			"CREATE TABLE d.`of näme` (id INT PRIMARY KEY, v TEXT, FULLTEXT (v)) ENGINE=InnoDB",
			"CREATE TABLE d.parts (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 2")
		if err := s.Stop(); err != nil { // so that their creation is not in the redo log
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{})
		s.Exec(t, "SELECT * FROM d.gone")
		backup := func() (string, error) {
			srv := client.Open(t, s)
			var warnings []string
			_, err := Run(t.Context(), srv, io.Discard, Options{Parallel: 1, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test",
				Warn: func(text string) { warnings = append(warnings, text) }})
			if cerr := srv.Close(); cerr != nil {
				t.Fatal(cerr)
			}
			return strings.Join(warnings, "\n"), err
		}
		listsOpen := root.AtLeast(10, 6)
		if warned, err := backup(); err != nil || strings.Contains(warned, "d/discarded, has no file") == listsOpen || strings.Contains(warned, "d/far, has no file") || strings.Contains(warned, "d/gone") {
			t.Errorf("nothing removed: %v; %q", err, warned)
		}
		fails := func(what string) {
			t.Helper()
			warned, err := backup()
			missing, ok := errors.AsType[*MissingSpacesError](err)
			if !ok || len(missing.Spaces) != 1 || missing.Spaces[0].Name != "d/gone" {
				t.Errorf("%s: %v; %q", what, err, warned)
			}
		}
		gone := filepath.Join(s.Datadir, "d", "gone.ibd")
		for _, moved := range []string{"d/moved.ibd", "d/gone2.ibd", "e/gone.ibd"} {
			rename(t, gone, filepath.Join(s.Datadir, moved))
			fails("moved to " + moved)
			rename(t, filepath.Join(s.Datadir, moved), gone)
		}
		exchange(t, gone, filepath.Join(s.Datadir, "d", "other.ibd"))
		warned, err := backup()
		if moved, ok := errors.AsType[*pages.MovedError](err); !ok || moved.Name != "d/gone.ibd" && moved.Name != "d/other.ibd" {
			t.Errorf("exchanged: %v; %q", err, warned)
		}
		exchange(t, gone, filepath.Join(s.Datadir, "d", "other.ibd"))
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
		fails("removed")
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Config: []string{"innodb-sys-tablespaces=OFF"}})
		if warned, err := backup(); err != nil || !strings.Contains(warned, "does not list its tablespaces") {
			t.Errorf("without the list: %v; %q", err, warned)
		}
	})
}

// rename moves a file.
func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// exchange lets two files change places.
func exchange(t *testing.T, a, b string) {
	t.Helper()
	rename(t, a, a+".aside")
	rename(t, b, a)
	rename(t, a+".aside", b)
}

// TestMovedAway: a file that somebody moved to a name at which no server looks for it is
// no copy of the table, and a file whose table was renamed is one.
func TestMovedAway(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE DATABASE e", "CREATE TABLE d.other (id INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE d.old (id INT PRIMARY KEY) ENGINE=InnoDB", "RENAME TABLE d.old TO d.`of näme`",
			"CREATE TABLE d.parts (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 2", "CREATE TABLE d.moved (id INT PRIMARY KEY) ENGINE=InnoDB")
		backup := func() error {
			srv := client.Open(t, s)
			_, err := Run(t.Context(), srv, io.Discard, Options{Parallel: 1, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test", Warn: func(string) {}})
			return errors.Join(err, srv.Close())
		}
		if err := backup(); err != nil {
			t.Errorf("nothing moved: %v", err)
		}
		fails := func(what string, names ...string) {
			t.Helper()
			err := backup()
			missing, ok := errors.AsType[*MissingSpacesError](err)
			if !ok || len(missing.Spaces) != len(names) {
				t.Errorf("%s: %v", what, err)
				return
			}
			for i, s := range missing.Spaces {
				if s.Name != names[i] {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
		file := filepath.Join(s.Datadir, "d", "moved.ibd")
		for _, moved := range []string{"d/aside.ibd", "d/moved2.ibd", "e/moved.ibd"} {
			rename(t, file, filepath.Join(s.Datadir, moved))
			fails("moved to "+moved, "d/moved")
			rename(t, filepath.Join(s.Datadir, moved), file)
		}
		exchange(t, file, filepath.Join(s.Datadir, "d", "other.ibd"))
		fails("exchanged", "d/other", "d/moved") // in the order of their ids
		exchange(t, file, filepath.Join(s.Datadir, "d", "other.ibd"))
	})
}
