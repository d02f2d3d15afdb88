package pages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"hb/source/datadir"
	"hb/source/mysqld/contents"
	"hb/source/redo"
	"hb/source/sourcetest"
	"hb/stream/disk"
	"hb/stream/disk/disktest"
	"hb/stream/progress"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/xbtest"
)

// copying is a copier with its archive in memory.
type copying struct {
	*Copier
	w   *xbstream.Writer
	out bytes.Buffer
}

func newCopying(parallel int) *copying {
	c := new(copying)
	c.w = xbstream.NewWriter(&c.out)
	c.Copier = &Copier{Disk: disk.OS, Create: func(name string) (io.WriteCloser, error) { return c.w.Create(name) }, Registry: NewRegistry(), PageSize: 16 << 10, Parallel: parallel}
	return c
}

// files ends the archive and returns what it holds.
func (c *copying) files(t *testing.T) map[string][]byte {
	t.Helper()
	if err := c.w.Close(); err != nil {
		t.Fatal(err)
	}
	return xbtest.ReadAll(t, &c.out)
}

func TestCopyFiles(t *testing.T) {
	d := sourcetest.NewDir(t)
	want := map[string][]byte{}
	for i := range 40 {
		name := fmt.Sprintf("db/t%d.ibd", i)
		want[name] = innodbtest.Random(innodb.SpaceID(i+1), 1+i%7)
	}
	want["db/large.ibd"] = innodbtest.Random(100, 5*SegmentSize/(16<<10)+3)
	want["undo001"] = innodbtest.Random(200, 70)
	for name, content := range want {
		d.Write(name, content)
	}
	d.Write("db/#sql-ib12.ibd", []byte("temporary"))
	d.Write("db/t.frm", []byte("definition"))
	for _, parallel := range []int{1, 2, 7} {
		list := d.List()
		datadir.LargestFirst(list.Tablespaces)
		c := newCopying(parallel)
		if err := c.CopyFiles(t.Context(), Unopened(list.Tablespaces)); err != nil {
			t.Fatal(err)
		}
		got := c.files(t)
		for name, content := range want {
			if !bytes.Equal(got[name], content) {
				t.Errorf("%d readers: %s has %d bytes, want %d, or others", parallel, name, len(got[name]), len(content))
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d readers: %d files, want %d", parallel, len(got), len(want))
		}
	}
}

// TestCopyProgress: what is counted is what the archive has in the end, whatever
// became of the files since they were listed.
func TestCopyProgress(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Write("db/same.ibd", innodbtest.Random(1, 3*SegmentSize/(16<<10)))
	d.Write("db/gone.ibd", innodbtest.Random(2, 10))
	d.Write("db/grown.ibd", innodbtest.Random(3, 10))
	files := Unopened(d.List().Tablespaces)
	var m progress.Tracker
	var listed int64
	for _, t := range files {
		listed += t.Size
	}
	d.Remove("db/gone.ibd")
	d.Write("db/grown.ibd", innodbtest.Random(3, 25))
	c := newCopying(2)
	c.Phase = m.Begin("copying", listed)
	if err := c.CopyFiles(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	var sent int64
	for _, content := range c.files(t) {
		sent += int64(len(content))
	}
	if s := m.State(); s.Done != sent || s.Total != sent || sent == 0 || sent == listed {
		t.Errorf("%d bytes listed, %d sent, progress %+v", listed, sent, s)
	}
}

// TestCopyDamaged: a page that stays wrong fails the copy, which names it.
func TestCopyDamaged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, no := range []int{0, 1, 130} {
			d := sourcetest.NewDir(t)
			content := innodbtest.Random(1, 200)
			content[no*16<<10+5000] ^= 4
			d.Write("db/t.ibd", content)
			err := newCopying(2).CopyFiles(t.Context(), Unopened(d.List().Tablespaces))
			var page *innodb.PageError
			if !errors.As(err, &page) || int(page.No) != no || !strings.Contains(err.Error(), "db/t.ibd") {
				t.Errorf("page %d damaged: error = %v", no, err)
			}
		}
	})
}

// TestCopyTorn: a page that is being written is read again.
func TestCopyTorn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sourcetest.NewDir(t)
		whole := innodbtest.Random(1, 100)
		torn := bytes.Clone(whole)
		copy(torn[70*16<<10:][4096:8192], make([]byte, 4096))
		torn[3] ^= 1
		d.Write("db/t.ibd", torn)
		go func() {
			time.Sleep(20 * time.Millisecond)
			d.Write("db/t.ibd", whole)
		}()
		c := newCopying(2)
		if err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil {
			t.Fatal(err)
		}
		if got := c.files(t); !bytes.Equal(got["db/t.ibd"], whole) {
			t.Error("the torn page was copied")
		}
	})
}

