package export_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb/dict"
)

var dictServers = append([]string{mysqldtest.MySQL56, mysqldtest.MySQL57}, mysqldtest.MariaDB...)

// TestDictionary: the dictionary in the system tablespace is what the servers show of it in
// information_schema, for tables of all kinds, with pages of 4 KiB, so that trees are deep.
func TestDictionary(t *testing.T) {
	mysqldtest.EachServer(t, dictServers, mysqldtest.Options{PageSize: 4096}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE t")
		for name, statements := range tableKinds(s.Root) {
			if name != "foreign" && name != "ftsdropped" && !strings.HasPrefix(name, "zip8") && !strings.HasPrefix(name, "wide") {
				s.Exec(t, statements...)
			}
		}
		s.Exec(t, tableKinds(s.Root)["foreign"]...)
		for i := range 150 {
			s.Exec(t, fmt.Sprintf("CREATE TABLE t.many_%d (a INT PRIMARY KEY, b INT, c VARCHAR(%d), KEY (b), KEY (c(3),b))", i, 10+i))
		}
		s.Exec(t, "DROP TABLE t.many_9, t.many_77")
		want := shown(t, s)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		d, err := dict.Read(open(t, filepath.Join(s.Datadir, "ibdata1"), nil))
		if err != nil {
			t.Fatal(err)
		}
		got := read(t, d)
		for what, rows := range want {
			have := got[what]
			slices.Sort(rows)
			slices.Sort(have)
			if !slices.Equal(rows, have) {
				for _, r := range rows {
					if !slices.Contains(have, r) {
						t.Errorf("%s: %s is missing", what, r)
					}
				}
				for _, r := range have {
					if !slices.Contains(rows, r) {
						t.Errorf("%s: %s is not the server's", what, r)
					}
				}
			}
		}
		t.Logf("%s: %d tables, %d columns, %d virtual, %d indexes, %d fields (%d descending), %d foreign keys", s.Root.Name, len(want["tables"]), len(want["columns"]),
			len(want["virtual"]), len(want["indexes"]), len(want["fields"]), len(want["descending"]), len(want["foreign"]))
		if len(want["fields"]) < 400 || len(want["foreign"]) != 1 {
			t.Errorf("%d fields, %d foreign keys", len(want["fields"]), len(want["foreign"]))
		}
	})
}

// shown returns what a server shows of its dictionary.
func shown(t *testing.T, s *mysqldtest.Server) map[string][]string {
	t.Helper()
	queries := map[string]string{
		"tables":      "SELECT TABLE_ID, NAME, FLAG, SPACE FROM information_schema.INNODB_SYS_TABLES",
		"columns":     `SELECT TABLE_ID, c.NAME, POS, MTYPE, PRTYPE, LEN FROM information_schema.INNODB_SYS_COLUMNS c JOIN information_schema.INNODB_SYS_TABLES t USING (TABLE_ID) WHERE t.NAME LIKE '%/%' AND t.NAME NOT LIKE '%/FTS\_%'`,
		"indexes":     "SELECT INDEX_ID, NAME, TABLE_ID, TYPE, N_FIELDS, PAGE_NO, SPACE FROM information_schema.INNODB_SYS_INDEXES",
		"fields":      "SELECT INDEX_ID, NAME, POS FROM information_schema.INNODB_SYS_FIELDS",
		"foreign":     "SELECT ID, FOR_NAME, REF_NAME, N_COLS, TYPE FROM information_schema.INNODB_SYS_FOREIGN",
		"foreigncols": "SELECT ID, FOR_COL_NAME, REF_COL_NAME, POS FROM information_schema.INNODB_SYS_FOREIGN_COLS",
		"prefixes":    "SELECT CONCAT(TABLE_NAME,'.',INDEX_NAME,'.',SEQ_IN_INDEX) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA='t' AND SUB_PART IS NOT NULL AND INDEX_TYPE='BTREE' AND TABLE_NAME NOT IN ('part','subpart','longuniq')",
		"descending":  "SELECT CONCAT(TABLE_NAME,'.',INDEX_NAME,'.',SEQ_IN_INDEX) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA='t' AND COLLATION='D'",
	}
	if s.Root.MariaDB() || s.Root.AtLeast(5, 7) {
		queries["virtual"] = "SELECT TABLE_ID, POS, BASE_POS FROM information_schema.INNODB_SYS_VIRTUAL"
	}
	all := map[string][]string{}
	for what, q := range queries {
		for _, row := range s.Rows(t, q) {
			all[what] = append(all[what], strings.Join(row, " "))
		}
	}
	return all
}

// read puts what was read into the same form.
func read(t *testing.T, d *dict.Dictionary) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	add := func(what string, row ...any) {
		all[what] = append(all[what], strings.TrimSuffix(fmt.Sprintln(row...), "\n"))
	}
	for _, tb := range d.Tables {
		if err := tb.Check(); err != nil {
			t.Error(err)
		}
		add("tables", tb.ID, tb.Name, tb.Flags(), tb.Space)
		for _, c := range append(slices.Clone(tb.Columns), tb.Virtual...) {
			if !strings.Contains(tb.Name, "/") || strings.Contains(tb.Name, "/FTS_") {
				// Those of the dictionary itself, and of what FULLTEXT indexes have, have no
				// collation, and servers show their default.
				continue
			}
			add("columns", tb.ID, c.Name, c.Pos, c.MType, c.PRType, c.Len)
			for _, b := range c.Bases {
				add("virtual", tb.ID, c.Pos, b)
			}
		}
		for _, i := range tb.Indexes {
			add("indexes", i.ID, i.Name, tb.ID, i.Type, len(i.Fields), i.Root, i.Space)
			for pos, f := range i.Fields {
				add("fields", i.ID, f.Column, pos)
				name := fmt.Sprintf("%s.%s.%d", strings.TrimPrefix(tb.Name, "t/"), i.Name, pos+1)
				if f.Prefix != 0 && strings.HasPrefix(tb.Name, "t/") && i.Type&64 == 0 {
					add("prefixes", name)
				}
				if f.Descending {
					add("descending", name)
				}
			}
		}
	}
	for _, k := range d.Foreign {
		add("foreign", k.ID, k.For, k.Ref, len(k.Columns), k.Type)
		for pos, c := range k.Columns {
			add("foreigncols", k.ID, c[0], c[1], pos)
		}
	}
	return all
}
