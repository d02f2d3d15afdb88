package rows

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"hb/scripts/torture.d/load"
	"hb/source/mysqld/mysqldtest"
)

// plain writes to tables of engines without transactions, in a user's database
// and in mysql's, together with a table of InnoDB that says how far it is: the
// files of both must be of one moment.
type plain struct {
	load.Quiet
	seed   uint64
	tables []plainTable
}

type plainTable struct{ name, engine string }

func NewPlain(r *load.Round, seed uint64) load.Load {
	engines := []string{"MyISAM", "CSV"}
	if slices.Contains(mysqldtest.MariaDB, r.Server) {
		engines = append(engines, "Aria", "Aria TRANSACTIONAL=0")
	}
	l := &plain{seed: seed}
	for i, e := range engines {
		l.tables = append(l.tables, plainTable{fmt.Sprintf("hb_t_plain.p%d", i), e}, plainTable{fmt.Sprintf("mysql.hb_t_p%d", i), e})
	}
	return l
}

func (l *plain) Prepare(ctx context.Context, db *sql.DB) error {
	q := []string{"CREATE DATABASE hb_t_plain", "CREATE TABLE hb_t_plain.mark (id INT NOT NULL PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB", "INSERT INTO hb_t_plain.mark VALUES (1, 0)"}
	for _, t := range l.tables {
		key := ", KEY (n)"
		if t.engine == "CSV" {
			key = ""
		}
		q = append(q, "CREATE TABLE "+t.name+" (n INT NOT NULL, v VARCHAR(100) CHARACTER SET latin1 NOT NULL"+key+") ENGINE="+t.engine)
	}
	return load.ExecAll(ctx, db, q...)
}

func (l *plain) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 1, l.seed, func(ctx context.Context, _ int, s *load.Session) error {
		for n := 1; ctx.Err() == nil; n++ {
			for _, t := range l.tables {
				if err := s.Exec(fmt.Sprintf("INSERT INTO %s VALUES (%d, '%s')", t.name, n, strings.Repeat("v", s.Rnd.IntN(100)))); err != nil {
					return err
				}
			}
			if err := s.Exec(fmt.Sprintf("UPDATE hb_t_plain.mark SET n = %d", n)); err != nil {
				return err
			}
			load.Sleep(ctx, 2_000_000)
		}
		return nil
	})
}

func (l *plain) Check(ctx context.Context, db *sql.DB) error {
	for _, t := range l.tables {
		bad, err := load.Row(ctx, db, "SELECT m.n, x.* FROM hb_t_plain.mark m, (SELECT COUNT(*) c, COALESCE(MAX(n), 0) hi, COUNT(DISTINCT n) d FROM "+t.name+") x WHERE x.c <> x.hi OR x.d <> x.c OR x.hi NOT IN (m.n, m.n + 1)")
		if err != nil {
			return err
		}
		if bad != "" {
			return fmt.Errorf("%s (%s) and its mark (mark, rows, highest, different): %s", t.name, t.engine, bad)
		}
	}
	return nil
}
