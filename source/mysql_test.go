package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"hb/source/innodb"
	"hb/source/mysqld"
	"hb/source/redo"
	"hb/stream/disk"
)

// TestListMySQL: tablespaces beside the databases are listed, and nothing of
// what a server makes anew when it starts.
func TestListMySQL(t *testing.T) {
	d := newDatadir(t)
	d.layout.General = true
	d.layout.System = []string{d.path("ibdata1"), d.path("system.ibd")}
	elsewhere := filepath.Join(t.TempDir(), "far.ibd")
	if err := os.WriteFile(elsewhere, []byte("far"), 0o644); err != nil {
		t.Fatal(err)
	}
	d.write("far.isl", []byte(elsewhere))
	want := []string{"mysql.ibd", "general.ibd", "mine.ibu", "undo_001", "undo002", "db/t.ibd", "far.ibd"}
	for _, name := range want[:6] {
		d.write(name, []byte("a tablespace"))
	}
	for _, name := range []string{"ibdata1", "system.ibd", "ibtmp1", "#ib_16384_0.dblwr", "#ib_16384_0.bdblwr", "auto.cnf", "ib_logfile0", "undo_1_trunc.log",
		"mysqld-auto.cnf", "binlog.000001", "#innodb_redo/#ib_redo1", "#innodb_redo/#ib_redo2_tmp", "#innodb_temp/temp_1.ibt", "#ib_archive/page_group_1/ib_page_0",
		"#meb/1.idx", "db/#sql-ib12.ibd"} {
		d.write(name, []byte("no"))
	}
	d.write("mysql/general_log_1.sdi", nil)
	list := d.list()
	got := make(map[string]bool)
	for _, f := range list.tablespaces {
		got[f.name] = true
	}
	if len(got) != len(want) || len(list.tablespaces) != len(want) {
		t.Errorf("tablespaces = %v, want %v", slices.Sorted(maps.Keys(got)), want)
	}
	for _, name := range want {
		if !got[name] {
			t.Errorf("%s was not listed", name)
		}
	}
	if len(list.others) != 1 || list.others[0].name != "mysql/general_log_1.sdi" {
		t.Errorf("other files = %v", list.others)
	}
	d.layout.skipUndo = true
	if n := len(d.list().tablespaces); n != len(want)-2 {
		t.Errorf("without undo tablespaces there are %d, want %d", n, len(want)-2)
	}
}

func TestArchiveName(t *testing.T) {
	l := Layout{disk: disk.OS, Datadir: "/seen", General: true, seen: func(p string) string {
		if rel, err := filepath.Rel("/data", p); err == nil && filepath.IsLocal(rel) {
			return filepath.Join("/seen", rel)
		}
		return p
	}}
	for _, test := range []struct {
		space mysqld.Tablespace
		want  string
	}{
		{mysqld.Tablespace{Name: "db/t", Path: "/data/db/t.ibd"}, "db/t.ibd"},
		{mysqld.Tablespace{Name: "db/t#P#p0", Path: "/far/db/t#p#p0.ibd"}, "db/t#p#p0.ibd"},
		{mysqld.Tablespace{Name: "mysql", Path: "/data/mysql.ibd"}, "mysql.ibd"},
		{mysqld.Tablespace{Name: "archive", Path: "/far/file.ibd"}, "archive.ibd"},
		{mysqld.Tablespace{Name: "archive", Path: "/data/file.ibd"}, "file.ibd"},
		{mysqld.Tablespace{Name: "innodb_undo_001", Path: "/far/undo_001", Kind: mysqld.SpaceUndo}, "undo_001"},
		{mysqld.Tablespace{Name: "undo", Path: "/far/undo002", Kind: mysqld.SpaceUndo}, "undo002"},
		{mysqld.Tablespace{Name: "mine", Path: "/far/x.ibu", Kind: mysqld.SpaceUndo}, "mine.ibu"},
	} {
		if got := l.archiveName(test.space); got != test.want {
			t.Errorf("%s at %s is archived as %q, want %q", test.space.Name, test.space.Path, got, test.want)
		}
	}
}

