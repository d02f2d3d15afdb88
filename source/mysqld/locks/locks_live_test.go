package locks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hb/source/mysqld/contents"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
)

func isTimeout(err error) bool { _, ok := errors.AsType[*TimeoutError](err); return ok }

// a table for each engine that the locks tell apart
var tablesByEngine = []string{"CREATE DATABASE d", "CREATE TABLE d.i (a INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE d.j (a INT PRIMARY KEY) ENGINE=InnoDB", "CREATE TABLE d.m (a INT) ENGINE=MyISAM", "INSERT INTO d.i VALUES (1)"}

// blocks reports whether a statement waits for a lock, for a second or so.
func blocks(t *testing.T, s *mysqldtest.Server, q string) bool {
	t.Helper()
	c := s.Conn(t)
	defer c.Close()
	if _, err := c.ExecContext(t.Context(), "SET SESSION lock_wait_timeout=1, innodb_lock_wait_timeout=1"); err != nil {
		t.Fatal(err)
	}
	_, err := c.ExecContext(t.Context(), q)
	if err != nil && !strings.Contains(err.Error(), "1205") {
		t.Fatalf("%s: %v", q, err)
	}
	return err != nil
}

// until waits until a statement with that text is in that state.
func until(t *testing.T, s *mysqldtest.Server, text, state string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s.Value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE ? AND STATE LIKE ? AND ID <> CONNECTION_ID()", text+"%", state+"%") != "0" {
			return
		}
	}
	t.Fatalf("%s: not in state %s:\n%v", text, state, s.Rows(t, "SHOW FULL PROCESSLIST"))
}

// untilLong waits until a statement with that text sleeps, and has run for a second
// by the server's account, which counts whole ones.
func untilLong(t *testing.T, s *mysqldtest.Server, text string) {
	t.Helper()
	until(t, s, text, "User sleep")
	mysqldtest.Await(t, text+" runs for a second", func() bool {
		return s.Value(t, "SELECT MAX(TIME) >= 1 FROM information_schema.PROCESSLIST WHERE INFO LIKE ? AND ID <> CONNECTION_ID()", text+"%") == "1"
	})
}

// untilNone waits until nobody runs a statement that begins so: the server takes
// its time to end one that was killed.
func untilNone(t *testing.T, s *mysqldtest.Server, text string) {
	t.Helper()
	n := ""
	for end := time.Now().Add(3 * time.Second); n != "0" && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		n = s.Value(t, "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE ? AND ID <> CONNECTION_ID()", text+"%")
	}
	if n != "0" {
		t.Errorf("%s requests of ours are left", n)
	}
}

