package redo

import "hb/xbstream/innodb"

// touchedBits is the size of touchedPages: 4 MiB. With a million pages in it, less than
// one page in a hundred that is not is taken for one that is (TestTouchedPages).
const touchedBits = 1 << 25

// touchedPages remembers which pages the log has records for, in a Bloom filter: of a
// page that is in it has is true, and of another one it mostly is false. The two bits
// of a page are in one cache line.
type touchedPages struct {
	lines  [touchedBits / 512][8]uint64
	recent [1 << 10]uint64 // added lately, as most records are of few pages: key+1, by hash
}

// place returns the line of a page, two bits in it, and its place in recent.
func place(p innodb.PageID) (key, line, first, second, slot uint64) {
	key = uint64(p.Space)<<32 | uint64(p.No)
	h := key * 0x9E3779B97F4A7C15
	h ^= h >> 29
	h *= 0xD6E8FEB86659FD93
	return key, h >> 48 & (touchedBits/512 - 1), h & 511, h >> 9 & 511, h >> 18 & (1<<10 - 1)
}

func (t *touchedPages) add(p innodb.PageID) {
	key, line, first, second, slot := place(p)
	if t.recent[slot] == key+1 {
		return
	}
	t.recent[slot] = key + 1
	l := &t.lines[line]
	l[first/64] |= 1 << (first % 64)
	l[second/64] |= 1 << (second % 64)
}

func (t *touchedPages) has(p innodb.PageID) bool {
	_, line, first, second, _ := place(p)
	l := &t.lines[line]
	return l[first/64]>>(first%64)&1 == 1 && l[second/64]>>(second%64)&1 == 1
}
