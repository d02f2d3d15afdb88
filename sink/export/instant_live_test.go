package export_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/cfg"
)

// instantSteps are what happens to a table: rows come between the steps. All columns are INT
// or VARCHAR, and have a name only once.
func instantSteps(maria bool) []string {
	steps := []string{
		"ADD COLUMN d INT NOT NULL DEFAULT 7", "ADD COLUMN e VARCHAR(20) DEFAULT 'abc', ADD COLUMN f VARCHAR(300) DEFAULT NULL", "ADD COLUMN g INT",
		"ADD COLUMN h VARCHAR(900) NOT NULL DEFAULT 'some text', ADD COLUMN i INT DEFAULT -3, ADD COLUMN j VARCHAR(3), ADD COLUMN k VARCHAR(3), ADD COLUMN l INT, ADD COLUMN m INT, ADD COLUMN n INT",
		"ADD COLUMN o INT FIRST, DROP COLUMN b", "DROP COLUMN e", "DROP COLUMN h, ADD COLUMN p VARCHAR(30) NOT NULL DEFAULT 'p' AFTER a", "ADD COLUMN q INT", "DROP COLUMN d, DROP COLUMN i",
	}
	if maria {
		steps = append(steps, "MODIFY f VARCHAR(300) FIRST", "DROP COLUMN g, ADD COLUMN r INT DEFAULT 9 AFTER f")
	}
	return steps
}

// instantDefaults are those of columns that instantSteps adds, of rows that were there before.
var instantDefaults = map[string]string{"d": "7", "e": "abc", "f": null, "g": null, "h": "some text", "i": "-3", "j": null, "k": null, "l": null, "m": null, "n": null, "o": null, "p": "p", "q": null, "r": "9"}

const null = "\x00NULL"

// TestInstantRows: rows of tables that instant ALTER TABLE changed over and over have the
// values that the server shows.
func TestInstantRows(t *testing.T) {
	mysqldtest.EachServer(t, append([]string{mysqldtest.MySQL97}, mysqldtest.MariaDB...), mysqldtest.Options{PageSize: 8192}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE t")
		maria := s.Root.MariaDB()
		names := []string{"dynamic", "redundant", "compact", "str_dynamic", "str_redundant"}
		for _, name := range names {
			format := name[strings.LastIndex(name, "_")+1:]
			key := "a INT PRIMARY KEY"
			if strings.HasPrefix(name, "str") {
				key = "z VARCHAR(200) NOT NULL, a INT NOT NULL, PRIMARY KEY (z(90), a)"
			}
			s.Exec(t, "CREATE TABLE t."+name+" ("+key+", b VARCHAR(100), c INT) DEFAULT CHARSET=latin1 ROW_FORMAT="+format)
			makeInstant(t, s, "t."+name, instantSteps(maria))
		}
		shown := map[string][]map[string]string{}
		for _, name := range names {
			shown[name] = shownRows(t, s, "t."+name)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		files := buildCfg(t, s, "t", names)
		for _, name := range names {
			if files[name] == nil {
				continue
			}
			pages := open(t, filepath.Join(s.Datadir, "t", name+".ibd"), nil)
			if compareInstant(t, s.Root.Name+" "+name, files[name], pages, shown[name], func(f *cfg.Field) string { return instantDefaults[f.Name] }) == 0 {
				t.Errorf("%s: all rows have all fields", name)
			}
		}
	})
}

