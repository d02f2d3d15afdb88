package replay

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"hb/xbstream/innodb"
)

// store is runs of a log in memory, by groups of adjacent pages: those of one
// group lie one after the other in blocks of its own, in the log's order. So
// adding a run touches little but the end of one block, and going through all by
// page touches one group at a time: both stay in the processor's caches, however
// much the log jumps between pages.
//
// A block begins with where the group's next one is and where this one's last run
// ends, 4 bytes each; then come the runs: the page's number in the group (1 byte),
// and the run as it is put aside, too (appendRun). None is in two blocks.
type store struct {
	limits limits
	base   uint64      // the LSN that runs are counted from: the first one's
	blocks []byte      // of all groups
	groups []pageGroup // as they came
	slots  []uint32    // hash table of groups, with open addressing: 1 more than the index; a power of two
	runs   int
}

// limits are how much a store holds.
type limits struct {
	bytes  int // of blocks, unless a single run is longer
	groups int
}

// pageGroup is adjacent pages of one tablespace, and where their runs are.
type pageGroup struct {
	space, number uint32 // number: of the group in the tablespace
	first, last   uint32 // blocks: where they begin
	at, end       uint32 // of the last block: where the next run goes, and where the block ends
	runs          uint32
}

const (
	groupPages = 64
	groupSize  = 28
	slotSize   = 4

	blockHead = 8
	minBlock  = 256 // a group's first; each further one has twice the size of the one before
	maxBlock  = 8 << 10

	minSlots  = 1 << 8
	minGroups = minSlots / 4
	minBytes  = minGroups * minBlock
	maxBytes  = math.MaxInt32
)

// divide divides memory between runs and the index that finds them.
func divide(memory int64) limits {
	groups := memory / 10 / (groupSize + 4*slotSize)
	return limits{
		groups: max(minGroups, int(min(groups, maxBytes/groupSize))),
		bytes:  max(minBytes, int(min(memory/10*9, maxBytes))),
	}
}

// newStore returns a store that takes about memory bytes, once there is a run in
// it.
func newStore(memory int64) *store { return &store{limits: divide(memory)} }

// full reports whether there is no room for another run of n bytes. There always
// is for the first.
func (s *store) full(n int) bool {
	return s.runs > 0 && (len(s.groups) >= s.limits.groups || len(s.blocks)+blockHead+1+maxRunHead+n > s.limits.bytes)
}

// limit changes the limits of an empty store, and gives memory back that is beyond
// them.
func (s *store) limit(l limits) {
	if s.limits = l; cap(s.blocks) > l.bytes {
		s.blocks = nil
	}
}

// add adds a run, for which there is room.
func (s *store) add(r *Run) {
	if s.runs == 0 {
		s.begin(uint64(r.LSN))
	}
	g := s.group(uint32(r.Page.Space), uint32(r.Page.No)/groupPages)
	var head [maxRunHead]byte
	h := appendRun(head[:0], r, s.base)
	n := 1 + len(h) + len(r.Records)
	if int(g.end-g.at) < n {
		s.block(g, n)
	}
	b := s.blocks[g.at : int(g.at)+n]
	b[0] = byte(uint32(r.Page.No) % groupPages)
	copy(b[1+copy(b[1:], h):], r.Records)
	g.at += uint32(n)
	g.runs++
	s.runs++
}

// begin gets memory, if there was no run before. Memory that is never touched
// costs nothing, growing would cost twice.
func (s *store) begin(lsn uint64) {
	s.base = lsn
	if s.blocks == nil {
		s.blocks = make([]byte, 0, s.limits.bytes)
		s.groups = make([]pageGroup, 0, s.limits.groups)
		s.slots = make([]uint32, minSlots)
	}
}

// group returns the group of that number in a tablespace. A new one has no block.
func (s *store) group(space, number uint32) *pageGroup {
	slot := s.slot(space, number)
	if *slot != 0 {
		return &s.groups[*slot-1]
	}
	s.groups = append(s.groups, pageGroup{space: space, number: number})
	*slot = uint32(len(s.groups))
	if len(s.groups) > len(s.slots)/4*3 {
		s.slots = make([]uint32, 2*len(s.slots))
		for i, g := range s.groups {
			*s.slot(g.space, g.number) = uint32(i + 1)
		}
	}
	return &s.groups[len(s.groups)-1]
}

