package mysqld

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A Server is a connection to one server. It holds a control connection for
// queries, and opens a connection of its own for the backup locks. Its methods
// may be called by several goroutines.
type Server struct {
	Flavor  Flavor
	Version Version
	Series  Series
	Vars    Vars

	opt     Options
	db      *sql.DB
	control *session
	peer    *peer

	mu      sync.Mutex
	stages  *Stages     // made by the first call of Stages
	locks   []*lockConn // all that may hold locks, released by Close
	closers []io.Closer // what else Close ends, newest first
}

// String is family and version of the server, as it reports them.
func (s *Server) String() string { return s.Flavor.String() + " " + s.Version.Full }

// releaseTimeout bounds what is done to release locks after the caller's
// context has ended.
const releaseTimeout = 5 * time.Second

// ConnectError says that the server could not be reached or did not let the
// user in. Its text holds no password.
type ConnectError struct {
	Options Options
	Hint    string // what to do next; may be empty
	Err     error
}

func (e *ConnectError) Error() string {
	s := fmt.Sprintf("connect as %v: %v", e.Options, e.Err)
	if e.Hint != "" {
		s += ": " + e.Hint
	}
	return s
}

func (e *ConnectError) Unwrap() error { return e.Err }

// Connect connects, learns who the server is and reads its variables. The
// error is a *ConnectError, an *UnsupportedError or that of a query.
func Connect(ctx context.Context, opt Options) (_ *Server, err error) {
	s := &Server{opt: opt, peer: &peer{}}
	cfg, err := s.driverConfig()
	if err != nil {
		return nil, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, &ConnectError{Options: opt, Err: err}
	}
	s.db = sql.OpenDB(connector)
	// Every connection is dedicated to one session: none may be reused.
	s.db.SetMaxIdleConns(0)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.control, err = s.open(ctx); err != nil {
		return nil, err
	}
	if err := s.control.patient(ctx, nil); err != nil {
		return nil, err
	}
	if err := s.identify(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) driverConfig() (*mysql.Config, error) {
	opt := s.opt
	cfg := mysql.NewConfig()
	cfg.User, cfg.Passwd = opt.User, opt.Password.Reveal()
	cfg.Logger = log.New(io.Discard, "", 0)
	cfg.Net, cfg.Addr = opt.Network, opt.Socket
	if opt.Network == "tcp" {
		cfg.Addr = net.JoinHostPort(opt.Host, strconv.Itoa(opt.Port))
	}
	timeout := opt.ConnectTimeout
	if timeout == 0 {
		timeout = DefaultConnectTimeout
	}
	cfg.Timeout = timeout
	if err := cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_general_ci")); err != nil {
		return nil, err
	}
	var err error
	cfg.TLS, cfg.AllowFallbackToPlaintext, err = opt.TLS.config(opt.Network, opt.Host)
	if err != nil {
		return nil, err
	}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}).DialContext(ctx, network, addr)
		if err == nil {
			s.peer.learn(c)
		}
		return c, err
	}
	return cfg, nil
}

// identify asks for the version first, so that a server that hb does not know
// is refused before anything else is asked of it.
func (s *Server) identify(ctx context.Context) error {
	row, err := s.control.row(ctx, "SELECT VERSION() AS v, @@version_comment AS c")
	if err != nil {
		return err
	}
	if s.Flavor, s.Version, err = ParseVersion(row["v"]); err != nil {
		return err
	}
	s.Version.Comment = row["c"]
	if s.Series, err = SeriesOf(s.Flavor, s.Version); err != nil {
		return err
	}
	if s.Vars, err = s.readVars(ctx); err != nil {
		return err
	}
	s.Series.learn(s.Vars)
	if !s.Vars.Has("innodb_page_size") {
		return &UnsupportedFeatureError{"no InnoDB", "it was started without, as with --skip-innodb, or InnoDB did not start"}
	}
	return nil
}

func (s *Server) readVars(ctx context.Context) (Vars, error) {
	rows, err := s.control.rows(ctx, "SHOW GLOBAL VARIABLES")
	if err != nil {
		return Vars{}, err
	}
	m := make(map[string]string, len(rows))
	for _, r := range rows {
		m[strings.ToLower(r["Variable_name"])] = r["Value"]
	}
	return Vars{m: m, dots: s.Flavor == MySQL && s.Series.files}, nil
}

// Refresh reads the server's variables anew: some, such as the size of the redo
// log, may change while it runs.
func (s *Server) Refresh(ctx context.Context) (Vars, error) { return s.readVars(ctx) }

// Status returns the global status variables whose names match a LIKE pattern.
func (s *Server) Status(ctx context.Context, pattern string) (map[string]string, error) {
	return s.control.status(ctx, pattern)
}

func (c *session) status(ctx context.Context, pattern string) (map[string]string, error) {
	rows, err := c.rows(ctx, "SHOW GLOBAL STATUS LIKE "+quoteString(pattern))
	if err != nil {
		return nil, err
	}
	m := make(map[string]string, len(rows))
	for _, r := range rows {
		m[r["Variable_name"]] = r["Value"]
	}
	return m, nil
}

