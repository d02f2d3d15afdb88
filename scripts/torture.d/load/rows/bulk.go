package rows

import (
	"context"
	"database/sql"
	"fmt"

	"hb/scripts/torture.d/load"
)

// bulk has transactions so large that undo tablespaces grow and are truncated,
// and rolls back every other one; another one stays open all the time. Rows are
// all there and of one generation.
type bulk struct {
	load.Quiet
	seed uint64
}

func NewBulk(r *load.Round, seed uint64) load.Load { return &bulk{seed: seed} }

const bulkRows = 5000

func (l *bulk) Prepare(ctx context.Context, db *sql.DB) error {
	return load.ExecAll(ctx, db, "CREATE DATABASE hb_t_bulk",
		"CREATE TABLE hb_t_bulk.b (id INT NOT NULL PRIMARY KEY, gen INT NOT NULL, pad VARCHAR(500) CHARACTER SET latin1 NOT NULL, KEY gen (gen, id)) ENGINE=InnoDB",
		fmt.Sprintf("INSERT INTO hb_t_bulk.b SELECT n, 0, REPEAT('b', 500) FROM %s WHERE n <= %d", load.Numbered, bulkRows),
		"CREATE TABLE hb_t_bulk.open (id INT NOT NULL PRIMARY KEY, v INT NOT NULL) ENGINE=InnoDB",
		fmt.Sprintf("INSERT INTO hb_t_bulk.open SELECT n, 1 FROM %s WHERE n <= 3000", load.Numbered))
}

func (l *bulk) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 2, l.seed, func(ctx context.Context, i int, s *load.Session) error {
		if i == 1 { // nobody ever commits this
			if err := s.Exec("BEGIN", "UPDATE hb_t_bulk.open SET v = 2", "DELETE FROM hb_t_bulk.open WHERE id % 3 = 0"); err != nil {
				return err
			}
			<-ctx.Done()
			return s.Exec("ROLLBACK")
		}
		for gen := 1; ctx.Err() == nil; gen++ {
			end := "COMMIT"
			if gen%2 == 0 {
				end = "ROLLBACK"
			}
			if err := s.Exec("BEGIN", fmt.Sprintf("UPDATE hb_t_bulk.b SET gen = %d, pad = REPEAT('%c', 1 + (id * %d) %% 500)", gen, 'a'+rune(gen%26), gen), end); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *bulk) Check(ctx context.Context, db *sql.DB) error {
	got, err := load.Row(ctx, db, "SELECT COUNT(*), COUNT(DISTINCT gen), SUM(id) FROM hb_t_bulk.b")
	if err != nil {
		return err
	}
	if want := fmt.Sprint([]int{bulkRows, 1, bulkRows * (bulkRows + 1) / 2}); got != want {
		return fmt.Errorf("rows, generations and sum are %s, want %s", got, want)
	}
	got, err = load.Row(ctx, db, "SELECT COUNT(*), SUM(v) FROM hb_t_bulk.open")
	if err == nil && got != "[3000 3000]" {
		err = fmt.Errorf("a transaction that was never committed has left its marks: %s, want [3000 3000]", got)
	}
	return err
}