func TestLockInstance(t *testing.T) {
	mysqldtest.Concurrent(t)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Binlog: true})
	s.Exec(t, tablesByEngine...)
	ctx := t.Context()
	srv := client.Connect(t, client.Options(s))
	set := New(srv)
	l, err := set.Instance(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for q, want := range map[string]bool{
		"CREATE TABLE d.c (a INT)": true, "TRUNCATE d.i": true, "ALTER TABLE d.j ADD b INT": true,
		"INSERT INTO d.j VALUES (7)": false, "INSERT INTO d.m VALUES (7)": false,
		"FLUSH BINARY LOGS": false,
	} {
		if got := blocks(t, s, q); got != want {
			t.Errorf("%s: blocked = %v", q, got)
		}
	}
	// The global lock fits under it, on another connection.
	g, err := set.Global(ctx, FTWRL{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(srv.Control.Exec(ctx, "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS"), l.Holding(ctx), g.Holding(ctx), g.Release(ctx), l.Release(ctx)); err != nil {
		t.Error(err)
	}
	if blocks(t, s, "CREATE TABLE d.c (a INT)") {
		t.Error("DDL still blocked after the release")
	}
	if err := l.Holding(ctx); !errors.Is(err, ErrLost) {
		t.Errorf("released, but holding: %v", err)
	}
	times := set.Times()
	if len(times) != 2 || times[0].Lock != "LOCK INSTANCE FOR BACKUP" || times[0].Blocks != BlocksDDL || times[0].Held < 3*time.Second || times[1].Lock != globalLock || times[1].Held <= 0 || times[1].Held > times[0].Held {
		t.Errorf("times %+v", times)
	}

	// DDL in progress is waited for, and no longer than allowed.
	slow := s.Background(t, "CREATE TABLE d.slow SELECT SLEEP(3) AS a")
	until(t, s, "CREATE TABLE d.slow", "User sleep")
	if _, err := set.Instance(ctx); !isTimeout(err) {
		t.Errorf("DDL in the way: %v", err)
	}
	if err := slow(); err != nil {
		t.Error(err)
	}
	// A closed server releases it.
	if _, err := set.Instance(ctx); err != nil {
		t.Fatal(err)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	if blocks(t, s, "DROP TABLE d.slow") {
		t.Error("DDL still blocked after Close")
	}
}

// TestHoldTables keeps the writers of one table waiting under the instance lock,
// though DDL waits for that, which the global lock would wait for.
func TestHoldTables(t *testing.T) {
	mysqldtest.Concurrent(t)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Binlog: true})
	s.Exec(t, tablesByEngine...)
	s.Exec(t, "CREATE TABLE d.n (a INT) ENGINE=MyISAM")
	ctx := t.Context()
	srv := client.Connect(t, client.Options(s))
	set := New(srv)
	l, err := set.Instance(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ddl := s.Background(t, "ALTER TABLE d.m ADD b INT")
	until(t, s, "ALTER", "Waiting for backup lock")
	if g, err := set.Global(ctx, FTWRL{}); !isTimeout(err) {
		t.Errorf("the global lock behind DDL that waits: %v, %v", g, err)
	}
	reader := s.Conn(t)
	for _, q := range []string{"LOCK TABLES d.m READ"} {
		if _, err := reader.ExecContext(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	busy := []contents.Table{{Schema: "d", Name: "m"}, {Schema: "d", Name: "n"}}
	_, err = l.HoldTables(ctx, busy, 0, FTWRL{})
	if _, e := reader.ExecContext(ctx, "UNLOCK TABLES"); e != nil {
		t.Fatal(e)
	}
	if isTimeout(err) { // a second try, with the instance lock still held
		_, again := l.HoldTables(ctx, busy, 0, FTWRL{})
		err = errors.Join(l.Holding(ctx), again)
	}
	if err != nil {
		t.Fatal(err)
	}
	for q, want := range map[string]bool{
		"INSERT INTO d.m VALUES (1)": true, "INSERT INTO d.n VALUES (1)": true, "INSERT INTO d.i VALUES (2)": false,
		"SELECT * FROM d.n": false, "CREATE TABLE d.c (a INT)": true,
	} {
		if got := blocks(t, s, q); got != want {
			t.Errorf("%s: blocked = %v", q, got)
		}
	}
	if _, err := srv.Control.Row(ctx, "SELECT * FROM performance_schema.log_status"); err != nil {
		t.Error(err)
	}
	if err := errors.Join(l.Holding(ctx), l.Release(ctx), ddl()); err != nil {
		t.Error(err)
	}
	if blocks(t, s, "INSERT INTO d.n VALUES (1)") || blocks(t, s, "CREATE TABLE d.c (a INT)") {
		t.Error("still blocked after the release")
	}
	times := set.Times()
	if n := len(times); n != 2 || times[1].Blocks&BlocksCommits != 0 || times[1].Held < time.Second {
		t.Errorf("times %+v", times)
	}
}

// TestHoldTablesWaits: the wait for tables is not that of the lock before; and an ALTER INSTANCE
// that waits for hb, as hb for it, is named.
func TestHoldTablesWaits(t *testing.T) {
	mysqldtest.Concurrent(t)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{Keyring: filepath.Join(t.TempDir(), "keyring")})
	s.Exec(t, tablesByEngine...)
	ctx := t.Context()
	tables := []contents.Table{{Schema: "d", Name: "m"}}
	for _, c := range []struct {
		busy, state string
		granted     bool
	}{
		{"INSERT INTO d.m SELECT SLEEP(4)", "User sleep", true},
		{"ALTER INSTANCE ROTATE INNODB MASTER KEY", "Waiting for backup lock", false},
	} {
		o, short := client.Options(s), time.Duration(0)
		o.LockWait = 20 * time.Second
		if !c.granted {
			short = 2 * time.Second
		}
		l, err := New(client.Connect(t, o)).InstanceWithin(ctx, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		wait := s.Background(t, c.busy)
		until(t, s, strings.Fields(c.busy)[0], c.state)
		began := time.Now()
		_, err = l.HoldTables(ctx, tables, short, FTWRL{})
		switch {
		case c.granted && err != nil:
			t.Error(err)
		case !c.granted && (!isTimeout(err) || !strings.Contains(err.Error(), "ALTER INSTANCE ROTATE INNODB MASTER KEY (connection ") || time.Since(began) > 10*time.Second):
			t.Errorf("beside ALTER INSTANCE: %v, after %v", err, time.Since(began))
		}
		if err := errors.Join(l.Close(), wait()); err != nil {
			t.Error(err)
		}
	}
}

// TestBrokenTables: tables that the server cannot open do not keep the others from
// being locked, nor lose the instance lock.
func TestBrokenTables(t *testing.T) {
	mysqldtest.Concurrent(t)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, tablesByEngine...)
	s.Exec(t, "CREATE TABLE d.gone (a INT) ENGINE=MyISAM", "CREATE TABLE d.merge (a INT) ENGINE=MERGE UNION=(d.gone)", "DROP TABLE d.gone",
		"CREATE TABLE d.bad (a INT, KEY (a)) ENGINE=MyISAM", "FLUSH TABLES")
	if err := os.WriteFile(filepath.Join(s.Datadir, "d/bad.MYI"), make([]byte, 1024), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	srv := client.Connect(t, client.Options(s))
	set := New(srv)
	table := func(name string) contents.Table { return contents.Table{Schema: "d", Name: name} }
	for _, c := range []struct{ tables, broken []contents.Table }{
		{[]contents.Table{table("merge"), table("m"), table("bad")}, []contents.Table{table("merge"), table("bad")}},
		{[]contents.Table{table("merge")}, []contents.Table{table("merge")}},
	} {
		l, err := set.Instance(ctx)
		if err != nil {
			t.Fatal(err)
		}
		broken, err := l.HoldTables(ctx, c.tables, 0, FTWRL{})
		if err != nil {
			t.Fatal(err)
		}
		var got []contents.Table
		for _, b := range broken {
			got = append(got, b.Table)
			t.Log(b.Err)
		}
		if !slices.Equal(got, c.broken) {
			t.Errorf("%v are broken, want %v", got, c.broken)
		}
		if want := len(c.broken) < len(c.tables); blocks(t, s, "INSERT INTO d.m VALUES (1)") != want {
			t.Errorf("writes to the whole table are blocked: %v", !want)
		}
		repair := s.Conn(t)
		if _, err := repair.ExecContext(ctx, "SET SESSION lock_wait_timeout=1"); err != nil {
			t.Fatal(err)
		}
		var name, op, kind, text string
		if err := repair.QueryRowContext(ctx, "REPAIR TABLE d.bad").Scan(&name, &op, &kind, &text); err == nil && !strings.Contains(text, "Lock wait timeout") {
			t.Errorf("REPAIR TABLE under the instance lock: %s %s", kind, text)
		}
		if err := errors.Join(l.Holding(ctx), l.Release(ctx)); err != nil {
			t.Error(err)
		}
	}
}

// TestOnly: of two backups the second waits, without a lock, and is told who is in its
// way; when the first has ended, or its connection is gone, the second goes on.
func TestOnly(t *testing.T) {
	mysqldtest.Concurrent(t)
	all := slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL)
	mysqldtest.EachServer(t, all, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		ctx := t.Context()
		o := client.Options(s)
		o.LockWait = time.Second
		first, second := client.Connect(t, o), client.Connect(t, o)
		if other, err := Other(ctx, second); other != "" || err != nil {
			t.Errorf("before: %q, %v", other, err)
		}
		only, err := New(first).Only(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(second).Only(ctx)
		e, ok := errors.AsType[*OtherBackupError](err)
		if !ok || e.Holder != "connection "+only.conn.ID+" of root@localhost" || e.After < time.Second {
			t.Errorf("a second backup: %v", err)
		}
		if other, err := Other(ctx, second); other != e.Holder || err != nil {
			t.Errorf("meanwhile: %q, %v", other, err)
		}
		if err := only.Close(); err != nil {
			t.Error(err)
		}
		again, err := New(second).Only(ctx)
		if err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "KILL "+again.conn.ID)
		if _, err := New(first).Only(ctx); err != nil {
			t.Errorf("after the other's connection was killed: %v", err)
		}
	})
}

// TestDeadlock: when hb and another program hold the instance lock, and both want a
// table's, the server ends one request by error 1213. hb asks again, and has its lock
// once the other program gives up; if that does not, hb gives up in time.
func TestDeadlock(t *testing.T) {
	mysqldtest.Concurrent(t)
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, tablesByEngine...)
	for _, test := range []struct {
		name      string
		hbFirst   bool
		wait      time.Duration
		givesUp   bool
		deadlocks int
	}{
		{"the other waits already", false, time.Minute, true, 1},
		{"hb waits already", true, time.Minute, true, 1},
		{"the other stays", false, time.Second, false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := t.Context()
			o := client.Options(s)
			o.LockWait = test.wait
			l, err := New(client.Connect(t, o)).Instance(ctx)
			if err != nil {
				t.Fatal(err)
			}
			other := s.Conn(t)
			if _, err := other.ExecContext(ctx, "LOCK INSTANCE FOR BACKUP"); err != nil {
				t.Fatal(err)
			}
			var id string
			if err := other.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id); err != nil {
				t.Fatal(err)
			}
			theirs, ours := make(chan error, 1), make(chan error, 1)
			they := func() {
				_, err := other.ExecContext(ctx, "FLUSH TABLES d.m WITH READ LOCK")
				theirs <- err
			}
			we := func() {
				_, err := l.HoldTables(ctx, []contents.Table{{Schema: "d", Name: "m"}}, 0, FTWRL{})
				ours <- err
			}
			deadlocks := func() (n int) {
				_, err := fmt.Sscan(s.Value(t, "SELECT SUM_ERROR_RAISED FROM performance_schema.events_errors_summary_global_by_error WHERE ERROR_NUMBER = 1213"), &n)
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			before := deadlocks()
			if test.hbFirst {
				go we()
				until(t, s, "FLUSH NO_WRITE", "Waiting for")
				go they()
			} else {
				go they()
				until(t, s, "FLUSH TABLES d.m", "Waiting for")
				go we()
			}
			mysqldtest.Await(t, "the server has ended so many requests", func() bool { return deadlocks() >= before+test.deadlocks })
			t.Logf("%d deadlocks", deadlocks()-before)
			if test.givesUp {
				s.Exec(t, "KILL "+id)
			}
			if err := <-ours; (err == nil) != test.givesUp || err != nil && !isTimeout(err) {
				t.Errorf("the lock that hb asked for again: %v", err)
			}
			if !test.givesUp {
				s.Exec(t, "KILL "+id)
			}
			<-theirs
			if err := errors.Join(l.Holding(ctx), l.Release(ctx)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGlobalLock(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, tablesByEngine...)
		ctx := t.Context()
		srv := client.Connect(t, client.Options(s))
		set := New(srv)
		l, err := set.Global(ctx, FTWRL{})
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []string{"CREATE TABLE d.c (a INT)", "INSERT INTO d.i VALUES (2)", "INSERT INTO d.m VALUES (2)"} {
			if !blocks(t, s, q) {
				t.Errorf("%s: not blocked", q)
			}
		}
		if blocks(t, s, "SELECT * FROM d.i") {
			t.Error("readers wait")
		}
		// All that is asked under the lock comes from another connection.
		if _, err := srv.Control.Rows(ctx, map[bool]string{false: "SHOW MASTER STATUS", true: "SHOW BINARY LOG STATUS"}[srv.Series.BinlogStatus]); err != nil {
			t.Error(err)
		}
		if _, err := srv.Control.Row(ctx, "SHOW ENGINE INNODB STATUS"); err != nil {
			t.Error(err)
		}
		if err := errors.Join(srv.Control.Exec(ctx, "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS"), l.Holding(ctx), l.Release(ctx)); err != nil {
			t.Error(err)
		}
		if blocks(t, s, "INSERT INTO d.i VALUES (2)") {
			t.Error("still blocked after the release")
		}
		times := set.Times()
		if len(times) != 1 || times[0].Blocks != BlocksDDL|BlocksOthers|BlocksCommits || times[0].Held < 3*time.Second {
			t.Errorf("times %+v", times)
		}

		// A killed lock is noticed.
		if l, err = set.Global(ctx, FTWRL{}); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "KILL "+l.conn.ID)
		for range 2 {
			if err := l.Holding(ctx); !errors.Is(err, ErrLost) {
				t.Errorf("holding = %v", err)
			}
		}
		if err := l.Release(ctx); !errors.Is(err, ErrLost) {
			t.Errorf("release = %v", err)
		}
	})
}

// TestGlobalLockGivesUp shows that a lock that is not granted in time lets the
// writers go on that queued up behind it, and says who was in the way.
func TestGlobalLockGivesUp(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, tablesByEngine...)
		ctx := t.Context()
		opt := client.Options(s)
		opt.LockWait = 2 * time.Second
		srv := client.Connect(t, opt)
		set := New(srv)
		for _, blocker := range []string{"SELECT a, SLEEP(5) FROM d.i", "UPDATE d.i SET a = 1 WHERE SLEEP(5)"} {
			slow := s.Background(t, blocker)
			untilLong(t, s, blocker)
			var write func() error
			var wg sync.WaitGroup
			wg.Go(func() {
				until(t, s, "FLUSH", "Waiting for")
				write = s.Background(t, "INSERT INTO d.j VALUES ("+fmt.Sprint(len(blocker))+")")
			})
			_, err := set.Global(ctx, FTWRL{})
			given := time.Now()
			e, ok := errors.AsType[*TimeoutError](err)
			if !ok || len(e.Holders) != 1 || e.Holders[0].Statement != blocker || !strings.Contains(err.Error(), "SLEEP(5)") || e.After < opt.LockWait || e.After > opt.LockWait+2*time.Second {
				t.Errorf("error = %v", err)
			}
			wg.Wait()
			if err := write(); err != nil || time.Since(given) > 2*time.Second {
				t.Errorf("a writer waited on for %v: %v", time.Since(given), err)
			}
			untilNone(t, s, "FLUSH")
			if err := slow(); err != nil {
				t.Error(err)
			}
			if l, err := set.Global(ctx, FTWRL{}); err != nil {
				t.Errorf("second try: %v", err)
			} else if err := l.Release(ctx); err != nil {
				t.Error(err)
			}
		}
		// A context that ends takes the request back too.
		slow := s.Background(t, "SELECT a, SLEEP(4) FROM d.i")
		until(t, s, "SELECT a, SLEEP(4)", "User sleep")
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if _, err := set.Global(short, FTWRL{}); !errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("context ended: %v", err)
		}
		if blocks(t, s, "INSERT INTO d.j VALUES (99)") {
			t.Error("writers wait after the context ended")
		}
		if err := slow(); err != nil {
			t.Error(err)
		}
	})
}

