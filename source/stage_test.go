package source

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"hb/source/spool"
	"hb/stream/disk"
	"hb/xbstream"
)

// staging is a stage over a data directory.
type staging struct {
	*datadir
	*stage
}

func newStaging(t *testing.T) staging {
	sp := spool.New(disk.OS, t.TempDir(), 1<<10) // most of it on disk
	t.Cleanup(func() { sp.Close() })
	return staging{newDatadir(t), newStage(disk.OS, sp)}
}

// old sets a file's times back, so that its last change is certainly over.
func (s staging) old(names ...string) {
	s.t.Helper()
	past := time.Now().Add(-time.Hour)
	for _, name := range names {
		if err := os.Chtimes(s.path(name), past, past); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s staging) ahead() {
	s.t.Helper()
	if err := s.copyAhead(s.t.Context(), s.list().others); err != nil {
		s.t.Fatal(err)
	}
}

// relocked refreshes the stage and returns how many bytes that copied.
func (s staging) relocked() int64 {
	s.t.Helper()
	before := s.spool.Size()
	if err := s.refresh(s.t.Context(), s.list().others, anyFile); err != nil {
		s.t.Fatal(err)
	}
	return s.spool.Size() - before
}

func (s staging) sent() map[string][]byte {
	s.t.Helper()
	var out bytes.Buffer
	a := &archive{w: xbstream.NewWriter(&out)}
	if err := s.send(s.t.Context(), a); err != nil {
		s.t.Fatal(err)
	}
	if err := a.w.Close(); err != nil {
		s.t.Fatal(err)
	}
	return readArchive(s.t, &out)
}

func TestStage(t *testing.T) {
	s := newStaging(t)
	s.write("db/same.MYD", bytes.Repeat([]byte("same"), 1000))
	s.write("db/grows.MYD", []byte("short"))
	s.write("db/rewritten.MYI", []byte("before"))
	s.write("db/dropped.frm", []byte("dropped"))
	s.write("db/other.txt", []byte("not the server's"))
	s.old("db/same.MYD", "db/grows.MYD", "db/rewritten.MYI", "db/dropped.frm")
	s.ahead()
	s.write("db/grows.MYD", []byte("longer now"))
	s.write("db/rewritten.MYI", []byte("after!"))
	s.remove("db/dropped.frm")
	s.write("db/new.frm", []byte("new"))
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
	s.write("db/fresh.MYD", []byte("just written"))
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
	s.mapped = true
	if s.relocked() == 0 {
		t.Error("with memory maps a file counts as unchanged")
	}
}

// TestStageAppends: of files that only grow, only the end is copied again.
func TestStageAppends(t *testing.T) {
	s := newStaging(t)
	log := bytes.Repeat([]byte("line\n"), 1<<20)
	s.write("mysql/general_log.CSV", log)
	s.ahead()
	log = append(log, "one more\n"...)
	s.write("mysql/general_log.CSV", log)
	if n := s.relocked(); n > segmentSize {
		t.Errorf("%d bytes were copied of 9 new ones", n)
	}
	if got := s.sent()["mysql/general_log.CSV"]; !bytes.Equal(got, log) {
		t.Errorf("%d bytes arrived, want %d, or others", len(got), len(log))
	}
}

// TestStageReplaced: a log that was rotated is copied anew.
func TestStageReplaced(t *testing.T) {
	s := newStaging(t)
	s.write("mysql/slow_log.CSV", []byte("a long old log"))
	s.ahead()
	s.remove("mysql/slow_log.CSV")
	s.write("mysql/slow_log.CSV.new", []byte("new log, which is longer"))
	s.rename("mysql/slow_log.CSV.new", "mysql/slow_log.CSV")
	s.relocked()
	if got := s.sent()["mysql/slow_log.CSV"]; string(got) != "new log, which is longer" {
		t.Errorf("content = %q", got)
	}
}
