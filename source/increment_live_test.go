package source_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/sink/merge"
	"hb/source"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/source/mysqld/mysqldtest/workload"
	"hb/source/since"
	"hb/stream"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// backupSince makes an archive of what changed since a base; "": a full one.
func backupSince(t testing.TB, s *mysqldtest.Server, archive, base string) (*source.Result, error) {
	t.Helper()
	srv := client.Open(t, s)
	defer srv.Close()
	f, err := os.Create(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Recording definitions opens all tables, and MySQL 5.6 then counts rows and writes that down:
	// two backups of a server at rest would differ.
	o := source.Options{NoDefinitions: true, Parallel: 2, Tmpdir: t.TempDir(), Tool: "hb", ToolVersion: "test", Since: base}
	return source.Run(t.Context(), srv, f, o)
}

// incrementLoad is a database that has all that an increment must tell apart: what
// begins it, and what happens to it between two backups.
var incrementLoad = struct{ begin, between []string }{
	[]string{
		"CREATE TABLE d.gone LIKE d.a", "INSERT INTO d.gone SELECT * FROM d.a",
		"CREATE TABLE d.cut LIKE d.a", "INSERT INTO d.cut SELECT * FROM d.a",
		"CREATE TABLE d.x LIKE d.a", "INSERT INTO d.x SELECT * FROM d.a WHERE id % 2",
		"CREATE TABLE d.y LIKE d.a", "INSERT INTO d.y SELECT * FROM d.a WHERE id % 3",
		"CREATE TABLE d.quiet LIKE d.a", "INSERT INTO d.quiet SELECT * FROM d.a",
		"CREATE TABLE d.zip (id INT PRIMARY KEY, v VARCHAR(200), b BLOB) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4", "INSERT INTO d.zip SELECT * FROM d.a",
		"CREATE TABLE d.my (id INT PRIMARY KEY, v VARCHAR(200)) ENGINE=MyISAM", "INSERT INTO d.my SELECT id, v FROM d.a",
		"CREATE TABLE d.still (id INT PRIMARY KEY, v VARCHAR(200)) ENGINE=MyISAM", "INSERT INTO d.still SELECT id, v FROM d.a",
		"CREATE TABLE d.bygone (id INT PRIMARY KEY) ENGINE=MyISAM",
		"CREATE TABLE d.imported LIKE d.a", "INSERT INTO d.imported VALUES (1, 'old', 'old')",
		"CREATE TABLE d.parts (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 3", "INSERT INTO d.parts SELECT id FROM d.a",
	},
	[]string{
		"UPDATE d.a SET v = CONCAT('changed', LEFT(v, 40)) WHERE id % 50 = 0",
		"DROP TABLE d.gone", "TRUNCATE d.cut", "INSERT INTO d.cut SELECT * FROM d.a WHERE id < 100",
		"RENAME TABLE d.x TO d.z, d.y TO d.x, d.z TO d.y", "UPDATE d.x SET v = 'x' WHERE id % 100 = 1",
		"ALTER TABLE d.a ADD KEY (b(30))", "DELETE FROM d.zip WHERE id % 9 = 0",
		"CREATE TABLE d.fresh LIKE d.a", "INSERT INTO d.fresh SELECT * FROM d.a",
		"UPDATE d.my SET v = 'changed' WHERE id % 7 = 0", "DROP TABLE d.bygone",
		"ALTER TABLE d.imported DISCARD TABLESPACE", "@cp d/keep d/imported.ibd", "@cp d/keepcfg d/imported.cfg", "ALTER TABLE d.imported IMPORT TABLESPACE",
		"DELETE FROM d.parts WHERE id % 4 = 0",
	},
}

// beginIncrement fills a server, and exports a table for the import.
func beginIncrement(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	numbers(t, s)
	fill(t, s, "d.a", "")
	run(t, s, incrementLoad.begin)
	run(t, s, []string{"FLUSH TABLES d.a FOR EXPORT", "@cp d/a.ibd d/keep", "@cp d/a.cfg d/keepcfg", "UNLOCK TABLES"})
}

// checksums are those of all tables, and how many.
func checksums(t *testing.T, s *mysqldtest.Server) map[string]string {
	t.Helper()
	sums := make(map[string]string)
	for _, r := range s.Rows(t, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'd'") {
		sums[r[0]] = s.Rows(t, "CHECKSUM TABLE d.`"+r[0]+"`")[0][1]
	}
	return sums
}

// compareSums compares a restored server with what was backed up.
func compareSums(t *testing.T, r *mysqldtest.Server, want map[string]string) {
	t.Helper()
	got := checksums(t, r)
	for name, sum := range want {
		if got[name] != sum || sum == "" {
			t.Errorf("%s: checksum %q, want %q", name, got[name], sum)
		}
		if c := r.Rows(t, "CHECK TABLE d.`"+name+"` EXTENDED"); c[len(c)-1][3] != "OK" {
			t.Errorf("%v", c)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d tables, want %d", len(got), len(want))
	}
}

// chain makes a full backup and two increments, with what incrementLoad does between.
func chain(t *testing.T, s *mysqldtest.Server, dir string) (archives []string) {
	t.Helper()
	for i := range 3 {
		archive, base := filepath.Join(dir, fmt.Sprint("archive", i)), ""
		if i > 0 {
			base = archives[i-1]
		}
		switch i {
		case 1:
			run(t, s, incrementLoad.between)
			s.WriteOut(t) // the import, too
		case 2:
			s.Exec(t, "UPDATE d.quiet SET v = 'not any more' WHERE id % 1000 = 7", "RENAME TABLE d.fresh TO d.stale", "INSERT INTO d.still VALUES (1000000, 'new')")
		}
		result, err := backupSince(t, s, archive, base)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes, since %+v", result.Bytes, result.Manifest.Since)
		archives = append(archives, archive)
	}
	return archives
}

// prepareChain has mbstream and mariadb-backup restore a chain, in a directory below dir.
func prepareChain(t *testing.T, root *mysqldtest.Root, dir string, archives []string) (target string) {
	t.Helper()
	target = filepath.Join(dir, "prepared")
	for i, archive := range archives {
		to, prepare := target, []string{"--prepare", "--target-dir=" + target}
		if i > 0 {
			to = filepath.Join(dir, fmt.Sprint("increment", i))
			prepare = append(prepare, "--incremental-dir="+to)
		}
		if err := os.Mkdir(to, 0o755); err != nil {
			t.Fatal(err)
		}
		command(t, root.Tool("mbstream", "-x", "-C", to), archive)
		out, err := root.Tool("mariadb-backup", prepare...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "completed OK!") {
			t.Fatalf("%v: %v\n%s", prepare, err, out)
		}
	}
	return target
}

// TestIncrementPeer: mariadb-backup puts hb's increments onto what hb's base is when it is
// prepared, and a server starts on it that has all rows, those of an imported table too,
// which mariadb-backup's own increments lack.
func TestIncrementPeer(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		beginIncrement(t, s)
		dir := t.TempDir()
		archives := chain(t, s, dir)
		want := checksums(t, s)
		r := mysqldtest.StartOn(t, root, prepareChain(t, root, dir, archives), mysqldtest.Options{})
		compareSums(t, r, want)
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestIncrementMerge: hb merges increments into a full backup, and a server starts on that
// which has all rows.
func TestIncrementMerge(t *testing.T) {
	mysqldtest.Each(t, allServers(), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		beginIncrement(t, s)
		dir := t.TempDir()
		archives := chain(t, s, dir)
		restoreChain(t, s, dir, archives)
	})
}

// TestIncrementUnderLoad makes a chain of backups under a load with DDL. What it restores
// obeys the load's rules, and catches up as a replica from the last position: merged by
// hb, and on MariaDB put together by mariadb-backup.
func TestIncrementUnderLoad(t *testing.T) {
	mysqldtest.Concurrent(t, mysqldtest.MariaDB1011, mysqldtest.MySQL97)
	mysqldtest.Each(t, allServers(), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true})
		load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 20})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		var archives []string
		workload.During(t, load, func() {
			for i := range 3 {
				time.Sleep(time.Second)
				archive, base := filepath.Join(dir, fmt.Sprint("archive", i)), ""
				if i > 0 {
					base = archives[i-1]
				}
				if _, err := backupSince(t, s, archive, base); err != nil {
					t.Fatal(err)
				}
				archives = append(archives, archive)
			}
			time.Sleep(time.Second)
		})
		merged, target := filepath.Join(dir, "merged"), filepath.Join(dir, "target")
		mergeChain(t, merged, archives)
		restoreByHB(t, root, merged, target)
		workload.VerifyCopy(t, s, target, true)
		if root.MariaDB() {
			workload.VerifyCopy(t, s, prepareChain(t, root, dir, archives), false)
		}
	})
}