// TestCopiedAgain: a tablespace that was changed without redo is copied again,
// under another name, and the earlier copies are deleted.
func TestCopiedAgain(t *testing.T) {
	d := newDatadir(t)
	d.layout.General = true
	d.write("db/t.ibd", makeSpace(t, 7, 2))
	d.write("general.ibd", makeSpace(t, 8, 2))
	d.write("undo001", makeSpace(t, 9, 2))
	c := newCopying(2)
	lsn := innodb.LSN(100)
	c.since = func() innodb.LSN { return lsn }
	copyAll := func() {
		t.Helper()
		if err := c.copyFiles(t.Context(), unopened(d.list().tablespaces)); err != nil {
			t.Fatal(err)
		}
	}
	copyAll()
	for range 2 {
		lsn += 100
		void := c.registry.discard(func(a *archivedSpace) bool { return a.id != 9 && a.since < lsn })
		if len(void) != 2 {
			t.Fatalf("%d copies are void, want 2", len(void))
		}
		copyAll()
	}
	now := map[spaceFile]string{}
	look, err := newInventory(disk.OS, 16<<10).look(t.Context(), d.list().tablespaces)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range look.files {
		now[f.spaceFile()] = f.name
	}
	want := map[string]string{
		"db/t.del": "", "db/t#hb#7.del": "", "db/t#hb#7#2.ren": "db/t",
		"general.del": "", "general#hb#8.del": "", "general#hb#8#2.ren": "general",
	}
	if got := c.registry.fixups(now); !equalMaps(got, want) {
		t.Errorf("fix-ups = %q, want %q", got, want)
	}
	files := c.files(t)
	if len(files) != 7 || !bytes.Equal(files["db/t#hb#7#2.ibd"], makeSpace(t, 7, 2)) {
		t.Errorf("the archive holds %q", slices.Sorted(maps.Keys(files)))
	}
}

// TestReplaceFixed: what can have no other name in the archive is not copied
// again, unless it is only staged.
func TestReplaceFixed(t *testing.T) {
	d := newStaging(t)
	d.write("undo001", makeSpace(t, 9, 2))
	c := newCopying(1)
	b := &backup{registry: c.registry, copier: c.copier, stage: d.stage}
	all := func(*archivedSpace) bool { return true }
	files := unopened(d.list().tablespaces)
	if err := c.copyFiles(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	if err := b.replace(c.registry.discard(all)); err == nil {
		t.Error("an undo tablespace that is in the archive may be copied again")
	}
	c.registry = newRegistry()
	b.registry = c.registry
	b.underStage()
	for range 2 {
		if err := c.copyFiles(t.Context(), unopened(d.list().tablespaces)); err != nil {
			t.Fatal(err)
		}
		if d.files["undo001"] == nil || len(d.files) != 1 {
			t.Fatalf("staged: %v", d.files)
		}
		if err := b.replace(c.registry.discard(all)); err != nil {
			t.Error(err)
		}
	}
	system := &archivedSpace{name: "ibdata1"}
	if err := b.replace([]*archivedSpace{system}); err == nil {
		t.Error("the system tablespace may be copied again")
	}
}

// TestOverwritten: a tablespace that is cut, or that becomes another one, while
// it is copied is copied again where that is planned, and an error otherwise.
func TestOverwritten(t *testing.T) {
	cases := map[string]func(d *datadir, content []byte){
		"cut": func(d *datadir, _ []byte) {
			if err := os.Truncate(d.path("db/t.ibd"), 64<<10); err != nil {
				d.t.Fatal(err)
			}
		},
		"imported over": func(d *datadir, content []byte) {
			page := content[150*16<<10:][:16<<10]
			binary.BigEndian.PutUint32(page[innodb.OffsetSpace:], 77)
			s, err := innodb.ParseSpace(content)
			if err != nil {
				d.t.Fatal(err)
			}
			s.Stamp(page, innodb.ChecksumUnset)
			f, err := os.OpenFile(d.path("db/t.ibd"), os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt(content, 0)
			}
			if err := errors.Join(err, f.Close()); err != nil {
				d.t.Fatal(err)
			}
		},
	}
	for name, change := range cases {
		for _, again := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				d := newDatadir(t)
				content := makeSpace(t, 5, 300)
				d.write("db/t.ibd", content)
				c := newCopying(1)
				c.again = again
				n := 0
				c.wait = func(context.Context, int) error {
					if n++; n == 2 {
						change(d, content)
					}
					return nil
				}
				err := c.copyFiles(t.Context(), unopened(d.list().tablespaces))
				if (err == nil) != again {
					t.Errorf("%s, to be copied again %v: error = %v", name, again, err)
				}
				if again && (len(c.registry.spaces) != 0 || len(c.registry.void) != 1) {
					t.Errorf("%s: the copy still counts", name)
				}
			})
		}
	}
}

