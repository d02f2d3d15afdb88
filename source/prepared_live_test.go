package source_test

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/position"
	"hb/xbstream/metadata"
)

// held are transactions that are between the binary log and InnoDB as the position is
// taken: what each does before, and the last statement, which does not come back.
var held = []struct {
	before []string
	last   string
}{
	{nil, "INSERT INTO d.t VALUES (1, 'committed')"},
	{[]string{"XA START 'x2'", "INSERT INTO d.t VALUES (2, 'committed by XA')", "XA END 'x2'", "XA PREPARE 'x2'"}, "XA COMMIT 'x2'"},
	{[]string{"XA START 'x3'", "INSERT INTO d.t VALUES (3, 'prepared then')", "XA END 'x3'"}, "XA PREPARE 'x3'"},
	{[]string{"XA START 'x4'", "INSERT INTO d.t VALUES (4, 'never')", "XA END 'x4'", "XA PREPARE 'x4'"}, "XA ROLLBACK 'x4'"},
	{[]string{"XA START 'x5'", "INSERT INTO d.t VALUES (5, 'committed at once')", "XA END 'x5'"}, "XA COMMIT 'x5' ONE PHASE"},
}

// TestPreparedAtPosition: before 9.7 log_status does not wait for transactions that are
// in the binary log and only prepared in InnoDB. The restored server has what the
// position says: it commits them, and rolls back or leaves prepared what the binary
// log says so of; its GTID set is the recorded one, and it goes on as a replica from
// file and position, and by GTID. 9.7 stands in for those servers: semi-synchronous
// replication holds the transactions, and a statement takes the place of log_status
// that does not wait.
func TestPreparedAtPosition(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (n INT PRIMARY KEY, v VARCHAR(30))", "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
		"SET GLOBAL rpl_semi_sync_source_wait_point=AFTER_SYNC", "SET GLOBAL rpl_semi_sync_source_timeout=3600000")
	prepared(t, s, "XA START 'x0'", "INSERT INTO d.t VALUES (0, 'prepared before')", "XA END 'x0'", "XA PREPARE 'x0'")
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	manifest := backupOfHeld(t, s, archive)
	uuid := s.Value(t, "SELECT @@server_uuid")
	want := *manifest.Binlog
	if set := uuid + ":1-10"; want.GTID != set { // with CREATE and what was prepared before
		t.Errorf("%s is recorded, not %s", want.GTID, set)
	}
	if logged := loggedGTIDs(t, s, want); subtract(t, s, logged, want.GTID) != "" || subtract(t, s, want.GTID, logged) != "" {
		t.Errorf("%s is recorded, in the log up to there is %s", want.GTID, logged)
	}
	s.Exec(t, "INSERT INTO d.t VALUES (6, 'after')", "XA COMMIT 'x3'", "XA ROLLBACK 'x0'", "INSERT INTO d.t VALUES (0, 'another')")
	for i, at := range []mysqldtest.Position{{File: want.File, Pos: want.Pos}, {GTID: want.GTID}} {
		target := filepath.Join(dir, fmt.Sprint("restored", i))
		restoreByHB(t, root, archive, target)
		copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Binlog: true, ServerID: 2 + i})
		if got := strings.ReplaceAll(copied.Value(t, "SELECT @@global.gtid_executed"), "\n", ""); got != want.GTID {
			t.Errorf("the restored server has executed %s, recorded is %s", got, want.GTID)
		}
		const rows = "[[1 committed] [2 committed by XA] [5 committed at once]]"
		if got := fmt.Sprint(copied.Rows(t, "SELECT n, v FROM d.t ORDER BY n")); got != rows {
			t.Errorf("the restored server has %s, at the position there are %s", got, rows)
		}
		if got := fmt.Sprint(copied.Rows(t, "XA RECOVER")); strings.Count(got, "[1 ") != 2 || !strings.Contains(got, "x0") || !strings.Contains(got, "x3") {
			t.Errorf("the restored server has the prepared transactions %s, not x0 and x3", got)
		}
		mysqldtest.Attach(t, copied, s, at)
		mysqldtest.CatchUp(t, copied, s, time.Minute)
		const all = "SELECT n, v FROM d.t ORDER BY n"
		if got, want := fmt.Sprint(copied.Rows(t, all)), fmt.Sprint(s.Rows(t, all)); got != want {
			t.Errorf("the replica has %s, its source %s", got, want)
		}
		if got := copied.Rows(t, "XA RECOVER"); len(got) > 0 {
			t.Errorf("the replica has prepared transactions still: %v", got)
		}
	}
}

