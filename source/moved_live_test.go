package source_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/xbstream/innodb"
)

// TestDamagedAndRenamed: a damaged page is not excused because its table is renamed,
// or exchanged for another, while it is copied.
func TestDamagedAndRenamed(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL57}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		numbers(t, s)
		fill(t, s, "d.a", "")
		fill(t, s, "d.b", "")
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(s.Datadir, "d", "a.ibd")
		flip(t, path)
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Config: []string{"innodb-buffer-pool-load-at-startup=OFF"}})
		renames := []struct{ name, statement string }{
			{"d/a.ibd", "RENAME TABLE d.a TO d.c, d.b TO d.a, d.c TO d.b"}, {"d/b.ibd", "RENAME TABLE d.b TO d.x"},
		}
		for _, r := range renames {
			archive, ran := filepath.Join(t.TempDir(), "archive"), false
			f, err := os.Create(archive)
			if err != nil {
				t.Fatal(err)
			}
			_, err = hooked(t, s, f, source.Options{Pace: func(context.Context, int) error {
				if !ran && began(archive, r.name) {
					ran = true
					s.Exec(t, r.statement)
				}
				return nil
			}})
			f.Close()
			if _, ok := errors.AsType[*innodb.PageError](err); !ran || !ok || !strings.Contains(err.Error(), r.name) {
				t.Errorf("%s (%v): %v", r.statement, ran, err)
			}
		}
	})
}

// TestRemovedWhileCopied: the file of a table that is removed behind the server's
// back after it was copied fails the backup: it would go from the archive too.
func TestRemovedWhileCopied(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL57, mysqldtest.MySQL97}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		numbers(t, s)
		s.Exec(t, "CREATE TABLE d.gone (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO d.gone VALUES (1)")
		if err := s.Stop(); err != nil { // so that its creation is not in the redo log
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{})
		s.Exec(t, "SELECT * FROM d.gone")
		archive := filepath.Join(t.TempDir(), "archive")
		f, err := os.Create(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		removed := false
		_, err = hooked(t, s, f, source.Options{Pace: func(context.Context, int) error {
			if !removed && began(archive, "d/gone.ibd") {
				removed = true
				return os.Remove(filepath.Join(s.Datadir, "d", "gone.ibd"))
			}
			return nil
		}})
		if !removed || err == nil || !strings.Contains(err.Error(), "d/gone") {
			t.Errorf("removed: %v; error = %v", removed, err)
		}
	})
}

// TestMovedWhileCopied: so does the file of a table that somebody moves after it was
// copied, when hb has found it there already: the archive would have it under the new name.
func TestMovedWhileCopied(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB105, mysqldtest.MariaDB1011, mysqldtest.MySQL57}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		numbers(t, s)
		s.Exec(t, "CREATE DATABASE e", "CREATE TABLE d.gone (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO d.gone VALUES (1)")
		if err := s.Stop(); err != nil { // so that its creation is not in the redo log
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{})
		s.Exec(t, "SELECT * FROM d.gone")
		gone := filepath.Join(s.Datadir, "d", "gone.ibd")
		for _, to := range []string{"d/aside.ibd", "e/gone.ibd"} {
			archive := filepath.Join(t.TempDir(), "archive")
			f, err := os.Create(archive)
			if err != nil {
				t.Fatal(err)
			}
			moved := false
			_, err = hooked(t, s, f, source.Options{Pace: func(context.Context, int) error {
				if !moved && began(archive, "d/gone.ibd") {
					moved = true
					return os.Rename(gone, filepath.Join(s.Datadir, to))
				}
				return nil
			}})
			f.Close()
			if !moved || err == nil || !strings.Contains(err.Error(), "d/gone") {
				t.Errorf("moved to %s: %v; error = %v", to, moved, err)
			}
			if err := os.Rename(filepath.Join(s.Datadir, to), gone); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// flip flips a bit in the middle of the last page of a file that is not empty.
func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const size = 16 << 10
	at := len(b) - size
	for innodb.AllZero(b[at : at+size]) {
		at -= size
	}
	b[at+size/2] ^= 4
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// hooked makes a backup that may fail.
func hooked(t *testing.T, s *mysqldtest.Server, out io.Writer, o source.Options) (*source.Result, error) {
	t.Helper()
	srv := client.Open(t, s)
	defer srv.Close()
	o.Parallel, o.Tmpdir, o.Tool, o.ToolVersion = 1, t.TempDir(), "hb", "test"
	return source.Run(t.Context(), srv, out, o)
}
