package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"
)

// A load writes to the server while it is backed up, and knows what a copy of the
// server must look like. Each kind is in a file of its own, load_*.go.
type load interface {
	prepare(ctx context.Context, db *sql.DB) error
	// run writes until ctx is done, and ends with no statement under way.
	run(ctx context.Context, db *sql.DB) error
	// began and ended tell it that the backup begins and has ended.
	began()
	ended()
	// check looks at a restored server.
	check(ctx context.Context, db *sql.DB) error
}

// tidier is a load that may leave on a copy what no check can look at.
type tidier interface {
	tidy(ctx context.Context, db *sql.DB) error
}

type loadKind struct {
	name string
	on   []string // the servers that can have it; nil: all
	make func(r *round, seed uint64) load
}

// loadKinds are all kinds. The first two are part of every plan.
var loadKinds = []loadKind{
	{name: "commits", make: newCommits},
	{name: "victim", make: newVictim},
	{name: "mixed", make: newMixed},
	{name: "renames", make: newRenames},
	{name: "indexes", make: newIndexes},
	{name: "plain", make: newPlain},
	{name: "truncates", make: newTruncates},
	{name: "imports", make: newImports},
	{name: "databases", make: newDatabases},
	{name: "partitions", make: newPartitions},
	{name: "columns", make: newColumns},
	{name: "bulk", make: newBulk},
	{name: "names", make: newNames},
	{name: "logs", make: newLogs},
	{name: "elsewhere", make: newElsewhere},
}

// loadNames are the kinds that a plan draws from.
func loadNames(server string) (out []string) {
	for _, k := range loadKinds[2:] {
		if k.on == nil || slices.Contains(k.on, server) {
			out = append(out, k.name)
		}
	}
	return out
}

// statementTimeout bounds each statement of a load: a backup that blocks the
// server for longer is a finding of its own.
const statementTimeout = 2 * time.Minute

// session is one connection of a load. A statement runs to its end whatever
// becomes of the round, so that the load knows what it did.
type session struct {
	c   *sql.Conn
	rnd *rand.Rand
}

// sessions runs f in n connections until ctx is done or one of them fails.
func sessions(ctx context.Context, db *sql.DB, n int, seed uint64, f func(ctx context.Context, i int, s *session) error) error {
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
			err = f(ctx, i, &session{c, rand.New(rand.NewPCG(seed, uint64(i)))})
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

// exec runs statements until one fails, or loses to another transaction: that is no
// failure, and rolls back.
func (s *session) exec(statements ...string) error {
	_, err := s.all(statements...)
	return err
}

// all is exec that reports whether all statements were done.
func (s *session) all(statements ...string) (done bool, err error) {
	for _, q := range statements {
		if done, err := s.try(q); !done {
			if err == nil {
				_, err = s.try("ROLLBACK")
			}
			return false, err
		}
	}
	return true, nil
}

// try runs one statement and reports whether it was done: another transaction may
// have been in its way.
func (s *session) try(q string) (done bool, err error) {
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

// execAll runs the statements that prepare a load.
func execAll(ctx context.Context, db *sql.DB, statements ...string) error {
	for _, q := range statements {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("%.300s: %w", q, err)
		}
	}
	return nil
}

// row returns the first row of a query as one string.
func row(ctx context.Context, db *sql.DB, q string) (string, error) {
	all, err := table(ctx, db, q)
	if err != nil || len(all) == 0 {
		return "", err
	}
	return fmt.Sprint(all[0]), nil
}

// table returns the rows of a query as strings; NULL is "".
func table(ctx context.Context, db *sql.DB, q string) (out [][]string, err error) {
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

// quiet is a load that does not care when the backup is.
type quiet struct{}

func (quiet) began() {}
func (quiet) ended() {}

// breathe waits a little, as whoever runs DDL does: without a pause, MySQL never
// grants LOCK INSTANCE FOR BACKUP.
func (s *session) breathe(ctx context.Context) {
	sleep(ctx, time.Duration(5+s.rnd.IntN(50))*time.Millisecond)
}

// ignore forgets an error of the server that has one of these numbers.
func ignore(err error, numbers ...uint16) error {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok && slices.Contains(numbers, e.Number) {
		return nil
	}
	return err
}
