package export_test

import (
	"database/sql"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/sink/export"
	"hb/sink/restore"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/changebuffer"
	"hb/xbstream/innodb/undo"
)

// undoSpaces opens the system tablespace and all undo tablespaces of a directory.
func undoSpaces(t *testing.T, datadir string) undo.Spaces {
	t.Helper()
	spaces := undo.Spaces{}
	files, err := filepath.Glob(filepath.Join(datadir, "undo*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append(files, filepath.Join(datadir, "ibdata1")) {
		if st, err := os.Stat(f); err != nil || st.IsDir() {
			continue
		}
		p := open(t, f, nil)
		spaces[p.Space().ID] = p
	}
	return spaces
}

// TestOpenTransactions: the transactions that are open, and the tables that they changed, are
// those that six servers show; of a prepared one also its name. When all have ended, none is.
func TestOpenTransactions(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE t")
		ids := map[string]uint64{}
		view := "INNODB_SYS_TABLES"
		if !s.Root.MariaDB() && s.Root.AtLeast(8, 0) {
			view = "INNODB_TABLES"
		}
		for _, name := range []string{"inserted", "updated", "deleted", "prepared", "other", "untouched"} {
			s.Exec(t, "CREATE TABLE t."+name+" (a INT PRIMARY KEY, b VARCHAR(500), c LONGBLOB, KEY(b))")
			for i := range 5 {
				s.Exec(t, fmt.Sprintf("INSERT INTO t.%s SELECT %d*50+x.a, REPEAT('b',%d), REPEAT('c',9000) FROM (SELECT 1 a UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5) x", name, i, 100+i))
			}
			var id uint64
			if _, err := fmt.Sscan(s.Value(t, "SELECT TABLE_ID FROM information_schema."+view+" WHERE NAME='t/"+name+"'"), &id); err != nil {
				t.Fatal(err)
			}
			ids[name] = id
		}
		run := func(c *sql.Conn, statements ...string) {
			for _, q := range statements {
				if _, err := c.ExecContext(t.Context(), q); err != nil {
					t.Fatalf("%s: %s: %v", s.Root.Name, q, err)
				}
			}
		}
		// The prepared one first: a server tells which transactions are running.
		xa, one, two, done := s.Conn(t), s.Conn(t), s.Conn(t), s.Conn(t)
		run(xa, "XA START 'global','branch',7", "INSERT INTO t.prepared VALUES (1000,'x','y')", "UPDATE t.other SET b='z' WHERE a=1", "XA END 'global','branch',7", "XA PREPARE 'global','branch',7")
		run(one, "BEGIN", "UPDATE t.updated SET b=REPEAT('u',400), c=REPEAT('v',20000)")
		for i := range 40 { // several pages of undo
			run(one, fmt.Sprintf("INSERT INTO t.inserted VALUES (%d,REPEAT('k',400),NULL)", 2000+i), fmt.Sprintf("UPDATE t.updated SET b=REPEAT('%c',450)", 'a'+i%26))
		}
		run(done, "BEGIN", "UPDATE t.untouched SET b='done'", "COMMIT")
		run(two, "BEGIN", "DELETE FROM t.deleted WHERE a<200", "SAVEPOINT p", "UPDATE t.untouched SET b='w'", "ROLLBACK TO p")
		s.WriteOut(t)
		var running []string
		for _, row := range s.Rows(t, "SELECT trx_id FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 0") {
			running = append(running, row[0])
		}
		version := versionID(t, s.Root)
		spaces := undoSpaces(t, s.Datadir)
		logs, err := undo.Read(spaces, version)
		if err != nil {
			t.Fatal(err)
		}
		var trx, found []string
		records := 0
		for _, l := range logs {
			if id := fmt.Sprint(l.Trx); !slices.Contains(trx, id) {
				trx = append(trx, id)
			}
			records += l.Records
			for name, id := range ids {
				if l.Tables[id] > 0 {
					found = append(found, fmt.Sprintf("%s %v", name, l.State))
				}
			}
			if x := l.XID; (x != nil) != (l.State == undo.Prepared) && len(l.Tables) > 0 || x != nil && (string(x.Global) != "global" || string(x.Branch) != "branch" || x.Format != 7) {
				t.Errorf("%s: transaction %d is %v, its name is %+v", s.Root.Name, l.Trx, l.State, x)
			}
		}
		slices.Sort(found)
		slices.Sort(trx)
		slices.Sort(running)
		found = slices.Compact(found)
		if want := []string{"deleted active", "inserted active", "other prepared", "prepared prepared", "updated active"}; !slices.Equal(found, want) {
			t.Errorf("%s: %q, not %q", s.Root.Name, found, want)
		}
		if len(running) < 2 || !slices.Equal(trx, running) {
			t.Errorf("%s: transactions %q, and the server runs %q", s.Root.Name, trx, running)
		}
		// 25 and 40*25 updates and 40 inserts, 20 deletions, an insert and an update.
		if want := 25 + 40*25 + 40 + 20 + 2; records != want {
			t.Errorf("%s: %d records, not %d", s.Root.Name, records, want)
		}
		t.Logf("%s: transactions %q, %d undo logs, %d records", s.Root.Name, trx, len(logs), records)
		for id := range spaces {
			if len(spaces) == 1 {
				break // all rollback segments are in the system tablespace
			}
			without := maps.Clone(spaces)
			delete(without, id)
			if logs, err := undo.Read(without, version); err == nil {
				t.Errorf("%s: without tablespace %d there are %d logs, and no error", s.Root.Name, id, len(logs))
			}
		}
		run(xa, "XA COMMIT 'global','branch',7")
		run(one, "ROLLBACK")
		run(two, "COMMIT")
		s.WriteOut(t)
		if logs, err := undo.Read(undoSpaces(t, s.Datadir), version); err != nil || len(logs) != 0 {
			t.Errorf("%s: %+v, %v", s.Root.Name, logs, err)
		}
	})
}

