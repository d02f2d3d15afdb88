package sink_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/census"
	"hb/source/mysqld/mysqldtest/workload"
)

// backupOf makes a backup directory, in XtraBackup's form, of the data directory
// of a server that was killed.
func backupOf(t *testing.T, data, dir string) string {
	t.Helper()
	log, err := census.ReadLog(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	census.Backup(t, data, log, log.End, dir)
	t.Logf("redo from LSN %d to %d, %d KiB", log.Checkpoint.LSN, log.End, len(log.Blocks)>>10)
	return dir
}

// lazy keeps a server from writing pages before it is killed.
func lazy(root *mysqldtest.Root) mysqldtest.Options {
	o := mysqldtest.Options{Config: []string{
		"innodb-buffer-pool-size=128M", "innodb-max-dirty-pages-pct=99", "innodb-adaptive-flushing=OFF", "innodb-io-capacity=100",
		"innodb-flush-log-at-trx-commit=2",
	}}
	if root.AtLeast(8, 0) {
		o.Config = append(o.Config, "innodb-redo-log-capacity=512M")
	} else {
		o.Config = append(o.Config, "innodb-log-file-size=256M")
	}
	return o
}

// killedServer runs a load on a new server, kills it, and returns its data
// directory.
func killedServer(t *testing.T, root *mysqldtest.Root) string {
	o := lazy(root)
	o.Dir = t.TempDir()
	s := mysqldtest.Start(t, root, o)
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{Rate: 60, DDLRate: 3, MaxBlob: 30000})
	if err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "CREATE DATABASE left_open", "CREATE TABLE left_open.counter (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB",
		"CREATE TABLE left_open.t (id INT PRIMARY KEY, v VARCHAR(20)) ENGINE=InnoDB", "INSERT INTO left_open.t VALUES (1, 'was'), (2, 'was')")
	workload.During(t, load, func() {
		time.Sleep(2 * time.Second)
		// A checkpoint in the middle of it all.
		s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct=0")
		time.Sleep(2 * time.Second)
		s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct=99")
		time.Sleep(3 * time.Second)
	})
	s.Exec(t, "FLUSH TABLES") // those of MyISAM, CSV and ARCHIVE do not outlive a crash
	leaveOpen(t, s)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	return s.Datadir
}

// leaveOpen leaves a counter that no row tells of, a transaction that is open
// and an external one that is prepared.
func leaveOpen(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	s.Exec(t, "INSERT INTO left_open.counter VALUES (NULL), (41), (NULL)", "DELETE FROM left_open.counter WHERE id > 1")
	for _, session := range [][]string{
		{"BEGIN", "UPDATE left_open.t SET v = 'never' WHERE id = 1", "INSERT INTO left_open.t VALUES (10, 'never')"},
		{"XA START 'x1'", "UPDATE left_open.t SET v = 'perhaps' WHERE id = 2", "INSERT INTO left_open.t VALUES (20, 'perhaps')", "XA END 'x1'", "XA PREPARE 'x1'"},
	} {
		conn, err := s.DB().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() }) // the server is gone by then
		for _, q := range session {
			if _, err := conn.ExecContext(t.Context(), q); err != nil {
				t.Fatalf("%s: %v", q, err)
			}
		}
	}
	s.Exec(t, "CREATE TABLE left_open.last (id INT) ENGINE=InnoDB", "FLUSH ENGINE LOGS")
}

// content is what a server has.
type content struct {
	sums     map[string]string
	counters string
	prepared string
	rows     string
}