func allServers() []string { return append(slices.Clone(mysqldtest.MySQL), mysqldtest.MariaDB...) }

// mergeChain makes a full backup of a chain.
func mergeChain(t *testing.T, merged string, archives []string) {
	t.Helper()
	f, err := os.Create(merged)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	chain, err := merge.Open(t.Context(), stream.ReadFlags{Archive: archives[0]}, archives[1:], t.TempDir(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer chain.Close()
	if _, err := chain.Run(t.Context(), f, merge.Options{HBVersion: "test"}); err != nil {
		t.Fatal(err)
	}
}

// restoreChain merges a chain of backups of a server, which it stops, restores it and compares all
// tables.
func restoreChain(t *testing.T, s *mysqldtest.Server, dir string, archives []string) {
	t.Helper()
	want := checksums(t, s)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	merged, target := filepath.Join(dir, "merged"), filepath.Join(dir, "target")
	mergeChain(t, merged, archives)
	restoreByHB(t, s.Root, merged, target)
	r := mysqldtest.StartOn(t, s.Root, target, mysqldtest.Options{})
	compareSums(t, r, want)
	if err := r.Stop(); err != nil {
		t.Error(err)
	}
}

// TestIncrementImported has MariaDB import a tablespace while an increment copies it: the
// increment has it as it was imported, and what was committed after that.
func TestIncrementImported(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		beginIncrement(t, s)
		s.Exec(t, "INSERT INTO d.imported SELECT id + 100000, v, b FROM d.a") // so that it is not the last to be copied
		s.WriteOut(t)
		dir := t.TempDir()
		archives := []string{filepath.Join(dir, "base"), filepath.Join(dir, "inc")}
		if _, err := backupSince(t, s, archives[0], ""); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "UPDATE d.a SET v = 'changed' WHERE id % 50 = 0")
		done := false
		hookedBackup(t, s, archives[1], hooks{opt: source.Options{Since: archives[0]}, pace: func(int) {
			if !done && began(archives[1], "d/imported.ibd.meta") {
				done = true
				run(t, s, []string{"ALTER TABLE d.imported DISCARD TABLESPACE", "@cp d/keep d/imported.ibd", "@cp d/keepcfg d/imported.cfg", "ALTER TABLE d.imported IMPORT TABLESPACE",
					"DELETE FROM d.imported WHERE id % 3 = 0", "RENAME TABLE d.quiet TO d.loud"})
			}
		}})
		if !done {
			t.Fatal("nothing was imported during the backup")
		}
		restoreChain(t, s, dir, archives)
	})
}

