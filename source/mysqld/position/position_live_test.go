package position

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/xbstream/metadata"
)

func TestBinlogPosition(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d")
		srv := client.Connect(t, client.Options(s))
		p, err := Binlog(t.Context(), srv)
		if err != nil || p == nil || p.File != "binlog.000001" || p.Pos < 256 || p.GTID != "0-1-1" {
			t.Fatalf("position = %+v, %v", p, err)
		}
		st, err := os.Stat(filepath.Join(s.Datadir, p.File))
		if err != nil || uint64(st.Size()) != p.Pos {
			t.Errorf("binary log has %d bytes, position %d (%v)", st.Size(), p.Pos, err)
		}
		if g, ok, err := ReadGalera(t.Context(), srv); ok || err != nil {
			t.Errorf("galera = %+v, %v, %v", g, ok, err)
		}
		if r, err := ReadReplica(t.Context(), srv); err != nil || r.FileText() != "" {
			t.Errorf("no replica: %+v, %v", r, err)
		}
	})
}

func TestNoBinlog(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		srv := client.Connect(t, client.Options(mysqldtest.Start(t, root, mysqldtest.Options{})))
		if p, err := Binlog(t.Context(), srv); p != nil || err != nil {
			t.Errorf("without a binary log: %+v, %v", p, err)
		}
		if err := srv.CheckPrivileges(t.Context(), mysqld.Needs{}); err != nil {
			t.Error(err)
		}
	})
}

// backupTool runs the server's own backup tool and returns its files' texts.
func backupTool(t *testing.T, s *mysqldtest.Server, args ...string) func(name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "backup")
	cmd := s.Tool("mariadb-backup", append([]string{"--defaults-file=" + s.DefaultsFile, "--backup", "--target-dir=" + dir}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-backup: %v\n%s", err, out)
	}
	return func(name string) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
}

// TestFilesAsTheirs holds the texts of the position files against those of the
// server's own tool, on a replica by file position, by GTID, and of two sources.
func TestFilesAsTheirs(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, func(t *testing.T, source *mysqldtest.Server) {
		replica := mysqldtest.Start(t, source.Root, mysqldtest.Options{Binlog: true, ServerID: 2})
		ctx := t.Context()
		srv := client.Connect(t, client.Options(replica))
		check := func(what string) {
			t.Helper()
			file := backupTool(t, replica, "--slave-info")
			p, err := Binlog(ctx, srv)
			if err != nil || p == nil {
				t.Fatal(p, err)
			}
			text, err := p.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if got, want := string(text), file(srv.Series.Files.BinlogInfo); got != want {
				t.Errorf("%s: binlog file %q, theirs %q", what, got, want)
			}
			if info := file(srv.Series.Files.Info); !strings.Contains(info, "binlog_pos = "+p.InfoText()+"\n") {
				t.Errorf("%s: binlog_pos %q is not in %q", what, p.InfoText(), info)
			}
			r, err := ReadReplica(ctx, srv)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := r.FileText(), file(srv.Series.Files.SlaveInfo); got != want {
				t.Errorf("%s: slave file %q, theirs %q", what, got, want)
			}
			checkpoints := file(srv.Series.Files.Checkpoints)
			if got := strings.Contains(checkpoints, "recover_binlog_info"); got != srv.Series.RecoverBinlogInfo {
				t.Errorf("recover_binlog_info = %v in %q", got, checkpoints)
			}
			_ = file(metadata.MyCnfName)
		}
		at, err := source.BinlogPosition(ctx)
		if err != nil {
			t.Fatal(err)
		}
		mysqldtest.Attach(t, replica, source, mysqldtest.Position{File: at.File, Pos: at.Pos})
		source.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1)")
		mysqldtest.CatchUp(t, replica, source, 30*time.Second)
		check("file position")
		replica.Exec(t, "STOP SLAVE", "CHANGE MASTER TO MASTER_USE_GTID=slave_pos", "START SLAVE")
		mysqldtest.CatchUp(t, replica, source, 30*time.Second)
		check("GTID")
		replica.Exec(t, "CREATE DATABASE own", "CHANGE MASTER 'second' TO MASTER_HOST='127.0.0.1', MASTER_PORT=1, MASTER_LOG_FILE='x.000007', MASTER_LOG_POS=77")
		check("two sources")
	})
}

