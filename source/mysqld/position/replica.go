package position

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"hb/source/mysqld"
)

// replicaWords are a release's words for replication.
type replicaWords struct {
	status         string // the statement that lists all sources
	thread         string // "SLAVE" or "REPLICA", in START and STOP
	name           string // columns: the channel's or connection's name
	host, port     string
	file, pos      string // executed of the source's binary log
	applying       string
	openTempTables string // status variable
}

// words are those of this server.
func wordsOf(srv *mysqld.Server) replicaWords {
	w := replicaWords{
		status: "SHOW SLAVE STATUS", thread: "SLAVE", name: "Channel_Name", host: "Master_Host", port: "Master_Port",
		file: "Relay_Master_Log_File", pos: "Exec_Master_Log_Pos", applying: "Slave_SQL_Running", openTempTables: "Slave_open_temp_tables",
	}
	switch {
	case srv.Flavor == mysqld.MariaDB:
		w.status, w.name = "SHOW ALL SLAVES STATUS", "Connection_name"
	case srv.Series.ReplicaWords:
		w = replicaWords{
			status: "SHOW REPLICA STATUS", thread: "REPLICA", name: "Channel_Name", host: "Source_Host", port: "Source_Port",
			file: "Relay_Source_Log_File", pos: "Exec_Source_Log_Pos", applying: "Replica_SQL_Running", openTempTables: w.openTempTables,
		}
	}
	return w
}

// applier is the statement that starts or stops one source's applier thread.
func (w replicaWords) applier(verb, name string) string {
	switch {
	case name == "":
		return verb + " " + w.thread + " SQL_THREAD"
	case w.name == "Connection_name":
		return verb + " SLAVE " + mysqld.QuoteString(name) + " SQL_THREAD"
	}
	return verb + " " + w.thread + " SQL_THREAD FOR CHANNEL " + mysqld.QuoteString(name)
}

// A ReplicaSource is one source of a replica: where a copy of this replica
// must go on reading.
type ReplicaSource struct {
	Name      string // of the connection or channel; empty for the default one
	Host      string
	Port      string
	File      string // of the source's binary log, executed up to
	Pos       uint64
	UsingGTID bool // MySQL: auto-position
	Applying  bool // its applier thread runs
}

// ReplicaState is the state of all sources of a replica.
type ReplicaState struct {
	// GTIDPos is gtid_executed of MySQL. Of MariaDB it is gtid_slave_pos or, where
	// a source is followed from gtid_current_pos, that: it has what this server
	// wrote itself before it became a replica.
	GTIDPos string
	Sources []ReplicaSource

	flavor   mysqld.Flavor // 0 is MariaDB
	sources  bool          // Series.SourceWords
	parallel bool          // MySQL: several threads apply
	// unlogged: MySQL 8.0 and later, and applied transactions are written to no binary
	// log. Then nothing shows which of them are in the data at the moment of a
	// LogStatus: a session adds its GTID to gtid_executed after the engine's commit.
	unlogged bool
}

// groupReplication starts the names of the channels of group replication, which
// no CHANGE statement sets up.
const groupReplication = "group_replication_"

// ReadReplica returns what the server replicates from. Take it when no
// replicated transaction can commit: under StageBlockCommit, FLUSH TABLES WITH
// READ LOCK, LOCK BINLOG FOR BACKUP, or with the applier stopped by PauseReplica;
// without any of them see At.
func ReadReplica(ctx context.Context, srv *mysqld.Server) (ReplicaState, error) {
	r := ReplicaState{flavor: srv.Flavor, sources: srv.Series.SourceWords}
	vars, err := srv.Refresh(ctx) // which may change while the server runs
	if err != nil {
		return r, err
	}
	for _, name := range []string{"slave_parallel_workers", "replica_parallel_workers"} {
		n := vars.String(name)
		r.parallel = r.parallel || n != "" && n != "0"
	}
	on, _ := vars.LogBin()
	r.unlogged = srv.Series.LogStatus && (!on || !vars.Bool("log_slave_updates") && !vars.Bool("log_replica_updates"))
	w := wordsOf(srv)
	rows, err := srv.Control.Rows(ctx, w.status)
	if err != nil {
		return r, err
	}
	gtid := "gtid_executed"
	if srv.Flavor == mysqld.MariaDB {
		gtid = "gtid_slave_pos"
	}
	for _, row := range rows {
		if row["Using_Gtid"] == "Current_Pos" {
			gtid = "gtid_current_pos"
		}
		src := ReplicaSource{
			Name: row[w.name], Host: row[w.host], Port: row[w.port], File: row[w.file],
			// MariaDB: "No", "Slave_Pos" or "Current_Pos".
			UsingGTID: row["Auto_Position"] == "1" || (row["Using_Gtid"] != "" && row["Using_Gtid"] != "No"),
			Applying:  row[w.applying] == "Yes",
		}
		if strings.HasPrefix(src.Name, groupReplication) && srv.Flavor == mysqld.MySQL {
			continue
		}
		src.Pos, err = strconv.ParseUint(row[w.pos], 10, 64)
		if err != nil {
			return r, fmt.Errorf("%s: position %q of source %q is not a number", w.status, row[w.pos], src.Name)
		}
		r.Sources = append(r.Sources, src)
	}
	row, err := srv.Control.Row(ctx, "SELECT @@global."+gtid+" AS p")
	r.GTIDPos = oneLine(row["p"])
	return r, err
}

