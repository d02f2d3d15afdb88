package redo

import (
	"testing"

	"hb/xbstream/innodb"
)

// TestTouchedPages: every page that was added is found, and of those that were not
// few are taken for one.
func TestTouchedPages(t *testing.T) {
	var touched touchedPages
	page := func(i uint32) innodb.PageID {
		return innodb.PageID{Space: innodb.SpaceID(i % 97), No: innodb.PageNo(i / 97)}
	}
	const n = 1_000_000
	for i := range uint32(n) {
		touched.add(page(i))
	}
	wrong := 0
	for i := range uint32(n) {
		if !touched.has(page(i)) {
			t.Fatalf("%v is missing", page(i))
		}
		if touched.has(page(n + i)) {
			wrong++
		}
	}
	if wrong > n/100 {
		t.Errorf("%d of %d pages that were not added are there", wrong, n)
	}
}

// TestInfoOffsets: where 9.7.4 put encryption information into page 0 of files, by
// innodb_page_size and the size of the page. Extents of small pages have more of these, so
// that their descriptors are longer.
func TestInfoOffsets(t *testing.T) {
	for name, at := range map[string]int{
		"4 KiB": 1558, "4 KiB, compressed to 1 KiB": 502, "8 KiB": 3734, "16 KiB": 10390, "16 KiB, compressed to 8 KiB": 5270,
	} {
		if !infoOffsets()[at] {
			t.Errorf("%s: hb does not look at %d", name, at)
		}
	}
	if n := len(infoOffsets()); n > 20 {
		t.Errorf("hb looks at %d places", n)
	}
}
