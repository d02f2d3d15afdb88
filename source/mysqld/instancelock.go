package mysqld

import (
	"context"
	"errors"
	"strings"
)

// HoldTables keeps all writers from some tables, and has the server write out
// what it holds of them: FLUSH TABLES … WITH READ LOCK, on the connection of l,
// which must be LockInstance's. Readers and other tables are not disturbed.
// Release then releases both. The error is a *LockTimeoutError after
// Options.LockWait, and l is held still; after any other one it is not. It needs
// RELOAD, and SELECT and LOCK TABLES on the tables.
//
// The global lock would not do beside the instance lock: DDL that waits for the
// latter holds what FLUSH TABLES WITH READ LOCK waits for. On another connection
// that would last as long as the instance lock; on this one the server would
// break the deadlock by an error for the DDL. The lock on tables waits for nobody
// but those who use them, and for instance locks of other connections: not even
// for DDL on the same tables. UNLOCK TABLES releases the instance lock
// too, so that there is no going back. (All seen on 9.7.4.)
func (l *Lock) HoldTables(ctx context.Context, tables []Table, p FTWRL) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	watch, err := l.srv.openPatient(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, watch.close()) }()
	if err := l.srv.awaitLong(ctx, watch, p); err != nil {
		return err
	}
	if err := l.holding(ctx); err != nil {
		return err
	}
	t := LockTime{Lock: "FLUSH TABLES … WITH READ LOCK", Blocks: BlocksDDL | BlocksOthers}
	stop := l.srv.killLong(ctx, watch, p, l.conn.id)
	err = l.ask(ctx, t, func() error {
		return l.conn.exec(ctx, "FLUSH NO_WRITE_TO_BINLOG TABLES "+tableList(tables)+" WITH READ LOCK")
	})
	stop()
	if e, ok := errors.AsType[*LockTimeoutError](err); ok {
		list, perr := l.srv.processes(ctx, watch, l.conn.id)
		e.Holders = blockers(list, e.After)
		return errors.Join(e, perr)
	}
	l.release = "UNLOCK TABLES"
	return err
}

// tableList names tables as SQL has them.
func tableList(tables []Table) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = quoteName(t.Schema) + "." + quoteName(t.Name)
	}
	return strings.Join(names, ", ")
}
