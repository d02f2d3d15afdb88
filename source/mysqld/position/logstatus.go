package position

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// A LogStatus is performance_schema.log_status (MySQL 8.0.11 and later): where
// all logs of the server stand at one moment, for which it holds them still.
type LogStatus struct {
	ServerUUID string
	// Binlog is nil if the binary log is off and no GTID was ever executed.
	// Its GTID is gtid_executed, which may lack transactions that are before the
	// position in the binary log.
	Binlog     *metadata.BinlogPos
	Purged     string     // gtid_purged: executed, and in no binary log that the server has
	LSN        innodb.LSN // end of the redo log, that of a mini-transaction
	Checkpoint innodb.LSN
	Channels   []LogChannel
}

// A LogChannel is where one channel of a replica stands.
type LogChannel struct {
	Name     string // empty: the default channel
	RelayLog string // base name of the relay log
	RelayPos uint64
	// SourceLog and SourcePos are the executed position in the source's binary
	// log. Only Percona Server reports it; else SourceLog is empty.
	SourceLog string
	SourcePos uint64
}

const logStatus = "SELECT SERVER_UUID, LOCAL, REPLICATION, STORAGE_ENGINES FROM performance_schema.log_status"

// ReadLogStatus asks where the logs stand (Series.LogStatus). The LSN may lie beyond
// what is in the redo log's files: call FlushEngineLogs after.
//
// Where it waits for prepared transactions (Series.WaitsForPrepared), commits
// wait behind it: after Options.LockWait the error is a *locks.TimeoutError.
func ReadLogStatus(ctx context.Context, srv *mysqld.Server) (st LogStatus, err error) {
	var row, purged map[string]string
	err = patiently(ctx, srv, "performance_schema.log_status", func(ctx context.Context, conn *mysqld.Session) (err error) {
		if row, err = conn.Row(ctx, logStatus); err == nil {
			purged, err = conn.Row(ctx, "SELECT @@global.gtid_purged AS p")
		}
		return err
	})
	if err != nil {
		return st, err
	}
	if st, err = parseLogStatus(row); err != nil {
		return st, fmt.Errorf("performance_schema.log_status: %w", err)
	}
	st.Purged = oneLine(purged["p"])
	return st, nil
}

// patiently asks for what the server answers once no transaction is only prepared, in a
// session of its own. If it takes longer than Options.LockWait, the session is killed.
func patiently(ctx context.Context, srv *mysqld.Server, what string, ask func(ctx context.Context, conn *mysqld.Session) error) (err error) {
	conn, err := srv.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	bounded, cancel := context.WithTimeout(ctx, srv.LockWait())
	defer cancel()
	if err = ask(bounded, conn); err == nil || bounded.Err() == nil {
		return err
	}
	srv.Kill(conn)
	if ctx.Err() == nil {
		err = &locks.TimeoutError{Lock: what, After: srv.LockWait(), Err: err, Cause: prepared}
	}
	return err
}

// prepared is what keeps a server from answering.
const prepared = "a transaction is in the binary log and is not committed: it may wait for a replica (semi-synchronous replication)"

func parseLogStatus(row map[string]string) (LogStatus, error) {
	var local struct {
		GTID string `json:"gtid_executed"`
		File string `json:"binary_log_file"`
		Pos  uint64 `json:"binary_log_position"`
	}
	var replication struct {
		Channels []struct {
			Name      string `json:"channel_name"`
			RelayLog  string `json:"relay_log_file"`
			RelayPos  uint64 `json:"relay_log_position"`
			SourceLog string `json:"relay_master_log_file"`
			SourcePos uint64 `json:"exec_master_log_position"`
		} `json:"channels"`
	}
	var engines struct {
		InnoDB *struct {
			LSN        innodb.LSN `json:"LSN"`
			Checkpoint innodb.LSN `json:"LSN_checkpoint"`
		} `json:"InnoDB"`
	}
	for _, c := range []struct {
		name string
		to   any
	}{{"LOCAL", &local}, {"REPLICATION", &replication}, {"STORAGE_ENGINES", &engines}} {
		if err := json.Unmarshal([]byte(row[c.name]), c.to); err != nil {
			return LogStatus{}, fmt.Errorf("%s is %.200q: %w", c.name, row[c.name], err)
		}
	}
	if engines.InnoDB == nil || engines.InnoDB.LSN == 0 {
		return LogStatus{}, fmt.Errorf("STORAGE_ENGINES is %.200q: it has no LSN of InnoDB", row["STORAGE_ENGINES"])
	}
	st := LogStatus{ServerUUID: row["SERVER_UUID"], LSN: engines.InnoDB.LSN, Checkpoint: engines.InnoDB.Checkpoint}
	if local.File != "" || local.GTID != "" {
		st.Binlog = &metadata.BinlogPos{File: local.File, Pos: local.Pos, GTID: oneLine(local.GTID)}
	}
	for _, c := range replication.Channels {
		st.Channels = append(st.Channels, LogChannel(c))
	}
	return st, nil
}

// oneLine takes out the line ends that the server puts into a long GTID set.
func oneLine(gtid string) string {
	return strings.NewReplacer("\r", "", "\n", "").Replace(gtid)
}
