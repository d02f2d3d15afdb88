package source_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/sink/extract"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/position"
	"hb/source/sourcetest"
)

// lazy has a server write pages only when it is asked to.
var lazy = mysqldtest.Options{Config: []string{"innodb-max-dirty-pages-pct=99", "loose-innodb-idle-flush-pct=0", "innodb-adaptive-flushing=OFF"}}

// fillPages makes a table of 205 pages, with five rows to a page.
func fillPages(t *testing.T, s *mysqldtest.Server, table string) {
	t.Helper()
	s.Exec(t, "CREATE TABLE d."+table+" (id INT PRIMARY KEY, pad VARCHAR(3000) CHARACTER SET latin1) ENGINE=InnoDB",
		"INSERT INTO d."+table+" VALUES (1, REPEAT('a', 3000)), (2, REPEAT('b', 3000))")
	for n := 2; n < 1024; n *= 2 {
		s.Exec(t, "INSERT INTO d."+table+" SELECT id + "+strconv.Itoa(n)+", pad FROM d."+table)
	}
}

const (
	pageBytes = 16 << 10
	lostPage  = 90 // of such a table: one with rows
)

// overwrite writes a page of a file, and returns what it held.
func overwrite(t *testing.T, path string, no int64, page []byte) (before []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	before = make([]byte, len(page))
	if _, err := f.ReadAt(before, no*pageBytes); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(page, no*pageBytes); err != nil {
		t.Fatal(err)
	}
	return before
}

// TestLostPage: a page that became zero on the server's disk, although a table has it
// in use, fails the backup. Pages of tables that the server has not written yet, which
// are zero too, do not.
func TestLostPage(t *testing.T) {
	mysqldtest.Each(t, append(append([]string{}, mysqldtest.MySQL...), mysqldtest.MariaDB...), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, lazy)
		s.Exec(t, "CREATE DATABASE d")
		fillPages(t, s, "settled")
		checkpoint(t, s)
		s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct = 99")
		fillPages(t, s, "fresh")
		if _, err := tryBackup(t, s); err != nil {
			t.Fatal(err)
		}
		// The page map changes after the checkpoint, which the other table holds back.
		s.Exec(t, "INSERT INTO d.settled SELECT id + 1024, pad FROM d.settled")
		c, err := s.DB().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, q := range []string{"FLUSH TABLES d.settled FOR EXPORT", "UNLOCK TABLES"} {
			if _, err := c.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		overwrite(t, filepath.Join(s.Datadir, "d", "settled.ibd"), lostPage, make([]byte, pageBytes))
		if root.AtLeast(8, 0) && root.Name != mysqldtest.MariaDB105 {
			if _, err := tryBackup(t, s); !saysLost(err) {
				t.Errorf("with a page map that changed since: %v", err)
			}
		}
		// Elsewhere that is known from the next checkpoint on.
		for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
			if _, err = tryBackup(t, s); err != nil || time.Since(began) > 20*time.Second {
				break
			}
			s.WriteOut(t)
			s.Exec(t, "INSERT INTO d.fresh SELECT MAX(id) + 1, 'x' FROM d.fresh")
		}
		if !saysLost(err) {
			t.Errorf("%v", err)
		}
	})
}

// checkpoint has the server write all pages, and waits for a checkpoint after that: the
// redo of their changes is in no backup. That all pages are written is not enough.
// MySQL 9.7 takes a checkpoint once a second; if a page is changed before, it stops 2 MB
// short of that change for as long as the page is not written.
func checkpoint(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	srv := client.Open(t, s)
	defer srv.Close()
	lsn, err := position.CurrentLSN(t.Context(), srv)
	if err != nil {
		t.Fatal(err)
	}
	s.WriteOut(t)
	mysqldtest.Await(t, "a checkpoint", func() bool {
		at, err := position.CheckpointLSN(t.Context(), srv)
		if err != nil {
			t.Fatal(err)
		}
		return at >= lsn
	})
}

// TestLostPageApplied: hb apply warns of a lost page of which hb backup cannot know
// that it is lost.
func TestLostPageApplied(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MySQL57, mysqldtest.MariaDB105}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, lazy)
		s.Exec(t, "CREATE DATABASE d")
		fillPages(t, s, "whole")
		fillPages(t, s, "settled")
		checkpoint(t, s)
		s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct = 99")
		// The page maps change after the checkpoint, and the server writes them.
		s.Exec(t, "INSERT INTO d.whole SELECT id + 1024, pad FROM d.whole", "INSERT INTO d.settled SELECT id + 1024, pad FROM d.settled")
		run(t, s, []string{"FLUSH TABLES d.settled FOR EXPORT", "UNLOCK TABLES"})
		overwrite(t, filepath.Join(s.Datadir, "d", "settled.ibd"), lostPage, make([]byte, pageBytes))
		dir := t.TempDir()
		archive, target := filepath.Join(dir, "archive"), filepath.Join(dir, "restored")
		hookedBackup(t, s, archive, hooks{})
		f, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := extract.Run(t.Context(), f, target, extract.Options{}); err != nil {
			t.Fatal(err)
		}
		result, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test"})
		if err != nil {
			t.Fatal(err)
		}
		if said := strings.Join(result.Warnings, "\n"); len(result.Warnings) != 1 || !strings.Contains(said, ": d/settled.ibd (page 90, of 1): check") {
			t.Errorf("warnings %q", said)
		}
	})
}

