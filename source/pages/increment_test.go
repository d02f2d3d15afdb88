package pages

import (
	"bytes"
	"io"
	"iter"
	"maps"
	"slices"
	"testing"
	"time"

	"hb/source/sourcetest"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/delta"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/metadata"
)

// fileOf makes a tablespace's file whose pages have these LSNs; those of zeros have none.
func fileOf(id innodb.SpaceID, lsns map[int]innodb.LSN, zero []int, pages int) []byte {
	space := innodbtest.Tablespace{ID: id, Flags: innodbtest.Full16K, Pages: pages, LSN: 1}
	content := space.Bytes()
	for no := range pages {
		page := content[no*16<<10 : (no+1)*16<<10]
		switch lsn, set := lsns[no]; {
		case slices.Contains(zero, no):
			clear(page)
		case set:
			innodbtest.Seal(page, space.Flags, lsn, innodb.ChecksumCRC32)
		}
	}
	return content
}

// newIncrement is a copier of what changed since the LSN 1000, of a base that has
// tablespaces up to id 9.
func newIncrement(t *testing.T, parallel int) *copying {
	c := newCopying(parallel)
	dir := t.TempDir()
	c.Increment = &Increment{From: 1000, Began: time.Now().Add(time.Hour), Has: func(id innodb.SpaceID, _ string) bool { return id < 10 }, Temp: func() (disk.File, error) { return disk.OS.Temp(dir) }}
	c.Registry.Suffix = len(delta.Ext)
	return c
}

// deltaOf reads a file of changed pages.
func deltaOf(t *testing.T, content []byte) map[innodb.PageNo][]byte {
	t.Helper()
	r, err := delta.NewReader(bytes.NewReader(content), 16<<10)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[innodb.PageNo][]byte)
	for {
		no, page, err := r.Next()
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got[no] = bytes.Clone(page)
	}
}

// TestIncrement: which pages an increment has, and what it notes of the file.
func TestIncrement(t *testing.T) {
	lsns := map[int]innodb.LSN{0: 10, 1: 999, 2: 1000, 3: 1001, 4: 0, 7: 5000}
	zero := []int{5, 6, 9}
	for _, c := range []struct {
		name  string
		id    innodb.SpaceID
		pages []innodb.PageNo
		zero  []innodb.PageRange
		whole bool
	}{
		{"db/changed.ibd", 5, []innodb.PageNo{2, 3, 4, 7}, []innodb.PageRange{{First: 5, End: 7}, {First: 9, End: 10}}, false},
		{"db/new.ibd", 10, []innodb.PageNo{0, 1, 2, 3, 4, 7, 8}, nil, true},
	} {
		d := sourcetest.NewDir(t)
		all := maps.Clone(lsns)
		all[8] = 8
		content := fileOf(c.id, all, zero, 10)
		d.Write(c.name, content)
		cp := newIncrement(t, 2)
		if err := cp.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil {
			t.Fatal(err)
		}
		live := cp.Registry.Live(map[Key]string{})
		if len(live) != 0 {
			t.Errorf("%s: it is live and was dropped", c.name)
		}
		var a *Copy
		cp.Registry.Any(func(found *Copy) bool { a = found; return false })
		files := cp.files(t)
		got := deltaOf(t, files[c.name+".delta"])
		if pages := slices.Sorted(maps.Keys(got)); !slices.Equal(pages, c.pages) {
			t.Errorf("%s: pages %v, want %v", c.name, pages, c.pages)
		}
		var sum innodb.PageSum
		space, err := innodb.ParseSpace(content)
		if err != nil {
			t.Fatal(err)
		}
		for no := range 10 {
			page := content[no*16<<10 : (no+1)*16<<10]
			sum.Toggle(innodb.PageNo(no), page, &space)
			if in, ok := got[innodb.PageNo(no)]; ok && !bytes.Equal(in, page) {
				t.Errorf("%s: page %d is another", c.name, no)
			}
		}
		if a.Whole != c.whole || !slices.Equal(a.Zero, c.zero) || a.Size != int64(len(content)) || a.Sum != sum {
			t.Errorf("%s: %+v", c.name, a.Changes)
		}
		meta, err := delta.ParseMeta(files[c.name+".meta"])
		if err != nil || meta.PageSize != 16<<10 || meta.Space != c.id || len(files) != 2 {
			t.Errorf("%s: %+v, %v; %d files", c.name, meta, err, len(files))
		}
	}
}