// TestXAEndsAtRotation: XA COMMIT and XA ROLLBACK are in the binary log file before the one
// that hb copies, and InnoDB has not carried them out when hb has the server begin that, which
// waits for neither: hb does, also if the server begins another file by itself. The restored
// server has what the position says, with GTIDs and without, and goes on as a replica.
// Semi-synchronous replication holds both for a while.
func TestXAEndsAtRotation(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	for _, c := range []struct {
		name   string
		config []string
		itself bool
	}{{"GTIDs", nil, false}, {"no GTIDs", []string{"gtid-mode=OFF", "enforce-gtid-consistency=OFF"}, false}, {"by itself", nil, true}} {
		t.Run(c.name, func(t *testing.T) {
			s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Config: c.config})
			s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (n INT PRIMARY KEY)", "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
				"SET GLOBAL rpl_semi_sync_source_wait_point=AFTER_SYNC", "SET GLOBAL rpl_semi_sync_source_timeout=3600000")
			for _, n := range []string{"1", "2"} {
				prepared(t, s, "XA START 'x"+n+"'", "INSERT INTO d.t VALUES ("+n+")", "XA END 'x"+n+"'", "XA PREPARE 'x"+n+"'")
			}
			dir := t.TempDir()
			archive := filepath.Join(dir, "archive")
			before, at := backupOfEnding(t, s, archive, c.itself)
			if at.File == before.File {
				t.Fatalf("the position is in %s, as before", at.File)
			}
			s.Exec(t, "INSERT INTO d.t VALUES (3)")
			target := filepath.Join(dir, "restored")
			restoreByHB(t, root, archive, target)
			copied := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Binlog: true, ServerID: 2, Config: c.config})
			if rows, left := copied.Rows(t, "SELECT n FROM d.t"), copied.Rows(t, "XA RECOVER"); fmt.Sprint(rows) != "[[1]]" || len(left) != 0 {
				t.Errorf("the restored server has the rows %v, and prepared %v; before the position, 1 was committed and 2 rolled back", rows, left)
			}
			from := mysqldtest.Position{File: at.File, Pos: at.Pos, GTID: at.GTID}
			if from.GTID != "" { // all that is in both files
				first := loggedGTIDs(t, s, metadata.BinlogPos{File: before.File, Pos: 1 << 40})
				if missing := subtract(t, s, first, from.GTID); missing != "" {
					t.Errorf("%s is recorded, and %s is before the position, too", from.GTID, missing)
				}
			}
			mysqldtest.Attach(t, copied, s, from)
			mysqldtest.CatchUp(t, copied, s, time.Minute)
			if got, want := fmt.Sprint(copied.Rows(t, "SELECT n FROM d.t")), fmt.Sprint(s.Rows(t, "SELECT n FROM d.t")); got != want {
				t.Errorf("the replica has %s, its source %s", got, want)
			}
		})
	}
}

