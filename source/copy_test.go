package source

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hb/source/innodb"
	"hb/source/redo"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream"
)

// flags16k are those of a full_crc32 tablespace with pages of 16 KiB.
const flags16k = 0x15

// makeSpace returns the content of a tablespace of n pages.
func makeSpace(t *testing.T, id innodb.SpaceID, n int) []byte {
	t.Helper()
	s, err := innodb.ParseFlags(flags16k)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(uint64(id), uint64(n)))
	content := make([]byte, n*s.Physical)
	for no := range n {
		page := content[no*s.Physical:][:s.Physical]
		for i := innodb.OffsetBody; i < len(page); i += 8 {
			binary.LittleEndian.PutUint64(page[min(i, len(page)-8):], rng.Uint64())
		}
		binary.BigEndian.PutUint32(page[innodb.OffsetPageNo:], uint32(no))
		binary.BigEndian.PutUint32(page[innodb.OffsetSpace:], uint32(id))
		if no == 0 {
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPSpace:], uint32(id))
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPFlags:], flags16k)
		}
		s.SetLSN(page, 1000)
		s.Stamp(page, innodb.ChecksumUnset)
	}
	return content
}

// datadir is a data directory made for a test.
type datadir struct {
	t      *testing.T
	layout Layout
}

func newDatadir(t *testing.T) *datadir {
	dir := t.TempDir()
	return &datadir{t, Layout{disk: disk.OS, Datadir: dir, UndoDir: dir, AriaLogDir: dir, RedoDir: dir}}
}

func (d *datadir) path(name string) string { return filepath.Join(d.layout.Datadir, name) }

