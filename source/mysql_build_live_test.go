package source_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
)

// builds are ways to build an index in place, each on a table of its own that is
// named like them. What 5.7 builds so is not in its redo log, and for most of them
// no record says so.
var builds = []struct {
	name   string
	from   [2]int
	before []string
	during []string
	checks []string // further queries with one answer
}{
	{name: "online", during: []string{"ALTER TABLE d.online ADD KEY k (v(50), id)"}},
	{name: "shared", during: []string{"ALTER TABLE d.shared ADD KEY k (v(50), id), LOCK=SHARED"}},
	{name: "exclusive", during: []string{"ALTER TABLE d.exclusive ADD KEY k (v(50), id), LOCK=EXCLUSIVE"}},
	{name: "small", before: []string{"DELETE FROM d.small WHERE id > 50"}, during: []string{"ALTER TABLE d.small ADD KEY k (id), LOCK=SHARED"}},
	{name: "renamed", during: []string{"ALTER TABLE d.renamed ADD KEY k (v(50), id), LOCK=SHARED", "RENAME TABLE d.renamed TO d.away", "CREATE TABLE d.renamed LIKE d.away", "INSERT INTO d.renamed SELECT * FROM d.away LIMIT 100"},
		checks: []string{"SELECT COUNT(*) FROM d.away FORCE INDEX (k) WHERE v > ''"}},
	{name: "replaced", before: []string{"ALTER TABLE d.replaced ADD KEY k (id)"},
		during: []string{"ALTER TABLE d.replaced DROP KEY k", "ALTER TABLE d.replaced ADD KEY k (v(50), id), LOCK=SHARED"}},
	{name: "truncated", during: []string{"TRUNCATE d.truncated", "INSERT INTO d.truncated SELECT * FROM d.online", "ALTER TABLE d.truncated ADD KEY k (v(50), id), LOCK=SHARED"}},
	{name: "optimized", before: []string{"ALTER TABLE d.optimized ADD KEY k (v(50), id)"}, during: []string{"OPTIMIZE TABLE d.optimized", "DELETE FROM d.optimized WHERE id % 7 = 0"}},
	{name: "compressed", before: []string{"ALTER TABLE d.compressed ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"}, during: []string{"ALTER TABLE d.compressed ADD KEY k (v(50), id), LOCK=SHARED"}},
	{name: "parts", before: []string{"ALTER TABLE d.parts PARTITION BY HASH (id) PARTITIONS 3"}, during: []string{"ALTER TABLE d.parts ADD KEY k (v(50), id), LOCK=SHARED"}},
	{name: "general", from: [2]int{5, 7}, before: []string{"CREATE TABLESPACE g ADD DATAFILE 'g.ibd'", "ALTER TABLE d.general TABLESPACE g"},
		during: []string{"ALTER TABLE d.general ADD KEY k (v(50), id), LOCK=SHARED"}},
	{name: "logged", from: [2]int{5, 7}, before: []string{"CREATE TABLESPACE h ADD DATAFILE 'h.ibd'", "ALTER TABLE d.logged TABLESPACE h, ADD KEY k (v(50), id)"},
		during: []string{"CREATE TABLE d.logged2 TABLESPACE h SELECT * FROM d.logged", "UPDATE d.logged SET v = REPEAT(v, 2), b = REPEAT('b', 50000) WHERE id % 11 = 0", "DROP TABLE d.logged2"}},
	{name: "spatial", from: [2]int{5, 7}, before: []string{"ALTER TABLE d.spatial ADD p POINT", "UPDATE d.spatial SET p = Point(id, id)", "ALTER TABLE d.spatial MODIFY p POINT NOT NULL"},
		during: []string{"ALTER TABLE d.spatial ADD SPATIAL KEY s (p), ADD KEY k (v(50), id), ALGORITHM=INPLACE"}},
	{name: "words", before: []string{withDocID("words")}, during: []string{"ALTER TABLE d.words ADD FULLTEXT f (v), ADD KEY k (v(50), id), ALGORITHM=INPLACE"},
		checks: []string{words("words")}},
	{name: "rebuilt", during: []string{"ALTER TABLE d.rebuilt ADD FULLTEXT f (v), ADD KEY k (v(50), id), ALGORITHM=INPLACE"}, checks: []string{words("rebuilt")}},
}