// backupOfEnding takes a backup. Just before its binary log file is begun, or the server begins
// another one by itself, both XA transactions end, and are held for a while. It returns the positions
// of before and of the backup.
func backupOfEnding(t *testing.T, s *mysqldtest.Server, archive string, itself bool) (before mysqldtest.Position, at metadata.BinlogPos) {
	t.Helper()
	const hold = "SET GLOBAL rpl_semi_sync_source_enabled="
	var finish []func() error
	var rotated atomic.Bool
	socket := rewriting(t, s, func(q string) string {
		begins := strings.HasSuffix(q, " BINARY LOGS")
		if len(finish) > 0 || begins == itself || itself && (!rotated.Load() || !strings.HasSuffix(q, ".log_status")) {
			rotated.Store(rotated.Load() || begins)
			return q
		}
		var err error
		if before, err = s.BinlogPosition(t.Context()); err != nil {
			t.Error(err)
		}
		s.Exec(t, hold+"ON")
		for _, end := range []string{"XA COMMIT 'x1'", "XA ROLLBACK 'x2'"} {
			from, err := s.BinlogPosition(t.Context())
			if err != nil {
				t.Error(err)
			}
			finish = append(finish, s.Background(t, end))
			for began := time.Now(); !loggedWhole(t, s, from) && time.Since(began) < time.Minute; time.Sleep(10 * time.Millisecond) {
			}
		}
		if itself {
			s.Exec(t, "FLUSH BINARY LOGS")
		}
		time.AfterFunc(time.Second, func() { s.Exec(t, hold+"OFF") })
		return q
	})
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := source.Run(t.Context(), connectBy(t, socket), f, source.Options{Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	for _, done := range finish {
		if err := done(); err != nil {
			t.Error(err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return before, *r.Manifest.Binlog
}

// prepared runs the statements of one transaction in a session that then ends.
func prepared(t *testing.T, s *mysqldtest.Server, statements ...string) {
	t.Helper()
	c := s.Conn(t)
	for _, q := range statements {
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// backupOfHeld takes a backup, and holds transactions from just before its position
// until it is complete.
func backupOfHeld(t *testing.T, s *mysqldtest.Server, archive string) metadata.Manifest {
	t.Helper()
	var finish []func() error
	var rotated atomic.Bool // a server waits with that for what is held
	var asked atomic.Int32  // since then: twice for the file that is current, then for the position
	socket := rewriting(t, s, func(q string) string {
		if strings.HasSuffix(q, " BINARY LOGS") {
			rotated.Store(true)
		}
		if !rotated.Load() || !strings.HasSuffix(q, " FROM performance_schema.log_status") || asked.Add(1) < 3 {
			return q
		}
		var err error
		if finish, err = hold(t, s); err == nil {
			q, _, err = withoutWaiting(t, s)
		}
		if err != nil {
			t.Error(err)
		}
		return q
	})
	srv := connectBy(t, socket)
	srv.Series.WaitsForPrepared = false
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := source.Run(t.Context(), srv, f, source.Options{Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test"})
	if rows := s.Value(t, "SELECT COUNT(*) FROM d.t"); rows != "0" {
		t.Errorf("%s rows were committed by the end of the backup: nothing held them", rows)
	}
	s.Exec(t, "SET GLOBAL rpl_semi_sync_source_enabled=OFF")
	for _, done := range finish {
		if err := done(); err != nil {
			t.Error(err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(finish) != len(held) {
		t.Fatalf("%d transactions were held", len(finish))
	}
	return r.Manifest
}

// hold begins the transactions, and lets each go as far as the binary log.
func hold(t *testing.T, s *mysqldtest.Server) (finish []func() error, err error) {
	var conns []*sql.Conn
	for _, h := range held {
		c, err := s.DB().Conn(t.Context())
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { _ = c.Close() })
		conns = append(conns, c)
		for _, q := range h.before {
			if _, err := c.ExecContext(t.Context(), q); err != nil {
				return nil, fmt.Errorf("%s: %w", q, err)
			}
		}
	}
	if _, err := s.DB().ExecContext(t.Context(), "SET GLOBAL rpl_semi_sync_source_enabled=ON"); err != nil {
		return nil, err
	}
	for i, h := range held {
		before, err := s.BinlogPosition(t.Context())
		if err != nil {
			return nil, err
		}
		done := make(chan error, 1)
		go func() {
			_, err := conns[i].ExecContext(t.Context(), h.last)
			done <- err
		}()
		finish = append(finish, func() error { return <-done })
		for began := time.Now(); !loggedWhole(t, s, before); time.Sleep(10 * time.Millisecond) {
			if time.Since(began) > time.Minute {
				return finish, fmt.Errorf("%s did not reach the binary log", h.last)
			}
		}
	}
	return finish, nil
}

// loggedWhole reports whether the binary log has grown by a whole transaction: it is
// written piece by piece, and log_status, under the log's lock, sees no piece.
func loggedWhole(t *testing.T, s *mysqldtest.Server, before mysqldtest.Position) bool {
	events := s.Rows(t, "SHOW BINLOG EVENTS IN '"+before.File+"'")
	last := events[len(events)-1]
	end, err := strconv.ParseUint(last[4], 10, 64)
	return err == nil && end > before.Pos && (last[2] == "Xid" || last[2] == "XA_prepare" || strings.HasPrefix(last[5], "XA "))
}

// withoutWaiting is a statement that answers as log_status does, without waiting, while something
// else keeps transactions from InnoDB that are in the binary log; and the GTIDs that it
// answers with. (The status variables of the redo log lag behind it.)
func withoutWaiting(t *testing.T, s *mysqldtest.Server) (statement, executed string, err error) {
	if err = s.DB().QueryRowContext(t.Context(), "SELECT @@global.gtid_executed").Scan(&executed); err != nil {
		return "", "", err
	}
	at, err := s.BinlogPosition(t.Context())
	if err != nil {
		return "", "", err
	}
	srv := client.Open(t, s)
	lsn, err := position.CurrentLSN(t.Context(), srv)
	return fmt.Sprintf("SELECT @@server_uuid AS SERVER_UUID,"+
		" JSON_OBJECT('gtid_executed', '%s', 'binary_log_file', '%s', 'binary_log_position', %d) AS LOCAL,"+
		" JSON_OBJECT('channels', JSON_ARRAY()) AS REPLICATION,"+
		" JSON_OBJECT('InnoDB', JSON_OBJECT('LSN', %d, 'LSN_checkpoint', 0)) AS STORAGE_ENGINES", executed, at.File, at.Pos, lsn), executed, errors.Join(err, srv.Close())
}