// Close releases any lock that is still held and closes all connections.
func (s *Server) Close() error {
	s.mu.Lock()
	locks, closers := s.locks, s.closers
	s.mu.Unlock()
	var errs []error
	for _, l := range slices.Backward(locks) {
		errs = append(errs, l.Close())
	}
	for _, c := range slices.Backward(closers) {
		errs = append(errs, c.Close())
	}
	if s.control != nil {
		errs = append(errs, s.control.close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}

// lockWait bounds each wait for a lock.
func (s *Server) lockWait() time.Duration {
	if s.opt.LockWait <= 0 {
		return DefaultLockWait
	}
	return s.opt.LockWait
}

// lockSeconds is lockWait as the server takes it.
func (s *Server) lockSeconds() int64 { return int64((s.lockWait() + time.Second - 1) / time.Second) }

// open opens a connection of its own.
func (s *Server) open(ctx context.Context) (*session, error) {
	// The driver bounds the dialling, but not the handshake.
	timeout := s.opt.ConnectTimeout
	if timeout == 0 {
		timeout = DefaultConnectTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, s.connectError(err)
	}
	c := &session{conn: conn}
	if err := c.neutral(ctx, s.lockSeconds()); err != nil {
		return nil, errors.Join(err, c.close())
	}
	row, err := c.row(ctx, "SELECT CONNECTION_ID() AS id")
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	c.id = row["id"]
	return c, nil
}

// openPatient is open for a connection that must outlast the backup.
func (s *Server) openPatient(ctx context.Context) (*session, error) {
	c, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.patient(ctx, s.Vars.Has); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

func (s *Server) connectError(err error) error {
	return &ConnectError{Options: s.opt, Err: err, Hint: s.opt.hint(err)}
}

// A session is one connection, never exchanged for another behind hb's back.
type session struct {
	mu   sync.Mutex // one statement at a time
	conn *sql.Conn
	id   string // the server's CONNECTION_ID()
}

// sessionWait is the longest wait_timeout of the servers, in seconds: an idle
// lock connection must not be hung up.
const sessionWait = 31536000

// neutralSettings are what a session of hb must not take over from the server's
// global settings, nor from init_connect: what changes or cuts answers, what ends
// statements or sessions, what makes a transaction of a statement or forbids one.
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
func (c *session) neutral(ctx context.Context, lockSeconds int64) error {
	list := append(slices.Clone(neutralSettings), fmt.Sprintf("wait_timeout=%d", sessionWait), fmt.Sprintf("lock_wait_timeout=%d", lockSeconds))
	if err := c.exec(ctx, "SET SESSION "+strings.Join(list, ", SESSION ")); err != nil {
		return err
	}
	for _, what := range []string{"READ WRITE", "ISOLATION LEVEL REPEATABLE READ"} {
		if err := c.exec(ctx, "SET SESSION TRANSACTION "+what); err != nil {
			return err
		}
	}
	return nil
}

// erUnknownVariable is the server's error about a variable that it does not have.
const erUnknownVariable = 1193

// patient turns off what may end a session, or its statements, where the server has
// it. known says which variables it has; without it each is tried: the first
// connection may be allowed less time than it takes to list them.
func (c *session) patient(ctx context.Context, known func(name string) bool) error {
	for _, set := range laterSettings {
		if known != nil && !known(set.name) {
			continue
		}
		err := c.exec(ctx, "SET SESSION "+set.name+"="+set.value)
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
	statement := e.Statement
	if len(statement) > maxQuoted {
		statement = strings.ToValidUTF8(statement[:maxQuoted], "") + " …"
	}
	return fmt.Sprintf("server: %s: %v", statement, e.Err)
}
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
	_, network := errors.AsType[net.Error](err)
	return network || errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) ||
		errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.EOF)
}

func (c *session) exec(ctx context.Context, statement string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.conn.ExecContext(ctx, statement); err != nil {
		return queryError(statement, err)
	}
	return nil
}

// maxRows bounds the rows of one answer.
const maxRows = 1_000_000

// rows returns all rows of an answer, each as a map by column name. NULL is "".
func (c *session) rows(ctx context.Context, statement string) (out []map[string]string, err error) {
	err = c.each(ctx, statement, func(row map[string]string) error {
		if len(out) >= maxRows {
			return queryError(statement, fmt.Errorf("more than %d rows", maxRows))
		}
		out = append(out, maps.Clone(row))
		return nil
	})
	return out, err
}

// each calls f for each row of an answer, as it comes, with the same map each
// time. NULL is "".
func (c *session) each(ctx context.Context, statement string, f func(row map[string]string) error) (err error) {
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

// row returns the first row; none is an error.
func (c *session) row(ctx context.Context, statement string) (map[string]string, error) {
	rows, err := c.rows(ctx, statement)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, &QueryError{statement, errors.New("the server returned no row")}
	}
	return rows[0], nil
}

// close hangs up: the pool keeps no idle connection. A connection that is
// already lost is no error.
func (c *session) close() error {
	if err := c.conn.Close(); err != nil && !errors.Is(err, sql.ErrConnDone) {
		return err
	}
	return nil
}

// quoteString quotes a string literal for a session with an empty sql_mode and
// a utf8mb4 connection, in which only ' and \ are special.
func quoteString(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

// A peer is the process at the other end of a Unix socket.
type peer struct {
	mu  sync.Mutex
	pid int // 0 if unknown
}

// learn asks the kernel who listens at the other end of the connection.
func (p *peer) learn(c net.Conn) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid = peerProcess(uc)
}

func (p *peer) process() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// SocketPath is the path of the server's own socket, absolute.
func (v Vars) SocketPath() string {
	if p := v.m["socket"]; p != "" && !filepath.IsAbs(p) {
		return filepath.Join(v.Datadir(), p)
	}
	return v.m["socket"]
}
