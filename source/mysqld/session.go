package mysqld

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A Session is one connection; the driver never replaces it with another.
type Session struct {
	mu   sync.Mutex // one statement at a time
	conn *sql.Conn
	ID   string // the server's CONNECTION_ID()
}

// sessionWait is the longest wait_timeout of the servers, in seconds: an idle
// lock connection must not be hung up.
const sessionWait = 31536000

// neutralSettings are the settings that a session of hb must not inherit from the
// server's global ones, nor from init_connect: those that change or cut answers, end
// statements or sessions, make a transaction of a statement, or forbid one.
// Every server since MySQL 5.6 knows them.
var neutralSettings = []string{
	"sql_mode=''", "autocommit=1", "completion_type=0",
	"sql_select_limit=18446744073709551615", "sql_big_selects=1", "sql_safe_updates=0", // sql_big_selects puts max_join_size out of force
	"tmp_table_size=16777216", "max_heap_table_size=16777216", "big_tables=0",
	"net_read_timeout=600", "net_write_timeout=600",
}

// laterSettings are those that only some servers know.
var laterSettings = []struct{ name, value string }{
	{"max_statement_time", "0"}, // MariaDB, Percona Server 5.6
	{"max_execution_time", "0"}, // MySQL 5.7 and later
	{"wsrep_sync_wait", "0"},
	{"idle_transaction_timeout", "0"},
	{"idle_readonly_transaction_timeout", "0"},
	{"idle_write_transaction_timeout", "0"},
	{"tmp_disk_table_size", "18446744073709551615"},
	{"max_session_mem_used", "9223372036854775807"},
}

// neutral makes the session's answers independent of how server and user are
// set up.
func (c *Session) neutral(ctx context.Context, lockSeconds int64) error {
	list := append(slices.Clone(neutralSettings), fmt.Sprintf("wait_timeout=%d", sessionWait), fmt.Sprintf("lock_wait_timeout=%d", lockSeconds))
	if err := c.Exec(ctx, "SET SESSION "+strings.Join(list, ", SESSION ")); err != nil {
		return err
	}
	for _, what := range []string{"READ WRITE", "ISOLATION LEVEL REPEATABLE READ"} {
		if err := c.Exec(ctx, "SET SESSION TRANSACTION "+what); err != nil {
			return err
		}
	}
	return nil
}

// erUnknownVariable is the server's error about a variable that it does not have.
const erUnknownVariable = 1193

// patient turns off the timeouts, of those that the server has, that may end a session
// or its statements. known is which variables it has; if it is nil, hb tries each: the first
// connection may be allowed less time than it takes to list them.
func (c *Session) patient(ctx context.Context, known func(name string) bool) error {
	for _, set := range laterSettings {
		if known != nil && !known(set.name) {
			continue
		}
		err := c.Exec(ctx, "SET SESSION "+set.name+"="+set.value)
		if my, ok := errors.AsType[*mysql.MySQLError](err); ok && my.Number == erUnknownVariable {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// QueryError is the failure of a statement.
type QueryError struct {
	Statement string
	Err       error
}

// maxQuoted is how much of a statement is quoted, in bytes: some list all tables.
const maxQuoted = 300

func (e *QueryError) Error() string {
	if e.Whole() {
		return ErrConnectionLost.Error() + ": the server was stopped or restarted, it crashed, or the connection was killed; see its error log"
	}
	statement := e.Statement
	if len(statement) > maxQuoted {
		statement = strings.ToValidUTF8(statement[:maxQuoted], "") + " …"
	}
	return fmt.Sprintf("server: %s: %v", statement, e.Err)
}

// Whole is whether the connection is lost, whatever the statement was: see package
// terminal.
func (e *QueryError) Whole() bool { return errors.Is(e.Err, ErrConnectionLost) }

func (e *QueryError) Unwrap() error { return e.Err }

// ErrConnectionLost is in the chain of every error that means that the
// connection is gone, and with it the locks that it held.
var ErrConnectionLost = errors.New("the connection to the server is lost")

func queryError(statement string, err error) error {
	if lost(err) {
		err = fmt.Errorf("%w: %w", ErrConnectionLost, err)
	}
	return &QueryError{Statement: statement, Err: err}
}

// The server's errors that say that the connection is closed: its shutdown,
// KILL, and the notice of MariaDB and of MySQL before they hang up.
const (
	erServerShutdown     = 1053
	erConnectionKilled   = 1927 // MariaDB
	erSessionKilled      = 3169 // MySQL 5.7 and later
	erInteractionTimeout = 4031 // MySQL 8.0.24 and later
)

func lost(err error) bool {
	if my, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return slices.Contains([]uint16{erServerShutdown, erConnectionKilled, erSessionKilled, erInteractionTimeout}, my.Number)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return false // hb ended the statement, although that is a net.Error, too
	}
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.EOF)
}

func (c *Session) Exec(ctx context.Context, statement string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.conn.ExecContext(ctx, statement); err != nil {
		return queryError(statement, err)
	}
	return nil
}

// maxRows bounds the rows of one answer.
const maxRows = 1_000_000

// Rows returns all rows of an answer, each as a map by column name. NULL is "".
func (c *Session) Rows(ctx context.Context, statement string) (out []map[string]string, err error) {
	err = c.Each(ctx, statement, func(row map[string]string) error {
		if len(out) >= maxRows {
			return queryError(statement, fmt.Errorf("more than %d rows", maxRows))
		}
		out = append(out, maps.Clone(row))
		return nil
	})
	return out, err
}

// Each calls f for each row of an answer, as it comes, with the same map each
// time. NULL is "".
func (c *Session) Each(ctx context.Context, statement string, f func(row map[string]string) error) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rows, err := c.conn.QueryContext(ctx, statement)
	if err != nil {
		return queryError(statement, err)
	}
	defer func() {
		if cerr := rows.Close(); cerr != nil && err == nil {
			err = queryError(statement, cerr)
		}
	}()
	cols, err := rows.Columns()
	if err != nil {
		return queryError(statement, err)
	}
	cells := make([]sql.NullString, len(cols))
	dest := make([]any, len(cols))
	for i := range cells {
		dest[i] = &cells[i]
	}
	row := make(map[string]string, len(cols))
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return queryError(statement, err)
		}
		for i, name := range cols {
			row[name] = cells[i].String
		}
		if err := f(row); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return queryError(statement, err)
	}
	return nil
}

// Row returns the first row; none is an error.
func (c *Session) Row(ctx context.Context, statement string) (map[string]string, error) {
	rows, err := c.Rows(ctx, statement)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, &QueryError{statement, errors.New("the server returned no row")}
	}
	return rows[0], nil
}

// Close hangs up: the pool keeps no idle connection. A connection that is
// already lost is not an error.
func (c *Session) Close() error {
	if err := c.conn.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
		return err
	}
	return nil
}

// QuoteString quotes a string literal for a session with an empty sql_mode and
// a utf8mb4 connection, in which only ' and \ are special.
func QuoteString(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

func (c *Session) Status(ctx context.Context, pattern string) (map[string]string, error) {
	rows, err := c.Rows(ctx, "SHOW GLOBAL STATUS LIKE "+QuoteString(pattern))
	if err != nil {
		return nil, err
	}
	m := make(map[string]string, len(rows))
	for _, r := range rows {
		m[r["Variable_name"]] = r["Value"]
	}
	return m, nil
}

// PollPause is the time between two looks at what runs.
const PollPause = 300 * time.Millisecond

// Pause waits, or returns why the context ended.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// QuoteName quotes an identifier.
func QuoteName(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }
