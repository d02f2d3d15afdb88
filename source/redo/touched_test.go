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
