package position

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/xbstream/metadata"
)

func TestParseLogStatus(t *testing.T) {
	const uuid = "9b9662f1-e58d-11f1-ad6f-02fc00000001"
	const channels = `{"channels": [{"channel_name": "", "relay_log_file": "relay.000002", "relay_log_position": 324}]}`
	// Taken from MySQL 9.7.4; the second from Percona Server's manual.
	for _, test := range []struct {
		local, replication, engines string
		want                        LogStatus
	}{
		{`{"gtid_executed": "` + uuid + `:1-5,\n` + uuid + `:7", "binary_log_file": "binlog.000004", "binary_log_position": 158}`, channels,
			`{"InnoDB": {"LSN": 9007199254740993, "LSN_checkpoint": 19469886}}`,
			LogStatus{ServerUUID: uuid, Binlog: &metadata.BinlogPos{File: "binlog.000004", Pos: 158, GTID: uuid + ":1-5," + uuid + ":7"},
				LSN: 9007199254740993, Checkpoint: 19469886, Channels: []LogChannel{{RelayLog: "relay.000002", RelayPos: 324}}}},
		{`{"gtid_executed": ""}`, `{"channels": [{"channel_name": "c", "relay_log_file": "r.1", "relay_log_position": 4, "relay_master_log_file": "m.7", "exec_master_log_position": 99}]}`,
			`{"InnoDB": {"LSN": 9, "LSN_checkpoint": 8}, "RocksDB": {}}`,
			LogStatus{ServerUUID: uuid, LSN: 9, Checkpoint: 8, Channels: []LogChannel{{Name: "c", RelayLog: "r.1", RelayPos: 4, SourceLog: "m.7", SourcePos: 99}}}},
		{`{"gtid_executed": "` + uuid + `:1"}`, `{"channels": []}`, `{"InnoDB": {"LSN": 9, "LSN_checkpoint": 8}}`,
			LogStatus{ServerUUID: uuid, Binlog: &metadata.BinlogPos{GTID: uuid + ":1"}, LSN: 9, Checkpoint: 8}},
	} {
		got, err := parseLogStatus(map[string]string{"SERVER_UUID": uuid, "LOCAL": test.local, "REPLICATION": test.replication, "STORAGE_ENGINES": test.engines})
		if err != nil || got.LSN != test.want.LSN || got.Checkpoint != test.want.Checkpoint || !slices.Equal(got.Channels, test.want.Channels) || got.ServerUUID != uuid {
			t.Errorf("%+v, %v, want %+v", got, err, test.want)
		}
		if (got.Binlog == nil) != (test.want.Binlog == nil) || (got.Binlog != nil && *got.Binlog != *test.want.Binlog) {
			t.Errorf("%+v, want %+v", got.Binlog, test.want.Binlog)
		}
	}
	for _, row := range [][3]string{
		{"", `{"channels": []}`, `{"InnoDB": {"LSN": 9}}`},
		{`{}`, `{"channels": []}`, `{}`},
		{`{}`, `{"channels": []}`, `{"InnoDB": {"LSN": 0}}`},
		{`{}`, `{"channels": []}`, `{"InnoDB": {"LSN": -1}}`},
		{`{"binary_log_position": "x"}`, `{"channels": []}`, `{"InnoDB": {"LSN": 9}}`},
		{`{}`, `{"channels": [`, `{"InnoDB": {"LSN": 9}}`},
	} {
		if st, err := parseLogStatus(map[string]string{"LOCAL": row[0], "REPLICATION": row[1], "STORAGE_ENGINES": row[2]}); err == nil {
			t.Errorf("%q: %+v", row, st)
		}
	}
}

func TestMonitorLines(t *testing.T) {
	// A user's statement stands in the monitor before the log's own lines.
	const text = "TRANSACTIONS\nupdate t set a='\nLog sequence number 7\nLog flushed up to   7\nLast checkpoint at  7\n'\n---\nLOG\n---\n" +
		"Log sequence number          9007199254740993\nLog buffer assigned up to    1\nLog flushed up to            19564360\nPages flushed up to 3\nLast checkpoint at           19564300\n"
	l, err := parseLSNs(monitorLines(text), mysqlLSNs)
	if want := (lsns{9007199254740993, 19564360, 19564300}); err != nil || l != want {
		t.Errorf("%+v, %v, want %+v", l, err, want)
	}
	for _, text := range []string{"", strings.Replace(text, "19564300", "", 1), text[:strings.Index(text, "Last checkpoint at           ")] + "Last checkpoint at -1\n"} {
		if l, err := parseLSNs(monitorLines(text), mysqlLSNs); err == nil {
			t.Errorf("%q: %+v", text, l)
		}
	}
}