// TestIncrementKept: of many bytes of other engines' files only those are sent that
// changed, also since a base that has them from its own base; mariadb-backup, which would
// remove the others, refuses such an increment.
func TestIncrementKept(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB1011, mysqldtest.MySQL97}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		numbers(t, s)
		s.Exec(t, "CREATE TABLE d.large (id INT, b LONGTEXT) ENGINE=MyISAM", "INSERT INTO d.large SELECT n, REPEAT(n, 9000000) FROM d.n", "CREATE TABLE d.small (id INT PRIMARY KEY) ENGINE=MyISAM")
		dir := t.TempDir()
		var archives []string
		for i := range 4 {
			archive, base := filepath.Join(dir, fmt.Sprint("archive", i)), ""
			if i > 0 {
				base = archives[i-1]
			}
			s.Exec(t, fmt.Sprintf("INSERT INTO d.small VALUES (%d)", i))
			if i == 3 {
				s.Exec(t, "INSERT INTO d.large VALUES (100, 'new')", "DROP TABLE d.seq")
			}
			result, err := backupSince(t, s, archive, base)
			if err != nil {
				t.Fatal(err)
			}
			if has := entries(t, archive)["d/large.MYD"]; has != (i == 0 || i == 3) || i > 0 && !entries(t, archive)["d/small.MYD"] {
				t.Errorf("archive %d of %d bytes has the large file: %v", i, result.Bytes, has)
			}
			archives = append(archives, archive)
		}
		restoreChain(t, s, dir, archives)
		if !root.MariaDB() {
			return
		}
		prepared, inc := filepath.Join(dir, "prepared"), filepath.Join(dir, "inc")
		restoreByPeer(t, root, archives[0], prepared)
		if err := os.Mkdir(inc, 0o755); err != nil {
			t.Fatal(err)
		}
		command(t, root.Tool("mbstream", "-x", "-C", inc), archives[1])
		out, err := root.Tool("mariadb-backup", "--prepare", "--target-dir="+prepared, "--incremental-dir="+inc).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "not to be proper") {
			t.Errorf("mariadb-backup: %v\n%s", err, out)
		}
	})
}

