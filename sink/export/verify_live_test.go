package export_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"hb/sink/backupdir"
	"hb/source/mysqld/mysqldtest"
)

// TestVerify: the pages of tables of all kinds are whole, until one byte of one page is another.
func TestVerify(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		makeTables(t, s)
		s.Exec(t, "CREATE TABLE t.plain (a INT PRIMARY KEY, b LONGBLOB)", "INSERT INTO t.plain VALUES (1, REPEAT('b', 300000))")
		s.WriteOut(t)
		datadir, root := s.Datadir, s.Root
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		d := openDirectory(t, s)
		tables, err := d.Tables()
		if err != nil {
			t.Fatal(err)
		}
		verified := 0
		for _, table := range tables {
			if table.Database != "t" {
				continue
			}
			if err := d.Verify(t.Context(), table, nil); err != nil {
				t.Errorf("%s: %v: %v", root.Name, table, err)
			}
			verified += len(table.Parts)
			if table.Name != "plain" {
				continue
			}
			file := filepath.Join(datadir, "t", "plain.ibd")
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			content[7*16384+5000] ^= 1
			if err := os.WriteFile(file, content, 0o640); err != nil {
				t.Fatal(err)
			}
			if damage, ok := errors.AsType[*backupdir.DamageError](d.Verify(t.Context(), table, nil)); !ok || damage.File != "t/plain.ibd" {
				t.Errorf("%s: damaged: %v", root.Name, damage)
			}
		}
		if verified < 30 {
			t.Errorf("%s: %d tablespaces", root.Name, verified)
		}
	})
}
