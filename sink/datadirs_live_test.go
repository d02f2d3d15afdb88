package sink_test

import (
	"encoding/binary"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/census"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
)

// instantUpgraded are the rows of tables with columns that 8.0.28 had added instantly,
// as MySQL's own test has them (mysql-test, suite innodb, instant_ddl_upgrade).
var instantUpgraded = map[string]string{
	"test.t1_": "[[r1c1 r1c2 c3_def c4_def] [r2c1 r2c2 r2c3 c4_def] [r3c1 r3c2 r3c3 r3c4]]",
	"test.t2_": "[[r1c1 r1c2 c3_def] [r2c1 r2c2 r2c3]]",
}

var rowFormats = []string{"redundant", "compact", "dynamic"}

// TestDatadirUpgrade: what apply recovers of data directories of 8.4, also of one whose
// server was killed, 9.7 upgrades and goes on with, and it holds what the directory
// itself does that 9.7 recovers and upgrades.
func TestDatadirUpgrade(t *testing.T) {
	for _, d := range []struct {
		name   string
		tables int
		rows   map[string]string // of the tables of all row formats, by the beginning of their names
		killed bool
		config []string
		long   bool // not in the short form of the test
	}{
		{name: "data_instant_ddl_upgrade_8_4_3", tables: 13, rows: instantUpgraded},
		{name: "data_instant_ddl_upgrade_part_8_4_3", tables: 7, long: true},
		{name: "data_instant_ddl_upgrade_rollback_8_4_3", tables: 4, config: []string{"innodb-page-size=4096"}},
		{name: "instant_ddl_upgrade_update_8_4_3", tables: 7, long: true},
		{name: "mysql_inplace_upgrade84_lctn1", tables: 8, config: []string{"lower-case-table-names=1"}, killed: true},
	} {
		if d.long && !mysqldtest.Long() {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			root := mysqldtest.Need(t, mysqldtest.MySQL97)
			data := mysqldtest.Datadir(t, d.name)
			log, err := census.ReadLog(data, nil)
			if err != nil {
				t.Fatal(err)
			}
			ours := filepath.Join(t.TempDir(), "ours")
			census.Backup(t, data, log, log.End, ours)
			r := mustApply(t, ours, apply.Options{})
			if d.killed != (r.Pages > 100) {
				t.Errorf("%d pages were recovered, of a log from %d to %d", r.Pages, log.Checkpoint.LSN, log.End)
			}
			o := mysqldtest.Options{Config: d.config}
			got, want := upgraded(t, root, ours, o, d.rows), upgraded(t, root, data, o, nil)
			if len(want) != d.tables || !maps.Equal(got, want) {
				t.Errorf("%d tables:\n%v, but as the server recovers and upgrades it\n%v", len(want), got, want)
			}
			t.Logf("%d pages recovered, %d tables equal", r.Pages, len(want))
		})
	}
}

// upgraded has a server upgrade a directory, checks all tables, and returns their
// checksums. It writes, stops in order and starts again.
func upgraded(t *testing.T, root *mysqldtest.Root, dir string, o mysqldtest.Options, rows map[string]string) map[string]string {
	t.Helper()
	s := mysqldtest.StartOn(t, root, dir, o)
	sums := tableSums(t, s)
	for name, want := range rows {
		for _, format := range rowFormats {
			if got := fmt.Sprint(s.Rows(t, "SELECT * FROM "+name+format+" ORDER BY c1")); got != want {
				t.Errorf("%s%s has the rows %s, not %s", name, format, got, want)
			}
		}
	}
	s.Exec(t, "CREATE DATABASE later", "CREATE TABLE later.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(20)) ENGINE=InnoDB", "INSERT INTO later.t (v) VALUES ('one'), ('two')")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	s = mysqldtest.StartOn(t, root, dir, o)
	again := tableSums(t, s)
	delete(again, "later.t")
	if !maps.Equal(again, sums) {
		t.Errorf("after a restart the tables are\n%v, and were\n%v", again, sums)
	}
	log, err := s.ErrorLog()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, "[ERROR]") && !strings.Contains(line, "ib_buffer_pool") || strings.Contains(line, "in the future") {
			t.Errorf("the server says: %s", line)
		}
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	return sums
}

// tableSums checks all tables of users and returns what CHECKSUM TABLE says of them.
func tableSums(t *testing.T, s *mysqldtest.Server) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for _, row := range s.Rows(t, "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.tables WHERE engine = 'InnoDB' AND table_schema <> 'mysql'") {
		// Of a table from before it warns that a row might not fit into a page.
		checks := slices.DeleteFunc(s.Rows(t, "CHECK TABLE "+row[0]+" EXTENDED"), func(r []string) bool { return strings.HasPrefix(r[3], "Row size too large") })
		if len(checks) != 1 || checks[0][3] != "OK" {
			t.Errorf("CHECK TABLE %s: %v", row[0], checks)
		}
		sums[row[0]] = s.Rows(t, "CHECKSUM TABLE "+row[0])[0][1]
	}
	return sums
}

