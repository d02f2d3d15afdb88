package pages

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"slices"
	"testing"
	"testing/synctest"

	"hb/source/sourcetest"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// TestCopiedAgain: a tablespace that was changed without redo is copied again,
// under another name, and the earlier copies are deleted.
func TestCopiedAgain(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Layout.General = true
	d.Write("db/t.ibd", innodbtest.Random(7, 2))
	d.Write("general.ibd", innodbtest.Random(8, 2))
	d.Write("undo001", innodbtest.Random(9, 2))
	c := newCopying(2)
	lsn := innodb.LSN(100)
	c.Since = func() innodb.LSN { return lsn }
	copyAll := func() {
		t.Helper()
		if err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil {
			t.Fatal(err)
		}
	}
	copyAll()
	for range 2 {
		lsn += 100
		void := c.Registry.Discard(func(a *Copy) bool { return a.ID != 9 && a.Since < lsn })
		if len(void) != 2 {
			t.Fatalf("%d copies are void, want 2", len(void))
		}
		copyAll()
	}
	now := map[Key]string{}
	look, err := NewInventory(disk.OS, 16<<10).Look(t.Context(), d.List().Tablespaces)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range look.Files {
		now[f.Key()] = f.Name
	}
	want := map[string]string{
		"db/t.del": "", "db/t#hb#7.del": "", "db/t#hb#7#2.ren": "db/t",
		"general.del": "", "general#hb#8.del": "", "general#hb#8#2.ren": "general",
	}
	if got := c.Registry.Fixups(now); !maps.Equal(got, want) {
		t.Errorf("fix-ups = %q, want %q", got, want)
	}
	files := c.files(t)
	if len(files) != 7 || !bytes.Equal(files["db/t#hb#7#2.ibd"], innodbtest.Random(7, 2)) {
		t.Errorf("the archive holds %q", slices.Sorted(maps.Keys(files)))
	}
}

// TestOverwritten: a tablespace that is cut, or that becomes another one, while
// it is copied is copied again where that is planned, and an error otherwise.
func TestOverwritten(t *testing.T) {
	cases := map[string]func(d *sourcetest.Dir, content []byte){
		"cut": func(d *sourcetest.Dir, _ []byte) {
			if err := os.Truncate(d.Path("db/t.ibd"), 64<<10); err != nil {
				d.T.Fatal(err)
			}
		},
		"imported over": func(d *sourcetest.Dir, content []byte) {
			page := content[150*16<<10:][:16<<10]
			binary.BigEndian.PutUint32(page[innodb.OffsetSpace:], 77)
			innodbtest.Seal(page, innodbtest.Full16K, 1000, innodb.ChecksumUnset)
			f, err := os.OpenFile(d.Path("db/t.ibd"), os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt(content, 0)
			}
			if err := errors.Join(err, f.Close()); err != nil {
				d.T.Fatal(err)
			}
		},
	}
	for name, change := range cases {
		for _, again := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				d := sourcetest.NewDir(t)
				content := innodbtest.Random(5, 300)
				d.Write("db/t.ibd", content)
				c := newCopying(1)
				c.Again = again
				n := 0
				c.Wait = func(context.Context, int) error {
					if n++; n == 2 {
						change(d, content)
					}
					return nil
				}
				err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces))
				if (err == nil) != again {
					t.Errorf("%s, to be copied again %v: error = %v", name, again, err)
				}
				if again && (len(c.Registry.spaces) != 0 || len(c.Registry.void) != 1) {
					t.Errorf("%s: the copy still counts", name)
				}
			})
		}
	}
}