func withDocID(table string) string {
	return "ALTER TABLE d." + table + " ADD FTS_DOC_ID BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, ADD UNIQUE KEY FTS_DOC_ID_INDEX (FTS_DOC_ID)"
}

// words counts the rows that a full-text index finds.
func words(table string) string {
	return "SELECT COUNT(*) FROM d." + table + " WHERE MATCH (v) AGAINST ('common')"
}

// TestBuilds builds an index in each of these ways after the table was copied, and
// before the final lock.
func TestBuilds(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		o := mysqldtest.Options{Config: []string{"innodb-max-dirty-pages-pct=99"}}
		s := mysqldtest.Start(t, root, o)
		numbers(t, s)
		var during []string
		var checks []string
		for _, b := range builds {
			if !root.AtLeast(b.from[0], b.from[1]) {
				continue
			}
			fill(t, s, "d."+b.name, "")
			s.Exec(t, "UPDATE d."+b.name+" SET v = CONCAT(v, ' common') WHERE id % 2 = 0")
			run(t, s, b.before)
			during = append(during, b.during...)
			checks = append(append(checks, b.checks...), "SELECT COUNT(*) FROM d."+b.name+" FORCE INDEX (k) WHERE v > ''")
		}
		// What was built before is not in the redo log any more. hb copies again what
		// the log tells of it if copying begins before that is read.
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, o)
		dir := t.TempDir()
		archive := filepath.Join(dir, "archive")
		done := false
		hookedBackup(t, s, archive, hooks{opt: source.Options{Pace: func(_ context.Context, n int) error {
			if !done && n <= smallFile {
				done = true
				run(t, s, during)
			}
			return nil
		}}})
		if !done {
			t.Fatal("nothing was built during the backup")
		}
		names := entries(t, archive)
		if root.AtLeast(5, 7) && (names["h.del"] || !names["g.del"]) {
			t.Errorf("copied again: h.ibd, changed with redo: %v; g.ibd, without: %v", names["h.del"], names["g.del"])
		}
		if !root.AtLeast(5, 7) && names["d/shared.del"] {
			t.Error("an index of 5.6, which is in its redo log, has the table copied again")
		}
		compareRestored(t, root, s, archive, filepath.Join(dir, "restored"), nil, checks...)
	})
}

// smallFile is the size of the smallest tablespaces, which are copied last.
const smallFile = 112 << 10

