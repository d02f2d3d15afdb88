package mysqldtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The account that replicas connect with; every server with Options.Binlog has it.
const (
	replUser     = "hb_repl"
	replPassword = "hb_repl"
)

// Position is a place in a source's binary log: GTID if it is set, else file
// and offset.
type Position struct {
	File string
	Pos  uint64
	GTID string // gtid_slave_pos on MariaDB, gtid_purged on MySQL
}

// sourceWords holds the statements that differ between the series.
type sourceWords struct{ change, prefix, start, stop, status, position, wait string }

func (r *Root) sourceWords() sourceWords {
	if r.MariaDB() || !r.AtLeast(8, 4) {
		return sourceWords{"CHANGE MASTER TO", "MASTER", "START SLAVE", "STOP SLAVE", "SHOW SLAVE STATUS", "SHOW MASTER STATUS", "MASTER_POS_WAIT"}
	}
	return sourceWords{"CHANGE REPLICATION SOURCE TO", "SOURCE", "START REPLICA", "STOP REPLICA", "SHOW REPLICA STATUS", "SHOW BINARY LOG STATUS", "SOURCE_POS_WAIT"}
}

// positionFiles are the files in which MariaDB's and XtraBackup's tools record
// the binary log's position in a backup: file, offset and GTIDs in one line.
var positionFiles = []string{"xtrabackup_binlog_info", "mariadb_backup_binlog_info"}

// RecordedPosition reads the position that a backup in dir was taken at. GTIDs
// that are spread over lines (MySQL does that to long sets) are put together.
func RecordedPosition(dir string) (Position, error) {
	for _, n := range positionFiles {
		b, err := os.ReadFile(filepath.Join(dir, n))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Position{}, fmt.Errorf("read the backup's position: %w", err)
		}
		f := strings.Fields(string(b))
		if len(f) < 2 {
			return Position{}, fmt.Errorf("position in %s is %q: want file and offset", filepath.Join(dir, n), b)
		}
		p := Position{File: f[0], GTID: strings.Join(f[2:], "")}
		if p.Pos, err = strconv.ParseUint(f[1], 10, 64); err != nil {
			return Position{}, fmt.Errorf("position in %s: %w", filepath.Join(dir, n), err)
		}
		return p, nil
	}
	return Position{}, fmt.Errorf("no binary log position in %s: none of %v is there", dir, positionFiles)
}

// BinlogPosition returns where the server's binary log ends.
func (s *Server) BinlogPosition(ctx context.Context) (Position, error) {
	var p Position
	cols, rows, err := queryStrings(ctx, s.db, s.Root.sourceWords().position)
	if err != nil {
		return p, fmt.Errorf("read the binary log's position on %s: %w", s.Root.Name, err)
	}
	if len(rows) == 0 {
		return p, fmt.Errorf("%s writes no binary log", s.Root.Name)
	}
	p.File = rows[0][slices.Index(cols, "File")]
	if _, err := fmt.Sscan(rows[0][slices.Index(cols, "Position")], &p.Pos); err != nil {
		return p, fmt.Errorf("read the binary log's position on %s: %w", s.Root.Name, err)
	}
	if s.Root.MariaDB() {
		err = s.db.QueryRowContext(ctx, "SELECT @@global.gtid_binlog_pos").Scan(&p.GTID)
	} else {
		err = s.db.QueryRowContext(ctx, "SELECT @@global.gtid_executed").Scan(&p.GTID)
	}
	return p, err
}

// Attach makes replica a replica of source from the position at and starts it.
// The source must have been started with Options.Binlog and the replica with
// another Options.ServerID, on MySQL with Options.Binlog too (GTIDs must match).
func Attach(t testing.TB, replica, source *Server, at Position) {
	t.Helper()
	if err := replica.ReplicateFrom(t.Context(), source, at); err != nil {
		t.Fatal(err)
	}
}

