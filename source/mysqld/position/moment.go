// Package position asks a server for the positions of its logs: the redo log's LSNs,
// the binary log, the sources of a replica, Galera. Take reads all of them at one
// moment. RegisterRedoConsumer and PauseReplica have the server help: it keeps redo,
// and stops a replica's appliers.
package position

import (
	"context"
	"fmt"

	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// A Moment is what a backup stands for: where all logs of the server are at one
// moment.
type Moment struct {
	// LSN is the end of the redo log, and of a mini-transaction. The log's files may not
	// reach so far: call FlushEngineLogs after.
	LSN    innodb.LSN
	Binlog *metadata.BinlogPos // nil: the binary log is off, and no GTID was ever executed
	// Purged is gtid_purged of MySQL 8.0 and later: executed, and in no binary log
	// that the server has.
	Purged  string
	Replica ReplicaState // where asked for
	Exact   bool         // Replica's coordinates are those of this moment
	Galera  *GaleraState // nil: not asked for, or no cluster
}

// Wanted is what a Moment has beside its positions.
type Wanted struct{ Replica, Galera bool }

// Take takes position and LSN, which belong together only under a lock:
//
//   - Where the server has log_status, that holds all logs still by itself, but DDL
//     must wait: by is that of locks.Set.Instance.
//   - Elsewhere nothing may commit from before the first question to after the
//     last: by is that of locks.StageBlockCommit, Set.Global or Set.Binlog.
func Take(ctx context.Context, srv *mysqld.Server, by locks.Held, w Wanted) (m Moment, err error) {
	need := locks.BlocksCommits
	if srv.Series.LogStatus {
		need = locks.BlocksDDL
	}
	if by.Blocking()&need == 0 {
		return m, fmt.Errorf("%w: position and LSN were asked for without it", locks.ErrLost)
	}
	if srv.Series.LogStatus {
		err = statusMoment(ctx, srv, w, &m)
	} else {
		err = stillMoment(ctx, srv, w, &m)
	}
	return m, err
}

// statusMoment is Take by log_status.
func statusMoment(ctx context.Context, srv *mysqld.Server, w Wanted, m *Moment) error {
	st, err := ReadLogStatus(ctx, srv)
	if err != nil {
		return err
	}
	m.LSN, m.Binlog, m.Purged, m.Exact = st.LSN, st.Binlog, st.Purged, true
	if !w.Replica {
		return nil
	}
	if m.Replica, err = ReadReplica(ctx, srv); err != nil {
		return err
	}
	m.Replica, m.Exact = m.Replica.At(st)
	return nil
}

// stillMoment is Take while nothing can commit.
func stillMoment(ctx context.Context, srv *mysqld.Server, w Wanted, m *Moment) (err error) {
	if m.Binlog, err = Binlog(ctx, srv); err != nil {
		return err
	}
	if m.Exact = true; w.Replica {
		if m.Replica, err = ReadReplica(ctx, srv); err != nil {
			return err
		}
		m.Exact = len(m.Replica.Inexact()) == 0
	}
	if w.Galera {
		g, on, err := ReadGalera(ctx, srv)
		if err != nil {
			return err
		}
		if on {
			m.Galera = &g
		}
	}
	m.LSN, err = CurrentLSN(ctx, srv)
	return err
}

// ReplicaIsExact reports whether the coordinates of this replica's sources can be
// taken while its appliers run. It is for before anything is locked.
func ReplicaIsExact(ctx context.Context, srv *mysqld.Server) (bool, error) {
	state, err := ReadReplica(ctx, srv)
	if err != nil || !srv.Series.LogStatus {
		return len(state.Inexact()) == 0, err
	}
	st, err := ReadLogStatus(ctx, srv)
	if err != nil {
		return false, err
	}
	_, exact := state.At(st)
	return exact, nil
}
