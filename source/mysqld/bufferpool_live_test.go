package mysqld_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
)

func TestDumpBufferPool(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		ctx := t.Context()
		srv := client.Connect(t, client.Options(s))
		file := filepath.Join(s.Datadir, "ib_buffer_pool")
		size := func() int64 {
			t.Helper()
			st, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			return st.Size()
		}
		pct := func() string {
			v, err := srv.Refresh(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return v.String("innodb_buffer_pool_dump_pct")
		}
		before := pct()
		var sizes []int64
		for _, percent := range []int{100, 1} {
			d, err := srv.DumpBufferPool(ctx, percent)
			if err != nil {
				t.Fatal(err)
			}
			if done, err := d.Wait(ctx, 20*time.Second); !done || err != nil {
				t.Errorf("%d%%: %v, %v", percent, done, err)
			}
			if err := errors.Join(d.Close(), d.Close()); err != nil || pct() != before {
				t.Errorf("percentage %s, was %s: %v", pct(), before, err)
			}
			sizes = append(sizes, size())
			time.Sleep(1100 * time.Millisecond) // the server's status tells seconds apart
		}
		if s.Root.AtLeast(5, 7) && sizes[1] >= sizes[0] {
			t.Errorf("sizes %v", sizes)
		}
		if _, err := srv.DumpBufferPool(ctx, 101); err == nil {
			t.Error("101 %")
		}
		// Server.Close restores the setting.
		if _, err := srv.DumpBufferPool(ctx, 7); err != nil {
			t.Fatal(err)
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		srv = client.Connect(t, client.Options(s))
		if pct() != before {
			t.Errorf("percentage %s, was %s", pct(), before)
		}
	})
}
