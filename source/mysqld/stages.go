package mysqld

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A Stage is one of MariaDB's backup stages, in their order. Each includes what
// the earlier ones block. The first must be StageStart; of the others the server
// runs skipped ones by itself.
type Stage int

// The stages of MariaDB 10.5 and later.
const (
	StageNone        Stage = iota
	StageStart             // no other backup; DDL goes on and is logged
	StageFlush             // non-transactional tables not in use are flushed; new writes to them wait
	StageBlockDDL          // no CREATE, DROP, RENAME, TRUNCATE, start or end of ALTER
	StageBlockCommit       // no commit, no binary log write
	StageEnd               // all released
)

// String is the stage's name in SQL.
func (s Stage) String() string {
	switch s {
	case StageStart:
		return "START"
	case StageFlush:
		return "FLUSH"
	case StageBlockDDL:
		return "BLOCK_DDL"
	case StageBlockCommit:
		return "BLOCK_COMMIT"
	case StageEnd:
		return "END"
	}
	return "none"
}

// A StageTime says how one stage went.
type StageTime struct {
	Stage Stage
	Began time.Time     // when it was asked for
	Wait  time.Duration // how long the server took to grant it; what it blocks was held up meanwhile
	Held  time.Duration // from the grant to the next stage, or to now while it is the current one
}

// ErrLockLost means that a lock was, or may have been, lost while the backup
// relied on it: the backup is void.
var ErrLockLost = errors.New("the backup lock was lost: the backup is void")

// A LockTimeoutError means that the server did not grant a stage in time. The
// stage before is still held; the caller may try again or end.
type LockTimeoutError struct {
	Stage Stage
	After time.Duration
	Err   error
}

func (e *LockTimeoutError) Error() string {
	return fmt.Sprintf("BACKUP STAGE %v was not granted within %v: a long statement is in the way (see SHOW PROCESSLIST), or another backup: wait for it, or allow a longer lock wait: %v", e.Stage, e.After.Round(time.Millisecond), e.Err)
}

func (e *LockTimeoutError) Unwrap() error { return e.Err }

// Stages are the backup locks of one backup, on a connection of their own. A
// lost connection ends all stages on the server without a word: only Holding
// and End can tell.
type Stages struct {
	srv *Server

	mu      sync.Mutex
	conn    *session
	current Stage
	granted time.Time // of current
	times   []StageTime
	broken  error // why the locks are gone, if they were not released by End
}

// Stages returns the server's backup locks; nothing is locked yet.
func (s *Server) Stages() *Stages {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stages == nil {
		s.stages = &Stages{srv: s}
	}
	return s.stages
}

// The server's errors about locks.
const (
	erLockWaitTimeout = 1205
)

// Enter moves on to a stage. Except for a *LockTimeoutError, any error has
// released all the locks.
func (s *Stages) Enter(ctx context.Context, stage Stage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	if stage <= s.current || stage >= StageEnd || (s.current == StageNone && stage != StageStart) {
		return fmt.Errorf("backup stage %v cannot follow %v", stage, s.current)
	}
	if s.conn == nil {
		conn, err := s.srv.openPatient(ctx)
		if err != nil {
			return err
		}
		s.conn = conn
	}
	began := time.Now()
	err := s.conn.exec(ctx, "BACKUP STAGE "+stage.String())
	now := time.Now()
	my, fromServer := errors.AsType[*mysql.MySQLError](err)
	switch {
	case err == nil:
	case fromServer && my.Number == erLockWaitTimeout:
		return &LockTimeoutError{Stage: stage, After: now.Sub(began), Err: err}
	default:
		return s.fail(err)
	}
	s.leave(began)
	s.current, s.granted = stage, now
	s.times = append(s.times, StageTime{Stage: stage, Began: began, Wait: now.Sub(began)})
	return nil
}

// leave closes the account of the current stage at the moment t.
func (s *Stages) leave(t time.Time) {
	if n := len(s.times); n > 0 && s.current != StageNone {
		s.times[n-1].Held = t.Sub(s.granted)
	}
}

// fail hangs up, which releases everything on the server, and remembers why.
func (s *Stages) fail(err error) error {
	if s.current != StageNone {
		err = fmt.Errorf("%w: stage %v: %w", ErrLockLost, s.current, err)
	}
	s.leave(time.Now())
	s.broken = err
	s.current = StageNone
	s.kill()
	return errors.Join(err, s.hangUp())
}

// kill ends the lock connection from the server's side: a hang-up alone is
// noticed only by and by while a statement waits for its stage, and until then
// every later statement queues up behind it.
func (s *Stages) kill() {
	if s.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	// A failure says that the connection, or the server, is gone already.
	_ = s.srv.control.exec(ctx, "KILL "+s.conn.id)
}

func (s *Stages) hangUp() error {
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn = nil
	return conn.close()
}

// Holding proves that the locks were held without a break since they were
// granted: the very connection that took them still answers. A killed or lost
// connection cannot come back under its old number.
func (s *Stages) Holding(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holding(ctx)
}

func (s *Stages) holding(ctx context.Context) error {
	if s.broken != nil {
		return s.broken
	}
	if s.current == StageNone || s.conn == nil {
		return fmt.Errorf("%w: no stage is held", ErrLockLost)
	}
	row, err := s.conn.row(ctx, "SELECT CONNECTION_ID() AS id")
	if err != nil {
		return s.fail(err)
	}
	if row["id"] != s.conn.id {
		return s.fail(fmt.Errorf("connection %s answered in place of %s", row["id"], s.conn.id))
	}
	return nil
}

// Current is the stage held, StageNone if there is none.
func (s *Stages) Current() Stage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// End proves that the locks were held to this moment, and releases them. If it
// returns an error the backup is void, though the locks are released.
func (s *Stages) End(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.holding(ctx); err != nil {
		return err
	}
	if err := s.conn.exec(ctx, "BACKUP STAGE END"); err != nil {
		return s.fail(err)
	}
	s.leave(time.Now())
	s.current = StageNone
	return s.hangUp()
}

// Close releases whatever is still held, for every way out but End. After End
// it does nothing.
func (s *Stages) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	var err error
	if s.current != StageNone {
		// The caller's context may be over; hanging up alone would release
		// the locks too, but only when the server notices.
		ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
		defer cancel()
		if e := s.conn.exec(ctx, "BACKUP STAGE END"); e != nil && !errors.Is(e, ErrConnectionLost) {
			err = e
		}
		s.leave(time.Now())
		s.current = StageNone
		s.broken = fmt.Errorf("%w: released before its end", ErrLockLost)
	}
	return errors.Join(err, s.hangUp())
}

// Times says how long each stage took and was held so far.
func (s *Stages) Times() []StageTime {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := append([]StageTime(nil), s.times...)
	if n := len(out); n > 0 && s.current != StageNone {
		out[n-1].Held = time.Since(s.granted)
	}
	return out
}
