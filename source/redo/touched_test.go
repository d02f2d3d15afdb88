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

// TestInfoOffsets: where page 0 has encryption information, by the size of the page and of
// innodb_page_size: 150 bytes, and 40 for each extent that the page describes.
func TestInfoOffsets(t *testing.T) {
	known := make(map[uint16]bool)
	for _, logical := range []int{4, 8, 16, 32, 64} { // KiB; an extent is 1 MiB, and has 64 pages at least
		extent := max(1024/logical, 64)
		for physical := 1; physical <= logical; physical *= 2 {
			known[uint16(150+40*physical*1024/extent)] = true
		}
	}
	if !known[10390] || !known[5270] { // seen in files of 9.7.4
		t.Error("the arithmetic is wrong")
	}
	for at := range uint16(50000) {
		if isInfoOffset(at) != known[at] && (known[at] || at > 310) {
			t.Errorf("%d: %v", at, isInfoOffset(at))
		}
	}
}
