package mysqldtest

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	// startTimeout bounds the wait for a server to answer; crash recovery on a
	// busy machine is part of it.
	startTimeout = 120 * time.Second
	// stopTimeout bounds the wait for a clean shutdown.
	stopTimeout = 120 * time.Second
	// maxSocketPath is what sun_path holds (108 on Linux, with its final zero),
	// less a margin for servers that count differently.
	maxSocketPath = 99
	// portTries is how often a start is repeated because the free port that was
	// found has been taken meanwhile.
	portTries = 3
)

// Server is a running server and its files.
type Server struct {
	Root         *Root
	Dir          string // the server's files, other than Datadir if that was given
	Datadir      string
	Socket       string
	Address      string // where it listens, if it does
	Port         int    // 0 without TCP
	DefaultsFile string
	Keyring      string   // as in [Options]
	Init         []string // lines without which no server starts on Datadir, as in [Options]

	errorLog string
	tmp      string
	sockDir  string // directory of the socket, removed at the end
	ownDir   bool   // Dir was made by us and goes with the server
	db       *sql.DB
	cmd      *exec.Cmd
	exited   chan struct{} // closed when the process has been waited for
	waitErr  error         // valid after exited
}

// Start initialises a new server and starts it. It is killed when the test ends.
func Start(t testing.TB, root *Root, o Options) *Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := Launch(t.Context(), root, o)
	return kept(t, s, err)
}

// StartOn starts a server on an existing data directory. It is killed when the
// test ends; datadir stays. On failure the test ends with the tail of the error log.
func StartOn(t testing.TB, root *Root, datadir string, o Options) *Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := LaunchOn(t.Context(), root, datadir, o)
	return kept(t, s, err)
}

func kept(t testing.TB, s *Server, err error) *Server {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := s.ErrorLog()
			t.Logf("errors and warnings of %s on %s:\n%s", s.Root.Name, s.Datadir, tail(complaints(log)))
		}
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// complaints returns those lines of a server's log that are errors or warnings,
// or of no level: a crash report.
func complaints(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "[Note]") && !strings.Contains(line, "[System]") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Launch is [Start] without a test. The caller ends the server with
// [Server.Stop] or [Server.Kill]; ctx bounds only the start.
func Launch(ctx context.Context, root *Root, o Options) (*Server, error) {
	s, err := newServer(root, o.Datadir, &o)
	if err != nil {
		return nil, err
	}
	if err := root.initDatadir(s.Datadir, &o); err != nil {
		return nil, errors.Join(err, s.removeOwn())
	}
	return s.launch(ctx, &o)
}

// LaunchOn is [StartOn] without a test. The caller ends the server with
// [Server.Stop] or [Server.Kill]; ctx bounds only the start.
func LaunchOn(ctx context.Context, root *Root, datadir string, o Options) (*Server, error) {
	datadir, err := filepath.Abs(datadir)
	if err != nil {
		return nil, err
	}
	s, err := newServer(root, datadir, &o)
	if err != nil {
		return nil, err
	}
	return s.launch(ctx, &o)
}

// newServer lays out the server's directory. An empty datadir means a directory
// in it.
func newServer(root *Root, datadir string, o *Options) (*Server, error) {
	s := &Server{Root: root, Datadir: datadir, Keyring: o.Keyring, Init: o.initLines(), Address: cmp.Or(o.Address, "127.0.0.1")}
	var err error
	if o.Dir == "" {
		s.Dir, err = os.MkdirTemp("", "hb-server-")
		s.ownDir = true
	} else {
		s.Dir, err = filepath.Abs(o.Dir)
	}
	if err != nil {
		return nil, fmt.Errorf("make a directory for the server: %w", err)
	}
	if s.Datadir == "" {
		s.Datadir = filepath.Join(s.Dir, "data")
	}
	s.tmp = filepath.Join(s.Dir, "tmp")
	if err := os.MkdirAll(s.tmp, 0o755); err != nil {
		return nil, fmt.Errorf("make a directory for the server: %w", err)
	}
	s.errorLog = filepath.Join(s.Dir, "error.log")
	s.DefaultsFile = filepath.Join(s.Dir, "my.cnf")
	if s.sockDir, err = socketDir(); err != nil {
		return nil, err
	}
	s.Socket = filepath.Join(s.sockDir, "s")
	return s, nil
}

