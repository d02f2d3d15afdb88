package forget_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hb/sink/apply/forget"
	"hb/sink/replay"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/dict"
	"hb/xbstream/innodb/innodbtest"
)

// edit opens the system tablespace in a directory.
func edit(t *testing.T, dir string) *replay.Editor {
	t.Helper()
	path := filepath.Join(dir, "ibdata1")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := innodbtest.NewStored(data)
	if err != nil {
		t.Fatal(err)
	}
	e, err := replay.Edit(&replay.Tablespace{Space: s.Geo, Files: []replay.File{{Path: "ibdata1"}}},
		replay.Options{Root: disktest.Open(t, dir), Identity: replay.Identity{From: 1, To: 2}, Checksum: innodb.ChecksumCRC32, End: 1 << 62})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// read reads the dictionary.
func read(t *testing.T, dir string) (*dict.Dictionary, *innodbtest.Stored) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "ibdata1"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := innodbtest.NewStored(data)
	if err != nil {
		t.Fatal(err)
	}
	d, err := dict.Read(s)
	if err != nil {
		t.Fatal(err)
	}
	return d, s
}

// TestTables takes one of two tables out of the dictionaries that MySQL 5.6.24 and MariaDB
// 10.5.23 wrote (see the testdata of package dict): the other one stays as it was, and each
// page keeps its LSN. Doing it twice changes nothing.
func TestTables(t *testing.T) {
	for _, name := range []string{"mysql56-ibdata1", "mariadb105-ibdata1"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			packed, err := os.ReadFile("../../../xbstream/innodb/dict/testdata/" + name + ".gz")
			if err != nil {
				t.Fatal(err)
			}
			z, err := gzip.NewReader(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "ibdata1"), data, 0o644); err != nil {
				t.Fatal(err)
			}
			before, old := read(t, dir)
			gone, kept := before.Table("t/dyn"), before.Table("t/red")
			left := func(id innodb.SpaceID) bool { return id == gone.Space }
			n, err := forget.Tables(edit(t, dir), left)
			if err != nil || n != 1 {
				t.Fatalf("%d tables, %v", n, err)
			}
			after, now := read(t, dir)
			if after.Table("t/dyn") != nil || after.TableByID(gone.ID) != nil || len(after.Tables) != len(before.Tables)-1 {
				t.Errorf("%d tables of %d remain, and t/dyn is %v", len(after.Tables), len(before.Tables), after.Table("t/dyn"))
			}
			if still := after.Table("t/red"); still == nil || still.ID != kept.ID || still.Check() != nil {
				t.Errorf("t/red is %+v", still)
			}
			changed := differences(t, old, now)
			if len(changed) < 2 { // SYS_TABLES by name and by id
				t.Errorf("pages %v changed", changed)
			}
			t.Logf("pages %v changed", changed)
			if n, err := forget.Tables(edit(t, dir), left); err != nil || n != 1 {
				t.Errorf("again: %d tables, %v", n, err)
			}
			if _, again := read(t, dir); !bytes.Equal(again.Data, now.Data) {
				t.Error("doing it again changed something")
			}
		})
	}
}

// differences are the pages that differ: in their checksums, and in delete marks.
func differences(t *testing.T, old, now *innodbtest.Stored) (changed []innodb.PageNo) {
	t.Helper()
	size := old.Geo.Physical
	for no := range innodb.PageNo(len(old.Data) / size) {
		a, b := slices.Clone(old.Data[int(no)*size:][:size]), slices.Clone(now.Data[int(no)*size:][:size])
		if bytes.Equal(a, b) {
			continue
		}
		changed = append(changed, no)
		marks := 0
		for i := range a {
			if a[i] == b[i] {
				continue
			}
			inSum := i < 4 || i >= size-8
			if !inSum && a[i]|0x20 == b[i] {
				marks++
			} else if !inSum {
				t.Errorf("page %d: byte %d was %#x and is %#x", no, i, a[i], b[i])
			}
		}
		if _, err := now.Geo.Verify(b, no); err != nil {
			t.Errorf("page %d: %v", no, err)
		}
		if marks == 0 || innodb.HeaderLSN(a) != innodb.HeaderLSN(b) {
			t.Errorf("page %d: %d delete marks, LSN %d was %d", no, marks, innodb.HeaderLSN(b), innodb.HeaderLSN(a))
		}
	}
	return changed
}
