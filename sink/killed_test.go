package sink

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/source/mysqld/mysqldtest"
	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// fileOps are backups whose logs do to files what tools have not settled before:
// renames that form chains and circles, into other databases, on to names of
// dropped tables, of tables that the log creates; drops and creations.
func fileOps(t *testing.T) map[string]*fakeBackup {
	tables := map[byte]string{30: "db/a", 31: "db/b", 22: "db/c", 23: "db/d", 24: "db/e", 25: "db/f", 26: "db/gone", 27: "db/again"}
	images := make(map[string]*fakeBackup)
	for _, format := range []mariadbredo.Format{mariadbredo.Format105, mariadbredo.Format108} {
		b := newFakeBackup(t, format, fullFlags)
		for id, name := range tables {
			b.table(name+".ibd", innodb.SpaceID(id), 5, 40000)
		}
		rename := func(id byte, from, to string) []byte {
			return file(0xA0, id, "./db/"+from+".ibd\x00./"+to+".ibd")
		}
		b.mtr(write50(30, 3, "a"), write50(31, 2, "b"), write50(22, 3, "c"), write50(23, 3, "d"), write50(24, 3, "e"), write50(25, 3, "f"))
		b.mtr(rename(30, "a", "db/x"))
		b.mtr(rename(31, "b", "db/a"))
		b.mtr(rename(30, "x", "db/b")) // a and b have changed places
		b.mtr(rename(22, "c", "db/y"))
		b.mtr(rename(23, "d", "db/c"))
		b.mtr(rename(24, "e", "db/d"))
		b.mtr(rename(22, "y", "db/e")) // c, d and e in a circle
		b.mtr(rename(25, "f", "db2/f"))
		b.mtr(file(0x80, 8, "./db/f.ibd"))
		b.mtr(page0(8, 5))
		b.mtr(file(0x90, 26, "./db/gone.ibd"))
		b.mtr(file(0x90, 27, "./db/again.ibd"))
		b.mtr(file(0x80, 9, "./db/again.ibd"))
		b.mtr(page0(9, 4))
		b.mtr(write50(30, 3, "A"), write50(31, 4, "B"), write50(22, 1, "C"), write50(25, 2, "F"))
		b.write("db2/db.opt", nil)
		images[fmt.Sprint("MariaDB ", format)] = b.finish()
	}
	for _, format := range []mysqlredo.Format{mysqlredo.Format56, mysqlredo.Format57} {
		b := newFakeMySQL(t, format)
		for id, name := range tables {
			b.table(name+".ibd", innodb.SpaceID(id), 5, 40000)
		}
		op, suffix, create := mlog.FileRename2, ".ibd", mlog.FileCreate2
		if format == mysqlredo.Format56 {
			op, suffix = mlog.FileRename, ""
		}
		rename := func(id uint32, from, to string) []byte {
			return named(op, id, "./db/"+from+suffix, "./"+to+suffix)
		}
		b.mtr(put(30, 3, "a"), put(31, 2, "b"), put(22, 3, "c"), put(23, 3, "d"), put(24, 3, "e"), put(25, 3, "f"), put(26, 3, "gone"))
		b.mtr(rename(30, "a", "db/x"))
		b.mtr(rename(31, "b", "db/a"))
		b.mtr(rename(30, "x", "db/b"))
		b.mtr(rename(22, "c", "db/y"))
		b.mtr(rename(23, "d", "db/c"))
		b.mtr(rename(24, "e", "db/d"))
		b.mtr(rename(22, "y", "db/e"))
		b.mtr(rename(25, "f", "db2/f"))
		b.mtr(named(create, 8, "./db/f"+suffix), makePage0(mlog.InitFilePage2, 8, 5, oldFlags))
		b.mtr(named(mlog.FileDelete, 26, "./db/gone.ibd"))
		b.mtr(named(mlog.FileDelete, 27, "./db/again.ibd"))
		b.mtr(named(create, 9, "./db/again"+suffix), makePage0(mlog.InitFilePage2, 9, 4, oldFlags))
		b.mtr(put(30, 3, "A"), put(31, 4, "B"), put(22, 1, "C"), put(25, 2, "F"))
		b.write("db2/db.opt", nil)
		images["MySQL "+format.String()] = b.finish().fakeBackup
	}
	b := newFakeMySQL(t, mysqlredo.Format8030)
	b.mtr(put(7, 3, "first"))
	b.mtr(named(mlog.FileCreate, 8, "./db/new.ibd"), makePage0(mlog.InitFilePage2, 8, 5, oldFlags))
	b.mtr(named(mlog.FileRename, 7, "./db/t.ibd", "./db/u.ibd"))
	b.mtr(put(7, 4, "second"))
	images["MySQL "+b.format.String()] = b.finish().fakeBackup
	return images
}

