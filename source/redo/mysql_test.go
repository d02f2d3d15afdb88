package redo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/redo"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
)

// smallLog makes a log as small as the server has it.
func smallLog(root *mysqldtest.Root) mysqldtest.Options {
	lines := []string{"innodb-flush-log-at-trx-commit=0"}
	if root.AtLeast(8, 0) {
		lines = append(lines, "innodb-redo-log-capacity=8M", "innodb-log-buffer-size=1M")
	} else {
		lines = append(lines, "innodb-log-file-size=8M")
	}
	return mysqldtest.Options{Config: lines}
}

var logSequence = regexp.MustCompile(`Log sequence number\s+(\d+)`)

// mysqlLSN asks for the LSN and makes sure that it is in the log file.
func mysqlLSN(t *testing.T, s *mysqldtest.Server) innodb.LSN {
	t.Helper()
	text := ""
	if s.Root.AtLeast(8, 0) {
		text = s.Value(t, "SELECT JSON_EXTRACT(STORAGE_ENGINES, '$.InnoDB.LSN') FROM performance_schema.log_status")
	} else if m := logSequence.FindStringSubmatch(s.Rows(t, "SHOW ENGINE INNODB STATUS")[0][2]); m != nil {
		text = m[1]
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "FLUSH ENGINE LOGS")
	return innodb.LSN(n)
}

// consumer registers with a server that keeps redo for whoever does, and
// returns how to tell it what was read.
func consumer(ctx context.Context, t *testing.T, s *mysqldtest.Server) func(context.Context, innodb.LSN) error {
	t.Helper()
	conn, err := s.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	context.AfterFunc(ctx, func() { conn.Close() }) // else the server stalls for good
	ask := func(ctx context.Context, q string) error {
		var n int
		err := conn.QueryRowContext(ctx, q).Scan(&n)
		if err == nil && n != 0 {
			err = fmt.Errorf("%s = %d", q, n)
		}
		return err
	}
	if err := ask(t.Context(), "SELECT innodb_redo_log_consumer_register()"); err != nil {
		t.Fatal(err)
	}
	return func(ctx context.Context, lsn innodb.LSN) error {
		return ask(ctx, fmt.Sprintf("SELECT innodb_redo_log_consumer_advance(%d)", lsn))
	}
}

// TestFollowMySQL follows a small log around many times under load, while the
// archive is slow, and must end exactly where the server says.
func TestFollowMySQL(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, smallLog(root))
		stop := writeSlowly(t, s, 5*time.Millisecond)
		defer stop()
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		advanced := innodb.LSN(0)
		var o redo.MySQLOptions
		if root.AtLeast(8, 0) {
			tell := consumer(ctx, t, s)
			o.Advance = func(ctx context.Context, lsn innodb.LSN) error {
				advanced = lsn
				return tell(ctx, lsn)
			}
		}
		f, err := redo.OpenMySQL(disk.OS, s.Datadir, t.TempDir(), o)
		if err != nil {
			t.Fatal(err)
		}
		out := &output{pause: 2 * time.Millisecond}
		f.Start(ctx, out, "hb test", cancel)
		mysqldtest.Await(t, "40 MiB of redo are read", func() bool { return f.End() >= f.Checkpoint().LSN+40<<20 || ctx.Err() != nil })
		s.Exec(t, tableChanges...)
		f.Hold()
		end := mysqlLSN(t, s)
		mysqldtest.Await(t, "more redo comes, which must not get into the copy", func() bool { return mysqlLSN(t, s) > end+64<<10 })
		stop()
		if err := f.Finish(ctx, end); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Drain(ctx, nil); err != nil {
			t.Fatal(err)
		}
		newest, err := f.Newest()
		if err != nil || newest.LSN < f.Checkpoint().LSN {
			t.Errorf("newest checkpoint %d, %v", newest.LSN, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if root.AtLeast(8, 0) && advanced+8<<20 < end {
			t.Errorf("the server was told of LSN %d at last, the copy ends at %d", advanced, end)
		}
		checkMySQLCopy(t, out.buf.Bytes(), f, end)
		checkFiles(t, f.Files())
		checkAgainstFiles(t, s, out.buf.Bytes(), end)
	})
}

