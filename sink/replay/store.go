package replay

import (
	"cmp"
	"math"
	"slices"
)

// store is runs of a log in memory: an entry for each, in the log's order, and
// the records of all one behind the other. The entries of one page are chained
// from the last one to the first, so that a new one needs no look at another; a
// hash table knows where each chain's last is. When one of the three is full, all
// are put aside.
type store struct {
	limits  limits
	entries []entry
	records []byte
	chains  chains
}

// limits are how much a store holds.
type limits struct {
	entries, records, pages int
}

// minEntries is how many entries are kept in memory however small the limit.
const minEntries = 1 << 10

// divide divides memory between entries, records and chains as they are in real
// logs: a run has some 80 bytes of records, and a page more than one run.
func divide(memory int64) limits {
	entries := max(minEntries, int(min(memory*3/10, math.MaxInt32)/entrySize))
	pages := minEntries
	for int64(2*pages)*chainSize <= memory/10 && pages < entries {
		pages *= 2
	}
	return limits{entries: entries, pages: pages, records: max(minEntries, int(min(memory*6/10, math.MaxInt32)))}
}

// newStore returns a store that takes about memory bytes, once there is a run in
// it.
func newStore(memory int64) *store { return &store{limits: divide(memory)} }

// full reports whether there is no room for another run of n bytes. There always
// is for the first.
func (s *store) full(n int) bool {
	return len(s.entries) > 0 &&
		(len(s.entries) == s.limits.entries || len(s.records)+n > s.limits.records || s.chains.full())
}

// add adds a run, for which there is room.
func (s *store) add(r *Run) {
	if s.entries == nil {
		// Memory that is never touched costs nothing, growing would cost twice.
		s.entries = make([]entry, 0, s.limits.entries)
		s.records = make([]byte, 0, s.limits.records)
		s.chains = newChains(s.limits.pages)
	}
	e := pack(r)
	e.at = uint32(len(s.records))
	s.records = append(s.records, r.Records...)
	c := s.chains.of(e.space, e.page)
	e.before = c.last
	if e.kind.begins() { // all before it is meaningless
		e.before = none
	}
	c.last = uint32(len(s.entries))
	s.entries = append(s.entries, e)
}

// clear forgets all runs.
func (s *store) clear() {
	s.entries, s.records = s.entries[:0], s.records[:0]
	s.chains.clear()
}

// sorted begins to go through what is in memory, by page. After that the store
// can only be cleared.
func (s *store) sorted() *memoryPart {
	return &memoryPart{store: s, todo: s.chains.sorted()}
}

// memoryPart goes through the entries in a store, by page.
type memoryPart struct {
	store *store
	todo  []chain  // not begun
	page  []uint32 // entries of a page, the next one last
}

// next returns the next entry and its records.
func (m *memoryPart) next() (*entry, []byte, error) {
	if len(m.page) == 0 {
		if len(m.todo) == 0 {
			return nil, nil, nil
		}
		for i := m.todo[0].last; i != none; i = m.store.entries[i].before {
			m.page = append(m.page, i)
		}
		m.todo = m.todo[1:]
	}
	e := &m.store.entries[m.page[len(m.page)-1]]
	m.page = m.page[:len(m.page)-1]
	return e, m.store.records[e.at:][:e.size], nil
}

// none is no entry.
const none = math.MaxUint32

// chain is the entries of one page: the last one's index.
type chain struct {
	space, page uint32
	last        uint32
}

const chainSize = 12

// chains is a hash table of chains, with open addressing: a Go map would cost
// several times the memory, and know no limit.
type chains struct {
	slots []chain // a power of two; last is none where there is no chain
	used  int
}

func newChains(n int) chains {
	c := chains{slots: make([]chain, n)}
	c.clear()
	return c
}

// full reports whether searching becomes slow.
func (c *chains) full() bool { return c.used > len(c.slots)/4*3 }

// of returns a page's chain; a new one is none until its last is set.
func (c *chains) of(space, page uint32) *chain {
	const spread = 0x9e3779b97f4a7c15 // 2^64 / the golden ratio
	mask := len(c.slots) - 1
	key := uint64(space)<<32 | uint64(page)
	for i := int(key*spread>>32) & mask; ; i = (i + 1) & mask {
		s := &c.slots[i]
		if s.last == none {
			s.space, s.page = space, page
			c.used++
			return s
		}
		if s.space == space && s.page == page {
			return s
		}
	}
}

// sorted returns all chains in the order of their pages. The table itself is
// sorted, so that it can only be cleared afterwards.
func (c *chains) sorted() []chain {
	found := c.slots[:0]
	for _, s := range c.slots {
		if s.last != none {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b chain) int {
		return cmp.Or(cmp.Compare(a.space, b.space), cmp.Compare(a.page, b.page))
	})
	return found
}

func (c *chains) clear() {
	for i := range c.slots {
		c.slots[i].last = none
	}
	c.used = 0
}