// TestTruncations: each truncation is seen when it begins and when it ends.
func TestTruncations(t *testing.T) {
	dir := t.TempDir()
	w, err := watchTruncations(disk.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	}()
	expect := func(want ...innodb.SpaceID) {
		t.Helper()
		ids, err := w.seen()
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(ids)); !slices.Equal(got, want) {
			t.Errorf("truncated: %v, want %v", got, want)
		}
	}
	expect()
	for _, name := range []string{"undo_3_trunc.log", "ib_17_40_trunc.log", "ib_logfile1", "undo_x_trunc.log", "ib_99999999999_1_trunc.log"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if running, err := w.running(); err != nil || !running {
		t.Errorf("running = %v, %v", running, err)
	}
	expect(3, 17)
	expect()
	if err := os.Remove(filepath.Join(dir, "undo_3_trunc.log")); err != nil {
		t.Fatal(err)
	}
	expect(3)
	if err := os.Remove(filepath.Join(dir, "ib_17_40_trunc.log")); err != nil {
		t.Fatal(err)
	}
	if running, err := w.running(); err != nil || running {
		t.Errorf("running = %v, %v", running, err)
	}
	expect(17)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := w.seen(); err == nil {
		t.Error("a watched directory that is gone is no error")
	}
}

// TestSettleMySQL: a tablespace of the redo must be there.
func TestSettleMySQL(t *testing.T) {
	d := newDatadir(t)
	d.write("db/young.ibd", make([]byte, 64<<10))
	look, err := newInventory(disk.OS, 16<<10).look(t.Context(), d.list().tablespaces)
	if err != nil {
		t.Fatal(err)
	}
	young := map[innodb.SpaceID]redo.FileState{5: {Name: "db/young.ibd", Created: 1}}
	if _, err := settle(look, young, false); err == nil {
		t.Error("a file without page 0 was accepted")
	}
	if _, err := settle(found{}, young, false); err == nil {
		t.Error("a tablespace that is only in the redo was accepted")
	}
}

// TestCopyPrefix: as much of a growing file as asked for is staged, and what is
// not there yet is waited for.
func TestCopyPrefix(t *testing.T) {
	s := newStaging(t)
	s.write("binlog.000001", []byte("header"))
	f, err := os.Open(s.path("binlog.000001"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	go func() {
		time.Sleep(20 * time.Millisecond)
		if err := os.WriteFile(s.path("binlog.000001"), []byte("header and events and more"), 0o644); err != nil {
			t.Error(err)
		}
	}()
	if err := s.copyPrefix(t.Context(), f, "binlog.000001", 17); err != nil {
		t.Fatal(err)
	}
	if err := s.put("binlog.index", []byte("./binlog.000001\n")); err != nil {
		t.Fatal(err)
	}
	got := s.sent()
	if string(got["binlog.000001"]) != "header and events" || string(got["binlog.index"]) != "./binlog.000001\n" {
		t.Errorf("sent %q", got)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if err := s.copyPrefix(ctx, f, "binlog.000001", 1000); !errors.Is(err, gone) {
		t.Errorf("error = %v", err)
	}
}
