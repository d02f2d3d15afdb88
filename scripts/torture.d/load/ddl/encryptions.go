package ddl

import (
	"context"
	"database/sql"
	"fmt"

	"hb/scripts/torture.d/load"
)

// encryptions encrypts and decrypts tables and a general tablespace with its table, and has
// the server take new master keys. The server, a MySQL 8.0 or later, must have a keyring.
type encryptions struct {
	load.Quiet
	seed uint64
}

func NewEncryptions(r *load.Round, seed uint64) load.Load { return &encryptions{seed: seed} }

const (
	encTables = 3 // the last one is in the general tablespace
	encSpace  = "`hb_ge`"
	encRows   = 1200
)

func encTable(i int) string { return fmt.Sprintf("hb_t_enc.`t%d`", i) }

func (l *encryptions) Prepare(ctx context.Context, db *sql.DB) error {
	q := []string{"CREATE DATABASE hb_t_enc", "CREATE TABLESPACE " + encSpace + " ADD DATAFILE 'hb_ge.ibd' ENGINE=InnoDB"}
	for i := range encTables {
		where := ""
		if i == encTables-1 {
			where = " TABLESPACE " + encSpace
		}
		q = append(q, "CREATE TABLE "+encTable(i)+" (id INT NOT NULL PRIMARY KEY, v INT NOT NULL, pad VARCHAR(300) CHARACTER SET latin1 NOT NULL, KEY (pad(40))) ENGINE=InnoDB"+where,
			fmt.Sprintf("INSERT INTO %s SELECT n, n * %d, REPEAT('e', n %% 300) FROM %s WHERE n <= %d", encTable(i), i+3, load.Numbered, encRows))
	}
	return load.ExecAll(ctx, db, q...)
}

func (l *encryptions) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 2, l.seed, func(ctx context.Context, i int, s *load.Session) error {
		for ; ctx.Err() == nil; s.Breathe(ctx) {
			err := error(nil)
			if i == 0 {
				err = load.Ignore(s.Exec(l.change(s)), notSo...)
			} else {
				err = s.Exec(fmt.Sprintf("UPDATE %s SET pad = REVERSE(pad), v = v + 0 WHERE id %% 40 = %d", encTable(s.Rnd.IntN(encTables)), s.Rnd.IntN(40)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// change returns a statement that changes what is encrypted, or the keys.
func (l *encryptions) change(s *load.Session) string {
	clause := " ENCRYPTION='" + []string{"Y", "N"}[s.Rnd.IntN(2)] + "'"
	switch n := s.Rnd.IntN(8); {
	case n == 0:
		return "ALTER INSTANCE ROTATE INNODB MASTER KEY"
	case n < 4:
		return "ALTER TABLESPACE " + encSpace + clause
	default:
		return "ALTER TABLE " + encTable(s.Rnd.IntN(encTables-1)) + clause
	}
}

func (l *encryptions) Check(ctx context.Context, db *sql.DB) error {
	for i := range encTables {
		got, err := load.Row(ctx, db, fmt.Sprintf("SELECT COUNT(*), SUM(id), SUM(v <> id * %d OR LENGTH(pad) <> id %% 300 OR pad <> REPEAT('e', id %% 300)) FROM %s", i+3, encTable(i)))
		if err != nil {
			return err
		}
		if all := fmt.Sprint([]int{encRows, encRows * (encRows + 1) / 2, 0}); got != all {
			return fmt.Errorf("%s (rows, sum, bad): %s, want %s", encTable(i), got, all)
		}
	}
	return nil
}
