package redo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/redo"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
)

// output collects what the follower sends, as slowly as asked.
type output struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	pause time.Duration
}

func (o *output) Write(p []byte) (int, error) {
	time.Sleep(o.pause)
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// writeLoad writes rows through a table until the context ends; the returned
// function waits for it.
func writeLoad(t *testing.T, s *mysqldtest.Server) (stop func()) {
	t.Helper()
	return writeSlowly(t, s, 0)
}

// writeSlowly is writeLoad with a pause between statements: for a small log that
// nothing keeps from being overwritten, on a machine that has other things to do.
func writeSlowly(t *testing.T, s *mysqldtest.Server, pause time.Duration) (stop func()) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE IF NOT EXISTS load_db",
		"CREATE TABLE load_db.t (id INT AUTO_INCREMENT PRIMARY KEY, b LONGBLOB) ENGINE=InnoDB")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			time.Sleep(pause)
			_, err := s.DB().ExecContext(ctx, "INSERT INTO load_db.t (b) VALUES (REPEAT('x', ?))", 1+i*7919%200000)
			if i%20 == 19 && err == nil {
				_, err = s.DB().ExecContext(ctx, "DELETE FROM load_db.t")
			}
			if err != nil && ctx.Err() == nil {
				t.Errorf("load: %v", err)
				return
			}
		}
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

// currentLSN asks for the LSN and makes sure that it is in the log file.
func currentLSN(t *testing.T, s *mysqldtest.Server) innodb.LSN {
	t.Helper()
	text := s.Rows(t, "SHOW GLOBAL STATUS LIKE 'Innodb_lsn_current'")[0][1]
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")
	return innodb.LSN(n)
}

// lsns asks for the ends of the log, in the file and in all.
func lsns(s *mysqldtest.Server) redo.ServerLSNs {
	return func(ctx context.Context) (flushed, current innodb.LSN, err error) {
		rows, err := s.DB().QueryContext(ctx, "SHOW GLOBAL STATUS LIKE 'Innodb_lsn_%'")
		if err != nil {
			return 0, 0, err
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			var lsn innodb.LSN
			if err := rows.Scan(&name, &lsn); err != nil {
				return 0, 0, err
			}
			switch name {
			case "Innodb_lsn_flushed":
				flushed = lsn
			case "Innodb_lsn_current":
				current = lsn
			}
		}
		return flushed, current, rows.Err()
	}
}