// checkFileOps checks that each table is where the log of fileOps brings it: by the
// id on its first page, and by what the log wrote last to one of its pages.
func checkFileOps(t *testing.T, files map[string]string) {
	t.Helper()
	if files["db/a.ibd"] == "" {
		return // of 8.0, which leaves names to the dictionary
	}
	for _, want := range []struct {
		name string
		id   byte
		page int
		text string
	}{
		{"db/a.ibd", 31, 4, "B"}, {"db/b.ibd", 30, 3, "A"}, {"db/c.ibd", 23, 3, "d"}, {"db/d.ibd", 24, 3, "e"},
		{"db/e.ibd", 22, 1, "C"}, {"db2/f.ibd", 25, 2, "F"}, {"db/f.ibd", 8, 0, ""}, {"db/again.ibd", 9, 0, ""}, {"db/t.ibd", 7, 0, ""},
	} {
		content := files[want.name]
		if len(content) < 4*fakePage || content[37] != want.id || !strings.HasPrefix(content[want.page*fakePage+200:], want.text) {
			t.Errorf("%s: %d bytes, or not those of tablespace %d with %q on page %d", want.name, len(content), want.id, want.text, want.page)
		}
	}
}

// stride is that of the points that are tried, of so many: all of them in the long
// form.
func stride(points int) int {
	if mysqldtest.Long() {
		return 1
	}
	return max(1, points/12)
}

// TestApplyKilled: whatever operation on the files is the last one, a second run
// comes to the same end, and a server starts on nothing before.
func TestApplyKilled(t *testing.T) {
	images := fileOps(t)
	for _, name := range slices.Sorted(maps.Keys(images)) {
		t.Run(name, func(t *testing.T) {
			o := apply.Options{Memory: 1, Parallel: 1, Tool: "hb test"}
			image := images[name].dir
			before := disktest.ReadTree(t, image)
			dir := filepath.Join(disktest.Memory(t), "dir")
			fresh := func() {
				if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(image))); err != nil {
					t.Fatal(err)
				}
			}
			fresh()
			f := disktest.NewFaults(dir)
			r, err := applyOn(t.Context(), f, dir, o)
			if err != nil {
				t.Fatal(err)
			}
			want := disktest.ReadTree(t, dir)
			checkFileOps(t, want)
			t.Log(len(r.Warnings), "warnings")
			points := slices.DeleteFunc(slices.Clone(f.Ops()), func(op disktest.Op) bool { return !op.Kind.Changes() })
			t.Logf("%d of %d operations change something", len(points), len(f.Ops()))
			stride := stride(len(points))
			for i := rand.IntN(stride); i < len(points); i += stride {
				op := points[i]
				fresh()
				f := disktest.NewFaults(dir)
				f.Fail(op, syscall.EIO, true)
				if _, err := applyOn(t.Context(), f, dir, o); err == nil {
					t.Errorf("killed at %v: no error", op)
				}
				startable(t, op, dir, disktest.ReadTree(t, dir), before, want)
				if _, err := apply.Run(t.Context(), dir, o); err != nil {
					t.Errorf("killed at %v, and again: %v", op, err)
				} else if got := disktest.ReadTree(t, dir); !maps.Equal(got, want) {
					t.Errorf("killed at %v, and again: other bytes: %v", op, differences(got, want))
				}
			}
		})
	}
}

