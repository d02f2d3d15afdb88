package source_test

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/xbstream"
)

// hooks run while a backup is under way: pace is called before each piece of a
// tablespace is read, early when the archive begins.
type hooks struct {
	opt  source.Options
	pace func(n int) // n counts the calls
}

// hookedBackup makes an archive and lets h act meanwhile.
func hookedBackup(t *testing.T, s *mysqldtest.Server, archive string, h hooks) *source.Result {
	t.Helper()
	srv := client.Open(t, s)
	defer srv.Close()
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h.opt.Parallel, h.opt.Tmpdir, h.opt.Tool, h.opt.ToolVersion = 1, t.TempDir(), "hb", "test"
	n := 0
	if h.pace != nil {
		h.opt.Pace = func(context.Context, int) error { n++; h.pace(n); return nil }
	}
	result, err := source.Run(t.Context(), srv, f, h.opt)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range result.Locks {
		t.Logf("%s: waited %v, held %v", l.Lock, l.Wait, l.Held)
	}
	return result
}

// entries returns the names of an archive's files.
func entries(t *testing.T, archive string) map[string]bool {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names := map[string]bool{}
	in := xbstream.NewReader(f, xbstream.ReaderOptions{})
	for {
		chunk, err := in.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names[chunk.Path] = true
	}
}

// unlogged are changes without, or with too little, redo, each made while a
// tablespace that it touches is being copied or was just copied.
var unlogged = []struct {
	name   string
	from   [2]int
	before []string
	during []string
	marks  []string // of the archive's names, each of which must be in one
}{
	{name: "index built", from: [2]int{5, 7}, during: []string{"ALTER TABLE d.a ADD KEY built (v(50), id), ADD KEY built2 (id, v)", "UPDATE d.a SET v = CONCAT('u', v) WHERE id % 7 = 0"},
		marks: []string{"d/a.del"}},
	{name: "truncated", from: [2]int{5, 6}, during: []string{"TRUNCATE TABLE d.a", "INSERT INTO d.a SELECT * FROM d.b WHERE id < 100"}, marks: []string{"d/a.del"}},
	{name: "truncated and grown", from: [2]int{5, 6}, during: []string{"TRUNCATE TABLE d.a", "INSERT INTO d.a SELECT * FROM d.b", "INSERT INTO d.a SELECT id + 100000, v, b FROM d.b"}, marks: []string{"d/a.del"}},
	{name: "rebuilt and renamed", from: [2]int{5, 6}, during: []string{"ALTER TABLE d.a ENGINE=InnoDB", "RENAME TABLE d.a TO d.x, d.b TO d.a, d.x TO d.b"}, marks: []string{"d/a.del"}},
	{name: "imported", from: [2]int{5, 6}, before: []string{"CREATE TABLE d.c LIKE d.a", "ALTER TABLE d.c DISCARD TABLESPACE"},
		during: []string{"FLUSH TABLES d.b FOR EXPORT", "@cp d/b.ibd d/c.ibd", "@cp d/b.cfg d/c.cfg", "UNLOCK TABLES", "ALTER TABLE d.c IMPORT TABLESPACE",
			"UPDATE d.c SET v = 'changed' WHERE id % 11 = 0"}},
	{name: "exchanged for another", from: [2]int{5, 6}, during: []string{"FLUSH TABLES d.b FOR EXPORT", "@cp d/b.ibd d/keep", "@cp d/b.cfg d/keepcfg", "UNLOCK TABLES",
		"ALTER TABLE d.a DISCARD TABLESPACE", "@cp d/keep d/a.ibd", "@cp d/keepcfg d/a.cfg", "ALTER TABLE d.a IMPORT TABLESPACE", "DELETE FROM d.a WHERE id % 3 = 0"}, marks: []string{"d/a.del"}},
	{name: "general tablespace", from: [2]int{5, 7}, before: []string{"CREATE TABLESPACE g ADD DATAFILE 'g.ibd'", "CREATE TABLE d.g TABLESPACE g SELECT * FROM d.a", "ALTER TABLE d.g ADD PRIMARY KEY (id)"},
		during: []string{"ALTER TABLE d.g ADD KEY built (v(50), id)"}, marks: []string{"g.del"}},
	{name: "dropped and made again", from: [2]int{5, 6}, during: []string{"DROP TABLE d.a", "CREATE TABLE d.a LIKE d.b", "INSERT INTO d.a SELECT * FROM d.b"}, marks: []string{"d/a.del"}},
}

// TestUnlogged makes each of them during a backup of 5.6 and 5.7, restores it and
// compares all tables.
func TestUnlogged(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		for _, u := range unlogged {
			if !root.AtLeast(u.from[0], u.from[1]) {
				continue
			}
			t.Run(u.name, func(t *testing.T) {
				s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-max-dirty-pages-pct=99"}})
				numbers(t, s)
				fill(t, s, "d.a", "")
				fill(t, s, "d.b", "")
				run(t, s, u.before)
				dir := t.TempDir()
				archive := filepath.Join(dir, "archive")
				done := false
				hookedBackup(t, s, archive, hooks{pace: func(int) {
					// Most of the tables come before the smaller tables of the
					// server; when the first of those is read they were begun.
					if !done && began(archive, "d/a.ibd") && began(archive, "d/b.ibd") && marked(archive, u.marks) {
						done = true
						run(t, s, u.during)
					}
				}})
				if !done {
					t.Fatal("nothing was changed during the backup")
				}
				names := entries(t, archive)
				for _, mark := range u.marks {
					if !names[mark] {
						t.Errorf("the archive has no %s", mark)
					}
				}
				compareRestored(t, root, s, archive, filepath.Join(dir, "restored"), nil)
			})
		}
	})
}

