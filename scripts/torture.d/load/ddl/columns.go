package ddl

import (
	"context"
	"database/sql"
	"fmt"

	"hb/scripts/torture.d/load"
)

// columns adds and drops columns, instantly where the server can, while rows of
// every version are written, on pages of several formats.
type columns struct {
	load.Quiet
	seed  uint64
	added map[string]int // columns that each table has, of the session that changes them
}

func NewColumns(r *load.Round, seed uint64) load.Load {
	return &columns{seed: seed, added: map[string]int{}}
}

const (
	columnRows   = 2000
	columnTables = 3
)

// rowTooLarge is the server's number of a row that could take more than a page has room
// for: on small pages, and with what was dropped instantly.
const rowTooLarge = 1118

func columnName(i int) string { return fmt.Sprintf("hb_t_col.c%d", i) }

func (l *columns) Prepare(ctx context.Context, db *sql.DB) error {
	q := []string{"CREATE DATABASE hb_t_col"}
	for i := range columnTables {
		clause := []string{"ROW_FORMAT=DYNAMIC", "ROW_FORMAT=REDUNDANT", "ROW_FORMAT=COMPACT"}[i]
		q = append(q, "CREATE TABLE "+columnName(i)+" (id INT NOT NULL PRIMARY KEY, a INT NOT NULL, pad VARCHAR(100) CHARACTER SET latin1 NOT NULL, h INT UNSIGNED NOT NULL, KEY a (a)) ENGINE=InnoDB "+clause,
			fmt.Sprintf("INSERT INTO %s SELECT n, n, REPEAT('c', n %% 100), CRC32(CONCAT(n, REPEAT('c', n %% 100))) FROM %s WHERE n <= %d", columnName(i), load.Numbered, columnRows))
	}
	return load.ExecAll(ctx, db, q...)
}

func (l *columns) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 2, l.seed, func(ctx context.Context, i int, s *load.Session) error {
		for ; ctx.Err() == nil; s.Breathe(ctx) {
			name := columnName(s.Rnd.IntN(columnTables))
			change := 0
			q := fmt.Sprintf("UPDATE %s SET a = a + 1, pad = REPEAT('%c', (id + a) %% 100), h = CRC32(CONCAT(a, pad)) WHERE id %% 20 = %d", name, 'a'+rune(s.Rnd.IntN(26)), s.Rnd.IntN(20))
			if i == 0 {
				switch n := l.added[name]; {
				case n > 0 && (n == 4 || s.Rnd.IntN(3) == 0):
					q = fmt.Sprintf("ALTER TABLE %s DROP COLUMN x%d", name, n)
					change = -1
				default:
					q = fmt.Sprintf("ALTER TABLE %s ADD COLUMN x%d VARCHAR(30) NOT NULL DEFAULT 'added %d'%s", name, n+1, n, []string{"", " AFTER id"}[s.Rnd.IntN(2)])
					change = 1
				}
			}
			done, err := s.Try(q)
			if load.Ignore(err, rowTooLarge) != nil {
				return err
			}
			if done {
				l.added[name] += change
			}
		}
		return nil
	})
}

func (l *columns) Check(ctx context.Context, db *sql.DB) error {
	for i := range columnTables {
		got, err := load.Row(ctx, db, "SELECT COUNT(*), SUM(id), SUM(h <> CRC32(CONCAT(a, pad))) FROM "+columnName(i))
		if err != nil {
			return err
		}
		if want := fmt.Sprint([]int{columnRows, columnRows * (columnRows + 1) / 2, 0}); got != want {
			return fmt.Errorf("%s (rows, sum, bad): %s, want %s", columnName(i), got, want)
		}
	}
	return nil
}