// TestCopyTornZip: a page of ROW_FORMAT=COMPRESSED without a checksum is read until
// two reads agree, and counted as one that nothing vouches for.
func TestCopyTornZip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pages = 20 // of 8 KiB: KEY_BLOCK_SIZE=8
		make1 := func(lsn innodb.LSN) []byte {
			return innodbtest.Tablespace{ID: 1, Flags: innodbtest.Plain16K | 4<<1, Pages: pages, LSN: lsn, Sum: innodb.ChecksumNone,
				Fill: func(page []byte, _ innodb.PageNo) { copy(page, bytes.Repeat([]byte{byte(lsn)}, len(page))) }}.Bytes()
		}
		older, newer := make1(1), make1(2)
		const at = 7 * 8 << 10
		torn := slices.Concat(older[:at], newer[at:at+4096], older[at+4096:])
		whole := slices.Concat(older[:at], newer[at:at+8<<10], older[at+8<<10:])
		d := sourcetest.NewDir(t)
		d.Write("db/t.ibd", torn)
		c := newCopying(1)
		faults := disktest.NewFaults(d.Layout.Datadir)
		reads := 0
		faults.Before = func(op disktest.Op) {
			// Page 0 alone, the segment, page by page once more.
			if op.Kind != disktest.Read || op.Name != "db/t.ibd" {
				return
			}
			if reads++; reads == 2+7+1 {
				d.Write("db/t.ibd", whole)
			}
		}
		c.Disk = faults
		if err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil {
			t.Fatal(err)
		}
		if got := c.files(t)["db/t.ibd"]; !bytes.Equal(got, whole) {
			t.Errorf("the torn page was copied, after %d reads", reads)
		}
		if want := (innodb.Tally{Unsummed: pages, Unproven: pages}); c.Tally() != want {
			t.Errorf("%+v, want %+v", c.Tally(), want)
		}
	})
}

// TestCopyDropped: a file that is dropped may end anywhere, or never begin.
func TestCopyDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := sourcetest.NewDir(t)
		content := innodbtest.Random(1, 300)
		content[200*16<<10+100] ^= 1 // makes the copy wait there
		d.Write("db/dropped.ibd", content)
		d.Write("db/gone.ibd", innodbtest.Random(2, 3))
		d.Write("db/stays.ibd", innodbtest.Random(3, 3))
		list := d.List()
		d.Remove("db/gone.ibd")
		go func() {
			time.Sleep(20 * time.Millisecond)
			d.Remove("db/dropped.ibd")
		}()
		c := newCopying(2)
		if err := c.CopyFiles(t.Context(), Unopened(list.Tablespaces)); err != nil {
			t.Fatal(err)
		}
		look, err := NewInventory(disk.OS, 16<<10).Look(t.Context(), d.List().Tablespaces)
		if err != nil {
			t.Fatal(err)
		}
		now := map[Key]string{}
		for _, f := range look.Files {
			now[f.Key()] = f.Name
		}
		fix := c.Registry.Fixups(now)
		if _, ok := fix["db/dropped.del"]; !ok || len(fix) != 1 {
			t.Errorf("fix-ups = %q, want db/dropped.del", fix)
		}
		if _, have := c.Registry.Names()[1]; have {
			t.Error("a part of a tablespace counts as its copy")
		}
		if err := c.Registry.Vanished(look.Files, map[innodb.SpaceID]*redo.FileState{1: {Deleted: true}}, nil); err != nil {
			t.Error(err)
		}
		if c.Registry.Vanished(look.Files, nil, nil) == nil {
			t.Error("nothing says that the table was dropped, and nobody misses it")
		}
		got := c.files(t)
		if _, ok := got["db/gone.ibd"]; ok || len(got["db/stays.ibd"]) != 3*16<<10 {
			t.Error("the wrong files were copied")
		}
	})
}

