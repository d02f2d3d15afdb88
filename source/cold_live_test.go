package source_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/sink/apply"
	"hb/source/mysqld/mysqldtest"
)

// TestCold: nobody has used a table since the server was started, so that MariaDB 10.6 and
// later do not have its file open, and do not list it. hb copies it once all the same, before
// it takes locks.
func TestCold(t *testing.T) {
	mysqldtest.Each(t, slices.Concat(mysqldtest.MariaDB, mysqldtest.MySQL), func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.a (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO d.a VALUES (1), (2)",
			"CREATE TABLE d.p (id INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 2", "INSERT INTO d.p SELECT * FROM d.a",
			"SET GLOBAL innodb_fast_shutdown = 0") // purge opens tables
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, mysqldtest.Options{Config: []string{"innodb-buffer-pool-load-at-startup=OFF"}})
		if root.MariaDB() && root.AtLeast(10, 6) {
			if n := s.Value(t, "SELECT COUNT(*) FROM information_schema.INNODB_SYS_TABLESPACES WHERE NAME LIKE 'd/%'"); n != "0" {
				t.Errorf("%s tables are open before the backup", n)
			}
		}
		archive := filepath.Join(t.TempDir(), "archive")
		result := backup(t, s, archive)
		for name := range entries(t, archive) {
			if strings.Contains(name, "#hb#") {
				t.Errorf("a tablespace was copied again: %s", name)
			}
		}
		if len(result.Manifest.Warnings) > 0 {
			t.Errorf("warnings: %q", result.Manifest.Warnings)
		}
		target := filepath.Join(t.TempDir(), "target")
		unpack(t, archive, target)
		if _, err := apply.Run(t.Context(), target, apply.Options{Tool: "hb test"}); err != nil {
			t.Fatal(err)
		}
		restored := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
		if got := restored.Value(t, "SELECT COUNT(*) FROM d.a JOIN d.p USING (id)"); got != "2" {
			t.Errorf("%s rows are restored", got)
		}
	})
}
