package source_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld"
	inside "hb/source/mysqld/contents"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
)

// undoIDs are the ids of the undo tablespaces of a MySQL 9.7, which change as it truncates
// them.
func undoIDs(t *testing.T, s *mysqldtest.Server) (ids []string) {
	t.Helper()
	for _, r := range s.Rows(t, "SELECT FILE_ID FROM information_schema.FILES WHERE FILE_TYPE = 'UNDO LOG' ORDER BY FILE_NAME") {
		ids = append(ids, r[0])
	}
	return ids
}

// TestUndoReplaced has 9.7 truncate undo tablespaces while it is backed up: each time it
// makes the file again, with another id. A large transaction is open most of the time:
// what is restored must be without it.
func TestUndoReplaced(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	config := []string{"innodb-max-undo-log-size=10485760", "innodb-purge-rseg-truncate-frequency=1", "innodb-redo-log-capacity=256M"}
	s := mysqldtest.Start(t, root, mysqldtest.Options{Config: config})
	stop := churnUndo(t, s, 20*time.Millisecond)
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	var mu sync.Mutex
	var seen []string // the ids, each time that some had changed
	truncated := func(within time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		before := undoIDs(t, s)
		for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if now := undoIDs(t, s); !slices.Equal(now, before) {
				seen = append(seen, now...)
				break
			}
		}
	}
	var staged atomic.Bool
	srv := connectBy(t, rewriting(t, s, func(q string) string {
		if q == "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS" && staged.CompareAndSwap(true, false) { // the next step after that
			truncated(30 * time.Second)
		}
		return q
	}))
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = changing(t, srv, f, source.Options{}, func(n int) {
		// The first pieces are those of tables, the last ones those of undo tablespaces:
		// wait for truncations at both ends.
		if staged.Store(true); n == 1 || n%24 == 0 {
			truncated(5 * time.Second)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("ids that undo tablespaces had meanwhile: %v", seen)
	if staged.Load() {
		t.Error("none was truncated after all were staged")
	}
	for name := range entries(t, archive) { // the server has two
		if strings.Contains(name, "undo") && name != "undo_001" && name != "undo_002" {
			t.Errorf("the archive has %s", name)
		}
	}
	if len(seen) < 4 {
		t.Errorf("undo tablespaces were truncated %d times while they were copied, want twice at least", len(seen)/2)
	}
	stop()
	target := filepath.Join(dir, "restored")
	restoreByHB(t, root, archive, target)
	r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
	rows := r.Rows(t, "SELECT COUNT(DISTINCT v), COUNT(*), COUNT(DISTINCT LEFT(b, 1)), MIN(v) % 2 FROM d.a")
	if !slices.Equal(rows[0], []string{"1", "2400", "1", "0"}) {
		t.Errorf("values, rows, blobs, odd = %v: want one value, of a transaction that committed, in all 2400 rows", rows[0])
	}
	if got := r.Rows(t, "CHECK TABLE d.a EXTENDED"); got[len(got)-1][3] != "OK" {
		t.Errorf("%v", got)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}

// building are changes that build indexes without redo, what undoes them, and the stage in which
// pages are filled. (A full-text index is in it for too short a time: see TestBuilds.)
var building = []struct {
	name, build, undo string
	// held: somebody who reads the table holds up the end of the build. Its last record is in
	// the redo log by then. (That its pages are on disk, too, hb cannot know.)
	held bool
}{
	{"an index", "ALTER TABLE d.x ADD KEY k (v, id), ADD KEY k2 (w, v), LOCK=SHARED", "ALTER TABLE d.x DROP KEY k, DROP KEY k2", true},
	{"a table that is rebuilt", "ALTER TABLE d.x FORCE, ADD KEY k (v, id), ALGORITHM=INPLACE", "ALTER TABLE d.x DROP KEY k", false},
}

// TestBuildWhileCopied has hb of 9.7 begin to copy a table, and all files that the build
// makes, in the middle of each. If a build is over too soon, it has another try.
func TestBuildWhileCopied(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	for _, b := range building {
		t.Run(b.name, func(t *testing.T) {
			s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-max-dirty-pages-pct=99", "innodb-buffer-pool-size=512M"}})
			numbers(t, s)
			s.Exec(t, "CREATE TABLE d.big (a INT PRIMARY KEY) AUTOEXTEND_SIZE=128M", "INSERT INTO d.big VALUES (1)",
				"CREATE TABLE d.x (id INT PRIMARY KEY AUTO_INCREMENT, v VARCHAR(100), w INT)",
				"INSERT INTO d.x (v, w) SELECT CONCAT('word', a.s, ' common ', b.s, ' other', b.s * a.s % 977), a.s * b.s % 1009 FROM d.seq a, d.seq b WHERE b.s < 100",
				"UPDATE performance_schema.setup_consumers SET ENABLED = 'YES' WHERE NAME = 'events_stages_current'")
			dir := t.TempDir()
			const tries = 8
			for try := 1; ; try++ {
				archive := filepath.Join(dir, fmt.Sprint("archive", try))
				if copyDuring(t, s, archive, b.build, b.held) {
					if !entries(t, archive)["d/x.del"] {
						t.Error("the copy that began during the build counts")
					}
					compareRestored(t, root, s, archive, filepath.Join(dir, "restored"), nil)
					return
				}
				if try == tries {
					t.Fatalf("in each of %d tries the index was built before its table was copied", tries)
				}
				s.Exec(t, b.undo)
			}
		})
	}
}

// copyDuring makes an archive, and has an index be built shortly before its table is copied.
// It reports whether the build was under way when the copy had begun; it is over at the end of
// the copy.
func copyDuring(t *testing.T, s *mysqldtest.Server, archive, build string, held bool) (during bool) {
	t.Helper()
	reader := s.Conn(t)
	built := make(chan error, 1)
	const waiting, building, done = 0, 1, 2
	state, pieces := waiting, 0
	hookedBackup(t, s, archive, hooks{pace: func(int) {
		if began(archive, "d/big.ibd") {
			pieces++
		}
		switch {
		case state == waiting && pieces == 124: // of 128 or a few more: the table comes soon
			state = building
			go func() {
				_, err := s.DB().ExecContext(t.Context(), build)
				built <- err
			}()
			until := func(query string) {
				for len(built) == 0 && len(s.Rows(t, query)) == 0 {
				}
			}
			until("SELECT 1 FROM performance_schema.events_stages_current WHERE EVENT_NAME = 'stage/innodb/alter table (insert)'")
			if held {
				runOn(t, reader, "BEGIN", "DO (SELECT MIN(id) FROM d.x)")
				until("SELECT 1 FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for table metadata lock'")
				s.Exec(t, "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")
				time.Sleep(500 * time.Millisecond) // hb reads that record
			}
		case state == building && began(archive, "d/x.ibd"):
			state = done
			during = len(built) == 0
			if held {
				runOn(t, reader, "ROLLBACK")
			}
			if err := <-built; err != nil {
				t.Error(err)
			}
		}
	}})
	if state != done {
		t.Fatal("nothing was built while its table was copied")
	}
	return during
}

// runOn runs statements on a connection.
func runOn(t *testing.T, c *sql.Conn, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// TestRedoSwitched: if redo logging is off for a while during the backup, it fails, though it
// is on again at the end: the follower may notice it, the count of statements does. Key
// rotations and reloads of TLS do not matter.
func TestRedoSwitched(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, mysqldtest.Options{TLS: true})
	numbers(t, s)
	for _, c := range []struct {
		name     string
		during   []string
		switches uint64
	}{
		{"reloaded", []string{"ALTER INSTANCE RELOAD TLS"}, 0},
		{"switched", []string{"ALTER INSTANCE RELOAD TLS", "ALTER INSTANCE DISABLE INNODB REDO_LOG", "UPDATE d.n SET n = n + 10", "ALTER INSTANCE ENABLE INNODB REDO_LOG"}, 2},
		{"counters flushed", []string{"ALTER INSTANCE DISABLE INNODB REDO_LOG", "ALTER INSTANCE ENABLE INNODB REDO_LOG", "FLUSH STATUS"}, 2},
		{"prepared", []string{"PREPARE a FROM 'ALTER INSTANCE DISABLE INNODB REDO_LOG'", "EXECUTE a", "ALTER INSTANCE ENABLE INNODB REDO_LOG"}, 2},
	} {
		srv := client.Open(t, s)
		before, err := inside.CountAlterations(t.Context(), srv)
		if err != nil {
			t.Fatal(err)
		}
		_, err = changing(t, srv, io.Discard, source.Options{}, func(n int) {
			if n == 1 {
				run(t, s, c.during)
			}
		})
		var switched *source.UnloggedInstanceError
		var off *mysqlredo.FlagsError
		if (errors.As(err, &switched) || errors.As(err, &off)) != (c.switches > 0) || c.switches == 0 && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		now, err := inside.CountAlterations(t.Context(), srv)
		if err != nil || now.Unexplained(before) != c.switches {
			t.Errorf("%s: %d executions may have switched redo logging (%v), want %d", c.name, now.Unexplained(before), err, c.switches)
		}
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAlterationsWaiting: statements that wait for the lock under which hb counts are of the time
// after that; the rotation of a key is harmless whenever it is executed.
func TestAlterationsWaiting(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Keyring: filepath.Join(t.TempDir(), "keyring")})
	srv := client.Open(t, s)
	defer srv.Close()
	const rotate, off, on = "ALTER INSTANCE ROTATE INNODB MASTER KEY", "ALTER INSTANCE DISABLE INNODB REDO_LOG", "ALTER INSTANCE ENABLE INNODB REDO_LOG"
	s.Exec(t, rotate, off, on) // of long ago
	for _, c := range []struct {
		name        string
		first, last []string // that wait at the first and the last count
		between     []string
		want        uint64
	}{
		{"a rotation", []string{rotate}, nil, nil, 0},
		{"rotations at both", []string{rotate}, []string{rotate}, []string{rotate}, 0},
		{"switched off in time", []string{off}, nil, nil, 1},
		{"switched off and on beside a rotation", []string{rotate}, nil, []string{off, on}, 2},
		{"about to be switched off", nil, []string{off}, nil, 1},
	} {
		count := func(waiting []string) (a inside.Alterations) {
			lock := s.Conn(t)
			defer lock.Close()
			if _, err := lock.ExecContext(t.Context(), "LOCK INSTANCE FOR BACKUP"); err != nil {
				t.Fatal(err)
			}
			var ends []func() error
			for _, q := range waiting {
				ends = append(ends, s.Background(t, q))
			}
			mysqldtest.Await(t, "they wait", func() bool {
				return s.Value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for backup lock'") == strconv.Itoa(len(waiting))
			})
			a, err := inside.CountAlterations(t.Context(), srv)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := lock.ExecContext(t.Context(), "UNLOCK INSTANCE"); err != nil {
				t.Fatal(err)
			}
			for _, end := range ends {
				if err := end(); err != nil {
					t.Error(err)
				}
			}
			return a
		}
		before := count(c.first)
		s.Exec(t, c.between...)
		if got := count(c.last).Unexplained(before); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		s.Exec(t, on)
	}
}

// changing makes an archive of srv by one reader, and calls during before each piece of a
// tablespace is read, with the number of the call.
func changing(t *testing.T, srv *mysqld.Server, out io.Writer, opt source.Options, during func(n int)) (*source.Result, error) {
	t.Helper()
	n := 0
	opt.Parallel, opt.Tmpdir, opt.Tool, opt.ToolVersion = 1, t.TempDir(), "hb", "test"
	opt.Pace = func(context.Context, int) error { n++; during(n); return nil }
	return source.Run(t.Context(), srv, out, opt)
}

// reduced are the cases in which XtraBackup 8.4 with --lock-ddl=REDUCED lost tables or could
// not prepare the backup (percona-xtrabackup, pull request 1763), as far as they are of a
// full or an incremental backup at all. first runs when d.a and d.b are being copied, again when
// d.a is copied for the second time.
var reduced = []struct {
	name         string
	first, again []string
	queries      []string
	increment    bool // of an incremental backup
	damaged      bool // a page of d.a is: the backup must fail
}{
	{name: "two tables swap names, and three go round", first: []string{"RENAME TABLE d.a TO d.x, d.b TO d.a, d.x TO d.b", "RENAME TABLE d.a TO d.x, d.b TO d.a, d.c TO d.b, d.x TO d.c"}},
	{name: "renamed into a database that is new", first: []string{"CREATE DATABASE e", "RENAME TABLE d.a TO e.a"}, queries: []string{"SELECT SUM(CRC32(v)) FROM e.a"}},
	{name: "copied again, then dropped", first: []string{"ALTER TABLE d.a ADD KEY k (v(50), id)"}, again: []string{"DROP TABLE d.a"}},
	{name: "copied again, then renamed", first: []string{"ALTER TABLE d.a ADD KEY k (v(50), id)"}, again: []string{"RENAME TABLE d.a TO d.x, d.b TO d.a, d.x TO d.b"}},
	{name: "damaged, and renamed", first: []string{"RENAME TABLE d.a TO d.x"}, damaged: true},
	{name: "damaged, and exchanged for a partition", first: []string{"ALTER TABLE d.p EXCHANGE PARTITION p0 WITH TABLE d.a"}, damaged: true},
	{name: "partition exchanged, and reorganised", first: []string{"ALTER TABLE d.p EXCHANGE PARTITION p0 WITH TABLE d.a", "ALTER TABLE d.p REORGANIZE PARTITION p0, p1 INTO (PARTITION p0 VALUES LESS THAN MAXVALUE)"}},
	{name: "increment: there and back", first: []string{"RENAME TABLE d.a TO d.x", "UPDATE d.x SET v = 'x' WHERE id % 7 = 1", "RENAME TABLE d.x TO d.a"}, increment: true},
	{name: "increment: copied again, then renamed", first: []string{"ALTER TABLE d.a ADD KEY k (v(50), id)"}, again: []string{"RENAME TABLE d.a TO d.x, d.b TO d.a, d.x TO d.b"}, increment: true},
}

// TestReducedLock runs each of them on 9.7. The race detector need only see those in which
// hb copies a file again.
func TestReducedLock(t *testing.T) {
	for _, c := range reduced {
		t.Run(c.name, func(t *testing.T) {
			if len(c.again) > 0 {
				mysqldtest.Concurrent(t)
			}
			root := mysqldtest.Need(t, mysqldtest.MySQL97)
			s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-max-dirty-pages-pct=99"}})
			numbers(t, s)
			for _, table := range []string{"d.a", "d.b", "d.c"} {
				fill(t, s, table, "")
				s.Exec(t, "UPDATE "+table+" SET v = CONCAT('"+table+"', LEFT(v, 40))")
			}
			s.Exec(t, "CREATE TABLE d.p LIKE d.a", "ALTER TABLE d.p PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (5000), PARTITION p1 VALUES LESS THAN MAXVALUE)",
				"INSERT INTO d.p SELECT id + 10, v, b FROM d.b WHERE id < 500")
			dir := t.TempDir()
			archives := []string{filepath.Join(dir, "full"), filepath.Join(dir, "increment")}
			base := ""
			if c.increment {
				if _, err := backupSince(t, s, archives[0], ""); err != nil {
					t.Fatal(err)
				}
				s.Exec(t, "UPDATE d.b SET v = CONCAT('changed', LEFT(v, 30)) WHERE id % 50 = 0")
				base = archives[0]
			} else {
				archives = archives[:1]
			}
			if c.damaged {
				damage(t, s, "d/a.ibd")
			}
			err := backupReduced(t, s, archives[len(archives)-1], base, c.first, c.again)
			var page *innodb.PageError
			if c.damaged {
				if !errors.As(err, &page) {
					t.Errorf("the backup of a damaged table: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			archive := archives[0]
			if c.increment {
				archive = filepath.Join(dir, "merged")
				mergeChain(t, archive, archives)
			}
			compareRestored(t, root, s, archive, filepath.Join(dir, "restored"), nil, c.queries...)
		})
	}
}

// backupReduced makes an archive, and runs statements meanwhile.
func backupReduced(t *testing.T, s *mysqldtest.Server, archive, base string, first, again []string) error {
	t.Helper()
	srv := client.Open(t, s)
	defer srv.Close()
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	suffix := ""
	if base != "" {
		suffix = ".delta"
	}
	second := "d/a#hb#" + s.Value(t, "SELECT SPACE FROM information_schema.INNODB_TABLESPACES WHERE NAME = 'd/a'") + ".ibd" + suffix
	ran := 0
	_, err = changing(t, srv, f, source.Options{Since: base}, func(int) {
		switch {
		case ran == 0 && began(archive, "d/a.ibd"+suffix) && began(archive, "d/b.ibd"+suffix):
			ran++
			run(t, s, first)
		case ran == 1 && len(again) > 0 && began(archive, second):
			ran++
			run(t, s, again)
		}
	})
	if want := 1 + min(1, len(again)); ran != want && err == nil {
		t.Errorf("DDL ran at %d moments of the backup, want %d", ran, want)
	}
	return err
}

// damage flips a bit in the last page of a table's file that has content.
func damage(t *testing.T, s *mysqldtest.Server, name string) {
	t.Helper()
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.Datadir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 16 << 10
	at := len(b) - page
	for innodb.AllZero(b[at : at+page]) {
		at -= page
	}
	b[at+page/2] ^= 1
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
	*s = *mysqldtest.StartOn(t, s.Root, s.Datadir, mysqldtest.Options{})
}

// BenchmarkDDLStall reports, of a backup of a replica of 9.7 that is throttled so as to take
// about a minute, how long DDL waited at most there, and how far the replica lagged behind a
// primary that runs DDL.
func BenchmarkDDLStall(b *testing.B) {
	root := mysqldtest.Need(b, mysqldtest.MySQL97)
	primary := mysqldtest.Start(b, root, mysqldtest.Options{Binlog: true})
	replica := mysqldtest.Start(b, root, mysqldtest.Options{Binlog: true, ServerID: 2, Config: []string{"skip-replica-start"}})
	at, err := primary.BinlogPosition(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	at.GTID = ""
	primary.Exec(b, "CREATE DATABASE d", "CREATE TABLE d.beat (id INT PRIMARY KEY, at DOUBLE)", "INSERT INTO d.beat VALUES (1, 0)", "CREATE TABLE d.big (a INT PRIMARY KEY) AUTOEXTEND_SIZE=64M")
	mysqldtest.Attach(b, replica, primary, at)
	mysqldtest.CatchUp(b, replica, primary, time.Minute)
	waits, lags := make(map[source.LockDDL][]float64), make(map[source.LockDDL][]float64)
	both := []source.LockDDL{source.LockDDLOn, source.LockDDLReduced}
	for b.Loop() {
		for _, when := range both {
			mysqldtest.CatchUp(b, replica, primary, 2*time.Minute)
			wait, lag := ddlStall(b, primary, replica, when)
			waits[when], lags[when] = append(waits[when], wait), append(lags[when], lag)
		}
	}
	for _, when := range both {
		b.ReportMetric(median(waits[when]), string(when)+"-ddl-ms")
		b.ReportMetric(median(lags[when]), string(when)+"-lag-ms")
	}
	b.ReportMetric(0, "ns/op") // says nothing here
}

// ddlStall takes one backup, and returns the longest wait and the largest lag, in ms.
func ddlStall(b *testing.B, primary, replica *mysqldtest.Server, when source.LockDDL) (wait, lag float64) {
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	repeat := func(f func() error) {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	now := func() float64 { return float64(time.Now().UnixMilli()) }
	from := now()         // what the clock had before says nothing about this backup
	repeat(func() error { // the primary's DDL, and its clock
		for _, q := range []string{"CREATE TABLE d.t (a INT)", "DROP TABLE d.t"} {
			if _, err := primary.DB().ExecContext(b.Context(), q); err != nil {
				return err
			}
		}
		_, err := primary.DB().ExecContext(b.Context(), "UPDATE d.beat SET at = ? WHERE id = 1", now())
		time.Sleep(50 * time.Millisecond)
		return err
	})
	repeat(func() error {
		var at float64
		err := replica.DB().QueryRowContext(b.Context(), "SELECT at FROM d.beat WHERE id = 1").Scan(&at)
		lag = max(lag, now()-max(at, from))
		time.Sleep(20 * time.Millisecond)
		return err
	})
	repeat(func() error {
		began := now()
		_, err := replica.DB().ExecContext(b.Context(), "CREATE OR REPLACE VIEW d.local AS SELECT 1")
		wait = max(wait, now()-began)
		time.Sleep(20 * time.Millisecond)
		return err
	})
	srv := client.Open(b, replica)
	_, err := source.Run(b.Context(), srv, io.Discard, source.Options{Tmpdir: b.TempDir(), Tool: "hb", ToolVersion: "test", Throttle: 2 << 20,
		MySQLOptions: source.MySQLOptions{LockDDL: when}})
	cancel()
	wg.Wait()
	if err := errors.Join(err, srv.Close()); err != nil {
		b.Fatal(err)
	}
	return wait, lag
}
