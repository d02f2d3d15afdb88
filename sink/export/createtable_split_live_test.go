package export_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/createtable"
)

// splitKinds are tables whose definitions have much that looks like something else.
func splitKinds(root *mysqldtest.Root) map[string][]string {
	kinds := map[string][]string{
		"fts":    {"CREATE TABLE %s (id INT PRIMARY KEY, a TEXT, b VARCHAR(100), FULLTEXT KEY ab (a,b), FULLTEXT (b) COMMENT 'it''s ('',\\n  FULLTEXT KEY `x`', FULLTEXT KEY `f,``\n  g` (a), KEY k (b(10)), UNIQUE `FULLTEXT KEY` (b(5)))"},
		"fkp":    {"CREATE TABLE %s (a INT PRIMARY KEY, b INT, UNIQUE (b))"},
		"fks":    {"CREATE TABLE %s (a INT PRIMARY KEY, b INT, c TEXT, KEY `CONSTRAINT ``x`` FOREIGN KEY (` (b), CONSTRAINT `f,\n  ` FOREIGN KEY (b) REFERENCES t.s_fkp (b) ON DELETE CASCADE ON UPDATE SET NULL, FOREIGN KEY (a) REFERENCES t.s_fkp (a), FULLTEXT (c))"},
		"texts":  {"CREATE TABLE %s (a INT COMMENT '\\\\', b VARCHAR(99) DEFAULT ')\\n) \\'\"` ,\\n  FULLTEXT KEY (', c ENUM(')','a,','''','\\\\') , d SET('(','`'), KEY `)` (a), KEY `\n)` (b)) COMMENT='\\n) DATA DIRECTORY=''x'' \\\\'"},
		"partd":  {"CREATE TABLE %s (a INT, b INT) ENGINE=InnoDB PARTITION BY LIST (a) SUBPARTITION BY HASH (b) (PARTITION p0 VALUES IN (1,2) (SUBPARTITION s0 DATA DIRECTORY='$DIR' COMMENT ' DATA DIRECTORY = ''', SUBPARTITION s1), PARTITION p1 VALUES IN (3) (SUBPARTITION s2, SUBPARTITION s3 DATA DIRECTORY='$DIR'))"},
		"dird":   {"CREATE TABLE %s (a INT, b TEXT, FULLTEXT (b)) DATA DIRECTORY='$DIR'"},
		"myisam": {"CREATE TABLE %s (a INT, b TEXT, c CHAR(20), FULLTEXT (b), FULLTEXT bc (b,c)) ENGINE=MyISAM MAX_ROWS=5 COMMENT 'x'"},
	}
	if root.MariaDB() {
		kinds["maria"] = []string{"CREATE TABLE %s (a INT CHECK (a > 0 AND a <> ')'), b VARCHAR(20) DEFAULT (CONCAT('(',\"'\",')')), c INT AS (a + LENGTH(',\\n  FULLTEXT KEY `x` (')) VIRTUAL, d TEXT, g TEXT COMPRESSED, e TIMESTAMP(6) GENERATED ALWAYS AS ROW START INVISIBLE, f TIMESTAMP(6) GENERATED ALWAYS AS ROW END INVISIBLE, PERIOD FOR SYSTEM_TIME (e,f), FULLTEXT KEY z (d), CONSTRAINT `FOREIGN KEY (` CHECK (b <> 'FOREIGN KEY (')) WITH SYSTEM VERSIONING PAGE_CHECKSUM=1"}
		kinds["period"] = []string{"CREATE TABLE %s (a INT, b DATE, c DATE, PERIOD FOR p (b,c), UNIQUE (a, p WITHOUT OVERLAPS), d TEXT, FULLTEXT (d))"}
		kinds["aria"] = []string{"CREATE TABLE %s (a INT, b TEXT, FULLTEXT (b)) ENGINE=Aria TRANSACTIONAL=1"}
		if !root.AtLeast(10, 6) {
			delete(kinds, "period") // 10.5 adds no FULLTEXT index to a table with WITHOUT OVERLAPS
		}
		if root.AtLeast(11, 8) {
			kinds["vector"] = []string{"CREATE TABLE %s (a INT PRIMARY KEY, v VECTOR(3) NOT NULL, b TEXT, VECTOR KEY vv (v) M=5 DISTANCE=cosine, FULLTEXT (b))"}
		}
	}
	return kinds
}

// TestCreateTableSplit: every server makes the same table of what its SHOW CREATE TABLE shows
// and hb takes apart, step by step.
func TestCreateTableSplit(t *testing.T) {
	for _, name := range allServers {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			root := mysqldtest.Need(t, name)
			o := mysqldtest.Options{}
			if !root.MariaDB() && root.AtLeast(8, 0) {
				o.Config = []string{"innodb-directories=" + dir}
			}
			s := mysqldtest.Start(t, root, o)
			makeTables(t, s)
			c := s.Conn(t)
			kinds := splitKinds(root)
			for _, n := range slices.Sorted(maps.Keys(kinds)) {
				for _, q := range kinds[n] {
					run(t, c, strings.ReplaceAll(strings.ReplaceAll(q, "%s", "t.s_"+n), "$DIR", dir))
				}
			}
			compareSplit(t, s)
		})
	}
}

// compareSplit makes all tables of database t again in another one.
func compareSplit(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	want, _ := shownTables(t, s, "t")
	c := s.Conn(t)
	for _, q := range append([]string{"CREATE DATABASE again", "USE again", "SET SESSION foreign_key_checks=0"}, createtable.Session...) {
		run(t, c, q)
	}
	var later []string
	for _, n := range slices.Sorted(maps.Keys(want)) {
		later = append(later, makeSplit(t, c, n, want[n])...)
		want[n] = withoutDirectory.ReplaceAllString(want[n], "")
	}
	for _, q := range later {
		run(t, c, q)
	}
	if len(later) < 5 {
		t.Errorf("%q", later)
	}
	got, _ := shownTables(t, s, "again")
	compareShown(t, got, want)
	t.Logf("%s: %d statements for indexes and foreign keys", s.Root.Name, len(later))
}
