package workload

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// TestPeerBackup cuts the load with the server's own backup tool, and so proves
// that the rules hold at the cut of a backup that is known to be right: the
// copy passes Check, and as a replica from the recorded position it catches up
// with equal checksums.
func TestPeerBackup(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		source := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		l, err := Prepare(t.Context(), source.DB(), Options{DDLRate: 20, DDLInnoDBOnly: true, Seed: seed(t)})
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "backup")
		during(t, l, func() {
			time.Sleep(runFor() / 2)
			l.ResetStalls()
			tool(t, root, "--defaults-file="+source.DefaultsFile, "--backup", "--target-dir="+dir)
			t.Logf("longest stall during the backup: %+v", l.Stats().MaxStall())
			time.Sleep(runFor() / 4)
		})
		tool(t, root, "--prepare", "--target-dir="+dir)
		at, err := mysqldtest.RecordedPosition(dir)
		if err != nil {
			t.Fatal(err)
		}
		copied := mysqldtest.StartOn(t, root, dir, mysqldtest.Options{ServerID: 2, Config: []string{"skip-slave-start"}})
		if err := notThePeers(t, Check(t.Context(), copied.DB())); err != nil {
			t.Fatalf("copy: %v", err)
		}
		mysqldtest.Attach(t, copied, source, at)
		mysqldtest.CatchUp(t, copied, source, time.Minute)
		if err := notThePeers(t, Check(t.Context(), copied.DB())); err != nil {
			t.Errorf("copy, caught up: %v", err)
		}
		for _, d := range Differences(sums(t, source), sums(t, copied)) {
			t.Error(d)
		}
	})
}

// peersFaults are what Check finds now and then on copies that mariadb-backup
// made; no row is lost by them.
var peersFaults = []string{
	// 11.8.6 copies a table of MyISAM while its header says that it is open.
	"hasn't closed the table properly",
	// 10.5.23: after replication, the index misses documents that the table has.
	"documents that FULLTEXT finds by",
}

// notThePeers returns what is left of Check's error without [peersFaults], which
// it logs.
func notThePeers(t *testing.T, err error) error {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var left []error
	for _, f := range joined.Unwrap() {
		if slices.ContainsFunc(peersFaults, func(s string) bool { return strings.Contains(f.Error(), s) }) {
			t.Logf("the peer's: %v", f)
			continue
		}
		left = append(left, f)
	}
	return errors.Join(left...)
}

// during runs f while the load runs.
func during(t *testing.T, l *Load, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	f()
}

func tool(t *testing.T, root *mysqldtest.Root, args ...string) {
	t.Helper()
	if out, err := root.Tool("mariadb-backup", args...).CombinedOutput(); err != nil {
		if len(out) > 4000 {
			out = out[len(out)-4000:]
		}
		t.Fatalf("mariadb-backup %v: %v\n%s", args, err, out)
	}
}

func sums(t *testing.T, s *mysqldtest.Server) map[string]string {
	t.Helper()
	m, err := Checksums(t.Context(), s.DB())
	if err != nil {
		t.Fatal(err)
	}
	return m
}
