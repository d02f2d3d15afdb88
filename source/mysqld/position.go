package mysqld

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"hb/xbstream/metadata"
)

// BinlogPosition returns the point of the binary log that a backup stands for,
// nil if the binary log is off. Its GTID is gtid_current_pos: what was written
// to the binary log here, and what was replicated from elsewhere; it may be
// empty. Ask under StageBlockCommit.
func (s *Server) BinlogPosition(ctx context.Context) (*metadata.BinlogPos, error) {
	if on, _ := s.Vars.LogBin(); !on {
		return nil, nil
	}
	row, err := s.control.row(ctx, "SHOW MASTER STATUS")
	if err != nil {
		return nil, err
	}
	p := &metadata.BinlogPos{File: row["File"]}
	p.Pos, err = strconv.ParseUint(row["Position"], 10, 64)
	if err != nil || p.File == "" {
		return nil, fmt.Errorf("SHOW MASTER STATUS: file %q, position %q is no position", row["File"], row["Position"])
	}
	gtid, err := s.control.row(ctx, "SELECT @@global.gtid_current_pos AS p")
	p.GTID = gtid["p"]
	return p, err
}

// A ReplicaSource is one source of a replica: where a copy of this replica
// must go on reading.
type ReplicaSource struct {
	Name      string // of the connection; empty for the default one
	Host      string
	Port      string
	File      string // of the source's binary log, executed up to
	Pos       uint64
	UsingGTID bool
}

// ReplicaState is the state of all sources of a replica.
type ReplicaState struct {
	GTIDPos string // gtid_slave_pos
	Sources []ReplicaSource
}

// FileText is the content of the slave info file: the statements that make a
// restored copy a replica of the same sources. It is empty without a source.
func (r ReplicaState) FileText() string {
	var b strings.Builder
	gtid := false
	for _, src := range r.Sources {
		name := ""
		if src.Name != "" {
			name = quoteString(src.Name) + " "
		}
		if !src.UsingGTID {
			fmt.Fprintf(&b, "CHANGE MASTER %sTO MASTER_LOG_FILE=%s, MASTER_LOG_POS=%d;\n", name, quoteString(src.File), src.Pos)
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

// ReplicaState returns what the server replicates from. Take it under
// StageBlockCommit, when no replicated transaction can commit.
func (s *Server) ReplicaState(ctx context.Context) (ReplicaState, error) {
	var r ReplicaState
	rows, err := s.control.rows(ctx, "SHOW ALL SLAVES STATUS")
	if err != nil {
		return r, err
	}
	for _, row := range rows {
		src := ReplicaSource{
			Name: row["Connection_name"], Host: row["Master_Host"], Port: row["Master_Port"],
			File: row["Relay_Master_Log_File"],
			// "No", "Slave_Pos" or "Current_Pos".
			UsingGTID: row["Using_Gtid"] != "" && row["Using_Gtid"] != "No",
		}
		src.Pos, err = strconv.ParseUint(row["Exec_Master_Log_Pos"], 10, 64)
		if err != nil {
			return r, fmt.Errorf("SHOW ALL SLAVES STATUS: position %q of source %q is no position", row["Exec_Master_Log_Pos"], src.Name)
		}
		r.Sources = append(r.Sources, src)
	}
	row, err := s.control.row(ctx, "SELECT @@global.gtid_slave_pos AS p")
	r.GTIDPos = row["p"]
	return r, err
}

// A GaleraState is a cluster node's position.
type GaleraState struct {
	UUID     string
	SeqNo    string // last committed
	DomainID string // wsrep_gtid_domain_id
}

// FileText is the content of the Galera position file of that dialect:
// "UUID:SEQNO", later releases with " DOMAIN" after it.
func (g GaleraState) FileText(d Dialect) string {
	if !d.GaleraDomain {
		return g.UUID + ":" + g.SeqNo + "\n"
	}
	return g.UUID + ":" + g.SeqNo + " " + g.DomainID + "\n"
}

// GaleraState returns the node's position; ok is false if the server is not
// part of a cluster.
func (s *Server) GaleraState(ctx context.Context) (g GaleraState, ok bool, err error) {
	if !s.Vars.Bool("wsrep_on") {
		return g, false, nil
	}
	m, err := s.Status(ctx, "wsrep_%")
	if err != nil {
		return g, false, err
	}
	g.UUID, g.SeqNo = m["wsrep_local_state_uuid"], m["wsrep_last_committed"]
	g.DomainID = s.Vars.String("wsrep_gtid_domain_id")
	if g.UUID == "" || g.SeqNo == "" {
		return g, false, fmt.Errorf("wsrep_on is ON, but the server has no Galera position (uuid %q, last committed %q)", g.UUID, g.SeqNo)
	}
	return g, true, nil
}
