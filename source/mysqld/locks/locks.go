package locks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"hb/source/mysqld"
)

// Blocks is what a lock blocks.
type Blocks uint8

// What locks block. None of them keeps readers waiting.
const (
	BlocksDDL     Blocks = 1 << iota // CREATE, DROP, ALTER and the like
	BlocksOthers                     // writes to non-transactional tables
	BlocksCommits                    // commits, and with them the binary log
)

// A Timing says how one lock, or one stage of MariaDB's lock, went. Whatever the lock
// blocks was blocked for Wait and Held: requests queue up behind a pending lock.
type Timing struct {
	Lock   string        // the statement, such as "BACKUP STAGE START"
	Blocks Blocks        // what it blocks
	Began  time.Time     // when it was asked for
	Wait   time.Duration // how long the server took to grant it
	Held   time.Duration // from the grant to the release or the next stage, or to now
	Stage  Stage         // of MariaDB, else StageNone
}

// Told is a Timing as programs are told of it.
type Told struct {
	Lock   string  `json:"lock"`
	Waited float64 `json:"waited_ms"`
	Held   float64 `json:"held_ms"`
}

// Told says, for programs, what was locked and for how long, in milliseconds.
func (l Timing) Told() Told {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return Told{l.Lock, ms(l.Wait), ms(l.Held)}
}

// MarshalJSON is Told as JSON.
func (l Timing) MarshalJSON() ([]byte, error) { return json.Marshal(l.Told()) }

// ErrLost means that a lock was, or may have been, lost while the backup
// relied on it: the backup is void.
var ErrLost = errors.New("the backup lock was lost: the backup is void")

// A TimeoutError means that the server did not grant a lock in time.
// Nothing queues up behind it any more. On MariaDB the stage before is still
// held; the caller may try again or end.
type TimeoutError struct {
	Lock  string // the statement
	After time.Duration
	// Cause is what is in the way; "" if a statement or another backup is.
	Cause string
	// Holders are the statements that seem to be in the way; it may be empty.
	Holders []Process
	Err     error
}

func (e *TimeoutError) Error() string {
	after := e.After.Round(time.Millisecond)
	text := fmt.Sprintf("%s was not granted within %v: %s", e.Lock, after, cmp.Or(e.Cause, "a long statement is in the way, or another backup"))
	switch {
	case errors.Is(e.Err, errNotAsked):
		text = fmt.Sprintf("%s was not asked for, because long statements ran for %v and more\nwait for them, or allow a longer wait with --ftwrl-wait-timeout", e.Lock, after)
	case errors.Is(e.Err, errGaveUp):
		text += fmt.Sprintf("\n%v\nwait for it, or allow a longer wait with --lock-wait-timeout", errGaveUp)
	default:
		text += "\nwait for it, or allow a longer wait with --lock-wait-timeout"
	}
	for _, p := range e.Holders {
		text += fmt.Sprintf("\n%v", p)
	}
	return text
}

// Whole is true: see package terminal.
func (e *TimeoutError) Whole() bool { return true }

func (e *TimeoutError) Unwrap() error { return e.Err }

// The server's errors when a lock is not granted in time, or never would be.
const (
	erLockWaitTimeout = 1205
	erDeadlock        = 1213
)

// A lockConn is a connection of its own that holds locks. A lost connection
// ends them on the server silently: only holding notices. Its methods
// want mu to be held.
type lockConn struct {
	srv     *mysqld.Server
	release string        // the statement that releases everything
	within  time.Duration // how long to wait for a lock; 0: Options.LockWait

	mu      sync.Mutex
	conn    *mysqld.Session
	held    bool
	granted time.Time // the newest lock
	times   []Timing
	broken  error // why the locks are gone, if they were not released by end
}

// A refusedError is the server's refusal of a lock for another reason than that it
// is held, which leaves the locks that were taken before.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// acquire asks for a lock by the statement that it is called by. After a
// *TimeoutError the locks held before are still held; any other error has
// released them all.
func (l *lockConn) acquire(ctx context.Context, t Timing) error {
	return l.ask(ctx, t, func() error { return l.conn.Exec(ctx, t.Lock) })
}

// ask is acquire for a lock that takes more than one statement. A request that the server
// ended because another program and hb would wait for each other is made again, for as
// long as hb waits for locks.
func (l *lockConn) ask(ctx context.Context, t Timing, take func() error) error {
	if l.broken != nil {
		return l.broken
	}
	if err := l.open(ctx); err != nil {
		return err
	}
	t.Began = time.Now()
	err := take()
	for isDeadlock(err) && time.Since(t.Began) < l.wait() && mysqld.Pause(ctx, mysqld.PollPause) == nil {
		err = take() // the other one may have ended
	}
	now := time.Now()
	my, fromServer := errors.AsType[*mysql.MySQLError](err)
	_, refused := errors.AsType[*refusedError](err)
	switch {
	case err == nil:
	case refused:
		return err
	case isDeadlock(err), fromServer && my.Number == erLockWaitTimeout:
		return &TimeoutError{Lock: t.Lock, After: now.Sub(t.Began), Err: err}
	default:
		return l.fail(err)
	}
	l.leave(t.Began)
	t.Wait = now.Sub(t.Began)
	l.held, l.granted = true, now
	l.times = append(l.times, t)
	return nil
}

