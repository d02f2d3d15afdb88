package committed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"hb/sink/backupdir"
	"hb/stream/disk"
	"hb/xbstream/innodb/undo"
	"hb/xbstream/metadata"
)

// A Server is a server program of the user's that finishes what is pending.
type Server struct {
	Program string        `name:"server" help:"Server program, mysqld or mariadbd, of the same series as the backup's server: where transactions were open when the backup ended, or changes of indexes were buffered, it rolls them back and makes them on a copy in DIR, without network." placeholder:"MYSQLD" type:"path"`
	Options []string      `name:"server-option" help:"A further option for --server, as its command line has it. May be repeated." placeholder:"OPTION" sep:"none"`
	Timeout time.Duration `name:"server-timeout" help:"How long --server may run (default 1h)." placeholder:"DURATION"`
	// Whole: the directory is a whole backup of the user's. Only a server of exactly its
	// version may start there, and XA transactions stay prepared.
	Whole bool `kong:"-"`
}

// DefaultTimeout is how long a server may run.
const DefaultTimeout = time.Hour

// A ServerError says why a server did not finish what was pending.
type ServerError struct {
	Program string
	What    string
	Log     string // the end of what it wrote to its error log
	Err     error  // may be nil
}

func (e *ServerError) Error() string {
	s := fmt.Sprintf("%s (--server): %s", e.Program, e.What)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	if e.Log != "" {
		s += "\nits error log ends with:\n" + e.Log
	}
	return s
}

// Unwrap returns what was behind it.
func (e *ServerError) Unwrap() error { return e.Err }

// Finished is what a server did.
type Finished struct {
	Tables []Pending // what was pending
	// RolledBack are XA transactions that were prepared, and that a server on the whole
	// backup would keep as such.
	RolledBack []*undo.XID
}

// Served reports whether a server has run.
func (f *Finished) Served() bool { return f != nil && len(f.Tables) > 0 }

// Finish lets the server roll back what is pending for the tables, and make buffered changes,
// in dir, a recovered directory that nothing else uses. It has the system tablespace, undo
// tablespaces, the tables, and what the server needs to start; what else the dictionary names
// may be missing. read reads the state of the directory. Finish believes nothing that the
// server says: it returns without an error only if read finds nothing pending afterwards.
//
// A server rolls back in the background after it has started, and does not wait for that
// before FLUSH TABLES … FOR EXPORT (MariaDB 10.11). With innodb_fast_shutdown=0, its shutdown
// does, and makes all buffered changes.
//
// Transactions that were prepared for the binary log are finished as that says, if it came
// with the backup; other servers roll them back.
func (s *Server) Finish(ctx context.Context, dir string, read func() (*State, error), tables ...Table) (done *Finished, err error) {
	pending, err := look(read, tables)
	if err != nil || pending == nil {
		return &Finished{}, err
	}
	if s.Whole && pending.withoutXA() == nil {
		return &Finished{}, nil
	}
	done = &Finished{Tables: pending.Tables}
	r, err := s.prepare(ctx, dir, pending)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.remove()) }()
	if err := r.run(ctx, nil); err != nil {
		return nil, err
	}
	if pending, err = look(read, tables); err != nil {
		return nil, err
	}
	// What the binary log says is done now, and what remains prepared, really is.
	if s.Whole {
		pending = pending.withoutXA()
	} else if done.RolledBack = pending.xa(); len(done.RolledBack) > 0 {
		if err := r.run(ctx, done.RolledBack); err != nil {
			return nil, err
		}
		if pending, err = look(read, tables); err != nil {
			return nil, err
		}
	}
	if pending != nil {
		return nil, r.failed("it ended, and did not finish everything: "+pending.what(), nil)
	}
	return done, r.release()
}

// look returns what is pending; nil: nothing.
func look(read func() (*State, error), tables []Table) (*PendingError, error) {
	state, err := read()
	if err != nil {
		return nil, err
	}
	pending, ok := errors.AsType[*PendingError](state.Check(tables...))
	if !ok {
		return nil, nil
	}
	return pending, nil
}

