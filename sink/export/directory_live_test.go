package export_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/sink/backupdir"
	"hb/sink/export"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// otherTables are tables that are not of the kinds in tableKinds, or that cannot be exported,
// where a server has such.
func otherTables(root *mysqldtest.Root) []string {
	maria := root.MariaDB()
	q := []string{"CREATE DATABASE `my-db`", "CREATE TABLE `my-db`.`my-table` (a INT PRIMARY KEY, b TEXT)", "CREATE TABLE `my-db`.`größe` (a INT) ENGINE=MyISAM",
		"INSERT INTO `my-db`.`größe` VALUES (1),(2)", "CREATE TABLE `my-db`.`c#v` (a INT NOT NULL) ENGINE=CSV",
		"CREATE TABLE `my-db`.merged (a INT) ENGINE=MERGE UNION=(`my-db`.`größe`)", "CREATE VIEW `my-db`.seen AS SELECT 1 AS a",
		"CREATE TABLE `my-db`.ft (a INT PRIMARY KEY, b TEXT, FULLTEXT KEY (b))", "CREATE TABLE `my-db`.gone (a INT PRIMARY KEY)", "ALTER TABLE `my-db`.gone DISCARD TABLESPACE"}
	if !maria || root.HasPlugin("ha_archive") {
		if maria {
			q = append(q, "INSTALL SONAME 'ha_archive'")
		}
		q = append(q, "CREATE TABLE `my-db`.archived (a INT) ENGINE=ARCHIVE")
	}
	if maria {
		q = append(q, "CREATE TABLE `my-db`.ar (a INT) ENGINE=Aria", "CREATE TABLE `my-db`.arplain (a INT) ENGINE=Aria TRANSACTIONAL=0", "CREATE TABLE `my-db`.partplain (a INT PRIMARY KEY) ENGINE=Aria TRANSACTIONAL=0 PARTITION BY HASH (a) PARTITIONS 2", "CREATE TABLE `my-db`.parted (a INT PRIMARY KEY) ENGINE=Aria PARTITION BY HASH (a) PARTITIONS 2")
		if root.AtLeast(11, 7) {
			q = append(q, "CREATE TABLE `my-db`.vec (a INT PRIMARY KEY, v VECTOR(3) NOT NULL, VECTOR INDEX (v))")
		}
	} else if root.AtLeast(5, 7) {
		q = append(q, "CREATE TABLESPACE general ADD DATAFILE 'general.ibd' ENGINE=InnoDB", "CREATE TABLE `my-db`.ingeneral (a INT PRIMARY KEY) TABLESPACE general",
			"CREATE TABLE `my-db`.parts (a INT PRIMARY KEY) PARTITION BY RANGE (a) (PARTITION `p-Ä` VALUES LESS THAN (5), PARTITION P2 VALUES LESS THAN MAXVALUE)",
			"INSERT INTO `my-db`.parts VALUES (1),(9)")
	}
	if !maria || !root.AtLeast(11, 0) {
		q = append(q, "SET GLOBAL innodb_file_per_table=0", "CREATE TABLE `my-db`.insystem (a INT PRIMARY KEY)", "SET GLOBAL innodb_file_per_table=1")
	}
	return q
}

