package ddl

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"hb/scripts/torture.d/load"
	"hb/source/mysqld/mysqldtest"
)

// names has tables, databases and tablespaces whose names are long, are words of
// hb's own, need encoding or collide when their directory is left out, and renames
// and truncates them.
type names struct {
	load.Quiet
	r    *load.Round
	seed uint64
}

func NewNames(r *load.Round, seed uint64) load.Load { return &names{r: r, seed: seed} }

// oddNames has a name first whose renaming is fatal to MariaDB 10.11 and 11.8 while a
// backup stage is held, whoever holds it: "stack smashing detected" (docs/locks.md).
var oddNames = []string{
	"`hb_t_odd-ÿ€`.`" + strings.Repeat("表", 50) + "`", "`hb_t_odd-ÿ€`.`a.b#c@d`", "`hb_t_odd-ÿ€`.`x#hb#8`", "`hb_t_odd-ÿ€`.`ibdata1`",
	"`hb_t_odd-ÿ€`.`undo001`", "`hb_t_odd-ÿ€`.`xtrabackup_logfile`", "`hb_t_odd-ÿ€`.`t.ibd`", "`hb_t_odd-ÿ€`.`" + strings.Repeat("l", 64) + "`",
}

const oddRows = 400

func (l *names) Prepare(ctx context.Context, db *sql.DB) error {
	q := []string{"CREATE DATABASE `hb_t_odd-ÿ€` DEFAULT CHARACTER SET utf8"}
	for _, n := range oddNames {
		q = append(q, "CREATE TABLE "+n+" (id INT NOT NULL PRIMARY KEY, v VARCHAR(300) CHARACTER SET latin1 NOT NULL) ENGINE=InnoDB",
			fmt.Sprintf("INSERT INTO %s SELECT n, REPEAT('o', 100 + n %% 200) FROM %s WHERE n <= %d", n, load.Numbered, oddRows))
	}
	if slices.Contains([]string{mysqldtest.MySQL57, mysqldtest.MySQL97}, l.r.Server) && !slices.Contains(l.r.Ways, "by-server") {
		q = append(q, "CREATE TABLESPACE `hb_ts ü` ADD DATAFILE 'hb_ts_one.ibd'", "CREATE TABLE `hb_t_odd-ÿ€`.ts (id INT NOT NULL PRIMARY KEY) ENGINE=InnoDB TABLESPACE `hb_ts ü`")
	}
	return load.ExecAll(ctx, db, q...)
}

func (l *names) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 1, l.seed, func(ctx context.Context, _ int, s *load.Session) error {
		for ; ctx.Err() == nil; s.Breathe(ctx) {
			a, b := oddNames[s.Rnd.IntN(len(oddNames))], oddNames[s.Rnd.IntN(len(oddNames))]
			q := []string{fmt.Sprintf("UPDATE %s SET v = REPEAT('u', 100 + id %% 200) WHERE id %% 5 = 1", a)}
			switch s.Rnd.IntN(3) {
			case 0:
				if a != b && !(l.fatal() && (a == oddNames[0] || b == oddNames[0])) {
					const spare = "`hb_t_odd-ÿ€`.spare"
					q = []string{fmt.Sprintf("RENAME TABLE %s TO %s, %s TO %s, %s TO %s", a, spare, b, a, spare, b)}
				}
			case 1:
				q = []string{"TRUNCATE TABLE " + a, fmt.Sprintf("INSERT INTO %s SELECT n, REPEAT('o', 100 + n %% 200) FROM %s WHERE n <= %d", a, load.Numbered, oddRows)}
			}
			if err := s.Exec(q...); err != nil {
				return err
			}
		}
		return nil
	})
}

// fatal reports whether the server is one that must not rename the longest name.
func (l *names) fatal() bool {
	return slices.Contains([]string{mysqldtest.MariaDB1011, mysqldtest.MariaDB118}, l.r.Server)
}

func (l *names) Check(ctx context.Context, db *sql.DB) error {
	for _, n := range oddNames {
		got, err := load.Row(ctx, db, "SELECT COUNT(*), SUM(LENGTH(v) <> 100 + id % 200) FROM "+n)
		if err != nil {
			return err
		}
		if got != fmt.Sprint([]int{oddRows, 0}) && got != "[0 ]" {
			return fmt.Errorf("%s (rows, bad): %s, want all or none, and none bad", n, got)
		}
	}
	return nil
}