// TestBuildUnderWay has indexes under construction when the backup begins, which
// are put into service after their tables were copied. The log says nothing of
// them: that the tables are copied again is known from the dictionary only.
func TestBuildUnderWay(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL57)
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	numbers(t, s)
	changes := map[string]string{"shared": "ADD KEY k (v(50), id), LOCK=SHARED", "words": "ADD FULLTEXT f (v)", "rebuilt": "ADD FULLTEXT f (v), ADD KEY k (v(50), id)"}
	for table := range changes {
		fill(t, s, "d."+table, "")
		s.Exec(t, "UPDATE d."+table+" SET v = CONCAT(v, ' common') WHERE id % 2 = 0")
	}
	s.Exec(t, withDocID("words"))
	// An ALTER waits for readers before it builds and when it is complete. The
	// second reader of each table comes between.
	reader := func() *sql.Tx {
		tx, err := s.DB().BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tx.Rollback() })
		return tx
	}
	first, second := map[string]*sql.Tx{}, map[string]*sql.Tx{}
	waiting := func(n int) {
		t.Helper()
		const waiters = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for table metadata lock'"
		for end := time.Now().Add(time.Minute); s.Value(t, waiters) != strconv.Itoa(n); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the ALTERs do not wait")
			}
		}
	}
	ended := make(chan error, 2*len(changes))
	for table, change := range changes {
		first[table], second[table] = reader(), reader()
		if _, err := first[table].Exec("SELECT 1 FROM d." + table + " LIMIT 0"); err != nil {
			t.Fatal(err)
		}
		go func() { _, err := s.DB().ExecContext(t.Context(), "ALTER TABLE d."+table+" "+change); ended <- err }()
	}
	waiting(len(changes))
	for table, tx := range second {
		go func() { _, err := tx.Exec("SELECT 1 FROM d." + table + " LIMIT 0"); ended <- err }()
	}
	waiting(2 * len(changes))
	for _, tx := range first {
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
	}
	for range second {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	waiting(len(changes))
	s.Exec(t, "FLUSH ENGINE LOGS")
	aux, err := filepath.Glob(filepath.Join(s.Datadir, "d/FTS_*_INDEX_1.ibd"))
	if err != nil || len(aux) != 2 {
		t.Fatal(aux, err)
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	released := false
	hookedBackup(t, s, archive, hooks{opt: source.Options{Pace: func(_ context.Context, n int) error {
		if !released && n <= smallFile && began(archive, "d/"+filepath.Base(aux[0])) && began(archive, "d/"+filepath.Base(aux[1])) {
			released = true
			for _, tx := range second {
				if err := tx.Rollback(); err != nil {
					t.Error(err)
				}
			}
			for range changes {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		}
		return nil
	}}})
	if !released {
		t.Fatal("nothing was built during the backup")
	}
	names := entries(t, archive)
	for _, file := range append(aux, "shared.ibd") {
		if mark := "d/" + strings.TrimSuffix(filepath.Base(file), ".ibd") + ".del"; !names[mark] {
			t.Errorf("the archive has no %s", mark)
		}
	}
	compareRestored(t, root, s, archive, filepath.Join(dir, "restored"), nil,
		words("words"), words("rebuilt"), "SELECT COUNT(*) FROM d.shared FORCE INDEX (k) WHERE v > ''")
}

// TestBuildInSystem: tables may come and change in the system tablespace. An index
// that is built there ends the backup, as that file cannot be copied again.
func TestBuildInSystem(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-file-per-table=0"}})
		numbers(t, s)
		fill(t, s, "d.a", "")
		dir := t.TempDir()
		archive := filepath.Join(dir, "archive")
		done := false
		hookedBackup(t, s, archive, hooks{pace: func(int) {
			if !done {
				done = true
				fill(t, s, "d.b", "")
				s.Exec(t, "ALTER TABLE d.b ADD KEY k (v(50)), ALGORITHM=COPY", "UPDATE d.b SET b = REPEAT('b', 60000) WHERE id % 100 = 0", "DROP TABLE d.n")
			}
		}})
		srv := client.Open(t, s)
		defer srv.Close()
		f, err := os.Create(filepath.Join(dir, "second"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		built := false
		_, err = source.Run(t.Context(), srv, f, source.Options{Parallel: 1, Tmpdir: dir, Tool: "hb", ToolVersion: "test", Pace: func(context.Context, int) error {
			if !built {
				built = true
				s.Exec(t, "ALTER TABLE d.a ADD KEY k (v(50), id), LOCK=SHARED")
			}
			return nil
		}})
		var unlogged *source.UnloggedError
		if want := root.AtLeast(5, 7); errors.As(err, &unlogged) != want || !want && err != nil {
			t.Errorf("an index was built in the system tablespace: %v", err)
		}
		if err != nil && !strings.Contains(err.Error(), "ibdata1") {
			t.Error(err)
		}
		compareRestored(t, root, s, archive, filepath.Join(dir, "restored"), nil)
	})
}
