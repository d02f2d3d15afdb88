package source

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/position"
	"hb/stream/disk"
)

// TestKnowRedo: hb decides what DDL did only when it has read the redo up to where the
// server was when it asked, however slowly that comes.
func TestKnowRedo(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MySQL57, mysqldtest.MySQL97, mysqldtest.MariaDB1011}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		srv := client.Open(t, s)
		defer srv.Close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b, err := newBackup(disk.OS, srv, io.Discard, Options{Parallel: 1, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(b.preflight(ctx), b.family.openRedo(ctx)); err != nil {
			t.Fatal(err)
		}
		defer func() {
			cancel()
			if err := b.close(context.Canceled); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}()
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
		lsn, err := position.CurrentLSN(ctx, srv)
		if err != nil {
			t.Fatal(err)
		}
		short, done := context.WithTimeout(ctx, 500*time.Millisecond)
		defer done()
		if err := b.knowRedo(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("nobody reads the redo log: %v", err)
		}
		b.follower.Start(ctx, io.Discard, "hb test", func(err error) {
			if ctx.Err() == nil {
				t.Error(err)
			}
		})
		if err := b.knowRedo(ctx); err != nil || b.follower.End() < lsn {
			t.Errorf("read up to LSN %d, the server was at %d: %v", b.follower.End(), lsn, err)
		}
	})
}