// TestVanishedImport: a file that waits for IMPORT TABLESPACE has the id of the table that
// it was copied from. That it gets another id, and is dropped, is not taken for the loss of
// that table, whose own file is where the server has it. That is lost if only the other
// file has its id, or one in its place, also by a name that the log gave it.
func TestVanishedImport(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []string // that have the id 1, in the order in which they are copied
		end   string   // the one that has it at the end
		named []string // where the server has tablespace 1
		log   redo.FileState
		ok    bool
	}{
		{name: "imported", files: []string{"db/from", "db/target"}, end: "db/from", named: []string{"db/from.ibd"}, ok: true},
		{name: "imported, and copied first", files: []string{"db/target", "db/from"}, end: "db/from", named: []string{"db/from.ibd"}, ok: true},
		{name: "lost", files: []string{"db/from", "db/target"}, end: "db/target", named: []string{"db/from.ibd"}},
		{name: "replaced", files: []string{"db/from"}, end: "db/from", named: []string{"db/from.ibd"}},
		{name: "renamed, and replaced", files: []string{"db/old"}, end: "db/from", named: []string{"db/from.ibd"}, log: redo.FileState{Renamed: true}},
		{name: "no list", files: []string{"db/from", "db/target"}, end: "db/from"},
	} {
		d := sourcetest.NewDir(t)
		copying := newCopying(1)
		for _, name := range c.files {
			d.Write(name+".ibd", innodbtest.Random(1, 3))
			if err := copying.CopyFiles(t.Context(), slices.DeleteFunc(Unopened(d.List().Tablespaces), func(f *File) bool { return f.Name != name+".ibd" })); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range c.files {
			if c.name == "replaced" || name != c.end {
				d.Rename(name+".ibd", "gone") // keeps its inode
			}
		}
		if !slices.Contains(c.files, c.end) || c.name == "replaced" {
			d.Write(c.end+".ibd", innodbtest.Random(1, 3))
		}
		look, err := NewInventory(disk.OS, 16<<10).Look(t.Context(), d.List().Tablespaces)
		if err != nil {
			t.Fatal(err)
		}
		err = copying.Registry.Vanished(look.Files, map[innodb.SpaceID]*redo.FileState{1: &c.log}, map[innodb.SpaceID][]string{1: c.named})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestCopyMoved: a file that is renamed, exchanged for another, or kept by
// another name while a table of its name is made, is still what the server has:
// neither a damaged page in it nor a read error is excused, nor that it is cut.
func TestCopyMoved(t *testing.T) {
	moves := map[string]func(d *sourcetest.Dir) error{
		"renamed": func(d *sourcetest.Dir) error { return os.Rename(d.Path("db/t.ibd"), d.Path("db/u.ibd")) },
		"exchanged": func(d *sourcetest.Dir) error {
			return unix.Renameat2(unix.AT_FDCWD, d.Path("db/t.ibd"), unix.AT_FDCWD, d.Path("db/other.ibd"), unix.RENAME_EXCHANGE)
		},
		"replaced": func(d *sourcetest.Dir) error {
			return errors.Join(os.Link(d.Path("db/t.ibd"), d.Path("db/u.ibd")), os.Rename(d.Path("db/other.ibd"), d.Path("db/t.ibd")))
		},
	}
	for name, move := range moves {
		for fault, prepare := range map[string]func(d *sourcetest.Dir, c *copying){
			"damaged": func(d *sourcetest.Dir, _ *copying) {
				content := innodbtest.Random(1, 300)
				content[200*16<<10+100] ^= 1
				d.Write("db/t.ibd", content)
			},
			"read error": func(d *sourcetest.Dir, c *copying) {
				faults := disktest.NewFaults(d.Layout.Datadir)
				faults.Fail(disktest.Op{Kind: disktest.Read, Name: "db/t.ibd", N: 3}, syscall.EIO, false)
				c.Disk = faults
			},
			"cut": func(d *sourcetest.Dir, c *copying) {
				wait := c.Wait
				c.Wait = func(ctx context.Context, n int) error {
					return errors.Join(os.Truncate(d.Path("db/t.ibd"), 100*16<<10), wait(ctx, n))
				}
			},
		} {
			for _, again := range []bool{false, true} {
				if again && fault == "cut" {
					continue // TRUNCATE TABLE of MySQL 5.7 does that
				}
				synctest.Test(t, func(t *testing.T) {
					d := sourcetest.NewDir(t)
					d.Write("db/t.ibd", innodbtest.Random(1, 300))
					d.Write("db/other.ibd", innodbtest.Random(2, 300))
					files := Unopened(d.List().Tablespaces)
					files = slices.DeleteFunc(files, func(f *File) bool { return f.Name != "db/t.ibd" })
					c := newCopying(1)
					c.Again = again
					moved := sync.OnceValue(func() error { return move(d) })
					c.Wait = func(context.Context, int) error { return moved() }
					prepare(d, c)
					if err := c.CopyFiles(t.Context(), files); err == nil || !strings.Contains(err.Error(), "db/t.ibd") {
						t.Errorf("%s, %s: error = %v", name, fault, err)
					}
				})
			}
		}
	}
}

// TestCopyShort: a file that is shorter than its page 0 says is refused, unless it
// grows: then it is left for later.
func TestCopyShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := innodbtest.Random(1, 100)
		d := sourcetest.NewDir(t)
		d.Write("db/t.ibd", whole[:len(whole)-1])
		for _, again := range []bool{false, true} {
			c := newCopying(1)
			c.Again = again
			err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces))
			if short, ok := errors.AsType[*innodb.LengthError](err); !ok || short.Want != int64(len(whole)) || !strings.Contains(err.Error(), "db/t.ibd") {
				t.Errorf("error = %v", err)
			}
		}
		d.Write("db/t.ibd", whole[:50*16<<10])
		go func() {
			time.Sleep(20 * time.Millisecond)
			if err := os.Truncate(d.Path("db/t.ibd"), 60*16<<10); err != nil { // longer
				t.Error(err)
			}
		}()
		c := newCopying(1)
		c.Again = true
		if err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil || len(c.Registry.spaces) != 0 {
			t.Errorf("a file that grows: %v, %v", err, c.Registry.spaces)
		}
	})
}

