package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/extract"
	"hb/sink/replay"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/xbtest/raw"
)

// ignored are the operations whose failing may go unnoticed, and why. There must
// be no others.
var ignored = map[disktest.Kind]string{
	disktest.CloseRead: "what was read was read: closing writes nothing",
}

// applyOn is apply on other files than the operating system's.
func applyOn(ctx context.Context, system disk.System, dir string, o apply.Options) (*apply.Result, error) {
	o.System = system
	return apply.Run(ctx, dir, o)
}

// extractOn is extract likewise.
func extractOn(ctx context.Context, system disk.System, r io.Reader, dir string, o extract.Options) (*extract.Result, error) {
	o.System = system
	return extract.Run(ctx, r, dir, o)
}

// restoreOn is Restore likewise.
func restoreOn(ctx context.Context, system disk.System, r io.Reader, dir string, x extract.Options, o apply.Options) (*extract.Result, *apply.Result, error) {
	x.System, o.System = system, system
	return Restore(ctx, r, dir, x, o)
}

// eachFault calls run once to see which operations it has, and then once for
// each of them that pick picks, in which this one fails: alone, or with all that
// follow.
func eachFault(t *testing.T, base string, pick picker, run func(f *disktest.Faults) error, after func(op disktest.Op, dead bool, err error)) {
	t.Helper()
	f := disktest.NewFaults(base)
	if err := run(f); err != nil {
		t.Fatalf("without any fault: %v", err)
	}
	all := slices.Clone(f.Ops())
	picked := pick(all)
	n := 0
	for _, op := range picked {
		for _, dead := range []bool{false, true} {
			f := disktest.NewFaults(base)
			f.Fail(op, syscall.EIO, dead)
			err := run(f)
			n++
			switch {
			case !f.Hit():
				t.Errorf("%v did not happen again", op)
			case err == nil && (ignored[op.Kind] == "" || dead):
				t.Errorf("%v failed, and nothing was said (later ones too: %v)", op, dead)
			case err != nil && !errors.Is(err, syscall.EIO):
				t.Errorf("%v failed, and what was said is: %v", op, err)
			}
			after(op, dead, err)
			if t.Failed() {
				return
			}
		}
	}
	t.Logf("%d faults, of %d operations", n, len(all))
}

// A picker picks the operations that are to fail.
type picker func(all []disktest.Op) []disktest.Op

// someOps picks all operations, in the short form ten or so.
func someOps(all []disktest.Op) []disktest.Op {
	stride := 1
	if !mysqldtest.Long() {
		stride = max(1, len(all)/10)
	}
	var some []disktest.Op
	for i := 0; i < len(all); i += stride {
		some = append(some, all[i])
	}
	return some
}

// fixUps are the fix-up files for DDL in an archive of hb's.
func fixUps(b *fakeBackup) {
	b.table("db/dropped.ibd", 11, 3, 40000)
	b.write("db/dropped.del", nil)
	b.table("db/a.ibd", 12, 3, 40000)
	b.write("db/a.ren", []byte("db/b"))
	b.table("db/b.ibd", 13, 3, 40000)
	b.write("db/b.ren", []byte("db2/a"))
	b.table("db/n.new", 14, 3, 40000)
}

// faultImages are backups that have all that apply does in them.
func faultImages(t *testing.T) map[string]*fakeBackup {
	images := make(map[string]*fakeBackup)
	for _, format := range []mariadbredo.Format{mariadbredo.Format105, mariadbredo.Format108} {
		b := newFakeBackup(t, format, fullFlags)
		fixUps(b)
		b.mtr(file(0xB0, 7, "./db/t.ibd"), write50(7, 3, "first"), write50(0, 4, "system"))
		b.mtr(file(0x80, 8, "./db/new.ibd"))
		b.mtr(page0(8, 5))
		for i := range 1500 { // more than a plan keeps in memory
			b.mtr(write50(byte(i%2*7), byte(i%4+1), fmt.Sprint("t", i)))
		}
		images[fmt.Sprint("MariaDB ", format)] = b.finish()
	}
	for _, format := range []mysqlredo.Format{mysqlredo.Format56, mysqlredo.Format57, mysqlredo.Format8020, mysqlredo.Format8030} {
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

// TestApplyFaults: whatever operation on the files fails, apply says so. Then a
// server cannot start on what is half done, and a second run comes to the same
// end as one that nothing disturbed.
func TestApplyFaults(t *testing.T) {
	images := faultImages(t)
	for _, name := range slices.Sorted(maps.Keys(images)) {
		for _, byServer := range []bool{false, true} {
			rebuilds := byServer || strings.HasSuffix(name, "8.0.20")
			if strings.HasPrefix(name, "MySQL") && rebuilds && !mysqldtest.Long() {
				continue // of many MiB, each time
			}
			t.Run(fmt.Sprintf("%s/by server %v", name, byServer), func(t *testing.T) {
				o := apply.Options{Memory: 1, Parallel: 1, Tool: "hb test", ByServer: byServer}
				applyFaults(t, trial{image: images[name].dir, o: o}, someOps)
			})
		}
	}
}

// TestDirectoryPlace is TestApplyFaults of one backup where a directory keeps the
// place of the system tablespace, as on Windows.
func TestDirectoryPlace(t *testing.T) {
	defer backupdir.HoldAs("windows")()
	images := faultImages(t)
	o := apply.Options{Memory: 1, Parallel: 1, Tool: "hb test"}
	applyFaults(t, trial{image: images[fmt.Sprint("MariaDB ", mariadbredo.Format108)].dir, o: o}, someOps)
}

// trial is what apply is tried on while operations fail.
type trial struct {
	image string // what there is at the beginning
	sub   string // the backup's place in it; "": it is all of it
	o     apply.Options
}

// backup is where the backup is in a copy of the image.
func (c *trial) backup(dir string) string { return filepath.Join(dir, c.sub) }

// tree is what a copy of the image has, by paths relative to the backup.
func (c *trial) tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for name, content := range disktest.ReadTree(t, dir) {
		rel, err := filepath.Rel(c.sub, name)
		if err != nil {
			t.Fatal(err)
		}
		files[rel] = content
	}
	return files
}

// applied returns what the image has before and after apply, which works on dir.
func (c *trial) applied(t *testing.T, dir string) (before, want map[string]string) {
	t.Helper()
	before = c.tree(t, c.image)
	if err := os.CopyFS(dir, os.DirFS(c.image)); err != nil {
		t.Fatal(err)
	}
	if _, err := apply.Run(t.Context(), c.backup(dir), c.o); err != nil {
		t.Fatal(err)
	}
	return before, c.tree(t, dir)
}

func applyFaults(t *testing.T, c trial, pick picker) {
	dir := filepath.Join(disktest.Memory(t), "dir")
	before, want := c.applied(t, dir)
	eachFault(t, dir, pick, func(f *disktest.Faults) error {
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(c.image))); err != nil {
			t.Fatal(err)
		}
		_, err := applyOn(t.Context(), f, c.backup(dir), c.o)
		return err
	}, func(op disktest.Op, dead bool, err error) {
		startable(t, op, c.backup(dir), c.tree(t, dir), before, want)
		if _, err := apply.Run(t.Context(), c.backup(dir), c.o); err != nil {
			t.Errorf("after %v failed (%v): %v", op, err, err)
		} else if got := c.tree(t, dir); !maps.Equal(got, want) {
			t.Errorf("after %v failed and all was done again, there are other bytes: %v", op, differences(got, want))
		}
	})
}

