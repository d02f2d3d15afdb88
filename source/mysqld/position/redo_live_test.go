package position

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/xbstream/innodb"
)

// TestLSN shows under load that an LSN asked for before the flush is on disk
// after it, or after RedoDelay where the flush does nothing.
func TestLSN(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(200)) ENGINE=InnoDB")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				// Errors end with the load; the LSN's growth is checked below.
				_, _ = s.DB().ExecContext(ctx, "INSERT INTO d.t (b) VALUES (REPEAT('x', 200)), (REPEAT('y', 200))")
			}
		})
		defer wg.Wait()
		defer cancel()
		srv := client.Connect(t, client.Options(s))
		var last innodb.LSN
		mysqldtest.Await(t, "the load writes redo meanwhile", func() bool {
			var first innodb.LSN
			first, last = lsnFlushed(t, srv, 50, 0)
			return first != last
		})
		s.Exec(t, "SET GLOBAL innodb_flush_log_at_trx_commit=0")
		mysqldtest.Await(t, "the load still does", func() bool {
			_, zero := lsnFlushed(t, srv, 2, time.Second)
			return zero != last
		})
	})
}

// lsnFlushed asks for the LSN and flushes n times, and returns the first and
// the last LSN.
func lsnFlushed(t *testing.T, srv *mysqld.Server, n int, wantDelay time.Duration) (first, last innodb.LSN) {
	t.Helper()
	delay, err := RedoDelay(t.Context(), srv)
	if err != nil || delay != wantDelay {
		t.Errorf("delay = %v, %v, want %v", delay, err, wantDelay)
	}
	for i := range n {
		lsn, err := CurrentLSN(t.Context(), srv)
		if err != nil {
			t.Fatal(err)
		}
		if lsn < last {
			t.Errorf("LSN went back from %v to %v", last, lsn)
		}
		if last = lsn; i == 0 {
			first = lsn
		}
		if err := FlushEngineLogs(t.Context(), srv); err != nil {
			t.Fatal(err)
		}
		// Twice the delay: the server's own flush is late on a busy machine.
		for end := time.Now().Add(2 * delay); ; time.Sleep(20 * time.Millisecond) {
			flushed, _, err := LSNs(t.Context(), srv)
			if err != nil {
				t.Fatal(err)
			}
			if flushed >= lsn {
				break
			}
			if time.Now().After(end) {
				t.Errorf("flushed %v after asking for %v", flushed, lsn)
				break
			}
		}
	}
	return first, last
}

// TestMySQLLSN shows under load that an LSN asked for before the flush is on
// disk after it.
func TestMySQLLSN(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		defer loadRows(t, s)()
		srv := client.Connect(t, client.Options(s))
		var last innodb.LSN
		mysqldtest.Await(t, "the load writes redo meanwhile", func() bool {
			var first innodb.LSN
			first, last = lsnFlushed(t, srv, 50, 0)
			return first != last
		})
		checkpoint, err := CheckpointLSN(t.Context(), srv)
		if err != nil || checkpoint == 0 || checkpoint > last {
			t.Errorf("checkpoint = %v, %v", checkpoint, err)
		}
		s.Exec(t, "SET GLOBAL innodb_flush_log_at_trx_commit=0")
		lsnFlushed(t, srv, 50, 0)
	})
}

