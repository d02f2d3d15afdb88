package redo_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/source/redo"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mariadbredo"
)

// TestNamedOnly adds to a server's log a FILE_MODIFY of a file that there never was,
// without and with a record of one of its pages. The server recovers from the first
// and not from the second: the follower tells the two apart.
func TestNamedOnly(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MariaDB118}, func(t *testing.T, root *mysqldtest.Root) {
		const id = 70 // one byte in the log
		const name = "./test/lost.ibd"
		named := innodbtest.MariaDBFile(byte(mariadbredo.FileModify)<<4, id, name)
		for _, changed := range []bool{false, true} {
			s := mysqldtest.Start(t, root, mysqldtest.Options{})
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			records := bytes.Clone(named)
			if changed {
				records = append(records, innodbtest.MariaDBWrite(id, 5, 228, "\x07")...)
			}
			end := appendMTR(t, filepath.Join(s.Datadir, "ib_logfile0"), records)
			file := followTo(t, s.Datadir, end)[id]
			if file == nil || file.Name() != "test/lost.ibd" || file.Changed != changed || file.Created != 0 || file.Deleted {
				t.Errorf("changed %v: the log says %+v", changed, file)
			}
			s, err := mysqldtest.LaunchOn(t.Context(), root, s.Datadir, mysqldtest.Options{Dir: t.TempDir()})
			if changed {
				if err == nil || !strings.Contains(err.Error(), "Tablespace 70 was not found at ./test/lost.ibd") {
					t.Errorf("the server's recovery, where pages are changed: %v", err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if log, err := s.ErrorLog(); err != nil || !strings.Contains(log, "but there were no modifications either") {
				t.Errorf("the server does not say that it passed over the name: %v\n%s", err, log)
			}
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

// appendMTR adds a mini-transaction to a server's log of the 10.8+ format that has not
// come round yet, and returns its end.
func appendMTR(t *testing.T, path string, records []byte) innodb.LSN {
	t.Helper()
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := mariadbredo.ParseHeader(log)
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.Checkpoint(log)
	if err != nil {
		t.Fatal(err)
	}
	geo, err := mariadbredo.LiveGeometry(h, c, int64(len(log)))
	if err != nil {
		t.Fatal(err)
	}
	cut := mariadbredo.NewCutter(geo, c.LSN)
	cut.Feed(log[geo.Offset(c.LSN):])
	for _, ok := cut.Next(); ok; _, ok = cut.Next() {
	}
	at := geo.Offset(cut.End())
	mtr := innodbtest.MTR(records, 1)
	if copy(log[at:], append(mtr, 0)) != len(mtr)+1 {
		t.Fatal("the log comes round")
	}
	if err := os.WriteFile(path, log, 0o600); err != nil {
		t.Fatal(err)
	}
	return cut.End() + innodb.LSN(len(mtr))
}

// followTo follows the log of a server that is not running, and returns what it says
// of files.
func followTo(t *testing.T, dir string, end innodb.LSN) map[innodb.SpaceID]*redo.FileState {
	t.Helper()
	f, err := redo.Open(disk.OS, dir, t.TempDir(), func(context.Context) (flushed, current innodb.LSN, err error) { return end, end, nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f.Start(ctx, new(output), "hb test", cancel)
	if err := f.Finish(ctx, end); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return f.Files()
}
