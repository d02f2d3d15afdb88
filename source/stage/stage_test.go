package stage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hb/source/datadir"
	"hb/source/sourcetest"
	"hb/source/spool"
	"hb/stream/disk"
	"hb/xbstream"
	"hb/xbstream/xbtest"
)

// TestCopyPrefix: as much of a growing file as asked for is staged, and what is
// not there yet is waited for.
func TestCopyPrefix(t *testing.T) { synctest.Test(t, copiesPrefix) }

func copiesPrefix(t *testing.T) {
	s := newStaging(t)
	s.Write("binlog.000001", []byte("header"))
	f, err := os.Open(s.Path("binlog.000001"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	go func() {
		time.Sleep(20 * time.Millisecond) // when it is waited for
		if err := os.WriteFile(s.Path("binlog.000001"), []byte("header and events and more"), 0o644); err != nil {
			t.Error(err)
		}
	}()
	if err := s.CopyPrefix(t.Context(), f, "binlog.000001", 17); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("binlog.index", []byte("./binlog.000001\n")); err != nil {
		t.Fatal(err)
	}
	got := s.sent()
	if string(got["binlog.000001"]) != "header and events" || string(got["binlog.index"]) != "./binlog.000001\n" {
		t.Errorf("sent %q", got)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if err := s.CopyPrefix(ctx, f, "binlog.000001", 1000); !errors.Is(err, gone) {
		t.Errorf("error = %v", err)
	}
}

// staging is a stage over a data directory.
type staging struct {
	*sourcetest.Dir
	*Stage
}

func newStaging(t *testing.T) staging {
	sp := spool.New(disk.OS, t.TempDir(), 1<<10) // most of it on disk
	t.Cleanup(func() { sp.Close() })
	return staging{sourcetest.NewDir(t), New(disk.OS, sp)}
}

// old sets a file's times back, so that its last change is certainly over.
func (s staging) old(names ...string) {
	s.T.Helper()
	past := time.Now().Add(-time.Hour)
	for _, name := range names {
		if err := os.Chtimes(s.Path(name), past, past); err != nil {
			s.T.Fatal(err)
		}
	}
}

func (s staging) ahead() {
	s.T.Helper()
	if err := s.CopyAhead(s.T.Context(), s.List().Others); err != nil {
		s.T.Fatal(err)
	}
}

// relocked refreshes the stage and returns how many bytes that copied.
func (s staging) relocked() int64 {
	s.T.Helper()
	before := s.spool.Size()
	if err := s.Refresh(s.T.Context(), s.List().Others, datadir.AnyFile); err != nil {
		s.T.Fatal(err)
	}
	return s.spool.Size() - before
}

func (s staging) sent() map[string][]byte {
	s.T.Helper()
	var out bytes.Buffer
	w := xbstream.NewWriter(&out)
	if err := s.Send(s.T.Context(), func(name string) (io.WriteCloser, error) { return w.Create(name) }); err != nil {
		s.T.Fatal(err)
	}
	if err := w.Close(); err != nil {
		s.T.Fatal(err)
	}
	return xbtest.ReadAll(s.T, &out)
}

func TestStage(t *testing.T) {
	s := newStaging(t)
	s.Write("db/same.MYD", bytes.Repeat([]byte("same"), 1000))
	s.Write("db/grows.MYD", []byte("short"))
	s.Write("db/rewritten.MYI", []byte("before"))
	s.Write("db/dropped.frm", []byte("dropped"))
	s.Write("db/other.txt", []byte("not the server's"))
	s.old("db/same.MYD", "db/grows.MYD", "db/rewritten.MYI", "db/dropped.frm")
	s.ahead()
	s.Write("db/grows.MYD", []byte("longer now"))
	s.Write("db/rewritten.MYI", []byte("after!"))
	s.Remove("db/dropped.frm")
	s.Write("db/new.frm", []byte("new"))
	if n := s.relocked(); n != int64(len("longer now")+len("after!")+len("new")) {
		t.Errorf("%d bytes were copied under the lock", n)
	}
	got := s.sent()
	for name, want := range map[string]string{
		"db/same.MYD": strings.Repeat("same", 1000), "db/grows.MYD": "longer now",
		"db/rewritten.MYI": "after!", "db/new.frm": "new",
	} {
		if string(got[name]) != want {
			t.Errorf("%s = %.40q, want %.40q", name, got[name], want)
		}
	}
	if len(got) != 4 {
		t.Errorf("%d files were sent, want 4", len(got))
	}
}

// TestStageUnsure: where file times cannot tell whether a file changed since it
// was copied, it is copied again.
func TestStageUnsure(t *testing.T) {
	s := newStaging(t)
	s.Write("db/fresh.MYD", []byte("just written"))
	s.ahead()
	if s.relocked() == 0 {
		t.Error("a file written right before its copy counts as unchanged")
	}
	s.old("db/fresh.MYD")
	if s.relocked() == 0 {
		t.Error("a file whose times moved counts as unchanged")
	}
	if s.relocked() != 0 {
		t.Error("an old file was copied again")
	}
	s.Mapped = true
	if s.relocked() == 0 {
		t.Error("with memory maps a file counts as unchanged")
	}
}

// TestStageAppends: of files that only grow, only the end is copied again.
func TestStageAppends(t *testing.T) {
	s := newStaging(t)
	log := bytes.Repeat([]byte("line\n"), 1<<20)
	s.Write("mysql/general_log.CSV", log)
	s.ahead()
	log = append(log, "one more\n"...)
	s.Write("mysql/general_log.CSV", log)
	if n := s.relocked(); n > pieceSize {
		t.Errorf("%d bytes were copied of 9 new ones", n)
	}
	if got := s.sent()["mysql/general_log.CSV"]; !bytes.Equal(got, log) {
		t.Errorf("%d bytes arrived, want %d, or others", len(got), len(log))
	}
}

// TestStageReplaced: a log that was rotated is copied again.
func TestStageReplaced(t *testing.T) {
	s := newStaging(t)
	s.Write("mysql/slow_log.CSV", []byte("a long old log"))
	s.ahead()
	s.Remove("mysql/slow_log.CSV")
	s.Write("mysql/slow_log.CSV.new", []byte("new log, which is longer"))
	s.Rename("mysql/slow_log.CSV.new", "mysql/slow_log.CSV")
	s.relocked()
	if got := s.sent()["mysql/slow_log.CSV"]; string(got) != "new log, which is longer" {
		t.Errorf("content = %q", got)
	}
}

// TestStageTruncated: a log that was truncated, which leaves its file the same, and
// has grown beyond its copy since, is copied from its beginning.
func TestStageTruncated(t *testing.T) {
	s := newStaging(t)
	s.Write("mysql/slow_log.CSV", []byte("10:00 first\n10:01 second\n"))
	s.ahead()
	const want = "10:02 after TRUNCATE\n10:03 and\n10:04 so on\n"
	s.Write("mysql/slow_log.CSV", []byte(want))
	s.relocked()
	if got := s.sent()["mysql/slow_log.CSV"]; string(got) != want {
		t.Errorf("content = %q", got)
	}
}