// makeInstant adds rows, and changes some, between the steps.
func makeInstant(t *testing.T, s *mysqldtest.Server, table string, steps []string) {
	t.Helper()
	n := 0
	more := func(count int) {
		var rows []string
		for range count {
			n++
			key := ""
			if strings.Contains(table, "str_") {
				key = fmt.Sprintf("'%s%d',", strings.Repeat("k", n*37%150), n)
			}
			rows = append(rows, fmt.Sprintf("(%s%d,%d)", key, n*7919%100003, n))
		}
		columns := "(a,c)"
		if strings.Contains(table, "str_") {
			columns = "(z,a,c)"
		}
		s.Exec(t, "INSERT INTO "+table+" "+columns+" VALUES "+strings.Join(rows, ","))
	}
	more(900)
	s.Exec(t, "UPDATE "+table+" SET b=REPEAT('b',c%60) WHERE c%3=0")
	for i, step := range steps {
		s.Exec(t, "ALTER TABLE "+table+" "+step+", ALGORITHM=INSTANT")
		more(60)
		s.Exec(t, fmt.Sprintf("UPDATE %s SET c=-c WHERE c%%17=%d", table, i), fmt.Sprintf("DELETE FROM %s WHERE c%%23=%d", table, i))
		switch i {
		case 1:
			s.Exec(t, "UPDATE "+table+" SET e=NULL, f=REPEAT('f',c%250) WHERE c%13=5", "UPDATE "+table+" SET d=c WHERE c%11=2")
		case 3:
			s.Exec(t, "UPDATE "+table+" SET h=REPEAT('h',c%900), l=c, n=5 WHERE c%19=1", "UPDATE "+table+" SET i=NULL, j='', k='kk' WHERE c%19=2")
		case 7:
			s.Exec(t, "UPDATE "+table+" SET o=c, p='changed', q=c WHERE c%7=1")
		}
	}
}

// shownRows are the rows that a server shows, by the names of their columns.
func shownRows(t *testing.T, s *mysqldtest.Server, table string) (list []map[string]string) {
	t.Helper()
	rows, err := s.DB().QueryContext(t.Context(), "SELECT * FROM "+table)
	if err != nil {
		t.Fatal(err)
	}
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, to := make([][]byte, len(names)), make([]any, len(names))
		for i := range values {
			to[i] = &values[i]
		}
		if err := rows.Scan(to...); err != nil {
			t.Fatal(err)
		}
		row := map[string]string{}
		for i, n := range names {
			if row[n] = string(values[i]); values[i] == nil {
				row[n] = null
			}
		}
		list = append(list, row)
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	return list
}

// compareInstant compares the rows of a clustered index with those that a server shows, in
// their INT and VARCHAR columns.
func compareInstant(t *testing.T, what string, f *cfg.File, pages btree.Pages, want []map[string]string, missing func(*cfg.Field) string) (absent int) {
	t.Helper()
	i := f.Clustered()
	format, order, err := f.Format(i)
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return 0
	}
	tree := &btree.Tree{Pages: pages, Root: innodb.PageNo(i.Root), ID: i.ID, Format: format}
	var got, wanted []string
	versions := map[int]int{}
	err = tree.Walk(func(r *btree.Record) error {
		if r.Deleted {
			return nil
		}
		versions[r.Version]++
		if len(r.Fields) != len(order) {
			return fmt.Errorf("%d fields, not %d", len(r.Fields), len(order))
		}
		row := map[string]string{}
		for n, field := range order {
			if field == nil || field.Prefix != 0 || strings.HasPrefix(field.Name, "DB_") || want[0][field.Name] == "" && !has(want[0], field.Name) {
				continue
			}
			switch v := r.Fields[n]; {
			case v.Missing:
				absent++
				row[field.Name] = missing(field)
			case v.Null:
				row[field.Name] = null
			default:
				row[field.Name] = plain(field, v.Data)
			}
		}
		got = append(got, fmt.Sprint(row))
		return nil
	})
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	for _, row := range want {
		wanted = append(wanted, fmt.Sprint(row))
	}
	slices.Sort(got)
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		t.Errorf("%s: %d rows, not %d:\n%s", what, len(got), len(wanted), firstDifference(got, wanted))
	}
	t.Logf("%s: %d rows, %d of %v; %d values are not in rows", what, len(got), len(versions), versions, absent)
	return absent
}

func has(m map[string]string, k string) bool { _, ok := m[k]; return ok }

func firstDifference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return "missing " + want[i]
		case i >= len(want):
			return "beyond " + got[i]
		case got[i] != want[i]:
			return got[i] + "\nnot\n" + want[i]
		}
	}
	return ""
}