// Inexact are the sources whose coordinates may lie before transactions in the data,
// so that a copy would apply transactions twice: MySQL's, if they are followed by
// file and position and several threads apply their transactions: those record their
// position only from time to time. PauseReplica makes them exact.
func (r ReplicaState) Inexact() []ReplicaSource {
	var out []ReplicaSource
	for _, src := range r.Sources {
		if r.flavor == mysqld.MySQL && r.parallel && src.Applying && !src.UsingGTID {
			out = append(out, src)
		}
	}
	return out
}

// At is the state at the moment of a LogStatus that was taken without blocking
// commits: its GTID set, and the coordinates of Percona Server's log_status.
// exact is false if a running source that is followed by file and position has no
// coordinates of that moment: then they may lie beyond, and such a copy would
// miss transactions; or it is Inexact; or the GTID set may lack transactions that
// are in no binary log.
func (r ReplicaState) At(st LogStatus) (_ ReplicaState, exact bool) {
	exact = len(r.Inexact()) == 0
	if st.Binlog != nil {
		r.GTIDPos = st.Binlog.GTID
	}
	channels := make(map[string]LogChannel)
	for _, c := range st.Channels {
		channels[c.Name] = c
	}
	sources := make([]ReplicaSource, len(r.Sources))
	for i, src := range r.Sources {
		if r.unlogged && src.Applying {
			exact = false
		}
		if c := channels[src.Name]; c.SourceLog != "" {
			src.File, src.Pos = c.SourceLog, c.SourcePos
		} else if !src.UsingGTID && src.Applying {
			exact = false
		}
		sources[i] = src
	}
	r.Sources = sources
	return r, exact
}

// FileText is the content of the slave info file: the statements that make a
// restored copy a replica of the same sources, as the release's own tool (on
// MySQL, XtraBackup) writes them. It is empty without a source.
func (r ReplicaState) FileText() string {
	if r.flavor == mysqld.MySQL {
		return r.mysqlText()
	}
	var b strings.Builder
	gtid := false
	for _, src := range r.Sources {
		name := ""
		if src.Name != "" {
			name = mysqld.QuoteString(src.Name) + " "
		}
		// Without any GTID the source would send all that it ever wrote: where
		// some of it was applied, the coordinates have the end of that.
		if !src.UsingGTID || r.GTIDPos == "" && src.File != "" {
			fmt.Fprintf(&b, "CHANGE MASTER %sTO MASTER_LOG_FILE=%s, MASTER_LOG_POS=%d;\n", name, mysqld.QuoteString(src.File), src.Pos)
			continue
		}
		if !gtid {
			fmt.Fprintf(&b, "SET GLOBAL gtid_slave_pos = '%s';\n", r.GTIDPos)
			gtid = true
		}
		fmt.Fprintf(&b, "CHANGE MASTER %sTO master_use_gtid = slave_pos;\n", name)
	}
	return b.String()
}

func (r ReplicaState) mysqlText() string {
	change, prefix := "CHANGE MASTER TO ", "MASTER_"
	if r.sources {
		change, prefix = "CHANGE REPLICATION SOURCE TO ", "SOURCE_"
	}
	var b strings.Builder
	gtid := false
	for _, src := range r.Sources {
		channel := ""
		if src.Name != "" {
			channel = " FOR CHANNEL " + mysqld.QuoteString(src.Name)
		}
		if !src.UsingGTID {
			fmt.Fprintf(&b, "%s%sLOG_FILE=%s, %sLOG_POS=%d%s;\n", change, prefix, mysqld.QuoteString(src.File), prefix, src.Pos, channel)
			continue
		}
		if !gtid {
			fmt.Fprintf(&b, "SET GLOBAL gtid_purged='%s';\n", r.GTIDPos)
			gtid = true
		}
		fmt.Fprintf(&b, "%s%sAUTO_POSITION=1%s;\n", change, prefix, channel)
	}
	return b.String()
}