// socketDir makes a directory whose name is short enough for a socket in it.
func socketDir() (string, error) {
	for _, parent := range []string{"", "/tmp"} {
		d, err := os.MkdirTemp(parent, "hb")
		if err != nil {
			return "", fmt.Errorf("make a directory for the server's socket: %w", err)
		}
		if len(d)+2 <= maxSocketPath {
			return d, nil
		}
		if err := os.Remove(d); err != nil {
			return "", err
		}
	}
	return "", errors.New("no directory with a name short enough for a socket")
}

// launch starts the process, again on another port if the first was taken.
func (s *Server) launch(ctx context.Context, o *Options) (*Server, error) {
	var err error
	for range portTries {
		if o.tcp() {
			if s.Port, err = o.freePort(); err != nil {
				break
			}
		}
		if err = s.start(ctx, o); err == nil {
			err = s.prepare(ctx, o)
			if err == nil {
				return s, nil
			}
			break
		}
		if log, _ := s.ErrorLog(); !o.tcp() || !strings.Contains(log, "Address already in use") {
			break
		}
	}
	return nil, errors.Join(err, s.Kill())
}

// freePort is the port that is asked for, or any that nobody uses.
func (o *Options) freePort() (int, error) {
	if o.Port != 0 {
		return o.Port, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

func (s *Server) start(ctx context.Context, o *Options) error {
	if err := s.Root.writeConfig(s, o); err != nil {
		return err
	}
	s.cmd = s.Root.Tool("mysqld", "--defaults-file="+s.DefaultsFile)
	if o.Keyring != "" {
		var err error
		if s.cmd, err = s.keyringServer(o, "--defaults-file="+s.DefaultsFile); err != nil {
			return fmt.Errorf("start %s: %w", s.Root.Name, err)
		}
	}
	if o.Within != nil {
		s.cmd = o.Within(s.cmd)
	}
	dieWithParent(s.cmd)
	if err := s.cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", s.Root.Name, err)
	}
	s.exited = make(chan struct{})
	go func() {
		s.waitErr = s.cmd.Wait()
		close(s.exited)
	}()
	db, err := open(s.Socket)
	if err != nil {
		return err
	}
	s.db = db
	return s.awaitAnswer(ctx)
}

// awaitAnswer waits until the server answers, and fails as soon as its process
// has ended.
func (s *Server) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := s.db.PingContext(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return s.startError(fmt.Errorf("the server ended: %v", s.waitErr))
		case <-ctx.Done():
			return s.startError(fmt.Errorf("it does not answer: %w", err))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (s *Server) startError(err error) error {
	log, _ := s.ErrorLog()
	return fmt.Errorf("start %s on %s: %w\nerror log:\n%s", s.Root.Name, s.Datadir, err, tail(log))
}

// prepare makes the account that replicas use. It stays out of the binary log:
// it is part of the state that a backup carries. A directory that was restored
// has it already.
func (s *Server) prepare(ctx context.Context, o *Options) error {
	if !o.Binlog {
		return nil
	}
	c, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("make the replication account: %w", err)
	}
	defer c.Close()
	var n int
	if err := c.QueryRowContext(ctx, "SELECT COUNT(*) FROM mysql.user WHERE user=?", replUser).Scan(&n); err != nil || n > 0 {
		return err
	}
	for _, q := range []string{
		"SET SESSION sql_log_bin=0",
		"CREATE USER " + replUser + "@127.0.0.1 IDENTIFIED BY '" + replPassword + "'",
		"GRANT REPLICATION SLAVE ON *.* TO " + replUser + "@127.0.0.1",
		"SET SESSION sql_log_bin=1",
	} {
		if _, err := c.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("make the replication account: %w", err)
		}
	}
	return nil
}

func open(socket string) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr = "root", "unix", socket
	cfg.InterpolateParams = true
	cfg.Logger = &mysql.NopLogger{}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", socket, err)
	}
	return sql.OpenDB(c), nil
}

// DB returns a pool of connections to the server as root, without a database.
// It is closed when the server ends.
func (s *Server) DB() *sql.DB { return s.db }

// Exec runs statements, and ends the test at the first that fails.
func (s *Server) Exec(t testing.TB, statements ...string) {
	t.Helper()
	for _, q := range statements {
		if _, err := s.db.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %s: %v", s.Root.Name, q, err)
		}
	}
}

// Conn returns a connection of its own, which may be killed.
func (s *Server) Conn(t testing.TB) *sql.Conn {
	t.Helper()
	c, err := s.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it may be one that was killed
	return c
}

