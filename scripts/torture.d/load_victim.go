package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
)

// victim is a table that nobody writes to, whose file the faults hurt. Whatever
// it is called, and whether it was dropped, a copy that has it has all of it.
type victim struct {
	quiet
	r       *round
	dropped bool // some statement may have dropped it
}

const (
	victimDB    = "hb_t_victim"
	victimTable = victimDB + ".v"
	victimSpare = victimDB + ".v_spare"
	victimRows  = 6000
)

func newVictim(r *round, seed uint64) load { return &victim{r: r} }

func (l *victim) prepare(ctx context.Context, db *sql.DB) error {
	create := func(name string) []string {
		return []string{
			"CREATE TABLE " + name + " (id INT NOT NULL PRIMARY KEY, a INT NOT NULL, pad VARCHAR(400) CHARACTER SET latin1 NOT NULL, KEY a (a)) ENGINE=InnoDB",
			fmt.Sprintf("INSERT INTO %s SELECT n, n * 17, REPEAT(CHAR(97 + n %% 26), 200 + n %% 200) FROM %s WHERE n <= %d", name, numbered, victimRows),
		}
	}
	q := append([]string{"CREATE DATABASE " + victimDB}, create(victimTable)...)
	q = append(q, create(victimDB+".other")...)
	return execAll(ctx, db, q...)
}

func (l *victim) run(ctx context.Context, db *sql.DB) error { return nil }

// file is where the victim's tablespace is.
func (l *victim) file() string {
	return filepath.Join(l.r.source.Datadir, victimDB, "v.ibd")
}

func (l *victim) check(ctx context.Context, db *sql.DB) error {
	names, err := table(ctx, db, "SELECT table_name FROM information_schema.tables WHERE table_schema = '"+victimDB+"' AND table_name LIKE 'v%'")
	if err != nil {
		return err
	}
	if len(names) == 0 && !l.dropped {
		return fmt.Errorf("the table %s is gone", victimTable)
	}
	for _, n := range names {
		const sums = "SELECT COUNT(*), SUM(id), SUM(a), SUM(LENGTH(pad)), SUM(CRC32(pad)) FROM "
		got, err := row(ctx, db, sums+victimDB+"."+n[0]+" FORCE INDEX (PRIMARY)")
		if err != nil {
			return err
		}
		want, err := row(ctx, db, fmt.Sprintf(sums+"(SELECT n id, n * 17 a, REPEAT(CHAR(97 + n %% 26), 200 + n %% 200) pad FROM %s WHERE n <= %d) y", numbered, victimRows))
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s.%s holds %s, want %s", victimDB, n[0], got, want)
		}
	}
	return nil
}
