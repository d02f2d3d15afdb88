package locks

import (
	"context"
	"errors"
	"slices"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld"
	"hb/source/mysqld/contents"
)

// systemSchemas are the databases that belong to the server.
const systemSchemas = "'mysql', 'sys', 'information_schema', 'performance_schema'"

// gone are the server's errors about a table that was dropped, whose tablespace
// is missing, or discarded: there is nothing to lock.
var gone = []uint16{1146, 1812, 1814}

// TableDDL takes a metadata lock on every InnoDB table of the users, which
// blocks DDL on it and lets reads and writes go on, and returns how many there
// are. Tables made after are not among them. (--lock-ddl-per-table, for 5.6 and
// 5.7) It waits for running DDL; the error is a *TimeoutError after
// Options.LockWait. It needs SELECT on all tables.
func (s *Set) TableDDL(ctx context.Context) (l *Lock, tables int, err error) {
	list, err := contents.BaseTables(ctx, s.srv, "ENGINE = 'InnoDB' AND TABLE_SCHEMA NOT IN ("+systemSchemas+")")
	if err != nil {
		return nil, 0, err
	}
	l = s.newLock("ROLLBACK")
	l.mu.Lock()
	defer l.mu.Unlock()
	t := Timing{Lock: "metadata locks on all InnoDB tables", Blocks: BlocksDDL}
	err = l.ask(ctx, t, func() error {
		tables, err = lockTables(ctx, l.conn, list)
		return err
	})
	if err != nil {
		return nil, 0, errors.Join(err, l.hangUp())
	}
	return l, tables, nil
}

// lockTables opens each table in one transaction, to whose end the metadata
// locks last. LIMIT 0 reads nothing, and no snapshot is made that would keep
// purge waiting.
func lockTables(ctx context.Context, c *mysqld.Session, list []contents.Table) (n int, err error) {
	for _, q := range []string{"SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", "START TRANSACTION"} {
		if err := c.Exec(ctx, q); err != nil {
			return 0, err
		}
	}
	for _, t := range list {
		_, err := c.Rows(ctx, "SELECT 1 FROM "+mysqld.QuoteName(t.Schema)+"."+mysqld.QuoteName(t.Name)+" LIMIT 0")
		my, ok := errors.AsType[*mysql.MySQLError](err)
		switch {
		case err == nil:
			n++
		case ok && slices.Contains(gone, my.Number):
		default:
			return 0, err
		}
	}
	return n, nil
}

// GiveWay watches over the wait for a final lock while l, of TableDDL, is held,
// and releases l as soon as a statement waits for a metadata lock. A statement of
// DDL that waits for l keeps the final lock waiting (5.6, 5.7: it holds the global
// lock's counterpart), so that hb would wait for itself. What asks later waits for
// the final lock. stop ends it, and returns whether l is released.
func (l *Lock) GiveWay(ctx context.Context) (stop func() (bool, error), err error) {
	watch, err := l.srv.Open(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var gave bool
	done := make(chan error, 1)
	go func() {
		for {
			list, err := processes(ctx, l.srv, watch)
			if err == nil && slices.ContainsFunc(list, func(p Process) bool { return p.State == waitsForTable }) {
				gave = true
				done <- l.Release(ctx)
				return
			}
			if err != nil || mysqld.Pause(ctx, mysqld.PollPause) != nil {
				done <- err
				return
			}
		}
	}()
	return func() (bool, error) {
		cancel()
		err := <-done
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return gave, errors.Join(err, watch.Close())
	}, nil
}

// waitsForTable is the state of a statement that waits for a metadata lock on a
// table.
const waitsForTable = "Waiting for table metadata lock"
