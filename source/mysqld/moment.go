package mysqld

import (
	"context"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// A Moment is what a backup stands for: where all logs of the server are at one
// moment.
type Moment struct {
	// LSN is the end of the redo log, that of a mini-transaction. It may lie beyond
	// what is in the log's files: call FlushEngineLogs after.
	LSN    innodb.LSN
	Binlog *metadata.BinlogPos // nil: the binary log is off, and no GTID was ever executed
	// Purged is gtid_purged of MySQL 8.0 and later: executed, and in no binary log
	// that the server has.
	Purged  string
	Replica ReplicaState // where asked for
	Exact   bool         // Replica's coordinates are those of this moment
	Galera  *GaleraState // nil: not asked for, or no cluster
}

// Wanted says what a Moment is to have beside its positions.
type Wanted struct{ Replica, Galera bool }

// Moment takes position and LSN, which belong together only under a lock:
//
//   - Where the server has log_status, that holds all logs still by itself, but DDL
//     must wait: by is LockInstance's.
//   - Elsewhere nothing may commit from before the first question to after the
//     last: by is that of StageBlockCommit, LockGlobal or LockBinlog.
func (s *Server) Moment(ctx context.Context, by Held, w Wanted) (m Moment, err error) {
	need := BlocksCommits
	if s.Series.LogStatus {
		need = BlocksDDL
	}
	if by.Blocking()&need == 0 {
		return m, fmt.Errorf("%w: position and LSN were asked for without it", ErrLockLost)
	}
	if s.Series.LogStatus {
		err = s.statusMoment(ctx, w, &m)
	} else {
		err = s.stillMoment(ctx, w, &m)
	}
	return m, err
}

// statusMoment is Moment by log_status.
func (s *Server) statusMoment(ctx context.Context, w Wanted, m *Moment) error {
	st, err := s.LogStatus(ctx)
	if err != nil {
		return err
	}
	m.LSN, m.Binlog, m.Purged, m.Exact = st.LSN, st.Binlog, st.Purged, true
	if !w.Replica {
		return nil
	}
	if m.Replica, err = s.ReplicaState(ctx); err != nil {
		return err
	}
	m.Replica, m.Exact = m.Replica.At(st)
	return nil
}

// stillMoment is Moment while nothing can commit.
func (s *Server) stillMoment(ctx context.Context, w Wanted, m *Moment) (err error) {
	if m.Binlog, err = s.BinlogPosition(ctx); err != nil {
		return err
	}
	if m.Exact = true; w.Replica {
		if m.Replica, err = s.ReplicaState(ctx); err != nil {
			return err
		}
		m.Exact = len(m.Replica.Inexact()) == 0
	}
	if w.Galera {
		g, on, err := s.GaleraState(ctx)
		if err != nil {
			return err
		}
		if on {
			m.Galera = &g
		}
	}
	m.LSN, err = s.CurrentLSN(ctx)
	return err
}

// ReplicaIsExact reports whether the coordinates of this replica's sources can be
// taken while its appliers run. It is for before anything is locked.
func (s *Server) ReplicaIsExact(ctx context.Context) (bool, error) {
	state, err := s.ReplicaState(ctx)
	if err != nil || !s.Series.LogStatus {
		return len(state.Inexact()) == 0, err
	}
	st, err := s.LogStatus(ctx)
	if err != nil {
		return false, err
	}
	_, exact := state.At(st)
	return exact, nil
}
