package source_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/metadata"
)

// TestLocksOf97: the global lock is never taken, and a lock on tables only where
// there are non-transactional tables.
func TestLocksOf97(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := t.TempDir()
	log := filepath.Join(dir, "general.log")
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Config: []string{"general-log=ON", "general-log-file=" + log}})
	numbers(t, s)
	readLocks := func() (lines []string) {
		t.Helper()
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, "READ LOCK") {
				lines = append(lines, line)
			}
		}
		return lines
	}
	for _, c := range []struct {
		when  source.LockDDL
		locks int // at the beginning, for a moment between, at the end
	}{{source.LockDDLOn, 1}, {source.LockDDLReduced, 3}} {
		r := hookedBackup(t, s, filepath.Join(dir, string(c.when)), hooks{opt: source.Options{MySQLOptions: source.MySQLOptions{LockDDL: c.when}}})
		if lines := readLocks(); len(lines) != 0 || len(r.Locks) != c.locks || r.Manifest.Locks.Commit != 0 {
			t.Errorf("--lock-ddl=%s with InnoDB tables only: %q, %+v", c.when, lines, r.Locks)
		}
	}
	s.Exec(t, "CREATE TABLE d.m (a INT, KEY (a)) ENGINE=MyISAM", "INSERT INTO d.m VALUES (1), (2)")
	archive := filepath.Join(dir, "two")
	changed := false
	r := hookedBackup(t, s, archive, hooks{pace: func(int) {
		if !changed {
			changed = true
			s.Exec(t, "INSERT INTO d.m VALUES (3)")
		}
	}})
	if lines := readLocks(); len(lines) != 1 || !strings.Contains(lines[0], "`d`.`m` WITH READ LOCK") || r.Manifest.Locks.Commit != 0 {
		t.Errorf("with a MyISAM table: %q, %+v", lines, r.Locks)
	}
	compareRestored(t, root, s, archive, filepath.Join(dir, "restored"), nil)
}

// TestLockHeld: hb reports no shorter a time for the last LOCK INSTANCE FOR BACKUP than the server
// shows it as granted, with many tables of InnoDB, and MyISAM tables that were written to
// during the backup and are copied under the lock.
func TestLockHeld(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
	numbers(t, s)
	const tables, plain = 200, 8
	for i := range tables {
		s.Exec(t, fmt.Sprintf("CREATE TABLE d.i%d (a INT PRIMARY KEY)", i))
	}
	for i := range plain {
		s.Exec(t, fmt.Sprintf("CREATE TABLE d.m%d (a INT, b CHAR(250)) ENGINE=MyISAM", i), fmt.Sprintf("INSERT INTO d.m%d SELECT s, REPEAT('m', 250) FROM d.seq", i))
	}
	seen := seenLocks(t, s)
	changed := false
	r := hookedBackup(t, s, filepath.Join(t.TempDir(), "archive"), hooks{pace: func(int) {
		if !changed {
			changed = true
			for i := range plain {
				s.Exec(t, fmt.Sprintf("INSERT INTO d.m%d VALUES (0, 'new')", i))
			}
		}
	}})
	var held time.Duration // of the last one, until the next lock and then with that
	for _, l := range r.Locks {
		if l.Lock == "LOCK INSTANCE FOR BACKUP" {
			held = 0
		} else {
			held += l.Wait
		}
		held += l.Held
	}
	least := seen()
	if len(least) == 0 {
		t.Fatal("the server showed the lock at no time")
	}
	const rounding = time.Millisecond // of the manifest
	if longest, told := slices.Max(least), time.Duration(r.Manifest.Locks.DDL)*time.Millisecond; held < longest || told+rounding < longest {
		t.Errorf("hb held the lock for %v, it says (and locked DDL out for %v in all); the server showed it for %v", held, told, longest)
	} else {
		t.Logf("held for %v as hb says; for %v at least, as the server shows", held, longest)
	}
}