// TestFormerSource: a server that was a source, and follows another one from
// gtid_current_pos, has an empty gtid_slave_pos at first. What a copy of it is told
// has it go on where this one does.
func TestFormerSource(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, func(t *testing.T, now *mysqldtest.Server) {
		ctx := t.Context()
		former := mysqldtest.Start(t, now.Root, mysqldtest.Options{Binlog: true, ServerID: 2})
		at, err := former.BinlogPosition(ctx)
		if err != nil {
			t.Fatal(err)
		}
		rows := []string{"CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY)", "INSERT INTO d.t VALUES (1), (2)"}
		former.Exec(t, rows...)
		mysqldtest.Attach(t, now, former, mysqldtest.Position{File: at.File, Pos: at.Pos})
		mysqldtest.CatchUp(t, now, former, 30*time.Second)
		now.Exec(t, "STOP SLAVE", "RESET SLAVE ALL")
		follow := fmt.Sprintf("MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='hb_repl', MASTER_PASSWORD='hb_repl', MASTER_SSL=0, ", now.Port)
		former.Exec(t, "CHANGE MASTER TO "+follow+"MASTER_USE_GTID=current_pos", "START SLAVE")
		mysqldtest.CatchUp(t, former, now, 30*time.Second)
		if got := former.Value(t, "SELECT @@global.gtid_slave_pos"); got != "" {
			t.Fatalf("gtid_slave_pos = %q", got)
		}
		r, err := ReadReplica(ctx, client.Connect(t, client.Options(former)))
		if err != nil || r.GTIDPos == "" || r.GTIDPos != former.Value(t, "SELECT @@global.gtid_current_pos") {
			t.Fatalf("%+v, %v", r, err)
		}
		copied := mysqldtest.Start(t, now.Root, mysqldtest.Options{Binlog: true, ServerID: 3})
		copied.Exec(t, rows...)
		// A replica that begins at the begin makes the table again, without an error
		// (slave_ddl_exec_mode), and loses what is only here.
		copied.Exec(t, "INSERT INTO d.t VALUES (99)", "RESET MASTER")
		for line := range strings.Lines(r.FileText()) {
			copied.Exec(t, strings.Replace(strings.TrimSuffix(line, ";\n"), "CHANGE MASTER TO ", "CHANGE MASTER TO "+follow, 1))
		}
		copied.Exec(t, "START SLAVE")
		now.Exec(t, "INSERT INTO d.t VALUES (3)")
		mysqldtest.CatchUp(t, copied, now, 30*time.Second)
		if got := copied.Value(t, "SELECT GROUP_CONCAT(a ORDER BY a) FROM d.t"); got != "1,2,3,99" {
			t.Errorf("rows %s", got)
		}
	})
}

// TestLogStatus shows that position, GTID set and LSN are of one moment: under
// load, all that is in the binary log up to the position was counted.
func TestLogStatus(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Binlog: true})
	stop := loadRows(t, s)
	srv := client.Connect(t, client.Options(s))
	var last LogStatus
	for range 50 {
		st, err := ReadLogStatus(t.Context(), srv)
		if err != nil {
			t.Fatal(err)
		}
		if st.Binlog == nil || st.Binlog.File != "binlog.000001" && st.Binlog.File != "binlog.000002" || st.LSN < last.LSN || st.Checkpoint > st.LSN || st.ServerUUID != srv.Vars.String("server_uuid") {
			t.Fatalf("%+v", st)
		}
		last = st
	}
	// And under the global lock, which holds the commits up.
	for range 10 {
		l, err := locks.New(srv).Global(t.Context(), locks.FTWRL{})
		if err != nil {
			t.Fatal(err)
		}
		st, err := ReadLogStatus(t.Context(), srv)
		if err != nil {
			t.Fatal(err)
		}
		p, err := Binlog(t.Context(), srv)
		if err != nil || *p != *st.Binlog || st.LSN < last.LSN || *p == *last.Binlog {
			t.Errorf("position %+v, %v; log_status %+v", p, err, st.Binlog)
		}
		if last = st; l.Release(t.Context()) != nil {
			t.Error("the lock was lost")
		}
	}
	stop()
	st, err := ReadLogStatus(t.Context(), srv)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Binlog(t.Context(), srv)
	if err != nil || *p != *st.Binlog || p.GTID == "" || st.LSN <= last.Checkpoint {
		t.Errorf("position %+v, %v; log_status %+v", p, err, st.Binlog)
	}
	if len(st.Channels) != 0 {
		t.Errorf("channels %+v", st.Channels)
	}
}