func (d *datadir) write(name string, content []byte) {
	d.t.Helper()
	if err := os.MkdirAll(filepath.Dir(d.path(name)), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(d.path(name), content, 0o644); err != nil {
		d.t.Fatal(err)
	}
}

func (d *datadir) remove(name string) {
	d.t.Helper()
	if err := os.Remove(d.path(name)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *datadir) rename(from, to string) {
	d.t.Helper()
	if err := os.Rename(d.path(from), d.path(to)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *datadir) list() *listing {
	d.t.Helper()
	l, err := d.layout.list()
	if err != nil {
		d.t.Fatal(err)
	}
	return l
}

// copying is a copier with its archive in memory.
type copying struct {
	*copier
	archive *archive
	out     bytes.Buffer
}

func newCopying(parallel int) *copying {
	c := new(copying)
	c.archive = &archive{w: xbstream.NewWriter(&c.out)}
	c.copier = &copier{disk: disk.OS, create: c.archive.output, registry: newRegistry(), pageSize: 16 << 10, parallel: parallel}
	return c
}

// files ends the archive and returns what it holds.
func (c *copying) files(t *testing.T) map[string][]byte {
	t.Helper()
	if err := c.archive.w.Close(); err != nil {
		t.Fatal(err)
	}
	return readArchive(t, &c.out)
}

func readArchive(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	in := xbstream.NewReader(r, xbstream.ReaderOptions{})
	for {
		chunk, err := in.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		files[chunk.Path] = append(files[chunk.Path], chunk.Data...)
	}
}

func TestCopyFiles(t *testing.T) {
	d := newDatadir(t)
	want := map[string][]byte{}
	for i := range 40 {
		name := fmt.Sprintf("db/t%d.ibd", i)
		want[name] = makeSpace(t, innodb.SpaceID(i+1), 1+i%7)
	}
	want["db/large.ibd"] = makeSpace(t, 100, 5*segmentSize/(16<<10)+3)
	want["undo001"] = makeSpace(t, 200, 70)
	for name, content := range want {
		d.write(name, content)
	}
	d.write("db/#sql-ib12.ibd", []byte("temporary"))
	d.write("db/t.frm", []byte("definition"))
	for _, parallel := range []int{1, 2, 7} {
		list := d.list()
		largestFirst(list.tablespaces)
		c := newCopying(parallel)
		if err := c.copyFiles(t.Context(), unopened(list.tablespaces)); err != nil {
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
	d := newDatadir(t)
	d.write("db/same.ibd", makeSpace(t, 1, 3*segmentSize/(16<<10)))
	d.write("db/gone.ibd", makeSpace(t, 2, 10))
	d.write("db/grown.ibd", makeSpace(t, 3, 10))
	files := unopened(d.list().tablespaces)
	var m progress.Meter
	var listed int64
	for _, t := range files {
		listed += t.size
	}
	d.remove("db/gone.ibd")
	d.write("db/grown.ibd", makeSpace(t, 3, 25))
	c := newCopying(2)
	c.phase = m.Begin("copying", listed)
	if err := c.copyFiles(t.Context(), files); err != nil {
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
			d := newDatadir(t)
			content := makeSpace(t, 1, 200)
			content[no*16<<10+5000] ^= 4
			d.write("db/t.ibd", content)
			err := newCopying(2).copyFiles(t.Context(), unopened(d.list().tablespaces))
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
		d := newDatadir(t)
		whole := makeSpace(t, 1, 100)
		torn := bytes.Clone(whole)
		copy(torn[70*16<<10:][4096:8192], make([]byte, 4096))
		torn[3] ^= 1
		d.write("db/t.ibd", torn)
		go func() {
			time.Sleep(20 * time.Millisecond)
			d.write("db/t.ibd", whole)
		}()
		c := newCopying(2)
		if err := c.copyFiles(t.Context(), unopened(d.list().tablespaces)); err != nil {
			t.Fatal(err)
		}
		if got := c.files(t); !bytes.Equal(got["db/t.ibd"], whole) {
			t.Error("the torn page was copied")
		}
	})
}

// TestCopyDropped: a file that is dropped may end anywhere, or never begin.
func TestCopyDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDatadir(t)
		content := makeSpace(t, 1, 300)
		content[200*16<<10+100] ^= 1 // makes the copy wait there
		d.write("db/dropped.ibd", content)
		d.write("db/gone.ibd", makeSpace(t, 2, 3))
		d.write("db/stays.ibd", makeSpace(t, 3, 3))
		list := d.list()
		d.remove("db/gone.ibd")
		go func() {
			time.Sleep(20 * time.Millisecond)
			d.remove("db/dropped.ibd")
		}()
		c := newCopying(2)
		if err := c.copyFiles(t.Context(), unopened(list.tablespaces)); err != nil {
			t.Fatal(err)
		}
		now := map[spaceFile]string{}
		look, err := newInventory(disk.OS, 16<<10).look(t.Context(), d.list().tablespaces)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range look.files {
			now[f.spaceFile()] = f.name
		}
		fix := c.registry.fixups(now)
		if _, ok := fix["db/dropped.del"]; !ok || len(fix) != 1 {
			t.Errorf("fix-ups = %q, want db/dropped.del", fix)
		}
		got := c.files(t)
		if _, ok := got["db/gone.ibd"]; ok || len(got["db/stays.ibd"]) != 3*16<<10 {
			t.Error("the wrong files were copied")
		}
	})
}

// TestCopyShrinks: only undo tablespaces may become shorter.
func TestCopyShrinks(t *testing.T) {
	for name, ok := range map[string]bool{"undo001": true, "db/t.ibd": false} {
		d := newDatadir(t)
		content := makeSpace(t, 1, 300)
		d.write(name, content)
		c := newCopying(1)
		c.wait = func(_ context.Context, n int) error {
			return os.Truncate(d.path(name), 100*16<<10+5000)
		}
		err := c.copyFiles(t.Context(), unopened(d.list().tablespaces))
		if (err == nil) != ok {
			t.Errorf("%s shrinks: error = %v", name, err)
		}
		if ok {
			if got := c.files(t)[name]; !bytes.Equal(got, content[:100*16<<10]) {
				t.Errorf("%s: %d bytes were copied, want 100 pages", name, len(got))
			}
		}
	}
}

// TestCopyStops: an error of the archive, or a cancellation, ends all workers.
func TestCopyStops(t *testing.T) {
	d := newDatadir(t)
	d.write("db/t.ibd", makeSpace(t, 1, 1000))
	d.write("db/u.ibd", makeSpace(t, 2, 1000))
	failed := errors.New("no room")
	c := newCopying(4)
	c.archive.w = xbstream.NewWriter(writerFunc(func([]byte) (int, error) { return 0, failed }))
	if err := c.copyFiles(t.Context(), unopened(d.list().tablespaces)); !errors.Is(err, failed) {
		t.Errorf("error = %v, want %v", err, failed)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newCopying(4).copyFiles(ctx, unopened(d.list().tablespaces)); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want that of the context", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// ddlCase is a change between the copy and its end, and the fix-ups for it.
type ddlCase struct {
	name   string
	change func(t *testing.T, d *datadir)
	copied map[string]innodb.SpaceID // what the second round adds
	fix    map[string]string
}

var ddlCases = []ddlCase{
	{"nothing", func(*testing.T, *datadir) {}, nil, map[string]string{}},
	{"rename", func(_ *testing.T, d *datadir) { d.rename("db/a.ibd", "db/c.ibd") }, nil,
		map[string]string{"db/a.ren": "db/c"}},
	{"rename across databases", func(_ *testing.T, d *datadir) { d.rename("db/a.ibd", "other/a.ibd") }, nil,
		map[string]string{"db/a.ren": "other/a"}},
	{"swap", func(_ *testing.T, d *datadir) {
		d.rename("db/a.ibd", "db/x.ibd")
		d.rename("db/b.ibd", "db/a.ibd")
		d.rename("db/x.ibd", "db/b.ibd")
	}, nil, map[string]string{"db/a.ren": "db/b", "db/b.ren": "db/a"}},
	{"drop", func(_ *testing.T, d *datadir) { d.remove("db/a.ibd") }, nil, map[string]string{"db/a.del": ""}},
	{"create", func(t *testing.T, d *datadir) { d.write("db/c.ibd", makeSpace(t, 9, 2)) },
		map[string]innodb.SpaceID{"db/c.ibd": 9}, map[string]string{}},
	{"truncate", func(t *testing.T, d *datadir) {
		d.write("db/new.ibd", makeSpace(t, 9, 2))
		d.rename("db/new.ibd", "db/a.ibd")
	}, map[string]innodb.SpaceID{"db/a#hb#9.ibd": 9}, map[string]string{"db/a.del": "", "db/a#hb#9.ren": "db/a"}},
	{"drop and create, then rename", func(t *testing.T, d *datadir) {
		d.remove("db/a.ibd")
		d.write("db/a.ibd", makeSpace(t, 9, 2))
		d.rename("db/b.ibd", "db/c.ibd")
	}, map[string]innodb.SpaceID{"db/a#hb#9.ibd": 9},
		map[string]string{"db/a.del": "", "db/a#hb#9.ren": "db/a", "db/b.ren": "db/c"}},
	{"import over the same file", func(t *testing.T, d *datadir) { d.write("db/a.ibd", makeSpace(t, 9, 2)) },
		map[string]innodb.SpaceID{"db/a#hb#9.ibd": 9}, map[string]string{"db/a.del": "", "db/a#hb#9.ren": "db/a"}},
}

// TestDDLDuringCopy runs each kind of DDL between two looks at the databases.
func TestDDLDuringCopy(t *testing.T) {
	for _, test := range ddlCases {
		t.Run(test.name, func(t *testing.T) {
			d := newDatadir(t)
			d.write("db/a.ibd", makeSpace(t, 1, 2))
			d.write("db/b.ibd", makeSpace(t, 2, 2))
			d.write("other/db.opt", nil)
			b := &backup{layout: d.layout, inventory: newInventory(disk.OS, 16<<10)}
			c := newCopying(2)
			b.copier, b.registry = c.copier, c.registry
			if _, err := b.copyNew(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond) // the clock of file times moves on
			test.change(t, d)
			if n, err := b.copyNew(t.Context()); n != len(test.copied) || err != nil {
				t.Errorf("copied %d more: %v", n, err)
			}
			if n, err := b.copyNew(t.Context()); n != 0 || err != nil {
				t.Errorf("copied %d again: %v", n, err)
			}
			look, err := b.inventory.look(t.Context(), d.list().tablespaces)
			if err != nil {
				t.Fatal(err)
			}
			end, err := settle(look, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			if got := b.registry.fixups(end.now); !equalMaps(got, test.fix) {
				t.Errorf("fix-ups = %q, want %q", got, test.fix)
			}
			files := c.files(t)
			for name, id := range test.copied {
				if s, err := innodb.ParseSpace(files[name]); err != nil || s.ID != id {
					t.Errorf("%s is tablespace %d (%v), want %d", name, s.ID, err, id)
				}
			}
		})
	}
}

func equalMaps(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// TestSettle: what the redo speaks of must be there, and files that it does not
// speak of must say themselves what they are.
func TestSettle(t *testing.T) {
	d := newDatadir(t)
	d.write("db/known.ibd", makeSpace(t, 1, 2))
	written := make([]byte, 64<<10) // behind page 0, which comes last
	written[16<<10+38] = 1
	d.write("db/young.ibd", written)
	look, err := newInventory(disk.OS, 16<<10).look(t.Context(), d.list().tablespaces)
	if err != nil {
		t.Fatal(err)
	}
	look.lsn = 1000
	young := redo.FileState{Name: "db/young.ibd", Created: 1000}
	end, err := settle(look, map[innodb.SpaceID]redo.FileState{
		5: young, 1: {Name: "db/known.ibd"}, 7: {Name: "db/dropped.ibd", Deleted: true}, 8: {Name: "db/#sql-alter-1.ibd"},
		6: {Name: "db/FTS_0000000000000010_CONFIG.ibd", Created: 1001}, // and not there: by an ALTER TABLE that cannot commit
	}, true)
	if err != nil {
		t.Fatal(err)
	}
	if len(end.stubs) != 1 || end.stubs[0].space.ID != 5 || len(end.now) != 2 || len(end.unknown) != 0 {
		t.Errorf("settlement = %+v", end)
	}
	young.Created = 1001
	end, err = settle(look, map[innodb.SpaceID]redo.FileState{5: young}, true)
	if err != nil || len(end.stubs) != 0 || len(end.now) != 1 || len(end.unknown) != 0 {
		t.Errorf("a tablespace that is created under the lock: settlement = %+v, error = %v", end, err)
	}
	if _, err := settle(look, map[innodb.SpaceID]redo.FileState{5: {Name: "db/young.ibd"}}, true); err == nil || !strings.Contains(err.Error(), "page 0 is empty") {
		t.Errorf("a file of zeros that the redo log names and does not create: error = %v", err)
	}
	end, err = settle(look, nil, true)
	if err != nil || len(end.unknown) != 1 || end.unknown[0].name != "db/young.ibd" || len(end.now) != 1 {
		t.Errorf("a file of zeros that the redo does not know: settlement = %+v, error = %v", end, err)
	}
	_, err = settle(look, map[innodb.SpaceID]redo.FileState{5: young, 6: {Name: "db/lost.ibd"}}, true)
	if err == nil || !strings.Contains(err.Error(), "db/lost.ibd") {
		t.Errorf("a tablespace that is only in the redo: error = %v", err)
	}
}

// TestYoung: a file whose page 0 is empty, and that the redo log does not know,
// is being created, or damaged.
func TestYoung(t *testing.T) {
	for name, test := range map[string]struct {
		change func(d *datadir)
		bad    bool
	}{
		"stays empty": {func(*datadir) {}, true},
		"is written":  {func(d *datadir) { d.write("db/young.ibd", makeSpace(t, 1, 2)) }, false},
		"goes":        {func(d *datadir) { d.remove("db/young.ibd") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDatadir(t)
			d.write("db/young.ibd", make([]byte, 64<<10))
			v := newInventory(disk.OS, 16<<10)
			look, err := v.look(t.Context(), d.list().tablespaces)
			if err != nil || len(look.deferred) != 1 {
				t.Fatalf("%+v, %v", look, err)
			}
			var wg sync.WaitGroup
			wg.Go(func() { time.Sleep(10 * time.Millisecond); test.change(d) })
			err = v.young(t.Context(), look.deferred[0])
			wg.Wait()
			if (err != nil) != test.bad {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func TestDuplicateSpaces(t *testing.T) {
	d := newDatadir(t)
	d.write("db/a.ibd", makeSpace(t, 1, 2))
	d.write("db/copy of a.ibd", makeSpace(t, 1, 2))
	look, err := newInventory(disk.OS, 16<<10).look(t.Context(), d.list().tablespaces)
	if err != nil {
		t.Fatal(err)
	}
	err = look.unique()
	var duplicate *DuplicateError
	if !errors.As(err, &duplicate) {
		t.Errorf("error = %v, want a DuplicateError", err)
	}
}

func TestEncryptedRefused(t *testing.T) {
	d := newDatadir(t)
	content := makeSpace(t, 1, 2)
	s, err := innodb.ParseSpace(content)
	if err != nil {
		t.Fatal(err)
	}
	// The encryption data of a tablespace with pages of 16 KiB.
	copy(content[10428:], "s\x0e\x0cREt\x01\x10")
	s.Stamp(content[:16<<10], innodb.ChecksumUnset)
	d.write("db/secret.ibd", content)
	err = newCopying(1).copyFiles(t.Context(), unopened(d.list().tablespaces))
	var encrypted *EncryptedError
	if !errors.As(err, &encrypted) || !strings.Contains(err.Error(), "secret.ibd") {
		t.Errorf("error = %v, want an EncryptedError", err)
	}
}

// TestDataDirectory follows the link to a tablespace elsewhere.
func TestDataDirectory(t *testing.T) {
	d := newDatadir(t)
	elsewhere := filepath.Join(t.TempDir(), "t.ibd")
	if err := os.WriteFile(elsewhere, makeSpace(t, 4, 2), 0o644); err != nil {
		t.Fatal(err)
	}
	d.write("db/t.isl", []byte(elsewhere+"\n"))
	list := d.list()
	if len(list.tablespaces) != 1 || list.tablespaces[0].name != "db/t.ibd" || list.tablespaces[0].path != elsewhere {
		t.Errorf("listing = %+v", list.tablespaces)
	}
	d.write("db/t.isl", []byte("relative"))
	if _, err := d.layout.list(); err == nil {
		t.Error("a link without an absolute path was accepted")
	}
}