// TestApplyLeftSpill: a temporary file that an interrupted run left is not read.
// The run that follows removes it while it compares files with the manifest.
func TestApplyLeftSpill(t *testing.T) {
	for name, image := range faultImages(t) {
		if !strings.HasPrefix(name, "MySQL") { // of hb's own, with a manifest
			continue
		}
		image.write(replay.SpillName, []byte("left"))
		f := disktest.NewFaults(image.dir)
		f.Before = func(op disktest.Op) {
			if op.Kind == disktest.OpenRead && op.Name == replay.SpillName {
				t.Errorf("%s: %v", name, op)
			}
		}
		if _, err := applyOn(t.Context(), f, image.dir, apply.Options{Memory: 1, Tool: "hb test"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
}

// startable checks that a directory on which a server can start, and what it has
// elsewhere, are as they were, or as they are to be. It changes got.
func startable(t *testing.T, op any, dir string, got, before, want map[string]string) {
	t.Helper()
	if held(t, dir) {
		return
	}
	if _, there := got["ibdata1"]; !there && got["ibdata1"+backupdir.ExtHeld] != "" {
		got["ibdata1"] = got["ibdata1"+backupdir.ExtHeld] // between two steps of directoryPlace
		delete(got, "ibdata1"+backupdir.ExtHeld)
	}
	if maps.Equal(got, want) {
		return
	}
	maps.DeleteFunc(got, func(name, _ string) bool {
		return strings.HasPrefix(name, backupdir.ApplyingName) || name == replay.SpillName || name == "ibdata1"+backupdir.ExtHeld || strings.HasSuffix(name, backupdir.ExtTemporary)
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
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "ibdata1"+backupdir.ExtHeld)); err != nil {
			t.Error(err)
		}
	}
	return errors.Is(err, syscall.ELOOP) || err == nil && st.IsDir()
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

// TestExtractFaults: whatever operation on the files fails, extract says so, and
// apply refuses the directory that it leaves.
func TestExtractFaults(t *testing.T) {
	contents := testContents()
	for i := range 6 { // more than a writer keeps open
		contents[fmt.Sprintf("many/t%d.ibd", i)] = page(40<<10, byte(i))
	}
	archives := map[string][]byte{
		"hb's": ownArchive(t, contents, 16<<10),
		"MariaDB's": slices.Concat(raw.File("db/a", "x"), raw.File("b", "y"), raw.Rename("db/a", "db2/a"), raw.Remove("b"),
			raw.File("xtrabackup_checkpoints", "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 1\nlast_lsn = 1\n")),
	}
	for _, name := range slices.Sorted(maps.Keys(archives)) {
		t.Run(name, func(t *testing.T) {
			base := disktest.Memory(t)
			dir := filepath.Join(base, "target")
			var whole map[string]string
			eachFault(t, base, someOps, func(f *disktest.Faults) error {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
				_, err := extractOn(t.Context(), f, bytes.NewReader(archives[name]), dir, extract.Options{Parallel: 1})
				if whole == nil {
					whole = disktest.ReadTree(t, dir)
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
	marked, err := backupdir.IsMarked(dir)
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
	if _, err := os.Stat(dir); err == nil && (dead || op.Kind == disktest.CloseDir) && maps.Equal(disktest.ReadTree(t, dir), whole) {
		return
	}
	_, err = apply.Run(t.Context(), dir, apply.Options{})
	if _, ok := errors.AsType[*backupdir.NotBackupError](err); !ok {
		t.Errorf("%v failed, and apply does not refuse what is left: %v", op, err)
	}
}