// loadRows inserts rows until the returned function is called.
func loadRows(t *testing.T, s *mysqldtest.Server) (stop func()) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(200)) ENGINE=InnoDB")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			// Errors end with the load; the tests check that it was there.
			_, _ = s.DB().ExecContext(ctx, "INSERT INTO d.t (b) VALUES (REPEAT('x', 200)), (REPEAT('y', 200))")
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// TestRedoConsumer shows that the server keeps the redo log for a consumer, and
// for one only.
func TestRedoConsumer(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Config: []string{"innodb-redo-log-capacity=8M"}})
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (a LONGBLOB) ENGINE=InnoDB")
	ctx := t.Context()
	srv, second := client.Connect(t, client.Options(s)), client.Connect(t, client.Options(s))
	first := func() string {
		return s.Value(t, "SELECT MIN(FILE_ID) FROM performance_schema.innodb_redo_log_files")
	}
	write := func() { // 4 MB, and a checkpoint
		for _, q := range []string{"INSERT INTO d.t VALUES (REPEAT('x', 4000000))", "DO innodb_redo_log_sharp_checkpoint()"} {
			if _, err := s.DB().ExecContext(ctx, q); err != nil {
				t.Error(err)
			}
		}
	}
	c, warning, err := RegisterRedoConsumer(ctx, srv)
	if err != nil || warning != "" {
		t.Fatal(warning, err)
	}
	if other, warning, err := RegisterRedoConsumer(ctx, second); other != nil || err != nil || !strings.Contains(warning, "another") {
		t.Errorf("a second consumer: %v, %q, %v", other, warning, err)
	}
	// More than the log's capacity: it waits until hb has read some.
	oldest := first()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 5 {
			write()
		}
	}()
	select {
	case <-done:
		t.Error("the server did not wait for the reader")
	case <-time.After(2 * time.Second):
	}
	if got := first(); got != oldest {
		t.Errorf("file %s was recycled, the first is %s", oldest, got)
	}
	if err := c.Advance(ctx, 1); err != nil {
		t.Errorf("backwards: %v", err)
	}
	var lsn innodb.LSN
	for going := true; going; {
		select {
		case <-done:
			going = false
		case <-time.After(20 * time.Millisecond):
		}
		if lsn, err = CurrentLSN(ctx, srv); err != nil {
			t.Fatal(err)
		}
		if err := c.Advance(ctx, lsn); err != nil {
			t.Fatal(err)
		}
	}
	if first() == oldest {
		t.Errorf("file %s stays after its reader went on", oldest)
	}
	if err := errors.Join(c.Close(), c.Close(), c.Advance(ctx, lsn)); err != nil {
		t.Error(err)
	}
	c, _, err = RegisterRedoConsumer(ctx, second)
	if c == nil || err != nil {
		t.Fatalf("after Close: %v", err)
	}
	s.Exec(t, "KILL "+c.conn.ID)
	if err := c.Advance(ctx, lsn+1); !errors.Is(err, mysqld.ErrConnectionLost) {
		t.Errorf("killed: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	mysqldtest.Await(t, "the server forgets the consumer of a connection that was killed", func() bool {
		if c, _, err = RegisterRedoConsumer(ctx, second); err != nil {
			t.Fatalf("after a kill: %v", err)
		}
		return c != nil
	})
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if c, warning, err = RegisterRedoConsumer(ctx, srv); c == nil || err != nil {
		t.Fatalf("after the server's Close: %q, %v", warning, err)
	}
}

// TestObserver: the observer's LSN follows the log within about a second, and
// killing its connection harms nobody.
func TestObserver(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.t (v LONGTEXT) ENGINE=InnoDB", "INSERT INTO d.t VALUES (REPEAT('x', 1000000))")
		srv := client.Connect(t, client.Options(s))
		o, err := Observe(t.Context(), srv)
		if err != nil {
			t.Fatal(err)
		}
		end, err := CurrentLSN(t.Context(), srv)
		if err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
			lsn, err := o.LSN(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if lsn >= end {
				break
			}
			if time.Since(began) > 10*time.Second {
				t.Fatalf("it sees LSN %d, the log ends at %d", lsn, end)
			}
		}
		s.Exec(t, "KILL "+o.c.ID)
		if _, err := o.LSN(t.Context()); err == nil {
			t.Error("a killed connection answers")
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		if _, err := CurrentLSN(t.Context(), srv); err != nil {
			t.Errorf("the server behind it: %v", err)
		}
	})
}
