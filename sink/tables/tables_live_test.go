package tables_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hb/sink"
	"hb/sink/merge"
	"hb/sink/tables"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/stream"
	"hb/stream/remote/remotetest"
	"hb/xbstream"
)

var allServers = append(append([]string(nil), mysqldtest.MariaDB...), mysqldtest.MySQL...)

// backup makes an archive of a server. during, if not nil, runs once, while pages are copied:
// when so many bytes have been. It returns how many were.
func backup(t *testing.T, s *mysqldtest.Server, o source.Options, after int64, during func()) (archive string, copied int64) {
	t.Helper()
	archive = filepath.Join(t.TempDir(), "archive")
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	srv := client.Open(t, s)
	o.Parallel, o.Tmpdir, o.Tool, o.ToolVersion = 2, t.TempDir(), "hb", "test"
	var once sync.Once
	var read atomic.Int64
	o.Pace = func(_ context.Context, n int) error {
		if read.Add(int64(n)) > after && during != nil {
			once.Do(during)
		}
		return nil
	}
	_, err = source.Run(t.Context(), srv, f, o)
	if err := errors.Join(err, srv.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return archive, read.Load()
}

// scratch makes a directory of some tables; piped: the archive is read from front to back.
// It returns how many bytes of the archive were read.
func scratch(t *testing.T, archive string, piped, server bool, names ...tables.Name) (dir string, read int64, err error) {
	t.Helper()
	flags := stream.ReadFlags{Archive: archive}
	open := flags.OpenParts
	if piped {
		open = flags.Open
	}
	in, err := open(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	s, err := tables.Select(names, in.Parts, server)
	if err != nil {
		return "", in.BytesRead(), err
	}
	dir = filepath.Join(t.TempDir(), "scratch")
	var r io.Reader
	if in.Parts == nil {
		r = in
	}
	err = recovered(t, r, dir, sink.Options{Parts: in.Parts, Selection: s})
	return dir, in.BytesRead(), err
}

// recovered extracts and applies.
func recovered(t *testing.T, r io.Reader, dir string, o sink.Options) error {
	t.Helper()
	o.Directory, o.Apply, o.Tool = dir, true, "hb"
	_, applied, err := sink.Run(t.Context(), r, o)
	if err == nil && o.Selection != nil && len(applied.Warnings) > 0 {
		t.Errorf("warnings: %q", applied.Warnings)
	}
	return err
}

// restored is a whole archive, recovered.
func restored(t *testing.T, archive string) string {
	t.Helper()
	in, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	dir := filepath.Join(t.TempDir(), "restored")
	if err := recovered(t, in, dir, sink.Options{}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files are the tables' files in a directory, with their content.
func files(t *testing.T, dir string, of func(base string) bool) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if of(e.Name()) {
			if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// TestScratch: the files of a table, chosen by the name that it has at the end of the backup
// while tables were renamed, dropped and made again, are byte by byte those that the recovery
// of the whole backup leaves; with the index and without, and from six servers, which start
// on the directory and find the same rows.
func TestScratch(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d", "CREATE DATABASE other", "CREATE DATABASE `o-d`")
		for _, name := range []string{"d.plain", "d.goes", "other.comes", "d.x", "d.y", "d.again", "d.`my-table`", "`o-d`.`ä.#1`", "other.left"} {
			s.Exec(t, "CREATE TABLE "+name+" (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(300), KEY (b)) ENGINE=InnoDB", "INSERT INTO "+name+" (b) VALUES ('"+strings.ReplaceAll(name, "`", "")+"')")
			for range 8 {
				s.Exec(t, "INSERT INTO "+name+" (b) SELECT CONCAT(b, a) FROM "+name)
			}
		}
		s.Exec(t, "CREATE TABLE d.parts (a INT PRIMARY KEY, b INT) ENGINE=InnoDB PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN MAXVALUE)", "INSERT INTO d.parts SELECT a, a FROM d.plain",
			"CREATE TABLE d.text (a INT PRIMARY KEY, b TEXT, FULLTEXT (b)) ENGINE=InnoDB", "INSERT INTO d.text SELECT a, b FROM d.plain",
			"CREATE TABLE d.my (a INT) ENGINE=MyISAM", "INSERT INTO d.my VALUES (1), (2)", "CREATE TABLE d.my_1 LIKE d.my", "SET GLOBAL innodb_max_dirty_pages_pct = 90")
		ddl := []string{"RENAME TABLE d.goes TO other.went, other.comes TO d.came", "RENAME TABLE d.x TO d.z, d.y TO d.x, d.z TO d.y", "UPDATE d.x SET b = 'new x' WHERE a % 3 = 0",
			"DROP TABLE d.again", "CREATE TABLE d.again (a INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO d.again SELECT a FROM d.plain", "UPDATE d.came SET b = 'late'", "UPDATE other.left SET b = 'late'",
			"UPDATE d.plain SET b = 'late' WHERE a % 7 = 0", "UPDATE d.parts SET b = 5", "DELETE FROM `o-d`.`ä.#1` WHERE a % 2 = 0",
			"CREATE DATABASE late", "CREATE TABLE late.fresh (a INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO late.fresh SELECT a FROM d.plain", "CREATE TABLE late.first (a INT PRIMARY KEY) ENGINE=InnoDB", "RENAME TABLE late.first TO late.second"}
		s.WriteOut(t)
		_, all := backup(t, s, source.Options{}, 0, nil)
		ran := false
		archive, _ := backup(t, s, source.Options{}, all-1<<20, func() { s.Exec(t, ddl...); ran = true })
		if !ran {
			t.Fatalf("%s: no table was renamed while the backup was made", s.Root.Name)
		}
		whole := restored(t, archive)
		renamed := 0
		for _, c := range []struct {
			name     tables.Name
			dir, has string // the directory of its files, and one of them
			piped    bool   // it can be had of a pipe
		}{
			{tables.Name{Database: "d", Table: "plain"}, "d", "plain.ibd", true}, {tables.Name{Database: "d", Table: "came"}, "d", "came.ibd", false},
			{tables.Name{Database: "d", Table: "x"}, "d", "x.ibd", false}, {tables.Name{Database: "d", Table: "y"}, "d", "y.ibd", false},
			{tables.Name{Database: "d", Table: "again"}, "d", "again.ibd", true}, {tables.Name{Database: "other", Table: "went"}, "other", "went.ibd", false},
			{tables.Name{Database: "d", Table: "my-table"}, "d", "my@002dtable.ibd", true}, {tables.Name{Database: "o-d", Table: "ä.#1"}, "o@002dd", "@0k@002e@00231.ibd", true},
			{tables.Name{Database: "d", Table: "parts"}, "d", "", true}, {tables.Name{Database: "d", Table: "text"}, "d", "text.ibd", true},
			{tables.Name{Database: "late", Table: "fresh"}, "late", "fresh.ibd", true}, {tables.Name{Database: "late", Table: "second"}, "late", "second.ibd", false},
			{tables.Name{Database: "d", Table: "my"}, "d", "my.MYD", true}, {tables.Name{Database: "o-d"}, "o@002dd", "@0k@002e@00231.ibd", true},
		} {
			of := func(base string) bool { return true }
			if c.name.Table != "" {
				stem := strings.TrimSuffix(c.has, filepath.Ext(c.has))
				if c.has == "" {
					stem = c.name.Table
				}
				of = func(base string) bool {
					return strings.HasPrefix(base, stem+".") || strings.HasPrefix(base, stem+"#") || strings.HasPrefix(base, stem+"_") && strings.HasSuffix(base, ".sdi") && !strings.HasPrefix(base, stem+"_1_")
				}
			}
			want := files(t, filepath.Join(whole, c.dir), of)
			for _, piped := range []bool{false, true} {
				dir, read, err := scratch(t, archive, piped, false, c.name)
				if _, ok := errors.AsType[*tables.RenamedError](err); piped && !c.piped && ok {
					renamed++
					continue
				}
				if err != nil {
					t.Errorf("%s: %v: %v", s.Root.Name, c.name, err)
					continue
				}
				got := files(t, filepath.Join(dir, c.dir), func(string) bool { return true })
				if c.has != "" && got[c.has] == nil || len(got) == 0 {
					t.Errorf("%s: %v: there is no %s", s.Root.Name, c.name, c.has)
				}
				same(t, s.Root.Name+" "+c.name.String(), got, want)
				if databases, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(databases) != len(got) && len(databases) != len(got)+1 {
					t.Errorf("%s: %v: there is %q", s.Root.Name, c.name, databases)
				}
				t.Logf("%s: %v, piped %v: %d files, %d bytes read of %d", s.Root.Name, c.name, piped, len(got), read, size(t, archive))
			}
		}
		if renamed == 0 {
			t.Errorf("%s: no table that was renamed had been copied before", s.Root.Name)
		}
		_, _, err := scratch(t, archive, false, false, tables.Name{Database: "d", Table: "plane"})
		if e, ok := errors.AsType[*tables.NotFoundError](err); !ok || !slices.Equal(e.Near, []string{"d.plain"}) {
			t.Errorf("%s: %v", s.Root.Name, err)
		}
		for _, gone := range []string{"goes", "z"} {
			if _, _, err := scratch(t, archive, false, false, tables.Name{Database: "d", Table: gone}); err == nil {
				t.Errorf("%s: there is a table d.%s", s.Root.Name, gone)
			}
		}
		dir, _, err := scratch(t, archive, false, true, tables.Name{Database: "d", Table: "x"})
		if err != nil {
			t.Fatal(err)
		}
		want := s.Rows(t, "CHECKSUM TABLE d.x")
		r := mysqldtest.StartOn(t, s.Root, dir, mysqldtest.Options{})
		if got := r.Rows(t, "CHECKSUM TABLE d.x"); got[0][1] != want[0][1] {
			t.Errorf("%s: %v, not %v", s.Root.Name, got, want)
		}
		if c := r.Rows(t, "CHECK TABLE d.x EXTENDED"); c[len(c)-1][3] != "OK" {
			t.Errorf("%v", c)
		}
	})
}

func size(t *testing.T, file string) int64 {
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// same compares files. Those that hb does not choose of a whole database are auxiliary tables.
func same(t *testing.T, what string, got, want map[string][]byte) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got[name] == nil {
			t.Errorf("%s: %s is missing", what, name)
		} else if !bytes.Equal(got[name], want[name]) {
			t.Errorf("%s: %s is another", what, name)
		}
	}
	for name := range got {
		if want[name] == nil {
			t.Errorf("%s: %s is not of the table", what, name)
		}
	}
}

// TestScratchChain: the files of tables that a chain makes are those that the recovery of all of
// it leaves, and little more of the archives is read than they need. Each table was changed
// between other backups; one had another name in each, one is in none before the last.
func TestScratchChain(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d")
		for _, name := range []string{"d.first", "d.second", "d.still", "d.r0", "d.x", "d.y"} {
			s.Exec(t, "CREATE TABLE "+name+" (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(300), KEY (b)) ENGINE=InnoDB", "INSERT INTO "+name+" (b) VALUES ('"+name+"')")
			for range 9 {
				s.Exec(t, "INSERT INTO "+name+" (b) SELECT CONCAT(b, a) FROM "+name)
			}
		}
		s.Exec(t, "CREATE TABLE d.other LIKE d.first", "INSERT INTO d.other (b) SELECT REPEAT('x', 300) FROM d.first a, d.second b LIMIT 20000", "CREATE TABLE d.my (a INT) ENGINE=MyISAM", "INSERT INTO d.my VALUES (1)")
		s.WriteOut(t)
		var chain []string
		for i, statements := range [][]string{nil,
			{"UPDATE d.first SET b = 'one' WHERE a % 5 = 0", "RENAME TABLE d.r0 TO d.r1", "RENAME TABLE d.x TO d.z, d.y TO d.x, d.z TO d.y", "INSERT INTO d.my VALUES (2)"},
			{"UPDATE d.second SET b = 'two' WHERE a % 5 = 0", "RENAME TABLE d.r1 TO d.r2", "UPDATE d.r2 SET b = 'r2' WHERE a % 50 = 1", "UPDATE d.x SET b = 'x' WHERE a = 3", "CREATE TABLE d.last LIKE d.first", "INSERT INTO d.last SELECT * FROM d.r2"},
		} {
			s.Exec(t, statements...)
			s.WriteOut(t)
			o := source.Options{}
			if i > 0 {
				o.Since = chain[i-1]
			}
			archive, _ := backup(t, s, o, 0, nil)
			chain = append(chain, archive)
		}
		open := func() *merge.Archives {
			a, err := merge.Open(t.Context(), stream.ReadFlags{Archive: chain[0]}, chain[1:], t.TempDir(), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { a.Close() })
			return a
		}
		whole := filepath.Join(t.TempDir(), "whole")
		all := open()
		merged := all.Stream(t.Context(), merge.Options{HBVersion: "test"})
		if err := merged.Wait(recovered(t, merged, whole, sink.Options{})); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"first", "second", "still", "r2", "x", "y", "last", "my"} {
			a := open()
			before := a.BytesRead()
			selected, part, err := tables.SelectChain([]tables.Name{{Database: "d", Table: name}}, a.Chain, false)
			if err != nil {
				t.Errorf("%s: %s: %v", s.Root.Name, name, err)
				continue
			}
			dir := filepath.Join(t.TempDir(), "scratch")
			merged := a.Stream(t.Context(), merge.Options{HBVersion: "test", Part: part})
			if err := merged.Wait(recovered(t, merged, dir, sink.Options{Selection: selected})); err != nil {
				t.Errorf("%s: %s: %v", s.Root.Name, name, err)
				continue
			}
			of := func(base string) bool { return strings.HasPrefix(base, name+".") || strings.HasPrefix(base, name+"_") }
			got := files(t, filepath.Join(dir, "d"), func(string) bool { return true })
			same(t, s.Root.Name+" "+name, got, files(t, filepath.Join(whole, "d"), of))
			if len(got) == 0 {
				t.Errorf("%s: %s has no files", s.Root.Name, name)
			}
			t.Logf("%s: %s: %d files; %d bytes read, %d before; all of it takes %d", s.Root.Name, name, len(got), a.BytesRead(), before, all.BytesRead())
			if a.BytesRead() > all.BytesRead()*7/10 {
				t.Errorf("%s: %s: %d bytes read, and all of the chain takes %d", s.Root.Name, name, a.BytesRead(), all.BytesRead())
			}
		}
		if _, _, err := tables.SelectChain([]tables.Name{{Database: "d", Table: "r0"}}, all.Chain, false); err == nil {
			t.Errorf("%s: there is a table d.r0", s.Root.Name)
		}
	})
}

