package ddl

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"

	"hb/scripts/torture.d/load"
	"hb/source/mysqld/mysqldtest"
)

// imports discards the tablespace of a table and imports that of another one of
// the same definition, over and over, and then changes all rows. Another table says
// what they must be: importing, while nobody knows, or the number of the change. Where a
// discarded tablespace was backed up, it has no rows.
type imports struct {
	load.Quiet
	r    *load.Round
	seed uint64
}

func NewImports(r *load.Round, seed uint64) load.Load { return &imports{r: r, seed: seed} }

// NotReplicated are the tables that loads change without the binary log.
var NotReplicated = append([]string{importTarget, importState}, leftNames()...)

const (
	importDB      = "hb_t_imp"
	importTarget  = importDB + ".target"
	importState   = importDB + ".state"
	importing     = -1
	firstChange   = 100 // above the tags of all sources
	importRows    = 1500
	importSources = 2
)

func (l *imports) Prepare(ctx context.Context, db *sql.DB) error {
	const columns = " (id INT NOT NULL PRIMARY KEY, tag INT NOT NULL, pad VARCHAR(200) CHARACTER SET latin1 NOT NULL, KEY pad (pad(20), tag)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC"
	q := []string{"CREATE DATABASE " + importDB, "CREATE TABLE " + importTarget + columns,
		"CREATE TABLE " + importState + " (id INT NOT NULL PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB", fmt.Sprintf("INSERT INTO %s VALUES (1, %d)", importState, importing),
		fmt.Sprintf("INSERT INTO %s.target SELECT n, 0, REPEAT('p', n %% 200) FROM %s WHERE n <= %d", importDB, load.Numbered, importRows)}
	for i := range importSources {
		q = append(q, fmt.Sprintf("CREATE TABLE %s.from%d%s", importDB, i, columns),
			fmt.Sprintf("INSERT INTO %s.from%d SELECT n, %d, REPEAT('p', n %% 200) FROM %s WHERE n <= %d", importDB, i, i, load.Numbered, importRows))
	}
	return load.ExecAll(ctx, db, q...)
}

func (l *imports) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 1, l.seed, func(ctx context.Context, _ int, s *load.Session) error {
		if !l.r.NoBinlog { // the replica has no files to import
			if err := s.Exec("SET SESSION sql_log_bin = 0"); err != nil {
				return err
			}
		}
		for n := firstChange; ctx.Err() == nil; s.Breathe(ctx) {
			n++
			if err := s.Exec(setState(importing), "COMMIT"); err != nil {
				return err
			}
			if err := l.importOne(s, s.Rnd.IntN(importSources)); err != nil {
				return err
			}
			if err := s.Exec("START TRANSACTION", fmt.Sprintf("UPDATE %s SET tag = %d", importTarget, n), setState(n), "COMMIT"); err != nil {
				return err
			}
		}
		return nil
	})
}

func setState(n int) string { return fmt.Sprintf("UPDATE %s SET n = %d", importState, n) }

func (l *imports) importOne(s *load.Session, from int) error {
	dir := filepath.Join(l.r.Datadir, importDB)
	name := func(table, ext string) string { return filepath.Join(dir, table+ext) }
	table := fmt.Sprintf("from%d", from)
	if err := s.Exec("ALTER TABLE "+importTarget+" DISCARD TABLESPACE", "FLUSH TABLES "+importDB+"."+table+" FOR EXPORT"); err != nil {
		return err
	}
	for _, ext := range []string{".ibd", ".cfg"} {
		if err := os.Remove(name("target", ext)); load.IgnoreGone(err) != nil {
			return err
		}
		if err := mysqldtest.CopyFile(name("target", ext), name(table, ext)); load.IgnoreGone(err) != nil {
			return err
		}
	}
	return s.Exec("UNLOCK TABLES", "ALTER TABLE "+importTarget+" IMPORT TABLESPACE")
}

// Tidy drops the table where the backup was taken between DISCARD and IMPORT:
// nothing else can be done with it.
func (l *imports) Tidy(ctx context.Context, db *sql.DB) error {
	_, err := load.Row(ctx, db, "SELECT COUNT(*) FROM "+importTarget)
	if err == nil || load.Ignore(err, discarded...) != nil {
		return err
	}
	l.r.Note("the copy has a discarded tablespace: %v", err)
	return load.Sessions(ctx, db, 1, 0, func(_ context.Context, _ int, s *load.Session) error {
		return s.Exec("SET SESSION sql_log_bin = 0", "DROP TABLE "+importTarget)
	})
}

func (l *imports) Check(ctx context.Context, db *sql.DB) error {
	for i := range importSources {
		got, err := load.Row(ctx, db, fmt.Sprintf("SELECT COUNT(*), MIN(tag), MAX(tag), SUM(id) FROM %s.from%d", importDB, i))
		if err != nil {
			return err
		}
		if want := fmt.Sprint([]int{importRows, i, i, importRows * (importRows + 1) / 2}); got != want {
			return fmt.Errorf("%s.from%d holds %s, want %s", importDB, i, got, want)
		}
	}
	n, err := load.Row(ctx, db, "SELECT n FROM "+importState)
	if err != nil {
		return err
	}
	got, err := load.Row(ctx, db, "SELECT COUNT(*), MAX(tag) - MIN(tag), SUM(id) FROM "+importTarget)
	if err == nil && n != fmt.Sprint([]int{importing}) {
		var tag string
		if tag, err = load.Row(ctx, db, "SELECT MAX(tag) FROM "+importTarget); err == nil && tag != n {
			return fmt.Errorf("the imported table was changed to %s, and holds %s", n, tag)
		}
	}
	if err != nil {
		if n != fmt.Sprint([]int{importing}) {
			return fmt.Errorf("the imported table was changed to %s: %w", n, err)
		}
		return load.Ignore(err, discarded...)
	}
	if want := fmt.Sprint([]int{importRows, 0, importRows * (importRows + 1) / 2}); got != want {
		return fmt.Errorf("the imported table holds %s, want %s", got, want)
	}
	return nil
}

// discarded are the server's numbers of: tablespace discarded, is missing; the
// table does not exist in the engine.
var discarded = []uint16{1814, 1812, 1932, 1146}
