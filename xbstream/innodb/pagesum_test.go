package innodb_test

import (
	"encoding/binary"
	"encoding/json"
	"math/rand/v2"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// sumPages makes the pages of a tablespace for sums of pages.
func sumPages(flags uint32, sum innodb.Checksum, lsn innodb.LSN) (innodb.Space, [][]byte) {
	table := innodbtest.Tablespace{ID: 7, Flags: flags, Pages: 6, LSN: lsn, Sum: sum, Fill: func(page []byte, no innodb.PageNo) {
		binary.BigEndian.PutUint64(page[100:], uint64(no)*977)
	}}
	space, err := innodb.ParseFlags(flags)
	if err != nil {
		panic(err)
	}
	space.ID = 7
	var pages [][]byte
	for no := range innodb.PageNo(6) {
		pages = append(pages, table.Page(no))
	}
	return space, pages
}

func sumOf(space *innodb.Space, pages [][]byte) (s innodb.PageSum) {
	for no, page := range pages {
		s.Toggle(innodb.PageNo(no), page, space)
	}
	return s
}

// TestPageSum: a sum is one of a set of pages, and differs if any of them is another one,
// whatever their format and checksum.
func TestPageSum(t *testing.T) {
	for name, flags := range spaces {
		for _, algorithm := range []innodb.Checksum{innodb.ChecksumCRC32, innodb.ChecksumNone} {
			space, pages := sumPages(flags, algorithm, 5000)
			want := sumOf(&space, pages)
			var shuffled innodb.PageSum
			for _, no := range rand.New(rand.NewPCG(1, 2)).Perm(len(pages)) {
				shuffled.Toggle(innodb.PageNo(no), pages[no], &space)
			}
			shuffled.Toggle(9, make([]byte, space.Physical), &space) // an all-zero page is none
			if shuffled != want || want == 0 {
				t.Errorf("%s, %d: in another order %v, not %v", name, algorithm, shuffled, want)
			}
			for no, page := range pages {
				without := append(append([][]byte{}, pages[:no]...), make([]byte, space.Physical))
				without = append(without, pages[no+1:]...)
				out := want
				out.Toggle(innodb.PageNo(no), page, &space)
				if out != sumOf(&space, without) || out == want {
					t.Errorf("%s, %d: without page %d: %v", name, algorithm, no, out)
				}
			}
			other := func(what string, change func(pages [][]byte)) {
				t.Helper()
				_, changed := sumPages(flags, algorithm, 5000)
				if change(changed); sumOf(&space, changed) == want {
					t.Errorf("%s, %d: %s gives the same sum", name, algorithm, what)
				}
			}
			other("swapping two pages", func(p [][]byte) { p[2], p[3] = p[3], p[2] })
			other("another LSN", func(p [][]byte) { innodbtest.Seal(p[4], flags, 5001, algorithm) })
			other("the same LSN of another server", func(p [][]byte) {
				p[4][200] = 9
				innodbtest.Seal(p[4], flags, 5000, algorithm)
			})
			other("a page that is zero", func(p [][]byte) { clear(p[1]) })
			other("one page more", func(p [][]byte) { p[0] = append(p[0][:0:0], p[1]...) })
		}
	}
}

// TestPageSumFlushLSN: the flush LSN in page 0 changes without the page's LSN and without
// its checksum, where that does not cover it, and so without the sum.
func TestPageSumFlushLSN(t *testing.T) {
	for _, algorithm := range []innodb.Checksum{innodb.ChecksumCRC32, innodb.ChecksumNone} {
		space, pages := sumPages(0x21, algorithm, 5000)
		want := sumOf(&space, pages)
		binary.BigEndian.PutUint64(pages[0][innodb.OffsetFlushLSN:], 12345)
		if got := sumOf(&space, pages); got != want {
			t.Errorf("%d: %v, not %v", algorithm, got, want)
		}
	}
}

// TestPageSumPacked: a page_compressed page of a full_crc32 tablespace has its checksum
// where its stored bytes end.
func TestPageSumPacked(t *testing.T) {
	space, err := innodb.ParseFlags(0x15 | 1<<5)
	if err != nil {
		t.Fatal(err)
	}
	page := make([]byte, space.Physical)
	binary.BigEndian.PutUint64(page[innodb.OffsetLSN:], 5000)
	binary.BigEndian.PutUint16(page[innodb.OffsetType:], 0x8000|3)
	var before, after innodb.PageSum
	before.Toggle(1, page, &space)
	page[3*256-1] = 1
	after.Toggle(1, page, &space)
	if before == after {
		t.Error("another checksum gives the same sum")
	}
}

func TestPageSumText(t *testing.T) {
	text, err := json.Marshal(map[string]innodb.PageSum{"s": 0x0123456789abcdef})
	if want := `{"s":"0123456789abcdef"}`; err != nil || string(text) != want {
		t.Fatalf("%s, %v", text, err)
	}
	var back map[string]innodb.PageSum
	if err := json.Unmarshal(text, &back); err != nil || back["s"] != 0x0123456789abcdef {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{`""`, `"123456789abcdef"`, `"0123456789abcdeg"`, `"00123456789abcdef"`, `1`} {
		var s innodb.PageSum
		if err := json.Unmarshal([]byte(bad), &s); err == nil {
			t.Errorf("%s was taken for %v", bad, s)
		}
	}
}
