package sink

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/sink/verify"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mariadbredo"
)

// dig makes holes of the pages of a file that are zero, as hb extract does.
func dig(t *testing.T, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(len(content))); err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(content); at += fakePage {
		if page := content[at:][:fakePage]; !innodb.AllZero(page) {
			if _, err := f.WriteAt(page, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// zeroBackup is a backup whose log ends when the server had taken pages into use and
// not written them yet: page 5 of db/t, and pages 2 and 3 of db/made, which the log
// creates. If lost, page 3 of db/lost and of db/quiet were in use, and are zero; the log
// changes the former's page map.
func zeroBackup(t *testing.T, form mariadbredo.Format, lost bool) *fakeBackup {
	b := newFakeBackup(t, form, fullFlags).own()
	tables := map[byte]string{7: "db/t", 8: "db/lost", 10: "db/quiet"}
	for id, name := range tables {
		name += ".ibd"
		b.table(name, innodb.SpaceID(id), 6, 40000)
		b.extents(name, 5)
		b.edit(name, func(c []byte) []byte {
			clear(c[5*fakePage:])
			if lost && id != 7 {
				clear(c[3*fakePage:][:fakePage])
			}
			return c
		})
	}
	const bits = 150 + 24 // of the first extent: two for each page, 2 if it is in use, 3 if not
	b.mtr(file(0xB0, 7, "./db/t.ibd"), innodbtest.MariaDBWrite(7, 0, bits+1, "\xfa"))
	b.mtr(file(0xB0, 8, "./db/lost.ibd"), innodbtest.MariaDBWrite(8, 0, bits+1, "\xfa"))
	b.mtr(rec(0x10, 8, 5), write50(8, 5, "made"))
	b.mtr(file(0x80, 9, "./db/made.ibd"))
	b.mtr(page0(9, 6), innodbtest.MariaDBWrite(9, 0, 50, "\x00\x00\x00\x40"), innodbtest.MariaDBWrite(9, 0, bits-4, "\x00\x00\x00\x02"),
		innodbtest.MariaDBWrite(9, 0, bits, "\xaa"+strings.Repeat("\xff", 15)), rec(0x10, 9, 1), write50(9, 1, "made"))
	b.finish()
	b.seal()
	for _, name := range tables {
		dig(t, filepath.Join(b.dir, name+".ibd"))
	}
	return b
}

// TestApplyUnwritten: a page that the server took into use at the end of the log, and
// had not written yet, is not lost; hb verify knows of it. One that was in use before is.
func TestApplyUnwritten(t *testing.T) {
	for _, form := range []mariadbredo.Format{mariadbredo.Format105, mariadbredo.Format108} {
		for _, lost := range []bool{false, true} {
			b := zeroBackup(t, form, lost)
			r, err := apply.Run(t.Context(), b.dir, apply.Options{Tool: "hb test"})
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			if lost {
				want = []string{"pages are in use and zero, so that their content was lost on the server, before the backup or during it: " +
					"db/lost.ibd (page 3, of 1), db/quiet.ibd (page 3, of 1): check these tables (CHECK TABLE) before you rely on them"}
			}
			if !slices.Equal(r.Warnings, want) {
				t.Errorf("%v, lost %v: warnings %q", form, lost, r.Warnings)
			}
			applied, err := backupdir.ReadApplied(disktest.Open(t, b.dir))
			if err != nil {
				t.Fatal(err)
			}
			for name, pages := range map[string][]innodb.PageNo{"db/t.ibd": {5}, "db/made.ibd": {2, 3}, "db/lost.ibd": nil, "db/quiet.ibd": nil} {
				if got := applied.Files[name].Unwritten; !slices.Equal(got, pages) {
					t.Errorf("%v, lost %v: of %s, pages %d are noted, want %d", form, lost, name, got, pages)
				}
			}
			check := func(what string, want ...string) {
				t.Helper()
				_, err := verify.Directory(t.Context(), b.dir, verify.Options{})
				for _, name := range []string{"db/t.ibd", "db/made.ibd", "db/lost.ibd", "db/quiet.ibd"} {
					if says := err != nil && strings.Contains(err.Error(), name); says != slices.Contains(want, name) {
						t.Errorf("%v, lost %v: verify, %s: %v; want %q", form, lost, what, err, want)
					}
				}
				if err != nil && len(want) == 0 {
					t.Errorf("%v, lost %v: verify, %s: %v", form, lost, what, err)
				}
			}
			if lost {
				check("as it is", "db/lost.ibd", "db/quiet.ibd")
				continue
			}
			check("as it is")
			b.edit("db/t.ibd", func(c []byte) []byte { clear(c[4*fakePage:][:fakePage]); return c })
			check("another page is zero", "db/t.ibd")
		}
	}
}

// TestApplyUnwrittenSystem: so it is in the system tablespace. A page of it that was in use
// and zero before is left to hb verify.
func TestApplyUnwrittenSystem(t *testing.T) {
	for _, lost := range []bool{false, true} {
		b := newFakeBackup(t, mariadbredo.Format108, fullFlags).own()
		b.table("ibdata1", 0, 8, 40000)
		b.extents("ibdata1", 7)
		b.edit("ibdata1", func(c []byte) []byte {
			clear(c[7*fakePage:])
			if lost {
				clear(c[6*fakePage:][:fakePage])
			}
			return c
		})
		b.mtr(innodbtest.MariaDBWrite(0, 0, 150+24+1, "\xaa")) // takes page 7 into use
		b.finish()
		b.seal()
		dig(t, filepath.Join(b.dir, "ibdata1"))
		if r, err := apply.Run(t.Context(), b.dir, apply.Options{Tool: "hb test"}); err != nil || len(r.Warnings) > 0 {
			t.Fatalf("lost %v: %+v, %v", lost, r, err)
		}
		verified := func() string {
			if _, err := verify.Directory(t.Context(), b.dir, verify.Options{}); err != nil {
				return err.Error()
			}
			return ""
		}
		if got := verified(); lost && !strings.Contains(got, "ibdata1: page 6 is in use, and zero") || !lost && got != "" {
			t.Errorf("lost %v: verify: %s", lost, got)
		}
		if !lost {
			b.edit("ibdata1", func(c []byte) []byte { clear(c[6*fakePage:][:fakePage]); return c })
			if got := verified(); !strings.Contains(got, "ibdata1: page 6 is in use, and zero") {
				t.Errorf("another page is zero: verify: %s", got)
			}
		}
	}
}

// TestApplyUnwrittenKilled: a run that goes on after a kill knows and says the same, and
// so does one after the last.
func TestApplyUnwrittenKilled(t *testing.T) {
	o := apply.Options{Tool: "hb test", Parallel: 1}
	image := zeroBackup(t, mariadbredo.Format108, true).dir
	dir := filepath.Join(disktest.Memory(t), "dir")
	fresh := func() {
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(image))); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"t", "lost", "quiet"} {
			dig(t, filepath.Join(dir, "db", name+".ibd"))
		}
	}
	fresh()
	f := disktest.NewFaults(dir)
	r, err := applyOn(t.Context(), f, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "db/lost.ibd (page 3, of 1), db/quiet.ibd (page 3, of 1)") {
		t.Fatalf("warnings %q", r.Warnings)
	}
	want := disktest.ReadTree(t, dir)
	killed := 0
	for _, op := range f.Ops() {
		if !op.Kind.Changes() {
			continue
		}
		killed++
		fresh()
		kills := 1
		if op.Kind == disktest.OpenWrite && op.Name == replay.DoublewriteName { // no page is recovered yet: what was known of them must still be
			kills = 2
		}
		for range kills {
			f := disktest.NewFaults(dir)
			f.Fail(op, syscall.EIO, true)
			if _, err := applyOn(t.Context(), f, dir, o); err == nil {
				t.Errorf("killed at %v: no error", op)
			}
		}
		again, err := apply.Run(t.Context(), dir, o)
		if err != nil {
			t.Errorf("killed at %v, and again: %v", op, err)
			continue
		}
		if !reflect.DeepEqual(again.Warnings, r.Warnings) {
			t.Errorf("killed at %v, and again: warnings %q", op, again.Warnings)
		}
		if got := disktest.ReadTree(t, dir); !maps.Equal(got, want) {
			t.Errorf("killed at %v, and again: other bytes: %v", op, differences(got, want))
		}
	}
	if killed < 20 {
		t.Errorf("killed at %d operations", killed)
	}
}
