package sink_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hb/sink"
	"hb/sink/apply"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

// TestPeerArchive restores with hb what mariadb-backup streamed from a loaded
// server. There is no DDL meanwhile, under which the peer itself loses tables
// (see workload.TestPeerBackup); TestFidelity has it, where both tools recover
// what there is.
func TestPeerArchive(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: -1})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		archive, target := filepath.Join(dir, "archive"), filepath.Join(dir, "restored")
		workload.During(t, load, func() {
			time.Sleep(2 * time.Second)
			out, err := os.Create(archive)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			var errs bytes.Buffer
			cmd := root.Tool("mariadb-backup", "--defaults-file="+s.DefaultsFile, "--backup", "--stream=xbstream", "--target-dir="+dir)
			cmd.Stdout, cmd.Stderr = out, &errs
			if err := cmd.Run(); err != nil {
				t.Fatalf("mariadb-backup: %v\n%s", err, errs.Bytes()[max(0, errs.Len()-4000):])
			}
			time.Sleep(time.Second)
		})
		in, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		extracted, err := extract.Run(t.Context(), in, target, extract.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !extracted.Foreign || len(extracted.Warnings) == 0 {
			t.Errorf("a foreign archive was taken without a warning: %+v", extracted)
		}
		verified := func(what string, r *verify.Result, err error) {
			t.Helper()
			if err != nil || r.Pages == 0 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "cannot be proven") {
				t.Errorf("verifying %s: %+v, %v", what, r, err)
			}
		}
		r, err := verifyFile(t.Context(), archive, verify.Options{Replay: true})
		verified("the archive", r, err)
		r, err = verify.Directory(t.Context(), target, verify.Options{Replay: true})
		verified("the directory", r, err)
		one := filepath.Join(dir, "one pass")
		fromFile(t, archive, func(r io.Reader) error {
			x, got, err := sink.Restore(t.Context(), r, one, extract.Options{}, apply.Options{Tool: "hb test"})
			if err == nil && (got.ReadAhead || !x.Foreign) {
				t.Errorf("in one pass: %+v, %+v", *x, *got)
			}
			return err
		})
		if _, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test"}); err != nil {
			t.Fatal(err)
		}
		r, err = verify.Directory(t.Context(), target, verify.Options{})
		verified("what was recovered", r, err)
		sameTrees(t, "in one pass", one, target)
		workload.VerifyCopy(t, s, target, true, "hasn't closed the table properly")
	})
}

// TestPeerPartial: of a backup by mariadb-backup that leaves out a whole database
// hb makes what is in it, whatever was created in the other one meanwhile.
func TestPeerPartial(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE kept", "CREATE DATABASE left_out", "CREATE TABLE kept.t (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO kept.t VALUES (1), (2)",
			"SET GLOBAL innodb_max_dirty_pages_pct = 90", "CREATE TABLE left_out.old (id INT PRIMARY KEY) ENGINE=InnoDB")
		dir := filepath.Join(t.TempDir(), "backup")
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				for _, q := range []string{"CREATE TABLE left_out.n%d (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO left_out.n%d VALUES (1)"} {
					if _, err := s.DB().ExecContext(t.Context(), fmt.Sprintf(q, i)); err != nil {
						t.Error(err)
						return
					}
				}
			}
		}()
		out, err := root.Tool("mariadb-backup", "--defaults-file="+s.DefaultsFile, "--backup", "--databases=kept mysql", "--target-dir="+dir).CombinedOutput()
		close(stop)
		<-stopped
		if err != nil {
			t.Fatalf("mariadb-backup: %v\n%s", err, out[max(0, len(out)-4000):])
		}
		if _, err := os.Stat(filepath.Join(dir, "left_out")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("the backup has the other database: %v", err)
		}
		for _, replay := range []bool{false, true} {
			if _, err := verify.Directory(t.Context(), dir, verify.Options{Replay: replay}); err != nil {
				t.Errorf("verifying, rehearsed %v: %v", replay, err)
			}
		}
		r, err := apply.Run(t.Context(), dir, apply.Options{Tool: "hb test"})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d tables left out", len(r.Warnings))
		if _, err := os.Stat(filepath.Join(dir, "left_out")); !errors.Is(err, fs.ErrNotExist) || len(r.Warnings) == 0 {
			t.Errorf("the other database is there: %v, %q", err, r.Warnings)
		}
		restored := mysqldtest.StartOn(t, root, dir, mysqldtest.Options{})
		if got := restored.Value(t, "SELECT COUNT(*) FROM kept.t"); got != "2" {
			t.Errorf("%s rows", got)
		}
	})
}
