package sink

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/extract"
	"hb/sink/replay"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/xbtest/raw"
)

// eachCrash calls run once to see how many changes and syncs it does, and then
// once for each of them, at which the machine crashes. after is given what several
// crashes leave: none of what was not synced, all of it, and whatever chance
// keeps. In the short form it takes a few of them, and all of which pick says, by what
// the operation is, how often chance is to decide; nil: none.
func eachCrash(t *testing.T, image string, pick func(op string) int, run func(system disk.System, dir string) error, after func(t *testing.T, at string, dir string, torn bool)) {
	t.Helper()
	base := disktest.Memory(t)
	dir, left := filepath.Join(base, "dir"), filepath.Join(base, "left")
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HB_CRASH_SEED"); s != "" {
		fmt.Sscan(s, &seed)
	}
	t.Logf("HB_CRASH_SEED=%d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	crash := func(at int) (*disktest.Crashing, error) {
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(image))); err != nil {
			t.Fatal(err)
		}
		c, err := disktest.NewCrashing(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if at > 0 {
			c.CrashAt(at)
		}
		return c, run(c, dir)
	}
	whole, err := crash(0)
	if err != nil {
		t.Fatalf("without any crash: %v", err)
	}
	ops := whole.Ops()
	stride := 1
	if !mysqldtest.Long() {
		stride = max(3, len(ops)/8)
	}
	n, first := 0, chance.IntN(stride)
	for i, op := range ops {
		chances := 0
		if pick != nil {
			chances = pick(op)
		}
		if chances == 0 && i%stride != first {
			continue
		}
		at := i + 1
		c, err := crash(at)
		if err == nil {
			t.Errorf("crashed at operation %d, and nothing was said", at)
		}
		keeps := []disktest.Keep{disktest.KeepNothing, disktest.KeepAll, disktest.KeepNames(chance), disktest.KeepNames(chance), disktest.KeepNames(chance)}
		names := len(keeps)
		for range max(1, chances) {
			keeps = append(keeps, disktest.KeepAny(chance))
		}
		for i, keep := range keeps {
			if err := errors.Join(os.RemoveAll(left), os.Mkdir(left, 0o750), c.Leave(left, keep)); err != nil {
				t.Fatal(err)
			}
			after(t, fmt.Sprintf("crash at %s, kind %d", c.Where(), i), left, i >= names)
			n++
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d crashes, of %d operations", n, len(ops))
}

// TestApplyCrash: whenever the machine crashes, and whatever of the changes that
// were not synced is lost, a second run comes to the same end, and a server starts
// on nothing before. Where pages are torn it may refuse to.
func TestApplyCrash(t *testing.T) {
	mysqldtest.Heavy(t)
	images := fileOps(t)
	maps.DeleteFunc(images, func(name string, _ *fakeBackup) bool {
		return !mysqldtest.Long() && (strings.HasSuffix(name, "5.6") || strings.HasSuffix(name, "10.8+"))
	})
	fixed := newFakeBackup(t, mariadbredo.Format108, fullFlags)
	fixUps(fixed)
	fixed.mtr(file(0xB0, 7, "./db/t.ibd"), write50(7, 3, "first"), write50(0, 4, "system"))
	images["MariaDB, settled by its tool"] = fixed.finish()
	links := newFakeMySQL(t, mysqlredo.Format57)
	fixUps(links.fakeBackup)
	links.write("db/t.isl", []byte("/elsewhere/db/t.ibd"))
	links.mtr(put(7, 3, "first"))
	images["MySQL 5.7, settled by hb"] = links.own().finish().fakeBackup
	links.seal()
	byID := newFakeMySQL(t, mysqlredo.Format8030)
	for id, name := range map[byte]string{20: "db/a", 21: "db/b", 22: "db/c", 23: "db/d"} {
		byID.table(name+".ibd", innodb.SpaceID(id), 4, 40000)
	}
	byID.write("db/20.ren", []byte("db/b.ibd"))
	byID.write("db/21.ren", []byte("db/a.ibd"))
	byID.write("db/22.ren", []byte("db2/c.ibd"))
	byID.write("db/23.del", nil)
	byID.table("db/d.ibd.new", 24, 4, 40000)
	byID.mtr(put(7, 3, "first"))
	images["MySQL 8, settled by XtraBackup"] = byID.finish().fakeBackup
	for _, name := range slices.Sorted(maps.Keys(images)) {
		t.Run(name, func(t *testing.T) {
			applyCrashes(t, trial{image: images[name].dir, o: apply.Options{Memory: 1, Parallel: 1, Tool: "hb test"}}, nil)
		})
	}
}

// TestApplyCrashUnsummed: a page without a checksum does not show that it was torn,
// so that it never is when the machine has crashed.
func TestApplyCrashUnsummed(t *testing.T) {
	mysqldtest.Heavy(t)
	b := emptyFakeMySQL(t, mysqlredo.Format57)
	b.sum = innodb.ChecksumNone
	b.table("db/t.ibd", 7, 6, 40000)
	for i := range byte(60) { // so much that each page is recovered by itself
		for page := range uint32(2) {
			b.mtr(putAt(7, 3+page, 200, bytes.Repeat([]byte{i}, 16000)))
		}
	}
	image := b.finish()
	applyCrashes(t, trial{image: image.dir, o: apply.Options{Memory: 1, Parallel: 1, Tool: "hb test"}}, func(op string) int {
		if op == "sync db/t.ibd" || strings.HasSuffix(op, replay.DoublewriteName) {
			return 12
		}
		return 0
	})
}

func applyCrashes(t *testing.T, c trial, pick func(op string) int) {
	before, want := c.applied(t, filepath.Join(disktest.Memory(t), "dir"))
	eachCrash(t, c.image, pick, func(system disk.System, dir string) error {
		_, err := applyOn(t.Context(), system, c.backup(dir), c.o)
		return err
	}, func(t *testing.T, at, dir string, torn bool) {
		crashed := c.tree(t, dir)
		startable(t, at, c.backup(dir), maps.Clone(crashed), before, want)
		_, err := apply.Run(t.Context(), c.backup(dir), c.o)
		damage := hasType[*backupdir.DamageError](err)
		switch got := c.tree(t, dir); {
		case err != nil && !(torn && damage):
			t.Errorf("%s, and again: %v; there were %q", at, err, slices.Sorted(maps.Keys(crashed)))
		case err == nil && !maps.Equal(got, want):
			t.Errorf("%s, and again: other bytes: %v; there were %q", at, differences(got, want), slices.Sorted(maps.Keys(crashed)))
		}
	})
}

// TestExtractCrash: what a crash leaves of an extraction is marked, or empty, or
// whole.
func TestExtractCrash(t *testing.T) {
	contents := testContents()
	archives := map[string][]byte{
		"hb's": ownArchive(t, contents, 16<<10),
		"MariaDB's": slices.Concat(raw.File("db/a", "x"), raw.File("b", "y"), raw.Rename("db/a", "db2/a"), raw.Remove("b"),
			raw.File("xtrabackup_checkpoints", "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 1\nlast_lsn = 1\n")),
	}
	for _, name := range slices.Sorted(maps.Keys(archives)) {
		t.Run(name, func(t *testing.T) {
			whole := filepath.Join(disktest.Memory(t), "target")
			if _, err := extract.Run(t.Context(), bytes.NewReader(archives[name]), whole, extract.Options{}); err != nil {
				t.Fatal(err)
			}
			want := disktest.ReadTree(t, whole)
			eachCrash(t, t.TempDir(), nil, func(system disk.System, dir string) error {
				_, err := extractOn(t.Context(), system, bytes.NewReader(archives[name]), filepath.Join(dir, "target"), extract.Options{Parallel: 1})
				return err
			}, func(t *testing.T, at, dir string, _ bool) {
				target := filepath.Join(dir, "target")
				if _, err := os.Stat(target); err != nil {
					return
				}
				got := disktest.ReadTree(t, target)
				if _, marked := got[backupdir.MarkerName]; !marked && len(got) > 0 && !maps.Equal(got, want) {
					t.Errorf("%s: not marked, and not whole: %v", at, differences(got, want))
				}
			})
		})
	}
}