// ReplicateFrom is [Attach] without a test: it makes s a replica of source.
func (s *Server) ReplicateFrom(ctx context.Context, source *Server, at Position) error {
	if source.Port == 0 {
		return errors.New("the source does not listen on TCP: start it with Options.Binlog")
	}
	w := s.Root.sourceWords()
	opts := []string{
		w.prefix + "_HOST='" + source.Address + "'", fmt.Sprintf("%s_PORT=%d", w.prefix, source.Port),
		w.prefix + "_USER='" + replUser + "'", w.prefix + "_PASSWORD='" + replPassword + "'",
		w.prefix + "_CONNECT_RETRY=1",
	}
	switch {
	case s.Root.MariaDB():
		opts = append(opts, "MASTER_SSL=0") // its source may have no TLS, which 11.4 and later demand
	case s.Root.AtLeast(8, 4):
		opts = append(opts, "GET_SOURCE_PUBLIC_KEY=1")
	}
	var statements []string
	switch {
	case at.GTID == "":
		opts = append(opts, fmt.Sprintf("%s_LOG_FILE='%s'", w.prefix, at.File), fmt.Sprintf("%s_LOG_POS=%d", w.prefix, at.Pos))
		if s.Root.MariaDB() {
			opts = append(opts, "MASTER_USE_GTID=no")
		} else {
			opts = append(opts, w.prefix+"_AUTO_POSITION=0")
		}
	case s.Root.MariaDB():
		statements = append(statements, "SET GLOBAL gtid_slave_pos='"+at.GTID+"'")
		opts = append(opts, "MASTER_USE_GTID=slave_pos")
	default:
		reset := "RESET MASTER"
		if s.Root.AtLeast(8, 4) {
			reset = "RESET BINARY LOGS AND GTIDS"
		}
		statements = append(statements, reset, "SET GLOBAL gtid_purged='"+at.GTID+"'")
		opts = append(opts, w.prefix+"_AUTO_POSITION=1")
	}
	statements = append(statements, w.change+" "+strings.Join(opts, ", "), w.start)
	for _, q := range statements {
		if _, err := s.db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("attach %s as a replica: %s: %w", s.Root.Name, q, err)
		}
	}
	return nil
}

// CatchUp waits until replica has applied all that source's binary log holds
// now, and ends the test with the replica's own error if it stops before.
func CatchUp(t testing.TB, replica, source *Server, timeout time.Duration) {
	t.Helper()
	if err := replica.WaitFor(t.Context(), source, timeout); err != nil {
		t.Fatal(err)
	}
}

// catchUpSlice is how long one wait lasts before the replica's state is looked at.
const catchUpSlice = 2

// WaitFor is [CatchUp] without a test: it waits until s has applied all that
// source's binary log holds now.
func (s *Server) WaitFor(ctx context.Context, source *Server, timeout time.Duration) error {
	p, err := source.BinlogPosition(ctx)
	if err != nil {
		return err
	}
	wait := fmt.Sprintf("SELECT %s('%s', %d, %d)", s.Root.sourceWords().wait, p.File, p.Pos, catchUpSlice)
	for end := time.Now().Add(timeout); ; {
		var n sql.NullInt64
		if err := s.db.QueryRowContext(ctx, wait).Scan(&n); err != nil {
			return fmt.Errorf("wait for the replica: %w", err)
		}
		if n.Valid && n.Int64 >= 0 {
			return nil
		}
		st, err := s.replicaStatus(ctx)
		if err != nil {
			return err
		}
		if e := st["Last_SQL_Error"]; e != "" {
			return fmt.Errorf("the replica %s stopped: %s", s.Root.Name, e)
		}
		if e := st["Last_IO_Error"]; e != "" && st["Last_IO_Errno"] != "2003" {
			return fmt.Errorf("the replica %s cannot read its source: %s", s.Root.Name, e)
		}
		if time.Now().After(end) {
			return fmt.Errorf("the replica %s did not reach %s %d within %v: %v", s.Root.Name, p.File, p.Pos, timeout, st)
		}
		// NULL means that the applier does not run (yet): it returns at once.
		if !n.Valid {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// StopReplica stops replication on s, so that its tables rest.
func (s *Server) StopReplica(t testing.TB) {
	t.Helper()
	s.Exec(t, s.Root.sourceWords().stop)
}

// replicaStatus returns the row of SHOW SLAVE STATUS by column.
func (s *Server) replicaStatus(ctx context.Context) (map[string]string, error) {
	cols, rows, err := queryStrings(ctx, s.db, s.Root.sourceWords().status)
	if err != nil {
		return nil, fmt.Errorf("read the replica's status: %w", err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s is not a replica", s.Root.Name)
	}
	st := map[string]string{}
	for i, c := range cols {
		st[c] = rows[0][i]
	}
	return st, nil
}