// TestApplyLostState: without the file that says how far it is, a half-applied
// directory is refused, and stays held.
func TestApplyLostState(t *testing.T) {
	for _, own := range []bool{false, true} {
		b := newFakeMySQL(t, mysqlredo.Format57)
		b.mtr(put(7, 3, "first"), put(0, 4, "system"))
		if own {
			b.own()
		}
		b.finish()
		b.seal()
		f := disktest.NewFaults(b.dir)
		f.Fail(disktest.Op{Kind: disktest.Write, Name: "db/t.ibd", N: 1}, syscall.EIO, true)
		if _, err := applyOn(t.Context(), f, b.dir, apply.Options{Parallel: 1}); !f.Hit() || err == nil {
			t.Fatalf("hit %v, error %v", f.Hit(), err)
		}
		if err := os.Remove(filepath.Join(b.dir, backupdir.ApplyingName)); err != nil {
			t.Fatal(err)
		}
		half := disktest.ReadTree(t, b.dir)
		_, err := apply.Run(t.Context(), b.dir, apply.Options{})
		if !hasType[*backupdir.NotBackupError](err) || !strings.Contains(err.Error(), backupdir.ApplyingName) {
			t.Errorf("own %v: error %v", own, err)
		}
		if got := disktest.ReadTree(t, b.dir); !held(t, b.dir) || !maps.Equal(got, half) {
			t.Errorf("own %v: a server could start on it (held %v), or it was changed: %v", own, held(t, b.dir), differences(got, half))
		}
	}
}

// TestApplyHardLinks: a copy that shares its files with another is refused, and
// the other is as it was; files that are only read, or replaced, may be shared.
func TestApplyHardLinks(t *testing.T) {
	for _, name := range []string{"db/t.ibd", "ibdata2", "xtrabackup_checkpoints", "db/t.frm"} {
		b := newFakeMySQL(t, mysqlredo.Format57)
		b.write("db/t.frm", []byte("frm"))
		b.mtr(put(7, 3, "first"), put(0, 4, "system"))
		b.finish()
		other := filepath.Join(t.TempDir(), "other")
		if err := os.Link(filepath.Join(b.dir, name), other); err != nil {
			t.Fatal(err)
		}
		before, _ := os.ReadFile(other)
		_, err := apply.Run(t.Context(), b.dir, apply.Options{})
		if shared := name != "xtrabackup_checkpoints" && name != "db/t.frm"; shared != hasType[*backupdir.NotBackupError](err) || shared != (err != nil && strings.Contains(err.Error(), name)) {
			t.Errorf("%s: error %v", name, err)
		}
		if after, err := os.ReadFile(other); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the other copy was changed, or %v", name, err)
		}
	}
}

// linkless is a file system that has no links of one kind or another.
type linkless struct {
	disk.System
	hard, soft error
}

func (l linkless) OpenDir(path string) (disk.Dir, error) {
	d, err := l.System.OpenDir(path)
	return linklessDir{d, l}, err
}

type linklessDir struct {
	disk.Dir
	linkless
}

func (d linklessDir) OpenDir(name string) (disk.Dir, error) { return d.Dir.OpenDir(name) }

func (d linklessDir) Open(name string) (disk.File, error) { return d.Dir.Open(name) }

func (d linklessDir) ReadDir(name string) ([]fs.DirEntry, error) { return d.Dir.ReadDir(name) }

func (d linklessDir) Stat(name string) (fs.FileInfo, error) { return d.Dir.Stat(name) }

func (d linklessDir) Mkdir(name string, perm fs.FileMode) error { return d.Dir.Mkdir(name, perm) }

func (d linklessDir) Link(from, to string) error {
	if d.hard != nil {
		return &os.LinkError{Op: "link", Old: from, New: to, Err: d.hard}
	}
	return d.Dir.Link(from, to)
}

func (d linklessDir) Symlink(target, name string) error {
	if d.soft != nil {
		return &os.LinkError{Op: "symlink", Old: target, New: name, Err: d.soft}
	}
	return d.Dir.Symlink(target, name)
}

