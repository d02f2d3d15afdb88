package source_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"hb/source/datadir"
	"hb/source/mysqld/mysqldtest"
)

// TestCollidingNames: tablespaces whose files would have one name in the archive, by
// the names that they have and the places where they are, are restored, undo logs
// of uncommitted changes, too.
func TestCollidingNames(t *testing.T) {
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	dir := t.TempDir()
	s := mysqldtest.Start(t, root, mysqldtest.Options{Config: []string{"innodb-directories=" + dir}})
	s.Exec(t, "CREATE UNDO TABLESPACE u2 ADD DATAFILE 'u1.ibu'", "CREATE UNDO TABLESPACE u1 ADD DATAFILE '"+dir+"/zz.ibu'",
		"CREATE TABLESPACE b ADD DATAFILE 'a.ibd'", "CREATE TABLESPACE a ADD DATAFILE '"+dir+"/whatever.ibd'",
		"ALTER UNDO TABLESPACE innodb_undo_001 SET INACTIVE", "ALTER UNDO TABLESPACE innodb_undo_002 SET INACTIVE")
	numbers(t, s)
	var tables []string
	for _, space := range []string{"a", "b"} {
		tables = append(tables, "d.in_"+space)
		fill(t, s, "d.in_"+space, "TABLESPACE "+space)
	}
	var want []string
	for _, table := range tables {
		want = append(want, s.Value(t, "CHECKSUM TABLE "+table)+s.Rows(t, "CHECKSUM TABLE "+table)[0][1])
	}
	// Two transactions, so that each undo tablespace has one.
	for i, table := range tables {
		conn, err := s.DB().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, q := range []string{"BEGIN", fmt.Sprintf("UPDATE %s SET v = 'not committed', b = REPEAT('%d', 9000)", table, i)} {
			if _, err := conn.ExecContext(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
	}
	archive, target := filepath.Join(t.TempDir(), "archive"), filepath.Join(t.TempDir(), "restored")
	backup(t, s, archive)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	restoreByHB(t, root, archive, target)
	r := mysqldtest.StartOn(t, root, target, mysqldtest.Options{})
	for i, table := range tables {
		if got := r.Value(t, "CHECKSUM TABLE "+table) + r.Rows(t, "CHECKSUM TABLE "+table)[0][1]; got != want[i] {
			t.Errorf("%s, want %s", got, want[i])
		}
	}
	for name, state := range map[string]string{"u1": "active", "u2": "active"} {
		if got := r.Value(t, "SELECT STATE FROM information_schema.INNODB_TABLESPACES WHERE NAME = ?", name); got != state {
			t.Errorf("undo tablespace %s is %s", name, got)
		}
	}
}

// TestRefusedNames: what no archive can have under its name is refused before
// anything is locked.
func TestRefusedNames(t *testing.T) {
	elsewhere := t.TempDir()
	for _, c := range []struct {
		name, root string
		init       []string
		setup      []string
	}{
		{"database xtrabackup_info", mysqldtest.MySQL97, nil, []string{"CREATE DATABASE xtrabackup_info"}},
		{"database mariadb_backup_checkpoints", mysqldtest.MariaDB1011, nil, []string{"CREATE DATABASE mariadb_backup_checkpoints"}},
		{"system files of one base name", mysqldtest.MariaDB118, []string{"innodb-data-home-dir=", "innodb-data-file-path=" + elsewhere + "/a/ibdata1:12M;" + elsewhere + "/b/ibdata1:12M"}, nil},
		{"general tablespaces", mysqldtest.MySQL57, nil, []string{"CREATE TABLESPACE b ADD DATAFILE 'a.ibd'", "CREATE TABLESPACE a ADD DATAFILE '" + elsewhere + "/a.ibd'"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, sub := range []string{"a", "b"} {
				if err := os.MkdirAll(filepath.Join(elsewhere, sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			s := mysqldtest.Start(t, mysqldtest.Need(t, c.root), mysqldtest.Options{Init: c.init})
			s.Exec(t, c.setup...)
			refused := new(datadir.NameError)
			if locks, err := tryBackup(t, s); !errors.As(err, &refused) || len(locks) > 0 {
				t.Errorf("%v, after the locks %v", err, locks)
			} else {
				t.Log(err)
			}
		})
	}
}