// xa are the names of all XA transactions that are prepared.
func (e *PendingError) xa() (list []*undo.XID) {
	if e == nil {
		return nil
	}
	seen := map[string]bool{}
	for _, p := range e.Tables {
		for _, x := range p.XA() {
			if !seen[XAName(x)] {
				seen[XAName(x)] = true
				list = append(list, x)
			}
		}
	}
	return list
}

// withoutXA is what is pending without XA transactions that are prepared; nil: nothing.
func (e *PendingError) withoutXA() *PendingError {
	if e == nil {
		return nil
	}
	var rest PendingError
	for _, p := range e.Tables {
		p.Transactions = slices.DeleteFunc(slices.Clone(p.Transactions), Transaction.isXA)
		if p.Buffered > 0 || len(p.Transactions) > 0 {
			rest.Tables = append(rest.Tables, p)
		}
	}
	if len(rest.Tables) == 0 {
		return nil
	}
	return &rest
}

// internal reports whether a transaction is prepared for the binary log.
func (e *PendingError) internal() bool {
	for _, p := range e.Tables {
		for _, x := range p.Transactions {
			if x.State == undo.Prepared && !x.isXA() {
				return true
			}
		}
	}
	return false
}

// prepared reports whether a transaction is prepared, under any name.
func (e *PendingError) prepared() bool {
	for _, p := range e.Tables {
		for _, x := range p.Transactions {
			if x.State == undo.Prepared {
				return true
			}
		}
	}
	return false
}

// runs are the runs of a server on a directory.
type runs struct {
	*Server
	dir     string // absolute
	private string // for its socket, log and temporary files
	options []string
}

