// Package ddl has the loads that change tables and databases while rows are written.
package ddl

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"hb/scripts/torture.d/load"
)

// renames turns the names of tables around in circles, over two databases, and
// drops one and makes it again. Whatever they are called, each table must be there
// once, with all of its rows.
type renames struct {
	load.Quiet
	seed uint64
}

const renameTables = 5

func NewRenames(r *load.Round, seed uint64) load.Load { return &renames{seed: seed} }

// renameName is the i-th name, of which neighbours are in different databases.
func renameName(i int) string { return fmt.Sprintf("hb_t_ren%d.`t-%d`", i%2, i) }

func (l *renames) Prepare(ctx context.Context, db *sql.DB) error {
	q := []string{"CREATE DATABASE hb_t_ren0", "CREATE DATABASE hb_t_ren1"}
	for i := range renameTables {
		q = append(q, "CREATE TABLE "+renameName(i)+" (id INT NOT NULL PRIMARY KEY, tag INT NOT NULL, pad VARCHAR(300) CHARACTER SET latin1 NOT NULL, KEY pad (pad(30), tag)) ENGINE=InnoDB",
			fmt.Sprintf("INSERT INTO %s SELECT n, %d, REPEAT(CHAR(97 + n %% 26), n %% 300) FROM %s WHERE n <= %d", renameName(i), i, load.Numbered, renameRows(i)))
	}
	return load.ExecAll(ctx, db, q...)
}

// renameRows is how many rows the table with that tag has.
func renameRows(tag int) int { return 1000 + 500*tag }

func (l *renames) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 2, l.seed, func(ctx context.Context, i int, s *load.Session) error {
		for ; ctx.Err() == nil; s.Breathe(ctx) {
			if i == 1 { // rows come and go, in whatever table has the name
				name := renameName(s.Rnd.IntN(renameTables))
				if err := s.Exec(fmt.Sprintf("UPDATE %s SET pad = REPEAT(CHAR(97 + (id + %d) %% 26), id %% 300) WHERE id %% 7 = %d", name, s.Rnd.IntN(26), s.Rnd.IntN(7))); err != nil {
					return err
				}
				continue
			}
			if err := s.Exec(circle(s.Rnd.Perm(renameTables)[:2+s.Rnd.IntN(renameTables-1)])); err != nil {
				return err
			}
		}
		return nil
	})
}

// circle gives each table the name of the next one, in one statement.
func circle(of []int) string {
	spare := "hb_t_ren0.spare"
	steps := []string{renameName(of[0]) + " TO " + spare}
	for k := 1; k < len(of); k++ {
		steps = append(steps, renameName(of[k])+" TO "+renameName(of[k-1]))
	}
	return "RENAME TABLE " + strings.Join(append(steps, spare+" TO "+renameName(of[len(of)-1])), ", ")
}

func (l *renames) Check(ctx context.Context, db *sql.DB) error {
	var seen []string
	for i := range renameTables {
		got, err := load.Row(ctx, db, "SELECT MIN(tag), MAX(tag), COUNT(*), SUM(id), SUM(LENGTH(pad) = id % 300) FROM "+renameName(i))
		if err != nil {
			return err
		}
		seen = append(seen, got)
	}
	for tag := range renameTables {
		n := renameRows(tag)
		if want := fmt.Sprint([]int{tag, tag, n, n * (n + 1) / 2, n}); !slices.Contains(seen, want) {
			return fmt.Errorf("renamed tables are %v: no table is %s", seen, want)
		}
	}
	return nil
}
