package sink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hb/sink/backupdir"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mariadbredo"
)

// extents gives page 0 of a tablespace a descriptor of its first extent, by which
// so many pages are in use.
func (b *fakeBackup) extents(name string, used int) {
	b.t.Helper()
	content := b.read(name)
	page := content[:fakePage]
	binary.BigEndian.PutUint32(page[50:], 64) // FSP_FREE_LIMIT
	innodbtest.Extent(page, 0, 2, 64, func(no int) bool { return no < used })
	b.stamp(page, innodb.HeaderLSN(page))
	b.write(name, content)
}

// cut leaves the file so many pages.
func (b *fakeBackup) cut(name string, pages int) {
	b.t.Helper()
	if err := os.Truncate(filepath.Join(b.dir, name), int64(pages)*fakePage); err != nil {
		b.t.Fatal(err)
	}
}

// TestApplyCut: a table that is shorter than its page 0 says is damaged, unless
// the redo log extends it and makes all pages that are in use.
func TestApplyCut(t *testing.T) {
	size := rec(0x30, 7, 0, 46, 0, 0, 0, 6) // writes what page 0 says
	makePage := func(no byte) []byte { return append(rec(0x10, 7, no), write50(7, no, "made")...) }
	for _, form := range fakeForms {
		for _, c := range []struct {
			name    string
			records [][]byte
			want    string // "": it is whole
		}{
			{"untouched", [][]byte{write50(7, 2, "other")}, "65536 bytes, but page 0 counts pages for 98304"},
			{"not made", [][]byte{size}, "page 4 is in use"},
			{"not all made", [][]byte{size, makePage(4)}, "page 5 is in use"},
			{"made", [][]byte{size, makePage(4), makePage(5)}, ""},
		} {
			t.Run(fmt.Sprintf("%v/%#x/%s", form.format, form.flags, c.name), func(t *testing.T) {
				b := newFakeBackup(t, form.format, form.flags)
				b.extents("db/t.ibd", 6)
				b.cut("db/t.ibd", 4)
				for _, r := range c.records {
					b.mtr(r)
				}
				b.finish()
				_, err := b.apply()
				wantDamage(t, err, c.want)
				if c.want == "" && len(b.read("db/t.ibd")) != 6*fakePage {
					t.Errorf("%d bytes", len(b.read("db/t.ibd")))
				}
			})
		}
	}
}

func wantDamage(t *testing.T, err error, want string) {
	t.Helper()
	var damage *backupdir.DamageError
	switch {
	case want == "" && err != nil:
		t.Errorf("error %v", err)
	case want != "" && (!errors.As(err, &damage) || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want a *DamageError with %q", err, want)
	}
}

// TestApplyCutSystem: the files of the system tablespace count together.
func TestApplyCutSystem(t *testing.T) {
	for _, cut := range []string{"", "ibdata2", "ibdata3"} {
		b := newFakeBackup(t, mariadbredo.Format108, oldFlags)
		b.sick = true // no first file is so short that page 5 is in the second
		system := b.read("ibdata1")
		b.write("ibdata1", system[:fakePage])
		b.write("ibdata2", system[fakePage:4*fakePage])
		b.write("ibdata3", system[4*fakePage:])
		if cut != "" {
			b.cut(cut, 1)
		}
		b.mtr(write50(7, 2, "other"))
		b.finish()
		want := ""
		if cut != "" {
			want = "it was cut off"
		}
		_, err := b.apply()
		wantDamage(t, err, want)
	}
}

// TestApplyCutResumed: a run that goes on where another one was interrupted finds
// the file longer, and knows what it was.
func TestApplyCutResumed(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
	b.extents("db/t.ibd", 6)
	clear := b.read("db/t.ibd")
	copy(clear[4*fakePage:], make([]byte, fakePage)) // between the old end and a page that was made
	b.write("db/t.ibd", clear)
	b.mtr(rec(0x30, 7, 0, 46, 0, 0, 0, 6), rec(0x10, 7, 5), write50(7, 5, "made"))
	b.finish()
	b.write(backupdir.ApplyingName, []byte(`{"stage":"replay","looked":true,"cut":{"7":4}}`))
	_, err := b.apply()
	wantDamage(t, err, "page 4 is in use")
}

// TestApplyUndoMissing: MariaDB's rollback segments name their tablespaces.
func TestApplyUndoMissing(t *testing.T) {
	for _, there := range []bool{true, false} {
		b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
		system := b.read("ibdata1")
		page := system[5*fakePage:]
		innodbtest.RollbackSegment(page, 4, 2)
		b.stamp(page, 40000)
		b.write("ibdata1", system)
		if there {
			b.table("undo002", 2, 6, 40000)
		}
		b.mtr(write50(7, 2, "other"))
		b.finish()
		_, err := b.apply()
		if _, ok := errors.AsType[*backupdir.MissingError](err); ok == there || err != nil && !strings.Contains(err.Error(), "undo tablespace 2, in which rollback segment 4 is") {
			t.Errorf("with the tablespace %v: %v", there, err)
		}
	}
}
