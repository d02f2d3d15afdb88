package ddl

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"hb/scripts/torture.d/load"
	"hb/source/mysqld/mysqldtest"
)

// indexes builds and drops secondary indexes in every way that there is: online,
// with the table locked, several at once, by copying. That each agrees with its
// table is checked of all tables (judge.go).
type indexes struct {
	load.Quiet
	seed     uint64
	variants []string
}

func NewIndexes(r *load.Round, seed uint64) load.Load {
	v := []string{
		"ADD KEY ka (a)", "ADD KEY ka (a), LOCK=SHARED", "ADD KEY ka (a), LOCK=EXCLUSIVE", "ADD KEY ka (a), ADD KEY kb (pad(40), a), LOCK=SHARED",
		"ADD KEY ka (a), ALGORITHM=COPY", "ADD UNIQUE KEY ka (a, id), LOCK=NONE", "DROP PRIMARY KEY, ADD PRIMARY KEY (id, a)",
		"ADD FULLTEXT KEY kf (pad)", "ADD FULLTEXT KEY kf (pad), ADD KEY ka (a)", "FORCE", "ENGINE=InnoDB",
	}
	if r.Server != mysqldtest.MySQL56 {
		v = append(v, "ADD SPATIAL KEY ks (g)", "ADD SPATIAL KEY ks (g), ADD KEY ka (a)")
	}
	return &indexes{seed: seed, variants: v}
}

var indexTables = []string{"hb_t_idx.plain", "hb_t_idx.parted", "hb_t_idx.zip"}

const indexRows = 6000

func (l *indexes) Prepare(ctx context.Context, db *sql.DB) error {
	q := []string{"CREATE DATABASE hb_t_idx"}
	for i, t := range indexTables {
		point, value := "g POINT NOT NULL, ", "POINT(n, n)"
		if i == 1 { // no partitions with geometry
			point, value = "g INT NOT NULL, ", "n"
		}
		clause := []string{"", " PARTITION BY HASH (id) PARTITIONS 3", " ROW_FORMAT=DYNAMIC"}[i]
		q = append(q, "CREATE TABLE "+t+" (id INT NOT NULL, a INT NOT NULL, pad VARCHAR(200) CHARACTER SET latin1 NOT NULL, "+point+"PRIMARY KEY (id)) ENGINE=InnoDB"+clause,
			fmt.Sprintf("INSERT INTO %s SELECT n, (n * 7919) %% 100003, CONCAT('word', n %% 50, ' ', REPEAT(CHAR(97 + n %% 26), n %% 100)), %s FROM %s WHERE n <= %d", t, value, load.Numbered, indexRows))
	}
	return load.ExecAll(ctx, db, q...)
}

func (l *indexes) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 2, l.seed, func(ctx context.Context, i int, s *load.Session) error {
		for ; ctx.Err() == nil; s.Breathe(ctx) {
			t := indexTables[s.Rnd.IntN(len(indexTables))]
			if i == 1 {
				if err := s.Exec(fmt.Sprintf("UPDATE %s SET a = (a + 13) %% 100003 WHERE id %% 50 = %d", t, s.Rnd.IntN(50))); err != nil {
					return err
				}
				continue
			}
			if err := l.build(s, t); err != nil {
				return err
			}
		}
		return nil
	})
}

// build makes some index and then, mostly, drops what it made.
func (l *indexes) build(s *load.Session, t string) error {
	q := "ALTER TABLE " + t + " " + l.variants[s.Rnd.IntN(len(l.variants))]
	if err := s.Exec(q); err != nil {
		return load.Ignore(err, cannot...)
	}
	var errs []error
	for _, key := range []string{"ka", "kb", "kf", "ks"} {
		if s.Rnd.IntN(3) > 0 {
			errs = append(errs, load.Ignore(s.Exec("ALTER TABLE "+t+" DROP KEY "+key), noSuchKey))
		}
	}
	return errors.Join(errs...)
}

const noSuchKey = 1091

// cannot are the server's numbers of: there is such a key, not supported for this
// table or in this way, full-text or spatial index on partitions, unique key
// without the partitions' columns, spatial index on another type.
var cannot = []uint16{1061, 1845, 1846, 1214, 1503, 1235, 1064, 1178, 1464, 1795, 1796, 1805, 1687, 1252, 3518, 1210, 1757}

func (l *indexes) Check(ctx context.Context, db *sql.DB) error {
	for _, t := range indexTables {
		got, err := load.Row(ctx, db, "SELECT COUNT(*), SUM(id) FROM "+t)
		if err != nil {
			return err
		}
		if want := fmt.Sprint([]int{indexRows, indexRows * (indexRows + 1) / 2}); got != want {
			return fmt.Errorf("%s has %s, want %s", t, got, want)
		}
		if err := l.words(ctx, db, t); err != nil {
			return err
		}
	}
	return nil
}

// words demands that a FULLTEXT index finds what the table has.
func (l *indexes) words(ctx context.Context, db *sql.DB, t string) error {
	keys, err := load.Table(ctx, db, "SHOW INDEX FROM "+t+" WHERE Key_name = 'kf'")
	if err != nil || len(keys) == 0 {
		return err
	}
	for _, w := range []string{"word7", "word49"} {
		want, err := load.Row(ctx, db, "SELECT COUNT(*) FROM "+t+" IGNORE INDEX (kf) WHERE pad LIKE '"+w+" %'")
		if err != nil {
			return err
		}
		got, err := load.Row(ctx, db, "SELECT COUNT(*) FROM "+t+" WHERE MATCH (pad) AGAINST ('+"+w+"' IN BOOLEAN MODE)")
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("the FULLTEXT index of %s finds %s rows with %s, and the table has %s", t, got, w, want)
		}
	}
	return nil
}