// checkMySQLCopy parses a copied log: it must be whole from its checkpoint to
// end, and hold nothing more.
func checkMySQLCopy(t *testing.T, log []byte, f *redo.Follower, end innodb.LSN) {
	t.Helper()
	l, err := mysqlredo.ParseLinear(log)
	if err != nil {
		t.Fatal(err)
	}
	if l.Checkpoint.LSN != f.Checkpoint().LSN || l.Header.Format != f.Format() ||
		!strings.HasPrefix(l.Header.Creator, mysqlredo.CreatorPrefix) {
		t.Errorf("the copy begins at %+v of %+v", l.Checkpoint, l.Header)
	}
	cut := mysqlredo.NewCutter(l.Header.Format, l.Checkpoint.LSN)
	cut.Feed(log[mysqlredo.HeaderSize:])
	n := 0
	for _, ok := cut.Next(); ok; _, ok = cut.Next() {
		n++
	}
	if cut.End() != end || !cut.Clean() || n == 0 || cut.Stop().Cause != mysqlredo.StopPartialBlock {
		t.Errorf("the copy has %d mini-transactions and ends at LSN %d (%v), want %d", n, cut.End(), cut.Stop(), end)
	}
	if size := l.Offset(redolog.BlockOf(end)) + redolog.BlockSize; int64(len(log)) != size {
		t.Errorf("the copy has %d bytes, want %d", len(log), size)
	}
	t.Logf("%v: %d mini-transactions, %d bytes", l.Header.Format, n, len(log))
}

// checkAgainstFiles compares the copy with what is left in the log's files.
func checkAgainstFiles(t *testing.T, s *mysqldtest.Server, log []byte, end innodb.LSN) {
	t.Helper()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	files, err := mysqlredo.OpenFiles(disk.OS, s.Datadir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := files.Close(); err != nil {
			t.Error(err)
		}
	}()
	l, err := mysqlredo.ParseLinear(log)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	block := make([]byte, redolog.BlockSize)
	for at := redolog.BlockOf(end) - redolog.BlockSize; at >= l.Start(); at -= redolog.BlockSize {
		if _, err := files.ReadAt(block, at); err != nil {
			var gone *mysqlredo.GoneError
			if !errors.As(err, &gone) {
				t.Fatal(err)
			}
			break
		}
		if files.Capacity() > 0 && at+files.Capacity() < end+1<<20 {
			break // the server went on a little
		}
		if ours := log[l.Offset(at):][:redolog.BlockSize]; !bytes.Equal(ours, block) {
			t.Fatalf("the block at LSN %d differs from the server's:\n%x\n%x", at, ours[:16], block[:16])
		}
		compared++
	}
	t.Logf("%d blocks are the server's", compared)
	if compared < 100 {
		t.Errorf("only %d blocks were compared with the server's files", compared)
	}
}

// TestOverrunMySQL stops reading while the server goes around its log several
// times: that must be noticed, whatever lies at the place now.
func TestOverrunMySQL(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, smallLog(root))
		for laps := 1; laps <= 3; laps++ {
			f, err := redo.OpenMySQL(disk.OS, s.Datadir, t.TempDir(), redo.MySQLOptions{})
			if err != nil {
				t.Fatal(err)
			}
			stop := writeLoad(t, s)
			goal := f.Checkpoint().LSN + innodb.LSN(laps)*(16<<20) + 2<<20
			mysqldtest.Await(t, "the server goes around its log", func() bool { return mysqlLSN(t, s) >= goal })
			stop()
			end := mysqlLSN(t, s)
			ctx, cancel := context.WithCancelCause(t.Context())
			f.Start(ctx, &output{}, "hb test", cancel)
			err = f.Finish(ctx, end)
			cancel(nil)
			var overrun *redo.OverrunError
			if !errors.As(err, &overrun) {
				t.Errorf("after %d laps: error = %v, want an OverrunError", laps, err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			s.Exec(t, "DROP TABLE load_db.t")
		}
	})
}

// TestLoggingDisabled: a log that lacks changes is refused.
func TestLoggingDisabled(t *testing.T) {
	mysqldtest.Concurrent(t)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	f, err := redo.OpenMySQL(disk.OS, s.Datadir, t.TempDir(), redo.MySQLOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f.Start(ctx, &output{}, "hb test", cancel)
	s.Exec(t, "ALTER INSTANCE DISABLE INNODB REDO_LOG")
	err = f.Finish(ctx, mysqlLSN(t, s))
	var flags *mysqlredo.FlagsError
	if !errors.As(err, &flags) || flags.Flags&mysqlredo.NoLogging == 0 {
		t.Errorf("error = %v, want a FlagsError", err)
	}
	cancel(nil)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := redo.OpenMySQL(disk.OS, s.Datadir, t.TempDir(), redo.MySQLOptions{}); !errors.As(err, &flags) {
		t.Errorf("opening: %v", err)
	}
}

// TestUnlogged: the log tells of what leaves no redo, and of nothing else, whatever
// the page size.
func TestUnlogged(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		sizes := []string{"16384"}
		if root.AtLeast(5, 7) && !root.AtLeast(8, 0) {
			sizes = append(sizes, "4096", "65536")
		}
		for _, size := range sizes {
			t.Run(size, func(t *testing.T) { unlogged(t, root, size) })
		}
	})
}

