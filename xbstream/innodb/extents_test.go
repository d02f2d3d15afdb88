package innodb_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"hb/xbstream/innodb"
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
		page := func(no innodb.PageNo) []byte {
			b := make([]byte, space.Physical)
			binary.BigEndian.PutUint32(b[innodb.OffsetPageNo:], uint32(no))
			if no == 0 {
				binary.BigEndian.PutUint32(b[46:], 1<<20)
				binary.BigEndian.PutUint32(b[50:], 1<<19)
			}
			perPage := space.Physical / c.pages // extents
			if int(no) == c.extent/perPage*space.Physical {
				size := 24 + c.pages/4
				x := b[150+c.extent%perPage*size:][:size]
				x[23] = 4 // FSEG
				for i := range x[24:] {
					x[24+i] = 0xFF
				}
				x[24] = 0b11_11_10_11     // page 1
				x[size-1] = 0b10_11_11_11 // the last
			}
			space.SetLSN(b, 1)
			space.Stamp(b, innodb.ChecksumCRC32)
			return b
		}
		use, err := innodb.NewUsage(&space, func(b []byte, no innodb.PageNo) error { copy(b, page(no)); return nil })
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