// checkCopy parses a copied log: it must be whole from its checkpoint to end,
// and hold nothing more.
func checkCopy(t *testing.T, log []byte, start, end innodb.LSN) {
	t.Helper()
	h, err := mariadbredo.ParseHeader(log[:512])
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.Checkpoint(log[:h.Format.Facts().HeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	if c.LSN != start || !h.FromBackup() {
		t.Errorf("the copy begins at LSN %d (creator %q), want %d", c.LSN, h.Creator, start)
	}
	geo := mariadbredo.LinearGeometry(h, c)
	cut := mariadbredo.NewCutter(geo, c.LSN)
	cut.Feed(log[geo.Offset(cut.Position()):])
	n := 0
	for _, ok := cut.Next(); ok; _, ok = cut.Next() {
		n++
	}
	got := cut.End()
	if cut.Clean() {
		got = cut.Seen()
	}
	if got != end || !cut.Clean() || n == 0 {
		t.Errorf("the copy has %d mini-transactions and ends at LSN %d (%v), want %d", n, got, cut.Stop(), end)
	}
}

// TestFollow follows a small log around several times under load, while the
// archive is slow, and must end exactly where the server says.
func TestFollow(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-log-file-size=8M", "innodb-flush-log-at-trx-commit=0"}})
		stop := writeSlowly(t, s, 2*time.Millisecond) // a busy machine must be able to keep up
		defer stop()
		f, err := redo.Open(disk.OS, s.Datadir, t.TempDir(), lsns(s), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		out := &output{pause: 2 * time.Millisecond}
		f.Start(ctx, out, "hb test", cancel)
		mysqldtest.Await(t, "17 MiB of redo are read", func() bool { return f.End() >= f.Checkpoint().LSN+17<<20 || ctx.Err() != nil })
		s.Exec(t, tableChanges...)
		f.Hold()
		end := currentLSN(t, s)
		mysqldtest.Await(t, "more redo comes, which must not get into the copy", func() bool { return currentLSN(t, s) > end+64<<10 })
		stop()
		if err := f.Finish(ctx, end); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Drain(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if copied := end - f.Checkpoint().LSN; copied < 16<<20 {
			t.Errorf("only %d bytes of redo came: the log did not go around twice", copied)
		}
		checkCopy(t, out.buf.Bytes(), f.Checkpoint().LSN, end)
		checkFiles(t, f.Files())
		checkAgainstFile(t, s, out.buf.Bytes(), end)
	})
}

// checkAgainstFile compares the end of a copy with what the log file holds when
// nobody writes to it any more.
func checkAgainstFile(t *testing.T, s *mysqldtest.Server, log []byte, end innodb.LSN) {
	t.Helper()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(s.Datadir, "ib_logfile0"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := mariadbredo.ParseHeader(file[:512])
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.Checkpoint(file[:h.Format.Facts().HeaderSize])
	if err != nil {
		t.Fatal(err)
	}
	geo, err := mariadbredo.LiveGeometry(h, c, int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	// One MiB before the end, where nothing was overwritten since; whole
	// mini-transactions from the copy must be in the file.
	ch, _ := mariadbredo.ParseHeader(log[:512])
	cc, _ := ch.Checkpoint(log[:h.Format.Facts().HeaderSize])
	linear := mariadbredo.LinearGeometry(ch, cc)
	cut := mariadbredo.NewCutter(linear, cc.LSN)
	cut.Feed(log[linear.Offset(cut.Position()):])
	compared := 0
	for m, ok := cut.Next(); ok; m, ok = cut.Next() {
		if m.Start < end-1<<20 || h.Format == mariadbredo.Format105 {
			continue // a block proves itself
		}
		for i, b := range m.Records {
			if file[geo.Offset(m.Start+innodb.LSN(i))] != b {
				t.Fatalf("the mini-transaction at LSN %d differs from the file's at byte %d", m.Start, i)
			}
		}
		compared++
	}
	if compared == 0 && h.Format != mariadbredo.Format105 {
		t.Error("nothing was compared with the file")
	}
}

// tableChanges are what checkFiles looks for.
var tableChanges = []string{
	"CREATE TABLE load_db.made (i INT) ENGINE=InnoDB", "RENAME TABLE load_db.made TO load_db.renamed",
	"CREATE TABLE load_db.dropped (i INT) ENGINE=InnoDB", "DROP TABLE load_db.dropped",
}

func checkFiles(t *testing.T, files map[innodb.SpaceID]*redo.FileState) {
	t.Helper()
	got := map[string]*redo.FileState{}
	for _, s := range files {
		got[s.Name()] = s
	}
	if s := got["load_db/renamed.ibd"]; s == nil || s.Created == 0 || s.Deleted {
		t.Errorf("the log says %+v of the table that was made and renamed", s)
	}
	if s := got["load_db/dropped.ibd"]; s == nil || !s.Deleted {
		t.Errorf("the log says %+v of the table that was dropped", s)
	}
}

// TestOverrun stops reading while the server goes around its log several
// times: that must be noticed, whatever lies at the place now.
func TestOverrun(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-log-file-size=4M", "innodb-flush-log-at-trx-commit=0"}})
		for laps := 1; laps <= 3; laps++ {
			f, err := redo.Open(disk.OS, s.Datadir, t.TempDir(), lsns(s), nil)
			if err != nil {
				t.Fatal(err)
			}
			stop := writeLoad(t, s)
			onDisk := func() innodb.LSN {
				lsn, _, err := lsns(s)(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return lsn
			}
			goal := onDisk() + innodb.LSN(laps)*(4<<20)
			mysqldtest.Await(t, "the server goes around its log", func() bool { return onDisk() >= goal })
			stop()
			end := currentLSN(t, s)
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

// TestResize resizes the log online, which replaces the file (10.9 and later).
func TestResize(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.Each(t, mysqldtest.MariaDB[1:], func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-log-file-size=64M", "innodb-log-buffer-size=2M"}})
		f, err := redo.Open(disk.OS, s.Datadir, t.TempDir(), lsns(s), nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		out := &output{}
		f.Start(ctx, out, "hb test", cancel)
		stop := writeLoad(t, s)
		// The reader goes over to the new file while somebody waits for it.
		resized, waited := make(chan struct{}), make(chan error, 1)
		go func() {
			for {
				select {
				case <-resized:
					waited <- nil
					return
				default:
				}
				if err := f.Reach(ctx, f.End()+1); err != nil {
					waited <- err
					return
				}
			}
		}()
		for _, size := range []int{96, 48, 64} {
			s.Exec(t, fmt.Sprintf("SET GLOBAL innodb_log_file_size = %d", size<<20))
			// One more byte can only come from the new file: what is written to that is
			// lost if the next one takes its name before the reader has opened it.
			if err := f.Reach(ctx, currentLSN(t, s)+1); err != nil {
				t.Fatal(err)
			}
		}
		close(resized)
		if err := <-waited; err != nil {
			t.Fatal(err)
		}
		stop()
		f.Hold()
		end := currentLSN(t, s)
		if err := f.Finish(ctx, end); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Drain(ctx, nil); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		checkCopy(t, out.buf.Bytes(), f.Checkpoint().LSN, end)
	})
}

// TestServerStops: a server that dies leaves a log that ends; waiting for more
// ends with the context, not with success.
func TestServerStops(t *testing.T) {
	mysqldtest.Concurrent(t)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MariaDB1011), mysqldtest.Options{})
	f, err := redo.Open(disk.OS, s.Datadir, t.TempDir(), lsns(s), nil)
	if err != nil {
		t.Fatal(err)
	}
	end := currentLSN(t, s)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	f.Start(ctx, &output{}, "hb test", func(error) {})
	if err := f.Finish(ctx, end+1<<20); err == nil {
		t.Error("redo that was never written was found")
	}
	cancel()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestUnknownLog refuses files that are not a log of a supported format.
func TestUnknownLog(t *testing.T) {
	dir := t.TempDir()
	if _, err := redo.Open(disk.OS, dir, dir, nil, nil); err == nil || !strings.Contains(err.Error(), "ib_logfile0") {
		t.Errorf("error = %v, want one that names the file", err)
	}
}

// TestIdle: a server that writes nothing is asked once a second where its log
// ends, and what it writes then is read at once.
func TestIdle(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MariaDB118}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY) ENGINE=InnoDB")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ask, asked := lsns(s), new(atomic.Int64)
		f, err := redo.Open(disk.OS, s.Datadir, t.TempDir(), func(ctx context.Context) (innodb.LSN, innodb.LSN, error) {
			asked.Add(1)
			return ask(ctx)
		}, nil)
		if err != nil {
			t.Fatal(err)
		}
		f.Start(ctx, new(output), "hb", func(err error) {
			if ctx.Err() == nil {
				t.Error(err)
			}
		})
		defer func() { cancel(); _ = f.Close() }()
		least := int64(1 << 62) // other work of the server's may come between
		for range 5 {
			before := asked.Load()
			time.Sleep(time.Second)
			least = min(least, asked.Load()-before)
		}
		if least > 3 {
			t.Errorf("an idle server was asked %d times a second", least)
		}
		s.Exec(t, "INSERT INTO d.t VALUES (1)")
		lsn, began := currentLSN(t, s), time.Now()
		for f.End() < lsn && time.Since(began) < 10*time.Second {
			time.Sleep(5 * time.Millisecond)
		}
		t.Logf("asked %d times in a second; what was written was read within %v", least, time.Since(began))
		if f.End() < lsn {
			t.Errorf("read up to %d, the server is at %d", f.End(), lsn)
		}
	})
}
