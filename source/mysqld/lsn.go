package mysqld

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"hb/source/innodb"
)

// CurrentLSN returns the end of the redo log as the server sees it now, be it
// in the file or not. Under StageBlockCommit nothing that a backup must hold
// lies beyond it. (Uncommitted changes go on moving the end.) It is the end of a
// mini-transaction: seen under load on 10.11.18 and 11.8.6.
//
// Call it first and FlushEngineLogs after. Then, with
// innodb_flush_log_at_trx_commit 1 or 2, the log up to it is in the redo log
// file; see RedoDelay for 0.
func (s *Server) CurrentLSN(ctx context.Context) (innodb.LSN, error) {
	return s.lsn(ctx, "Innodb_lsn_current")
}

// LSNs returns up to where the server has synced the redo log, and its end as
// CurrentLSN does, both of one moment. With innodb_flush_log_at_trx_commit=2 the
// file may hold much more than what is synced.
func (s *Server) LSNs(ctx context.Context) (flushed, current innodb.LSN, err error) {
	m, err := s.Status(ctx, "Innodb_lsn_%")
	if err != nil {
		return 0, 0, err
	}
	if flushed, err = parseLSN(m, "Innodb_lsn_flushed"); err != nil {
		return 0, 0, err
	}
	current, err = parseLSN(m, "Innodb_lsn_current")
	return flushed, current, err
}

// CheckpointLSN returns the server's last checkpoint.
func (s *Server) CheckpointLSN(ctx context.Context) (innodb.LSN, error) {
	return s.lsn(ctx, "Innodb_lsn_last_checkpoint")
}

// lsn reads a status variable that needs no privilege, unlike SHOW ENGINE
// INNODB STATUS, which needs PROCESS. All of MariaDB 10.5 to 11.8 have it.
func (s *Server) lsn(ctx context.Context, name string) (innodb.LSN, error) {
	m, err := s.Status(ctx, name)
	if err != nil {
		return 0, err
	}
	return parseLSN(m, name)
}

func parseLSN(status map[string]string, name string) (innodb.LSN, error) {
	text, ok := status[name]
	if !ok {
		return 0, fmt.Errorf("the server has no status variable %s: is InnoDB on?", name)
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the server's status variable %s is %q, not an LSN", name, text)
	}
	return innodb.LSN(n), nil
}

// FlushEngineLogs asks for the redo log to be written to its file up to its
// current end. With innodb_flush_log_at_trx_commit=0 InnoDB ignores it (10.5.23,
// 10.11.18 and 11.8.6): see RedoDelay.
func (s *Server) FlushEngineLogs(ctx context.Context) error {
	return s.control.exec(ctx, "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")
}

// RedoDelay is how long the redo log may stay out of its file although
// FlushEngineLogs returned: 0, or with innodb_flush_log_at_trx_commit=0 the
// interval of the server's own flush. No statement that leaves the settings
// alone shortens it, so wait for the file after the locks are released: what
// was written before the LSN does not change any more.
func (s *Server) RedoDelay(ctx context.Context) (time.Duration, error) {
	vars, err := s.readVars(ctx) // both may change while the server runs
	if err != nil {
		return 0, err
	}
	mode, err := vars.Int("innodb_flush_log_at_trx_commit")
	if err != nil || mode != 0 {
		return 0, err
	}
	seconds, err := vars.Int("innodb_flush_log_at_timeout")
	if err != nil {
		return 0, err
	}
	return time.Duration(seconds) * time.Second, nil
}
