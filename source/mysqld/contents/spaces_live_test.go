package contents

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/source/mysqld"
	"hb/source/mysqld/login"
	"hb/source/mysqld/mysqldtest"
	"hb/source/mysqld/mysqldtest/client"
	"hb/xbstream/innodb"
)

// startSpread starts a server whose InnoDB files lie in several directories.
func startSpread(t *testing.T, root *mysqldtest.Root) (s *mysqldtest.Server, o mysqldtest.Options, elsewhere string) {
	t.Helper()
	elsewhere = filepath.Join(t.TempDir(), "e")
	for _, d := range []string{"home", "undo", "redo", "tables", "dblwr"} {
		if err := os.MkdirAll(filepath.Join(elsewhere, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Names with dots count from other directories in 8.0 and later.
	if err := os.Mkdir(filepath.Join(elsewhere, "home", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	init := []string{
		"innodb-data-home-dir=" + elsewhere + "/home", "innodb-data-file-path=ibdata1:12M;sub/ibdata2:8M;./ibdata3:8M:autoextend",
		"innodb-undo-directory=" + elsewhere + "/undo", "innodb-log-group-home-dir=" + elsewhere + "/redo",
	}
	if root.AtLeast(8, 0) {
		init = append(init, "innodb-directories=tables2;"+elsewhere+"/tables", "innodb-doublewrite-dir="+elsewhere+"/dblwr")
	} else {
		init = append(init, "innodb-undo-tablespaces=2")
	}
	o.Init = init
	return mysqldtest.Start(t, root, o), o, elsewhere
}

// TestTablespaces holds the server's list against the files on disk, found by
// their own page 0.
func TestTablespaces(t *testing.T) {
	mysqldtest.Each(t, mysqldtest.MySQL, func(t *testing.T, root *mysqldtest.Root) {
		s, o, elsewhere := startSpread(t, root)
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.`a b-ä` (a INT PRIMARY KEY) ENGINE=InnoDB",
			"CREATE TABLE d.r (a INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='"+elsewhere+"/tables'",
			"CREATE TABLE d.z (a INT PRIMARY KEY) ENGINE=InnoDB ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4",
			"CREATE TABLE d.p (a INT PRIMARY KEY) ENGINE=InnoDB PARTITION BY HASH(a) PARTITIONS 2",
			"CREATE TABLE d.gone (a INT PRIMARY KEY) ENGINE=InnoDB", "ALTER TABLE d.gone DISCARD TABLESPACE")
		if root.AtLeast(5, 7) {
			s.Exec(t, "CREATE TABLESPACE g1 ADD DATAFILE 'g1.ibd' ENGINE=InnoDB", "CREATE TABLESPACE g2 ADD DATAFILE '"+elsewhere+"/tables/g2.ibd' ENGINE=InnoDB",
				"CREATE TABLE d.g (a INT PRIMARY KEY) ENGINE=InnoDB TABLESPACE=g2")
		}
		if root.AtLeast(8, 0) {
			s.Exec(t, "CREATE UNDO TABLESPACE u3 ADD DATAFILE 'u3.ibu'")
		}
		srv := client.Connect(t, client.Options(s))
		v := srv.Vars
		system, err := v.SystemFiles()
		if err != nil || len(system) != 3 {
			t.Errorf("system files %q, %v", system, err)
		}
		for _, path := range system {
			if st, err := os.Stat(path); err != nil || st.Size() < 8<<20 {
				t.Errorf("%s: %v", path, err)
			}
		}
		if v.UndoDir() != elsewhere+"/undo" || v.LogDir() != elsewhere+"/redo" || v.InnodbHome() != elsewhere+"/home" {
			t.Errorf("directories %q, %q, %q", v.UndoDir(), v.LogDir(), v.InnodbHome())
		}
		if got, want := v.Directories(), []string{s.Datadir + "/tables2", elsewhere + "/tables"}; root.AtLeast(8, 0) && !slices.Equal(got, want) {
			t.Errorf("innodb_directories %q, want %q", got, want)
		}
		checkTablespaces(t, s, srv, elsewhere)
		// A server that has not used them yet knows them too.
		if err := errors.Join(srv.Close(), s.Stop()); err != nil {
			t.Fatal(err)
		}
		s = mysqldtest.StartOn(t, root, s.Datadir, o)
		checkTablespaces(t, s, client.Connect(t, client.Options(s)), elsewhere)
	})
}

func checkTablespaces(t *testing.T, s *mysqldtest.Server, srv *mysqld.Server, elsewhere string) {
	t.Helper()
	root := s.Root
	list, err := Tablespaces(t.Context(), srv)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[innodb.SpaceID]string)
	kinds := make(map[SpaceKind]int)
	for _, sp := range list {
		kinds[sp.Kind]++
		switch {
		case strings.HasSuffix(sp.Path, "/d/gone.ibd"):
			if !sp.Discarded || sp.ID == 0 {
				t.Errorf("discarded: %+v", sp)
			}
			continue
		case sp.Discarded || sp.Encrypted:
			t.Errorf("%+v", sp)
		case sp.Kind == SpaceTemporary:
			continue
		}
		if old, twice := got[sp.ID]; twice {
			t.Errorf("space %d twice: %s and %s", sp.ID, old, sp.Path)
		}
		got[sp.ID] = sp.Path
	}
	want := onDisk(t, s.Datadir, elsewhere)
	if !root.AtLeast(5, 7) { // which does not list undo tablespaces
		maps.DeleteFunc(want, func(_ innodb.SpaceID, path string) bool { return filepath.Dir(path) == elsewhere+"/undo" })
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	undo := map[string]int{"5.6": 0, "5.7": 2, "9.7": 3}[srv.Version.Series()]
	if kinds[SpaceSystem] != 1 || kinds[SpaceUndo] != undo {
		t.Errorf("kinds %v", kinds)
	}
}

// onDisk finds the tablespaces below directories, except for temporary ones and the
// later files of the system tablespace.
func onDisk(t *testing.T, dirs ...string) map[innodb.SpaceID]string {
	t.Helper()
	m := make(map[innodb.SpaceID]string)
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				if err == nil && d.Name()[0] == '#' {
					return filepath.SkipDir
				}
				return err
			}
			name := d.Name()
			ok := strings.HasSuffix(name, ".ibd") || strings.HasSuffix(name, ".ibu") || strings.HasPrefix(name, "undo") || name == "ibdata1"
			if !ok {
				return nil
			}
			page := make([]byte, 64)
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			_, err = f.ReadAt(page, 0)
			if err := errors.Join(err, f.Close()); err != nil {
				return err
			}
			id := innodb.SpaceID(uint32(page[34])<<24 | uint32(page[35])<<16 | uint32(page[36])<<8 | uint32(page[37]))
			m[id] = path
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestNonTransactionalTables(t *testing.T) {
	mysqldtest.EachServer(t, mysqldtest.MySQL, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		ctx := t.Context()
		srv := client.Connect(t, client.Options(s))
		// 5.6 and 5.7 have such tables of their own: in mysql.
		made := func(list []Table) []Table {
			return slices.DeleteFunc(list, func(table Table) bool { return !s.Root.AtLeast(8, 0) && table.Schema == "mysql" })
		}
		if list, complete, err := NonTransactionalTables(ctx, srv); len(made(list)) != 0 || !complete || err != nil {
			t.Errorf("fresh server: %v, %v, %v", list, complete, err)
		}
		s.Exec(t, "CREATE DATABASE d", "CREATE TABLE d.i (a INT) ENGINE=InnoDB", "CREATE TABLE d.m (a INT) ENGINE=MyISAM",
			"CREATE TABLE d.h (a INT) ENGINE=MEMORY", "CREATE TABLE d.b (a INT) ENGINE=BLACKHOLE", "CREATE TABLE d.c (a INT NOT NULL) ENGINE=CSV",
			"CREATE TABLE d.x (a INT) ENGINE=ARCHIVE", "CREATE TABLE d.g (a INT) ENGINE=MERGE UNION=(d.m)", "CREATE VIEW d.v AS SELECT 1")
		list, complete, err := NonTransactionalTables(ctx, srv)
		var names []string
		for _, table := range made(list) {
			names = append(names, table.String())
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != "d.c d.g d.m d.x" || !complete || err != nil {
			t.Errorf("%s, %v, %v", got, complete, err)
		}
		s.Exec(t, "CREATE USER g@localhost IDENTIFIED BY 'x'", "GRANT PROCESS ON *.* TO g@localhost")
		blind := client.Connect(t, login.Options{Network: "unix", Socket: s.Socket, User: "g", Password: login.NewSecret("x")})
		if list, complete, err := NonTransactionalTables(ctx, blind); complete || err != nil {
			t.Errorf("without SELECT: %v, %v, %v", list, complete, err)
		}
		if !s.Root.AtLeast(8, 0) {
			return
		}
		s.Exec(t, "SET GLOBAL partial_revokes=ON", "GRANT SELECT ON *.* TO g@localhost", "REVOKE SELECT ON d.* FROM g@localhost")
		if list, complete, err := NonTransactionalTables(ctx, blind); complete || err != nil {
			t.Errorf("without SELECT on one database: %v, %v, %v", list, complete, err)
		}
	})
}
