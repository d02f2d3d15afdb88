package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hb/sink/replay"
	"hb/source/innodb/mlog"
	"hb/source/innodb/redolog"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
)

// ignored are the operations whose failing may go unnoticed, and why. There must
// be no others.
var ignored = map[disktest.Kind]string{
	disktest.CloseRead: "what was read was read: closing writes nothing",
}

// eachFault calls run once to see which operations it has, and then once for
// each of them, in which this one fails: alone, or with all that follow. In the
// short form it takes a few of them.
func eachFault(t *testing.T, base string, run func(f *disktest.Faults) error, after func(op disktest.Op, dead bool, err error)) {
	t.Helper()
	f := disktest.NewFaults(base)
	if err := run(f); err != nil {
		t.Fatalf("without any fault: %v", err)
	}
	all := slices.Clone(f.Ops())
	stride := 1
	if !mysqldtest.Long() {
		stride = max(1, len(all)/10)
	}
	n := 0
	for i := 0; i < len(all); i += stride {
		for _, dead := range []bool{false, true} {
			f := disktest.NewFaults(base)
			f.Fail(all[i], syscall.EIO, dead)
			err := run(f)
			n++
			switch {
			case !f.Hit():
				t.Errorf("%v did not happen again", all[i])
			case err == nil && (ignored[all[i].Kind] == "" || dead):
				t.Errorf("%v failed, and nothing was said (later ones too: %v)", all[i], dead)
			case err != nil && !errors.Is(err, syscall.EIO):
				t.Errorf("%v failed, and what was said is: %v", all[i], err)
			}
			after(all[i], dead, err)
			if t.Failed() {
				return
			}
		}
	}
	t.Logf("%d faults, of %d operations", n, len(all))
}

// fixUps are files that an archive of hb's tells of DDL by.
func fixUps(b *fakeBackup) {
	b.table("db/dropped.ibd", 11, 3, 40000)
	b.write("db/dropped.del", nil)
	b.table("db/a.ibd", 12, 3, 40000)
	b.write("db/a.ren", []byte("db/b"))
	b.table("db/b.ibd", 13, 3, 40000)
	b.write("db/b.ren", []byte("db2/a"))
	b.table("db/n.new", 14, 3, 40000)
}

// faultImages are backups that have all that Apply does in them.
func faultImages(t *testing.T) map[string]*fakeBackup {
	images := make(map[string]*fakeBackup)
	for _, format := range []redolog.Format{redolog.MariaDB105, redolog.MariaDB108} {
		b := newFakeBackup(t, format, fullFlags)
		fixUps(b)
		b.mtr(file(0xB0, 7, "./db/t.ibd"), write50(7, 3, "first"), write50(0, 4, "system"))
		b.mtr(file(0x80, 8, "./db/new.ibd"))
		b.mtr(rec(0x10, 8, 0), rec(0xB0, 38-24, 0, 0, 0, 8), rec(0xB0, 46-42, 0, 0, 0, 5), rec(0xB0, 54-50, 0, 0, 0, fullFlags))
		for i := range 1500 { // more than a plan keeps in memory
			b.mtr(write50(byte(i%2*7), byte(i%4+1), fmt.Sprint("t", i)))
		}
		images[fmt.Sprint("MariaDB ", format)] = b.finish()
	}
	for _, format := range []mlog.Format{mlog.Format56, mlog.Format57, mlog.Format8028, mlog.Format8030} {
		b := newFakeMySQL(t, format)
		fixUps(b.fakeBackup)
		b.write("db/t.isl", []byte("/elsewhere/db/t.ibd"))
		b.mtr(put(7, 3, "first"), put(0, 4, "system"), put(0, fakeFirst+1, "second file"))
		for i := range 1500 {
			b.mtr(put(uint32(i%2*7), uint32(i%4+1), fmt.Sprint("t", i)))
		}
		images["MySQL "+format.String()] = b.own().finish().fakeBackup
		b.seal()
	}
	return images
}

// TestApplyFaults: whatever operation on the files fails, Apply says so. Then a
// server cannot start on what is half done, and a second run comes to the same
// end as one that nothing disturbed.
func TestApplyFaults(t *testing.T) {
	images := faultImages(t)
	for _, name := range slices.Sorted(maps.Keys(images)) {
		for _, byServer := range []bool{false, true} {
			rebuilds := byServer || strings.HasSuffix(name, "8.0.28")
			if strings.HasPrefix(name, "MySQL") && rebuilds && !mysqldtest.Long() {
				continue // of many MiB, each time
			}
			t.Run(fmt.Sprintf("%s/by server %v", name, byServer), func(t *testing.T) {
				o := ApplyOptions{Memory: 1, Parallel: 1, Tool: "hb test", ByServer: byServer}
				applyFaults(t, images[name].dir, o)
			})
		}
	}
}

// TestDirectoryPlace is TestApplyFaults of one backup where a directory keeps the
// place of the system tablespace, as on Windows.
func TestDirectoryPlace(t *testing.T) {
	defer func(before placeholder) { systemPlace = before }(systemPlace)
	systemPlace = placeOn("windows")
	if systemPlace != (directoryPlace{}) {
		t.Fatalf("it is %T", systemPlace)
	}
	images := faultImages(t)
	applyFaults(t, images[fmt.Sprint("MariaDB ", redolog.MariaDB108)].dir, ApplyOptions{Memory: 1, Parallel: 1, Tool: "hb test"})
}