// TestCopyTruncatedInPlace: a table that MySQL 5.7 truncates in place is shorter than its
// page 0 says until that is written. It is no damage if the redo log has the truncation,
// and that is newer than page 0.
func TestCopyTruncatedInPlace(t *testing.T) {
	whole := innodbtest.Random(1, 100)
	const left = 50 * 16 << 10
	for _, newer := range []innodb.LSN{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			d := sourcetest.NewDir(t)
			d.Write("db/t.ibd", whole[:left])
			c := newCopying(1)
			c.Begun = func(id innodb.SpaceID) innodb.LSN { return innodb.HeaderLSN(whole)*innodb.LSN(id) + newer }
			err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces))
			if newer == 0 {
				if _, ok := errors.AsType[*innodb.LengthError](err); !ok {
					t.Errorf("page 0 is as new as the truncation: %v", err)
				}
				return
			}
			if got := c.files(t)["db/t.ibd"]; err != nil || !bytes.Equal(got, whole[:left]) {
				t.Errorf("the truncation is newer: %v, %d bytes", err, len(got))
			}
		})
	}
}

// TestCopyGrows: whatever a file grows by while it is copied, the copy has all
// pages that its page 0 counts.
func TestCopyGrows(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Write("db/t.ibd", innodbtest.Random(1, 100))
	c := newCopying(1)
	c.Wait = func(context.Context, int) error {
		d.Write("db/t.ibd", innodbtest.Random(1, 200))
		return nil
	}
	if err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil {
		t.Fatal(err)
	}
	got := c.files(t)["db/t.ibd"]
	s, err := innodb.ParseSpace(got)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CheckLength(int64(len(got))); err != nil || s.Size == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := s.Verify(got[:16<<10], 0); err != nil {
		t.Error(err)
	}
}

// TestCopyShrinks: only an undo tablespace may become shorter, or be shorter than its
// page 0 says, and only if the server says that it has truncated it.
func TestCopyShrinks(t *testing.T) {
	whole := innodbtest.Random(1, 300)
	const left = 100 * 16 << 10
	for _, c := range []struct {
		name                 string
		truncates, truncated bool // whether the server ever does, and has
		ok                   bool
	}{
		{"undo001", true, true, true},
		{"undo001", true, false, false},
		{"undo001", false, false, false},
		{"db/t.ibd", true, true, false},
	} {
		for _, before := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				d := sourcetest.NewDir(t)
				d.Write(c.name, whole)
				cut := func() error { return os.Truncate(d.Path(c.name), left+5000) }
				copying := newCopying(1)
				if before {
					if err := cut(); err != nil {
						t.Fatal(err)
					}
				} else {
					copying.Wait = func(context.Context, int) error { return cut() }
				}
				if c.truncates {
					copying.Truncated = func(_ context.Context, id innodb.SpaceID, page0 innodb.LSN) (bool, error) {
						return c.truncated && id == 1 && page0 == innodb.HeaderLSN(whole), nil
					}
				}
				err := copying.CopyFiles(t.Context(), Unopened(d.List().Tablespaces))
				if (err == nil) != c.ok {
					t.Errorf("%s, cut before it is opened %v, truncated %v: error = %v", c.name, before, c.truncated, err)
				}
				if c.ok {
					if got := copying.files(t)[c.name]; !bytes.Equal(got, whole[:left]) {
						t.Errorf("%s: %d bytes were copied, want 100 pages", c.name, len(got))
					}
				}
			})
		}
	}
}