// TestGlobalLockPolicy waits for long statements, and kills them.
func TestGlobalLockPolicy(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, tablesByEngine...)
		ctx := t.Context()
		opt := client.Options(s)
		opt.LockWait = 20 * time.Second
		srv := client.Connect(t, opt)
		set := New(srv)
		const query = "/* report */ (SELECT a, SLEEP(5) FROM d.i)"
		slow := s.Background(t, query)
		untilLong(t, s, query)

		// It is waited for, but not so long; an update is none of these.
		began := time.Now()
		_, err := set.Global(ctx, FTWRL{WaitTimeout: time.Second, WaitThreshold: time.Second})
		if e, ok := errors.AsType[*TimeoutError](err); !ok || len(e.Holders) != 1 || e.Holders[0].Statement != query || time.Since(began) > 3*time.Second {
			t.Errorf("long statement: %v", err)
		}
		if blocks(t, s, "SELECT * FROM d.i") {
			t.Error("the lock was asked for")
		}
		if err := awaitLong(ctx, srv, srv.Control, FTWRL{WaitTimeout: time.Second, WaitThreshold: time.Second, WaitQueryType: QueryUpdate}); err != nil {
			t.Errorf("a SELECT is waited for as an update: %v", err)
		}
		// It is waited for until its end.
		l, err := set.Global(ctx, FTWRL{WaitTimeout: 15 * time.Second, WaitThreshold: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		if n := set.Times(); n[0].Wait > 2*time.Second {
			t.Errorf("writers waited for %v", n[0].Wait)
		}
		if err := errors.Join(slow(), l.Release(ctx)); err != nil {
			t.Error(err)
		}

		// Killed: of two long statements only the SELECT.
		const endless = "/* report */ (SELECT a, SLEEP(300) FROM d.i)"
		slow = s.Background(t, endless)
		update := s.Background(t, "UPDATE d.j, (SELECT SLEEP(5)) AS x SET d.j.a = 1")
		untilLong(t, s, endless)
		untilLong(t, s, "UPDATE")
		var killed []string
		l, err = set.Global(ctx, FTWRL{KillTimeout: 2 * time.Second, KillQueryType: QuerySelect, Killed: func(p Process) { killed = append(killed, p.Statement) }})
		if err != nil {
			t.Fatal(err)
		}
		if len(killed) == 0 || killed[0] != endless || slices.ContainsFunc(killed, func(q string) bool { return strings.HasPrefix(q, "UPDATE") }) {
			t.Errorf("killed %q", killed)
		}
		_ = slow() // 5.6 and 5.7 end a SLEEP that is killed without an error
		if err := errors.Join(update(), l.Release(ctx)); err != nil {
			t.Error(err)
		}
	})
}

