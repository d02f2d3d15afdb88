package source_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/metadata"
)

// TestGTIDsOf97: the GTID set that is recorded is that of file and position, as
// the server lists its binary log, while XA transactions, others, and some with
// tags are committed; the restored server has executed just that.
func TestGTIDsOf97(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (w INT, n INT, PRIMARY KEY (w, n))")
	stop := commits(t, s)
	rounds := 6
	if mysqldtest.Long() {
		rounds = 60
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	for range rounds {
		at := *backup(t, s, archive).Manifest.Binlog
		want := loggedGTIDs(t, s, at)
		if extra := subtract(t, s, at.GTID, want); extra != "" {
			t.Errorf("at %s %d: %s is recorded and not in the log", at.File, at.Pos, extra)
		}
		if missing := subtract(t, s, want, at.GTID); missing != "" {
			t.Errorf("at %s %d: %s is in the log and not recorded", at.File, at.Pos, missing)
		}
		if got := s.Value(t, "SELECT GTID_SUBTRACT(?, '')", at.GTID); strings.ReplaceAll(got, "\n", "") != at.GTID {
			t.Errorf("%s is recorded, the server writes it %s", at.GTID, got)
		}
	}
	stop()
	target := filepath.Join(dir, "restored")
	restoreByHB(t, root, archive, target)
	at, err := metadata.ReadBinlogPos(os.DirFS(target))
	if err != nil {
		t.Fatal(err)
	}
	info, _, err := metadata.ReadInfo(os.DirFS(target))
	if err != nil || !strings.Contains(info.BinlogPos, "'"+at.GTID+"'") {
		t.Errorf("the info file has %q (%v), want %s", info.BinlogPos, err, at.GTID)
	}
	copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Binlog: true, ServerID: 2})
	if got := strings.ReplaceAll(copied.Value(t, "SELECT @@global.gtid_executed"), "\n", ""); got != at.GTID {
		t.Errorf("the restored server has executed %s, recorded is %s", got, at.GTID)
	}
}

// commits commits transactions on several connections until the function that it
// returns is called.
func commits(t *testing.T, s *mysqldtest.Server) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := commitOne(t.Context(), s, w, n); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	return sync.OnceFunc(func() { cancel(); wg.Wait() })
}

