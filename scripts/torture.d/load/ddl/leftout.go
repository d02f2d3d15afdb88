package ddl

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"hb/scripts/torture.d/load"
	"hb/source/mysqld/mysqldtest"
)

// leftOut moves tables between a database that is backed up and one that is left out, and
// makes and drops others there. A copy has the tables that were in the first one all the
// time, none that were in the second one all the time, and of the others it may have any;
// those that it has are whole. It serves nothing of the second one.
//
// Nothing of this is in the binary log: a replica of the copy could not follow.
type leftOut struct {
	r    *load.Round
	seed uint64

	mu     sync.Mutex
	inside [leftTables]bool
	moved  [leftTables]bool // since the backup began
	moving int              // the table that moves just now; -1: none
	// stayed are the tables that did not move during the backup: whether they were inside.
	stayed map[int]bool
}

const (
	leftTables = 5
	leftIn     = "hb_t_in"
	leftDB     = "hb_t_out"
	leftTemp   = leftDB + ".temp"
)

// LeftOut is the option of a backup with this load.
const LeftOut = "--databases-exclude=" + leftDB

func NewLeftOut(r *load.Round, seed uint64) load.Load { return &leftOut{r: r, seed: seed, moving: -1} }

func leftName(db string, i int) string { return fmt.Sprintf("%s.t%d", db, i) }

// leftNames are all names that its tables have.
func leftNames() (out []string) {
	for i := range leftTables {
		out = append(out, leftName(leftIn, i), leftName(leftDB, i))
	}
	return append(out, leftTemp)
}

func (l *leftOut) Prepare(ctx context.Context, db *sql.DB) error {
	q := []string{"CREATE DATABASE " + leftIn, "CREATE DATABASE " + leftDB}
	for i := range leftTables {
		l.inside[i] = i%2 == 0
		at := l.name(i)
		q = append(q, "CREATE TABLE "+at+" (id INT NOT NULL PRIMARY KEY, tag INT NOT NULL, pad VARCHAR(300) CHARACTER SET latin1 NOT NULL, KEY pad (pad(30), tag)) ENGINE=InnoDB",
			fmt.Sprintf("INSERT INTO %s SELECT n, %d, REPEAT(CHAR(97 + n %% 26), n %% 300) FROM %s WHERE n <= %d", at, i, load.Numbered, renameRows(i)))
	}
	return load.ExecAll(ctx, db, q...)
}

func (l *leftOut) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 2, l.seed, func(ctx context.Context, session int, s *load.Session) error {
		if err := s.Exec("SET sql_log_bin = 0"); err != nil {
			return err
		}
		for ; ctx.Err() == nil; s.Breathe(ctx) {
			var err error
			switch i := s.Rnd.IntN(leftTables); {
			case session == 1:
				err = s.Exec("CREATE TABLE "+leftTemp+" (id INT NOT NULL PRIMARY KEY) ENGINE=InnoDB", fmt.Sprintf("INSERT INTO %s VALUES (1), (2), (%d)", leftTemp, 3+i), "DROP TABLE "+leftTemp)
			case i > 1 && s.Rnd.IntN(2) == 0: // the first two stay
				err = l.move(s, i)
			default: // only this session moves tables
				err = s.Exec(fmt.Sprintf("UPDATE %s SET pad = REPEAT(CHAR(97 + (id + %d) %% 26), id %% 300) WHERE id %% 7 = %d", l.name(i), s.Rnd.IntN(26), s.Rnd.IntN(7)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *leftOut) name(i int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inside[i] {
		return leftName(leftIn, i)
	}
	return leftName(leftDB, i)
}

func (l *leftOut) move(s *load.Session, i int) error {
	from, to := leftName(leftIn, i), leftName(leftDB, i)
	l.mu.Lock()
	if !l.inside[i] {
		from, to = to, from
	}
	l.moved[i], l.moving = true, i
	l.mu.Unlock()
	done, err := s.All("RENAME TABLE " + from + " TO " + to)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.moving = -1; done {
		l.inside[i] = !l.inside[i]
	}
	return err
}

// Began forgets what moved before.
func (l *leftOut) Began() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moved = [leftTables]bool{}
	if l.moving >= 0 {
		l.moved[l.moving] = true
	}
}

// Ended: what moves from now on is of no backup.
func (l *leftOut) Ended() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stayed = make(map[int]bool)
	for i, moved := range l.moved {
		if !moved {
			l.stayed[i] = l.inside[i]
		}
	}
}

// Tidy drops from a copy of MySQL 8.0 or later what its dictionary still has, and makes sure
// that nothing of it was served.
func (l *leftOut) Tidy(ctx context.Context, db *sql.DB) error {
	if l.r.Server != mysqldtest.MySQL97 {
		return nil
	}
	var there string
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = '"+leftDB+"'").Scan(&there); err != nil || there == "0" {
		return err
	}
	for i := range leftTables {
		if n, err := load.Row(ctx, db, "SELECT COUNT(*) FROM "+leftName(leftDB, i)); err == nil {
			return fmt.Errorf("%s was left out, and is served: %v", leftName(leftDB, i), n)
		}
	}
	return load.Sessions(ctx, db, 1, l.seed, func(_ context.Context, _ int, s *load.Session) error {
		return errors.Join(s.Exec("SET sql_log_bin = 0", "DROP DATABASE "+leftDB), s.Exec("SET sql_log_bin = 1"))
	})
}

func (l *leftOut) Check(ctx context.Context, db *sql.DB) error {
	got, err := load.Table(ctx, db, "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema IN ('"+leftIn+"', '"+leftDB+"') LIMIT 100000") // whatever sql_select_limit is
	if err != nil {
		return err
	}
	there := make(map[string]bool)
	for _, row := range got {
		if row[0] == leftDB {
			return fmt.Errorf("%s.%s was left out, and is there", row[0], row[1])
		}
		there[row[0]+"."+row[1]] = true
	}
	for i := range leftTables {
		name := leftName(leftIn, i)
		if inside, stayed := l.stayed[i]; stayed && inside != there[name] {
			return fmt.Errorf("%s is there: %v, but all the time it was: %v", name, there[name], inside)
		}
		if !there[name] {
			continue
		}
		got, err := load.Row(ctx, db, "SELECT MIN(tag), MAX(tag), COUNT(*), SUM(id), SUM(LENGTH(pad) = id % 300) FROM "+name)
		if err != nil {
			return err
		}
		n := renameRows(i)
		if want := fmt.Sprint([]int{i, i, n, n * (n + 1) / 2, n}); got != want {
			return fmt.Errorf("%s is %s, not %s", name, got, want)
		}
	}
	return l.usable(ctx, db)
}

// usable uses the names of what was left out.
func (l *leftOut) usable(ctx context.Context, db *sql.DB) error {
	q := []string{"SET sql_log_bin = 0", "CREATE DATABASE " + leftDB}
	for _, name := range leftNames() {
		if strings.HasPrefix(name, leftDB) {
			q = append(q, "CREATE TABLE "+name+" (id INT NOT NULL PRIMARY KEY) ENGINE=InnoDB")
		}
	}
	q = append(q, "DROP DATABASE "+leftDB)
	return load.Sessions(ctx, db, 1, l.seed, func(_ context.Context, _ int, s *load.Session) error {
		return errors.Join(s.Exec(q...), s.Exec("SET sql_log_bin = 1"))
	})
}
