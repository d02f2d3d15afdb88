package locks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hb/source/mysqld"
)

// oneBackup is the name of the user lock that a backup by hb has.
const oneBackup = "hb backup"

// An OtherBackupError says that another hb backs the server up.
type OtherBackupError struct {
	Holder string        // its connection
	After  time.Duration // how long hb waited
}

func (e *OtherBackupError) Error() string {
	return fmt.Sprintf("another hb backs this server up, and did not finish within %s: %s\nwait for it, or allow a longer wait with --lock-wait-timeout",
		e.After.Round(time.Second), e.Holder)
}

// Whole is true: see package terminal.
func (e *OtherBackupError) Whole() bool { return true }

// An Only is the right to be the only backup by hb of a server.
type Only struct {
	mu   sync.Mutex
	conn *mysqld.Session
}

// Only waits, for as long as for a lock, until no other hb backs the server up: two at a
// time would be in each other's way at their ends. MariaDB grants BACKUP STAGE only once;
// MySQL registers one reader of the redo log, and its locks on tables wait for the
// instance locks of others, which ends one backup by a deadlock. The error is an
// *OtherBackupError. Where the server refuses to answer, nobody waits.
//
// It is a user lock (GET_LOCK), which needs no privilege, writes nothing, blocks nobody
// else, and goes with its connection. Close ends it, and so does Server.Close.
func (s *Set) Only(ctx context.Context) (_ *Only, err error) {
	conn, err := s.srv.Open(ctx)
	if err != nil {
		return nil, err
	}
	o := &Only{conn: conn}
	s.srv.OnClose(o)
	for began := time.Now(); ; {
		row, err := conn.Row(ctx, "SELECT GET_LOCK("+mysqld.QuoteString(oneBackup)+", 0) AS g")
		switch {
		case isTableError(err): // such as of Percona XtraDB Cluster in its strict mode
			return o, nil
		case err != nil:
			return nil, errors.Join(err, o.Close())
		case row["g"] == "1":
			return o, nil
		}
		if after := time.Since(began); after >= s.srv.LockWait() {
			holder, err := Other(ctx, s.srv)
			return nil, errors.Join(&OtherBackupError{holder, after}, err, o.Close())
		}
		if err := mysqld.Pause(ctx, mysqld.PollPause); err != nil {
			return nil, errors.Join(err, o.Close())
		}
	}
}

// Close lets another backup begin. A second Close does nothing.
func (o *Only) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == nil {
		return nil
	}
	conn := o.conn
	o.conn = nil
	return conn.Close()
}

// Other says which connection is a backup's by hb; "": there is none, or the server does
// not say.
func Other(ctx context.Context, srv *mysqld.Server) (string, error) {
	row, err := srv.Control.Row(ctx, "SELECT IS_USED_LOCK("+mysqld.QuoteString(oneBackup)+") AS id")
	if isTableError(err) || err == nil && row["id"] == "" {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	holder := "connection " + row["id"]
	rows, err := srv.Control.Rows(ctx, "SELECT USER, HOST FROM information_schema.PROCESSLIST WHERE ID = "+row["id"])
	if err == nil && len(rows) == 1 {
		holder += fmt.Sprintf(" of %s@%s", rows[0]["USER"], rows[0]["HOST"])
	}
	return holder, err
}