// marked reports whether the copies of all tablespaces began that are to be
// marked as void.
func marked(archive string, marks []string) bool {
	for _, mark := range marks {
		if !began(archive, strings.TrimSuffix(mark, ".del")+".ibd") {
			return false
		}
	}
	return true
}

// began reports whether a name is in what was written of an archive.
func began(archive, name string) bool {
	v, _ := written.LoadOrStore(archive, &partial{names: map[string]int64{}})
	return v.(*partial).has(archive, name)
}

// written are the archives that began looked into, by their paths.
var written sync.Map // of *partial

// partial is an archive that is being written.
type partial struct {
	mu    sync.Mutex
	names map[string]int64 // up to where a name was looked for; -1: it was found
}

// has looks for a name in what was written since the last time: to read all of it
// for each piece of a tablespace took most of a test's time.
func (p *partial) has(archive, name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.names[name]
	if at < 0 {
		return true
	}
	f, err := os.Open(archive)
	if err != nil {
		return false
	}
	defer f.Close()
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return false
	}
	b, err := io.ReadAll(f)
	// In an archive, unlike in the redo log, names have their length before them.
	mark := append([]byte{byte(len(name)), 0, 0, 0}, name...)
	if err == nil && bytes.Contains(b, mark) {
		p.names[name] = -1
		return true
	}
	p.names[name] = max(at, at+int64(len(b)-len(mark)))
	return false
}

// numbers makes the table that fill takes its numbers from.
func numbers(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.n (n INT PRIMARY KEY)", "INSERT INTO d.n VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
		"CREATE TABLE d.seq (s INT PRIMARY KEY)", "INSERT INTO d.seq SELECT 1000*w.n + 100*x.n + 10*y.n + z.n FROM d.n w, d.n x, d.n y, d.n z WHERE w.n < 3")
}

// run executes statements on one connection. "@cp FROM TO" copies a file of the
// data directory.
func run(t *testing.T, s *mysqldtest.Server, statements []string) {
	t.Helper()
	c, err := s.DB().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func(c *sql.Conn) { c.Close() }(c)
	for _, q := range statements {
		if names, ok := strings.CutPrefix(q, "@cp "); ok {
			from, to, _ := strings.Cut(names, " ")
			b, err := os.ReadFile(filepath.Join(s.Datadir, from))
			if err == nil {
				err = os.WriteFile(filepath.Join(s.Datadir, to), b, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			continue
		}
		if _, err := c.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
}

// compareRestored restores an archive and compares all tables of d with those of
// s, which must rest, and what both answer to queries.
func compareRestored(t *testing.T, root *mysqldtest.Root, s *mysqldtest.Server, archive, target string, config []string, queries ...string) {
	t.Helper()
	var answers []string
	for _, q := range queries {
		answers = append(answers, s.Value(t, q))
	}
	want := map[string]string{}
	for _, r := range s.Rows(t, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd'") {
		want[r[0]] = s.Rows(t, "CHECKSUM TABLE d.`"+r[0]+"`")[0][1]
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	restoreByHB(t, root, archive, target)
	r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Config: config})
	for table, sum := range want {
		if got := r.Rows(t, "CHECKSUM TABLE d.`"+table+"`")[0][1]; got != sum || sum == "" {
			t.Errorf("%s has checksum %q, want %q", table, got, sum)
		}
		if got := r.Rows(t, "CHECK TABLE d.`"+table+"` EXTENDED"); got[len(got)-1][3] != "OK" {
			t.Errorf("%v", got)
		}
	}
	for i, q := range queries {
		if got := r.Value(t, q); got != answers[i] || got == "0" {
			t.Errorf("%s: %s, want %s", q, got, answers[i])
		}
	}
	if n := len(r.Rows(t, "SHOW TABLES FROM d")); n != len(want) {
		t.Errorf("%d tables were restored, want %d", n, len(want))
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}

// TestUndoTruncated has 5.7 truncate undo tablespaces while it is backed up, at
// least one between the begin of the copy and the final lock. A large transaction
// is open most of the time: what is restored must be without it.
func TestUndoTruncated(t *testing.T) {
	mysqldtest.Concurrent(t)
	root := mysqldtest.Need(t, mysqldtest.MySQL57)
	init, config := truncatedUndo()
	s := mysqldtest.Start(t, root, mysqldtest.Options{Init: init, Config: config})
	stop := churnUndo(t, s, 50*time.Millisecond)
	dir := t.TempDir()
	archive := filepath.Join(dir, "archive")
	before, during := 0, 0
	hookedBackup(t, s, archive, hooks{pace: func(n int) {
		if n > 1 {
			return
		}
		before = truncated(t, s)
		for end := time.Now().Add(time.Minute); during == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			during = truncated(t, s) - before
		}
	}})
	if during == 0 {
		t.Error("no undo tablespace was truncated while pages were copied")
	}
	t.Logf("undo tablespaces truncated: %d before the copy, %d until its end", before, truncated(t, s)-before)
	stop()
	target := filepath.Join(dir, "restored")
	restoreByHB(t, root, archive, target)
	r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Init: init})
	rows := r.Rows(t, "SELECT COUNT(DISTINCT v), COUNT(*), COUNT(DISTINCT LEFT(b, 1)), MIN(v) % 2 FROM d.a")
	if !slices.Equal(rows[0], []string{"1", "2400", "1", "0"}) {
		t.Errorf("values, rows, blobs, odd = %v: want one value, of a transaction that committed, in all 2400 rows", rows[0])
	}
	if got := r.Rows(t, "CHECK TABLE d.a EXTENDED"); got[len(got)-1][3] != "OK" {
		t.Errorf("%v", got)
	}
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}