func TestLockTableDDL(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, tablesByEngine...)
		s.Exec(t, "CREATE TABLE d.`ä ``x` (a INT) ENGINE=InnoDB", "CREATE TABLE d.p (a INT) ENGINE=InnoDB PARTITION BY HASH(a) PARTITIONS 3",
			"CREATE VIEW d.v AS SELECT 1", "CREATE TABLE d.gone (a INT) ENGINE=InnoDB", "ALTER TABLE d.gone DISCARD TABLESPACE")
		ctx := t.Context()
		srv := client.Connect(t, client.Options(s))
		set := New(srv)
		l, n, err := set.TableDDL(ctx)
		if err != nil || n < 4 || n > 5 { // with or without the discarded one
			t.Fatalf("%d tables, %v", n, err)
		}
		for q, want := range map[string]bool{
			"TRUNCATE d.i": true, "ALTER TABLE d.`ä ``x` ADD b INT": true, "DROP TABLE d.p": true, "RENAME TABLE d.j TO d.k": true,
			"INSERT INTO d.j VALUES (7)": false, "CREATE TABLE d.c (a INT)": false, "DROP TABLE d.m": false,
		} {
			if got := blocks(t, s, q); got != want {
				t.Errorf("%s: blocked = %v", q, got)
			}
		}
		if n := s.Value(t, "SELECT COUNT(*) FROM information_schema.INNODB_TRX"); n != "0" {
			t.Errorf("%s transactions of InnoDB are open: purge waits for them", n)
		}
		// It does not stand in the way of the global lock.
		g, err := set.Global(ctx, FTWRL{})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(g.Release(ctx), l.Holding(ctx), l.Release(ctx)); err != nil {
			t.Error(err)
		}
		if blocks(t, s, "TRUNCATE d.i") {
			t.Error("DDL still blocked after the release")
		}
		c := s.Conn(t)
		if _, err := c.ExecContext(ctx, "LOCK TABLES d.j WRITE"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := set.TableDDL(ctx); !isTimeout(err) {
			t.Errorf("a locked table: %v", err)
		}
	})
}