func unlogged(t *testing.T, root *mysqldtest.Root, pageSize string) {
	s := mysqldtest.Start(t, root, mysqldtest.Options{Init: []string{"innodb-page-size=" + pageSize}})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.n (n INT PRIMARY KEY)", "INSERT INTO d.n VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
		"CREATE TABLE d.t (i INT PRIMARY KEY, v VARCHAR(100))", "INSERT INTO d.t SELECT a.n + 10*b.n + 100*c.n, REPEAT('w ', a.n) FROM d.n a, d.n b, d.n c")
	for _, table := range []string{"online", "shared", "empty", "truncated", "logged"} {
		s.Exec(t, "CREATE TABLE d."+table+" LIKE d.t", "INSERT INTO d."+table+" SELECT * FROM d.t")
	}
	s.Exec(t, "DELETE FROM d.empty WHERE i > 0", "CREATE TABLE d.words (FTS_DOC_ID BIGINT UNSIGNED NOT NULL PRIMARY KEY, v VARCHAR(100))", "INSERT INTO d.words SELECT i + 1, v FROM d.t")
	size, err := strconv.Atoi(pageSize)
	if err != nil {
		t.Fatal(err)
	}
	f, err := redo.OpenMySQL(disk.OS, s.Datadir, t.TempDir(), redo.MySQLOptions{PageSize: size})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f.Start(ctx, &output{}, "hb test", cancel)
	before := mysqlLSN(t, s)
	if err := f.Reach(ctx, before); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "ALTER TABLE d.online ADD INDEX (v)", "ALTER TABLE d.shared ADD INDEX (v), LOCK=SHARED", "ALTER TABLE d.empty ADD INDEX (v), LOCK=SHARED",
		"ALTER TABLE d.words ADD FULLTEXT (v)", "TRUNCATE TABLE d.truncated")
	s.Exec(t, "ALTER TABLE d.logged DROP PRIMARY KEY, ADD COLUMN c INT, ALGORITHM=COPY", "DELETE FROM d.logged", "INSERT INTO d.t SELECT i + 10000, v FROM d.t",
		"CREATE TABLE d.blobs (b LONGBLOB)", "INSERT INTO d.blobs VALUES (REPEAT('b', 1500000)), (REPEAT('c', 100000))", "UPDATE d.blobs SET b = REPEAT(b, 2)",
		"DELETE FROM d.blobs", "DROP TABLE d.blobs")
	f.Hold()
	if err := f.Finish(ctx, mysqlLSN(t, s)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Drain(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Rows(t, "SELECT SPACE, NAME FROM information_schema."+spacesTable(root)+" WHERE NAME LIKE 'd/%'") {
		id, err := strconv.ParseUint(r[0], 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		got := f.File(innodb.SpaceID(id)).Unlogged > before
		table := strings.TrimPrefix(r[1], "d/")
		want := root.AtLeast(5, 7) && slices.Contains([]string{"online", "shared", "empty", "words"}, table)
		// Of new tablespaces all is known to be new.
		if isNew := table == "truncated" || table == "logged" || strings.HasPrefix(strings.ToUpper(table), "FTS_"); got != want && !isNew {
			t.Errorf("%s was changed without redo: %v, the log says %v", table, want, got)
		}
	}
	for id := range f.Files() {
		if id == 0 && f.File(id).Unlogged > 0 {
			t.Error("the system tablespace was not changed without redo, but the log says so")
		}
	}
}

func spacesTable(root *mysqldtest.Root) string {
	if root.AtLeast(8, 0) {
		return "INNODB_TABLESPACES"
	}
	return "INNODB_SYS_TABLESPACES"
}

// TestResizeMySQL changes the size of the log online: files of different sizes
// follow one another.
func TestResizeMySQL(t *testing.T) {
	mysqldtest.Concurrent(t)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{
		Config: []string{"innodb-redo-log-capacity=64M", "innodb-log-buffer-size=1M"},
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f, err := redo.OpenMySQL(disk.OS, s.Datadir, t.TempDir(), redo.MySQLOptions{Advance: consumer(ctx, t, s)})
	if err != nil {
		t.Fatal(err)
	}
	out := &output{}
	f.Start(ctx, out, "hb test", cancel)
	stop := writeSlowly(t, s, 5*time.Millisecond)
	defer stop()
	for _, size := range []int{128, 16, 64} {
		goal := f.End() + 8<<20
		mysqldtest.Await(t, "8 MiB of redo are read", func() bool { return f.End() >= goal || ctx.Err() != nil })
		s.Exec(t, fmt.Sprintf("SET GLOBAL innodb_redo_log_capacity = %d", size<<20))
	}
	stop()
	f.Hold()
	end := mysqlLSN(t, s)
	if err := f.Finish(ctx, end); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Drain(ctx, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	checkMySQLCopy(t, out.buf.Bytes(), f, end)
}

// TestLogChecksumsOff: a block without a checksum could be half of one.
func TestLogChecksumsOff(t *testing.T) {
	mysqldtest.Concurrent(t)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL57), mysqldtest.Options{})
	f, err := redo.OpenMySQL(disk.OS, s.Datadir, t.TempDir(), redo.MySQLOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f.Start(ctx, &output{}, "hb test", cancel)
	s.Exec(t, "SET GLOBAL innodb_log_checksums=OFF", "CREATE DATABASE d")
	for i := range 20 {
		s.Exec(t, fmt.Sprintf("CREATE TABLE d.t%d (i INT)", i))
	}
	err = f.Finish(ctx, mysqlLSN(t, s))
	var stop mysqlredo.Stop
	if !errors.As(err, &stop) || stop.Cause != mysqlredo.StopUnsummed || !strings.Contains(err.Error(), "innodb_log_checksums") {
		t.Errorf("error = %v, want one that says what to do", err)
	}
	cancel(nil)
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestUnknownMySQLLog refuses files that are not a log of a supported format.
func TestUnknownMySQLLog(t *testing.T) {
	dir := t.TempDir()
	if _, err := redo.OpenMySQL(disk.OS, dir, dir, redo.MySQLOptions{}); err == nil || !strings.Contains(err.Error(), "ib_logfile0") {
		t.Errorf("error = %v, want one that names the file", err)
	}
}

// TestIdleMySQL follows a log in which nothing was written since its
// checkpoint, which is in the middle of a block: that block is the whole copy,
// even if the end is named before anything was read.
func TestIdleMySQL(t *testing.T) {
	const begin = 1 << 20
	var file bytes.Buffer
	meta := mlog.Meta{Table: 1070, Item: []byte{2, 7}}
	if err := mysqlredo.WriteSynthetic(&file, mysqlredo.Synthetic{End: begin, Meta: []mlog.Meta{meta}}); err != nil {
		t.Fatal(err)
	}
	b := file.Bytes()
	h, err := mysqlredo.ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	end := mysqlredo.FlushLSN(begin) + 6 // the record: type, table and version, item
	copy(b[redolog.BlockSize:], h.MarshalCheckpoint(mysqlredo.Checkpoint{LSN: end}))
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, mysqlredo.RedoDir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, mysqlredo.RedoDir, mysqlredo.RedoName(0)), b, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := redo.OpenMySQL(disk.OS, dir, t.TempDir(), redo.MySQLOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Checkpoint().LSN != end {
		t.Fatalf("the checkpoint is at LSN %d, want %d", f.Checkpoint().LSN, end)
	}
	var out bytes.Buffer
	f.Hold()
	f.Start(t.Context(), &out, "hb test", func(err error) { t.Error(err) })
	if err := f.Finish(t.Context(), end); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Drain(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	l, err := mysqlredo.ParseLinear(out.Bytes())
	if err != nil || l.Checkpoint.LSN != end {
		t.Fatalf("the copy begins at LSN %d: %v", l.Checkpoint.LSN, err)
	}
	c := mysqlredo.NewCutter(l.Header.Format, end)
	c.Feed(out.Bytes()[mysqlredo.HeaderSize:])
	if _, more := c.Next(); more || c.End() != end || !c.Clean() {
		t.Errorf("the copy ends at LSN %d (%v), want %d", c.End(), c.Stop(), end)
	}
}
