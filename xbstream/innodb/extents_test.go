package innodb_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// TestUsage reads descriptors that were laid out by hand, for every page size.
func TestUsage(t *testing.T) {
	for _, c := range []struct {
		flags  uint32
		pages  int // of an extent
		extent int // number of the extent that is described
	}{
		{flags: 3 << 6, pages: 256, extent: 3},
		{flags: 0, pages: 64, extent: 2},
		{flags: 7 << 6, pages: 64, extent: 1000},
		{flags: 1 | 1<<1 | 1<<5, pages: 64, extent: 5}, // KEY_BLOCK_SIZE=1
		{flags: 1 | 4<<1 | 1<<5, pages: 64, extent: 300},
		{flags: 1<<4 | 5, pages: 64, extent: 256}, // full_crc32, on the second descriptor page
	} {
		space, err := innodb.ParseFlags(c.flags)
		if err != nil {
			t.Fatal(err)
		}
		made := innodbtest.Tablespace{Flags: c.flags, Pages: 1 << 20, LSN: 1, Fill: func(page []byte, no innodb.PageNo) {
			if no == 0 {
				binary.BigEndian.PutUint32(page[innodb.OffsetFSPLimit:], 1<<19)
			}
			perPage := space.Physical / c.pages // extents
			if int(no) == c.extent/perPage*space.Physical {
				innodbtest.Extent(page, c.extent%perPage, 4, c.pages, func(i int) bool { return i == 1 || i == c.pages-1 })
			}
		}}
		use, err := innodb.NewUsage(&space, func(b []byte, no innodb.PageNo) error { copy(b, made.Page(no)); return nil })
		if err != nil {
			t.Fatal(err)
		}
		var used []int
		first := c.extent * c.pages
		for no := first - c.pages; no < first+2*c.pages; no++ {
			in, err := use.InUse(innodb.PageNo(no))
			if err != nil {
				t.Fatal(err)
			}
			if in && no%space.Physical != 0 {
				used = append(used, no-first)
			}
		}
		if want := []int{1, c.pages - 1}; !slices.Equal(used, want) {
			t.Errorf("flags %#x: pages %v are in use, want %v", c.flags, used, want)
		}
		if in, err := use.InUse(1 << 19); in || err != nil {
			t.Errorf("flags %#x: a page past the limit: %v, %v", c.flags, in, err)
		}
	}
}
