package tables_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/sink/tables"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
)

// TestScratchStorm: while a backup is made, tables get new names, in circles and in other
// databases, are dropped and made again, emptied, rebuilt, and exchanged with partitions, in an
// order by chance. Each table that the server has at the end is, with the index, byte by byte
// what the recovery of the whole backup leaves.
func TestScratchStorm(t *testing.T) {
	rounds := 2
	if mysqldtest.Long() {
		rounds = 50
	}
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		compared, renamed := 0, 0
		for round := range rounds {
			seed := uint64(round + 1)
			if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
				st := &storm{Server: s, rng: rand.New(rand.NewPCG(seed, 1))}
				compared += st.round(t, seed)
				renamed += st.renamed
			}) {
				t.FailNow()
			}
		}
		if compared < 4*rounds || renamed == 0 {
			t.Errorf("%s: %d tables compared, %d renamed", s.Root.Name, compared, renamed)
		}
		t.Logf("%s: %d tables compared, %d renamed", s.Root.Name, compared, renamed)
	})
}

// round makes a backup during a storm, and returns how many tables of it were compared.
func (st *storm) round(t *testing.T, seed uint64) (compared int) {
	t.Helper()
	st.begin(t)
	st.WriteOut(t)
	_, all := backup(t, st.Server, source.Options{}, 0, nil)
	archive, _ := backup(t, st.Server, source.Options{}, all-int64(st.rng.IntN(1<<20)), func() { st.blow(t, 25) })
	whole := restored(t, archive)
	for _, r := range st.Rows(t, "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA IN ('s0', 's1')") {
		dir, _, err := scratch(t, archive, false, false, tables.Name{Database: r[0], Table: r[1]})
		if err != nil {
			t.Errorf("%s, seed %d: %s.%s: %v", st.Root.Name, seed, r[0], r[1], err)
			continue
		}
		want := files(t, filepath.Join(whole, r[0]), func(base string) bool {
			return strings.HasPrefix(base, r[1]+".") || strings.HasPrefix(base, r[1]+"#")
		})
		if len(want) == 0 {
			t.Errorf("%s, seed %d: the whole backup has no %s.%s", st.Root.Name, seed, r[0], r[1])
		}
		same(t, fmt.Sprintf("%s, seed %d: %s.%s", st.Root.Name, seed, r[0], r[1]), files(t, filepath.Join(dir, r[0]), func(string) bool { return true }), want)
		compared++
	}
	if t.Failed() {
		t.Logf("%s, seed %d: %q", st.Root.Name, seed, st.done)
	}
	return compared
}

// storm is DDL by chance.
type storm struct {
	*mysqldtest.Server
	rng     *rand.Rand
	tables  []string // "s0.t3"; the partitioned one is s0.parts
	next    int
	renamed int
	done    []string
}

func (st *storm) begin(t *testing.T) {
	st.Exec(t, "DROP DATABASE IF EXISTS s0", "DROP DATABASE IF EXISTS s1", "CREATE DATABASE s0", "CREATE DATABASE s1",
		"CREATE TABLE s0.parts (a INT PRIMARY KEY, b VARCHAR(300)) ENGINE=InnoDB PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (100000), PARTITION p1 VALUES LESS THAN MAXVALUE)",
		"INSERT INTO s0.parts VALUES (1, 'x'), (200000, 'y')")
	for range 7 {
		st.make(t)
	}
}

// make makes a table, of some pages.
func (st *storm) make(t *testing.T) {
	name := fmt.Sprintf("s%d.t%d", st.rng.IntN(2), st.next)
	st.next++
	st.Exec(t, "CREATE TABLE "+name+" (a INT PRIMARY KEY, b VARCHAR(300)) ENGINE=InnoDB", "INSERT INTO "+name+" VALUES (1, '"+name+"')")
	for n := 1; n < 1<<st.rng.IntN(9); n *= 2 {
		st.Exec(t, fmt.Sprintf("INSERT INTO %s SELECT a + %d, REPEAT('%s', 20) FROM %s", name, n, name, name))
	}
	st.tables = append(st.tables, name)
}

// blow executes statements.
func (st *storm) blow(t *testing.T, n int) {
	for range n {
		i, j := st.rng.IntN(len(st.tables)), st.rng.IntN(len(st.tables))
		a, b := st.tables[i], st.tables[j]
		switch st.rng.IntN(9) {
		case 0, 1:
			st.tables[i] = fmt.Sprintf("s%d.t%d", st.rng.IntN(2), st.next)
			st.next++
			st.run(t, "RENAME TABLE "+a+" TO "+st.tables[i])
			st.renamed++
		case 2, 3:
			if i != j {
				st.run(t, "RENAME TABLE "+a+" TO s0.aside, "+b+" TO "+a+", s0.aside TO "+b)
				st.renamed++
			}
		case 4:
			st.run(t, "DROP TABLE "+a)
			st.tables = slices.Delete(st.tables, i, i+1)
			st.make(t)
		case 5:
			st.run(t, "DROP TABLE "+a, "CREATE TABLE "+a+" (a INT PRIMARY KEY, b VARCHAR(300)) ENGINE=InnoDB", "INSERT INTO "+a+" VALUES (7, 'again')")
		case 6:
			st.run(t, "TRUNCATE "+a, "INSERT INTO "+a+" VALUES (8, 'emptied')")
		case 7:
			st.run(t, "ALTER TABLE "+a+" FORCE", "UPDATE "+a+" SET b = 'rebuilt' WHERE a % 3 = 0")
		case 8:
			if !st.Root.MariaDB() || st.Root.AtLeast(10, 6) { // as in TestPartial
				st.run(t, "DELETE FROM "+a+" WHERE a >= 100000", "ALTER TABLE s0.parts EXCHANGE PARTITION p0 WITH TABLE "+a)
				st.renamed++
			}
		}
	}
}

func (st *storm) run(t *testing.T, statements ...string) {
	st.done = append(st.done, statements...)
	st.Exec(t, statements...)
}
