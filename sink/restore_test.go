package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/extract"
	"hb/sink/replay"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk/disktest"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/metadata"
	"hb/xbstream/xbtest"
)

// restore restores the backup's archive elsewhere; checked is called with what
// came out of apply, and makes sure that this is the same.
func (b *fakeBackup) restore(o apply.Options) (checked func(r *apply.Result, err error)) {
	b.t.Helper()
	root := disktest.Open(b.t, b.dir)
	for _, mark := range []string{backupdir.ApplyingName, backupdir.MarkerName} {
		if found, err := backupdir.Exists(root, mark); err != nil || found {
			return func(*apply.Result, error) {}
		}
	}
	dir := filepath.Join(b.t.TempDir(), "restored")
	_, got, failed := Restore(b.t.Context(), bytes.NewReader(b.archive()), dir, extract.Options{}, o)
	return func(r *apply.Result, err error) {
		b.t.Helper()
		if r != nil && r.AlreadyApplied || err != nil && strings.Contains(err.Error(), "in use") {
			return
		}
		b.sameOutcome(dir, got, failed, r, err)
	}
}

// sameOutcome compares what Restore did in dir with what apply did in b.dir.
func (b *fakeBackup) sameOutcome(dir string, got *apply.Result, failed error, want *apply.Result, err error) {
	b.t.Helper()
	if here := strings.ReplaceAll(fmt.Sprint(failed), dir, b.dir); here != fmt.Sprint(err) {
		b.t.Errorf("apply ends with %v, but in one pass: %v", err, here)
	}
	if err != nil || failed != nil {
		return
	}
	own, _ := os.Stat(filepath.Join(dir, metadata.ArchiveName))
	g := *got
	g.ReadAhead = false
	if fmt.Sprint(g) != fmt.Sprint(*want) || got.ReadAhead && own == nil {
		b.t.Errorf("in one pass: %+v, want %+v", *got, *want)
	}
	a, w := disktest.ReadTree(b.t, dir), disktest.ReadTree(b.t, b.dir)
	delete(a, metadata.ManifestName) // says how the archive is cut into chunks
	delete(w, metadata.ManifestName)
	if !maps.Equal(a, w) {
		b.t.Errorf("in one pass there are other bytes: %v", differences(a, w))
	}
}

// ownImages are backups of hb's that have all that apply does in them.
func ownImages(t *testing.T) map[string]*fakeBackup {
	images := faultImages(t)
	for name, b := range images {
		if strings.HasPrefix(name, "MariaDB") {
			b.own().seal()
		}
	}
	return images
}

// interleaved is the backup as an archive in which chunks of all files are
// mixed, of sizes up to most.
func (b *fakeBackup) interleaved(seed uint64, most int) []byte {
	b.t.Helper()
	files := disktest.ReadTree(b.t, b.dir)
	random := rand.New(rand.NewPCG(seed, 1))
	a := xbtest.Begin()
	a.Put(metadata.ArchiveName, []byte(files[metadata.ArchiveName]))
	manifest := files[metadata.ManifestName]
	delete(files, metadata.ArchiveName)
	delete(files, metadata.ManifestName)
	open := make(map[string]*xbstream.File)
	for len(files) > 0 {
		names := slices.Sorted(maps.Keys(files))
		name := names[random.IntN(len(names))]
		if open[name] == nil {
			open[name] = a.Create(name)
		}
		n := min(len(files[name]), 1+random.IntN(most))
		a.Write(open[name], []byte(files[name][:n]))
		if files[name] = files[name][n:]; files[name] == "" {
			a.End(open[name])
			delete(files, name)
		}
	}
	a.Put(metadata.ManifestName, []byte(withHeads(manifest, a.Heads())))
	return ended(b.t, a.Close)
}

// trickle brings a few bytes at a time, and waits in between.
type trickle struct{ r io.Reader }

func (s trickle) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Microsecond)
	return s.r.Read(p[:min(len(p), 40000)])
}

// TestRestore: whatever the archive's order and pace, one pass ends in the same
// bytes as two, with memory for the whole redo and with hardly any.
func TestRestore(t *testing.T) {
	images := ownImages(t)
	for _, name := range slices.Sorted(maps.Keys(images)) {
		image := images[name]
		for seed, o := range []apply.Options{{Memory: 1, Parallel: 1, Tool: "hb test"}, {Parallel: 3, Tool: "hb test"}} {
			archive := image.interleaved(uint64(seed), 5000)
			two := &fakeBackup{t: t, dir: filepath.Join(t.TempDir(), "two")}
			if _, err := extract.Run(t.Context(), bytes.NewReader(archive), two.dir, extract.Options{}); err != nil {
				t.Fatal(err)
			}
			want, err := apply.Run(t.Context(), two.dir, o)
			if err != nil {
				t.Fatal(err)
			}
			for pace, r := range map[string]io.Reader{"at once": bytes.NewReader(archive), "slowly": trickle{bytes.NewReader(archive)}} {
				dir := filepath.Join(t.TempDir(), "one")
				x, got, err := Restore(t.Context(), r, dir, extract.Options{}, o)
				two.sameOutcome(dir, got, err, want, nil)
				if err == nil && (!got.ReadAhead || x.Files == 0 || o.Memory == 1 && got.Spilled == 0) {
					t.Errorf("%s, %s: %+v, %+v", name, pace, *got, *x)
				}
			}
		}
	}
}

