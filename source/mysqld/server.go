package mysqld

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld/login"
)

// A Server is a connection to one server. It holds a control connection for
// queries, and opens a connection of its own for the backup locks. Its methods
// may be called by several goroutines.
type Server struct {
	Flavor  Flavor
	Version Version
	Series  Series
	Vars    Vars

	opt     login.Options
	db      *sql.DB
	Control *Session // for questions, and for statements that are done at once
	peer    *peer

	mu      sync.Mutex
	closers []io.Closer // what Close ends, newest first
}

// String is family and version of the server, as it reports them.
func (s *Server) String() string { return s.Flavor.String() + " " + s.Version.Full }

// ReleaseTimeout bounds what is done to release locks after the caller's
// context has ended.
const ReleaseTimeout = 5 * time.Second

// ConnectError says that the server could not be reached or did not let the
// user in. Its text holds no password.
type ConnectError struct {
	Options login.Options
	Hint    string // what to do next; may be empty
	Err     error
}

func (e *ConnectError) Error() string {
	why := e.Err
	if errno, ok := errors.AsType[syscall.Errno](why); ok {
		why = errno // without the network's words for what Options say
	}
	s := fmt.Sprintf("cannot connect as %v: %v", e.Options, why)
	if e.Hint != "" {
		s += "\n" + e.Hint
	}
	return s
}

// Whole is true: see package terminal.
func (e *ConnectError) Whole() bool { return true }

func (e *ConnectError) Unwrap() error { return e.Err }

// Connect connects, learns who the server is and reads its variables. The
// error is a *ConnectError, an *UnsupportedError or that of a query.
func Connect(ctx context.Context, opt login.Options) (_ *Server, err error) {
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
	if s.Control, err = s.dial(ctx, s.connectWait()); err != nil {
		return nil, err
	}
	if err := s.Control.patient(ctx, nil); err != nil {
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
	timeout := max(s.connectWait(), s.LockWait()) // dial bounds it, too
	cfg.Timeout = timeout
	if err := cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_general_ci")); err != nil {
		return nil, err
	}
	var err error
	cfg.TLS, cfg.AllowFallbackToPlaintext, err = opt.TLS.Config(opt.Network, opt.Host)
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
	row, err := s.Control.Row(ctx, "SELECT VERSION() AS v, @@version_comment AS c")
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
	if s.Vars, err = s.Refresh(ctx); err != nil {
		return err
	}
	s.Series.learn(s.Vars)
	if !s.Vars.Has("innodb_page_size") {
		return &UnsupportedFeatureError{"no InnoDB", "it was started without, as with --skip-innodb, or InnoDB did not start"}
	}
	return nil
}

// Refresh reads the server's variables, or only those of some names: some, such as the
// size of the redo log, may change while it runs. Vars has only what was read.
func (s *Server) Refresh(ctx context.Context, names ...string) (Vars, error) {
	statement := "SHOW GLOBAL VARIABLES"
	for i, name := range names {
		statement += []string{" WHERE", " OR"}[min(i, 1)] + " Variable_name = " + QuoteString(name)
	}
	m := make(map[string]string)
	err := s.Control.Each(ctx, statement, func(row map[string]string) error {
		m[strings.ToLower(row["Variable_name"])] = row["Value"]
		return nil
	})
	return Vars{m: m, dots: s.Flavor == MySQL && s.Series.ListsFiles}, err
}

// Status returns the global status variables whose names match a LIKE pattern.
func (s *Server) Status(ctx context.Context, pattern string) (map[string]string, error) {
	return s.Control.Status(ctx, pattern)
}

// OnClose has Close end c, which may have been closed by then.
func (s *Server) OnClose(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closers = append(s.closers, c)
}

// Close ends what was handed to OnClose, such as locks that are still held, and
// closes all connections.
func (s *Server) Close() error {
	s.mu.Lock()
	closers := s.closers
	s.mu.Unlock()
	var errs []error
	for _, c := range slices.Backward(closers) {
		errs = append(errs, c.Close())
	}
	if s.Control != nil {
		errs = append(errs, s.Control.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}

// LockWait bounds each wait for a lock.
func (s *Server) LockWait() time.Duration {
	if s.opt.LockWait <= 0 {
		return login.DefaultLockWait
	}
	return s.opt.LockWait
}

// LockSeconds is LockWait as the server takes it.
func (s *Server) LockSeconds() int64 { return int64((s.LockWait() + time.Second - 1) / time.Second) }

// connectWait is how long hb waits for the server's answer to a new connection.
func (s *Server) connectWait() time.Duration {
	if s.opt.ConnectTimeout == 0 {
		return login.DefaultConnectTimeout
	}
	return s.opt.ConnectTimeout
}

// dial opens a connection of its own. All of it must be done within some time: the
// driver bounds the dialling, but not the handshake.
func (s *Server) dial(ctx context.Context, within time.Duration) (c *Session, err error) {
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	defer func() {
		if err != nil && bounded.Err() != nil && ctx.Err() == nil {
			err = s.connectError(fmt.Errorf("the server did not answer within %v", within))
		}
	}()
	conn, err := s.db.Conn(bounded)
	if err != nil {
		return nil, s.connectError(err)
	}
	c = &Session{conn: conn}
	if err := c.neutral(bounded, s.LockSeconds()); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	row, err := c.Row(bounded, "SELECT CONNECTION_ID() AS id")
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.ID = row["id"]
	return c, nil
}

// Open opens a further connection, which may last longer than a backup. If the server
// does not answer any more, that is ErrConnectionLost and no ConnectError: it did before.
// A busy server has as long for its answer as a lock may take: much depends on it by then.
func (s *Server) Open(ctx context.Context) (*Session, error) {
	c, err := s.dial(ctx, max(s.connectWait(), s.LockWait()))
	if cannot, ok := errors.AsType[*ConnectError](err); ok && ctx.Err() == nil {
		if _, answered := errors.AsType[*mysql.MySQLError](cannot.Err); !answered {
			err = fmt.Errorf("opening a further connection: %w: %w", ErrConnectionLost, cannot.Err)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := c.patient(ctx, s.Vars.Has); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (s *Server) connectError(err error) error {
	return &ConnectError{Options: s.opt, Err: err, Hint: s.opt.Hint(err)}
}

// Kill ends a connection from the server's side. After a mere hang-up, a server takes
// a while to notice while a statement waits for its lock, and until then every later
// statement queues up behind that.
func (s *Server) Kill(c *Session) {
	ctx, cancel := context.WithTimeout(context.Background(), ReleaseTimeout)
	defer cancel()
	// A failure means that the connection, or the server, is gone already.
	_ = s.Control.Exec(ctx, "KILL "+c.ID)
}
