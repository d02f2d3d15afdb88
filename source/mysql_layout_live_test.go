package source_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/metadata"
)

// mysqlLayouts are ways to lay a server's files out. @DIR@ stands for a directory
// of its own, which a restored server does not see.
var mysqlLayouts = []struct {
	name    string
	from    [2]int // the first release that can do it
	init    []string
	restore []string // what a restored server has to be told
	setup   []string // statements before the tables are made
	tables  []string // options of the tables
}{
	{name: "page size 4k", init: []string{"innodb-page-size=4k"},
		tables: []string{"", "ROW_FORMAT=REDUNDANT", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"}},
	{name: "page size 32k, checksums none", from: [2]int{5, 7}, init: []string{"innodb-page-size=32k", "innodb-checksum-algorithm=none"},
		tables: []string{"", "ROW_FORMAT=REDUNDANT"}},
	{name: "checksums innodb", init: []string{"innodb-checksum-algorithm=innodb"},
		tables: []string{"", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8"}},
	{name: "several system files, tables in them", init: []string{"innodb-data-file-path=ibdata1:12M;ibdata2:10M;ibdata3:5M:autoextend", "innodb-file-per-table=OFF"},
		restore: []string{"innodb-data-file-path=ibdata1:12M;ibdata2:10M;ibdata3:5M:autoextend"}, tables: []string{"", "ROW_FORMAT=REDUNDANT"}},
	{name: "undo tablespaces", init: []string{"loose-innodb-undo-tablespaces=3"}, restore: []string{"loose-innodb-undo-tablespaces=3"}, tables: []string{"", "ROW_FORMAT=COMPACT"}},
	{name: "directories elsewhere", init: []string{"innodb-log-group-home-dir=@DIR@/log", "innodb-undo-directory=@DIR@/undo", "loose-innodb-undo-tablespaces=2",
		"innodb-data-home-dir=@DIR@/home"}, restore: []string{"loose-innodb-undo-tablespaces=2"}, tables: []string{""}},
	{name: "tables elsewhere", tables: []string{"", "DATA DIRECTORY='@DIR@/data'", "DATA DIRECTORY='@DIR@/data' PARTITION BY HASH (id) PARTITIONS 3",
		"PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (1000) DATA DIRECTORY='@DIR@/data', PARTITION p1 VALUES LESS THAN MAXVALUE)"}},
	{name: "general tablespaces", from: [2]int{5, 7},
		setup: []string{"CREATE TABLESPACE one ADD DATAFILE 'one.ibd'", "CREATE TABLESPACE `two äö` ADD DATAFILE '@DIR@/data/far.ibd'",
			"CREATE TABLESPACE zip ADD DATAFILE 'zip.ibd' FILE_BLOCK_SIZE=8192"},
		tables: []string{"TABLESPACE one", "TABLESPACE `two äö`", "TABLESPACE zip ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8", "TABLESPACE innodb_system"}},
	{name: "undo tablespaces of users", from: [2]int{8, 0}, init: []string{"innodb-undo-directory=@DIR@/undo"},
		setup:  []string{"CREATE UNDO TABLESPACE mine ADD DATAFILE 'mine.ibu'", "CREATE UNDO TABLESPACE far ADD DATAFILE '@DIR@/data/other.ibu'"},
		tables: []string{""}},
	{name: "compressed pages", from: [2]int{5, 7}, tables: []string{"COMPRESSION='zlib'", "COMPRESSION='lz4'", "COMPRESSION='none'"}},
}

// TestMySQLLayouts backs up servers of many layouts, whose tables are so young
// that hardly a page of them is on disk, and restores them.
func TestMySQLLayouts(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		for i, l := range mysqlLayouts {
			able := slices.DeleteFunc(slices.Clone(mysqldtest.MySQL), func(name string) bool {
				return !mysqldtest.Need(t, name).AtLeast(l.from[0], l.from[1])
			})
			if !slices.Contains(able, root.Name) || !itsTurn(i, able, root.Name) {
				continue
			}
			t.Run(l.name, func(t *testing.T) {
				dir := t.TempDir()
				subs := []string{"log", "undo", "home", "data"}
				for _, sub := range subs {
					if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
						t.Fatal(err)
					}
				}
				replace := func(lines []string) (out []string) {
					for _, line := range lines {
						out = append(out, strings.ReplaceAll(line, "@DIR@", dir))
					}
					return out
				}
				config := []string{"innodb-max-dirty-pages-pct=99"}
				if root.AtLeast(8, 0) {
					config = append(config, "innodb-directories="+filepath.Join(dir, "data"))
				}
				s := mysqldtest.Start(t, root, mysqldtest.Options{Init: replace(l.init), Binlog: true, Config: config})
				s.Exec(t, "CREATE DATABASE d", "CREATE DATABASE empty_db", "CREATE DATABASE `é-d`",
					"CREATE TABLE d.n (n INT PRIMARY KEY)", "INSERT INTO d.n VALUES (0),(1),(2),(3),(4),(5),(6),(7),(8),(9)",
					"CREATE TABLE d.seq (s INT PRIMARY KEY)", "INSERT INTO d.seq SELECT 1000*w.n + 100*x.n + 10*y.n + z.n FROM d.n w, d.n x, d.n y, d.n z WHERE w.n < 3")
				s.Exec(t, replace(l.setup)...)
				tables := []string{"d.n"}
				for i, options := range replace(l.tables) {
					table := fmt.Sprintf("`é-d`.`t é %d`", i)
					tables = append(tables, table)
					fill(t, s, table, options)
				}
				archive := filepath.Join(dir, "archive")
				backup(t, s, archive)
				want := map[string]string{}
				for _, table := range tables {
					want[table] = s.Rows(t, "CHECKSUM TABLE "+table)[0][1]
				}
				if err := s.Stop(); err != nil {
					t.Fatal(err)
				}
				// What lies outside the data directory must not help.
				for _, sub := range subs {
					if err := os.Rename(filepath.Join(dir, sub), filepath.Join(dir, sub+".moved")); err != nil {
						t.Fatal(err)
					}
				}
				target := filepath.Join(dir, "restored")
				restoreByHB(t, root, archive, target)
				if !root.AtLeast(5, 7) {
					putBack(t, target, filepath.Join(dir, "elsewhere"))
				}
				r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Config: l.restore, PageSize: pageSize(l.init)})
				for table, sum := range want {
					if got := r.Rows(t, "CHECKSUM TABLE "+table)[0][1]; got != sum || sum == "" {
						t.Errorf("%s has checksum %q, want %q", table, got, sum)
					}
					if got := r.Rows(t, "CHECK TABLE "+table+" EXTENDED"); got[len(got)-1][3] != "OK" {
						t.Errorf("%v", got)
					}
				}
				r.Exec(t, "CREATE TABLE empty_db.t (i INT)", "DROP DATABASE empty_db", "INSERT INTO d.n VALUES (10)")
				for _, table := range tables[1:] {
					r.Exec(t, "INSERT INTO "+table+" VALUES (100000, 'x', 'y')", "ALTER TABLE "+table+" ADD late INT", "DROP TABLE "+table)
				}
				if err := r.Stop(); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// putBack moves tables that lay outside the data directory to a place outside it,
// which 5.6 wants: it cannot drop them otherwise.
func putBack(t *testing.T, target, to string) {
	t.Helper()
	external, err := metadata.ReadExternal(os.DirFS(target))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range external.Spaces {
		path := filepath.Join(to, s.Name+".ibd")
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(target, s.Name+".ibd"), path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(target, s.Name+".isl"), []byte(path), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// fill makes a table of 3000 rows less some that are deleted.
func fill(t *testing.T, s *mysqldtest.Server, table, options string) {
	t.Helper()
	s.Exec(t, "CREATE TABLE "+table+" (id INT PRIMARY KEY, v VARCHAR(200), b BLOB, KEY (v(100))) ENGINE=InnoDB "+options,
		"INSERT INTO "+table+" SELECT s, HEX(s * 987654321), REPEAT(HEX(s * 987654321), 1 + s % 100) FROM d.seq",
		"UPDATE "+table+" SET v = REPEAT(v, 2) WHERE id % 3 = 0", "DELETE FROM "+table+" WHERE id % 5 = 0")
}
