package position

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"hb/source/mysqld"
	"hb/xbstream/innodb"
)

// CurrentLSN returns the end of the redo log as the server sees it now, be it
// in the file or not. Under StageBlockCommit, or FLUSH TABLES WITH READ LOCK,
// nothing that a backup must hold lies beyond it. (Uncommitted changes go on
// moving the end.) It is the end of a mini-transaction: seen under load on
// MariaDB 10.11.18 and 11.8.6. On MySQL it costs a SHOW ENGINE INNODB STATUS: do
// not poll it.
//
// Call it first and FlushEngineLogs after. Then, with
// innodb_flush_log_at_trx_commit 1 or 2, the log up to it is in the redo log
// file; see RedoDelay for 0.
func CurrentLSN(ctx context.Context, srv *mysqld.Server) (innodb.LSN, error) {
	l, err := readLSNs(ctx, srv, srv.Control)
	return l.current, err
}

// LSNs returns up to where the server has synced the redo log, and its end as
// CurrentLSN does, both of one moment. With innodb_flush_log_at_trx_commit=2 the
// file may hold much more than the synced part.
func LSNs(ctx context.Context, srv *mysqld.Server) (flushed, current innodb.LSN, err error) {
	l, err := readLSNs(ctx, srv, srv.Control)
	return l.flushed, l.current, err
}

// CheckpointLSN returns the server's last checkpoint.
func CheckpointLSN(ctx context.Context, srv *mysqld.Server) (innodb.LSN, error) {
	l, err := readLSNs(ctx, srv, srv.Control)
	return l.checkpoint, err
}

type lsns struct{ current, flushed, checkpoint innodb.LSN }

// The names of the LSNs in the order of lsns: MariaDB's status variables, which
// need no privilege, and the lines of SHOW ENGINE INNODB STATUS, which needs
// PROCESS. MySQL 8.0.30 and later have status variables too, but these lag behind
// what was flushed: see recentLSN.
var (
	mariadbLSNs = [3]string{"Innodb_lsn_current", "Innodb_lsn_flushed", "Innodb_lsn_last_checkpoint"}
	mysqlLSNs   = [3]string{"Log sequence number", "Log flushed up to", "Last checkpoint at"}
)

func readLSNs(ctx context.Context, srv *mysqld.Server, c *mysqld.Session) (lsns, error) {
	if srv.Flavor == mysqld.MySQL {
		row, err := c.Row(ctx, "SHOW ENGINE INNODB STATUS")
		if err != nil {
			return lsns{}, err
		}
		return parseLSNs(monitorLines(row["Status"]), mysqlLSNs)
	}
	status, err := c.Status(ctx, "Innodb_lsn_%")
	if err != nil {
		return lsns{}, err
	}
	return parseLSNs(status, mariadbLSNs)
}

// monitorLines takes the LSNs out of InnoDB's monitor. The last line of a name
// is the one of the log: texts of users' statements stand before it.
func monitorLines(text string) map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(text) {
		for _, name := range mysqlLSNs {
			if rest, ok := strings.CutPrefix(line, name); ok {
				m[name] = strings.TrimSpace(rest)
			}
		}
	}
	return m
}

func parseLSNs(text map[string]string, names [3]string) (l lsns, err error) {
	for i, to := range []*innodb.LSN{&l.current, &l.flushed, &l.checkpoint} {
		value, ok := text[names[i]]
		if !ok {
			return l, fmt.Errorf("the server does not report %q: is InnoDB enabled?", names[i])
		}
		n, err := parseLSN(names[i], value)
		if err != nil {
			return l, err
		}
		*to = n
	}
	return l, nil
}

func parseLSN(name, value string) (innodb.LSN, error) {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the server's %q is %q, not an LSN", name, value)
	}
	return innodb.LSN(n), nil
}

// FlushEngineLogs asks for the redo log to be written to its file up to its
// current end. With innodb_flush_log_at_trx_commit=0 MariaDB ignores it (10.5.23,
// 10.11.18 and 11.8.6): see RedoDelay. MySQL does it always.
func FlushEngineLogs(ctx context.Context, srv *mysqld.Server) error {
	return srv.Control.Exec(ctx, "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")
}

// FlushBinaryLogs has the server go on in a new binary log file (MySQL). For that the
// server waits, and lets nobody commit, until no transaction in the current one is only
// prepared: after Options.LockWait the error is a *locks.TimeoutError.
func FlushBinaryLogs(ctx context.Context, srv *mysqld.Server) error {
	const flush = "FLUSH NO_WRITE_TO_BINLOG BINARY LOGS"
	return patiently(ctx, srv, flush, func(ctx context.Context, conn *mysqld.Session) error { return conn.Exec(ctx, flush) })
}

// RedoDelay is how long the redo log may stay out of its file although
// FlushEngineLogs returned: 0, or on MariaDB with
// innodb_flush_log_at_trx_commit=0 the interval of the server's own flush. No
// statement that leaves the settings alone shortens it, so wait for the file
// after the locks are released: the redo before the LSN does not change any more.
func RedoDelay(ctx context.Context, srv *mysqld.Server) (time.Duration, error) {
	if srv.Flavor == mysqld.MySQL {
		return 0, nil
	}
	const how, every = "innodb_flush_log_at_trx_commit", "innodb_flush_log_at_timeout"
	vars, err := srv.Refresh(ctx, how, every) // both may change while the server runs
	if err != nil {
		return 0, err
	}
	mode, err := vars.Int(how)
	if err != nil || mode != 0 {
		return 0, err
	}
	seconds, err := vars.Int(every)
	if err != nil {
		return 0, err
	}
	return time.Duration(seconds) * time.Second, nil
}

// The size of the redo log of MySQL 8.0.30 and later: the configured one, and the
// actual one after a change has been carried out (a status variable).
const (
	redoCapacity = "innodb_redo_log_capacity"
	redoResized  = "Innodb_redo_log_capacity_resized"
)

// RedoCapacity returns how many bytes the redo log may take, on MySQL 8.0.30 and
// later, whose files do not say so.
func RedoCapacity(ctx context.Context, srv *mysqld.Server) (int64, error) {
	status, err := srv.Status(ctx, redoResized)
	if err != nil {
		return 0, err
	}
	if n, err := strconv.ParseInt(status[redoResized], 10, 64); err == nil && n > 0 {
		return n, nil
	}
	return srv.Vars.Int(redoCapacity)
}
