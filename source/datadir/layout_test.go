package datadir_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hb/source/datadir"
	"hb/source/mysqld/contents"
	"hb/source/scope"
	"hb/source/sourcetest"
	"hb/stream/disk"
	"hb/xbstream/innodb/innodbtest"
)

// TestDataDirectory follows the link to a tablespace elsewhere.
func TestDataDirectory(t *testing.T) {
	d := sourcetest.NewDir(t)
	elsewhere := filepath.Join(t.TempDir(), "t.ibd")
	if err := os.WriteFile(elsewhere, innodbtest.Random(4, 2), 0o644); err != nil {
		t.Fatal(err)
	}
	d.Write("db/t.isl", []byte(elsewhere+"\n"))
	list := d.List()
	if len(list.Tablespaces) != 1 || list.Tablespaces[0].Name != "db/t.ibd" || list.Tablespaces[0].Path != elsewhere {
		t.Errorf("listing = %+v", list.Tablespaces)
	}
	d.Write("db/t.isl", []byte("relative"))
	if _, err := d.Layout.List(); err == nil {
		t.Error("a link without an absolute path was accepted")
	}
}

// TestListMySQL: tablespaces beside the databases are listed, and nothing of
// what a server makes again when it starts.
func TestListMySQL(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Layout.General = true
	d.Layout.System = []string{d.Path("ibdata1"), d.Path("system.ibd")}
	elsewhere := filepath.Join(t.TempDir(), "far.ibd")
	if err := os.WriteFile(elsewhere, []byte("far"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.Write("far.isl", []byte(elsewhere))
	want := []string{"mysql.ibd", "general.ibd", "mine.ibu", "undo_001", "undo002", "db/t.ibd", "far.ibd"}
	for _, name := range want[:6] {
		d.Write(name, []byte("a tablespace"))
	}
	for _, name := range []string{"ibdata1", "system.ibd", "ibtmp1", "#ib_16384_0.dblwr", "#ib_16384_0.bdblwr", "auto.cnf", "ib_logfile0", "undo_1_trunc.log",
		"mysqld-auto.cnf", "binlog.000001", "#innodb_redo/#ib_redo1", "#innodb_redo/#ib_redo2_tmp", "#innodb_temp/temp_1.ibt", "#ib_archive/page_group_1/ib_page_0",
		"#meb/1.idx", "db/#sql-ib12.ibd"} {
		d.Write(name, []byte("no"))
	}
	d.Write("mysql/general_log_1.sdi", nil)
	list := d.List()
	got := make(map[string]bool)
	for _, f := range list.Tablespaces {
		got[f.Name] = true
	}
	if len(got) != len(want) || len(list.Tablespaces) != len(want) {
		t.Errorf("tablespaces = %v, want %v", slices.Sorted(maps.Keys(got)), want)
	}
	for _, name := range want {
		if !got[name] {
			t.Errorf("%s was not listed", name)
		}
	}
	if len(list.Others) != 1 || list.Others[0].Name != "mysql/general_log_1.sdi" {
		t.Errorf("other files = %v", list.Others)
	}
	d.Layout.SkipUndo = true
	if n := len(d.List().Tablespaces); n != len(want)-3 { // undo_001, undo002, mine.ibu
		t.Errorf("without undo tablespaces there are %d, want %d", n, len(want)-3)
	}
}

// TestListSome: a partial backup has the files of the tables that are in it, also where the
// name of a file does not say so; and those that say nothing.
func TestListSome(t *testing.T) {
	d := sourcetest.NewDir(t)
	o := scope.Options{Tables: []string{"^db[.]a(_table.*)?$"}, TablesExclude: []string{"left$"}}
	var err error
	if d.Layout.Scope, err = o.Compile(); err != nil {
		t.Fatal(err)
	}
	sdi := func(table string) []byte {
		return []byte(`{"mysqld_version_id":90704,"dd_version":90200,"sdi_version":80019,"dd_object_type":"Table","dd_object":{"name":"` + table + `","columns":[{"name":"id"}]}}`)
	}
	want := []string{"db/a_1.sdi", "db/a_table_with_a_l_7.sdi", "db/a_table_with_a_l_9.sdi", "db/trg.TRN"}
	d.Write("db/a_1.sdi", sdi("a"))
	d.Write("db/a_table_with_a_l_7.sdi", sdi("a_table_with_a_long_name"))
	d.Write("db/a_table_with_a_l_8.sdi", sdi("a_table_with_a_left"))
	d.Write("db/a_table_with_a_l_9.sdi", sdi("a_table_with_a_l\u00e4"))
	d.Write("db/b_table_with_a_l_7.sdi", sdi("b_table_with_a_long_name"))
	d.Write("db/b_1.sdi", nil)
	d.Write("db/trg.TRN", []byte("TYPE=TRIGGERNAME\ntrigger_table=a\n"))
	d.Write("db/left.TRN", []byte("TYPE=TRIGGERNAME\ntrigger_table=b\n"))
	list := d.List()
	var got []string
	for _, f := range list.Others {
		got = append(got, f.Name)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) || len(list.LeftOthers) != 4 {
		t.Errorf("files %q, want %q; %d left out", got, want, len(list.LeftOthers))
	}
	spaces := []string{"db/#hb#6.ibd", "db/a#hb#5.ibd", "db/a#hb#5#2.ibd"} // an alias, and one whose name was too long
	for _, name := range append([]string{"db/b#hb#7.ibd"}, spaces...) {
		d.Write(name, []byte("a tablespace"))
	}
	list, got = d.List(), nil
	for _, f := range list.Tablespaces {
		got = append(got, f.Name)
	}
	slices.Sort(spaces)
	slices.Sort(got)
	if !slices.Equal(got, spaces) || len(list.LeftOut) != 1 {
		t.Errorf("tablespaces %q, want %q; %d left out", got, spaces, len(list.LeftOut))
	}
	d.Layout.Scope = nil
	if list := d.List(); len(list.Others) != 8 {
		t.Errorf("%d files of all tables", len(list.Others))
	}
}

func TestArchiveName(t *testing.T) {
	l := datadir.Layout{Disk: disk.OS, Datadir: "/seen", General: true, Seen: func(p string) string {
		if rel, err := filepath.Rel("/data", p); err == nil && filepath.IsLocal(rel) {
			return filepath.Join("/seen", rel)
		}
		return p
	}}
	for _, test := range []struct {
		space contents.Tablespace
		want  string
	}{
		{contents.Tablespace{Name: "db/t", Path: "/data/db/t.ibd"}, "db/t.ibd"},
		{contents.Tablespace{Name: "db/t#P#p0", Path: "/far/db/t#p#p0.ibd"}, "db/t#p#p0.ibd"},
		{contents.Tablespace{Name: "mysql", Path: "/data/mysql.ibd"}, "mysql.ibd"},
		{contents.Tablespace{Name: "archive", Path: "/far/file.ibd"}, "archive.ibd"},
		{contents.Tablespace{Name: "archive", Path: "/data/file.ibd"}, "file.ibd"},
		{contents.Tablespace{Name: "innodb_undo_001", Path: "/far/undo_001", Kind: contents.SpaceUndo}, "undo_001"},
		{contents.Tablespace{Name: "undo", Path: "/far/undo002", Kind: contents.SpaceUndo}, "undo002"},
		{contents.Tablespace{Name: "mine", Path: "/far/x.ibu", Kind: contents.SpaceUndo}, "mine.ibu"},
	} {
		if got := l.ArchiveName(test.space); got != test.want {
			t.Errorf("%s at %s is archived as %q, want %q", test.space.Name, test.space.Path, got, test.want)
		}
	}
}
