// Package rows has the loads that write rows: committed or not, many at a time, to engines
// without transactions, to tables that are elsewhere; and the victim, to which nobody writes.
package rows

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"hb/scripts/torture.d/load"
)

// commits has sessions that number their rows: what was committed before the
// backup began must be there, nothing that was not tried before it ended, and
// nothing in between may be missing. The rows can be counted in the binary log
// too (package oracle). Session 1 commits two rows at a time, session 2 rolls back
// every third.
type commits struct {
	seed         uint64
	tried, acked [commitSessions]atomic.Int64
	lowest, most [commitSessions]int64
	pause        time.Duration
}

const (
	commitSessions = 4
	CommitTable    = "hb_t_commits.c"
	emptyDB        = "hb_t_empty" // has no table: since MySQL 8.0 no file either
)

func NewCommits(r *load.Round, seed uint64) load.Load {
	return &commits{seed: seed, pause: time.Duration(seed%4) * time.Millisecond}
}

func (l *commits) Prepare(ctx context.Context, db *sql.DB) error {
	return load.ExecAll(ctx, db, "CREATE DATABASE hb_t_commits", "CREATE DATABASE "+emptyDB,
		"CREATE TABLE "+CommitTable+" (s INT NOT NULL, n INT NOT NULL, pad VARCHAR(200) CHARACTER SET latin1 NOT NULL, PRIMARY KEY (s, n), KEY pad (pad)) ENGINE=InnoDB")
}

func (l *commits) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, commitSessions, l.seed, func(ctx context.Context, i int, s *load.Session) error {
		insert := func(n int64) string {
			return fmt.Sprintf("INSERT INTO %s VALUES (%d, %d, REPEAT('%c', %d))", CommitTable, i, n, 'a'+rune(s.Rnd.IntN(26)), s.Rnd.IntN(200))
		}
		rows := int64(1)
		if i == 1 {
			rows = 2
		}
		for n, turn := int64(0), 1; ctx.Err() == nil; turn++ {
			q := []string{"BEGIN"}
			for k := range rows {
				q = append(q, insert(n+k+1))
			}
			q = append(q, "COMMIT")
			if i == 2 && turn%3 == 0 {
				q[len(q)-1] = "ROLLBACK"
				if err := s.Exec(q...); err != nil {
					return err
				}
				continue
			}
			if i == 0 || i == 3 {
				q = q[1:2] // autocommit
			}
			l.tried[i].Store(n + rows)
			done, err := s.All(q...)
			if err != nil {
				return err
			}
			if !done {
				continue
			}
			n += rows
			l.acked[i].Store(n)
			load.Sleep(ctx, l.pause)
		}
		return nil
	})
}

func (l *commits) Began() {
	for i := range l.acked {
		l.lowest[i] = l.acked[i].Load()
	}
}

func (l *commits) Ended() {
	for i := range l.tried {
		l.most[i] = l.tried[i].Load()
	}
}

// usable makes a table in a database, and drops it: MySQL 8 and later show a database
// whose directory is missing. No replica hears of it.
func usable(ctx context.Context, db *sql.DB, name string) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	for _, q := range []string{"SET SESSION sql_log_bin = 0", "CREATE TABLE " + name + ".t (i INT) ENGINE=InnoDB", "DROP TABLE " + name + ".t", "SET SESSION sql_log_bin = 1"} {
		if _, err := c.ExecContext(ctx, q); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", q, err), c.Close())
		}
	}
	return c.Close()
}

func (l *commits) Check(ctx context.Context, db *sql.DB) error {
	if err := usable(ctx, db, emptyDB); err != nil {
		return err
	}
	for i := range commitSessions {
		got, err := load.Table(ctx, db, fmt.Sprintf("SELECT COUNT(*), COALESCE(MAX(n), 0), COALESCE(MIN(n), 1) FROM %s WHERE s = %d", CommitTable, i))
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(got[0][0], 10, 64)
		if err != nil {
			return err
		}
		switch {
		case got[0][1] != got[0][0] || got[0][2] != "1":
			return fmt.Errorf("commits of session %d: %s rows from %s to %s: some are missing", i, got[0][0], got[0][2], got[0][1])
		case n < l.lowest[i] || n > l.most[i]:
			return fmt.Errorf("commits of session %d: %d rows, but %d were committed when the backup began, and %d when it ended", i, n, l.lowest[i], l.most[i])
		case i == 1 && n%2 != 0:
			return fmt.Errorf("commits of session 1: %d rows: half a transaction", n)
		}
	}
	return nil
}
