package rows

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"

	"hb/scripts/torture.d/load"
)

// Victim is a table that nobody writes to, whose file the faults hurt. Whatever
// it is called, and whether it was dropped, a copy that has it has all of it.
type Victim struct {
	load.Quiet
	r       *load.Round
	Dropped bool // some statement may have dropped it
}

const (
	VictimDB    = "hb_t_victim"
	VictimTable = VictimDB + ".v"
	VictimSpare = VictimDB + ".v_spare"
	victimRows  = 6000
)

func NewVictim(r *load.Round, seed uint64) load.Load { return &Victim{r: r} }

func (l *Victim) Prepare(ctx context.Context, db *sql.DB) error {
	create := func(name string) []string {
		return []string{
			"CREATE TABLE " + name + " (id INT NOT NULL PRIMARY KEY, a INT NOT NULL, pad VARCHAR(400) CHARACTER SET latin1 NOT NULL, KEY a (a)) ENGINE=InnoDB",
			fmt.Sprintf("INSERT INTO %s SELECT n, n * 17, REPEAT(CHAR(97 + n %% 26), 200 + n %% 200) FROM %s WHERE n <= %d", name, load.Numbered, victimRows),
		}
	}
	q := append([]string{"CREATE DATABASE " + VictimDB}, create(VictimTable)...)
	q = append(q, create(VictimDB+".other")...)
	return load.ExecAll(ctx, db, q...)
}

func (l *Victim) Run(ctx context.Context, db *sql.DB) error { return nil }

// File is where the victim's tablespace is.
func (l *Victim) File() string {
	return filepath.Join(l.r.Datadir, VictimDB, "v.ibd")
}

func (l *Victim) Check(ctx context.Context, db *sql.DB) error {
	names, err := load.Table(ctx, db, "SELECT table_name FROM information_schema.tables WHERE table_schema = '"+VictimDB+"' AND table_name LIKE 'v%'")
	if err != nil {
		return err
	}
	if len(names) == 0 && !l.Dropped {
		return fmt.Errorf("the table %s is gone", VictimTable)
	}
	for _, n := range names {
		const sums = "SELECT COUNT(*), SUM(id), SUM(a), SUM(LENGTH(pad)), SUM(CRC32(pad)) FROM "
		got, err := load.Row(ctx, db, sums+VictimDB+"."+n[0]+" FORCE INDEX (PRIMARY)")
		if err != nil {
			return err
		}
		want, err := load.Row(ctx, db, fmt.Sprintf(sums+"(SELECT n id, n * 17 a, REPEAT(CHAR(97 + n %% 26), 200 + n %% 200) pad FROM %s WHERE n <= %d) y", load.Numbered, victimRows))
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s.%s holds %s, want %s", VictimDB, n[0], got, want)
		}
	}
	return nil
}
