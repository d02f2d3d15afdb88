package source_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source/mysqld/mysqldtest"
)

// layouts are ways to lay a server's files out, and what a restored server has
// to be told in turn.
var layouts = []struct {
	name    string
	init    []string // @DIR@ stands for a directory of its own
	restore []string
	tables  []string // options of the tables
}{
	{name: "page size 4k", init: []string{"innodb-page-size=4k"}, tables: []string{"", "ROW_FORMAT=REDUNDANT", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"}},
	{name: "page size 64k, crc32", init: []string{"innodb-page-size=64k", "innodb-checksum-algorithm=crc32"}, tables: []string{"", "ROW_FORMAT=REDUNDANT"}},
	{name: "several system files, undo tablespaces", init: []string{"innodb-data-file-path=ibdata1:12M;ibdata2:10M;ibdata3:5M:autoextend", "innodb-undo-tablespaces=3"},
		restore: []string{"innodb-data-file-path=ibdata1:12M;ibdata2:10M;ibdata3:5M:autoextend", "innodb-undo-tablespaces=3"}, tables: []string{"", "PAGE_COMPRESSED=1", "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=16"}},
	{name: "directories elsewhere", init: []string{"innodb-log-group-home-dir=@DIR@/log", "innodb-undo-directory=@DIR@/undo", "innodb-undo-tablespaces=2",
		"innodb-data-home-dir=@DIR@/home", "aria-log-dir-path=@DIR@/aria"}, restore: []string{"innodb-undo-tablespaces=2"}, tables: []string{"", "DATA DIRECTORY='@DIR@/data'"}},
	{name: "system tablespace", init: []string{"innodb-file-per-table=OFF"}, tables: []string{"", "ROW_FORMAT=REDUNDANT"}},
}

// itsTurn reports whether a server has a layout to show: each layout comes to one
// of the servers that can have it, in turn, and to all of them in the long form.
func itsTurn(layout int, servers []string, name string) bool {
	return mysqldtest.Long() || servers[layout%len(servers)] == name
}

// TestLayouts backs up servers of many layouts, whose tables are so young that
// hardly a page of them is on disk, and restores them.
func TestLayouts(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MariaDB, func(t *testing.T, root *mysqldtest.Root) {
		for i, l := range layouts {
			if !itsTurn(i, mysqldtest.MariaDB, root.Name) {
				continue
			}
			t.Run(l.name, func(t *testing.T) {
				dir := t.TempDir()
				for _, sub := range []string{"log", "undo", "home", "aria", "data"} {
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
				s := mysqldtest.Start(t, root, mysqldtest.Options{Init: replace(l.init), Binlog: true,
					Config: []string{"innodb-max-dirty-pages-pct=99", "innodb-max-dirty-pages-pct-lwm=0"}})
				s.Exec(t, "CREATE DATABASE d", "CREATE DATABASE empty_db")
				var tables []string
				for i, options := range replace(l.tables) {
					for _, engine := range []string{"InnoDB", "Aria", "MyISAM"} {
						if engine != "InnoDB" && options != "" {
							continue
						}
						table := fmt.Sprintf("d.t%d_%s", i, engine)
						tables = append(tables, table)
						s.Exec(t, "CREATE TABLE "+table+" (id INT PRIMARY KEY, v VARCHAR(200), b BLOB, KEY (v(100))) ENGINE="+engine+" "+options,
							"INSERT INTO "+table+" SELECT seq, MD5(seq), REPEAT(MD5(seq), 1 + seq % 100) FROM d.seq_1_to_3000",
							"UPDATE "+table+" SET v = REPEAT(v, 2) WHERE id % 3 = 0", "DELETE FROM "+table+" WHERE id % 5 = 0")
					}
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
				for _, sub := range []string{"log", "undo", "home", "aria", "data"} {
					if err := os.Rename(filepath.Join(dir, sub), filepath.Join(dir, sub+".moved")); err != nil {
						t.Fatal(err)
					}
				}
				for name, restore := range restorers {
					target := filepath.Join(dir, "restored by "+name)
					restore(t, root, archive, target)
					r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{Config: l.restore, PageSize: pageSize(l.init)})
					for table, sum := range want {
						if got := r.Rows(t, "CHECKSUM TABLE "+table)[0][1]; got != sum || sum == "" {
							t.Errorf("restored by %s: %s has checksum %q, want %q", name, table, got, sum)
						}
						if got := r.Rows(t, "CHECK TABLE "+table+" EXTENDED"); got[len(got)-1][3] != "OK" {
							t.Errorf("restored by %s: %v", name, got)
						}
					}
					r.Exec(t, "CREATE TABLE empty_db.t (i INT)")
					if err := r.Stop(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	})
}

func pageSize(lines []string) int {
	for _, line := range lines {
		var k int
		if n, _ := fmt.Sscanf(line, "innodb-page-size=%dk", &k); n == 1 {
			return k << 10
		}
	}
	return 0
}

// restorers bring an archive back.
var restorers = map[string]func(t *testing.T, root *mysqldtest.Root, archive, target string){
	"mariadb-backup": restoreByPeer,
	"hb":             restoreByHB,
}

// restoreByPeer restores with only the peer's tools: mbstream unpacks,
// mariadb-backup prepares.
func restoreByPeer(t *testing.T, root *mysqldtest.Root, archive, target string) {
	t.Helper()
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, root.Tool("mbstream", "-x", "-C", target), archive)
	command(t, root.Tool("mariadb-backup", "--prepare", "--target-dir="+target), "")
}

// restoreByHB restores with only hb, which has nothing to warn of.
func restoreByHB(t *testing.T, _ *mysqldtest.Root, archive, target string) {
	t.Helper()
	for _, w := range applied(t, archive, target) {
		t.Errorf("apply: warning %q", w)
	}
}

// restoreDropping restores with only hb a backup during whose last moments tables were
// dropped: hb apply may say that it removed them. What it leaves is whole.
func restoreDropping(t *testing.T, _ *mysqldtest.Root, archive, target string) {
	t.Helper()
	for _, w := range applied(t, archive, target) {
		if !strings.HasPrefix(w, "removed ") || !strings.HasSuffix(w, ", which the redo log says was dropped") {
			t.Errorf("apply: warning %q", w)
		}
	}
	if _, err := verify.Directory(t.Context(), target, verify.Options{}); err != nil {
		t.Errorf("verify: %v", err)
	}
}

// applied extracts an archive and applies its log, and returns the warnings of that.
func applied(t *testing.T, archive, target string) []string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	result, err := extract.Run(t.Context(), f, target, extract.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if result.Manifest == nil || len(result.Warnings) != 0 {
		t.Errorf("extract: manifest %v, warnings %q", result.Manifest, result.Warnings)
	}
	done, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test"})
	if err != nil {
		t.Fatal(err)
	}
	return done.Warnings
}