// Background runs a statement on a connection of its own; wait returns its error.
func (s *Server) Background(t testing.TB, q string) (wait func() error) {
	t.Helper()
	c := s.Conn(t)
	done := make(chan error, 1)
	go func() {
		_, err := c.ExecContext(context.WithoutCancel(t.Context()), q)
		done <- err
	}()
	return func() error { return <-done }
}

// Value returns the first column of the first row of a query; NULL is "".
func (s *Server) Value(t testing.TB, query string, args ...any) string {
	t.Helper()
	r := s.Rows(t, query, args...)
	if len(r) == 0 || len(r[0]) == 0 {
		t.Fatalf("%s: %s: no row", s.Root.Name, query)
	}
	return r[0][0]
}

// patience is how long Await waits: for what takes a second, on a busy machine.
const patience = 2 * time.Minute

// Await waits for something to come true, and fails the test if it does not.
func Await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// WriteOut has the server write all changed pages, which takes for ever while
// there is a load. It sets innodb_max_dirty_pages_pct.
func (s *Server) WriteOut(t testing.TB) {
	t.Helper()
	s.Exec(t, "SET GLOBAL innodb_max_dirty_pages_pct = 0")
	Await(t, "the server writes its pages", func() bool {
		return s.Rows(t, "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")[0][1] == "0"
	})
}

// Rows returns all rows of a query as strings; NULL is "".
func (s *Server) Rows(t testing.TB, query string, args ...any) [][]string {
	t.Helper()
	_, rows, err := queryStrings(t.Context(), s.db, query, args...)
	if err != nil {
		t.Fatalf("%s: %s: %v", s.Root.Name, query, err)
	}
	return rows
}

// queryStrings returns the column names and rows of a query; NULL is "".
func queryStrings(ctx context.Context, db *sql.DB, query string, args ...any) (cols []string, out [][]string, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close()
	if cols, err = rows.Columns(); err != nil {
		return nil, nil, err
	}
	vals := make([]sql.NullString, len(cols))
	ptrs := make([]any, len(cols))
	for i := range vals {
		ptrs[i] = &vals[i]
	}
	for rows.Next() {
		if err := rows.Scan(ptrs...); err != nil {
			return nil, nil, err
		}
		row := make([]string, len(vals))
		for i, v := range vals {
			row[i] = v.String
		}
		out = append(out, row)
	}
	return cols, out, rows.Err()
}

// Tool returns a command that runs one of the programs of the server's root.
// Those that connect take "--defaults-file="+DefaultsFile as their first argument.
func (s *Server) Tool(name string, args ...string) *exec.Cmd { return s.Root.Tool(name, args...) }

// ErrorLog returns what the server has logged since its directory was made.
func (s *Server) ErrorLog() (string, error) {
	b, err := os.ReadFile(s.errorLog)
	if err != nil {
		return "", fmt.Errorf("read the error log of %s: %w", s.Root.Name, err)
	}
	return string(b), nil
}

// PID returns the server's process id.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Stop shuts the server down cleanly and waits for it. Its files stay.
func (s *Server) Stop() error {
	err := s.end(syscall.SIGTERM, stopTimeout)
	if err == nil && s.waitErr != nil {
		log, _ := s.ErrorLog()
		err = fmt.Errorf("stop %s: %w\n%s", s.Root.Name, s.waitErr, tail(log))
	}
	return err
}

// Kill kills the server, as a crash would, and waits for it. It does nothing
// to a server that has ended. Its data directory stays.
func (s *Server) Kill() error {
	return errors.Join(s.end(syscall.SIGKILL, stopTimeout), s.removeOwn())
}

// end sends a signal and waits until the process is gone.
func (s *Server) end(sig syscall.Signal, timeout time.Duration) error {
	var err error
	if s.db != nil {
		err = s.db.Close()
	}
	if s.exited != nil {
		// The process may have ended by itself: then the signal finds nobody.
		if e := s.cmd.Process.Signal(sig); e != nil && !errors.Is(e, os.ErrProcessDone) {
			err = errors.Join(err, e)
		}
		select {
		case <-s.exited:
		case <-time.After(timeout):
			log, _ := s.ErrorLog()
			err = errors.Join(err, fmt.Errorf("%s did not end within %v after %v\n%s", s.Root.Name, timeout, sig, tail(log)))
		}
	}
	return errors.Join(err, os.RemoveAll(s.sockDir))
}

func (s *Server) removeOwn() error {
	err := os.RemoveAll(s.sockDir)
	if s.ownDir {
		err = errors.Join(err, os.RemoveAll(s.Dir))
	}
	return err
}
