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

// During runs f while the load runs, and ends the test's hope if the load fails.
func During(t testing.TB, l *Load, f func()) {
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

// serverFaults are what Check finds now and then on copies that have caught up
// as replicas, whoever made the backup; no row is lost by them.
var serverFaults = []string{
	// 10.5.23 and 11.8.6: the index misses documents that the table has.
	"documents that FULLTEXT finds by",
}

// VerifyCopy starts a server on a restored directory, checks all of it, makes
// it a replica of source from the recorded position, by GTID or by file
// position, checks it again when it has caught up, and compares the checksums of
// all tables. Faults with one of the texts in known are logged only.
func VerifyCopy(t testing.TB, source *mysqldtest.Server, dir string, byGTID bool, known ...string) {
	t.Helper()
	at, err := mysqldtest.RecordedPosition(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !byGTID {
		at.GTID = ""
	}
	keyring := ""
	if source.Keyring != "" { // the copy makes keys of its own
		keyring = filepath.Join(t.TempDir(), "keyring")
		if err := mysqldtest.CopyFile(keyring, source.Keyring); err != nil {
			t.Fatal(err)
		}
	}
	// With GTIDs, MySQL's replicas need a binary log of their own.
	copied := mysqldtest.StartOn(t, source.Root, dir, mysqldtest.Options{
		ServerID: 2, Binlog: !source.Root.MariaDB(), Init: source.Init, Config: []string{"skip-slave-start"}, Keyring: keyring,
	})
	if err := without(t, Check(t.Context(), copied.DB()), known); err != nil {
		t.Fatalf("copy: %v", err)
	}
	if !source.Root.MariaDB() && !source.Root.AtLeast(5, 7) {
		rollBackPrepared(t, copied)
	}
	mysqldtest.Attach(t, copied, source, at)
	mysqldtest.CatchUp(t, copied, source, time.Minute)
	if err := without(t, Check(t.Context(), copied.DB()), append(known, serverFaults...)); err != nil {
		t.Errorf("copy, caught up: %v", err)
	}
	for _, d := range Differences(sums(t, source), sums(t, copied)) {
		t.Error(d)
	}
	if err := copied.Stop(); err != nil {
		t.Error(err)
	}
}

// rollBackPrepared rolls back the prepared XA transactions. 5.6 writes an XA
// transaction to its binary log when it is committed, and not before, as if it
// were any other: the replica would wait for the prepared one to let its rows go.
func rollBackPrepared(t testing.TB, s *mysqldtest.Server) {
	t.Helper()
	names, err := prepared(t.Context(), s.DB())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		s.Exec(t, "XA ROLLBACK '"+name+"'")
	}
}

// without returns what is left of Check's error without known faults, which it
// logs.
func without(t testing.TB, err error, known []string) error {
	t.Helper()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var left []error
	for _, f := range joined.Unwrap() {
		if slices.ContainsFunc(known, func(s string) bool { return strings.Contains(f.Error(), s) }) {
			t.Logf("known: %v", f)
			continue
		}
		left = append(left, f)
	}
	return errors.Join(left...)
}

func sums(t testing.TB, s *mysqldtest.Server) map[string]string {
	t.Helper()
	m, err := Checksums(t.Context(), s.DB())
	if err != nil {
		t.Fatal(err)
	}
	return m
}
