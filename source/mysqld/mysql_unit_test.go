package mysqld

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

const community = "MySQL Community Server - GPL"

// facts writes a MySQL series as the names of what it knows.
func facts(d Series) string {
	var out []string
	for _, f := range []struct {
		name string
		on   bool
	}{
		{"log_status", d.LogStatus}, {"consumer", d.RedoConsumer}, {"prepared", d.WaitsForPrepared}, {"files", d.ListsFiles},
		{"replica", d.ReplicaWords}, {"binlog", d.BinlogStatus}, {"sources", d.SourceWords}, {"roles", d.roles},
		{"tables", d.TablesLock}, {"binlock", d.BinlogLock}, {"stages", d.Stages},
	} {
		if f.on {
			out = append(out, f.name)
		}
	}
	return strings.Join(out, " ")
}

func TestMySQLSeries(t *testing.T) {
	for full, want := range map[string]string{
		"5.6.10":              "",
		"5.6.51-log":          "",
		"5.7.9":               "",
		"5.7.44-48":           "",
		"8.0.11":              "log_status files roles",
		"8.0.21":              "log_status files roles",
		"8.0.22":              "log_status files replica roles",
		"8.0.28":              "log_status files replica roles",
		"8.0.30":              "log_status consumer files replica roles",
		"8.0.43-0ubuntu0.24":  "log_status consumer files replica roles",
		"8.1.0":               "log_status consumer files replica roles",
		"8.3.0":               "log_status consumer files replica binlog roles",
		"8.4.0":               "log_status consumer files replica binlog sources roles",
		"9.0.1":               "log_status consumer files replica binlog sources roles",
		"9.6.0":               "log_status consumer files replica binlog sources roles",
		"9.7.4-2":             "log_status consumer prepared files replica binlog sources roles",
		"9.7.99-commercial":   "log_status consumer prepared files replica binlog sources roles",
		"8.4.5-5 (Percona)":   "log_status consumer files replica binlog sources roles",
		"8.0.36-debug-asan-x": "log_status consumer files replica roles",
	} {
		f, v, err := ParseVersion(full)
		if err != nil {
			t.Fatal(err)
		}
		v.Comment = community
		d, err := SeriesOf(f, v)
		if got := facts(d); err != nil || got != want || d.Files != metadata.XtraBackupNames {
			t.Errorf("%s: %q, %v, want %q", full, got, err, want)
		}
	}
	for full, comment := range map[string]string{
		"5.5.62": community, "5.1.73": community, "5.6.9": community, "5.7.8-rc-log": community, "5.8.0": community,
		"6.0.11": community, "7.6.1": community, "8.0.10": community, "8.0.29": community, "9.8.0": community, "10.0.0": community, "26.1.0": community,
		"8.0.11-TiDB-v7.5.0": "TiDB Server (Apache License 2.0) Community Edition, MySQL 8.0 compatible"[:30],
		"5.7.25-OceanBase":   "OceanBase_CE 4.2.1.0", "8.0.33": "Dolt", "8.0.36-28.1": "Percona XtraDB Cluster (GPL), Release rel28",
		"5.6.21-webscalesql": "WebScaleSQL", "8.4.4": "",
	} {
		f, v, err := ParseVersion(full)
		if err != nil {
			t.Fatal(err)
		}
		v.Comment = comment
		_, err = SeriesOf(f, v)
		ue, ok := errors.AsType[*UnsupportedError](err)
		if !ok || ue.Version != v || !strings.Contains(err.Error(), full) || !strings.Contains(err.Error(), comment) || !strings.Contains(err.Error(), "5.6 (from 5.6.10), 5.7 (from 5.7.9), 8.0 (from 8.0.11, without 8.0.29) to 9.7") {
			t.Errorf("%s, %s: %v", full, comment, err)
		}
	}
	for _, comment := range []string{"MySQL Community Server (GPL)", "(Debian)", "(Ubuntu)", "Source distribution", "MySQL Enterprise Server - Commercial", "Percona Server (GPL), Release 27, Revision 2f8eeab"} {
		v := Version{Major: 8, Minor: 0, Patch: 35, Comment: comment}
		if _, err := SeriesOf(MySQL, v); err != nil || v.Percona() != strings.HasPrefix(comment, "Percona") {
			t.Errorf("%s: %v", comment, err)
		}
	}
	// Percona Server's backup locks are learned.
	for _, patch := range []Version{{Major: 5, Minor: 7, Patch: 44}, {Major: 8, Minor: 0, Patch: 35}} {
		patch.Comment = "Percona Server (GPL)"
		d, err := SeriesOf(MySQL, patch)
		if err != nil {
			t.Fatal(err)
		}
		d.learn(Vars{m: map[string]string{"have_backup_locks": "YES"}})
		if !d.TablesLock || d.BinlogLock == d.LogStatus {
			t.Errorf("%v: %s", patch, facts(d))
		}
	}
}

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

