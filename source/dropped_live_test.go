package source_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hb/source"
	"hb/source/mysqld/mysqldtest"
)

// TestDroppedDatabase: a database that is dropped while it is copied is not in the
// restored server, not even as an empty one; one whose only table is dropped is.
func TestDroppedDatabase(t *testing.T) {
	mysqldtest.Each(t, []string{mysqldtest.MariaDB105, mysqldtest.MariaDB118, mysqldtest.MySQL57}, func(t *testing.T, root *mysqldtest.Root) {
		s := mysqldtest.Start(t, root, mysqldtest.Options{})
		for i, db := range []string{"dropped", "moved", "kept"} { // the largest table is copied first
			s.Exec(t, "CREATE DATABASE "+db, "CREATE TABLE "+db+".t (id INT PRIMARY KEY, b LONGBLOB) ENGINE=InnoDB",
				fmt.Sprintf("INSERT INTO %s.t VALUES (7, REPEAT('x', %d))", db, 3000000-i*1400000),
				"CREATE TABLE "+db+".m (id INT PRIMARY KEY) ENGINE=MyISAM")
		}
		run(t, s, []string{"FLUSH TABLES dropped.t, moved.t, kept.t FOR EXPORT", "UNLOCK TABLES"}) // else they may have no page 0 yet
		dir := t.TempDir()
		archive, ran := filepath.Join(dir, "archive"), false
		f, err := os.Create(archive)
		if err != nil {
			t.Fatal(err)
		}
		_, err = hooked(t, s, f, source.Options{Pace: func(context.Context, int) error {
			if !ran && began(archive, "dropped/t.ibd") && began(archive, "moved/t.ibd") {
				ran = true
				s.Exec(t, "DROP DATABASE dropped", "RENAME TABLE moved.t TO kept.moved", "DROP DATABASE moved", "DROP TABLE kept.t, kept.m")
			}
			return nil
		}})
		f.Close()
		if err != nil || !ran {
			t.Fatalf("%v (%v)", err, ran)
		}
		target := filepath.Join(dir, "restored")
		restoreByHB(t, root, archive, target)
		r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
		var have []string
		for _, row := range r.Rows(t, "SHOW DATABASES") {
			have = append(have, row[0])
		}
		if slices.Contains(have, "dropped") || slices.Contains(have, "moved") || !slices.Contains(have, "kept") {
			t.Errorf("%q", have)
		}
		if got := r.Value(t, "SELECT id FROM kept.moved"); got != "7" {
			t.Error(got)
		}
	})
}