// recovered makes of a data directory one that a tool has recovered.
func recovered(t *testing.T, s *mysqldtest.Server) {
	t.Helper()
	version := s.Root.Version
	names := metadata.XtraBackupNames
	if s.Root.MariaDB() {
		version, names = version+"-MariaDB-log", metadata.MariaDBNames
	}
	c, err := (&metadata.Checkpoints{BackupType: metadata.Prepared, ToLSN: 1, LastLSN: 1}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	i, err := (&metadata.Info{ServerVersion: version}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{names.Checkpoints: c, names.Info: i} {
		if err := os.WriteFile(filepath.Join(s.Datadir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// openDirectory opens the directory of a server that was stopped.
func openDirectory(t *testing.T, s *mysqldtest.Server) *export.Directory {
	t.Helper()
	recovered(t, s)
	d, err := export.OpenDirectory(s.Datadir, export.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestDirectory: the tables of a directory are those that the server had, with their engines,
// partitions and tablespaces; those without a tablespace of their own are refused.
func TestDirectory(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		makeTables(t, s)
		s.Exec(t, otherTables(s.Root)...)
		eight := !s.Root.MariaDB() && s.Root.AtLeast(8, 0)
		want, spaces := map[string]string{}, map[string]bool{}
		for _, r := range s.Rows(t, "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE','SYSTEM VERSIONED') AND TABLE_SCHEMA IN ('t','my-db')") {
			want[r[0]+"."+r[1]] = strings.Replace(r[2], "MRG_MyISAM", "MRG_MYISAM", 1) // as MariaDB has it
		}
		view, column := "INNODB_SYS_TABLES", "SPACE"
		if eight {
			view = "INNODB_TABLES"
		}
		for _, r := range s.Rows(t, "SELECT NAME, "+column+" FROM information_schema."+view+" WHERE SPACE<>0 AND (NAME LIKE 't/%' OR NAME LIKE 'my@%')") {
			spaces[r[0]+" "+r[1]] = true
		}
		parts := map[string][]string{}
		for _, r := range s.Rows(t, "SELECT TABLE_SCHEMA, TABLE_NAME, PARTITION_NAME, IFNULL(SUBPARTITION_NAME,'') FROM information_schema.PARTITIONS WHERE PARTITION_NAME IS NOT NULL") {
			name := r[2]
			if r[3] != "" {
				name = r[3]
			}
			parts[r[0]+"."+r[1]] = append(parts[r[0]+"."+r[1]], name)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		d := openDirectory(t, s)
		tables, err := d.Tables()
		if err != nil {
			t.Fatal(err)
		}
		got, refused, seen := map[string]string{}, []string{}, 0
		for _, table := range tables {
			if table.Database != "t" && table.Database != "my-db" {
				continue
			}
			got[table.String()] = string(table.Engine)
			err := d.Describe(table)
			if _, no := errors.AsType[*export.RefusedError](err); no {
				refused = append(refused, table.Name)
				continue
			}
			if err != nil {
				t.Error(err)
			}
			if table.Engine != export.InnoDB {
				continue
			}
			var names []string
			for _, p := range table.Parts {
				if p.Partition != "" {
					names = append(names, p.Partition)
				}
				name := p.Base()
				if !spaces[fmt.Sprintf("%s %d", name, p.Space)] {
					t.Errorf("%s: %s has no part %s in tablespace %d", s.Root.Name, table, name, p.Space)
				}
				seen++
			}
			slices.Sort(names)
			slices.Sort(parts[table.String()])
			if !slices.Equal(names, parts[table.String()]) {
				t.Errorf("%s: %s: partitions %q, not %q", s.Root.Name, table, names, parts[table.String()])
			}
		}
		if eight {
			delete(want, "my-db.gone") // it has no file, and there is no dictionary but that of the files
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %d tables, not %d: %v", s.Root.Name, len(got), len(want), mapDifference(got, want))
		}
		slices.Sort(refused)
		no := []string{"gone", "insystem"}
		switch {
		case eight:
			no = []string{"ingeneral", "insystem"}
		case s.Root.MariaDB() && s.Root.AtLeast(11, 0):
			no = []string{"gone"}
		case !s.Root.MariaDB() && s.Root.AtLeast(5, 7):
			no = []string{"gone", "ingeneral", "insystem"}
		}
		if s.Root.MariaDB() {
			no = append(no, "ar", "parted") // crash-safe tables of Aria
			slices.Sort(no)
		}
		if !slices.Equal(refused, no) {
			t.Errorf("%s: refused are %q, not %q", s.Root.Name, refused, no)
		}
		t.Logf("%s: %d tables, %d tablespaces, refused %q", s.Root.Name, len(got), seen, refused)
	})
}

func mapDifference(got, want map[string]string) (lines []string) {
	for _, m := range []map[string]string{got, want} {
		for k := range m {
			if got[k] != want[k] {
				lines = append(lines, fmt.Sprintf("%s: %q, not %q", k, got[k], want[k]))
			}
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// TestWrite: what Write leaves of tables of all kinds, another server imports, with the rows of
// the original. What it refuses, servers damage or refuse: see isRefused.
func TestWrite(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		kinds := makeTables(t, s)
		s.Exec(t, otherTables(s.Root)...)
		for _, name := range kinds {
			if q := someRows[name]; q != "" {
				s.Exec(t, strings.ReplaceAll(q, "%s", "t."+name))
			}
		}
		root, datadir := s.Root, s.Datadir
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		to := t.TempDir()
		out, err := disk.OS.OpenDir(to)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close() // nothing is left to be written
		d := openDirectory(t, s)
		tables, err := d.Tables()
		if err != nil {
			t.Fatal(err)
		}
		written := map[string]*export.Written{}
		var refused []string
		for _, table := range tables {
			if table.Database == "t" || table.Name == "größe" {
				w, err := d.Write(t.Context(), table, out)
				if _, no := errors.AsType[*export.RefusedError](err); no {
					refused = append(refused, table.Name)
					if left, err := filepath.Glob(filepath.Join(to, "t", table.Name+".*")); err != nil || len(left) > 0 {
						t.Errorf("%s: %s was refused, and %q are there", root.Name, table, left)
					}
				} else if err != nil {
					t.Errorf("%s: %v", root.Name, err)
				} else {
					written[table.Name] = w
				}
			}
		}
		slices.Sort(refused)
		var want []string
		for _, name := range kinds {
			if isRefused(root, name) && name != "part" && name != "subpart" {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		if !slices.Equal(refused, want) {
			t.Errorf("%s: refused are %q, not %q", root.Name, refused, want)
		}
		if w := written["größe"]; w == nil || !slices.Equal(w.Files, []string{"my@002ddb/gr@1i@1je.MYD", "my@002ddb/gr@1i@1je.MYI"}) {
			t.Errorf("%s: größe: %+v", root.Name, w)
		}
		s = mysqldtest.StartOn(t, root, datadir, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE u")
		imported := 0
		for _, name := range kinds {
			if isRefused(root, name) || written[name] == nil {
				continue
			}
			if importWritten(t, s, written[name], to) {
				imported++
			}
		}
		t.Logf("%s: %d tables are imported, refused %q", root.Name, imported, refused)
	})
}

// importWritten is importTable with the files that Write left.
func importWritten(t *testing.T, s *mysqldtest.Server, w *export.Written, from string) bool {
	t.Helper()
	var files []string
	for _, p := range w.Table.Parts {
		files = append(files, strings.TrimPrefix(p.Base(), "t/"))
	}
	return importBy(t, s, w.Table.Name, files, func(space string) {
		for _, ext := range []string{backupdir.ExtTable, ".cfg"} {
			if err := mysqldtest.CopyFile(filepath.Join(s.Datadir, "u", space+ext), filepath.Join(from, "t", space+ext)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestWriteElsewhere: tables with DATA DIRECTORY, which a backup has in its own directory, are
// imported into tables without.
func TestWriteElsewhere(t *testing.T) {
	mysqldtest.Each(t, allServers, func(t *testing.T, root *mysqldtest.Root) {
		dir := filepath.Join(t.TempDir(), "elsewhere")
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		o := mysqldtest.Options{Init: []string{"loose-innodb-directories=" + dir}}
		s := mysqldtest.Start(t, root, o)
		const create = "CREATE TABLE %s (a INT PRIMARY KEY, b VARCHAR(100), KEY(b))"
		zip := create + " ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4"
		s.Exec(t, "CREATE DATABASE t", fmt.Sprintf(create, "t.there")+" DATA DIRECTORY='"+dir+"'", "INSERT INTO t.there VALUES (1,'x'),(2,'y')",
			fmt.Sprintf(zip, "t.zip")+" DATA DIRECTORY='"+dir+"'", "INSERT INTO t.zip VALUES (1,'x'),(3,'z')")
		want := slices.Concat(sortedRows(t, s, "t.there"), sortedRows(t, s, "t.zip"))
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"there.ibd", "zip.ibd"} {
			if err := mysqldtest.CopyFile(filepath.Join(s.Datadir, "t", name), filepath.Join(dir, "t", name)); err != nil {
				t.Fatal(err)
			}
		}
		w := &writtenTables{root: root, dir: t.TempDir()}
		w.write(t, s)
		described, err := openDirectory(t, s).DescribeAll(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// The files beside have the flag still, at which MySQL crashes.
		if refused := len(described.Refused); root.MariaDB() && refused != 0 || !root.MariaDB() && refused != 2 {
			t.Errorf("%s: %d tables are refused: %v", root.Name, refused, described.Refused)
		}
		other := mysqldtest.Start(t, root, mysqldtest.Options{})
		other.Exec(t, "CREATE DATABASE u", fmt.Sprintf(create, "u.there"), fmt.Sprintf(zip, "u.zip"))
		for _, name := range []string{"there", "zip"} {
			other.Exec(t, "ALTER TABLE u."+name+" DISCARD TABLESPACE")
			for _, ext := range []string{".ibd", ".cfg"} {
				if err := mysqldtest.CopyFile(filepath.Join(other.Datadir, "u", name+ext), filepath.Join(w.dir, "t", name+ext)); err != nil {
					t.Fatal(err)
				}
			}
			other.Exec(t, "ALTER TABLE u."+name+" IMPORT TABLESPACE")
			if check := other.Rows(t, "CHECK TABLE u."+name+" EXTENDED"); check[0][3] != "OK" {
				t.Errorf("%s: %s: %v", root.Name, name, check)
			}
		}
		if got := slices.Concat(sortedRows(t, other, "u.there"), sortedRows(t, other, "u.zip")); !slices.Equal(got, want) {
			t.Errorf("%s: %q, not %q", root.Name, got, want)
		}
	})
}
