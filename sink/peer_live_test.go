package sink_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hb/sink"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

// TestPeerArchive restores with hb what mariadb-backup streamed from a loaded
// server. There is no DDL meanwhile, under which the peer itself loses tables
// (see workload.TestPeerBackup); TestFidelity has it, where both tools recover
// what there is.
func TestPeerArchive(t *testing.T) {
	mysqldtest.Heavy(t)
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
		extracted, err := sink.Extract(t.Context(), in, target, sink.ExtractOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !extracted.Foreign || len(extracted.Warnings) == 0 {
			t.Errorf("a foreign archive was taken without a warning: %+v", extracted)
		}
		verified := func(what string, r *sink.VerifyResult, err error) {
			t.Helper()
			if err != nil || r.Pages == 0 || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "cannot be proven") {
				t.Errorf("verifying %s: %+v, %v", what, r, err)
			}
		}
		r, err := verifyFile(t.Context(), archive, sink.VerifyOptions{Replay: true})
		verified("the archive", r, err)
		r, err = sink.VerifyDir(t.Context(), target, sink.VerifyOptions{Replay: true})
		verified("the directory", r, err)
		one := filepath.Join(dir, "one pass")
		fromFile(t, archive, func(r io.Reader) error {
			x, got, err := sink.Restore(t.Context(), r, one, sink.ExtractOptions{}, sink.ApplyOptions{Tool: "hb test"})
			if err == nil && (got.ReadAhead || !x.Foreign) {
				t.Errorf("in one pass: %+v, %+v", *x, *got)
			}
			return err
		})
		if _, err := sink.Apply(t.Context(), target, sink.ApplyOptions{Tool: "hb test"}); err != nil {
			t.Fatal(err)
		}
		r, err = sink.VerifyDir(t.Context(), target, sink.VerifyOptions{})
		verified("what was recovered", r, err)
		sameTrees(t, "in one pass", one, target)
		workload.VerifyCopy(t, s, target, true, "hasn't closed the table properly")
	})
}
