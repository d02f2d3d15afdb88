package position

import (
	"context"
	"fmt"
	"strconv"

	"hb/source/mysqld"
	"hb/xbstream/metadata"
)

// Binlog returns the point of the binary log that a backup stands for,
// nil if the binary log is off (MySQL: and no GTID was ever executed). Its GTID is
// MariaDB's gtid_current_pos: what was written to the binary log here, and what
// was replicated from elsewhere; or MySQL's gtid_executed. It may be empty. Ask
// when nothing can commit: under StageBlockCommit, FLUSH TABLES WITH READ LOCK or
// LOCK BINLOG FOR BACKUP; on MySQL 8.0 and later ReadLogStatus needs none of them.
func Binlog(ctx context.Context, srv *mysqld.Server) (*metadata.BinlogPos, error) {
	on, _ := srv.Vars.LogBin()
	if !on && srv.Flavor == mysqld.MariaDB {
		return nil, nil
	}
	gtid := "SELECT @@global.gtid_executed AS p"
	if srv.Flavor == mysqld.MariaDB {
		gtid = "SELECT @@global.gtid_current_pos AS p"
	}
	row, err := srv.Control.Row(ctx, gtid)
	if err != nil {
		return nil, err
	}
	p := &metadata.BinlogPos{GTID: oneLine(row["p"])}
	if !on {
		if p.GTID == "" {
			return nil, nil
		}
		return p, nil
	}
	show := "SHOW MASTER STATUS"
	if srv.Series.BinlogStatus {
		show = "SHOW BINARY LOG STATUS"
	}
	if row, err = srv.Control.Row(ctx, show); err != nil {
		return nil, err
	}
	p.File = row["File"]
	if p.Pos, err = strconv.ParseUint(row["Position"], 10, 64); err != nil || p.File == "" {
		return nil, fmt.Errorf("%s: file %q, position %q is not a position", show, row["File"], row["Position"])
	}
	return p, nil
}

// A GaleraState is a cluster node's position.
type GaleraState struct {
	UUID     string
	SeqNo    string // last committed
	DomainID string // wsrep_gtid_domain_id
}

// FileText is the content of the Galera position file of that series:
// "UUID:SEQNO", later releases with " DOMAIN" after it.
func (g GaleraState) FileText(d mysqld.Series) string {
	if !d.GaleraDomain {
		return g.UUID + ":" + g.SeqNo + "\n"
	}
	return g.UUID + ":" + g.SeqNo + " " + g.DomainID + "\n"
}

// ReadGalera returns the node's position; ok is false if the server is not
// part of a cluster.
func ReadGalera(ctx context.Context, srv *mysqld.Server) (g GaleraState, ok bool, err error) {
	if !srv.Vars.Bool("wsrep_on") {
		return g, false, nil
	}
	m, err := srv.Status(ctx, "wsrep_%")
	if err != nil {
		return g, false, err
	}
	g.UUID, g.SeqNo = m["wsrep_local_state_uuid"], m["wsrep_last_committed"]
	g.DomainID = srv.Vars.String("wsrep_gtid_domain_id")
	if g.UUID == "" || g.SeqNo == "" {
		return g, false, fmt.Errorf("wsrep_on is ON, but the server has no Galera position (uuid %q, last committed %q)", g.UUID, g.SeqNo)
	}
	return g, true, nil
}
