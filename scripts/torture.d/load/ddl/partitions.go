package ddl

import (
	"context"
	"database/sql"
	"fmt"

	"hb/scripts/torture.d/load"
)

// partitions exchanges partitions with a table, and drops, adds, rebuilds and
// empties partitions. Every row says where it belongs.
type partitions struct {
	load.Quiet
	seed uint64
}

func NewPartitions(r *load.Round, seed uint64) load.Load { return &partitions{seed: seed} }

const (
	partsName   = "hb_t_part.p"
	partsSingle = "hb_t_part.single"
	partsRows   = 1000 // of each partition
)

func (l *partitions) Prepare(ctx context.Context, db *sql.DB) error {
	const cols = " (id INT NOT NULL PRIMARY KEY, v INT NOT NULL, pad VARCHAR(200) CHARACTER SET latin1 NOT NULL, KEY v (v)) ENGINE=InnoDB"
	return load.ExecAll(ctx, db, "CREATE DATABASE hb_t_part",
		"CREATE TABLE "+partsName+cols+" PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (1001), PARTITION p1 VALUES LESS THAN (2001), PARTITION p2 VALUES LESS THAN (3001))",
		"CREATE TABLE "+partsSingle+cols,
		fmt.Sprintf("INSERT INTO %s SELECT n, n * 3, REPEAT('p', n %% 200) FROM %s WHERE n <= 3000", partsName, load.Numbered),
		fmt.Sprintf("INSERT INTO %s SELECT n, n * 3, REPEAT('p', n %% 200) FROM %s WHERE n BETWEEN 1001 AND 2000", partsSingle, load.Numbered))
}

func (l *partitions) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 1, l.seed, func(ctx context.Context, _ int, s *load.Session) error {
		for ; ctx.Err() == nil; s.Breathe(ctx) {
			// p1 and the single table have the same rows all the time; p2 is
			// emptied, dropped, made and filled again.
			q := [][]string{
				{"ALTER TABLE " + partsName + " EXCHANGE PARTITION p1 WITH TABLE " + partsSingle},
				{"ALTER TABLE " + partsName + " REBUILD PARTITION p0, p1"},
				{"ALTER TABLE " + partsName + " OPTIMIZE PARTITION p0"},
				{"ALTER TABLE " + partsName + " TRUNCATE PARTITION p2"},
				{"ALTER TABLE " + partsName + " DROP PARTITION p2", "ALTER TABLE " + partsName + " ADD PARTITION (PARTITION p2 VALUES LESS THAN (3001))"},
				{fmt.Sprintf("INSERT IGNORE INTO %s SELECT n, n * 3, REPEAT('p', n %% 200) FROM %s WHERE n BETWEEN 2001 AND 3000", partsName, load.Numbered)},
			}[s.Rnd.IntN(6)]
			if err := s.Exec(q...); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *partitions) Check(ctx context.Context, db *sql.DB) error {
	for _, c := range []struct{ name, where, want string }{
		{partsName, "id <= 2000", fmt.Sprint([]int{2 * partsRows, 2000 * 2001 / 2, 0})},
		{partsSingle, "id > 0", fmt.Sprint([]int{partsRows, 2000*2001/2 - 1000*1001/2, 0})},
	} {
		got, err := load.Row(ctx, db, "SELECT COUNT(*), SUM(id), SUM(v <> id * 3 OR LENGTH(pad) <> id % 200) FROM "+c.name+" WHERE "+c.where)
		if err != nil {
			return err
		}
		if got != c.want {
			return fmt.Errorf("%s where %s (rows, sum, bad): %s, want %s", c.name, c.where, got, c.want)
		}
	}
	got, err := load.Row(ctx, db, "SELECT COUNT(*) FROM "+partsName+" WHERE id > 2000")
	if err == nil && got != "[0]" && got != fmt.Sprint([]int{partsRows}) {
		err = fmt.Errorf("partition p2 of %s has %s rows, want none or all", partsName, got)
	}
	return err
}
