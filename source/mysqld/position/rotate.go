package position

import (
	"context"
	"errors"
	"strings"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/locks"
)

// A BinlogFile is a file of the binary log (MySQL 8.0 and later), of before which the engines
// have carried out everything.
type BinlogFile struct {
	Name string
	// Before is gtid_executed of before the file was begun. All of that is in the file's
	// list of earlier GTIDs, except for gtid_purged.
	Before string
	// Executed is gtid_executed after everything in earlier files had been carried out. The
	// file's list lacks what had not been when the file was begun.
	Executed string
}

// RotateBinlog has the server go on in a new binary log file, and waits until what is in
// earlier files has been carried out. FlushBinaryLogs does not wait for XA COMMIT and XA
// ROLLBACK: the server counts as prepared only groups that end with an Xid or an XA_prepare
// event (9.7.2, sql/binlog.cc: binlog_cache_data::write_event sets with_xid for these, and
// MYSQL_BIN_LOG::new_file_impl waits for them). A server that starts on the new file only
// would leave the XA transaction prepared, and a replica that begins there would never
// end it.
//
// After Options.LockWait the error is a *locks.TimeoutError.
func RotateBinlog(ctx context.Context, srv *mysqld.Server) (f BinlogFile, err error) {
	if f.Before, err = executed(ctx, srv); err != nil {
		return f, err
	}
	if err := FlushBinaryLogs(ctx, srv); err != nil {
		return f, err
	}
	return f, f.Await(ctx, srv)
}

// Await makes f the server's current file, which the server may have begun by itself, and waits
// as RotateBinlog does.
func (f *BinlogFile) Await(ctx context.Context, srv *mysqld.Server) error {
	st, err := ReadLogStatus(ctx, srv) // SHOW BINARY LOG STATUS needs a privilege more
	if err != nil {
		return err
	}
	if st.Binlog == nil || st.Binlog.File == "" { // it may have stopped to write it (binlog_error_action=IGNORE_ERROR)
		return errors.New("performance_schema.log_status names no file of the binary log, which is on")
	}
	f.Name = st.Binlog.File
	left, err := xaStatements(ctx, srv) // those in earlier files are among them
	if err != nil {
		return err
	}
	const look = 5 * time.Millisecond
	for began := time.Now(); len(left) > 0; {
		if after := time.Since(began); after > srv.LockWait() {
			return &locks.TimeoutError{Lock: "the end of XA statements", After: after, Cause: prepared}
		}
		if err := mysqld.Pause(ctx, look); err != nil {
			return err
		}
		now, err := xaStatements(ctx, srv)
		if err != nil {
			return err
		}
		for statement := range left {
			if !now[statement] {
				delete(left, statement)
			}
		}
	}
	f.Executed, err = executed(ctx, srv)
	return err
}

func executed(ctx context.Context, srv *mysqld.Server) (string, error) {
	row, err := srv.Control.Row(ctx, "SELECT @@global.gtid_executed AS p")
	return oneLine(row["p"]), err
}

// xaStatements are the XA statements that run, those of a replica's appliers included, each with
// its connection. It needs PROCESS. (gtid_owned does not tell of transactions without a GTID,
// and appliers own theirs from the beginning of a transaction, however long it lasts.) What waits
// for a metadata lock, or on a replica for its turn, is in no file yet: 9.7.2, sql/xa/sql_xa_commit.cc
// and sql/mysqld.cc (stage names).
func xaStatements(ctx context.Context, srv *mysqld.Server) (map[string]bool, error) {
	out := make(map[string]bool)
	return out, srv.Control.Statements(ctx, func(s *mysqld.Statement) error {
		if locks.FirstWord(s.Text) == "XA" && !elsewhere(s.State) {
			out[s.Connection+" "+s.Beginning()] = true
		}
		return nil
	})
}

// elsewhere reports whether a statement in that state waits before it gets to a file.
func elsewhere(state string) bool {
	return strings.HasPrefix(state, "Waiting for ") && strings.HasSuffix(state, " lock") || state == "Waiting for preceding transaction to commit"
}