// seenLocks looks for granted backup locks until the function that it returns is called, which
// says for how long, at least, each was held that was seen twice.
func seenLocks(t *testing.T, s *mysqldtest.Server) (stop func() []time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	first, last := make(map[string]time.Time), make(map[string]time.Time)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			began := time.Now()
			rows := s.Rows(t, "SELECT OWNER_THREAD_ID FROM performance_schema.metadata_locks WHERE OBJECT_TYPE = 'BACKUP LOCK' AND LOCK_TYPE = 'SHARED' AND LOCK_STATUS = 'GRANTED'")
			for _, r := range rows {
				if first[r[0]].IsZero() {
					first[r[0]] = time.Now()
				} else {
					last[r[0]] = began
				}
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return func() (least []time.Duration) {
		cancel()
		<-done
		for id, at := range last {
			least = append(least, at.Sub(first[id]))
		}
		return least
	}
}

// TestWaitingDDL: DDL that waits for the backup is not harmed by it, nor does it
// hold the backup up.
func TestWaitingDDL(t *testing.T) {
	mysqldtest.Concurrent(t)
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
	numbers(t, s)
	s.Exec(t, "CREATE TABLE d.m (a INT, KEY (a)) ENGINE=MyISAM", "INSERT INTO d.m VALUES (1), (2)")
	done := make(chan error, 4)
	started := false
	hookedBackup(t, s, filepath.Join(t.TempDir(), "archive"), hooks{opt: source.Options{MySQLOptions: source.MySQLOptions{LockDDL: source.LockDDLOn}}, pace: func(int) {
		if started {
			return
		}
		started = true
		for _, q := range []string{"ALTER TABLE d.m ADD b INT", "ALTER TABLE d.n ADD b INT", "CREATE TABLE d.o (a INT)", "DROP TABLE d.seq"} {
			go func() {
				_, err := s.DB().ExecContext(t.Context(), q)
				done <- err
			}()
		}
		mysqldtest.Await(t, "all DDL waits for the lock", func() bool {
			return s.Value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for backup lock'") == "4"
		})
	}})
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestWaitingDDLPerTable: with metadata locks on all tables, DDL that waits for them
// does not keep hb from its final lock, and is in the backup.
func TestWaitingDDLPerTable(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL[:2], func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		numbers(t, s)
		changes := []string{"ALTER TABLE d.seq ADD KEY built (s), LOCK=SHARED", "ALTER TABLE d.n ADD b INT, ALGORITHM=COPY"}
		done := make(chan error, len(changes))
		waiting := func() bool {
			return s.Value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for table metadata lock'") == "2"
		}
		started := false
		archive := filepath.Join(t.TempDir(), "archive")
		r := hookedBackup(t, s, archive, hooks{opt: source.Options{MySQLOptions: source.MySQLOptions{LockDDLPerTable: true}}, pace: func(int) {
			if started {
				return
			}
			started = true
			for _, q := range changes {
				go func() { _, err := s.DB().ExecContext(t.Context(), q); done <- err }()
			}
			mysqldtest.Await(t, "all DDL waits for the lock", waiting)
		}})
		for range changes {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		for _, l := range r.Locks {
			if l.Wait > 20*time.Second {
				t.Errorf("%s was waited for for %v", l.Lock, l.Wait)
			}
		}
		compareRestored(t, root, s, archive, filepath.Join(t.TempDir(), "restored"), nil,
			"SELECT COUNT(*) FROM d.seq FORCE INDEX (built) WHERE s >= 0", "SELECT COUNT(b IS NULL) FROM d.n")
	})
}

// TestTemporaryTables56: the redo log of 5.6 has changes to temporary tables,
// which are in no backup.
func TestTemporaryTables56(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL56)
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	numbers(t, s)
	c, err := s.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exec := func(statements ...string) {
		t.Helper()
		for _, q := range statements {
			if _, err := c.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
	}
	exec("CREATE TEMPORARY TABLE d.tmp (a INT PRIMARY KEY, b VARCHAR(100)) ENGINE=InnoDB", "INSERT INTO d.tmp SELECT s, 'x' FROM d.seq",
		"SET GLOBAL innodb_max_dirty_pages_pct=0", "SELECT SLEEP(3)")
	archive := filepath.Join(t.TempDir(), "archive")
	changed := false
	r := hookedBackup(t, s, archive, hooks{pace: func(int) {
		if !changed {
			changed = true
			exec("UPDATE d.tmp SET b = REPEAT('y', 90)", "INSERT INTO d.seq VALUES (100000)")
		}
	}})
	t.Logf("temporary tablespaces %v", r.Manifest.TemporarySpaces)
	compareRestored(t, root, s, archive, filepath.Join(t.TempDir(), "restored"), nil)
}

// TestMySQLOptions: what is asked for by options is in the archive.
func TestMySQLOptions(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		primary := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		o := mysqldtest.Options{Binlog: true, ServerID: 2, Config: []string{"skip-slave-start"}}
		if root.Name == mysqldtest.MySQL57 { // the dump is not in the data directory then
			o.Init = []string{"innodb-data-home-dir=" + t.TempDir()}
		}
		s := mysqldtest.Start(t, root, o)
		at, err := primary.BinlogPosition(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at.GTID = ""
		numbers(t, primary)
		mysqldtest.Attach(t, s, primary, at)
		mysqldtest.CatchUp(t, s, primary, time.Minute)
		dir := t.TempDir()
		r := hookedBackup(t, s, filepath.Join(dir, "archive"), hooks{opt: source.Options{
			SlaveInfo:    true,
			MySQLOptions: source.MySQLOptions{SafeSlave: true, DumpBufferPool: true, LockDDLPerTable: !root.AtLeast(8, 0)},
		}})
		target := filepath.Join(dir, "restored")
		restoreByHB(t, root, filepath.Join(dir, "archive"), target)
		slave, err := os.ReadFile(filepath.Join(target, "xtrabackup_slave_info"))
		now, perr := primary.BinlogPosition(t.Context())
		if err != nil || perr != nil || !strings.Contains(string(slave), now.File) {
			t.Errorf("slave info %q (%v, %v), want position %+v", slave, err, perr, now)
		}
		if st, err := os.Stat(filepath.Join(target, "ib_buffer_pool")); err != nil || st.Size() == 0 {
			t.Errorf("the buffer pool's dump: %v, %v", st, err)
		}
		names := map[string]bool{}
		for _, l := range r.Locks {
			names[l.Lock] = true
		}
		if names["metadata locks on all InnoDB tables"] != !root.AtLeast(8, 0) {
			t.Errorf("locks: %+v", r.Locks)
		}
		status := "SHOW SLAVE STATUS"
		if root.AtLeast(8, 4) {
			status = "SHOW REPLICA STATUS"
		}
		if rows := s.Rows(t, status); !strings.Contains(strings.Join(rows[0], " "), "Yes Yes") {
			t.Errorf("the replica does not run: %q", rows[0])
		}
		checkMetadata(t, target, root)
	})
}