// slot returns the place of a group in the hash table, which is 0 if there is
// none yet.
func (s *store) slot(space, number uint32) *uint32 {
	const spread = 0x9e3779b97f4a7c15 // 2^64 / the golden ratio
	mask := len(s.slots) - 1
	key := uint64(space)<<32 | uint64(number)
	for i := int(key*spread>>32) & mask; ; i = (i + 1) & mask {
		slot := &s.slots[i]
		if *slot == 0 {
			return slot
		}
		if g := &s.groups[*slot-1]; g.space == space && g.number == number {
			return slot
		}
	}
}

// block begins another block of a group, for n bytes at least.
func (s *store) block(g *pageGroup, n int) {
	size, at := minBlock, uint32(len(s.blocks))
	if g.runs == 0 {
		g.first = at
	} else {
		size = min(maxBlock, 2*int(g.end-g.last))
		binary.NativeEndian.PutUint32(s.blocks[g.last:], at)
		binary.NativeEndian.PutUint32(s.blocks[g.last+4:], g.at)
	}
	size = max(blockHead+n, min(size, s.limits.bytes-len(s.blocks)))
	s.blocks = slices.Grow(s.blocks, size)[:len(s.blocks)+size]
	g.last, g.at, g.end = at, at+blockHead, at+uint32(size)
}

// clear forgets all runs.
func (s *store) clear() {
	if s.blocks, s.groups, s.runs = s.blocks[:0], s.groups[:0], 0; cap(s.blocks) > s.limits.bytes {
		s.blocks = nil // frees the memory of a long run
	}
	clear(s.slots)
}

// sorted begins to go through the runs in memory, by page. After that the store
// can only be cleared.
func (s *store) sorted() *memoryPart {
	slices.SortFunc(s.groups, func(a, b pageGroup) int {
		return cmp.Or(cmp.Compare(a.space, b.space), cmp.Compare(a.number, b.number))
	})
	return &memoryPart{store: s, todo: s.groups}
}

// count adds the number of runs of each tablespace.
func (s *store) count(spaces map[innodb.SpaceID]uint64) {
	for i := range s.groups {
		spaces[innodb.SpaceID(s.groups[i].space)] += uint64(s.groups[i].runs)
	}
}

// memoryPart goes through the runs in a store, by page.
type memoryPart struct {
	store *store
	todo  []pageGroup // not begun
	now   pageGroup   // the one that runs are of

	found []located // its runs as they came
	runs  []located // and by page
	next  int       // of runs
}

// located is where a run is in the store's blocks, after its page's number.
type located struct {
	page uint32 // in its group
	size uint32
	at   uint32
}

// page returns where the next page's runs are, and whose they are; none at the end.
func (m *memoryPart) page() (space, page uint32, runs []located) {
	for m.next == len(m.runs) {
		if len(m.todo) == 0 {
			return 0, 0, nil
		}
		m.now, m.todo = m.todo[0], m.todo[1:]
		m.sort()
	}
	first := m.next
	for m.next < len(m.runs) && m.runs[m.next].page == m.runs[first].page {
		m.next++
	}
	runs = m.runs[first:m.next]
	return m.now.space, m.now.number*groupPages + runs[0].page, runs
}

func (m *memoryPart) run(l located) []byte { return m.store.blocks[l.at : l.at+l.size] }

// sort brings the runs of the group that is due into the order of their pages,
// and those of a page into the log's. What a later run of the same page makes
// meaningless is left out.
func (m *memoryPart) sort() {
	var count, void, place [groupPages]uint32
	m.find(func(l located, kind Kind) {
		if kind.begins() {
			void[l.page] = count[l.page]
		}
		count[l.page]++
	})
	total := uint32(0)
	for page := range count {
		place[page] = total
		total += count[page] - void[page]
	}
	m.runs, m.next = slices.Grow(m.runs[:0], int(total))[:total], 0
	for _, l := range m.found {
		if void[l.page] > 0 {
			void[l.page]--
			continue
		}
		m.runs[place[l.page]] = l
		place[l.page]++
	}
}

// find finds the runs of the group that is due.
func (m *memoryPart) find(see func(l located, kind Kind)) {
	m.found = m.found[:0]
	blocks := m.store.blocks
	for at := m.now.first; ; {
		next, end := binary.NativeEndian.Uint32(blocks[at:]), binary.NativeEndian.Uint32(blocks[at+4:])
		last := at == m.now.last
		if last {
			end = m.now.at
		}
		for at += blockHead; at < end; {
			size, kind := measure(blocks[at+1 : end])
			l := located{page: uint32(blocks[at]), at: at + 1, size: uint32(size)}
			see(l, kind)
			m.found = append(m.found, l)
			at += 1 + l.size
		}
		if last {
			return
		}
		at = next
	}
}
