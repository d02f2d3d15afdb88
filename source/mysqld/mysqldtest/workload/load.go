package workload

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// statementTimeout bounds each statement of the load: a backup that blocks the
// server for longer than this is an error of its own.
const statementTimeout = 3 * time.Minute

// Load is a prepared load on one server.
type Load struct {
	db *sql.DB
	d  *dialect
	o  Options

	mu    sync.Mutex
	stats Stats
}

// Stats is what a load has done so far.
type Stats struct {
	Writers []WriterStats
	DDL     map[string]int // statements done, by kind
	DDLMax  Stall          // the longest DDL statement
}

// WriterStats is what one writer has done so far.
type WriterStats struct {
	Transactions int // committed
	Rollbacks    int // on purpose, or forced by a deadlock
	Statements   int
	Max          Stall // the longest statement since the start or [Load.ResetStalls]
}

// Stall is one statement's latency.
type Stall struct {
	For       time.Duration
	At        time.Time // when the statement ended
	Statement string
}

// MaxStall returns the longest statement of any writer.
func (s Stats) MaxStall() Stall {
	var m Stall
	for _, w := range s.Writers {
		if w.Max.For > m.For {
			m = w.Max
		}
	}
	return m
}

// Transactions returns the number of transactions that all writers committed.
func (s Stats) Transactions() int {
	n := 0
	for _, w := range s.Writers {
		n += w.Transactions
	}
	return n
}

// DDLCount returns the number of DDL statements of all kinds.
func (s Stats) DDLCount() int {
	n := 0
	for _, c := range s.DDL {
		n += c
	}
	return n
}

func newLoad(db *sql.DB, d *dialect, o Options) *Load {
	return &Load{db: db, d: d, o: o, stats: Stats{Writers: make([]WriterStats, o.Writers), DDL: map[string]int{}}}
}

// Stats returns what the load has done so far; it may be called while it runs.
func (l *Load) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Writers = append([]WriterStats(nil), s.Writers...)
	s.DDL = maps.Clone(s.DDL)
	return s
}

// ResetStalls forgets the longest statements so far, so that those of a window
// can be measured.
func (l *Load) ResetStalls() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.stats.Writers {
		l.stats.Writers[i].Max = Stall{}
	}
	l.stats.DDLMax = Stall{}
}

// Run runs the load until ctx is done, which is no error, and ends with no
// statement under way. It may be called again afterwards.
func (l *Load) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	errs := make([]error, l.o.Writers+1)
	run := func(i int, f func(context.Context, *session) error) {
		wg.Go(func() {
			if errs[i] = l.session(ctx, i, f); errs[i] != nil {
				cancel(errs[i])
			}
		})
	}
	for i := range l.o.Writers {
		run(i, l.write)
	}
	if l.o.DDLRate > 0 {
		run(l.o.Writers, l.runDDL)
	}
	wg.Wait()
	return errors.Join(errs...)
}

// session is one connection of the load. Its statements are not bound to the
// load's context: each runs to its end, so that what the load believes of the
// database is true.
type session struct {
	l   *Load
	c   *sql.Conn
	id  int // 0 ... Writers-1, or Writers for DDL
	rnd *rand.Rand
}

func (l *Load) session(ctx context.Context, id int, f func(context.Context, *session) error) (err error) {
	c, err := l.db.Conn(context.WithoutCancel(ctx))
	if err != nil {
		return fmt.Errorf("writer %d: %w", id, err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	s := &session{l: l, c: c, id: id, rnd: rand.New(rand.NewPCG(l.o.Seed, uint64(id)))}
	if err := f(ctx, s); err != nil {
		return fmt.Errorf("writer %d: %w", id, err)
	}
	return nil
}

// pace waits for the next turn at rate a second, and reports whether there is one.
func pace(ctx context.Context, start time.Time, rate float64) bool {
	d := time.Duration(float64(time.Second)/rate) - time.Since(start)
	if d < 0 {
		d = 0
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return ctx.Err() == nil
	}
}

// exec runs one statement and notes how long it took.
func (s *session) exec(q string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	start := time.Now()
	_, err := s.c.ExecContext(ctx, q, args...)
	s.note(q, start)
	if err != nil {
		if len(q) > 300 {
			q = q[:300] + "..."
		}
		return fmt.Errorf("%s: %w", q, err)
	}
	return nil
}

// execAll runs statements until one fails.
func (s *session) execAll(qs ...string) error {
	for _, q := range qs {
		if err := s.exec(q); err != nil {
			return err
		}
	}
	return nil
}

// ints returns the first column of a query's rows.
func (s *session) ints(q string, args ...any) ([]int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	start := time.Now()
	rows, err := s.c.QueryContext(ctx, q, args...)
	s.note(q, start)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q, err)
	}
	defer rows.Close()
	var out []int64
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, fmt.Errorf("%s: %w", q, err)
		}
		out = append(out, n)
	}
	return out, rows.Err()
}

func (s *session) note(q string, start time.Time) {
	now := time.Now()
	st := Stall{For: now.Sub(start), At: now, Statement: q}
	if len(q) > 200 {
		st.Statement = q[:200]
	}
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	if s.id == s.l.o.Writers {
		if st.For > s.l.stats.DDLMax.For {
			s.l.stats.DDLMax = st
		}
		return
	}
	w := &s.l.stats.Writers[s.id]
	w.Statements++
	if st.For > w.Max.For {
		w.Max = st
	}
}

// transaction runs f in a transaction, which it rolls back if f says so or the
// server forced it (deadlock, lock wait, changed snapshot).
func (s *session) transaction(f func() (commit bool, err error)) error {
	if err := s.exec("BEGIN"); err != nil {
		return err
	}
	commit, err := f()
	if err != nil && !conflict(err) {
		return err
	}
	end := "ROLLBACK"
	if err == nil && commit {
		end = "COMMIT"
	}
	if err := s.exec(end); err != nil {
		return err
	}
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	if end == "COMMIT" {
		s.l.stats.Writers[s.id].Transactions++
	} else {
		s.l.stats.Writers[s.id].Rollbacks++
	}
	return nil
}

// conflict reports whether the server refused a statement because of another
// transaction: lock wait timeout, deadlock, or (MariaDB 11.6 and later, with
// innodb_snapshot_isolation) a row that changed since the snapshot.
func conflict(err error) bool {
	return hasNumber(err, 1205) || hasNumber(err, 1213) || hasNumber(err, 1020)
}

// hasNumber reports whether err is the server's error of that number.
func hasNumber(err error, n uint16) bool {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && e.Number == n
}
