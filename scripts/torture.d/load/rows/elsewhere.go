package rows

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"hb/scripts/torture.d/load"
	"hb/source/mysqld/mysqldtest"
)

// elsewhere has tables, partitions, general and undo tablespaces outside the data
// directory, some of whose names collide when their directories are left out, and a
// database that is a symbolic link. A copy has all of them inside.
type elsewhere struct {
	load.Quiet
	r      *load.Round
	seed   uint64
	tables []string // of InnoDB, each with elsewhereRows rows, or none
	linked bool     // there is a database by symbolic link
}

func NewElsewhere(r *load.Round, seed uint64) load.Load { return &elsewhere{r: r, seed: seed} }

const (
	elsewhereDB   = "hb_t_out"
	elsewhereLink = "hb_t_link"
	elsewhereRows = 1500
)

func (l *elsewhere) Prepare(ctx context.Context, db *sql.DB) error {
	far := filepath.Join(l.r.Outside, "tables")
	if err := os.MkdirAll(far, 0o755); err != nil {
		return err
	}
	const cols = " (id INT NOT NULL PRIMARY KEY, v INT NOT NULL, pad VARCHAR(200) CHARACTER SET latin1 NOT NULL, KEY v (v)) ENGINE=InnoDB "
	dir := "DATA DIRECTORY='" + far + "'"
	tables := map[string]string{
		elsewhereDB + ".d": dir,
		elsewhereDB + ".p": "PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (500) " + dir + ", PARTITION p1 VALUES LESS THAN MAXVALUE)",
	}
	q := []string{"CREATE DATABASE " + elsewhereDB, "CREATE TABLE " + elsewhereDB + ".m (n INT NOT NULL, KEY (n)) ENGINE=MyISAM " + dir + " INDEX DIRECTORY='" + far + "'"}
	if slices.Contains([]string{mysqldtest.MySQL57, mysqldtest.MySQL97}, l.r.Server) && !slices.Contains(l.r.Ways, "by-server") {
		q = append(q, "CREATE TABLESPACE hb_far ADD DATAFILE '"+far+"/whatever.ibd'")
		tables[elsewhereDB+".g"] = "TABLESPACE hb_far"
	}
	if l.r.Server == mysqldtest.MySQL97 && !slices.Contains(l.r.Ways, "by-server") {
		q = append(q, "CREATE TABLESPACE hb_a ADD DATAFILE '"+far+"/other.ibd'", "CREATE TABLESPACE hb_b ADD DATAFILE 'hb_a.ibd'",
			"CREATE UNDO TABLESPACE hb_u1 ADD DATAFILE '"+far+"/zz.ibu'", "CREATE UNDO TABLESPACE hb_u2 ADD DATAFILE 'hb_u1.ibu'")
		tables[elsewhereDB+".a"], tables[elsewhereDB+".b"] = "TABLESPACE hb_a", "TABLESPACE hb_b"
	}
	if err := load.ExecAll(ctx, db, q...); err != nil {
		return err
	}
	if l.linked = l.r.Server != mysqldtest.MySQL97; l.linked {
		if err := l.link(ctx, db); err != nil {
			return err
		}
		tables[elsewhereLink+".t"] = ""
	}
	for name, options := range tables {
		if err := load.ExecAll(ctx, db, "CREATE TABLE "+name+cols+options, l.fill(name)); err != nil {
			return err
		}
		l.tables = append(l.tables, name)
	}
	slices.Sort(l.tables)
	return nil
}

func (l *elsewhere) fill(name string) string {
	return fmt.Sprintf("INSERT INTO %s SELECT n, n, REPEAT('e', n %% 200) FROM %s WHERE n <= %d", name, load.Numbered, elsewhereRows)
}

// link makes a database whose directory is elsewhere.
func (l *elsewhere) link(ctx context.Context, db *sql.DB) error {
	if err := load.ExecAll(ctx, db, "CREATE DATABASE "+elsewhereLink); err != nil {
		return err
	}
	here, there := filepath.Join(l.r.Datadir, elsewhereLink), filepath.Join(l.r.Outside, "database")
	if err := os.Rename(here, there); err != nil {
		return err
	}
	return os.Symlink(there, here)
}

func (l *elsewhere) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 1, l.seed, func(ctx context.Context, _ int, s *load.Session) error {
		for n := 1; ctx.Err() == nil; n++ {
			name := l.tables[s.Rnd.IntN(len(l.tables))]
			q := []string{fmt.Sprintf("UPDATE %s SET v = v + 1, pad = REPEAT('%c', id %% 200) WHERE id %% 9 = %d", name, 'a'+rune(s.Rnd.IntN(26)), s.Rnd.IntN(9))}
			switch s.Rnd.IntN(6) {
			case 0:
				q = []string{"TRUNCATE TABLE " + name, l.fill(name)}
			case 1:
				q = []string{"RENAME TABLE " + name + " TO " + name + "_x", "RENAME TABLE " + name + "_x TO " + name}
			}
			if err := s.Exec(append(q, fmt.Sprintf("INSERT INTO %s.m VALUES (%d)", elsewhereDB, n))...); err != nil {
				return err
			}
			s.Breathe(ctx)
		}
		return nil
	})
}

func (l *elsewhere) Check(ctx context.Context, db *sql.DB) error {
	for _, name := range l.tables {
		got, err := l.sums(ctx, db, name)
		if load.Ignore(err, load.NoSuchTable) == nil && err != nil {
			got, err = l.sums(ctx, db, name+"_x")
		}
		if err != nil {
			return err
		}
		if want := fmt.Sprint([]int{elsewhereRows, elsewhereRows * (elsewhereRows + 1) / 2, 0}); got != want && got != "[0  ]" {
			return fmt.Errorf("%s (rows, sum, bad): %s, want %s or none", name, got, want)
		}
	}
	bad, err := load.Row(ctx, db, "SELECT * FROM (SELECT COUNT(*) c, COALESCE(MAX(n), 0) hi, COUNT(DISTINCT n) d FROM "+elsewhereDB+".m) x WHERE c <> hi OR d <> c")
	if err == nil && bad != "" {
		err = fmt.Errorf("%s.m (rows, highest, different): %s", elsewhereDB, bad)
	}
	return err
}

func (l *elsewhere) sums(ctx context.Context, db *sql.DB, name string) (string, error) {
	return load.Row(ctx, db, "SELECT COUNT(*), SUM(id), SUM(LENGTH(pad) <> id % 200) FROM "+name)
}
