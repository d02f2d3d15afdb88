package tracking_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/source/mysqld/position"
	"hb/source/mysqld/tracking"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

const turnOn = "SELECT mysqlbackup_page_track_set(1)"

// tracked starts a server that tracks pages.
func tracked(t *testing.T, o mysqldtest.Options) *mysqldtest.Server {
	t.Helper()
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), o)
	s.Exec(t, "INSTALL COMPONENT 'file://component_mysqlbackup'", turnOn)
	grow(t, s)
	return s
}

// grow has the server record so many pages that its list is past the first block.
func grow(t testing.TB, s *mysqldtest.Server) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE IF NOT EXISTS grown", "CREATE TABLE grown.t"+columns)
	rows(t, s, "grown.t", 50000, 900)
	s.WriteOut(t)
	s.Exec(t, "DROP TABLE grown.t", "SET GLOBAL innodb_max_dirty_pages_pct = 90")
}

// A base is a state of a server that a list begins with.
type base struct {
	mark *metadata.PageTracking
	from innodb.LSN
	im   image
}

func checkpoint(t testing.TB, srv *mysqld.Server) innodb.LSN {
	t.Helper()
	c, err := position.CheckpointLSN(t.Context(), srv)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// takeBase takes a base, in the order of a backup.
func takeBase(t testing.TB, s *mysqldtest.Server, srv *mysqld.Server) base {
	t.Helper()
	mark, err := tracking.Begin(t.Context(), srv)
	if err != nil {
		t.Fatal(err)
	}
	defer lockDDL(t, srv)() // a file that is renamed would be seen twice
	return base{mark, checkpoint(t, srv), look(t, s.Datadir)}
}

// lockDDL locks DDL out, as a backup does; the result lets it in again.
func lockDDL(t testing.TB, srv *mysqld.Server) (release func()) {
	t.Helper()
	lock, err := locks.New(srv).Instance(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := lock.Release(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

// changed asks for the list in the order of a backup, and compares it with a scan.
func changed(t testing.TB, s *mysqldtest.Server, srv *mysqld.Server, b base, unlogged ...innodb.SpaceID) (verdict, error) {
	t.Helper()
	return changedIn(t, 20*time.Second, s, srv, b, unlogged...)
}

// changedIn is changed, and waits so long for a checkpoint.
func changedIn(t testing.TB, wait time.Duration, s *mysqldtest.Server, srv *mysqld.Server, b base, unlogged ...innodb.SpaceID) (verdict, error) {
	t.Helper()
	defer lockDDL(t, srv)()
	list, err := tracking.Changed(t.Context(), srv, tracking.Request{
		Base: b.mark, Redo: checkpoint(t, srv), Disk: disk.OS, Datadir: s.Datadir, Wait: wait,
	})
	if err != nil {
		return verdict{}, err
	}
	return judge(b.im, look(t, s.Datadir), list, b.from, b.mark.ResetLSN, unlogged...), nil
}

// complete is changed, and demands that the list has all that it must have.
func complete(t testing.TB, s *mysqldtest.Server, srv *mysqld.Server, b base, least int, unlogged ...innodb.SpaceID) {
	t.Helper()
	v, err := changed(t, s, srv, b, unlogged...)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(v)
	if len(v.missing) > 0 || v.changed < least {
		t.Errorf("the list is not complete: %v", v)
	}
	if left, err := filepath.Glob(filepath.Join(s.Datadir, "#meb", "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// rows fills a table with an increasing id and text of so many bytes.
func rows(t testing.TB, s *mysqldtest.Server, table string, n, bytes int) {
	t.Helper()
	c := s.Conn(t)
	db, _, _ := strings.Cut(table, ".")
	for _, q := range []string{
		"USE " + db, "SET SESSION cte_max_recursion_depth = 1000000",
		fmt.Sprintf("INSERT INTO %s (id, k, v) WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r WHERE n < %d) SELECT n, n*7919 %% 10007, RPAD(SHA2(n, 256), %d, SHA2(n+1, 256)) FROM r", table, n, bytes),
	} {
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
}

const columns = " (id INT PRIMARY KEY, k INT NOT NULL, v VARCHAR(2000) NOT NULL, KEY (k))"

// TestListIsComplete is the server's proof: whatever changes pages, they are in the list.
func TestListIsComplete(t *testing.T) {
	s := tracked(t, mysqldtest.Options{Init: []string{"innodb-buffer-pool-size=24M"}})
	for _, q := range []string{
		"CREATE DATABASE d", "CREATE TABLESPACE g ADD DATAFILE 'g.ibd' ENGINE=InnoDB",
		"CREATE TABLE d.dml" + columns, "CREATE TABLE d.built" + columns, "CREATE TABLE d.rebuilt" + columns, "CREATE TABLE d.emptied" + columns,
		"CREATE TABLE d.imported" + columns, "CREATE TABLE d.exported" + columns, "CREATE TABLE d.still" + columns, "CREATE TABLE d.dropped" + columns,
		"CREATE TABLE d.general" + columns + " TABLESPACE g", "CREATE TABLE d.system" + columns + " TABLESPACE innodb_system",
		"CREATE TABLE d.zip" + columns + " ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4", "CREATE TABLE d.packed" + columns + " COMPRESSION='zlib'",
		"CREATE TABLE d.swapped" + columns,
		"CREATE TABLE d.parts" + columns + " PARTITION BY RANGE (id) (PARTITION a VALUES LESS THAN (2000), PARTITION b VALUES LESS THAN MAXVALUE)",
	} {
		s.Exec(t, q)
	}
	for _, table := range []string{"dml", "built", "rebuilt", "emptied", "imported", "still", "dropped", "general", "system", "zip", "packed", "parts"} {
		rows(t, s, "d."+table, 4000, 400)
	}
	rows(t, s, "d.exported", 9000, 700)
	rows(t, s, "d.swapped", 1500, 700)
	exported := export(t, s, "exported")
	s.WriteOut(t)
	srv := client.Connect(t, client.Options(s))
	b := takeBase(t, s, srv)

	n := 0
	for _, step := range []struct {
		what string
		do   func()
	}{
		{"updates", func() { s.Exec(t, "UPDATE d.dml SET v = CONCAT('x', v) WHERE id % 20 = 3") }},
		{"deletes", func() { s.Exec(t, "DELETE FROM d.dml WHERE id % 5 = 1") }},
		{"an index", func() { s.Exec(t, "ALTER TABLE d.built ADD INDEX (v(200)), ALGORITHM=INPLACE") }},
		{"a rebuild", func() { s.Exec(t, "OPTIMIZE TABLE d.rebuilt") }},
		{"a column", func() {
			s.Exec(t, "ALTER TABLE d.rebuilt ADD COLUMN z INT, ALGORITHM=INSTANT", "UPDATE d.rebuilt SET z = id")
		}},
		{"a copy", func() { s.Exec(t, "ALTER TABLE d.rebuilt MODIFY k BIGINT, ALGORITHM=COPY") }},
		{"TRUNCATE", func() { s.Exec(t, "TRUNCATE TABLE d.emptied") }},
		{"another tool's reset", func() { s.Exec(t, turnOn) }},
		{"a general tablespace", func() { s.Exec(t, "ALTER TABLE d.general ADD INDEX (v(300))", "UPDATE d.general SET k = k + 1") }},
		{"the system tablespace", func() { s.Exec(t, "UPDATE d.system SET v = REVERSE(v)", "ALTER TABLE d.system ADD INDEX (v(100))") }},
		{"compressed pages", func() { s.Exec(t, "UPDATE d.zip SET v = REVERSE(v)", "ALTER TABLE d.zip ADD INDEX (v(100))") }},
		{"punched pages", func() { s.Exec(t, "UPDATE d.packed SET v = REVERSE(v)") }},
		{"an import from a server with greater LSNs", func() { importTable(t, s, "imported", exported) }},
		{"updates of what was imported", func() { s.Exec(t, "UPDATE d.imported SET k = 0 WHERE id < 50") }},
		{"an exchange", func() {
			s.Exec(t, "ALTER TABLE d.parts EXCHANGE PARTITION a WITH TABLE d.swapped", "UPDATE d.parts SET k = 5 WHERE id < 100")
		}},
		{"DROP", func() { s.Exec(t, "DROP TABLE d.dropped") }},
		{"undo tablespaces", func() {
			s.Exec(t, "CREATE UNDO TABLESPACE u1 ADD DATAFILE 'u1.ibu'", "ALTER UNDO TABLESPACE innodb_undo_001 SET INACTIVE")
			mysqldtest.Await(t, "truncation", func() bool {
				return s.Value(t, "SELECT STATE FROM information_schema.INNODB_TABLESPACES WHERE NAME = 'innodb_undo_001'") == "empty"
			})
			s.Exec(t, "ALTER UNDO TABLESPACE innodb_undo_001 SET ACTIVE", "UPDATE d.dml SET k = k + 1")
		}},
		{"statistics", func() { s.Exec(t, "ANALYZE TABLE d.dml, d.built") }},
		{"an account", func() { s.Exec(t, "CREATE USER x@localhost") }},
	} {
		step.do()
		n++
		if t.Failed() {
			t.Fatal(step.what)
		}
	}
	complete(t, s, srv, b, 500) // the others are newer than the last checkpoint
	end, err := position.CurrentLSN(t.Context(), srv)
	if err != nil {
		t.Fatal(err)
	}
	s.WriteOut(t)
	mysqldtest.Await(t, "a checkpoint", func() bool { return checkpoint(t, srv) >= end })
	complete(t, s, srv, b, 1200)
	// Not all pages were changed: a server that lists all would pass so far.
	v, err := changed(t, s, srv, b)
	if total := pages(look(t, s.Datadir)); err != nil || v.changed+v.more > total*3/4 || n != 19 {
		t.Errorf("%v of %d pages, %v", v, total, err)
	}
}

func pages(im image) (n int) {
	for _, p := range im {
		n += len(p)
	}
	return n
}

// export returns a table's files, as a server with much greater LSNs would have written
// them: the tracker compares a page's old LSN with that of the last reset.
func export(t testing.TB, s *mysqldtest.Server, table string) map[string][]byte {
	t.Helper()
	c := s.Conn(t)
	if _, err := c.ExecContext(t.Context(), "FLUSH TABLES d."+table+" FOR EXPORT"); err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, ext := range []string{".ibd", ".cfg"} {
		b, err := os.ReadFile(filepath.Join(s.Datadir, "d", table+ext))
		if err != nil {
			t.Fatal(err)
		}
		files[ext] = b
	}
	if _, err := c.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
		t.Fatal(err)
	}
	b := files[".ibd"]
	space, err := innodb.ParseSpace(b)
	if err != nil {
		t.Fatal(err)
	}
	for ; len(b) > 0; b = b[space.Physical:] {
		if p := b[:space.Physical]; !innodb.AllZero(p) {
			space.SetLSN(p, innodb.HeaderLSN(p)+1<<40)
			space.Stamp(p, innodb.ChecksumUnset)
		}
	}
	return files
}

func importTable(t testing.TB, s *mysqldtest.Server, table string, files map[string][]byte) {
	t.Helper()
	s.Exec(t, "ALTER TABLE d."+table+" DISCARD TABLESPACE")
	for ext, b := range files {
		if err := os.WriteFile(filepath.Join(s.Datadir, "d", table+ext), b, 0o640); err != nil {
			t.Fatal(err)
		}
	}
	s.Exec(t, "ALTER TABLE d."+table+" IMPORT TABLESPACE")
}

// TestListUnderLoad asks for lists while transactions and DDL go on, and compares them
// with a full scan by the rule for increments: LSN >= from.
func TestListUnderLoad(t *testing.T) {
	s := tracked(t, mysqldtest.Options{Init: []string{"innodb-buffer-pool-size=24M"}})
	load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 10, Accounts: 2000})
	if err != nil {
		t.Fatal(err)
	}
	opt := client.Options(s)
	opt.LockWait = time.Minute
	srv := client.Connect(t, opt)
	rounds := 2
	if mysqldtest.Long() {
		rounds = 20
	}
	workload.During(t, load, func() {
		b := takeBase(t, s, srv)
		first := b
		for round := range rounds {
			time.Sleep(3 * time.Second)
			next := takeBase(t, s, srv)
			time.Sleep(time.Second)
			complete(t, s, srv, b, 20)
			if b = next; round == rounds-1 {
				complete(t, s, srv, first, 20) // over several resets
			}
		}
	})
}

// hold keeps the server from writing pages, and so from making checkpoints; the result
// lets it again.
func hold(t testing.TB, s *mysqldtest.Server) (release func()) {
	t.Helper()
	s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0", "SET GLOBAL innodb_max_dirty_pages_pct = 99.9", "SET GLOBAL innodb_adaptive_flushing = OFF", "SET GLOBAL innodb_idle_flush_pct = 0")
	return func() {
		s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct = 0", "SET GLOBAL innodb_idle_flush_pct = 100")
	}
}

// TestListAfterBuild: an index that was built without redo after the last checkpoint is
// in the list. If the server has recorded fewer pages since than a block of its list has,
// that needs no other checkpoint; if it has recorded more, and makes none, there is no
// list.
func TestListAfterBuild(t *testing.T) {
	s := tracked(t, mysqldtest.Options{Init: []string{"innodb-buffer-pool-size=256M", "innodb-redo-log-capacity=512M"}})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t"+columns, "CREATE TABLE d.u"+columns, "CREATE TABLE d.v"+columns)
	rows(t, s, "d.t", 60000, 800)
	rows(t, s, "d.u", 1000, 200)
	rows(t, s, "d.v", 8000, 800)
	s.WriteOut(t)
	srv := client.Connect(t, client.Options(s))
	b := takeBase(t, s, srv)
	passReset(t, s, srv, b)
	release := hold(t, s)
	time.Sleep(2 * time.Second)
	s.Exec(t, "UPDATE d.u SET k = k + 1")
	stuck := checkpoint(t, srv)
	build := func(table string) {
		t.Helper()
		s.Exec(t, "ALTER TABLE "+table+" ADD INDEX (v(767)), ALGORITHM=INPLACE")
		if now := checkpoint(t, srv); now != stuck {
			t.Fatalf("the checkpoint went on from %d to %d", stuck, now)
		}
	}
	build("d.v")
	v, err := changedIn(t, 0, s, srv, b, spaceOf(t, s, "d/v"))
	t.Log("without a checkpoint:", v, err)
	if err != nil || len(v.missing) > 0 || v.changed < 300 {
		t.Errorf("the list after a small index without a checkpoint: %v, %v", v, err)
	}
	build("d.t")
	if v, err := changedIn(t, time.Second, s, srv, b, spaceOf(t, s, "d/t"), spaceOf(t, s, "d/v")); !errors.Is(err, &tracking.Unusable{Reason: tracking.NoCheckpoint}) {
		t.Errorf("after a great index without a checkpoint: %v, %v", v, err)
	}
	time.AfterFunc(time.Second, release)
	complete(t, s, srv, b, 2500, spaceOf(t, s, "d/t"), spaceOf(t, s, "d/v"))
}

// passReset has the server make a checkpoint after a base's reset.
func passReset(t testing.TB, s *mysqldtest.Server, srv *mysqld.Server, b base) {
	t.Helper()
	s.Exec(t, "UPDATE d.u SET k = k + 1")
	s.WriteOut(t)
	mysqldtest.Await(t, "a checkpoint", func() bool { return checkpoint(t, srv) > b.mark.ResetLSN+1 })
}

func spaceOf(t testing.TB, s *mysqldtest.Server, name string) innodb.SpaceID {
	t.Helper()
	id, err := strconv.ParseUint(s.Value(t, "SELECT SPACE FROM information_schema.INNODB_TABLESPACES WHERE NAME = '"+name+"'"), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return innodb.SpaceID(id)
}

// TestListInFirstBlock: the server, which aborts when it counts entries up to its first
// block, is not asked to where the last checkpoint may be in that.
func TestListInFirstBlock(t *testing.T) {
	mysqldtest.Concurrent(t)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Init: []string{"innodb-buffer-pool-size=256M", "innodb-redo-log-capacity=512M"}})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t"+columns, "CREATE TABLE d.u"+columns)
	rows(t, s, "d.t", 60000, 800)
	rows(t, s, "d.u", 1000, 200)
	s.WriteOut(t)
	s.Exec(t, "INSTALL COMPONENT 'file://component_mysqlbackup'", turnOn)
	srv := client.Connect(t, client.Options(s))
	b := takeBase(t, s, srv)
	passReset(t, s, srv, b)
	hold(t, s)
	time.Sleep(2 * time.Second)
	s.Exec(t, "UPDATE d.u SET k = k + 1")
	stuck := checkpoint(t, srv)
	for _, n := range []string{"767", "766", "765"} { // into the fifth or sixth block, from which the server's search comes to the first two
		s.Exec(t, "ALTER TABLE d.t ADD INDEX (v("+n+")), ALGORITHM=INPLACE")
	}
	if now := checkpoint(t, srv); now != stuck {
		t.Fatalf("the checkpoint went on from %d to %d", stuck, now)
	}
	if v, err := changedIn(t, time.Second, s, srv, b); !errors.Is(err, &tracking.Unusable{Reason: tracking.NoCheckpoint}) {
		t.Errorf("%v, %v", v, err)
	}
	s.Value(t, "SELECT 1") // the server lives
}

// TestUnusable: every way in which a list is missing, or was tampered with, is noticed.
func TestUnusable(t *testing.T) {
	mysqldtest.Concurrent(t)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t"+columns)
	rows(t, s, "d.t", 2000, 500)
	srv := client.Connect(t, client.Options(s))
	read := func(want tracking.Reason) {
		t.Helper()
		if _, err := tracking.Read(t.Context(), srv); !errors.Is(err, &tracking.Unusable{Reason: want}) {
			t.Errorf("read: %v, want %v", err, &tracking.Unusable{Reason: want})
		}
		if _, err := tracking.Begin(t.Context(), srv); !errors.Is(err, &tracking.Unusable{Reason: want}) {
			t.Errorf("begin: %v, want %v", err, &tracking.Unusable{Reason: want})
		}
	}
	list := func(b base, want tracking.Reason) {
		t.Helper()
		_, err := changed(t, s, srv, b)
		var u *tracking.Unusable
		if !errors.As(err, &u) || u.Reason != want {
			t.Errorf("list: %v, want %v", err, &tracking.Unusable{Reason: want})
		}
	}
	read(tracking.NotInstalled)
	list(base{mark: &metadata.PageTracking{Run: "68620000000000000001", ResetLSN: 5}}, tracking.NotInstalled)
	s.Exec(t, "INSTALL COMPONENT 'file://component_mysqlbackup'")
	read(tracking.Off)
	early := base{from: checkpoint(t, srv)}
	s.Exec(t, turnOn)
	list(early, tracking.Unmarked)
	b := takeBase(t, s, srv)
	early.mark = &metadata.PageTracking{Run: b.mark.Run, ResetLSN: b.mark.ResetLSN - 1}
	list(early, tracking.Gap) // the list begins later
	change := func() { s.Exec(t, "UPDATE d.t SET v = REVERSE(v)") }
	change()
	list(b, tracking.Young)
	grow(t, s)
	b = takeBase(t, s, srv)
	change()
	complete(t, s, srv, b, 50)

	// A list that ends before the redo that the backup has begins is of no use: it lacks
	// what the server wrote between them.
	release := lockDDL(t, srv)
	listed, err := tracking.Changed(t.Context(), srv, tracking.Request{Base: b.mark, Redo: checkpoint(t, srv), Disk: disk.OS, Datadir: s.Datadir, Wait: 20 * time.Second})
	release()
	if err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "INSERT INTO d.t SELECT id + 5000, k, v FROM d.t")
	end := checkpoint(t, srv)
	s.WriteOut(t)
	mysqldtest.Await(t, "a checkpoint", func() bool { return checkpoint(t, srv) > end })
	listed.Until = checkpoint(t, srv)
	if v := judge(b.im, look(t, s.Datadir), listed, b.from, b.mark.ResetLSN); len(v.missing) == 0 {
		t.Errorf("a list from before the redo is complete: %v", v)
	}
	complete(t, s, srv, b, 50)
	if _, err := tracking.Changed(t.Context(), srv, tracking.Request{Base: b.mark, Redo: 1 << 60, Disk: disk.OS, Datadir: s.Datadir, Wait: time.Second}); err == nil || errors.As(err, new(*tracking.Unusable)) {
		t.Errorf("with redo from after the list: %v", err)
	}

	// The server reports success for a list that it cannot write; and hb does not follow
	// it to where it was written instead.
	file := filepath.Join(s.Datadir, "#meb", b.mark.Run+".idx")
	for _, target := range []string{"gone/away", "away"} {
		if err := os.Symlink(target, file); err != nil {
			t.Fatal(err)
		}
		list(b, tracking.Unreadable)
	}
	if err := os.Remove(filepath.Join(s.Datadir, "#meb", "away")); err != nil { // the server wrote it
		t.Error(err)
	}
	complete(t, s, srv, b, 50)

	asking := s.Background(t, "SELECT SLEEP(20), 'MySQLBackup_page_track_get_changed_pages(1, 2)'")
	mysqldtest.Await(t, "another program asks", func() bool {
		return s.Value(t, "SELECT COUNT(*) FROM performance_schema.processlist WHERE INFO LIKE 'SELECT SLEEP%'") == "1"
	})
	list(b, tracking.Busy)
	s.Exec(t, "KILL QUERY "+s.Value(t, "SELECT ID FROM performance_schema.processlist WHERE INFO LIKE 'SELECT SLEEP%'"))
	_ = asking() // it was killed, or not

	other := b
	other.mark = &metadata.PageTracking{Run: "68620000000000000001", ResetLSN: b.mark.ResetLSN}
	list(other, tracking.OtherRun)
	s.Exec(t, "SET GLOBAL mysqlbackup.backupid = '17'") // as another tool does
	list(b, tracking.OtherRun)
	if _, err := tracking.Begin(t.Context(), srv); !errors.Is(err, &tracking.Unusable{Reason: tracking.Young}) {
		t.Errorf("a reset that the server ignores, perhaps one of another run: %v", err)
	}
	grow(t, s)
	b = takeBase(t, s, srv)
	s.Exec(t, "SELECT mysqlbackup_page_track_set(0)")
	list(b, tracking.Off)
	change()
	s.Exec(t, turnOn)
	list(b, tracking.Gap)

	grow(t, s)
	b = takeBase(t, s, srv)
	change()
	takeBase(t, s, srv)
	complete(t, s, srv, b, 50) // a later reset does not end it
	s.WriteOut(t)
	s.Exec(t, "SELECT mysqlbackup_page_track_purge_up_to(0)")
	if _, err := changed(t, s, srv, b); err != nil && !errors.Is(err, &tracking.Unusable{Reason: tracking.Gap}) {
		t.Errorf("after a purge: %v", err)
	} else {
		t.Logf("after a purge: %v", err)
	}
	s.Exec(t, "UNINSTALL COMPONENT 'file://component_mysqlbackup'")
	list(b, tracking.NotInstalled)
}

// TestPrivileges: an account that may not set the list's name gets none.
func TestPrivileges(t *testing.T) {
	s := tracked(t, mysqldtest.Options{})
	opt := client.Options(s)
	opt.User = "hb"
	s.Exec(t, "CREATE USER hb@localhost", "GRANT PROCESS, RELOAD, BACKUP_ADMIN ON *.* TO hb@localhost")
	begin := func() error {
		_, err := tracking.Begin(t.Context(), client.Connect(t, opt))
		return err
	}
	if err := begin(); !errors.Is(err, &tracking.Unusable{Reason: tracking.Denied}) {
		t.Errorf("without SYSTEM_VARIABLES_ADMIN: %v", err)
	}
	s.Exec(t, "GRANT SYSTEM_VARIABLES_ADMIN ON *.* TO hb@localhost")
	if err := begin(); err != nil {
		t.Error(err)
	}
	s.Exec(t, "REVOKE BACKUP_ADMIN ON *.* FROM hb@localhost")
	if err := begin(); !errors.Is(err, &tracking.Unusable{Reason: tracking.Denied}) {
		t.Errorf("without BACKUP_ADMIN: %v", err)
	}
}

// TestRestarted: what a list is worth after a restart is not asked.
func TestRestarted(t *testing.T) {
	s := tracked(t, mysqldtest.Options{Init: []string{"innodb-buffer-pool-size=256M"}})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t"+columns)
	rows(t, s, "d.t", 30000, 700)
	s.WriteOut(t)
	srv := client.Open(t, s)
	b := takeBase(t, s, srv)
	hold(t, s)
	time.Sleep(2 * time.Second)
	s.Exec(t, "ALTER TABLE d.t ADD INDEX (v(700)), ALGORITHM=INPLACE")
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	s = mysqldtest.StartOn(t, s.Root, s.Datadir, mysqldtest.Options{Init: s.Init})
	srv = client.Connect(t, client.Options(s))
	if _, err := changed(t, s, srv, b); !errors.Is(err, &tracking.Unusable{Reason: tracking.OtherRun}) {
		t.Errorf("after a crash: %v", err)
	}
	// Why: with the old mark, the list would be taken.
	s.Exec(t, "SET GLOBAL mysqlbackup.backupid = '"+b.mark.Run+"'")
	v, err := changed(t, s, srv, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Log("after a crash:", v)
	if v.changed < 1000 || len(v.missing) == 0 {
		t.Errorf("the list is complete after all: %v", v)
	}
	if start, err := tracking.Read(t.Context(), srv); err != nil || start.Start == 0 || start.Start > b.from || start.Run != b.mark.Run {
		t.Errorf("%+v, %v", start, err)
	}
}