// checkMetadata looks at the files that XtraBackup of the release would read.
func checkMetadata(t *testing.T, dir string, root *mysqldtest.Root) {
	t.Helper()
	c, name, err := metadata.ReadCheckpoints(os.DirFS(dir))
	if err != nil || name != "xtrabackup_checkpoints" || (c.Compact != nil) != !root.AtLeast(8, 0) || (c.RedoFrames != nil) != root.AtLeast(8, 4) {
		t.Errorf("%s: %+v, %v", name, c, err)
	}
	info, _, err := metadata.ReadInfo(os.DirFS(dir))
	if err != nil || info.Format != "xbstream" || info.BinlogPos == "" {
		t.Errorf("info: %+v, %v", info, err)
	}
	cnf, err := metadata.ReadMyCnf(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range []string{"innodb_data_file_path", "innodb_page_size", "server_id", "innodb_undo_directory"} {
		if v, ok := cnf.Get(option); !ok || v == "" {
			t.Errorf("backup-my.cnf has no %s", option)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "xtrabackup_tablespaces"))
	if root.AtLeast(8, 0) {
		var v struct{ Version int }
		if err != nil || json.Unmarshal(text, &v) != nil || v.Version != 2 || !strings.Contains(string(text), "innodb_undo_001") {
			t.Errorf("xtrabackup_tablespaces: %s, %v", text, err)
		}
	}
}
