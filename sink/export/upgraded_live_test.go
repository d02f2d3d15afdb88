package export_test

import (
	"testing"

	"hb/source/mysqld/mysqldtest"
)

// TestCfgUpgraded: hb's .cfg files are the server's also for tables to which servers before
// 8.0.29, which had no versions of rows, added columns instantly, and 9.7 adds more, and drops
// some.
func TestCfgUpgraded(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	for _, name := range []string{"data_instant_ddl_upgrade_8_4_3", "data_instant_ddl_upgrade_part_8_4_3", "instant_ddl_upgrade_update_8_4_3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mysqldtest.StartOn(t, root, mysqldtest.Datadir(t, name), mysqldtest.Options{})
			var names []string
			for _, row := range s.Rows(t, "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA='test' AND ENGINE='InnoDB'") {
				names = append(names, row[0])
			}
			if len(names) < 3 {
				t.Fatalf("tables %q", names)
			}
			before := exportTables(t, s, "test", names)
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			compareCfg(t, s, "test", before)
			s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{})
			for _, n := range names {
				s.Exec(t, "ALTER TABLE test.`"+n+"` ADD COLUMN added_1 VARCHAR(20) DEFAULT 'x', ALGORITHM=INSTANT", "ALTER TABLE test.`"+n+"` ADD COLUMN added_2 INT, ALGORITHM=INSTANT",
					"ALTER TABLE test.`"+n+"` DROP COLUMN added_1, ALGORITHM=INSTANT")
			}
			after := exportTables(t, s, "test", names)
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
			compareCfg(t, s, "test", after)
		})
	}
}