// TestIncrementRestarts: servers that stop, crash and start between the backups of a chain
// change no page that hb leaves out, whatever the layout: hb merge compares the sums of
// all pages. The merged archive is a base, too.
func TestIncrementRestarts(t *testing.T) {
	two := "innodb-data-file-path=ibdata1:12M;ibdata2:4M:autoextend"
	layouts := map[string]mysqldtest.Options{
		mysqldtest.MariaDB105:  {Init: []string{"innodb-page-size=64k"}},
		mysqldtest.MariaDB1011: {Init: []string{two, "innodb-page-size=4k"}},
		mysqldtest.MariaDB118:  {Init: []string{"innodb-undo-tablespaces=3"}, Config: []string{"innodb-undo-log-truncate=ON", "innodb-max-undo-log-size=10485760"}},
		mysqldtest.MySQL56:     {Init: []string{two}},
		mysqldtest.MySQL57:     {Init: []string{two, "innodb-page-size=4k", "innodb-undo-tablespaces=2"}},
		mysqldtest.MySQL97:     {Init: []string{two}},
	}
	mysqldtest.Each(t, allServers(), func(t *testing.T, root *mysqldtest.Root) {
		o := layouts[root.Name]
		o.Config = append(slices.Clone(o.Init), o.Config...)
		s := mysqldtest.Start(t, root, o)
		numbers(t, s)
		fill(t, s, "d.a", "")
		if root.MariaDB() {
			fill(t, s, "d.packed", "page_compressed=1")
		} else if root.AtLeast(5, 7) {
			fill(t, s, "d.packed", "COMPRESSION='zlib'")
		}
		s.Exec(t, "CREATE DATABASE e", "CREATE TABLE e.t LIKE d.a", "CREATE DATABASE f", "CREATE TABLE f.t LIKE d.a", "INSERT INTO f.t SELECT * FROM d.a")
		dir := t.TempDir()
		var archives []string
		again := func() { s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Config: o.Config}) }
		for i, end := range []func() error{s.Stop, func() error { return s.Kill() }, func() error {
			s.Exec(t, "SET GLOBAL innodb_fast_shutdown = 0")
			return s.Stop()
		}, nil} {
			archive, base := filepath.Join(dir, fmt.Sprint("archive", i)), ""
			if i > 0 {
				base = archives[i-1]
			}
			result, err := backupSince(t, s, archive, base)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes", result.Bytes)
			archives = append(archives, archive)
			if end == nil {
				break
			}
			if i == 1 {
				s.Exec(t, "DROP DATABASE e", "CREATE DATABASE g", "CREATE TABLE g.t LIKE d.a", "UPDATE d.a SET v = 'again' WHERE id % 10 = 1", "RENAME TABLE f.t TO g.moved")
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
			again()
		}
		want, databases := checksums(t, s), fmt.Sprint(s.Rows(t, "SHOW DATABASES"))
		part, merged := filepath.Join(dir, "part"), filepath.Join(dir, "merged")
		mergeChain(t, part, archives[:3])
		mergeChain(t, merged, archives)
		onPart := filepath.Join(dir, "on part")
		if _, err := backupSince(t, s, onPart, part); err != nil {
			t.Fatal(err)
		}
		if a, b := size(t, onPart), size(t, archives[3]); a > b+b/2 {
			t.Errorf("since the merged archive it is %d bytes, since its last increment %d", a, b)
		}
		other := filepath.Join(dir, "other")
		mergeChain(t, other, []string{part, onPart})
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		for _, archive := range []string{merged, other} {
			target := archive + " restored"
			restoreByHB(t, root, archive, target)
			r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Config: o.Config})
			compareSums(t, r, want)
			if got := fmt.Sprint(r.Rows(t, "SHOW DATABASES")); got != databases {
				t.Errorf("databases %s, want %s", got, databases)
			}
			if got := r.Rows(t, "CHECKSUM TABLE g.moved")[0][1]; got == "" || got == "0" {
				t.Errorf("g.moved: %q", got)
			}
			if err := r.Stop(); err != nil {
				t.Error(err)
			}
		}
	})
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// TestIncrementEqual makes, of a server that was under a load with DDL and now rests, a
// full backup and an incremental one: recovered, both have the same files, to the byte,
// apart from those that describe the backup.
func TestIncrementEqual(t *testing.T) {
	mysqldtest.Each(t, allServers(), func(t *testing.T, root *mysqldtest.Root) {
		// Up to ten seconds after changes, the server counts rows again and writes that down.
		s := mysqldtest.Start(t, root, mysqldtest.Options{Binlog: true, Config: []string{"innodb-stats-auto-recalc=OFF"}})
		load, err := workload.Prepare(t.Context(), s.DB(), workload.Options{DDLRate: 20})
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		archives := []string{filepath.Join(dir, "base")}
		workload.During(t, load, func() {
			time.Sleep(time.Second)
			if _, err := backupSince(t, s, archives[0], ""); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		})
		beginIncrement(t, s)
		run(t, s, incrementLoad.between)
		s.WriteOut(t)
		full, merged := filepath.Join(dir, "full"), filepath.Join(dir, "merged")
		archives = append(archives, filepath.Join(dir, "inc"))
		if _, err := backupSince(t, s, full, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := backupSince(t, s, archives[1], archives[0]); err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		mergeChain(t, merged, archives)
		trees := []string{full + " restored", merged + " restored"}
		restoreByHB(t, root, full, trees[0])
		restoreByHB(t, root, merged, trees[1])
		// A backup of MySQL 8.0 and later begins a new binary log file, which the server notes.
		changed := func(name string) bool {
			return !root.MariaDB() && root.AtLeast(8, 0) && (strings.HasPrefix(name, "binlog.") || name == "mysql.ibd" || name == "ibdata1")
		}
		sameTrees(t, trees[0], trees[1], changed)
	})
}

// sameTrees compares all files of two recovered directories, but for those that may differ.
func sameTrees(t *testing.T, a, b string, differ func(name string) bool) {
	t.Helper()
	list := func(dir string) map[string][]byte {
		files := make(map[string][]byte)
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(dir, path)
			if err != nil || metadata.IsOwn(name) || strings.HasPrefix(name, "hb-") || strings.HasPrefix(name, "#innodb_redo") || strings.HasPrefix(name, "ib_logfile") || differ(name) {
				return err
			}
			files[name], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	x, y := list(a), list(b)
	if len(x) < 100 {
		t.Fatalf("%d files", len(x))
	}
	for name, content := range x {
		other, ok := y[name]
		if !ok {
			t.Errorf("%s is missing", name)
			continue
		}
		delete(y, name)
		if bytes.Equal(content, other) {
			continue
		}
		at := 0
		for at < min(len(content), len(other)) && content[at] == other[at] {
			at++
		}
		t.Errorf("%s has %d bytes and %d, and differs at %d (page %d of 16 KiB)", name, len(content), len(other), at, at>>14)
	}
	for name := range y {
		t.Errorf("%s should not be there", name)
	}
}

// TestIncrementZeroed: pages that MariaDB freed and zeroed since the base are zero in what
// is merged; they have no LSN that would tell.
func TestIncrementZeroed(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-immediate-scrub-data-uncompressed=ON"}})
		numbers(t, s)
		fill(t, s, "d.a", "")
		s.WriteOut(t)
		dir := t.TempDir()
		archives := []string{filepath.Join(dir, "base"), filepath.Join(dir, "inc")}
		if _, err := backupSince(t, s, archives[0], ""); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "ALTER TABLE d.a DROP INDEX v, ALGORITHM=INPLACE", "DELETE FROM d.a WHERE id < 1500", "SET GLOBAL innodb_max_purge_lag_wait = 0")
		s.WriteOut(t)
		if _, err := backupSince(t, s, archives[1], archives[0]); err != nil {
			t.Fatal(err)
		}
		zero := 0
		for _, l := range liveFiles(t, archives[1]) {
			if l.Path == "d/a.ibd" {
				for _, r := range l.Zero {
					zero += int(r.End - r.First)
				}
			}
		}
		before, after := zeroPages(t, filepath.Join(s.Datadir, "d/a.ibd")), zeroPagesIn(t, archives[0], "d/a.ibd")
		if zero != before || before <= after {
			t.Errorf("%d pages are zero by the manifest, %d on the server, %d in the base", zero, before, after)
		}
		restoreChain(t, s, dir, archives)
	})
}