func TestQueryTypes(t *testing.T) {
	for statement, want := range map[string]string{
		"SELECT 1": "all select", "select\t1": "all select", " /* a */ -- b\n # c\n((Select 1))": "all select", "WITH x AS (SELECT 1) SELECT 1": "all select",
		"INSERT INTO t VALUES (1)": "all update", "update t set a=1": "all update", "REPLACE t VALUES (1)": "all update", "/*!40000 ALTER TABLE t */": "all",
		"LOAD DATA INFILE 'x' INTO TABLE t": "all update", "CREATE TABLE t (a INT)": "all update", "OPTIMIZE TABLE t": "all update",
		"CALL p()": "all", "": "all", "/* not closed SELECT": "all", "-- SELECT": "all", "SELECTED": "all", "DO SLEEP(1)": "all",
	} {
		var got []string
		for _, q := range []QueryType{QueryAll, QueryUpdate, QuerySelect} {
			if q.includes(statement) {
				got = append(got, q.String())
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", statement, got, want)
		}
	}
	for _, name := range []string{"ALL", "update", "Select"} {
		var q QueryType
		if err := q.UnmarshalText([]byte(name)); err != nil || q.String() != strings.ToLower(name) {
			t.Errorf("%s: %v, %v", name, q, err)
		}
	}
	var q QueryType
	if err := q.UnmarshalText([]byte("ddl")); err == nil || !strings.Contains(err.Error(), "all, update, select") {
		t.Errorf("ddl: %v, %v", q, err)
	}
}

func TestBlockers(t *testing.T) {
	list := []Process{
		{ID: 1, Time: 9 * time.Second, State: "Sending data"},
		{ID: 2, Time: 9 * time.Second, State: "Waiting for table flush"},
		{ID: 3, Time: 9 * time.Second, State: "Waiting for global read lock"},
		{ID: 4, Time: 2 * time.Second, State: "Sending data"},
		{ID: 5, Time: 3 * time.Second, State: "Waiting for master to send event"},
	}
	var ids []uint64
	for _, p := range blockers(list, 3500*time.Millisecond) {
		ids = append(ids, p.ID)
	}
	if !slices.Equal(ids, []uint64{1, 5}) {
		t.Errorf("%v", ids)
	}
}

func TestMySQLPositionTexts(t *testing.T) {
	r := ReplicaState{flavor: MySQL, GTIDPos: "u:1-2", parallel: true, Sources: []ReplicaSource{
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
		g := ReplicaState{flavor: MySQL, unlogged: true, Sources: []ReplicaSource{{UsingGTID: true, Applying: applying}}}
		if _, exact := g.At(st); exact == applying {
			t.Errorf("applying %v without a binary log: exact %v", applying, exact)
		}
	}
}

func TestTablespaceRows(t *testing.T) {
	v := Vars{m: map[string]string{"datadir": "/d/data/", "innodb_undo_directory": "../undo", "innodb_directories": ` a ; "/b/c/";;../e`}}
	row := func(path, kind, flag, encryption string) map[string]string {
		return map[string]string{"SPACE": "7", "NAME": "n", "PATH": path, "TYPE": kind, "FLAG": flag, "ENCRYPTION": encryption}
	}
	for _, test := range []struct {
		row  map[string]string
		want Tablespace
	}{
		{row("./db/t.ibd", "TABLESPACE", "33", "N"), Tablespace{Path: "/d/data/db/t.ibd", Flags: 33}},
		{row("/x//t.ibd", "TABLESPACE", "8225", ""), Tablespace{Path: "/x/t.ibd", Flags: 8225, Encrypted: true}},
		{row("g.ibd", "TABLESPACE", "2048", "Y"), Tablespace{Path: "/d/data/g.ibd", Flags: 2048, Encrypted: true}},
		{row("./u.ibu", "UNDO LOG", "0", "N"), Tablespace{Path: "/d/undo/u.ibu", Kind: SpaceUndo}},
		{row("./u/undo_001", "UNDO LOG", "0", "N"), Tablespace{Path: "/d/data/u/undo_001", Kind: SpaceUndo}},
		{row("./ibtmp1", "TEMPORARY", "0", ""), Tablespace{Path: "/d/data/ibtmp1", Kind: SpaceTemporary}},
		{row("./db/gone.ibd", "", "0", ""), Tablespace{Path: "/d/data/db/gone.ibd", Discarded: true}},
	} {
		test.want.ID, test.want.Name = innodb.SpaceID(7), "n"
		if got, err := v.tablespace(test.row); err != nil || got != test.want {
			t.Errorf("%+v, %v, want %+v", got, err, test.want)
		}
	}
	bad := row("./db/t.ibd", "TABLESPACE", "33", "N")
	for key, value := range map[string]string{"SPACE": "-1", "FLAG": "x", "PATH": "", "TYPE": "LOG"} {
		r := map[string]string{"SPACE": bad["SPACE"], "NAME": "n", "PATH": bad["PATH"], "TYPE": bad["TYPE"], "FLAG": bad["FLAG"]}
		r[key] = value
		if got, err := v.tablespace(r); err == nil {
			t.Errorf("%s = %q: %+v", key, value, got)
		}
	}
	if got := v.Directories(); !slices.Equal(got, []string{"/d/data/a", "/b/c", "/d/e"}) {
		t.Errorf("directories %q", got)
	}
	merged := merge57([]Tablespace{{ID: 0, Kind: SpaceSystem}, {ID: 2}, {ID: 3}}, []Tablespace{{ID: 2}, {ID: 9, Kind: SpaceUndo}})
	if len(merged) != 4 || merged[0].Discarded || merged[1].Discarded || !merged[2].Discarded || merged[3].ID != 9 {
		t.Errorf("%+v", merged)
	}
}

func TestMySQLGrants(t *testing.T) {
	e := &MissingPrivilegesError{User: "b@%", Missing: []Privilege{PrivBackupAdmin, PrivLogStatus, PrivProcess}}
	if want := "GRANT BACKUP_ADMIN, PROCESS ON *.* TO 'b'@'%'; GRANT SELECT ON performance_schema.log_status TO 'b'@'%';"; strings.Join(e.Grants(), " ") != want {
		t.Errorf("%s, want %s", strings.Join(e.Grants(), " "), want)
	}
	have := make(map[Privilege]bool)
	for _, line := range []string{"GRANT RELOAD, PROCESS, SUPER ON *.* TO `b`@`%`", "GRANT BACKUP_ADMIN,CONNECTION_ADMIN ON *.* TO `b`@`%`", "GRANT SELECT ON `performance_schema`.`log_status` TO `b`@`%`", "GRANT `r`@`%` TO `b`@`%`"} {
		addGlobalGrants(have, line)
	}
	have[PrivSelect] = true
	addGlobalGrants(have, "REVOKE SELECT ON `d`.* FROM `b`@`%`")
	d, err := SeriesOf(MySQL, Version{Major: 8, Patch: 30, Comment: community})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.missing(have, d.wanted(everything, true)); len(got) != 1 || got[0] != PrivSelect { // SUPER has the rest
		t.Errorf("missing %v", got)
	}
}