// TestIncrementFlushLSN: an increment has the first page of each file of the system
// tablespace, whose flush LSN a server that stops changes without the page's LSN: so what is
// merged is what a full backup is. Of other tablespaces it has none.
func TestIncrementFlushLSN(t *testing.T) {
	content := fileOf(0, nil, nil, 10)
	const first = 8 * 16 << 10 // bytes of the first file
	d := sourcetest.NewDir(t)
	d.Write("ibdata1", content[:first])
	d.Write("ibdata2", content[first:])
	files, err := NewInventory(disk.OS, 16<<10).System(t.Context(), []string{d.Path("ibdata1"), d.Path("ibdata2")})
	if err != nil {
		t.Fatal(err)
	}
	d.Write("db/t.ibd", fileOf(5, nil, nil, 5))
	files = append(files, Unopened(d.List().Tablespaces)...)
	c := newIncrement(t, 1)
	if err := c.CopyFiles(t.Context(), files); err != nil {
		t.Fatal(err)
	}
	got := c.files(t)
	for name, want := range map[string][]innodb.PageNo{"ibdata1": {0}, "ibdata2": {0}, "db/t.ibd": nil} {
		if pages := slices.Sorted(maps.Keys(deltaOf(t, got[name+".delta"]))); !slices.Equal(pages, want) {
			t.Errorf("%s: pages %v, want %v", name, pages, want)
		}
	}
}

// TestIncrementZero: ranges of zero pages beyond the bound are in the file of changed
// pages, as pages.
func TestIncrementZero(t *testing.T) {
	const pages = 2*metadata.MaxZeroRanges + 20
	var zero []int
	for no := 1; no < pages; no += 2 {
		zero = append(zero, no)
	}
	d := sourcetest.NewDir(t)
	d.Write("db/t.ibd", fileOf(5, map[int]innodb.LSN{0: 1}, zero, pages))
	c := newIncrement(t, 1)
	c.Increment.From = 1 << 60
	if err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil {
		t.Fatal(err)
	}
	var a *Copy
	c.Registry.Any(func(found *Copy) bool { a = found; return false })
	got := deltaOf(t, c.files(t)["db/t.ibd.delta"])
	if len(a.Zero) != metadata.MaxZeroRanges || len(got) != len(zero)-metadata.MaxZeroRanges {
		t.Errorf("%d ranges, %d pages", len(a.Zero), len(got))
	}
	for no, page := range got {
		if !innodb.AllZero(page) {
			t.Errorf("page %d", no)
		}
	}
}

// TestIncrementAgain: a second copy, which has a name of its own, has all pages, and so
// has one whose own name would be too long.
func TestIncrementAgain(t *testing.T) {
	d := sourcetest.NewDir(t)
	long := "db/" + string(bytes.Repeat([]byte{'t'}, 250)) + ".ibd"
	d.Write("db/t.ibd", fileOf(5, map[int]innodb.LSN{1: 1, 2: 1}, nil, 3))
	d.Write(long, fileOf(6, nil, nil, 3))
	c := newIncrement(t, 1)
	for range 2 {
		if err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil {
			t.Fatal(err)
		}
		c.Registry.Discard(func(a *Copy) bool { return a.Name == "db/t.ibd" })
	}
	files := c.files(t)
	for _, name := range []string{"db/t#hb#5.ibd.delta", "db/#hb#6.ibd.delta"} {
		if got := deltaOf(t, files[name]); len(got) != 3 {
			t.Errorf("%s: %d pages; the archive has %q", name, len(got), slices.Sorted(maps.Keys(files)))
		}
	}
}

