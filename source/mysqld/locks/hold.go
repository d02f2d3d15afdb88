package locks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld"
	"hb/source/mysqld/contents"
)

// HoldTables keeps all writers from some tables, and has the server write out their
// cached changes: FLUSH TABLES … WITH READ LOCK, on the connection of l,
// which must be that of Set.Instance. Readers and other tables are not disturbed.
// Release then releases both. The error is a *TimeoutError after wait (0: Options.LockWait),
// and l is held still; after any other one it is not. It needs
// RELOAD, and SELECT and LOCK TABLES on the tables.
//
// Tables that the server cannot open (a damaged one, a MERGE table that lacks one of
// its tables) are not locked, and are returned, each with the server's reason: nobody
// can write to them, and LOCK INSTANCE FOR BACKUP keeps them from being repaired.
//
// The global lock would not do beside the instance lock: DDL that waits for the
// latter holds what FLUSH TABLES WITH READ LOCK waits for. On another connection
// that would last as long as the instance lock; on this one the server would
// break the deadlock by an error for the DDL. The lock on tables waits for nobody
// but those who use them, and for instance locks of other connections: not even
// for DDL on the same tables. UNLOCK TABLES releases the instance lock
// too, so the locks cannot be released one by one. (All seen on 9.7.4.)
func (l *Lock) HoldTables(ctx context.Context, tables []contents.Table, wait time.Duration, p FTWRL) (broken []BrokenTable, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := CheckHold(l.srv, tables); err != nil {
		return nil, err
	}
	watch, err := l.srv.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, watch.Close()) }()
	if err := awaitLong(ctx, l.srv, watch, p); err != nil {
		return nil, err
	}
	if err := l.holding(ctx); err != nil {
		return nil, err
	}
	l.within = wait
	if err := l.setWait(ctx); err != nil {
		return nil, l.fail(err)
	}
	refused := l.holdTables(ctx, tables, watch, p)
	if _, ok := errors.AsType[*refusedError](refused); !ok {
		return nil, refused
	}
	whole, broken, err := openable(ctx, watch, tables)
	switch {
	case err != nil:
		return nil, err
	case len(broken) == 0:
		return nil, refused
	case len(whole) == 0:
		return broken, nil
	}
	return broken, l.holdTables(ctx, whole, watch, p)
}

// holdTables is one try of HoldTables.
func (l *Lock) holdTables(ctx context.Context, tables []contents.Table, watch *mysqld.Session, p FTWRL) error {
	t := Timing{Lock: "FLUSH TABLES … WITH READ LOCK", Blocks: BlocksDDL | BlocksOthers}
	stop := killLong(ctx, l.srv, watch, p, l.conn.ID)
	err := l.ask(ctx, t, func() error {
		err := l.conn.Exec(ctx, holdStatement(tables))
		if isTableError(err) {
			return &refusedError{err}
		}
		return err
	})
	stop()
	if e, ok := errors.AsType[*TimeoutError](err); ok {
		list, perr := processes(ctx, l.srv, watch, l.conn.ID)
		e.Cause = rotation(list)
		e.Holders = blockers(list, e.After)
		return errors.Join(e, perr)
	}
	if err == nil {
		l.release = "UNLOCK TABLES"
	}
	return err
}

// rotation names a statement that rotates a key: it asks for the instance lock, in a way that
// no other request passes by (sql_alter_instance.cc of 9.7.2), so that it waits for hb and hb for it.
func rotation(list []Process) string {
	i := slices.IndexFunc(list, func(p Process) bool { return strings.HasPrefix(strings.ToUpper(p.Statement), "ALTER INSTANCE ") })
	if i < 0 {
		return ""
	}
	return fmt.Sprintf("%.60s (connection %d) waited for hb's own lock, and keeps hb from locking tables of engines other than InnoDB", list[i].Statement, list[i].ID)
}

// holdStatement locks tables, all in one statement: the server has none that adds to
// what is locked, and on connections of their own each would wait for the instance lock.
func holdStatement(tables []contents.Table) string {
	return "FLUSH NO_WRITE_TO_BINLOG TABLES " + tableList(tables) + " WITH READ LOCK"
}

// CheckHold returns a *PacketError if there are so many tables that the server would
// not take HoldTables' statement.
func CheckHold(srv *mysqld.Server, tables []contents.Table) error {
	if len(tables) == 0 {
		return nil
	}
	packet, err := srv.Vars.Int("max_allowed_packet")
	if err != nil {
		return err
	}
	buffer, err := srv.Vars.Int("net_buffer_length")
	if err != nil {
		return err
	}
	const head = 64 // more than the protocol adds
	e := &PacketError{Tables: len(tables), Need: int64(len(holdStatement(tables)) + head), Limit: max(packet, buffer)}
	if e.Need <= e.Limit {
		return nil
	}
	return e
}

// PacketError says that there are more tables to be locked than the server takes in
// one statement: that may have as many bytes as the larger of max_allowed_packet and
// net_buffer_length, neither of which a session can set for itself. (Seen on 9.7.4:
// error 1153, and the connection is closed.)
type PacketError struct {
	Tables      int
	Need, Limit int64 // bytes
}

func (e *PacketError) Error() string {
	return fmt.Sprintf("the statement that locks the %d non-transactional tables has %d bytes, and the server takes %d: "+
		"set max_allowed_packet for the time of the backup (SET GLOBAL max_allowed_packet = %d)", e.Tables, e.Need, e.Limit, (e.Need+1023)/1024*1024)
}

// A BrokenTable is one that the server cannot open.
type BrokenTable struct {
	contents.Table
	Err error
}

// isTableError reports whether the server refused a statement, and goes on: for
// the sake of a table, not because a lock was not granted in time.
func isTableError(err error) bool {
	my, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && !errors.Is(err, mysqld.ErrConnectionLost) && my.Number != erLockWaitTimeout && my.Number != erDeadlock
}

// openable separates the tables that the server can open from those that it cannot.
func openable(ctx context.Context, c *mysqld.Session, tables []contents.Table) (whole []contents.Table, broken []BrokenTable, err error) {
	for _, t := range tables {
		_, err := c.Rows(ctx, "SELECT 1 FROM "+tableList([]contents.Table{t})+" LIMIT 0")
		switch {
		case err == nil:
			whole = append(whole, t)
		case isTableError(err):
			broken = append(broken, BrokenTable{t, err})
		default:
			return nil, nil, err
		}
	}
	return whole, broken, nil
}

// tableList names tables as SQL has them.
func tableList(tables []contents.Table) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = mysqld.QuoteName(t.Schema) + "." + mysqld.QuoteName(t.Name)
	}
	return strings.Join(names, ", ")
}
