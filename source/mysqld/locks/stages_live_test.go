package locks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
)

func TestStages(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.i (a INT) ENGINE=InnoDB", "CREATE TABLE d.m (a INT) ENGINE=MyISAM")
		srv := client.Connect(t, client.Options(s))
		st := New(srv).Stages()
		ctx := t.Context()
		if err := st.Holding(ctx); !errors.Is(err, ErrLost) {
			t.Errorf("nothing held: %v", err)
		}
		// blocked reports whether a statement waits for the stage.
		blocked := func(q string) bool {
			t.Helper()
			c, err := s.DB().Conn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.ExecContext(ctx, "SET SESSION lock_wait_timeout=1, innodb_lock_wait_timeout=1"); err != nil {
				t.Fatal(err)
			}
			_, err = c.ExecContext(ctx, q)
			if err != nil && !strings.Contains(err.Error(), "1205") {
				t.Fatalf("%s: %v", q, err)
			}
			return err != nil
		}
		for _, stage := range []Stage{StageStart, StageFlush, StageBlockDDL, StageBlockCommit} {
			if err := st.Enter(ctx, stage); err != nil {
				t.Fatal(err)
			}
			if st.Current() != stage {
				t.Errorf("current = %v, want %v", st.Current(), stage)
			}
			if err := st.Holding(ctx); err != nil {
				t.Error(err)
			}
			if got, want := blocked("INSERT INTO d.m VALUES (1)"), stage >= StageFlush; got != want {
				t.Errorf("%v: MyISAM insert blocked = %v", stage, got)
			}
			if got, want := blocked(fmt.Sprintf("CREATE TABLE d.c%d (a INT)", stage)), stage >= StageBlockDDL; got != want {
				t.Errorf("%v: CREATE TABLE blocked = %v", stage, got)
			}
			if got, want := blocked("INSERT INTO d.i VALUES (1)"), stage >= StageBlockCommit; got != want {
				t.Errorf("%v: commit blocked = %v", stage, got)
			}
		}
		if err := st.Enter(ctx, StageStart); err == nil {
			t.Error("START after BLOCK_COMMIT: no error")
		}
		if err := st.End(ctx); err != nil {
			t.Fatal(err)
		}
		if blocked("INSERT INTO d.i VALUES (1)") {
			t.Error("commit still blocked after END")
		}
		times := st.Times()
		if len(times) != 4 || times[3].Stage != StageBlockCommit || times[3].Held < time.Second || times[3].Held > time.Minute {
			t.Errorf("times = %+v", times)
		}
		for _, x := range times {
			if x.Held <= 0 || x.Wait <= 0 || x.Began.IsZero() {
				t.Errorf("time %+v", x)
			}
		}
	})
}

