package replay

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"

	"hb/source/innodb"
	"hb/stream/disk"
)

// Plan gathers the runs of a log. The zero value is not usable: see NewPlan.
//
// In memory it holds an entry for each run, in the log's order, and the
// records of all runs one behind the other. The entries of one page are chained;
// a hash table knows where each chain begins and ends. When one of the three
// is full, they are put aside.
type Plan struct {
	dir     disk.Dir
	limits  limits
	entries []entry
	records []byte
	chains  chains
	spill   *spillFile // nil until the first time that entries did not fit
	trims   map[innodb.SpaceID][]Trim
	gone    map[innodb.SpaceID]innodb.LSN // by Discard
	spaces  map[innodb.SpaceID]uint64     // runs added
	begun   map[innodb.SpaceID]bool       // whose page 0 the log begins
	runs    uint64
}

// Trim is the truncation of a tablespace in the log. What the log did before
// to the pages that were cut off does not matter any more.
type Trim struct {
	LSN  innodb.LSN    // where the mini-transaction begins
	Page innodb.PageNo // the new size
	All  bool          // the remaining pages were begun anew too: undo tablespaces
}

// limits are how much a Plan holds in memory.
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

// NewPlan returns an empty plan that keeps at most about memory bytes of runs,
// or one run, and puts the rest into a temporary file in dir, without a name.
// Close it.
func NewPlan(dir disk.Dir, memory int64) *Plan {
	return &Plan{
		dir: dir, limits: divide(memory),
		trims: make(map[innodb.SpaceID][]Trim), spaces: make(map[innodb.SpaceID]uint64),
		gone: make(map[innodb.SpaceID]innodb.LSN), begun: make(map[innodb.SpaceID]bool),
	}
}

// Add adds a run. Runs come in the order of the log.
func (p *Plan) Add(r *Run) error {
	if len(r.Records) > maxRun {
		return fmt.Errorf("%d bytes of records for page %d of tablespace %d at LSN %d", len(r.Records), r.Page.No, r.Page.Space, r.LSN)
	}
	if p.entries == nil {
		// Memory that is never touched costs nothing, growing would cost twice.
		p.entries = make([]entry, 0, p.limits.entries)
		p.records = make([]byte, 0, p.limits.records)
		p.chains = newChains(p.limits.pages)
	}
	if len(p.entries) == p.limits.entries || len(p.records)+len(r.Records) > p.limits.records || p.chains.full() {
		if err := p.putAside(); err != nil {
			return err
		}
	}
	e := pack(r)
	e.at, e.next = uint32(len(p.records)), none
	p.records = append(p.records, r.Records...)
	p.chain(&e)
	p.entries = append(p.entries, e)
	p.spaces[r.Page.Space]++
	if r.Page.No == 0 && (r.Kind == Init || r.Kind == InitOlder) {
		p.begun[r.Page.Space] = true
	}
	p.runs++
	return nil
}

// chain puts an entry that is about to be appended at the end of its page's
// chain. One that begins the page anew makes all before it meaningless.
func (p *Plan) chain(e *entry) {
	i := uint32(len(p.entries))
	c := p.chains.of(e.space, e.page)
	if c.first == none || e.kind.begins() {
		c.first = i
	} else {
		p.entries[c.last].next = i
	}
	c.last = i
}

// Trim records a truncation.
func (p *Plan) Trim(space innodb.SpaceID, t Trim) {
	p.trims[space] = append(p.trims[space], t)
}

// Discard says that what the log does to a tablespace before an LSN does not
// matter any more: its file was removed, or made anew.
func (p *Plan) Discard(space innodb.SpaceID, before innodb.LSN) {
	p.gone[space] = max(p.gone[space], before)
}

// Trims returns the truncations of a tablespace, oldest first.
func (p *Plan) Trims(space innodb.SpaceID) []Trim { return p.trims[space] }

// Runs returns the number of runs added.
func (p *Plan) Runs() uint64 { return p.runs }

// Spilled returns how many bytes went to the temporary file.
func (p *Plan) Spilled() int64 {
	if p.spill == nil {
		return 0
	}
	return p.spill.size
}

// putAside appends what is in memory to the temporary file, by page.
func (p *Plan) putAside() error {
	if len(p.entries) == 0 {
		return nil
	}
	if p.spill == nil {
		f, err := newSpillFile(p.dir)
		if err != nil {
			return err
		}
		p.spill = f
	}
	if err := p.spill.write(p.sorted()); err != nil {
		return err
	}
	p.entries, p.records = p.entries[:0], p.records[:0]
	p.chains.clear()
	return nil
}

// sorted begins to go through what is in memory, by page.
func (p *Plan) sorted() *memoryPart {
	return &memoryPart{plan: p, chains: p.chains.sorted(), at: none}
}

