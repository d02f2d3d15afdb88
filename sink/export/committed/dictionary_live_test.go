package committed_test

import (
	"os"
	"path/filepath"
	"testing"

	"hb/sink/export"
	"hb/sink/export/committed"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb/sdi"
)

// TestDictionaryIDs: of the tables of MySQL's dictionary, all but InnoDB's counters and
// statistics are taken for what defines tables, and no other table is.
func TestDictionaryIDs(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE t", "CREATE TABLE t.a (a INT)")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(s.Datadir, "mysql.ibd"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	pages, err := export.Open([]export.File{{ReaderAt: f, Name: f.Name(), Size: st.Size()}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := sdi.Read(pages)
	if err != nil {
		t.Fatal(err)
	}
	defines := map[string]bool{}
	for _, d := range docs {
		if d.Type != sdi.TypeTable {
			continue
		}
		table, err := d.Table()
		if err != nil {
			t.Fatal(err)
		}
		defines[table.Name] = committed.IsDictionary(90704, table.PrivateID)
	}
	for name, want := range map[string]bool{
		"innodb_dynamic_metadata": false, "innodb_table_stats": false, "innodb_index_stats": false, "user": false,
		"innodb_ddl_log": true, "tables": true, "columns": true, "indexes": true, "index_partitions": true, "schemata": true, "tablespaces": true, "dd_properties": true,
	} {
		if got, there := defines[name]; there && got != want || !there && want {
			t.Errorf("%s: %v, not %v (there: %v)", name, got, want, there)
		}
	}
}