// commitOne commits the nth transaction of a connection.
func commitOne(ctx context.Context, s *mysqldtest.Server, w, n int) error {
	insert := fmt.Sprintf("INSERT INTO d.t VALUES (%d, %d)", w, n)
	xid := fmt.Sprintf("'x%d-%d'", w, n)
	statements := []string{"XA START " + xid, insert, "XA END " + xid, "XA PREPARE " + xid, "XA COMMIT " + xid}
	switch w {
	case 4:
		statements = []string{insert}
	case 5:
		statements = []string{"SET gtid_next='AUTOMATIC:of_" + strconv.Itoa(n%3) + "'", insert, "SET gtid_next='AUTOMATIC'"}
	}
	c, err := s.DB().Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, q := range statements {
		if _, err := c.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

// loggedGTIDs is the GTID set up to a position, as the server lists its binary log.
func loggedGTIDs(t *testing.T, s *mysqldtest.Server, at metadata.BinlogPos) string {
	t.Helper()
	var sets []string
	for _, row := range s.Rows(t, "SHOW BINLOG EVENTS IN '"+at.File+"'") {
		end, err := strconv.ParseUint(row[4], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if end > at.Pos {
			break
		}
		switch kind, info := row[2], row[5]; {
		case kind == "Previous_gtids":
			sets = append(sets, info)
		case slices.Contains([]string{"Gtid", "Gtid_tagged_log_event"}, kind):
			_, gtid, _ := strings.Cut(info, "'")
			sets = append(sets, strings.TrimSuffix(gtid, "'"))
		}
	}
	return strings.Join(sets, ",")
}

// subtract is what of a set is not in another, by the server.
func subtract(t *testing.T, s *mysqldtest.Server, set, other string) string {
	t.Helper()
	return s.Value(t, "SELECT GTID_SUBTRACT(?, ?)", set, other)
}

// TestBinlogElsewhere: where the server has its binary log outside of its data
// directory, hb apply asks where the restored server has its own, and puts the end of it there,
// under the same path as before or another: the server reads it, and has executed
// what is recorded, the writes to non-transactional tables too.
func TestBinlogElsewhere(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := t.TempDir()
	logs := filepath.Join(dir, "logs")
	mkdir := func(path string) {
		t.Helper()
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	mkdir(logs)
	elsewhere := mysqldtest.Options{Binlog: true, Config: []string{"log-bin=" + logs + "/x"}}
	s := mysqldtest.Start(t, root, elsewhere)
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (w INT, n INT, PRIMARY KEY (w, n))", "CREATE TABLE d.m (a INT) ENGINE=MyISAM")
	stop := commits(t, s)
	archive := filepath.Join(dir, "archive")
	written := false
	r := hookedBackup(t, s, archive, hooks{pace: func(int) {
		if !written {
			written = true
			s.Exec(t, "INSERT INTO d.m VALUES (1)")
		}
	}})
	stop()
	s.Exec(t, "INSERT INTO d.m VALUES (2)")
	if home := r.Manifest.BinlogHome; home == nil || home.Base != logs+"/x" || home.Index != logs+"/x.index" {
		t.Fatalf("%+v", home)
	}
	extract := func(name string) string {
		t.Helper()
		f, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		target := filepath.Join(dir, name)
		if _, err := extract.Run(t.Context(), f, target, extract.Options{}); err != nil {
			t.Fatal(err)
		}
		return target
	}
	same := extract("same")
	_, err := apply.Run(t.Context(), same, apply.Options{Tool: "hb test"})
	if _, ok := errors.AsType[*apply.BinlogPlaceError](err); !ok {
		t.Errorf("without a place: %v", err)
	}
	if _, err := verify.Directory(t.Context(), same, verify.Options{Replay: true, Tmpdir: dir}); err != nil {
		t.Errorf("a rehearsal needs no place: %v", err)
	}
	_, err = apply.Run(t.Context(), same, apply.Options{Tool: "hb test", LogBin: logs + "/x"})
	if _, ok := errors.AsType[*backupdir.TargetError](err); !ok {
		t.Errorf("where the old server's are: %v", err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(logs, logs+".old"); err != nil {
		t.Fatal(err)
	}
	mkdir(logs)
	inside := extract("inside")
	for _, c := range []struct{ target, logBin, config string }{{same, logs + "/x", "log-bin=" + logs + "/x"}, {inside, "binlog", "log-bin=binlog"}} {
		for range 2 { // nothing is to be done any more the second time
			if _, err := apply.Run(t.Context(), c.target, apply.Options{Tool: "hb test", LogBin: c.logBin}); err != nil {
				t.Fatal(err)
			}
		}
		copied := mysqldtest.StartOn(t, root, c.target, mysqldtest.Options{Binlog: true, ServerID: 2, Config: []string{c.config}})
		if got := strings.ReplaceAll(copied.Value(t, "SELECT @@global.gtid_executed"), "\n", ""); got != r.Manifest.Binlog.GTID {
			t.Errorf("with %s the restored server has executed %s, recorded is %s", c.config, got, r.Manifest.Binlog.GTID)
		}
		for _, row := range copied.Rows(t, "SHOW BINARY LOGS") {
			if row[1] == "0" {
				t.Errorf("with %s the server does not find its %s", c.config, row[0])
			}
		}
		events := copied.Rows(t, "SHOW BINLOG EVENTS IN '"+r.Manifest.Binlog.File+"'")
		if end := events[len(events)-1][4]; end != strconv.FormatUint(r.Manifest.Binlog.Pos, 10) {
			t.Errorf("with %s the binary log ends at %s, recorded is %d", c.config, end, r.Manifest.Binlog.Pos)
		}
		if err := copied.Stop(); err != nil {
			t.Error(err)
		}
	}
}