var trust sync.Once

// TestScratchRead: of a large archive at an address hb reads at most 1.2 times what the table,
// the system tablespace, undo and the redo log have. That other tables are damaged there it does
// not notice; of the table itself it does.
func TestScratchRead(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE d")
		for _, name := range []string{"d.some", "d.other"} {
			s.Exec(t, "CREATE TABLE "+name+" (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(300)) ENGINE=InnoDB", "INSERT INTO "+name+" (b) VALUES (REPEAT('x', 200))")
			for range 14 {
				s.Exec(t, "INSERT INTO "+name+" (b) SELECT b FROM "+name)
			}
		}
		s.Exec(t, "INSERT INTO d.other (b) SELECT a.b FROM d.other a, (SELECT 1 x UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8) b")
		s.WriteOut(t)
		archive, _ := backup(t, s, source.Options{}, 0, nil)
		data, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		need := int64(0)
		for _, pattern := range []string{"ibdata*", "undo*", "d/some.*"} {
			all, err := filepath.Glob(filepath.Join(s.Datadir, pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range all {
				need += size(t, file)
			}
		}
		at := make(map[string]int64) // where the content of files begins
		in, err := (&stream.ReadFlags{Archive: archive}).OpenParts(t.Context(), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for c := range in.Parts.Chunks(in.Parts.Path) {
			if path := in.Parts.Path(c.File); c.Type == xbstream.Payload {
				at[path] = c.At + c.Size/2
				if path == "ib_logfile0" || path == "xtrabackup_logfile" {
					need += c.Len
				}
			}
		}
		if err := in.Close(); err != nil {
			t.Fatal(err)
		}
		remote := remotetest.New(t, data)
		trust.Do(func() { // all servers of tests have the same certificate
			http.DefaultTransport.(*http.Transport).TLSClientConfig = remote.Client().Transport.(*http.Transport).TLSClientConfig
		})
		some := tables.Name{Database: "d", Table: "some"}
		dir, _, err := scratch(t, remote.Address("archive"), false, false, some)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes sent in %d requests, %.3f of the %d needed; the archive has %d", s.Root.Name, remote.Sent, len(remote.Requests), float64(remote.Sent)/float64(need), need, len(data))
		if remote.Sent > need*12/10 || remote.Sent > int64(len(data))-30<<20 {
			t.Errorf("%s: too much", s.Root.Name)
		}
		want := files(t, filepath.Join(dir, "d"), func(string) bool { return true })
		for file, is := range map[string]error{"d/other.ibd": nil, "d/some.ibd": new(xbstream.CorruptError), "ibdata1": new(xbstream.CorruptError)} {
			data[at[file]] ^= 1
			if err := os.WriteFile(archive, data, 0o600); err != nil {
				t.Fatal(err)
			}
			data[at[file]] ^= 1
			dir, _, err := scratch(t, archive, false, false, some)
			_, damage := errors.AsType[*xbstream.CorruptError](err)
			if damage != (is != nil) || !damage && err != nil {
				t.Errorf("%s: %s is damaged: %v", s.Root.Name, file, err)
			}
			if err == nil {
				same(t, s.Root.Name, files(t, filepath.Join(dir, "d"), func(string) bool { return true }), want)
			}
		}
	})
}
