package ddl

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"hb/scripts/torture.d/load"
)

// databases makes and drops databases with tables of several engines in them. A
// copy has none that was dropped before the backup began, all that were there all
// the time, and nothing that was made after it.
type databases struct {
	seed uint64
	next int // the number of the next one, also of a second run

	mu       sync.Mutex
	half     string          // the one that is being made
	dropping string          // the one that is being dropped
	there    map[string]bool // those that are there, for certain
	always   map[string]bool // those that were there when the backup began, and since
	everMay  map[string]bool // those that were there at some moment since then
	gone     map[string]int  // those that were dropped, and the number of the newest one then
	during   bool
}

func NewDatabases(r *load.Round, seed uint64) load.Load {
	return &databases{seed: seed, there: map[string]bool{}, gone: map[string]int{}}
}

func (l *databases) Prepare(ctx context.Context, db *sql.DB) error { return nil }

func (l *databases) Run(ctx context.Context, db *sql.DB) error {
	return load.Sessions(ctx, db, 1, l.seed, func(ctx context.Context, _ int, s *load.Session) error {
		for ; ctx.Err() == nil; l.next++ {
			n := l.next
			name := fmt.Sprintf("hb_t_db%d", n)
			if n%3 == 0 {
				name = fmt.Sprintf("hb_t_db-ü%d", n)
			}
			q := "`" + name + "`"
			l.making(name)
			if err := s.Exec("CREATE DATABASE "+q, "CREATE TABLE "+q+".i (id INT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
				"CREATE TABLE "+q+".m (id INT NOT NULL PRIMARY KEY) ENGINE=MyISAM",
				"INSERT INTO "+q+".i VALUES (1), (2)", "INSERT INTO "+q+".m VALUES (1), (2)"); err != nil {
				return err
			}
			l.made(name)
			s.Breathe(ctx)
			if n >= 2 {
				if err := l.drop(s, n); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// drop drops some database, when the newest has the number n.
func (l *databases) drop(s *load.Session, n int) error {
	l.mu.Lock()
	name := ""
	for n := range l.there {
		if name == "" || n < name {
			name = n
		}
	}
	delete(l.there, name)
	delete(l.always, name)
	l.dropping = name
	l.mu.Unlock()
	err := s.Exec("DROP DATABASE `" + name + "`")
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dropping = ""
	if err == nil {
		l.gone[name] = n
	}
	return err
}

func (l *databases) making(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.half = name
	if l.during {
		l.everMay[name] = true
	}
}

func (l *databases) made(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.there[name], l.half = true, ""
}

func (l *databases) Began() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.during, l.always, l.everMay = true, map[string]bool{}, map[string]bool{}
	for n := range l.there {
		l.always[n], l.everMay[n] = true, true
	}
	l.everMay[l.half], l.everMay[l.dropping] = true, true
}

func (l *databases) Ended() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.during = false
	kept := map[string]bool{}
	for n := range l.always {
		kept[n] = true
	}
	l.always = kept
}

func (l *databases) Check(ctx context.Context, db *sql.DB) error {
	got, err := load.Table(ctx, db, "SELECT s.schema_name, COUNT(t.table_name) FROM information_schema.schemata s LEFT JOIN information_schema.tables t ON t.table_schema = s.schema_name WHERE s.schema_name LIKE 'hb\\_t\\_db%' GROUP BY s.schema_name LIMIT 100000") // whatever sql_select_limit is
	if err != nil {
		return err
	}
	// The one that was being made or dropped may have only some of its tables.
	cut, newest := 0, 0
	have := map[string]bool{}
	for _, g := range got {
		n, err := strconv.Atoi(strings.TrimLeft(g[0], "hb_td-ü"))
		if err != nil {
			return err
		}
		newest = max(newest, n)
	}
	for _, g := range got {
		have[g[0]] = true
		if n, ok := l.gone[g[0]]; ok && n < newest {
			return fmt.Errorf("the database %s is there, with %s tables, which was dropped before number %d was made, which is there too", g[0], g[1], newest)
		}
		if !l.everMay[g[0]] {
			return fmt.Errorf("the database %s is there, which was dropped before the backup began", g[0])
		}
		if g[1] != "2" {
			cut++
		}
	}
	if cut > 1 {
		return fmt.Errorf("databases are cut short: %s", strings.TrimSpace(fmt.Sprint(got)))
	}
	for n := range l.always {
		if !have[n] {
			return fmt.Errorf("the database %s is missing, which was there all the time", n)
		}
	}
	return nil
}