// TestLatePage: a page that was zero when it was copied, and that the server writes
// later without redo, is missing in the copy: the backup fails as one that was
// disturbed by an index that was being built. The table is not damaged.
func TestLatePage(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MySQL57, mysqldtest.MariaDB1011}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, lazy)
		s.Exec(t, "CREATE DATABASE d")
		fillPages(t, s, "settled")
		checkpoint(t, s)
		path := filepath.Join(s.Datadir, "d", "settled.ibd")
		page := overwrite(t, path, lostPage, make([]byte, pageBytes))
		if _, err := tryBackup(t, s); !saysLost(err) {
			t.Fatalf("a page that stays zero: %v", err)
		}
		late := false
		err := paceBackup(t, s, func(n int) {
			if !late && n <= smallFile { // larger ones have been copied
				late = true
				overwrite(t, path, lostPage, page)
			}
		})
		var unlogged *source.UnloggedError // exit code 5: TestUnloggedExit
		if !errors.As(err, &unlogged) || unlogged.Name != "d/settled.ibd" {
			t.Errorf("a page that was written late (%v): %v", late, err)
		}
		if _, err := tryBackup(t, s); err != nil {
			t.Errorf("the next backup: %v", err)
		}
	})
}

// paceBackup is a backup by one reader, with a function that is called before each
// read of n bytes.
func paceBackup(t *testing.T, s *mysqldtest.Server, pace func(n int)) error {
	t.Helper()
	srv := client.Open(t, s)
	defer srv.Close()
	_, err := source.Run(t.Context(), srv, io.Discard, source.Options{Parallel: 1, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test",
		Pace: func(_ context.Context, n int) error { pace(n); return nil }})
	return err
}

// TestLostSystemPages: pages of the system tablespace that are in use and zero are a
// warning, one for all, and no failure.
func TestLostSystemPages(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MySQL97, mysqldtest.MariaDB1011}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: append([]string{"innodb-file-per-table=OFF"}, lazy.Config...)})
		s.Exec(t, "CREATE DATABASE d")
		fillPages(t, s, "inside")
		checkpoint(t, s)
		if got := warnings(t, s); len(got) > 0 {
			t.Fatalf("before: %q", got)
		}
		path := filepath.Join(s.Datadir, "ibdata1")
		leaves := pagesWith(t, path, strings.Repeat("b", 3000))
		if len(leaves) < 20 {
			t.Fatalf("pages %v have rows", leaves)
		}
		lost := leaves[len(leaves)/2:][:2]
		for _, no := range lost {
			overwrite(t, path, no, make([]byte, pageBytes))
		}
		got := warnings(t, s)
		want := fmt.Sprintf("page %d: is in use, and zero: its content is lost on the server, unless a very old server", lost[0])
		if len(got) != 1 || !strings.Contains(got[0], path) || !strings.Contains(got[0], want) {
			t.Errorf("warnings %q, want one with %q", got, want)
		}
	})
}

// TestManyZeroPages: hb warns if so many pages are in use and zero that it does not
// remember all of them. MySQL 5.7 lets those pass whose page map changed since the
// checkpoint.
func TestManyZeroPages(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL57), lazy)
	s.Exec(t, "CREATE DATABASE d")
	fillPages(t, s, "t")
	srv := client.Open(t, s)
	defer srv.Close()
	lsn, err := position.CurrentLSN(t.Context(), srv)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Datadir, "d", "many.ibd")
	for _, c := range []struct {
		zero int
		want string
	}{{65000, ""}, {66000, "the server had so many unwritten pages in use (65536 or more) that hb did not check all of them"}} {
		sourcetest.ZeroPages(t, path, 4_000_000, lsn, c.zero)
		if got := strings.Join(warnings(t, s), "\n"); c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%d pages are in use and zero: warnings %q, want %q", c.zero, got, c.want)
		}
	}
}

// warnings backs a server up and returns the warnings, which must be in the manifest
// too.
func warnings(t *testing.T, s *mysqldtest.Server) (out []string) {
	t.Helper()
	srv := client.Open(t, s)
	defer srv.Close()
	result, err := source.Run(t.Context(), srv, io.Discard, source.Options{Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test",
		Warn: func(text string) { out = append(out, text) }})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(out, result.Manifest.Warnings) {
		t.Errorf("warnings %q, in the manifest %q", out, result.Manifest.Warnings)
	}
	return out
}

// pagesWith are the numbers of the pages of a file that hold a text.
func pagesWith(t *testing.T, path, text string) (out []int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for no := range int64(len(b) / pageBytes) {
		if bytes.Contains(b[no*pageBytes:][:pageBytes], []byte(text)) {
			out = append(out, no)
		}
	}
	return out
}

func saysLost(err error) bool {
	return err != nil && strings.Contains(err.Error(), "settled.ibd") && strings.Contains(err.Error(), "page 90: is in use, and zero; the page is damaged on the server")
}
