package sink_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hb/sink"
	"hb/source"
	"hb/source/mysqld"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/workload"
)

// loadedArchive makes an archive of a server under load.
func loadedArchive(t *testing.T, root *mysqldtest.Root) string {
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 10})
	if err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "archive")
	workload.During(t, load, func() {
		time.Sleep(time.Second)
		archiveOf(t, s, archive)
	})
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	return archive
}

// archiveOf makes an archive of a running server.
func archiveOf(t *testing.T, s *mysqldtest.Server, archive string) {
	t.Helper()
	out, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := mysqld.Connect(t.Context(), mysqld.Options{Network: "unix", Socket: s.Socket, User: "root"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = source.Run(t.Context(), srv, out, source.Options{Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	if err := errors.Join(err, srv.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
}

// verifyFile verifies an archive in a file.
func verifyFile(ctx context.Context, archive string, o sink.VerifyOptions) (*sink.VerifyResult, error) {
	in, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	r, err := sink.Verify(ctx, in, o)
	return r, errors.Join(err, in.Close())
}

// TestVerifyLive: what backups of loaded servers are, every way of verifying
// finds them whole.
func TestVerifyLive(t *testing.T) {
	mysqldtest.Each(t, append(append([]string{}, mysqldtest.MariaDB...), mysqldtest.MySQL...), func(t *testing.T, root *mysqldtest.Root) {
		archive := loadedArchive(t, root)
		r, err := verifyFile(t.Context(), archive, sink.VerifyOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", *r)
	})
}
