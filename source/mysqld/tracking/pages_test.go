package tracking

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/innodb"
)

func set(ids ...uint64) *Pages { return newPages(ids) }

func all(first, end innodb.PageNo) innodb.PageRange { return innodb.PageRange{First: first, End: end} }

func TestPagesOf(t *testing.T) {
	p := set(pageKey(5, 9), pageKey(4, 1<<32-1), pageKey(5, 0), pageKey(5, 9), pageKey(6, 0), pageKey(5, 3), pageKey(0xFFFFFFFF, 7))
	for _, c := range []struct {
		space innodb.SpaceID
		in    innodb.PageRange
		want  []innodb.PageNo
	}{
		{5, all(0, 100), []innodb.PageNo{0, 3, 9}},
		{5, all(3, 9), []innodb.PageNo{3}},
		{5, all(4, 9), nil},
		{4, all(0, innodb.PageNull), nil}, // page numbers end before FIL_NULL
		{6, all(0, 1), []innodb.PageNo{0}},
		{7, all(0, 1), nil},
		{0xFFFFFFFF, all(0, 8), []innodb.PageNo{7}},
	} {
		if got := slices.Collect(p.Of(c.space, c.in)); !slices.Equal(got, c.want) {
			t.Errorf("pages of %d in %v: %v, want %v", c.space, c.in, got, c.want)
		}
	}
	if p.Len() != 6 || !p.Has(innodb.PageID{Space: 5, No: 3}) || p.Has(innodb.PageID{Space: 5, No: 4}) {
		t.Errorf("%d pages", p.Len())
	}
}

func TestRuns(t *testing.T) {
	r := func(first, end innodb.PageNo) innodb.PageRange { return all(first, end) }
	for _, c := range []struct {
		what string
		nos  []innodb.PageNo
		in   innodb.PageRange
		want []innodb.PageRange
	}{
		{"nothing listed: page 0", nil, r(0, 50), []innodb.PageRange{r(0, 1)}},
		{"a further file of the system tablespace has none", nil, r(50, 90), nil},
		{"an empty file", []innodb.PageNo{3}, r(0, 0), nil},
		{"neighbours", []innodb.PageNo{0, 1, 2, 3}, r(0, 50), []innodb.PageRange{r(0, 4)}},
		{"a gap of one between two", []innodb.PageNo{10, 12}, r(5, 50), []innodb.PageRange{r(10, 13)}},
		{"a gap of two between two", []innodb.PageNo{10, 13}, r(5, 50), []innodb.PageRange{r(10, 11), r(13, 14)}},
		{"a gap of two after three", []innodb.PageNo{10, 11, 12, 15}, r(5, 50), []innodb.PageRange{r(10, 16)}},
		{"beyond the end", []innodb.PageNo{8, 9, 10}, r(5, 9), []innodb.PageRange{r(8, 9)}},
	} {
		ids := []uint64{pageKey(6, 1), pageKey(8, 1)}
		for _, no := range c.nos {
			ids = append(ids, pageKey(7, no))
		}
		if got := slices.Collect(set(ids...).Runs(7, c.in)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

// TestRunsHoldAll draws lists of every density: each listed page is in one run, runs
// ascend, and they have at most one and a half times the pages.
func TestRunsHoldAll(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		pages := innodb.PageNo(1 + rnd.IntN(3000))
		density := rnd.Float64()
		want := map[innodb.PageNo]bool{0: true}
		var ids []uint64
		for no := innodb.PageNo(0); no < pages; no++ {
			if rnd.Float64() < density {
				ids = append(ids, pageKey(1, no), pageKey(1, no), pageKey(2, no))
				want[no] = true
			}
		}
		rnd.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		var read int
		last := innodb.PageNo(0)
		listed := len(want)
		for run := range set(ids...).Runs(1, all(0, pages)) {
			if run.First >= run.End || run.End > pages || run.First < last {
				t.Fatalf("seed %d: run %v of %d pages after %d", seed, run, pages, last)
			}
			last = run.End
			for no := run.First; no < run.End; no++ {
				delete(want, no)
				read++
			}
		}
		if len(want) > 0 || 2*read > 3*listed {
			t.Fatalf("seed %d: %d pages are in no run; %d read for %d", seed, len(want), read, listed)
		}
	}
}

// TestRunsEnd: a reader that stops is not given more.
func TestRunsEnd(t *testing.T) {
	p := set(pageKey(1, 0), pageKey(1, 10), pageKey(1, 20), pageKey(1, 30))
	for stop := range 4 {
		n := 0
		for range p.Runs(1, all(0, 40)) {
			if n++; n > stop {
				break
			}
		}
		if n != stop+1 {
			t.Errorf("stopped after %d: %d", stop, n)
		}
	}
}

func TestReadIDs(t *testing.T) {
	var b bytes.Buffer
	for i := range uint32(20000) {
		b.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 4294967278), i))
	}
	ids, err := readIDs(bytes.NewReader(b.Bytes()), 20000)
	if err != nil || ids[19999] != pageKey(4294967278, 19999) || cap(ids) != 20000 {
		t.Fatalf("%d entries, %v", len(ids), err)
	}
	if _, err := readIDs(bytes.NewReader(b.Bytes()[:b.Len()-1]), 20000); err == nil || !strings.Contains(err.Error(), "entry 19999") {
		t.Errorf("truncated: %v", err)
	}
}