// bufferedKinds are tables with a secondary index whose changes can be buffered: the rest of
// CREATE TABLE.
var bufferedKinds = map[string]string{
	"cold": "PRIMARY KEY (a), UNIQUE KEY u (u))", "zip": "PRIMARY KEY (a)) ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8", "counted": "KEY a (a))",
	"part": "PRIMARY KEY (a)) PARTITION BY HASH (a) PARTITIONS 2", "words": "PRIMARY KEY (a), FULLTEXT KEY d (d))",
}

// TestChangeBuffer: tablespaces with buffered changes are those of tables whose secondary
// indexes were changed while their pages were not in memory, and no other. Another server that
// imports these tables builds the indexes again, and they have all rows.
func TestChangeBuffer(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{Config: buffering}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE t", "CREATE TABLE t.same (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(200))", "INSERT INTO t.same (b) VALUES ('x')")
		for range 12 {
			s.Exec(t, "INSERT INTO t.same (b) SELECT CONCAT(SHA2(RAND(),224),REPEAT('f',100)) FROM t.same")
		}
		kinds := slices.Sorted(maps.Keys(bufferedKinds))
		for _, name := range kinds {
			s.Exec(t, "CREATE TABLE t."+name+" (a INT NOT NULL AUTO_INCREMENT, b VARCHAR(200), u INT, d VARCHAR(20) DEFAULT 'some words', KEY b (b), "+bufferedKinds[name], "INSERT INTO t."+name+" (b, u) SELECT b, a FROM t.same")
		}
		root, datadir := s.Root, s.Datadir
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		pages := func(name string) *export.Pages { return open(t, filepath.Join(datadir, name), nil) }
		cold, same := pages("t/cold.ibd").Space().ID, pages("t/same.ibd").Space().ID
		none := root.MariaDB() && root.AtLeast(11, 0)
		var buffered map[innodb.SpaceID]int
		for try := range 5 { // a server makes changes each second, and on a slow machine all of them
			s = mysqldtest.StartOn(t, root, datadir, mysqldtest.Options{Config: buffering})
			bufferChanges(t, s, kinds, try, !none)
			if err := s.Stop(); err != nil { // which does not make the changes
				t.Fatal(err)
			}
			var err error
			if buffered, err = changebuffer.Read(pages("ibdata1"), versionID(t, root)); err != nil {
				t.Fatal(err)
			}
			if none || buffered[cold] > 0 {
				break
			}
		}
		if none && len(buffered) != 0 || !none && (buffered[cold] == 0 || buffered[same] != 0) {
			t.Errorf("%s: %v are buffered; tablespace %d has a cold index, %d has none", root.Name, buffered, cold, same)
		}
		t.Logf("%s: buffered %v", root.Name, buffered)
		w := &writtenTables{root: root, dir: t.TempDir(), creates: map[string]string{}, rows: map[string][]string{}}
		w.write(t, s)
		s = mysqldtest.StartOn(t, root, datadir, mysqldtest.Options{Config: buffering})
		w.look(t, s)
		s.Exec(t, "SET GLOBAL innodb_fast_shutdown=0") // then the server makes all changes
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		buffered, err := changebuffer.Read(pages("ibdata1"), versionID(t, root))
		if err != nil || len(buffered) != 0 {
			t.Errorf("%s: after a slow shutdown %v are buffered, %v", root.Name, buffered, err)
		}
		importBuffered(t, w, none)
	})
}