// TestWaitsForPrepared stops a commit between the binary log and InnoDB, with
// semi-synchronous replication and no replica: log_status must not count it as
// binary logged while it is only prepared, nor stall the server for longer than
// allowed. Nor may the change to another file of the binary log.
func TestWaitsForPrepared(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Binlog: true})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY) ENGINE=InnoDB", "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
		"SET GLOBAL rpl_semi_sync_source_wait_point=AFTER_SYNC", "SET GLOBAL rpl_semi_sync_source_timeout=15000", "SET GLOBAL rpl_semi_sync_source_enabled=ON")
	opt := client.Options(s)
	srv := client.Connect(t, opt)
	opt.LockWait = time.Minute
	patient := client.Connect(t, opt)
	if !srv.Series.WaitsForPrepared {
		t.Fatalf("%+v", srv.Series)
	}
	before, err := Binlog(t.Context(), srv)
	if err != nil {
		t.Fatal(err)
	}
	commit := s.Background(t, "INSERT INTO d.t VALUES (1)")
	mysqldtest.Await(t, "it is in the binary log", func() bool {
		p, err := Binlog(t.Context(), srv)
		if err != nil {
			t.Fatal(err)
		}
		return p.Pos != before.Pos
	})
	_, err = ReadLogStatus(t.Context(), srv)
	if _, ok := errors.AsType[*locks.TimeoutError](err); !ok || !strings.Contains(err.Error(), "semi-synchronous") {
		t.Errorf("error = %v", err)
	}
	err = FlushBinaryLogs(t.Context(), srv)
	if _, ok := errors.AsType[*locks.TimeoutError](err); !ok || !strings.Contains(err.Error(), "semi-synchronous") {
		t.Errorf("a new binary log file: %v", err)
	}
	if n := s.Value(t, "SELECT COUNT(*) FROM d.t"); n != "0" {
		t.Fatalf("%s rows: the commit did not wait", n)
	}
	st, err := ReadLogStatus(t.Context(), patient)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Value(t, "SELECT COUNT(*) FROM d.t"); n != "1" || st.Binlog.GTID == before.GTID {
		t.Errorf("%s rows, position %+v", n, st.Binlog)
	}
	if err := commit(); err != nil {
		t.Error(err)
	}
	s.Exec(t, "INSERT INTO d.t VALUES (2)")
}

// TestRotateBinlogLocked: an XA COMMIT that waits for somebody's global read lock is in no
// file of the binary log, and is not waited for.
func TestRotateBinlogLocked(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Binlog: true})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT PRIMARY KEY) ENGINE=InnoDB")
	locker, c := s.Conn(t), s.Conn(t)
	for _, q := range []string{"XA START 'x'", "INSERT INTO d.t VALUES (1)", "XA END 'x'", "XA PREPARE 'x'"} {
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := locker.ExecContext(t.Context(), "FLUSH TABLES WITH READ LOCK"); err != nil {
		t.Fatal(err)
	}
	commit := s.Background(t, "XA COMMIT 'x'")
	mysqldtest.Await(t, "XA COMMIT waits", func() bool {
		return s.Value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'XA COMMIT%' AND STATE = 'Waiting for commit lock'") == "1"
	})
	f, err := RotateBinlog(t.Context(), client.Connect(t, client.Options(s)))
	if err != nil || f.Name != "binlog.000002" {
		t.Errorf("%+v, %v", f, err)
	}
	if _, err := locker.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	if err := commit(); err != nil {
		t.Error(err)
	}
}

// TestRotateBinlogBytes: statements with bytes of any kind, which INSERT of a BLOB has, are no
// obstacle.
func TestRotateBinlogBytes(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Binlog: true})
	wait := s.Background(t, "SELECT SLEEP(2), LENGTH('\x8d\xec6\xfc')")
	mysqldtest.Await(t, "the statement runs", func() bool {
		rows := s.Rows(t, "SHOW PROCESSLIST")
		return slices.ContainsFunc(rows, func(r []string) bool { return strings.Contains(fmt.Sprint(r), "SLEEP(2)") })
	})
	if f, err := RotateBinlog(t.Context(), client.Connect(t, client.Options(s))); err != nil || f.Name != "binlog.000002" {
		t.Errorf("%+v, %v", f, err)
	}
	if err := wait(); err != nil {
		t.Error(err)
	}
}

func TestMySQLBinlogPosition(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d")
		srv := client.Connect(t, client.Options(s))
		p, err := Binlog(t.Context(), srv)
		uuid := s.Value(t, "SELECT @@server_uuid")
		if err != nil || p == nil || !strings.HasPrefix(p.File, "binlog.00000") || p.GTID != uuid+":1" {
			t.Fatalf("position = %+v, %v, want GTID %s:1", p, err, uuid)
		}
		st, err := os.Stat(filepath.Join(s.Datadir, p.File))
		if err != nil || uint64(st.Size()) != p.Pos {
			t.Errorf("binary log has %d bytes, position %d (%v)", st.Size(), p.Pos, err)
		}
		if r, err := ReadReplica(t.Context(), srv); err != nil || r.FileText() != "" {
			t.Errorf("no replica: %+v, %v", r, err)
		}
		if p, err := PauseReplica(t.Context(), srv, time.Second); err != nil || p != nil {
			t.Errorf("no replica: %+v, %v", p, err)
		}
	})
}

func TestMySQLNoBinlog(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		srv := client.Connect(t, client.Options(s))
		if p, err := Binlog(t.Context(), srv); p != nil || err != nil {
			t.Errorf("without a binary log: %+v, %v", p, err)
		}
		if srv.Vars.BinlogIndex() != "" {
			t.Errorf("index %q", srv.Vars.BinlogIndex())
		}
		if !srv.Series.LogStatus {
			return
		}
		if st, err := ReadLogStatus(t.Context(), srv); err != nil || st.Binlog != nil || st.LSN == 0 {
			t.Errorf("%+v, %v", st, err)
		}
	})
}