// TestStageTimeout shows that a stage not granted leaves the one before held.
func TestStageTimeout(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.m (a INT) ENGINE=MyISAM", "CREATE TABLE d.i (a INT) ENGINE=InnoDB")
		ctx := t.Context()
		opt := client.Options(s)
		opt.LockWait = time.Second
		srv, second := client.Connect(t, opt), client.Connect(t, opt)
		st := New(srv).Stages()
		if err := st.Enter(ctx, StageStart); err != nil {
			t.Fatal(err)
		}
		if err := New(second).Stages().Enter(ctx, StageStart); !isTimeout(err) {
			t.Errorf("second backup: %v", err)
		}
		if err := second.Close(); err != nil {
			t.Error(err)
		}
		if err := st.Holding(ctx); err != nil {
			t.Error(err)
		}
		if err := st.End(ctx); err != nil {
			t.Error(err)
		}

		srv = client.Connect(t, opt)
		st = New(srv).Stages()
		blocker, err := s.DB().Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer blocker.Close()
		for _, q := range []string{"BEGIN", "INSERT INTO d.i VALUES (1)"} {
			if _, err := blocker.ExecContext(ctx, q); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(st.Enter(ctx, StageStart), st.Enter(ctx, StageBlockCommit)); err != nil {
			t.Fatalf("an open transaction must not be in the way: %v", err)
		}
		if err := st.End(ctx); err != nil {
			t.Error(err)
		}
		if _, err := blocker.ExecContext(ctx, "LOCK TABLES d.m WRITE"); err != nil {
			t.Fatal(err)
		}
		srv = client.Connect(t, opt)
		st = New(srv).Stages()
		// From 10.11 on even START waits for LOCK TABLES ... WRITE.
		if err := st.Enter(ctx, StageStart); isTimeout(err) != s.Root.AtLeast(10, 11) || (err != nil && !isTimeout(err)) {
			t.Fatal(err)
		}
		if _, err := blocker.ExecContext(ctx, "UNLOCK TABLES"); err != nil {
			t.Fatal(err)
		}
		if st.Current() == StageNone {
			if err := st.Enter(ctx, StageStart); err != nil {
				t.Fatalf("second try: %v", err)
			}
		}
		if _, err := blocker.ExecContext(ctx, "LOCK TABLES d.m WRITE"); err != nil {
			t.Fatal(err)
		}
		err = st.Enter(ctx, StageBlockDDL)
		if !isTimeout(err) {
			t.Fatalf("table locked for writing: %v", err)
		}
		if _, err := blocker.ExecContext(ctx, "UNLOCK TABLES"); err != nil {
			t.Fatal(err)
		}
		if err := st.Holding(ctx); err != nil {
			t.Errorf("after a timeout: %v", err)
		}
		if err := st.Enter(ctx, StageBlockDDL); err != nil {
			t.Errorf("second try: %v", err)
		}
		if err := st.End(ctx); err != nil {
			t.Error(err)
		}
	})
}

// TestStageLost kills the lock connection: the loss must not go unnoticed.
func TestStageLost(t *testing.T) {
	mysqldtest.Concurrent(t)
	mysqldtest.EachServer(t, mysqldtest.MariaDB, mysqldtest.Options{Binlog: true}, func(t *testing.T, s *mysqldtest.Server) {
		ctx := t.Context()
		srv := client.Connect(t, client.Options(s))
		st := New(srv).Stages()
		if err := errors.Join(st.Enter(ctx, StageStart), st.Enter(ctx, StageBlockDDL)); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "KILL "+st.conn.ID)
		for range 2 {
			if err := st.Holding(ctx); !errors.Is(err, ErrLost) {
				t.Errorf("holding = %v", err)
			}
		}
		if err := st.Enter(ctx, StageBlockCommit); !errors.Is(err, ErrLost) {
			t.Errorf("enter = %v", err)
		}
		if err := st.End(ctx); !errors.Is(err, ErrLost) {
			t.Errorf("end = %v", err)
		}

		// A context that ends in the middle of a stage releases all.
		srv = client.Connect(t, client.Options(s))
		st = New(srv).Stages()
		if err := st.Enter(ctx, StageStart); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.m (a INT) ENGINE=MyISAM")
		blocker, err := s.DB().Conn(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer blocker.Close()
		if _, err := blocker.ExecContext(ctx, "LOCK TABLES d.m WRITE"); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		if err := st.Enter(short, StageBlockDDL); !errors.Is(err, ErrLost) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("enter = %v", err)
		}
		// Nothing waits behind the stage that was given up, and it does not
		// come into force later.
		if _, err := s.DB().ExecContext(ctx, "SET STATEMENT lock_wait_timeout=1 FOR CREATE TABLE d.after_cancel (a INT)"); err != nil {
			t.Errorf("after the context ended: %v", err)
		}
		if _, err := blocker.ExecContext(ctx, "UNLOCK TABLES"); err != nil {
			t.Fatal(err)
		}
		third := client.Connect(t, client.Options(s))
		if err := New(third).Stages().Enter(ctx, StageStart); err != nil {
			t.Errorf("after the context ended: %v", err)
		}

		// A closed server releases what it held.
		if err := third.Close(); err != nil {
			t.Error(err)
		}
		fourth := client.Connect(t, client.Options(s))
		st = New(fourth).Stages()
		if err := st.Enter(ctx, StageStart); err != nil {
			t.Errorf("after Close: %v", err)
		}
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
		if err := st.Holding(ctx); !errors.Is(err, ErrLost) {
			t.Errorf("server gone: %v", err)
		}
	})
}
