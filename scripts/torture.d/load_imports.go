package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"hb/source/mysqld/mysqldtest"
)

// imports discards the tablespace of a table and imports that of another one of
// the same definition, over and over. Which rows the table has says which import
// was the last; where a discarded tablespace was backed up, it has none.
type imports struct {
	quiet
	r    *round
	seed uint64
}

func newImports(r *round, seed uint64) load { return &imports{r: r, seed: seed} }

const (
	importDB      = "hb_t_imp"
	importTarget  = importDB + ".target"
	importRows    = 1500
	importSources = 2
)

func (l *imports) prepare(ctx context.Context, db *sql.DB) error {
	const columns = " (id INT NOT NULL PRIMARY KEY, tag INT NOT NULL, pad VARCHAR(200) CHARACTER SET latin1 NOT NULL, KEY pad (pad(20), tag)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC"
	q := []string{"CREATE DATABASE " + importDB, "CREATE TABLE " + importTarget + columns,
		fmt.Sprintf("INSERT INTO %s.target SELECT n, 0, REPEAT('p', n %% 200) FROM %s WHERE n <= %d", importDB, numbered, importRows)}
	for i := range importSources {
		q = append(q, fmt.Sprintf("CREATE TABLE %s.from%d%s", importDB, i, columns),
			fmt.Sprintf("INSERT INTO %s.from%d SELECT n, %d, REPEAT('p', n %% 200) FROM %s WHERE n <= %d", importDB, i, i, numbered, importRows))
	}
	return execAll(ctx, db, q...)
}

func (l *imports) run(ctx context.Context, db *sql.DB) error {
	return sessions(ctx, db, 1, l.seed, func(ctx context.Context, _ int, s *session) error {
		if !l.r.has("no binary log") { // the replica has no files to import
			if err := s.exec("SET SESSION sql_log_bin = 0"); err != nil {
				return err
			}
		}
		for ; ctx.Err() == nil; s.breathe(ctx) {
			if err := l.importOne(s, s.rnd.IntN(importSources)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *imports) importOne(s *session, from int) error {
	dir := filepath.Join(l.r.source.Datadir, importDB)
	name := func(table, ext string) string { return filepath.Join(dir, table+ext) }
	table := fmt.Sprintf("from%d", from)
	if err := s.exec("ALTER TABLE "+importTarget+" DISCARD TABLESPACE", "FLUSH TABLES "+importDB+"."+table+" FOR EXPORT"); err != nil {
		return err
	}
	for _, ext := range []string{".ibd", ".cfg"} {
		if err := os.Remove(name("target", ext)); ignoreGone(err) != nil {
			return err
		}
		if err := mysqldtest.CopyFile(name("target", ext), name(table, ext)); ignoreGone(err) != nil {
			return err
		}
	}
	return s.exec("UNLOCK TABLES", "ALTER TABLE "+importTarget+" IMPORT TABLESPACE")
}

// tidy drops the table where the backup was taken between DISCARD and IMPORT:
// nothing else can be done with it.
func (l *imports) tidy(ctx context.Context, db *sql.DB) error {
	_, err := row(ctx, db, "SELECT COUNT(*) FROM "+importTarget)
	if err == nil || ignore(err, discarded...) != nil {
		return err
	}
	l.r.note("the copy has a discarded tablespace: %v", err)
	return sessions(ctx, db, 1, 0, func(_ context.Context, _ int, s *session) error {
		return s.exec("SET SESSION sql_log_bin = 0", "DROP TABLE "+importTarget)
	})
}

func (l *imports) check(ctx context.Context, db *sql.DB) error {
	for i := range importSources {
		got, err := row(ctx, db, fmt.Sprintf("SELECT COUNT(*), MIN(tag), MAX(tag), SUM(id) FROM %s.from%d", importDB, i))
		if err != nil {
			return err
		}
		if want := fmt.Sprint([]int{importRows, i, i, importRows * (importRows + 1) / 2}); got != want {
			return fmt.Errorf("%s.from%d holds %s, want %s", importDB, i, got, want)
		}
	}
	got, err := row(ctx, db, "SELECT COUNT(*), MAX(tag) - MIN(tag), SUM(id) FROM "+importTarget)
	if err != nil {
		return ignore(err, discarded...)
	}
	if want := fmt.Sprint([]int{importRows, 0, importRows * (importRows + 1) / 2}); got != want {
		return fmt.Errorf("the imported table holds %s, want %s", got, want)
	}
	return nil
}

// discarded are the server's numbers of: tablespace discarded, is missing; the
// table does not exist in the engine.
var discarded = []uint16{1814, 1812, 1932, 1146}