// look starts a server on a directory, checks all of it, and returns what is
// there before and after the prepared transaction is committed.
func look(t *testing.T, root *mysqldtest.Root, dir string) content {
	t.Helper()
	s := mysqldtest.StartOn(t, root, dir, mysqldtest.Options{Config: []string{"innodb-buffer-pool-size=128M"}})
	log, err := s.ErrorLog()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, "in the future") || strings.Contains(line, "corrupt") {
			t.Errorf("the server says: %s", line)
		}
	}
	// What was not committed is rolled back in the background.
	mysqldtest.Await(t, "what was not committed is rolled back", func() bool {
		return s.Value(t, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'ROLLING BACK'") == "0"
	})
	var c content
	c.prepared = fmt.Sprint(s.Rows(t, "XA RECOVER"))
	if strings.Contains(c.prepared, "x1") {
		s.Exec(t, "XA COMMIT 'x1'")
	}
	c.rows = fmt.Sprint(s.Rows(t, "SELECT id, v FROM left_open.t ORDER BY id"))
	if root.AtLeast(8, 0) {
		s.Exec(t, "SET GLOBAL information_schema_stats_expiry = 0")
	}
	conn, err := s.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := workload.Check(t.Context(), s.DB()); err != nil {
		t.Errorf("%s: %v", dir, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	c.counters = fmt.Sprint(s.Rows(t, "SELECT CONCAT(table_schema, '.', table_name), auto_increment FROM information_schema.tables WHERE auto_increment IS NOT NULL AND table_schema NOT IN ('mysql', 'sys', 'performance_schema') ORDER BY 1"))
	if c.sums, err = workload.Checksums(t.Context(), s.DB()); err != nil {
		t.Error(err)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	return c
}

func (c content) compare(t *testing.T, what string, want content) {
	t.Helper()
	for _, d := range workload.Differences(want.sums, c.sums) {
		t.Errorf("%s: %s", what, d)
	}
	if c.counters != want.counters {
		t.Errorf("%s: AUTO_INCREMENT counters\n%s\nwant\n%s", what, c.counters, want.counters)
	}
	if c.prepared != want.prepared || c.rows != want.rows {
		t.Errorf("%s: prepared %s, rows %s; want %s, %s", what, c.prepared, c.rows, want.prepared, want.rows)
	}
}

// TestMySQLApply recovers a backup by apply, and has the server recover it from
// the log that apply puts into place for it, and from its own: all come to the
// same.
func TestMySQLApply(t *testing.T) {
	mysqldtest.Concurrent(t, mysqldtest.MySQL97)
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		data := killedServer(t, root)
		base := t.TempDir()
		backup := backupOf(t, data, filepath.Join(base, "backup"))

		ours := copyTree(t, backup, filepath.Join(base, "ours"))
		r := mustApply(t, ours, apply.Options{})
		t.Logf("LSN %d to %d, %d mini-transactions, %d runs, %d pages written", r.FromLSN, r.LSN, r.MTRs, r.Runs, r.Pages)
		otherWays(t, base, backup, ours)
		if again := mustApply(t, ours, apply.Options{}); !again.AlreadyApplied || again.LSN == 0 {
			t.Errorf("applying a second time: %+v", again)
		}
		byServer := copyTree(t, backup, filepath.Join(base, "server"))
		handedOver, err := apply.Run(t.Context(), byServer, apply.Options{ByServer: true})
		// The load may rename a table to a name that it had before, which not every server
		// gets through: see TestApplyMySQLByServerRenames.
		_, refused := errors.AsType[*backupdir.NotBackupError](err)
		refused = refused && !root.AtLeast(8, 0) && strings.Contains(err.Error(), "the redo log renames a table to")
		switch {
		case refused:
			t.Logf("by the server: %v", err)
		case err != nil || slices.ContainsFunc(handedOver.Warnings, otherThanPool) || handedOver.LSN != r.LSN:
			t.Fatalf("by the server: %+v, %v; want up to LSN %d", handedOver, err, r.LSN)
		}

		want := look(t, root, data)
		if !strings.Contains(want.rows, "was") || strings.Contains(want.rows, "never") {
			t.Errorf("rows %s", want.rows)
		}
		t.Logf("%d tables, prepared %s, rows %s", len(want.sums), want.prepared, want.rows)
		if !refused {
			look(t, root, byServer).compare(t, "by the server", want)
		}
		look(t, root, ours).compare(t, "by Apply", want)
	})
}

// otherThanPool reports whether a warning is another one than that the server needs a larger
// buffer pool for so much redo, which depends on how fast the load was.
func otherThanPool(warning string) bool {
	return !strings.Contains(warning, "start it with innodb_buffer_pool_size of at least")
}

// TestMySQLPrepared kills servers while many sessions commit: what was prepared
// then and is in the binary log is committed if the binary log is there, by a
// server that finds apply's result as by the one that recovers itself.
func TestMySQLPrepared(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		prepared := 0
		for try := 0; prepared == 0; try++ {
			if try == 20 {
				t.Fatal("no transaction was prepared whenever the server was killed")
			}
			data := killedCommitting(t, root)
			base := t.TempDir()
			ours := backupOf(t, data, filepath.Join(base, "ours"))
			names, err := filepath.Glob(filepath.Join(data, "binlog.*"))
			if err != nil || len(names) < 2 {
				t.Fatal(names, err)
			}
			for _, name := range names {
				if err := mysqldtest.CopyFile(filepath.Join(ours, filepath.Base(name)), name); err != nil {
					t.Fatal(err)
				}
			}
			byServer := copyTree(t, ours, filepath.Join(base, "server"))
			mustApply(t, ours, apply.Options{})
			mustApply(t, byServer, apply.Options{ByServer: true})
			var want string
			o := mysqldtest.Options{Binlog: true}
			if root.AtLeast(8, 0) {
				o.Config = []string{"log-error-verbosity=3"}
			}
			for _, dir := range []string{data, ours, byServer} {
				s := mysqldtest.StartOn(t, root, dir, o)
				log, err := s.ErrorLog()
				if err != nil {
					t.Fatal(err)
				}
				got := fmt.Sprint(s.Rows(t, "SELECT COUNT(*), SUM(id), SUM(writer) FROM p.t"), s.Rows(t, "XA RECOVER"))
				if err := s.Stop(); err != nil {
					t.Error(err)
				}
				if dir == data {
					want = got
					prepared = strings.Count(log, "prepared state")
					t.Logf("%d lines about prepared transactions, rows %s", prepared, want)
				} else if got != want {
					t.Errorf("%s: rows %s, want %s", filepath.Base(dir), got, want)
				}
			}
		}
	})
}

