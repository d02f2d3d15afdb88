package mysql

import (
	"bytes"
	"compress/gzip"
	"encoding/gob"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest/census"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

var captureZip = flag.Bool("capture-zip", false, "TestZipFidelity writes pages and their records to testdata")

// zipCase is a page as a server left it, what its log had for it, and what the
// server's recovery made of it.
type zipCase struct {
	Format        mysqlredo.Format
	Flags         uint32
	ID            innodb.PageID
	Before, After []byte
	Runs          []zipRun
}

type zipRun struct {
	MTR     innodb.LSN
	Records []byte
}

func (c *zipCase) space(t testing.TB) *innodb.Space {
	s, err := innodb.ParseFlags(c.Flags)
	if err != nil {
		t.Fatal(err)
	}
	s.ID = c.ID.Space
	return &s
}

// replay applies the case to a copy of the page; each is called between runs.
func (c *zipCase) replay(t testing.TB, each func(p *page)) ([]byte, error) {
	image, a := bytes.Clone(c.Before), NewApplier(c.Format)
	if err := a.Begin(image, c.ID, c.space(t)); err != nil {
		return nil, err
	}
	for _, r := range c.Runs {
		if err := a.Apply(r.MTR, r.Records); err != nil {
			return nil, err
		}
		if each != nil {
			each(&a.page)
		}
	}
	return image, a.Finish()
}

// readZipCases reads all that were captured.
func readZipCases(t testing.TB) map[string][]zipCase {
	names, err := filepath.Glob("testdata/zip-*.gob.gz")
	if err != nil || len(names) != 3 {
		t.Fatalf("%d files of captured pages (%v)", len(names), err)
	}
	all := map[string][]zipCase{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		var cases []zipCase
		if err := gob.NewDecoder(z).Decode(&cases); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[strings.TrimSuffix(filepath.Base(name), ".gob.gz")] = cases
	}
	return all
}

// captureCases chooses small pages of a replay that was found right so that
// every type of record is there a few times, and writes them.
func captureCases(t *testing.T, name string, format mysqlredo.Format, r *census.Replay) {
	seen := map[mlog.Type]int{}
	var cases []zipCase
	pages := make([]*census.Page, 0, len(r.Pages))
	for _, p := range r.Pages {
		if p.File != nil && p.File.Space.Zip() && p.LSN != 0 && p.Err == nil && isIndex(innodb.HeaderType(p.Image)) {
			pages = append(pages, p)
		}
	}
	slices.SortFunc(pages, func(a, b *census.Page) int { return caseSize(a) - caseSize(b) })
	for _, p := range pages {
		if c := newZipCase(t, format, p, seen); c != nil {
			cases = append(cases, *c)
		}
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if err := gob.NewEncoder(z).Encode(cases); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("testdata/zip-"+name+".gob.gz", b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d pages in %d bytes: %v", len(cases), b.Len(), seen)
}

func caseSize(p *census.Page) int {
	n := len(p.Image)
	for _, r := range p.Runs {
		n += len(r.Records)
	}
	return n
}

// newZipCase makes a case of the last changes of a page, if there is something
// among them that is rare so far.
func newZipCase(t *testing.T, format mysqlredo.Format, p *census.Page, seen map[mlog.Type]int) *zipCase {
	c := &zipCase{Format: format, Flags: p.File.Space.Flags, ID: p.ID, Before: make([]byte, p.File.Space.Physical), After: p.Image}
	copy(c.Before, p.File.Page(p.ID.No))
	for _, r := range p.Runs {
		if r.LSN >= p.Base {
			c.Runs = append(c.Runs, zipRun{r.Start, r.Records})
		}
	}
	last, size := len(c.Runs), 0
	for last > 0 && size+len(c.Runs[last-1].Records) <= 1500 {
		last--
		size += len(c.Runs[last].Records)
	}
	if last == len(c.Runs) {
		return nil
	}
	var counts census.Counts
	for _, r := range c.Runs[last:] {
		counts.Add(r.Records)
	}
	rare := false
	for of, n := range counts {
		rare = rare || n > 0 && seen[mlog.Type(of)] < 2
	}
	if !rare {
		return nil
	}
	for of, n := range counts {
		if n > 0 {
			seen[mlog.Type(of)]++
		}
	}
	if last > 0 {
		rest := c.Runs[last:]
		c.Runs = c.Runs[:last]
		before, err := c.replay(t, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Before, c.Runs = before, rest
	}
	return c
}

// TestZipCases replays captured pages and wants the server's bytes.
func TestZipCases(t *testing.T) {
	var seen census.Counts
	for name, cases := range readZipCases(t) {
		for _, c := range cases {
			for _, r := range c.Runs {
				seen.Add(r.Records)
			}
			got, err := c.replay(t, nil)
			if err != nil {
				t.Errorf("%s %v: %v", name, c.ID, err)
			} else if at := differAt(got, c.After); at >= 0 {
				t.Errorf("%s %v: byte %d is %#02x, want %#02x", name, c.ID, at, got[at], c.After[at])
			}
		}
	}
	for _, types := range zipTypes(false) {
		for _, of := range types {
			if seen[of] == 0 {
				t.Errorf("no %v was captured", of)
			}
		}
	}
}

// differAt returns where two pages differ except for checksum and LSN, or -1.
func differAt(a, b []byte) int {
	for i := 4; i < len(a); i++ {
		if a[i] != b[i] && (i < innodb.OffsetLSN || i >= innodb.OffsetType) {
			return i
		}
	}
	return -1
}

// TestZipStale: a page whose modification log once had no room ends with the
// same records, compressed again.
func TestZipStale(t *testing.T) {
	n := 0
	for name, cases := range readZipCases(t) {
		for _, c := range cases {
			got, err := c.replay(t, func(p *page) {
				if p.zip != nil {
					p.zip.stale = true
				}
			})
			if err != nil {
				t.Errorf("%s %v: %v", name, c.ID, err)
				continue
			}
			if !bytes.Equal(frameOf(t, &c, got), frameOf(t, &c, c.After)) {
				t.Errorf("%s %v: the frame differs", name, c.ID)
			}
			if differAt(got, c.After) >= 0 {
				n++
			}
		}
	}
	if n == 0 {
		t.Error("no page was compressed again")
	}
}

// frameOf returns the frame of a page from its type on, without what lies
// between records: that depends on when the page was compressed.
func frameOf(t *testing.T, c *zipCase, image []byte) []byte {
	p := &page{id: c.ID, space: c.space(t), image: image}
	if err := p.zipOpen(); err != nil {
		t.Errorf("%v: %v", c.ID, err)
		return nil
	}
	if err := validate(p); err != nil {
		t.Errorf("%v: %v", c.ID, err)
	}
	from, top := compact.heap, p.get(pageHeapTop)
	for _, h := range p.zipWork.origins {
		if err := p.zip.index.at(&p.zip.rec, p.frame, h.origin(), top); err != nil {
			t.Errorf("%v: %v", c.ID, err)
		}
		clear(p.frame[from : h.origin()-compactExtra-p.zip.rec.extra])
		from = h.origin() + p.zip.rec.data
	}
	clear(p.frame[from:top])
	return p.frame[innodb.OffsetType:]
}

// TestZipFieldList encodes and decodes fields of indexes. The bytes follow from
// page_zip_fields_encode of MySQL 9.7.2.
func TestZipFieldList(t *testing.T) {
	system := []mlog.Field{{Len: 6, NotNull: true}, {Len: 7, NotNull: true}}
	for _, c := range []struct {
		name  string
		index mlog.Index
		leaf  bool
		want  string
	}{
		{"runs end before DB_TRX_ID", mlog.Index{NUniq: 2, Fields: slices.Concat([]mlog.Field{{Len: 4, NotNull: true}, {Len: 2, NotNull: true}}, system,
			[]mlog.Field{{Len: 1, NotNull: true}})}, true, "\x0d\x1d\x01"},
		{"a run of at most 768 bytes", mlog.Index{NUniq: 2, Fields: []mlog.Field{{Len: 700, NotNull: true}, {Len: 69, NotNull: true}}}, true, "\x85\x79\x80\x8b\x00"},
		{"two bytes from 63 on", mlog.Index{NUniq: 2, Fields: []mlog.Field{{Len: 62}, {Len: 63}}}, true, "\x7c\x80\x7e\x00"},
		{"variable fields", mlog.Index{NUniq: 4, Fields: []mlog.Field{{}, {NotNull: true}, {Big: true}, {Big: true, NotNull: true}}}, true, "\x00\x01\x7e\x7f\x00"},
		{"NULL bits of fields that are not listed", mlog.Index{NUniq: 1, Fields: slices.Concat([]mlog.Field{{Len: 4, NotNull: true}}, system,
			[]mlog.Field{{}, {Big: true}})}, false, "\x09\x02"},
	} {
		c.index.Compact = true
		got, err := encodeFields(nil, &c.index, c.leaf)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %x, want %x (%v)", c.name, got, c.want, err)
		}
		var x zipFields
		if err := x.decode(got, c.leaf); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for list, leaf := range map[string]bool{"": true, "\x09": true, "\x00\x00\x01": false, "\x09\x01": true, "\x09\x09\x01": true, "\x80": true, "\x09\x80": true} {
		var x zipFields
		if err := x.decode([]byte(list), leaf); err == nil {
			t.Errorf("the list %x is accepted", list)
		}
	}
}