// memoryPart goes through the entries in a Plan's memory, by page.
type memoryPart struct {
	plan   *Plan
	chains []chain // not begun
	at     uint32  // the next entry, or none: the next chain's first
}

// next returns the next entry that matters and its records.
func (m *memoryPart) next() (*entry, []byte, error) {
	for {
		if m.at == none {
			if len(m.chains) == 0 {
				return nil, nil, nil
			}
			m.at, m.chains = m.chains[0].first, m.chains[1:]
		}
		e := &m.plan.entries[m.at]
		m.at = e.next
		if !m.plan.trimmed(e) {
			return e, m.plan.records[e.at:][:e.size], nil
		}
	}
}

// matters returns the part of one page's entries from the last one on that
// makes earlier ones meaningless.
func (p *Plan) matters(group []entry) []entry {
	for len(group) > 0 && p.trimmed(&group[0]) {
		group = group[1:]
	}
	for i := len(group) - 1; i > 0; i-- {
		if group[i].kind.begins() {
			return group[i:]
		}
	}
	return group
}

func (p *Plan) trimmed(e *entry) bool {
	if e.lsn < uint64(p.gone[innodb.SpaceID(e.space)]) {
		return true
	}
	for _, t := range p.trims[innodb.SpaceID(e.space)] {
		if e.lsn < uint64(t.LSN) && (t.All || e.page >= uint32(t.Page)) {
			return true
		}
	}
	return false
}

// Close releases the temporary file.
func (p *Plan) Close() error {
	p.entries, p.records, p.chains = nil, nil, chains{}
	if p.spill == nil {
		return nil
	}
	err := p.spill.f.Close()
	p.spill = nil
	return err
}

// Spaces returns the tablespaces that runs were added of, with their number.
func (p *Plan) Spaces() map[innodb.SpaceID]uint64 { return p.spaces }

// Begins reports whether the log begins a tablespace: its page 0.
func (p *Plan) Begins(id innodb.SpaceID) bool { return p.begun[id] }

// none is no entry.
const none = math.MaxUint32

// chain is the entries of one page: the first and the last one's index.
type chain struct {
	space, page uint32
	first, last uint32
}

const chainSize = 16

// chains is a hash table of chains, with open addressing: a Go map would cost
// several times the memory, and know no limit.
type chains struct {
	slots []chain // a power of two; first is none where there is no chain
	used  int
}

func newChains(n int) chains {
	c := chains{slots: make([]chain, n)}
	c.clear()
	return c
}

// full reports whether searching becomes slow.
func (c *chains) full() bool { return c.used > len(c.slots)/4*3 }

// of returns a page's chain; a new one is empty until its first is set.
func (c *chains) of(space, page uint32) *chain {
	const spread = 0x9e3779b97f4a7c15 // 2^64 / the golden ratio
	mask := len(c.slots) - 1
	key := uint64(space)<<32 | uint64(page)
	for i := int(key*spread>>32) & mask; ; i = (i + 1) & mask {
		s := &c.slots[i]
		if s.first == none {
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
		if s.first != none {
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
		c.slots[i].first = none
	}
	c.used = 0
}

// SpillName is the temporary file's name for the moment in which it has one.
const SpillName = "hb-spill"

// spillFile holds sequences of entries with their records, each by page, one
// behind the other.
type spillFile struct {
	f     disk.File
	size  int64
	parts []int64 // where each sequence begins
	buf   []byte
}

func newSpillFile(dir disk.Dir) (*spillFile, error) {
	f, err := dir.OpenFile(SpillName, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("creating a temporary file for redo records: %w", err)
	}
	// Without a name it cannot be left behind.
	if err := dir.Remove(SpillName); err != nil {
		return nil, errors.Join(fmt.Errorf("unlinking the temporary file for redo records: %w", err), f.Close())
	}
	return &spillFile{f: f}, nil
}

// spillBuffer is about how many bytes are written to the temporary file at a
// time.
const spillBuffer = 1 << 20

// write appends a sequence.
func (s *spillFile) write(m *memoryPart) error {
	s.parts = append(s.parts, s.size)
	for {
		e, records, err := m.next()
		if err != nil {
			return err
		}
		if e == nil {
			return s.flush()
		}
		s.buf = append(appendEntry(s.buf, e), records...)
		if len(s.buf) >= spillBuffer {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
}

func (s *spillFile) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	if _, err := s.f.WriteAt(s.buf, s.size); err != nil {
		return fmt.Errorf("putting redo records aside: %w", err)
	}
	s.size += int64(len(s.buf))
	s.buf = s.buf[:0]
	return nil
}