// TestRestoreCut: an archive that is cut is to Restore what it is to extract.
func TestRestoreCut(t *testing.T) {
	for _, family := range []string{metadata.FlavorMariaDB, metadata.FlavorMySQL} {
		b := fakeOwn(t, family)
		b.seal()
		archive := b.interleaved(7, 20000)
		base := disktest.Memory(t)
		for i := range 40 {
			cut := archive[:len(archive)*i/40]
			one, two := filepath.Join(base, fmt.Sprint("one", i)), filepath.Join(base, fmt.Sprint("two", i))
			_, err := extract.Run(t.Context(), bytes.NewReader(cut), two, extract.Options{})
			x, _, got := Restore(t.Context(), bytes.NewReader(cut), one, extract.Options{}, apply.Options{})
			if got == nil || got.Error() != err.Error() || x != nil {
				t.Errorf("cut at %d: %v, want %v", len(cut), got, err)
			}
			if marked, err := backupdir.IsMarked(one); err != nil || !marked {
				t.Errorf("cut at %d: marked %v, %v", len(cut), marked, err)
			}
			if err := errors.Join(os.RemoveAll(one), os.RemoveAll(two)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestRestoreUnfit: a log that does not end where the backup says is read again,
// so that apply's own verdict counts.
func TestRestoreUnfit(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(b *fakeBackup)
		want string
	}{
		"after the end": {func(b *fakeBackup) {
			end := b.end
			b.mtr(write50(7, 5, "does not count"), file(0x90, 7, "./db/t.ibd"))
			b.finish().checkpoints(metadata.FullBackup, end)
		}, ""},
		"inside": {func(b *fakeBackup) { b.checkpoints(metadata.FullBackup, b.end-3) }, "is inside it"},
		"short":  {func(b *fakeBackup) { b.checkpoints(metadata.FullBackup, b.end+9) }, "the backup needs it up to"},
		"padded": {func(b *fakeBackup) {
			b.edit("ib_logfile0", func(c []byte) []byte { return append(c, make([]byte, 70000)...) })
		}, ""},
		"no log": {func(b *fakeBackup) { os.Remove(b.dir + "/ib_logfile0") }, "ib_logfile0 is missing"},
		"empty":  {func(b *fakeBackup) { b.write("ib_logfile0", nil) }, "empty"},
		"zeros":  {func(b *fakeBackup) { b.write("ib_logfile0", make([]byte, 50000)) }, "all zero"},
		"a bad record": {func(b *fakeBackup) {
			b.mtr(rec(0x30, 7))
			b.finish()
		}, "LSN"},
	} {
		t.Run(name, func(t *testing.T) {
			b := fakeOwn(t, metadata.FlavorMariaDB)
			tc.make(b)
			_, err := b.apply()
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("%v; want %q", err, tc.want)
			}
		})
	}
}

// TestRestoreDiscards: what the manifest says of redo that does not count is
// known only when all of it was read.
func TestRestoreDiscards(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags).own()
	b.mtr(file(0xB0, 7, "./db/t.ibd"), write50(7, 3, "older"))
	from := b.mtr(write50(7, 4, "older"))
	end := b.mtr(write50(7, 4, "newer"))
	b.finish()
	b.seal()
	b.edit(metadata.ManifestName, func(text []byte) []byte {
		return []byte(editManifest(string(text), func(m *metadata.Manifest) { m.ReplayFrom = map[innodb.SpaceID]innodb.LSN{7: from} }))
	})
	b.mustApply()
	b.check("db/t.ibd", 7, 3, 6, 40000, func([]byte) {})
	b.check("db/t.ibd", 7, 4, 6, end, func(p []byte) { copy(p[200:], "newer") })
}

// TestRestoreFaults: whatever operation on the files fails, Restore says so. What
// it leaves is marked and refused, or apply goes on to the same end.
func TestRestoreFaults(t *testing.T) {
	images := ownImages(t)
	for _, name := range slices.Sorted(maps.Keys(images)) {
		if strings.HasSuffix(name, "8.0.20") && !mysqldtest.Long() {
			continue // of many MiB, each time
		}
		t.Run(name, func(t *testing.T) { restoreFaults(t, images[name].interleaved(1, 30000)) })
	}
}

func restoreFaults(t *testing.T, archive []byte) {
	o := apply.Options{Memory: 1, Parallel: 1, Tool: "hb test"}
	base := disktest.Memory(t)
	dir := filepath.Join(base, "target")
	if _, err := extract.Run(t.Context(), bytes.NewReader(archive), dir, extract.Options{}); err != nil {
		t.Fatal(err)
	}
	extracted := disktest.ReadTree(t, dir)
	if _, err := apply.Run(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	want := disktest.ReadTree(t, dir)
	eachFault(t, base, someOps, func(f *disktest.Faults) error {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		_, _, err := restoreOn(t.Context(), f, bytes.NewReader(archive), dir, extract.Options{Parallel: 1}, o)
		return err
	}, func(op disktest.Op, dead bool, err error) {
		marked, _ := backupdir.IsMarked(dir)
		if _, failed := os.Stat(filepath.Join(dir, metadata.ManifestName)); marked || failed != nil {
			if _, again := apply.Run(t.Context(), dir, o); !hasType[*backupdir.NotBackupError](again) || err == nil {
				t.Errorf("after %v failed (%v) apply does not refuse what is left: %v", op, err, again)
			}
			return
		}
		startable(t, op, dir, disktest.ReadTree(t, dir), extracted, want)
		if _, again := apply.Run(t.Context(), dir, o); again != nil {
			t.Errorf("after %v failed (%v): %v", op, err, again)
		} else if got := disktest.ReadTree(t, dir); !maps.Equal(got, want) {
			t.Errorf("after %v failed and apply went on, there are other bytes: %v", op, differences(got, want))
		}
	})
}

// TestReadAheadDisk: the disk's errors are told; those of a log are not, as apply
// reads it once more.
func TestReadAheadDisk(t *testing.T) {
	b := fakeOwn(t, metadata.FlavorMySQL)
	log := filepath.Join(b.dir, "xtrabackup_logfile")
	st, err := os.Stat(log)
	if err != nil {
		t.Fatal(err)
	}
	archive := &metadata.Archive{ServerFlavor: metadata.FlavorMySQL}
	for name, tc := range map[string]struct {
		fail disktest.Op
		size int64
		used bool
		err  error
	}{
		"whole":     {disktest.Op{}, st.Size(), true, nil},
		"cut":       {disktest.Op{}, st.Size() - 600, false, nil},
		"no header": {disktest.Op{}, 100, false, nil},
		"unread":    {disktest.Op{Kind: disktest.Read, Name: "xtrabackup_logfile", N: 1}, st.Size(), false, syscall.EIO},
	} {
		f := disktest.NewFaults(b.dir)
		f.Fail(tc.fail, syscall.EIO, false)
		root, err := f.OpenDir(b.dir)
		if err != nil {
			t.Fatal(err)
		}
		h := apply.NewAhead(t.Context(), root, apply.Options{Memory: 1 << 21})
		if reach := h.Begin(archive, "ib_logfile0"); reach != nil {
			t.Errorf("%s: read another family's log", name)
		}
		reach := h.Begin(archive, "xtrabackup_logfile")
		reach(tc.size, true)
		plan, scanned, err := h.Take(replay.Goal{Exact: true, Target: redolog.Canonical(b.end)})
		if (plan != nil) != tc.used || (scanned != nil) != tc.used || !errors.Is(err, tc.err) {
			t.Errorf("%s: %v, %+v, %v", name, plan != nil, scanned, err)
		}
		if plan != nil {
			err = plan.Close()
		} else {
			err = nil
		}
		if err := errors.Join(err, h.Close(), root.Close()); err != nil {
			t.Error(err)
		}
	}
}

// TestRestoreStray: a file that someone puts into the directory meanwhile is found
// by its name.
func TestRestoreStray(t *testing.T) {
	b := fakeOwn(t, metadata.FlavorMariaDB)
	b.seal()
	archive := b.interleaved(3, 20000)
	dir := filepath.Join(t.TempDir(), "dir")
	half := len(archive) / 2
	r := io.MultiReader(bytes.NewReader(archive[:half]), &intruder{bytes.NewReader(archive[half:]), func() {
		if err := os.WriteFile(filepath.Join(dir, "u.ibd"), b.page(8, 0, 1, 40000), 0o600); err != nil {
			t.Error(err)
		}
	}})
	_, _, err := Restore(t.Context(), r, dir, extract.Options{}, apply.Options{})
	if !hasType[*backupdir.NotBackupError](err) || !strings.Contains(err.Error(), "u.ibd is there") {
		t.Error(err)
	}
}
