package check

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"hb/source/datadir"
	"hb/source/pages"
	"hb/source/since"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/xbtest"
)

// TestShare: the part of the pages that changed, and its bound, by arithmetic: of no hit
// among n, z²/(n+z²).
func TestShare(t *testing.T) {
	for _, test := range []struct {
		changes
		about, least, most float64
	}{
		{changes{looked: 4096}, 0, 9.0 / 4105, 9.0 / 4105},
		{changes{looked: 4096, hits: 41}, 0.01001, 0.01586, 0.01588},
		{changes{looked: 4096, hits: 2048}, 0.5, 0.523, 0.524},
		{changes{looked: 4096, hits: 4096}, 1, 1, 1},
		{changes{}, 0, 1, 1}, // all are gone: nothing is known
	} {
		about, most := test.share()
		const e = 1e-5
		if math.Abs(about-test.about) > e || most < test.least-e || most > test.most+e {
			t.Errorf("%+v: %g, at most %g", test.changes, about, most)
		}
	}
	c := changes{bytes: 10 << 20, looked: 4096, hits: 4096, dirty: 5 << 20}
	if about, most := c.size(); about != 10<<20 || most != about {
		t.Errorf("%d, at most %d", about, most)
	}
	c.hits = 0
	if about, most := c.size(); about != 0 || most < 5<<20 || most > 5<<20+30<<10 {
		t.Errorf("with dirty pages: %d, at most %d", about, most)
	}
}

// TestChangeSample: the sample finds about as many changed pages as there are, wherever
// they are, and its bound is hardly ever exceeded.
func TestChangeSample(t *testing.T) {
	const size, from = 1024, 5000
	dir := t.TempDir()
	increment := &pages.Increment{From: from, Began: time.Now().Add(time.Hour), Has: func(_ innodb.SpaceID, name string) bool { return name != "new" }}
	file := func(name string, lsns []innodb.LSN) *pages.File {
		content := make([]byte, len(lsns)*size)
		for i, lsn := range lsns {
			page := content[i*size:][:size]
			binary.BigEndian.PutUint64(page[16:], uint64(lsn))
			page[600] = 1 // not all zero
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return &pages.File{File: datadir.File{Path: path, Name: name, Size: int64(len(content))}, Space: innodb.File{Space: innodb.Space{ID: 7, Physical: size}}}
	}
	lsns := func(n int, lsn func(i int) innodb.LSN) (all []innodb.LSN) {
		for i := range n {
			all = append(all, lsn(i))
		}
		return all
	}
	old := func(int) innodb.LSN { return from - 1 }
	end := func(i int) innodb.LSN { // the last 600 of 20,000
		if i >= 19400 {
			return from
		}
		return from - 1
	}
	scattered := func(i int) innodb.LSN { // 800 of 16,000; of IMPORT TABLESPACE
		if i%20 == 3 {
			return 0
		}
		return 17
	}
	zero := file("zero", make([]innodb.LSN, 3000))
	if err := os.WriteFile(zero.Path, make([]byte, 3000*size), 0o644); err != nil {
		t.Fatal(err)
	}
	large := file("large", lsns(16000, func(i int) innodb.LSN { return from - 1 + innodb.LSN(min(1, i%64)^1) }))
	large.Space.Physical = 16 * size // of 1000 pages, every fourth changed
	for name, test := range map[string]struct {
		files []*pages.File
		truth int
	}{
		"few":                {[]*pages.File{file("a", lsns(1000, old)), file("b", lsns(2000, scattered)), file("c", lsns(1, func(int) innodb.LSN { return from }))}, 101},
		"many":               {[]*pages.File{file("d", lsns(4000, old)), file("e", lsns(20000, end)), file("f", nil), file("g", lsns(16000, scattered))}, 1400},
		"none":               {[]*pages.File{file("h", lsns(10000, old)), zero}, 0},
		"new":                {[]*pages.File{file("new", lsns(2000, old)), file("i", lsns(10000, old)), zero}, 2000},
		"pages of two sizes": {[]*pages.File{large, file("j", lsns(16000, old))}, 4000},
	} {
		var c changes
		if err := c.sample(t.Context(), disk.OS, test.files, increment); err != nil {
			t.Fatal(err)
		}
		about, most := c.size()
		truth := int64(test.truth * size)
		t.Logf("%s: %d of %d, estimated %d, at most %d", name, truth, c.bytes, about, most)
		if c.looked < changeSample-1 || about < truth*2/3 || about > truth*3/2 || most < truth*9/10 || most > truth*2+c.bytes/400 {
			t.Errorf("%s: %+v", name, c)
		}
		var hits bytes.Buffer
		if err := c.write(t.Context(), disk.OS, &hits); err != nil || hits.Len()%size != 0 || (hits.Len() == 0) != (truth == 0) || int64(hits.Len()) > truth {
			t.Errorf("%s: %v, %d bytes of changed pages", name, err, hits.Len())
		}
	}
	gone := file("gone", lsns(100, old))
	if err := os.Remove(gone.Path); err != nil {
		t.Fatal(err)
	}
	var c changes
	if err := c.sample(t.Context(), disk.OS, []*pages.File{gone}, increment); err != nil || c.looked != 0 {
		t.Errorf("a file that is gone: %v, %+v", err, c)
	}
}

// TestSentFiles: of files of other engines that are as long as in the base, an increment has
// only those that were written since, but all of them if they are few bytes.
func TestSentFiles(t *testing.T) {
	began := time.Now().Truncate(time.Second)
	for _, large := range []int64{63 << 20, 65 << 20} {
		a := xbtest.NewArchiver(16<<10, 1000, 3000)
		a.Manifest.Start = began
		a.Put("db/large.MYD", make([]byte, large))
		a.Put("db/small.MYD", make([]byte, 10))
		archive, err := a.Finish()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "base")
		if err := os.WriteFile(path, archive, 0o644); err != nil {
			t.Fatal(err)
		}
		base, err := since.Open(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		before, after := began.Add(-time.Hour).UnixNano(), began.Add(time.Second).UnixNano()
		for _, file := range []struct {
			datadir.File
			sent bool
		}{
			{datadir.File{Name: "db/large.MYD", Size: large, Modified: before, Changed: before}, large < 64<<20},
			{datadir.File{Name: "db/large.MYD", Size: large, Modified: before, Changed: after}, true},
			{datadir.File{Name: "db/large.MYD", Size: large, Modified: after, Changed: before}, true},
			{datadir.File{Name: "db/large.MYD", Size: large + 1, Modified: before, Changed: before}, true},
			{datadir.File{Name: "db/other.MYD", Size: large, Modified: before, Changed: before}, true},
		} {
			if sent := sentFiles(base, []datadir.File{file.File}); len(sent) > 0 != file.sent {
				t.Errorf("base of %d bytes: %+v is sent: %v", large, file.File, len(sent) > 0)
			}
		}
	}
}
