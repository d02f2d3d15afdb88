package ddl

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"

	"hb/scripts/torture.d/load"
	"hb/source/mysqld/mysqldtest"
)

// tablespaces makes, renames and drops general tablespaces, moves tables into and out of
// them, and builds indexes and truncates tables there; it makes, empties and drops undo
// tablespaces. 5.7 has the first only, other servers none: the load does nothing there.
type tablespaces struct {
	load.Quiet
	seed    uint64
	general bool
	undo    bool
}

func NewTablespaces(r *load.Round, seed uint64) load.Load {
	l := &tablespaces{seed: seed, general: r.Server == mysqldtest.MySQL57 || r.Server == mysqldtest.MySQL97, undo: r.Server == mysqldtest.MySQL97}
	if !l.general {
		r.Note("%s has no general tablespaces", r.Server)
	}
	return l
}

const (
	spaceTables = 4
	spacesOfAll = 3 // general and undo tablespaces
	spaceRows   = 1500
)

func spaceTable(i int) string { return fmt.Sprintf("hb_t_space.`t%d`", i) }

func (l *tablespaces) Prepare(ctx context.Context, db *sql.DB) error {
	if !l.general {
		return nil
	}
	q := []string{"CREATE DATABASE hb_t_space", "CREATE TABLESPACE `hb_g0` ADD DATAFILE 'hb_g0.ibd' ENGINE=InnoDB"}
	for i := range spaceTables {
		where := []string{"", " TABLESPACE `hb_g0`"}[i%2]
		q = append(q, "CREATE TABLE "+spaceTable(i)+" (id INT NOT NULL PRIMARY KEY, v INT NOT NULL, pad VARCHAR(300) CHARACTER SET latin1 NOT NULL) ENGINE=InnoDB"+where, fillSpace(i))
	}
	return load.ExecAll(ctx, db, q...)
}

// fillSpace inserts all rows of an empty table.
func fillSpace(i int) string {
	return fmt.Sprintf("INSERT INTO %s SELECT n, n * %d, REPEAT('s', n %% 300) FROM %s WHERE n <= %d", spaceTable(i), i+3, load.Numbered, spaceRows)
}

func (l *tablespaces) Run(ctx context.Context, db *sql.DB) error {
	if !l.general {
		return nil
	}
	return load.Sessions(ctx, db, 2, l.seed, func(ctx context.Context, i int, s *load.Session) error {
		for ; ctx.Err() == nil; s.Breathe(ctx) {
			var err error
			if i == 0 {
				err = l.change(s)
			} else {
				err = s.Exec(fmt.Sprintf("UPDATE %s SET pad = REVERSE(pad) WHERE id %% 40 = %d", spaceTable(s.Rnd.IntN(spaceTables)), s.Rnd.IntN(40)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// change does something to some table and tablespace.
func (l *tablespaces) change(s *load.Session) error {
	n, t := s.Rnd.IntN(spacesOfAll), s.Rnd.IntN(spaceTables)
	table, general, undo := "ALTER TABLE "+spaceTable(t), fmt.Sprintf("`hb_g%d`", n), fmt.Sprintf("hb_u%d", n)
	ways := []string{
		"CREATE TABLESPACE " + general + fmt.Sprintf(" ADD DATAFILE 'hb_g%d.ibd' ENGINE=InnoDB", n),
		"DROP TABLESPACE " + general,
		table + " TABLESPACE " + general, table + " TABLESPACE " + general,
		table + " TABLESPACE innodb_file_per_table",
		table + " ADD KEY k (pad(50), v), ALGORITHM=INPLACE", table + " ADD KEY k (pad(50), v), LOCK=SHARED",
		table + " DROP KEY k", table + " FORCE", "TRUNCATE TABLE " + spaceTable(t),
	}
	if l.undo {
		ways = append(ways, "CREATE UNDO TABLESPACE "+undo+" ADD DATAFILE '"+undo+".ibu'", "ALTER UNDO TABLESPACE "+undo+" SET INACTIVE", "DROP UNDO TABLESPACE "+undo, "ALTER UNDO TABLESPACE "+undo+" SET ACTIVE",
			"ALTER TABLESPACE "+general+" RENAME TO `hb_other`", "ALTER TABLESPACE `hb_other` RENAME TO "+general)
	}
	q := ways[s.Rnd.IntN(len(ways))]
	err := s.Exec(q)
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok && e.Number == noSpace && strings.Contains(e.Message, "A general tablespace named") {
		return nil
	}
	if err := load.Ignore(err, notSo...); err != nil {
		return err
	}
	if q == "TRUNCATE TABLE "+spaceTable(t) {
		return s.Exec(fillSpace(t))
	}
	return nil
}

// noSpace is the number by which MySQL 5.7 says that there is no such tablespace to move a
// table to, and also that a table has lost its own.
const noSpace = 1812

// notSo are the server's numbers of: there is such a tablespace, file or key, or none; the
// tablespace is not empty, or not of a state in which it can be dropped or changed.
var notSo = []uint16{1061, noSuchKey, 1529, 1813, 3120, 3510, 3606, 3654, 3655, 3657}

func (l *tablespaces) Check(ctx context.Context, db *sql.DB) error {
	if !l.general {
		return nil
	}
	for i := range spaceTables {
		got, err := load.Row(ctx, db, fmt.Sprintf("SELECT COUNT(*), COALESCE(SUM(id), 0), COALESCE(SUM(v <> id * %d OR LENGTH(pad) <> id %% 300), 0) FROM %s", i+3, spaceTable(i)))
		if err != nil {
			return err
		}
		all, none := fmt.Sprint([]int{spaceRows, spaceRows * (spaceRows + 1) / 2, 0}), fmt.Sprint([]int{0, 0, 0})
		if got != all && got != none {
			return fmt.Errorf("%s (rows, sum, bad): %s, want all rows or none", spaceTable(i), got)
		}
	}
	return nil
}