// liveFiles are the lines of live files in an increment's manifest.
func liveFiles(t *testing.T, archive string) (live []metadata.Live) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := metadata.NewManifestParser(nil, nil)
	p.Live = func(l metadata.Live) error { live = append(live, l); return nil }
	if _, err := p.Write(xbtest.ReadAll(t, f)[metadata.ManifestName]); err != nil {
		t.Fatal(err)
	}
	return live
}

func zeroPages(t *testing.T, path string) int {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return countZero(content)
}

func zeroPagesIn(t *testing.T, archive, name string) int {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return countZero(xbtest.ReadAll(t, f)[name])
}

func countZero(content []byte) (n int) {
	for len(content) > 0 {
		if innodb.AllZero(content[:16<<10]) {
			n++
		}
		content = content[16<<10:]
	}
	return n
}

// TestIncrementRestored: a MariaDB that was restored from a backup older than the base, and
// then went on beyond the base's LSN, has the base's identity and LSNs. What it has since
// is in the increment nevertheless: all of its files are newer than the base.
func TestIncrementRestored(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		beginIncrement(t, s)
		dir := t.TempDir()
		old, archives := filepath.Join(dir, "old"), []string{filepath.Join(dir, "base"), filepath.Join(dir, "inc")}
		if _, err := backupSince(t, s, old, ""); err != nil {
			t.Fatal(err)
		}
		s.Exec(t, "UPDATE d.quiet SET v = 'lost' WHERE id % 3 = 0", "CREATE TABLE d.lost LIKE d.a")
		if err := s.Stop(); err != nil { // so that the redo log of the base begins after all this
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{})
		base, err := backupSince(t, s, archives[0], "")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		restored := filepath.Join(dir, "restored")
		restoreByHB(t, root, old, restored)
		s = mysqldtest.StartOn(t, root, restored, mysqldtest.Options{})
		if _, err := backupSince(t, s, archives[1], archives[0]); !ahead(err) {
			t.Errorf("before the server reaches the base's LSN: %v", err)
		}
		for lsn := int64(0); lsn <= int64(base.Manifest.LastLSN); {
			s.Exec(t, "UPDATE d.a SET v = REVERSE(v)")
			if _, err := fmt.Sscan(s.Rows(t, "SHOW GLOBAL STATUS LIKE 'Innodb_lsn_current'")[0][1], &lsn); err != nil {
				t.Fatal(err)
			}
		}
		s.WriteOut(t)
		mysqldtest.Await(t, "a checkpoint", func() bool {
			s.Exec(t, "UPDATE d.a SET v = REVERSE(v) WHERE id < 10")
			_, err := backupSince(t, s, archives[1], archives[0])
			if err != nil && !ahead(err) {
				t.Fatal(err)
			}
			return err == nil
		})
		restoreChain(t, s, dir, archives)
	})
}

func ahead(err error) bool {
	_, ok := errors.AsType[*since.AheadError](err)
	return ok
}
