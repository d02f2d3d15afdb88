package export_test

import (
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/createtable"
	"hb/xbstream/innodb/sdi"
)

// oldDatadirs are those of older servers that are not encrypted, by whether 9.7 upgrades them.
var oldDatadirs = map[string]bool{
	"data_80011": false, "data_80011_ci_mac": false, "data_80012": false, "data_80013": false, "data_80014": false, "data_80015": false, "data_80016": false,
	"80016_subpart": false, "data_80017": false, "data_80018": false, "data80019_partition_prefix_key": false, "data80028_invalid_opt_hints": false,
	"data841_long_index": false, "data_80017_36890891": false,
	"data84_with_externally_stored_tablespaces": false, "data_instant_ddl_upgrade_8_4_3": true, "data_instant_ddl_upgrade_part_8_4_3": true,
	"instant_ddl_upgrade_update_8_4_3": true,
}

// TestCreateTableOld: 9.7 makes the tables of older servers from hb's statements, and shows
// the same of them as of the tables of a directory that it upgraded.
func TestCreateTableOld(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, mysqldtest.Options{})
	total := 0
	for _, name := range slices.Sorted(maps.Keys(oldDatadirs)) {
		dir := mysqldtest.Datadir(t, name)
		tables, spaces := allDefinitions(t, dir)
		statements := hbTables(t, tables, spaces, nil)
		accepted(t, s, refused[name], tables, statements)
		total += len(statements)
		if oldDatadirs[name] {
			compareShown(t, statements, upgraded(t, root, dir, statements, tables))
		}
	}
	t.Logf("%d tables", total)
	if total < 60 {
		t.Errorf("%d tables", total)
	}
}

// upgraded is what 9.7 shows of the tables of a directory that it upgrades.
func upgraded(t *testing.T, root *mysqldtest.Root, dir string, statements map[string]string, tables map[string]*sdi.Table) map[string]string {
	t.Helper()
	s := mysqldtest.StartOn(t, root, dir, mysqldtest.Options{})
	shown := map[string]string{}
	databases := map[string]bool{}
	for n := range statements {
		db := tables[n].Schema
		if databases[db] {
			continue
		}
		databases[db] = true
		all, _ := shownTables(t, s, db)
		for n, create := range all {
			shown[db+"/"+n] = create
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return shown
}

// refused are tables that 9.7 does not make, and why.
var refused = map[string]string{
	"data80019_partition_prefix_key": "Error 6123", // PARTITION BY KEY () and a primary key of prefixes
	"data_80017_36890891":            "Error 3995", // REGEXP_LIKE of a binary string
}

// allDefinitions are the tables of a directory, but the server's own, by the names of their
// databases and their own.
func allDefinitions(t *testing.T, dir string) (map[string]*sdi.Table, map[string]*sdi.Tablespace) {
	t.Helper()
	databases := map[string]bool{}
	all, spaces := map[string]*sdi.Table{}, map[string]*sdi.Tablespace{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".ibd") && e.Name() != "mysql.ibd" {
			databases[filepath.Base(filepath.Dir(path))] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for db := range databases {
		tables, s := definitions(t, db, dir)
		for n := range tables {
			all[db+"/"+n], spaces[db+"/"+n] = tables[n], s[n]
		}
	}
	return all, spaces
}

// accepted makes tables.
func accepted(t *testing.T, s *mysqldtest.Server, refused string, tables map[string]*sdi.Table, statements map[string]string) {
	t.Helper()
	c := s.Conn(t)
	for _, q := range append([]string{"SET SESSION foreign_key_checks=0"}, createtable.Session...) {
		run(t, c, q)
	}
	databases := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		db := tables[name].Schema
		if !databases[db] {
			run(t, c, "DROP DATABASE IF EXISTS "+quoted(db))
			run(t, c, "CREATE DATABASE "+quoted(db))
			databases[db] = true
		}
		run(t, c, "USE "+quoted(db))
		if _, err := c.ExecContext(t.Context(), statements[name]); err != nil && (refused == "" || !strings.HasPrefix(err.Error(), refused)) {
			t.Errorf("%s: %v", statements[name], err)
		}
	}
	for db := range databases {
		run(t, c, "DROP DATABASE "+quoted(db))
	}
}

// TestCreateTableAliases: expressions of documents have the names that 9.7 gives character sets
// which older servers called utf8.
func TestCreateTableAliases(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE t")
	for i, expression := range []string{"concat(_utf8'x',`a`,`utf8`,_utf8'utf8 _utf8\\'charset utf8 using utf8')", "cast(`a` as char(5) charset utf8)", "(`a` collate utf8_bin)", "convert(`a` using utf8)",
		"(cast(`a` as char(5) charset utf8) collate utf8_unicode_ci)"} {
		name := fmt.Sprintf("t%d", i)
		s.Exec(t, "CREATE TABLE t."+name+" (a VARCHAR(9), utf8 INT, b VARCHAR(50) AS ("+expression+")) CHARSET=utf8mb3")
		document := sdi.Table{Name: name, Schema: "t", Engine: "InnoDB", Collation: 33, Columns: []sdi.Column{
			{Name: "a", Type: sdi.ColumnVarchar, Length: 27, Collation: 33, Nullable: true, DefaultNull: true},
			{Name: "utf8", Type: sdi.ColumnLong, Nullable: true, DefaultNull: true},
			{Name: "b", Type: sdi.ColumnVarchar, Length: 150, Collation: 33, Nullable: true, Virtual: true, Generation: expression}}}
		got, err := createtable.FromSDI(&document, createtable.Options{})
		shown, _ := shownTables(t, s, "t")
		if err != nil || got != shown[name] {
			t.Errorf("%v: %s", err, difference(strings.Split(got, "\n"), strings.Split(shown[name], "\n")))
		}
	}
}