// killedCommitting kills a server in the middle of many small transactions, and
// returns its data directory.
func killedCommitting(t *testing.T, root *mysqldtest.Root) string {
	o := lazy(root)
	o.Dir, o.Binlog = t.TempDir(), true
	o.Config = append(o.Config, "innodb-flush-log-at-trx-commit=1", "sync-binlog=1")
	s := mysqldtest.Start(t, root, o)
	s.Exec(t, "CREATE DATABASE p", "CREATE TABLE p.t (id BIGINT AUTO_INCREMENT PRIMARY KEY, writer INT, v VARCHAR(200)) ENGINE=InnoDB")
	var wg sync.WaitGroup
	for writer := range 16 {
		wg.Go(func() {
			conn, err := s.DB().Conn(t.Context())
			for err == nil { // until the server is gone
				_, err = conn.ExecContext(t.Context(), "INSERT INTO p.t (writer, v) VALUES (?, REPEAT('x', 200))", writer)
			}
			if conn != nil {
				conn.Close()
			}
		})
	}
	time.Sleep(2 * time.Second)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	return s.Datadir
}

// TestByServerGrown hands a table over that grew after its file was copied: the
// server finds the file shorter than the redo log has it.
func TestByServerGrown(t *testing.T) {
	servers := []string{mysqldtest.MySQL57} // 9.7 takes the new length from the log
	if mysqldtest.Long() {
		servers = mysqldtest.MySQL
	}
	mysqldtest.Each(t, servers, func(t *testing.T, root *mysqldtest.Root) {
		o := lazy(root)
		o.Dir = t.TempDir()
		s := mysqldtest.Start(t, root, o)
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(2000)) ENGINE=InnoDB", "INSERT INTO d.t (v) VALUES (REPEAT('a', 2000))")
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(s.Datadir, "d", "t.ibd")
		before, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, o)
		for range 11 {
			s.Exec(t, "INSERT INTO d.t (v) SELECT REPEAT('b', 2000) FROM d.t")
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if after, err := os.Stat(file); err != nil || after.Size() <= before.Size() {
			t.Fatalf("the table has not grown from %d bytes: %v", before.Size(), err)
		}
		backup := backupOf(t, s.Datadir, filepath.Join(t.TempDir(), "backup"))
		if err := os.Truncate(filepath.Join(backup, "d", "t.ibd"), before.Size()); err != nil {
			t.Fatal(err)
		}
		mustApply(t, backup, apply.Options{ByServer: true})
		r := mysqldtest.StartOn(t, root, backup, mysqldtest.Options{Config: o.Config})
		if n := r.Value(t, "SELECT COUNT(*) FROM d.t WHERE LENGTH(v) = 2000"); n != "2048" {
			t.Errorf("%s rows, want 2048", n)
		}
		if got := r.Rows(t, "CHECK TABLE d.t EXTENDED"); got[len(got)-1][3] != "OK" {
			t.Error(got)
		}
	})
}