// TestApplyWithoutLinks: where the file system has no links, or only of one kind,
// a directory is held all the same, and killed anywhere it comes to the same end.
func TestApplyWithoutLinks(t *testing.T) {
	b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
	b.mtr(write50(7, 3, "first"), write50(0, 4, "system"))
	b.finish()
	o := apply.Options{Parallel: 1, Tool: "hb test"}
	before := disktest.ReadTree(t, b.dir)
	dir := filepath.Join(disktest.Memory(t), "dir")
	fresh := func() {
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(b.dir))); err != nil {
			t.Fatal(err)
		}
	}
	fresh()
	if _, err := apply.Run(t.Context(), dir, o); err != nil {
		t.Fatal(err)
	}
	want := disktest.ReadTree(t, dir)
	for _, l := range []linkless{{hard: syscall.EPERM}, {soft: syscall.ENOTSUP}, {hard: syscall.ENOSYS, soft: syscall.EPERM}} {
		fresh()
		f := disktest.NewFaults(dir)
		l.System = f
		if _, err := applyOn(t.Context(), l, dir, o); err != nil {
			t.Fatalf("%v: %v", l, err)
		}
		if got := disktest.ReadTree(t, dir); !maps.Equal(got, want) {
			t.Fatalf("%v: other bytes: %v", l, differences(got, want))
		}
		points := slices.DeleteFunc(slices.Clone(f.Ops()), func(op disktest.Op) bool { return !op.Kind.Changes() })
		stride := stride(len(points))
		for i := rand.IntN(stride); i < len(points); i += stride {
			op := points[i]
			fresh()
			f := disktest.NewFaults(dir)
			f.Fail(op, syscall.EIO, true)
			l.System = f
			if _, err := applyOn(t.Context(), l, dir, o); err == nil {
				t.Errorf("killed at %v: no error", op)
			}
			startable(t, op, dir, disktest.ReadTree(t, dir), before, want)
			l.System = disk.OS
			if _, err := applyOn(t.Context(), l, dir, o); err != nil {
				t.Errorf("%v: killed at %v, and again: %v", l, op, err)
			} else if got := disktest.ReadTree(t, dir); !maps.Equal(got, want) {
				t.Errorf("%v: killed at %v, and again: other bytes: %v", l, op, differences(got, want))
			}
		}
	}
}

// TestApplyUnsupported: what hb cannot do, and what it did wrong itself, is not
// called damage of the backup; what claims to be encrypted without a checksum that
// fits is.
func TestApplyUnsupported(t *testing.T) {
	key := func(b *fakeBackup) { // of page 3, as encrypted pages have it
		table := b.read("db/t.ibd")
		table[3*fakePage+3] = 1
		b.write("db/t.ibd", table)
	}
	for name, tc := range map[string]struct {
		make   func() *fakeBackup
		damage bool
	}{
		"unknown record": {func() *fakeBackup {
			b := newFakeMySQL(t, mysqlredo.Format8030)
			b.mtr(put(7, 3, "first"), []byte{127, 0, 0})
			return b.finish().fakeBackup
		}, false},
		"MySQL's flag": {func() *fakeBackup {
			b := newFakeMySQL(t, mysqlredo.Format57)
			b.flags |= 1 << 13
			b.table("db/t.ibd", 7, 6, 40000)
			b.flags &^= 1 << 13
			b.mtr(put(7, 3, "first"))
			return b.finish().fakeBackup
		}, true},
		"MariaDB's key and a wrong checksum": {func() *fakeBackup {
			b := newFakeBackup(t, mariadbredo.Format108, fullFlags)
			key(b)
			b.mtr(write50(7, 3, "first"))
			return b.finish()
		}, true},
	} {
		_, err := apply.Run(t.Context(), tc.make().dir, apply.Options{})
		if err == nil || hasType[*backupdir.DamageError](err) != tc.damage || hasType[*innodb.UnsupportedError](err) == tc.damage {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := backupdir.AsDamage(t.Context(), fmt.Errorf("db/t.ibd: %w", &innodb.InternalError{What: "no"})); hasType[*backupdir.DamageError](err) {
		t.Errorf("%v", err)
	}
}
