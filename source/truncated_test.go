package source

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"hb/source/datadir"
	"hb/source/pages"
	"hb/source/redo"
	"hb/source/spool"
	"hb/source/stage"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// TestVoidTruncated: the copy of a table that MySQL 5.7 truncates in place is made again,
// and no other. The server has a file in the redo log's directory for that time, named
// after the tablespace and the table (ib_SPACE_TABLE_trunc.log).
func TestVoidTruncated(t *testing.T) {
	dir := t.TempDir()
	cuts, err := datadir.WatchTruncations(disk.OS, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := cuts.Close(); err != nil {
			t.Error(err)
		}
	}()
	file := func(id innodb.SpaceID, name string) *pages.File {
		return &pages.File{File: datadir.File{Name: name}, Space: innodb.File{Space: innodb.Space{ID: id}}}
	}
	cut, whole := file(7, "d/cut.ibd"), file(8, "d/whole.ibd")
	b := &mysql5Backup{mysqlBackup: mysqlBackup{backup: &backup{registry: pages.NewRegistry()}}, cuts: cuts}
	for _, f := range []*pages.File{cut, whole} {
		b.registry.Add(f, 0)
	}
	look := func(want int, has bool) {
		t.Helper()
		if n, err := b.voidTruncated(); err != nil || n != want {
			t.Errorf("%d tablespaces were truncated (%v), want %d", n, err, want)
		}
		if b.registry.Has(cut.Key()) != has || !b.registry.Has(whole.Key()) {
			t.Errorf("the archive has the one that is truncated: %v, and the other: %v", b.registry.Has(cut.Key()), b.registry.Has(whole.Key()))
		}
	}
	look(0, true)
	if err := os.WriteFile(filepath.Join(dir, "ib_7_40_trunc.log"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	look(1, false)
}

// TestDropUndo: the staged copy of an undo tablespace that MySQL 8.0 has truncated since,
// which has another id then, or dropped, is not sent; its name is free for the copy of the
// new one. The copies of other tablespaces stay.
func TestDropUndo(t *testing.T) {
	s := stage.New(disk.OS, spool.New(disk.OS, t.TempDir(), 1<<20))
	b := &mysql8Backup{mysqlBackup: mysqlBackup{backup: &backup{registry: pages.NewRegistry(), copier: new(pages.Copier), stage: s}}}
	file := func(id innodb.SpaceID, name string) *pages.File {
		return &pages.File{File: datadir.File{Name: name}, Space: innodb.File{Space: innodb.Space{ID: id}}}
	}
	system, table, whole, dropped, cut := file(0, "ibdata1"), file(7, "d/t.ibd"), file(1001, "undo_001"), file(1002, "more.ibu"), file(1003, "undo_002")
	for _, f := range []*pages.File{system, table, whole, dropped, cut} {
		b.registry.Add(f, 0)
		out, err := s.Output(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
	}
	again := file(1130, "undo_002")
	b.last.Files = []*pages.File{whole, again} // the table was dropped, too: settle says so
	if err := b.dropUndo(); err != nil {
		t.Fatal(err)
	}
	for f, has := range map[*pages.File]bool{system: true, table: true, whole: true, dropped: false, cut: false} {
		if b.registry.Has(f.Key()) != has || s.Has(f.Name) != has {
			t.Errorf("%s, tablespace %d: counts %v, is staged %v, want %v", f.Name, f.Space.ID, b.registry.Has(f.Key()), s.Has(f.Name), has)
		}
	}
	if a, isNew := b.registry.Add(again, 0); !isNew || a.Name != "undo_002" {
		t.Errorf("the new one is copied as %s", a.Name)
	}
}

// TestProveCopied: a tablespace that was there at the last listing is missed if its copy was
// given up, even if the redo log does not name it; not if the redo log deletes it.
func TestProveCopied(t *testing.T) {
	b := &backup{registry: pages.NewRegistry()}
	kept := &pages.File{File: datadir.File{Name: "d/kept.ibd"}, Space: innodb.File{Space: innodb.Space{ID: 7}}}
	lost := &pages.File{File: datadir.File{Name: "d/lost.ibd", Path: "/data/d/lost.ibd"}, Space: innodb.File{Space: innodb.Space{ID: 8}}}
	for _, f := range []*pages.File{kept, lost} {
		b.registry.Add(f, 0)
	}
	b.last.Files = []*pages.File{kept, lost}
	if err := b.proveCopied(nil); err != nil {
		t.Errorf("with both copies: %v", err)
	}
	b.registry.Discard(func(a *pages.Copy) bool { return a.ID == 8 })
	if e, is := errors.AsType[*LostCopyError](b.proveCopied(nil)); !is || e.ID != 8 || e.Path != "/data/d/lost.ibd" {
		t.Errorf("without the copy of one: %v", e)
	}
	if err := b.proveCopied(map[innodb.SpaceID]*redo.FileState{8: {Deleted: true}}); err != nil {
		t.Errorf("of one that was dropped: %v", err)
	}
}
