package ddl

import (
	"context"
	"database/sql"
	"fmt"

	"hb/scripts/torture.d/load"
)

// truncates empties tables and fills them again: tablespaces of which the server
// makes a new file, or, in 5.7, cuts the old one in its place. A table has no rows,
// or all of one filling, or the first of it.
type truncates struct {
	load.Quiet
	seed uint64
}

func NewTruncates(r *load.Round, seed uint64) load.Load { return &truncates{seed: seed} }

const truncateTables = 3

func truncateName(i int) string { return fmt.Sprintf("hb_t_trunc.`t%d`", i) }

func (l *truncates) Prepare(ctx context.Context, db *sql.DB) error {
	q := []string{"CREATE DATABASE hb_t_trunc"}
	for i := range truncateTables {
		clause := []string{"ROW_FORMAT=DYNAMIC", "ROW_FORMAT=COMPACT", "PARTITION BY HASH (id) PARTITIONS 2"}[i]
		q = append(q, "CREATE TABLE "+truncateName(i)+" (id INT NOT NULL PRIMARY KEY, turn INT NOT NULL, pad VARCHAR(300) CHARACTER SET latin1 NOT NULL, KEY turn (turn, id)) ENGINE=InnoDB "+clause)
	}
	return load.ExecAll(ctx, db, q...)
}

func (l *truncates) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 1, l.seed, func(ctx context.Context, _ int, s *load.Session) error {
		for turn := 1; ctx.Err() == nil; turn++ {
			name := truncateName(s.Rnd.IntN(truncateTables))
			rows := 200 + s.Rnd.IntN(2500)
			if err := s.Exec("TRUNCATE TABLE "+name,
				fmt.Sprintf("INSERT INTO %s SELECT n, %d, REPEAT('t', n %% 300) FROM %s WHERE n <= %d", name, turn, load.Numbered, rows),
				fmt.Sprintf("DELETE FROM %s WHERE id > %d", name, rows/2)); err != nil {
				return err
			}
			s.Breathe(ctx)
		}
		return nil
	})
}

func (l *truncates) Check(ctx context.Context, db *sql.DB) error {
	for i := range truncateTables {
		bad, err := load.Row(ctx, db, "SELECT * FROM (SELECT COUNT(*) c, COALESCE(MAX(id), 0) hi, COUNT(DISTINCT turn) d, SUM(LENGTH(pad) <> id % 300) b FROM "+truncateName(i)+") x WHERE c <> hi OR d > 1 OR b > 0")
		if err != nil {
			return err
		}
		if bad != "" {
			return fmt.Errorf("%s (rows, highest, fillings, bad): %s", truncateName(i), bad)
		}
	}
	return nil
}
