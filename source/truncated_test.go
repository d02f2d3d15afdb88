package source

import (
	"os"
	"path/filepath"
	"testing"

	"hb/source/datadir"
	"hb/source/pages"
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