// isDeadlock reports whether the server refused a lock because two would wait for each
// other; what they hold they keep.
func isDeadlock(err error) bool {
	my, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && my.Number == erDeadlock
}

func (l *lockConn) open(ctx context.Context) error {
	if l.conn != nil {
		return nil
	}
	conn, err := l.srv.Open(ctx)
	if err != nil {
		return err
	}
	l.conn = conn
	if l.within == 0 {
		return nil
	}
	return l.setWait(ctx)
}

// setWait has the server wait as long as wait says.
func (l *lockConn) setWait(ctx context.Context) error {
	return l.conn.Exec(ctx, fmt.Sprintf("SET SESSION lock_wait_timeout = %d", max(1, int64((l.wait()+time.Second-1)/time.Second))))
}

// wait is how long the lock is waited for.
func (l *lockConn) wait() time.Duration { return cmp.Or(l.within, l.srv.LockWait()) }

// leave closes the account of the newest lock at the moment t.
func (l *lockConn) leave(t time.Time) {
	if n := len(l.times); n > 0 && l.held {
		l.times[n-1].Held = t.Sub(l.granted)
	}
}

// fail hangs up, which releases everything on the server, and remembers why.
func (l *lockConn) fail(err error) error {
	if l.held {
		err = fmt.Errorf("%w: %s: %w", ErrLost, l.times[len(l.times)-1].Lock, err)
	}
	l.leave(time.Now())
	l.broken = err
	l.held = false
	l.kill()
	return errors.Join(err, l.hangUp())
}

// kill ends the lock connection from the server's side.
func (l *lockConn) kill() {
	if l.conn != nil {
		l.srv.Kill(l.conn)
	}
}

func (l *lockConn) hangUp() error {
	if l.conn == nil {
		return nil
	}
	conn := l.conn
	l.conn = nil
	return conn.Close()
}

// holding proves that the locks were held without a break since they were
// granted: the very connection that took them still answers. A killed or lost
// connection cannot come back under its old number.
func (l *lockConn) holding(ctx context.Context) error {
	if l.broken != nil {
		return l.broken
	}
	if !l.held || l.conn == nil {
		return fmt.Errorf("%w: none is held", ErrLost)
	}
	row, err := l.conn.Row(ctx, "SELECT CONNECTION_ID() AS id")
	if err != nil {
		return l.fail(err)
	}
	if row["id"] != l.conn.ID {
		return l.fail(fmt.Errorf("connection %s answered in place of %s", row["id"], l.conn.ID))
	}
	return nil
}

// end proves that the locks were held to this moment, and releases them.
func (l *lockConn) end(ctx context.Context) error {
	if err := l.holding(ctx); err != nil {
		return err
	}
	if err := l.conn.Exec(ctx, l.release); err != nil {
		return l.fail(err)
	}
	l.leave(time.Now())
	l.held = false
	l.broken = fmt.Errorf("%w: released", ErrLost)
	return l.hangUp()
}

// close releases whatever is still held, on every way out other than end.
func (l *lockConn) close() error {
	if l.conn == nil {
		return nil
	}
	var err error
	if l.held {
		// The caller's context may be over; only hanging up would release
		// the locks too, but only when the server notices.
		ctx, cancel := context.WithTimeout(context.Background(), mysqld.ReleaseTimeout)
		defer cancel()
		if e := l.conn.Exec(ctx, l.release); e != nil && !errors.Is(e, mysqld.ErrConnectionLost) {
			err = e
		}
		l.leave(time.Now())
		l.held = false
		l.broken = fmt.Errorf("%w: released before its end", ErrLost)
	}
	return errors.Join(err, l.hangUp())
}

// Times says how long each lock took and was held so far.
func (l *lockConn) Times() []Timing {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Clone(l.times)
	if n := len(out); n > 0 && l.held {
		out[n-1].Held = time.Since(l.granted)
	}
	return out
}

// Close releases whatever is still held, on every way out other than the regular
// end, after which it does nothing.
func (l *lockConn) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.close()
}

// Holding proves that the locks were held without a break since they were
// granted. The error is ErrLost if not: the backup is void.
func (l *lockConn) Holding(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holding(ctx)
}

// A Lock is one lock on the server, held by a connection of its own.
type Lock struct{ lockConn }

// Close releases the lock, on every way out other than Release, after which it does
// nothing. It does nothing on a nil Lock either.
func (l *Lock) Close() error {
	if l == nil {
		return nil
	}
	return l.lockConn.Close()
}

// Release proves that the lock was held to this moment, and releases it. If it
// returns an error the backup is void, though the lock is released.
func (l *Lock) Release(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end(ctx)
}

// Held is a lock, as the witness of what cannot happen while it is held.
type Held interface{ Blocking() Blocks }

// Blocking is what the locks that are held block.
func (l *lockConn) Blocking() (b Blocks) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.times {
		if l.held {
			b |= t.Blocks
		}
	}
	return b
}