// plain is a value as SQL shows it: of an INT, or a text, without the spaces that fill a CHAR.
func plain(f *cfg.Field, b []byte) string {
	const mInt = 6
	if f.Column().MType == mInt && len(b) == 4 {
		return strconv.Itoa(int(int32(binary.BigEndian.Uint32(b) ^ 1<<31)))
	}
	return strings.TrimRight(string(b), " ")
}

// TestInstantRowsUpgraded: the same of tables to which servers before 8.0.29 added columns
// instantly, without versions of rows, and 9.7 added and dropped more.
func TestInstantRowsUpgraded(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	for _, name := range []string{"data_instant_ddl_upgrade_8_4_3", "data_instant_ddl_upgrade_part_8_4_3", "instant_ddl_upgrade_update_8_4_3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mysqldtest.StartOn(t, root, mysqldtest.Datadir(t, name), mysqldtest.Options{})
			missing := compareUpgraded(t, s, name+", as it was")
			s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{})
			for _, row := range s.Rows(t, "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS JOIN information_schema.TABLES USING (TABLE_SCHEMA, TABLE_NAME) WHERE TABLE_SCHEMA='test' AND ENGINE='InnoDB' AND ORDINAL_POSITION=2") {
				table := "test.`" + row[0] + "`"
				s.Exec(t, "ALTER TABLE "+table+" ADD COLUMN added_1 VARCHAR(20) DEFAULT 'x', ALGORITHM=INSTANT", "ALTER TABLE "+table+" ADD COLUMN added_2 INT FIRST, ALGORITHM=INSTANT",
					"UPDATE "+table+" SET added_2=5 LIMIT 1", "ALTER TABLE "+table+" DROP COLUMN added_1, ALGORITHM=INSTANT", "UPDATE "+table+" SET added_2=6 LIMIT 1")
			}
			if missing+compareUpgraded(t, s, name+", altered") == 0 {
				t.Error("all rows have all fields")
			}
		})
	}
}

// compareUpgraded stops a server and compares the rows of database test with what it showed.
func compareUpgraded(t *testing.T, s *mysqldtest.Server, what string) (missing int) {
	t.Helper()
	shown := map[string][]map[string]string{}
	for _, row := range s.Rows(t, "SELECT TABLE_NAME, IFNULL(PARTITION_NAME,'') FROM information_schema.PARTITIONS JOIN information_schema.TABLES USING (TABLE_SCHEMA, TABLE_NAME) WHERE TABLE_SCHEMA='test' AND ENGINE='InnoDB'") {
		columns := s.Value(t, "SELECT IFNULL(GROUP_CONCAT(CONCAT('`',COLUMN_NAME,'`')),'') FROM information_schema.COLUMNS WHERE TABLE_SCHEMA='test' AND TABLE_NAME=? AND DATA_TYPE IN ('int','varchar','text','tinytext','char') AND EXTRA NOT LIKE '%VIRTUAL%'", row[0])
		if columns == "" {
			continue
		}
		file, from := row[0], "test.`"+row[0]+"`"
		if row[1] != "" {
			file, from = file+"#p#"+strings.ToLower(row[1]), from+" PARTITION (`"+row[1]+"`)"
		}
		if rows := shownRows(t, s, "(SELECT "+columns+" FROM "+from+") x"); len(rows) > 0 {
			shown[file] = rows
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if len(shown) < 3 {
		t.Errorf("%s: %d tables", what, len(shown))
	}
	for name, f := range buildCfg(t, s, "test", slices.Collect(maps.Keys(shown))) {
		pages := open(t, filepath.Join(s.Datadir, "test", name+".ibd"), nil)
		missing += compareInstant(t, what+", "+name, f, pages, shown[name], func(f *cfg.Field) string {
			switch d := f.Column().Default; {
			case d == nil:
				return "no default"
			case d.Null:
				return null
			default:
				return plain(f, d.Value)
			}
		})
	}
	return missing
}