func applyFaults(t *testing.T, image string, o ApplyOptions) {
	before := readTree(t, image)
	dir := filepath.Join(disktest.Memory(t), "dir")
	fresh := func() {
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(image))); err != nil {
			t.Fatal(err)
		}
	}
	fresh()
	if _, err := Apply(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	want := readTree(t, dir)
	eachFault(t, dir, func(f *disktest.Faults) error {
		fresh()
		_, err := applyOn(t.Context(), f, dir, o)
		return err
	}, func(op disktest.Op, dead bool, err error) {
		startable(t, op, dir, before, want)
		if _, err := Apply(t.Context(), dir, o); err != nil {
			t.Errorf("after %v failed (%v): %v", op, err, err)
		} else if got := readTree(t, dir); !maps.Equal(got, want) {
			t.Errorf("after %v failed and all was done again, there are other bytes: %v", op, differences(got, want))
		}
	})
}

// startable checks that a directory on which a server can start is as it was, or
// as it is to be.
func startable(t *testing.T, op disktest.Op, dir string, before, want map[string]string) {
	t.Helper()
	if held(t, dir) {
		return
	}
	got := readTree(t, dir)
	if maps.Equal(got, want) {
		return
	}
	maps.DeleteFunc(got, func(name, _ string) bool {
		return strings.HasPrefix(name, ApplyingName) || name == replay.SpillName || name == "ibdata1"+extHeld || strings.HasSuffix(name, extTemporary)
	})
	if !maps.Equal(got, before) {
		t.Errorf("after %v failed, a server can start on a directory that is neither as it was nor as it is to be: %v", op, differences(got, before))
	}
}

// held reports whether no server can start on a directory because the system
// tablespace's place is kept.
func held(t *testing.T, dir string) bool {
	t.Helper()
	st, err := os.Stat(filepath.Join(dir, "ibdata1"))
	if systemPlace == (linkPlace{}) {
		return errors.Is(err, syscall.ELOOP)
	}
	between := errors.Is(err, fs.ErrNotExist)
	if between {
		if _, err := os.Stat(filepath.Join(dir, "ibdata1"+extHeld)); err != nil {
			t.Error(err)
		}
	}
	return between || err == nil && st.IsDir()
}

// differences names the files that differ.
func differences(a, b map[string]string) (names []string) {
	for name := range a {
		if other, ok := b[name]; !ok || other != a[name] {
			names = append(names, name)
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			names = append(names, name+" (missing)")
		}
	}
	slices.Sort(names)
	return names
}

// TestExtractFaults: whatever operation on the files fails, Extract says so, and
// what it leaves is no backup to Apply.
func TestExtractFaults(t *testing.T) {
	contents := testContents()
	for i := range 6 { // more than a writer keeps open
		contents[fmt.Sprintf("many/t%d.ibd", i)] = page(40<<10, byte(i))
	}
	archives := map[string][]byte{
		"hb's": ownArchive(t, contents, 16<<10),
		"MariaDB's": cat(rawFile("db/a", "x"), rawFile("b", "y"), rawRename("db/a", "db2/a"), rawRemove("b"),
			rawFile("xtrabackup_checkpoints", "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 1\nlast_lsn = 1\n")),
	}
	for _, name := range slices.Sorted(maps.Keys(archives)) {
		t.Run(name, func(t *testing.T) {
			base := disktest.Memory(t)
			dir := filepath.Join(base, "target")
			var whole map[string]string
			eachFault(t, base, func(f *disktest.Faults) error {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				_, err := extractOn(t.Context(), f, bytes.NewReader(archives[name]), dir, ExtractOptions{Parallel: 1})
				if whole == nil {
					whole = readTree(t, dir)
				}
				return err
			}, func(op disktest.Op, dead bool, err error) {
				unusable(t, dir, op, dead, err, whole)
			})
		})
	}
}

// unusable checks that what a failed extract left is refused. When the mark is
// gone, and this was the last thing to be done, all is there.
func unusable(t *testing.T, dir string, op disktest.Op, dead bool, failure error, whole map[string]string) {
	t.Helper()
	marked, err := IsMarked(dir)
	if err != nil {
		t.Fatal(err)
	}
	if failure == nil || marked {
		if marked && failure == nil {
			t.Errorf("%v failed: marked without an error", op)
		}
		return
	}
	// When all else was done and on disk, a disk that is gone does not take the
	// mark back, and neither does a directory that is being closed.
	if _, err := os.Stat(dir); err == nil && (dead || op.Kind == disktest.CloseDir) && maps.Equal(readTree(t, dir), whole) {
		return
	}
	_, err = Apply(t.Context(), dir, ApplyOptions{})
	if _, ok := errors.AsType[*NotBackupError](err); !ok {
		t.Errorf("%v failed, and apply does not refuse what is left: %v", op, err)
	}
}