func TestMySQLPositionTexts(t *testing.T) {
	r := ReplicaState{flavor: mysqld.MySQL, GTIDPos: "u:1-2", parallel: true, Sources: []ReplicaSource{
		{File: "a.1", Pos: 4, Applying: true}, {Name: "o'x", File: "b.1", Pos: 5}, {Name: "g", UsingGTID: true, Applying: true}, {Name: "h", UsingGTID: true}}}
	const want = "CHANGE MASTER TO MASTER_LOG_FILE='a.1', MASTER_LOG_POS=4;\n" +
		"CHANGE MASTER TO MASTER_LOG_FILE='b.1', MASTER_LOG_POS=5 FOR CHANNEL 'o''x';\n" +
		"SET GLOBAL gtid_purged='u:1-2';\n" +
		"CHANGE MASTER TO MASTER_AUTO_POSITION=1 FOR CHANNEL 'g';\n" +
		"CHANGE MASTER TO MASTER_AUTO_POSITION=1 FOR CHANNEL 'h';\n"
	if got := r.FileText(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.sources = true
	if got, want := r.FileText(), strings.NewReplacer("CHANGE MASTER TO", "CHANGE REPLICATION SOURCE TO", "MASTER_", "SOURCE_").Replace(want); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if list := r.Inexact(); len(list) != 1 || list[0].File != "a.1" {
		t.Errorf("inexact: %+v", list)
	}
	r.parallel = false
	st := LogStatus{Binlog: &metadata.BinlogPos{GTID: "u:1-3"}, Channels: []LogChannel{{RelayLog: "r"}}}
	if at, exact := r.At(st); exact || at.GTIDPos != "u:1-3" || at.Sources[0] != r.Sources[0] {
		t.Errorf("%+v, %v", at, exact)
	}
	// Percona Server says more.
	st.Channels[0].SourceLog, st.Channels[0].SourcePos = "a.2", 9
	if at, exact := r.At(st); !exact || at.Sources[0].File != "a.2" || at.Sources[0].Pos != 9 || r.Sources[0].File != "a.1" {
		t.Errorf("%+v, %v", at, exact)
	}
	// What comes into no binary log is not known to the transaction.
	for _, applying := range []bool{true, false} {
		g := ReplicaState{flavor: mysqld.MySQL, unlogged: true, Sources: []ReplicaSource{{UsingGTID: true, Applying: applying}}}
		if _, exact := g.At(st); exact == applying {
			t.Errorf("applying %v without a binary log: exact %v", applying, exact)
		}
	}
}

func TestPositionTexts(t *testing.T) {
	r := ReplicaState{GTIDPos: "0-1-2", Sources: []ReplicaSource{
		{File: "a.1", Pos: 4}, {Name: "o'x", File: "b.1", Pos: 5}, {Name: "g", UsingGTID: true}, {Name: "h", UsingGTID: true}}}
	const want = "CHANGE MASTER TO MASTER_LOG_FILE='a.1', MASTER_LOG_POS=4;\n" +
		"CHANGE MASTER 'o''x' TO MASTER_LOG_FILE='b.1', MASTER_LOG_POS=5;\n" +
		"SET GLOBAL gtid_slave_pos = '0-1-2';\n" +
		"CHANGE MASTER 'g' TO master_use_gtid = slave_pos;\n" +
		"CHANGE MASTER 'h' TO master_use_gtid = slave_pos;\n"
	if got := r.FileText(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	g := GaleraState{UUID: "u", SeqNo: "7", DomainID: "3"}
	if a, b := g.FileText(mysqld.Series{}), g.FileText(mysqld.Series{GaleraDomain: true}); a != "u:7\n" || b != "u:7 3\n" {
		t.Errorf("%q, %q", a, b)
	}
}

// TestNoGTIDs: a replica that is to follow by GTID and has none goes on by its
// coordinates, if it has any.
func TestNoGTIDs(t *testing.T) {
	r := ReplicaState{flavor: mysqld.MariaDB, Sources: []ReplicaSource{{UsingGTID: true, File: "a.1", Pos: 7}, {Name: "new", UsingGTID: true}}}
	const want = "CHANGE MASTER TO MASTER_LOG_FILE='a.1', MASTER_LOG_POS=7;\nSET GLOBAL gtid_slave_pos = '';\nCHANGE MASTER 'new' TO master_use_gtid = slave_pos;\n"
	if got := r.FileText(); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.GTIDPos = "0-1-5"
	const both = "SET GLOBAL gtid_slave_pos = '0-1-5';\nCHANGE MASTER TO master_use_gtid = slave_pos;\nCHANGE MASTER 'new' TO master_use_gtid = slave_pos;\n"
	if got := r.FileText(); got != both {
		t.Errorf("with a GTID: %q, want %q", got, both)
	}
}

// TestMomentNeedsLock: without a lock that keeps the server still as far as that
// takes, no position is taken.
func TestMomentNeedsLock(t *testing.T) {
	for _, c := range []struct {
		d  mysqld.Series
		by held
	}{{mysqld.Series{LogStatus: true}, held(locks.BlocksOthers)}, {mysqld.Series{LogStatus: true}, 0}, {mysqld.Series{}, held(locks.BlocksDDL)}, {mysqld.Series{}, 0}, {mysqld.Series{Stages: true}, held(locks.BlocksOthers | locks.BlocksDDL)}} {
		if _, err := Take(t.Context(), &mysqld.Server{Series: c.d}, c.by, Wanted{}); !errors.Is(err, locks.ErrLost) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// held is a lock that keeps them waiting.
type held locks.Blocks

func (h held) Blocking() locks.Blocks { return locks.Blocks(h) }