// TestIncrementBorn: a file that was made after the base began has all pages, although the
// base has its tablespace.
func TestIncrementBorn(t *testing.T) {
	d := sourcetest.NewDir(t)
	d.Write("db/t.ibd", fileOf(5, nil, nil, 3))
	if d.List().Tablespaces[0].Born().IsZero() {
		t.Skip("hb-skip: the file system does not record when files are made")
	}
	for _, since := range []time.Duration{-time.Hour, time.Hour} {
		c := newIncrement(t, 1)
		c.Increment.Began = time.Now().Add(since)
		if err := c.CopyFiles(t.Context(), Unopened(d.List().Tablespaces)); err != nil {
			t.Fatal(err)
		}
		if got := deltaOf(t, c.files(t)["db/t.ibd.delta"]); (len(got) == 3) != (since < 0) {
			t.Errorf("of a base that began %v from now the increment has %d pages", since, len(got))
		}
	}
}

// TestIncrementChosen: of a tablespace that the base has, only the chosen pages are read,
// in segments of at most a worker's buffer, and of one that it has not, all. Pages that are
// not read are damaged here, and all have a late LSN.
func TestIncrementChosen(t *testing.T) {
	const pages = 400
	late := make(map[int]innodb.LSN)
	for no := range pages {
		late[no] = 5000
	}
	late[3] = 999
	for _, c := range []struct {
		what   string
		id     innodb.SpaceID
		chosen []innodb.PageRange
		want   []innodb.PageRange
		damage int // page
		fails  bool
	}{
		{"some", 5, []innodb.PageRange{{First: 0, End: 1}, {First: 3, End: 5}, {First: 100, End: 330}}, []innodb.PageRange{{First: 0, End: 1}, {First: 4, End: 5}, {First: 100, End: 330}}, 99, false},
		{"damage where it is read", 5, []innodb.PageRange{{First: 0, End: 1}, {First: 99, End: 100}}, nil, 99, true},
		{"only page 0", 5, []innodb.PageRange{{First: 0, End: 1}}, []innodb.PageRange{{First: 0, End: 1}}, 1, false},
		{"the last page", 5, []innodb.PageRange{{First: 0, End: 1}, {First: pages - 1, End: pages}}, []innodb.PageRange{{First: 0, End: 1}, {First: pages - 1, End: pages}}, 1, false},
		{"none", 5, nil, nil, 1, false},
		{"the base has not the tablespace", 10, []innodb.PageRange{{First: 0, End: 1}}, nil, 99, true},
	} {
		for parallel := 1; parallel <= 4; parallel += 3 {
			d := sourcetest.NewDir(t)
			content := fileOf(c.id, late, []int{200}, pages)
			content[c.damage*16<<10+5000] ^= 1
			d.Write("db/t.ibd", content)
			cp := newIncrement(t, parallel)
			cp.Increment.Changed = func(id innodb.SpaceID, in innodb.PageRange) iter.Seq[innodb.PageRange] {
				if id != 5 || in != (innodb.PageRange{End: pages}) {
					t.Errorf("%s: asked for %v of %d", c.what, in, id)
				}
				return slices.Values(c.chosen)
			}
			var m progress.Tracker
			cp.Phase = m.Begin("", int64(len(content)))
			err := cp.CopyFiles(t.Context(), Unopened(d.List().Tablespaces))
			if (err != nil) != c.fails {
				t.Errorf("%s: %v", c.what, err)
			}
			if c.fails {
				continue
			}
			var a *Copy
			cp.Registry.Any(func(found *Copy) bool { a = found; return false })
			got := deltaOf(t, cp.files(t)["db/t.ibd.delta"])
			var zero []innodb.PageRange
			for _, r := range c.want {
				for no := r.First; no < r.End; no++ {
					if no == 200 {
						zero = []innodb.PageRange{{First: 200, End: 201}}
					} else if in, ok := got[no]; !ok || !bytes.Equal(in, content[no<<14:(no+1)<<14]) {
						t.Errorf("%s: page %d: %v", c.what, no, ok)
					}
					delete(got, no)
				}
			}
			var read int64
			for _, r := range c.chosen {
				read += int64(r.End-r.First) << 14
			}
			if s := m.State(); s.Done != read || s.Total != read {
				t.Errorf("%s: %d bytes chosen, progress %+v", c.what, read, s)
			}
			if len(got) != 0 || !a.Partial || a.Whole || a.Size != pages*16<<10 || !slices.Equal(a.Zero, zero) {
				t.Errorf("%s: %d more pages, %+v", c.what, len(got), a.Changes)
			}
		}
	}
}
