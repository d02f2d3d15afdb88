package sink

import (
	"os"
	"strings"
	"testing"

	"hb/sink/backupdir"
	"hb/sink/replay/mariadb"
	"hb/sink/verify"
	"hb/stream/disk/disktest"
	"hb/xbstream/metadata"
)

// TestVerifyApplied: of a recovered directory, and so of a copy of one, nothing
// may be missing after page 0, and no file may be another one.
func TestVerifyApplied(t *testing.T) {
	cut := func(pages int) func([]byte) []byte { return func(c []byte) []byte { return c[:pages*fakePage] } }
	clearPage := func(no int) func([]byte) []byte {
		return func(c []byte) []byte { clear(c[no*fakePage:][:fakePage]); return c }
	}
	remove := func([]byte) []byte { return nil }
	for _, family := range []string{metadata.FlavorMariaDB, metadata.FlavorMySQL} {
		b := fakeOwn(t, family)
		b.extents("db/t.ibd", 5) // of 6 pages
		b.mustApply()
		type damage struct {
			name, want string
			change     func([]byte) []byte
			lists      bool // known only by what apply noted
		}
		all := []damage{
			{"db/t.ibd", "", nil, false},
			{"db/t.ibd", "", clearPage(5), false}, // not in use
			{"db/t.ibd", "page 3 is in use, and zero", clearPage(3), false},
			{"db/t.ibd", "cut off", cut(1), false},
			{"db/t.ibd", "cut off", cut(5), false},
			{"db/t.ibd", "by " + backupdir.AppliedName, func(c []byte) []byte { return append(c, make([]byte, fakePage)...) }, true},
			{"db/t.ibd", "db/t.ibd is missing", remove, false},
			{backupdir.AppliedName, "wrong checksum", flipAt(60), true},
			{backupdir.AppliedName, "it is cut", func(c []byte) []byte { return c[:len(c)-1] }, true},
		}
		if family == metadata.FlavorMariaDB {
			all = append(all,
				damage{"undo001", "cut off", cut(5), false},
				damage{mariadb.LogName, "its redo log was not", func(c []byte) []byte { return append(c, 0) }, false},
				damage{mariadb.LogName, "", flipAt(20), false})
		}
		for _, d := range all {
			files := disktest.ReadTree(t, b.dir)
			if d.change != nil {
				if c := d.change(b.read(d.name)); c == nil {
					os.Remove(b.dir + "/" + d.name)
				} else {
					b.write(d.name, c)
				}
			}
			for _, noted := range []bool{true, false} {
				if !noted {
					os.Remove(b.dir + "/" + backupdir.AppliedName)
				}
				_, err := verify.Directory(t.Context(), b.dir, verify.Options{})
				whole := d.want == "" && d.name != mariadb.LogName || !noted && d.lists
				switch {
				case whole != (err == nil):
					t.Errorf("%s: %s, to be %q, noted %v: %v", family, d.name, d.want, noted, err)
				case noted && err != nil && !strings.Contains(err.Error(), d.want) && !strings.Contains(err.Error(), "bytes, "):
					t.Errorf("%s: %s: %v; want %q", family, d.name, err, d.want)
				}
			}
			for name, content := range files {
				b.write(name, []byte(content))
			}
		}
	}
}

// TestAppliedFile: apply records exactly what the directory has.
func TestAppliedFile(t *testing.T) {
	b := fakeOwn(t, metadata.FlavorMySQL)
	b.write("db/\xffodd.MYD", []byte("x"))
	b.mustApply()
	d, err := backupdir.ReadApplied(disktest.Open(t, b.dir))
	if err != nil {
		t.Fatal(err)
	}
	files := disktest.ReadTree(t, b.dir)
	delete(files, backupdir.AppliedName)
	for name, content := range files {
		if f, ok := d.Files[name]; !ok || f.Size != int64(len(content)) {
			t.Errorf("%q: %+v", name, f)
		}
	}
	if len(files) != len(d.Files) || d.Lsn != b.end {
		t.Errorf("%d files of %d, LSN %d", len(d.Files), len(files), d.Lsn)
	}
}
