package locks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld"
)

// An FTWRL says how FLUSH TABLES WITH READ LOCK is taken. The zero value asks at
// once and kills nobody but itself.
type FTWRL struct {
	// WaitTimeout is how long to wait, before the lock is asked for, until no
	// statement of WaitQueryType has run for WaitThreshold or longer; 0: do
	// not wait. If they do not end in time, the error is a *TimeoutError
	// and nothing was locked.
	WaitTimeout time.Duration `name:"ftwrl-wait-timeout" help:"How long to wait for long-running statements to finish before FLUSH TABLES WITH READ LOCK (default 0: do not wait)." placeholder:"SECONDS"`
	// WaitThreshold is in whole seconds; 0: DefaultWaitThreshold.
	WaitThreshold time.Duration `name:"ftwrl-wait-threshold" help:"Wait for statements that have run for at least this time (default 60)." placeholder:"SECONDS"`
	WaitQueryType QueryType     `name:"ftwrl-wait-query-type" help:"Statements to wait for: all, update or select (default all)." placeholder:"TYPE" complete:"all,update,select"`

	// KillTimeout is how long statements may block the lock once it was asked
	// for, until those of KillQueryType are killed (KILL QUERY); 0: never.
	KillTimeout   time.Duration `name:"kill-long-queries-timeout" help:"Kill statements that block the lock for longer than this (default 0: never)." placeholder:"SECONDS"`
	KillQueryType QueryType     `name:"kill-long-query-type" help:"Statements to kill: all, update or select (default all)." placeholder:"TYPE" complete:"all,update,select"`

	// Killed is told, from another goroutine, of each statement that was
	// killed; it may be nil.
	Killed func(Process) `kong:"-"`
}

// DefaultWaitThreshold is XtraBackup's.
const DefaultWaitThreshold = 60 * time.Second

// The lock's statements. Flushing first leaves less to do under the lock; it
// waits for the same statements, but does not yet hold up writers of other
// tables.
const (
	flushTables = "FLUSH NO_WRITE_TO_BINLOG TABLES"
	globalLock  = "FLUSH TABLES WITH READ LOCK"
)

// Global takes FLUSH TABLES WITH READ LOCK: no DDL, no write to any table, no
// commit. Server.Close releases it. While Instance is held it is not granted
// if DDL waits for that one (seen on 9.7.4): see Lock.HoldTables.
//
// Before the lock is asked for, tables are flushed, so that little is left to do
// under it. Both waits together last at most Options.LockWait: then hb kills its
// own statement, so that the writers which queue up behind it go on, and the
// error is a *TimeoutError that names who was in the way. (Statements that
// use the very tables of those go on waiting for them, in MySQL 5.6, 5.7 and 9.7:
// a flush cannot be taken back.)
func (s *Set) Global(ctx context.Context, p FTWRL) (_ *Lock, err error) {
	watch, err := s.srv.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, watch.Close()) }()
	if err := awaitLong(ctx, s.srv, watch, p); err != nil {
		return nil, err
	}
	l := s.newLock("UNLOCK TABLES")
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.open(ctx); err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, s.srv.LockWait())
	defer cancel()
	stop := killLong(bounded, s.srv, watch, p, l.conn.ID)
	began := time.Now()
	err = l.conn.Exec(bounded, flushTables)
	if err == nil {
		err = l.acquire(bounded, Timing{Lock: globalLock, Blocks: BlocksDDL | BlocksOthers | BlocksCommits})
	}
	stop()
	if err == nil {
		return l, nil
	}
	return nil, s.notGranted(ctx, l, watch, began, err)
}

// errNotAsked is why a lock was not even asked for.
var errNotAsked = errors.New("nothing was locked")

// errGaveUp is why a lock that was asked for is not held.
var errGaveUp = errors.New("hb took its request back, so that the writers behind it go on; statements that use the tables of those in the way still wait for them")

// notGranted makes the error of a lock that was not granted since began, and
// takes the request back.
func (s *Set) notGranted(ctx context.Context, l *Lock, watch *mysqld.Session, began time.Time, err error) error {
	own := ""
	if l.conn != nil {
		own = l.conn.ID
	}
	l.kill()
	err = errors.Join(err, l.hangUp())
	my, fromServer := errors.AsType[*mysql.MySQLError](err)
	inTime := fromServer && my.Number == erLockWaitTimeout
	if !inTime && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
		return err
	}
	e := &TimeoutError{Lock: globalLock, After: time.Since(began), Err: errGaveUp}
	// The other connection may have ended with the request's context.
	list, err := processes(ctx, s.srv, s.srv.Control, own, watch.ID)
	if err != nil {
		e.Err = errors.Join(e.Err, err)
	}
	e.Holders = blockers(list, e.After)
	return e
}

// awaitLong waits until no long statement runs.
func awaitLong(ctx context.Context, srv *mysqld.Server, watch *mysqld.Session, p FTWRL) error {
	if p.WaitTimeout <= 0 {
		return nil
	}
	threshold := p.WaitThreshold
	if threshold <= 0 {
		threshold = DefaultWaitThreshold
	}
	for began := time.Now(); ; {
		list, err := processes(ctx, srv, watch)
		if err != nil {
			return err
		}
		long := slices.DeleteFunc(list, func(q Process) bool { return q.Time < threshold || !p.WaitQueryType.includes(q.Statement) })
		if len(long) == 0 {
			return nil
		}
		if after := time.Since(began); after >= p.WaitTimeout {
			return &TimeoutError{Lock: globalLock, After: after, Holders: long, Err: errNotAsked}
		}
		if err := mysqld.Pause(ctx, mysqld.PollPause); err != nil {
			return err
		}
	}
}

// killLong starts to watch over a lock that is about to be asked for on the
// connection own, and kills statements in its way after KillTimeout. The returned
// function ends it and waits for its end.
func killLong(ctx context.Context, srv *mysqld.Server, watch *mysqld.Session, p FTWRL, own string) (stop func()) {
	if p.KillTimeout <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	began := time.Now()
	go func() {
		defer close(done)
		wait := p.KillTimeout
		for mysqld.Pause(ctx, wait) == nil {
			wait = mysqld.PollPause
			list, err := processes(ctx, srv, watch, own)
			if err != nil {
				return // the lock's own timeout ends the wait
			}
			for _, q := range blockers(list, time.Since(began)) {
				if p.KillQueryType.includes(q.Statement) && watch.Exec(ctx, fmt.Sprintf("KILL QUERY %d", q.ID)) == nil && p.Killed != nil {
					p.Killed(q)
				}
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