// bufferChanges changes tables in few statements, after a start that left their indexes on disk;
// buffers: the server has a change buffer.
func bufferChanges(t *testing.T, s *mysqldtest.Server, kinds []string, try int, buffers bool) {
	t.Helper()
	for _, name := range slices.Backward(kinds) { // "cold" comes last
		s.Exec(t, "INSERT INTO t."+name+" (b, u) SELECT SHA2(RAND(),224), a + "+fmt.Sprint(100000*(try+1))+" FROM t.same LIMIT 2000", "DELETE FROM t."+name+" WHERE a % 17 = 0")
	}
	if text := s.Rows(t, "SHOW ENGINE INNODB STATUS")[0][2]; !buffers && strings.Contains(text, "\nIbuf: ") {
		t.Errorf("%s has a change buffer", s.Root.Name)
	}
}

// importBuffered brings the tables to another server in both ways; none: the server does not have
// a change buffer.
func importBuffered(t *testing.T, w *writtenTables, none bool) {
	t.Helper()
	var rebuilt []string
	var plans []*restore.Table
	for i := range w.sources {
		src := &w.sources[i]
		src.Create = w.creates[src.Written.Table.String()]
		if src.Written.Rebuild {
			rebuilt = append(rebuilt, src.Written.Table.Name)
		}
		plan, err := restore.New(src.Written, src.Create, w.from(t), restore.Name{})
		if err != nil {
			t.Fatal(err)
		}
		plans = append(plans, plan)
	}
	if slices.Contains(rebuilt, "cold") == none || slices.Contains(rebuilt, "same") {
		t.Errorf("%s: the indexes of %q are to be built again", w.root.Name, rebuilt)
	}
	t.Logf("%s: the indexes of %q are to be built again", w.root.Name, rebuilt)
	s := target(t, w.root)
	result, err := restore.Into(t.Context(), w.out, w.sources, restore.Options{Open: connect(t, s), From: w.from(t), PageSize: 16 << 10, Report: func(string) {}})
	if err != nil || len(result.Warnings) > 0 {
		t.Fatalf("%s: %v, %+v", w.root.Name, err, result)
	}
	compareTables(t, s, w, result, nil)
	byIndexes(t, s, w)
	noRemains(t, s)
	s.Exec(t, "DROP DATABASE t")
	script, err := restore.Script(plans, w.from(t), restore.Objects{})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := runScript(t, s, w.dir, script); err != nil {
		t.Fatalf("%s: %v\n%s", w.root.Name, err, out)
	}
	compareTables(t, s, w, result, nil)
	byIndexes(t, s, w)
}

// byIndexes counts the rows of tables by their index on b.
func byIndexes(t *testing.T, s *mysqldtest.Server, w *writtenTables) {
	t.Helper()
	for name := range bufferedKinds {
		want := fmt.Sprint(len(w.rows["t."+name]))
		if n := s.Value(t, "SELECT COUNT(*) FROM t."+name+" FORCE INDEX (b) WHERE b > ''"); n != want {
			t.Errorf("%s: %s has %s rows by its index, not %s", s.Root.Name, name, n, want)
		}
		if check := s.Rows(t, "CHECK TABLE t."+name+" EXTENDED"); check[0][3] != "OK" {
			t.Errorf("%s: %s: %v", s.Root.Name, name, check)
		}
	}
}
