package load

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"
)

// statementTimeout bounds each statement of a load: a backup that blocks the
// server for longer is a finding of its own.
const statementTimeout = 2 * time.Minute

// Session is one connection of a load. A statement runs to its end whatever
// becomes of the round, so that the load knows what it did.
type Session struct {
	c   *sql.Conn
	Rnd *rand.Rand
}

// Sessions runs f in n connections until ctx is done or one of them fails.
func Sessions(ctx context.Context, db *sql.DB, n int, seed uint64, f func(ctx context.Context, i int, s *Session) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, n)
	for i := range n {
		go func() {
			c, err := db.Conn(context.WithoutCancel(ctx))
			if err != nil {
				errs <- err
				return
			}
			err = f(ctx, i, &Session{c, rand.New(rand.NewPCG(seed, uint64(i)))})
			errs <- errors.Join(err, c.Close())
		}()
	}
	var all []error
	for range n {
		err := <-errs
		if err != nil {
			cancel()
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Exec runs statements until one fails, or loses to another transaction: that is no
// failure, and rolls back.
func (s *Session) Exec(statements ...string) error {
	_, err := s.All(statements...)
	return err
}

// All is Exec that reports whether all statements were done.
func (s *Session) All(statements ...string) (done bool, err error) {
	for _, q := range statements {
		if done, err := s.Try(q); !done {
			if err == nil {
				_, err = s.Try("ROLLBACK")
			}
			return false, err
		}
	}
	return true, nil
}

// Try runs one statement and reports whether it was done: another transaction may
// have been in its way.
func (s *Session) Try(q string) (done bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	_, err = s.c.ExecContext(ctx, q)
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok && slices.Contains(conflicts, e.Number) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%.300s: %w", q, err)
	}
	return true, nil
}

// conflicts are the server's numbers of: lock wait timeout, deadlock, row changed
// since the snapshot, table definition changed.
var conflicts = []uint16{1205, 1213, 1020, 1412}

// ExecAll runs the statements that prepare a load.
func ExecAll(ctx context.Context, db *sql.DB, statements ...string) error {
	for _, q := range statements {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("%.300s: %w", q, err)
		}
	}
	return nil
}

// Row returns the first row of a query as one string.
func Row(ctx context.Context, db *sql.DB, q string) (string, error) {
	all, err := Table(ctx, db, q)
	if err != nil || len(all) == 0 {
		return "", err
	}
	return fmt.Sprint(all[0]), nil
}

// Table returns the rows of a query as strings; NULL is "".
func Table(ctx context.Context, db *sql.DB, q string) (out [][]string, err error) {
	rows, err := db.QueryContext(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("%.300s: %w", q, err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	vals, ptrs := make([]sql.NullString, len(cols)), make([]any, len(cols))
	for i := range vals {
		ptrs[i] = &vals[i]
	}
	for rows.Next() {
		if err := rows.Scan(ptrs...); err != nil {
			return nil, err
		}
		line := make([]string, len(cols))
		for i, v := range vals {
			line[i] = v.String
		}
		out = append(out, line)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%.300s: %w", q, err)
	}
	return out, nil
}

// Breathe waits a little, as whoever runs DDL does: without a pause, MySQL never
// grants LOCK INSTANCE FOR BACKUP.
func (s *Session) Breathe(ctx context.Context) {
	Sleep(ctx, time.Duration(5+s.Rnd.IntN(50))*time.Millisecond)
}

// Ignore forgets an error of the server that has one of these numbers.
func Ignore(err error, numbers ...uint16) error {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok && slices.Contains(numbers, e.Number) {
		return nil
	}
	return err
}

// Sleep waits, or until ctx is done.
func Sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// IgnoreGone forgets that a file is not there.
func IgnoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Digits is a table of ten rows, that others are made of.
const Digits = "hb_t.digits"

// Numbered is a derived table x with the numbers n from 1 to 10,000.
const Numbered = "(SELECT 1 + a.d + 10*b.d + 100*c.d + 1000*e.d AS n FROM " + Digits + " a, " + Digits + " b, " + Digits + " c, " + Digits + " e) x"

// NoSuchTable is the server's number of: the table does not exist.
const NoSuchTable = 1146