// prepare finds out how to start the server.
func (s *Server) prepare(ctx context.Context, dir string, pending *PendingError) (_ *runs, err error) {
	r := &runs{Server: s}
	if r.dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	root, err := backupdir.Open(disk.OS, r.dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	backup, err := backupdir.Read(root)
	if err != nil {
		return nil, err
	}
	if err := r.sameSeries(ctx, backup.ServerVersion); err != nil {
		return nil, err
	}
	if r.options, err = settings(root, backup); err != nil {
		return nil, err
	}
	binlog, err := r.binlog(root, backup, pending)
	if err != nil {
		return nil, err
	}
	r.options = append(r.options, binlog...)
	if err := handOver(root); err != nil {
		return nil, err
	}
	r.private, err = privateDir()
	return r, err
}

// handOver marks the directory as the server's. One that was killed can have written what it
// rolled back to the undo logs, and not to the table.
func handOver(root disk.Dir) error {
	switch there, err := backupdir.Exists(root, backupdir.HandedOverName); {
	case err != nil:
		return err
	case there:
		return &backupdir.NotBackupError{Dir: root.Name(), What: fmt.Sprintf("a server has not finished its work here (%s exists): extract the backup again", backupdir.HandedOverName)}
	}
	if err := backupdir.WriteState(root, backupdir.HandedOverName, backupdir.State{Stage: backupdir.StageServer}); err != nil {
		return err
	}
	// That list says what hb apply left here, which now changes.
	if err := root.Remove(backupdir.AppliedName); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// release takes that mark away.
func (r *runs) release() error { return os.Remove(filepath.Join(r.dir, backupdir.HandedOverName)) }

// maxSocketName is what a socket's name has room for on all systems, in bytes.
const maxSocketName = 100

// privateDir makes a directory, only for this user, with a name that is short enough for a
// socket in it.
func privateDir() (string, error) {
	dir, err := os.MkdirTemp("", "hb-server-")
	if err != nil || len(dir)+len("/socket") <= maxSocketName {
		return dir, err
	}
	return os.MkdirTemp("/tmp", "hb-server-")
}

func (r *runs) remove() error { return os.RemoveAll(r.private) }

// versionText is in what a server prints for --version.
var versionText = regexp.MustCompile(`\bVer ([0-9]+)\.([0-9]+)\.([0-9]+)(\S*)`)

// sameSeries makes sure that the server program is of the series of the backup's server. A
// newer one would upgrade the directory, and the tables with it.
func (r *runs) sameSeries(ctx context.Context, of string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, r.Program, "--no-defaults", "--version").CombinedOutput()
	m := versionText.FindStringSubmatch(string(out))
	if err != nil || m == nil {
		return &ServerError{Program: r.Program, What: fmt.Sprintf("it does not say its version (it printed %.200q)", out), Err: err}
	}
	var major, minor, patch int
	if n, _ := fmt.Sscanf(of, "%d.%d.%d", &major, &minor, &patch); n != 3 {
		return &ServerError{Program: r.Program, What: fmt.Sprintf("the backup does not say which server it is of (version %q)", of)}
	}
	is := func(i, n int) bool { return m[i] == strconv.Itoa(n) }
	number, _ := strconv.Atoi(m[3])
	if r.Whole && (!is(1, major) || !is(2, minor) || number != patch) {
		return &ServerError{Program: r.Program, What: fmt.Sprintf("it is version %s, and the backup is of %s: on a whole backup use a server of just that version, since another one can upgrade it", m[0][len("Ver "):], of)}
	}
	maria := strings.Contains(m[4], "MariaDB")
	if !is(1, major) || !is(2, minor) || maria != strings.Contains(of, "MariaDB") || !maria && major >= 8 && number < patch {
		return &ServerError{Program: r.Program, What: fmt.Sprintf("it is version %s, and the backup is of %s: use a server of the series %d.%d that is not older", m[0][len("Ver "):], of, major, minor)}
	}
	return nil
}

// settings are the options that follow from the backup.
func settings(root disk.Dir, backup *backupdir.Backup) ([]string, error) {
	list := []string{fmt.Sprintf("--innodb-page-size=%d", backup.PageSize)}
	cnf, err := metadata.ReadMyCnf(root.FS())
	if errors.Is(err, os.ErrNotExist) {
		return list, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"innodb_data_file_path", "innodb_undo_tablespaces", "lower_case_table_names", "innodb_log_file_size"} {
		if v, ok := cnf.Get(name); ok && v != "" {
			list = append(list, "--loose-"+name+"="+v)
		}
	}
	return list, nil
}

// binlog makes the binary log that came with the backup the server's, and returns the
// options for it. MySQL 8.0 and later commit what was prepared when it says so.
func (r *runs) binlog(root disk.Dir, backup *backupdir.Backup, pending *PendingError) ([]string, error) {
	none := []string{"--loose-skip-log-bin"}
	if backup.Flavor != metadata.FlavorMySQL || strings.HasPrefix(backup.ServerVersion, "5.") {
		return none, nil
	}
	file, err := binlogFile(root, backup)
	if err != nil || file == "" {
		if err == nil && pending.internal() {
			err = backupdir.Missing("a transaction was prepared for the binary log, which the backup does not name: it says whether the transaction is committed")
		}
		return none, err
	}
	if filepath.Base(file) != file || !filepath.IsLocal(file) {
		return nil, &backupdir.DamageError{File: metadata.ManifestName, Err: fmt.Errorf("the binary log file is called %.60q", file)}
	}
	switch there, err := backupdir.Exists(root, file); {
	case err != nil:
		return nil, err
	case !there && pending.prepared():
		return nil, backupdir.Missing("%s is missing: the end of the binary log says which of the prepared transactions are committed", file)
	case !there:
		return none, nil
	}
	base := strings.TrimSuffix(file, filepath.Ext(file))
	if there, err := backupdir.Exists(root, base+".index"); err != nil {
		return nil, err
	} else if !there {
		if err := os.WriteFile(filepath.Join(r.dir, base+".index"), []byte("./"+file+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	return []string{"--log-bin=" + base, "--server-id=1"}, nil
}

// binlogFile is the file of the binary log that the backup's end is in, by the manifest, or by
// the peers' file; "": none is known.
func binlogFile(root disk.Dir, backup *backupdir.Backup) (string, error) {
	if m := backup.Manifest; m != nil {
		if m.Binlog == nil {
			return "", nil
		}
		return m.Binlog.File, nil
	}
	at, err := metadata.ReadBinlogPos(root.FS())
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return at.File, nil
}

// fixed are options for all servers; those that only some have begin with loose.
var fixed = []string{
	"--skip-networking", "--port=0", "--skip-grant-tables", "--loose-skip-slave-start", "--loose-skip-replica-start", "--event-scheduler=DISABLED",
	"--loose-mysqlx=OFF", "--loose-ssl=OFF", "--loose-auto-generate-certs=OFF", "--loose-sha256-password-auto-generate-rsa-keys=OFF",
	"--loose-caching-sha2-password-auto-generate-rsa-keys=OFF", "--loose-persisted-globals-load=OFF", "--loose-wsrep-on=OFF",
	"--performance-schema=OFF", "--innodb-fast-shutdown=0", "--innodb-force-recovery=0", "--innodb-read-only=OFF",
	"--loose-innodb-change-buffering=none", "--loose-innodb-undo-log-truncate=OFF", "--loose-innodb-encryption-threads=0",
	"--loose-innodb-buffer-pool-load-at-startup=OFF", "--loose-innodb-buffer-pool-dump-at-shutdown=OFF",
	"--innodb-doublewrite=OFF", "--loose-innodb-flush-log-at-trx-commit=2", "--general-log=OFF", "--slow-query-log=OFF",
}

// arguments are those of a run.
func (r *runs) arguments(xa []*undo.XID) ([]string, error) {
	at := func(name string) string { return filepath.Join(r.private, name) }
	args := append([]string{"--no-defaults", "--datadir=" + r.dir, "--socket=" + at("socket"), "--pid-file=" + at("pid"),
		"--log-error=" + at(logName), "--tmpdir=" + r.private, "--secure-file-priv=" + r.private}, fixed...)
	if os.Geteuid() == 0 {
		args = append(args, "--user=root")
	}
	upgrade := "MINIMAL"
	if r.Whole {
		upgrade = "NONE"
	}
	args = append(args, "--loose-upgrade="+upgrade)
	args = append(args, r.options...)
	if len(xa) > 0 {
		var b strings.Builder
		for _, x := range xa {
			fmt.Fprintf(&b, "XA ROLLBACK X'%x',X'%x',%d;\n", x.Global, x.Branch, x.Format)
		}
		if err := os.WriteFile(at("statements"), []byte(b.String()), 0o600); err != nil {
			return nil, err
		}
		args = append(args, "--init-file="+at("statements"))
	}
	return append(args, r.Options...), nil
}

const logName = "error.log"

// run starts the server, waits until it has started, and until it has ended.
func (r *runs) run(ctx context.Context, xa []*undo.XID) error {
	args, err := r.arguments(xa)
	if err != nil {
		return err
	}
	timeout := r.Timeout
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, r.Program, args...)
	cmd.Dir = r.private
	bindToParent(cmd)
	// That it ends with this process is a matter of the thread that starts it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return &ServerError{Program: r.Program, What: "it does not start", Err: err}
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	early, started := r.await(ended)
	if !started {
		return r.outcome(ctx, limited, early, "it ended before it had started")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		err = errors.Join(err, cmd.Process.Kill())
		return errors.Join(err, <-ended)
	}
	if err := <-ended; err != nil {
		return r.outcome(ctx, limited, err, "it did not end well")
	}
	return nil
}

// await waits until the server greets a client, or has ended. Servers run --init-file
// before they greet anybody.
func (r *runs) await(ended <-chan error) (err error, started bool) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err, false
		case <-tick.C:
			if greets(filepath.Join(r.private, "socket")) {
				return nil, true
			}
		}
	}
}

// outcome is the error of a server that ended with an error, or that was ended.
func (r *runs) outcome(ctx, limited context.Context, err error, what string) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil:
		what, err = fmt.Sprintf("it was not done in %v (--server-timeout)", max(r.Timeout, 0)), nil
		if r.Timeout <= 0 {
			what = fmt.Sprintf("it was not done in %v (--server-timeout)", DefaultTimeout)
		}
	}
	return r.failed(what, err)
}

// failed is an error with the end of the server's log.
func (r *runs) failed(what string, err error) error {
	return &ServerError{Program: r.Program, What: what, Log: tail(filepath.Join(r.private, logName)), Err: err}
}