// TestCopyFaults: nothing excuses an operation that the system fails, also where hb would
// copy the file again.
func TestCopyFaults(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Write("db/t.ibd", innodbtest.Random(1, 100))
	zeroPages(d, "db/zero.ibd", 20)
	checkFaults(t, d, func(f *disktest.Faults) error {
		c := newCopying(1)
		c.Disk, c.Again = f, true
		c.Builds = func(context.Context, innodb.SpaceID) (map[uint64]contents.Build, error) { return nil, nil }
		return c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces))
	})
}

// TestCopyFaultsAgain is TestCopyFaults for files that hb copies again, because the server
// writes another tablespace into them, or cuts them.
func TestCopyFaultsAgain(t *testing.T) {
	other := innodbtest.Tablespace{ID: 2, Flags: innodbtest.Plain16K, Pages: 61, LSN: 1000, Fill: func(page []byte, _ innodb.PageNo) { page[5000] = 1 }}
	for name, change := range map[string]func(path string) error{
		"imported": func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt(other.Page(60), 60<<14)
			return errors.Join(err, f.Close())
		},
		"cut": func(path string) error { return os.Truncate(path, 50<<14+5000) },
	} {
		t.Run(name, func(t *testing.T) {
			d := sourcetest.NewDir(t)
			checkFaults(t, d, func(f *disktest.Faults) (err error) {
				d.Write("db/t.ibd", innodbtest.Tablespace{ID: 1, Flags: innodbtest.Plain16K, Pages: 100, LSN: 1000}.Bytes())
				synctest.Test(t, func(t *testing.T) {
					c := newCopying(1)
					c.Disk, c.Again = f, true
					c.Info = func(innodb.SpaceID) []byte { return nil }
					c.Wait = func(context.Context, int) error { return change(d.Path("db/t.ibd")) }
					err = c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces))
				})
				return err
			})
		})
	}
}

// checkFaults makes each operation of a copy fail, one at a time. The copy must report it.
func checkFaults(t *testing.T, d *sourcetest.Dir, faulty func(*disktest.Faults) error) {
	t.Helper()
	all := disktest.NewFaults(d.Path(""))
	if err := faulty(all); err != nil || len(all.Ops()) < 5 {
		t.Fatalf("without any fault: %v, %v", all.Ops(), err)
	}
	for _, op := range all.Ops() {
		f := disktest.NewFaults(d.Path(""))
		f.Fail(op, syscall.EIO, false)
		if err := faulty(f); !errors.Is(err, syscall.EIO) && op.Kind != disktest.CloseRead {
			t.Errorf("%v failed, and the copy ended with: %v", op, err)
		}
	}
}

// TestCopyStops: an error of the archive, or a cancellation, ends all workers.
func TestCopyStops(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Write("db/t.ibd", innodbtest.Random(1, 1000))
	d.Write("db/u.ibd", innodbtest.Random(2, 1000))
	failed := errors.New("no room")
	c := newCopying(4)
	c.w = xbstream.NewWriter(writerFunc(func([]byte) (int, error) { return 0, failed }))
	if err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); !errors.Is(err, failed) {
		t.Errorf("error = %v, want %v", err, failed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newCopying(4).CopyFiles(ctx, Unopened(d.List().Tablespaces)); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want that of the context", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestEncryptedRefused(t *testing.T) {
	d := sourcetest.NewDir(t)
	const mysqlEncrypted = 1 << 13
	tablespace := innodbtest.Tablespace{ID: 1, Flags: innodbtest.Plain16K | mysqlEncrypted, Pages: 2, LSN: 1000}
	content := tablespace.Bytes()
	d.Write("db/secret.ibd", content)
	err := newCopying(1).CopyFiles(t.Context(), Unopened(d.List().Tablespaces))
	var encrypted *EncryptedError
	if !errors.As(err, &encrypted) || !strings.Contains(err.Error(), "secret.ibd") {
		t.Errorf("error = %v, want an EncryptedError", err)
	}
}