// TestInstantUpgraded: of tables whose columns 8.0.28 had added instantly, and 9.7 adds
// more to and drops some, apply recovers every page as the server does.
func TestInstantUpgraded(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	data := mysqldtest.Datadir(t, "data_instant_ddl_upgrade_8_4_3")
	s := mysqldtest.StartOn(t, root, data, mysqldtest.Options{}) // upgrades it
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	var o census.CrashOptions
	s = mysqldtest.StartOn(t, root, data, o.Server(root, t.TempDir()))
	for _, format := range rowFormats {
		changeInstant(t, s, "test.t1_"+format, true)
		changeInstant(t, s, "test.t2_"+format, false)
	}
	s.Exec(t, "FLUSH ENGINE LOGS")
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	log, err := census.ReadLog(data, nil)
	if err != nil {
		t.Fatal(err)
	}
	hasInstant(t, log)
	base := t.TempDir()
	backup := filepath.Join(base, "backup")
	census.Backup(t, data, log, log.End, backup)
	theirs := recoveredByServer(t, root, copyTree(t, data, filepath.Join(base, "server")), data, log, o, minPages)
	mustApply(t, backup, apply.Options{})
	compareApplied(t, replayMySQL(t, data, log, log.End), readFiles(t, backup), theirs.files, log.End)
	for id, f := range theirs.files.Spaces {
		const root, level = 4, 64 // after the root of the table's definition
		if strings.HasPrefix(f.Name, "test/t1_") && !strings.Contains(f.Name, "part") && binary.BigEndian.Uint16(f.Page(root)[level:]) == 0 {
			t.Errorf("%s (%d) has no node pointers", f.Name, id)
		}
	}
	if got, want := upgraded(t, root, backup, mysqldtest.Options{}, nil), upgraded(t, root, data, mysqldtest.Options{}, nil); !maps.Equal(got, want) {
		t.Errorf("the tables are\n%v, as the server recovers them\n%v", got, want)
	}
}

// changeInstant changes rows of a table (c1 CHAR(10), c2 CHAR(10), c3 …) in all ways,
// those too that the table had before it was upgraded; versions: it gets columns and
// loses some.
func changeInstant(t *testing.T, s *mysqldtest.Server, table string, versions bool) {
	t.Helper()
	grow := func(times int) {
		for range times {
			s.Exec(t, "INSERT INTO "+table+" SELECT * FROM "+table)
		}
	}
	s.Exec(t, "UPDATE "+table+" SET c2 = 'in place' WHERE c1 = 'r1c1'", "UPDATE "+table+" SET c3 = NULL WHERE c1 = 'r2c1'",
		"BEGIN", "UPDATE "+table+" SET c1 = NULL, c3 = 'never'", "ROLLBACK")
	grow(9)
	s.Exec(t, "UPDATE "+table+" SET c3 = 'some' WHERE c1 = 'r2c1' LIMIT 300", "DELETE FROM "+table+" WHERE c1 = 'r1c1' LIMIT 100")
	if versions {
		s.Exec(t, "ALTER TABLE "+table+" ADD COLUMN c5 CHAR(10) DEFAULT 'c5_def' FIRST, ALGORITHM=INSTANT")
		grow(1)
		s.Exec(t, "UPDATE "+table+" SET c5 = 'five' WHERE c1 = 'r3c1' LIMIT 500", "ALTER TABLE "+table+" DROP COLUMN c2, ALGORITHM=INSTANT",
			// More columns that can be NULL than a byte has bits: node pointers count only the first.
			"ALTER TABLE "+table+" ADD COLUMN a1 INT, ADD COLUMN a2 INT, ADD COLUMN a3 INT, ADD COLUMN a4 INT, ADD COLUMN a5 INT, ADD COLUMN a6 INT, ADD COLUMN a7 INT, ADD COLUMN a8 INT, ALGORITHM=INSTANT",
			"UPDATE "+table+" SET c3 = 'three' WHERE c1 = 'r1c1' LIMIT 500")
	}
	grow(3)
	s.Exec(t, "DELETE FROM "+table+" WHERE c1 = 'r2c1' LIMIT 1000", "UPDATE "+table+" SET c1 = 'changed' WHERE c1 = 'r1c1' LIMIT 2000",
		"BEGIN", "UPDATE "+table+" SET c3 = 'rolled' LIMIT 1000", "DELETE FROM "+table+" LIMIT 500", "ROLLBACK")
}

// hasInstant makes sure that the log describes indexes with columns that were added
// before 8.0.29, both of tables whose rows have versions and of others. (Of tables with
// REDUNDANT it does not say so.)
func hasInstant(t *testing.T, log *census.Log) {
	t.Helper()
	types := []mlog.Type{mlog.Insert, mlog.Delete, mlog.UpdateInPlace, mlog.ClustDeleteMark}
	counts := map[mlog.Type][2]int{}
	err := log.Each(func(m *redolog.MTR) error {
		for at := 0; at < len(m.Records); {
			r, _, err := mlog.ParseRecord(m.Records[at:])
			if err != nil {
				return err
			}
			at += r.Size
			if !slices.Contains(types, r.Type) {
				continue
			}
			var x mlog.Index
			if _, err := x.Parse(r.Type, r.Body); err != nil {
				return err
			}
			if c := counts[r.Type]; x.HasInstant {
				if x.Versioned {
					c[1]++
				} else {
					c[0]++
				}
				counts[r.Type] = c
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("records of tables with columns that were added before 8.0.29, without versions of rows and with: %v", counts)
	for _, typ := range types {
		if c := counts[typ]; c[0] < 1000 || c[1] < 1000 {
			t.Errorf("%d and %d records %v", c[0], c[1], typ)
		}
	}
}
