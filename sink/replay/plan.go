package replay

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"

	"hb/source/innodb"
	"hb/stream/disk"
)

// Plan gathers the runs of a log. The zero value is not usable: see NewPlan.
//
// It has memory for runs twice. When one half is full, a goroutine puts it aside
// while the other one is filled.
type Plan struct {
	voids
	dir    disk.Dir
	limits limits
	now    *gathered // being filled; nil before the first run
	spill  *spillFile
	spare  *gathered                 // empty
	aside  *gathered                 // being put aside
	put    chan error                // how that ended
	spaces map[innodb.SpaceID]uint64 // runs added
	begun  map[innodb.SpaceID]bool   // whose page 0 the log begins
	runs   uint64
	size   int64 // of their records
}

// gathered is runs in memory: an entry for each, in the log's order, and the
// records of all, one behind the other. The entries of one page are chained from
// the last one to the first, so that a new one needs no look at another; a hash
// table knows where each chain's last is.
type gathered struct {
	entries []entry
	records []byte
	chains  chains
}

// voids is what makes runs meaningless that came before it.
type voids struct {
	trims map[innodb.SpaceID][]Trim
	gone  map[innodb.SpaceID]innodb.LSN // by Discard
}

// Trim is the truncation of a tablespace in the log. What the log did before
// to the pages that were cut off does not matter any more.
type Trim struct {
	LSN  innodb.LSN    // where the mini-transaction begins
	Page innodb.PageNo // the new size
	All  bool          // the remaining pages were begun anew too: undo tablespaces
}

// limits are how much is gathered in memory.
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
		dir: dir, limits: divide(memory / 2),
		voids:  voids{make(map[innodb.SpaceID][]Trim), make(map[innodb.SpaceID]innodb.LSN)},
		spaces: make(map[innodb.SpaceID]uint64), begun: make(map[innodb.SpaceID]bool),
	}
}

// newGathered reserves memory, which costs nothing until it is touched; growing
// would cost twice.
func newGathered(l limits) *gathered {
	return &gathered{make([]entry, 0, l.entries), make([]byte, 0, l.records), newChains(l.pages)}
}

// Add adds a run. Runs come in the order of the log.
func (p *Plan) Add(r *Run) error {
	if len(r.Records) > maxRun {
		return fmt.Errorf("%d bytes of records for page %d of tablespace %d at LSN %d", len(r.Records), r.Page.No, r.Page.Space, r.LSN)
	}
	if p.now == nil {
		p.now = newGathered(p.limits)
	}
	if p.now.full(p.limits, len(r.Records)) {
		if err := p.putAside(); err != nil {
			return err
		}
	}
	p.now.add(r)
	p.spaces[r.Page.Space]++
	if r.Page.No == 0 && (r.Kind == Init || r.Kind == InitOlder) {
		p.begun[r.Page.Space] = true
	}
	p.runs++
	p.size += int64(len(r.Records))
	return nil
}

// full reports whether another run, of so many bytes, has to be put elsewhere.
func (g *gathered) full(l limits, records int) bool {
	return len(g.entries) == l.entries || len(g.entries) > 0 && len(g.records)+records > l.records || g.chains.full()
}

func (g *gathered) add(r *Run) {
	e := pack(r)
	e.at = uint32(len(g.records))
	g.records = append(g.records, r.Records...)
	c := g.chains.of(e.space, e.page)
	e.before = c.last
	if e.kind.begins() { // all before it is meaningless
		e.before = none
	}
	c.last = uint32(len(g.entries))
	g.entries = append(g.entries, e)
}

func (g *gathered) clear() {
	g.entries, g.records = g.entries[:0], g.records[:0]
	g.chains.clear()
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

// Size returns how many bytes of records were added.
func (p *Plan) Size() int64 { return p.size }

// Spilled returns how many bytes went to the temporary file, once the plan was
// read.
func (p *Plan) Spilled() int64 {
	if p.spill == nil {
		return 0
	}
	return p.spill.size
}

// putAside begins to append what was gathered to the temporary file, by page, and
// makes room for more. The half that was put aside before must be there by then.
func (p *Plan) putAside() (err error) {
	if p.spill == nil {
		if p.spill, err = newSpillFile(p.dir); err != nil {
			return err
		}
		p.spare = newGathered(p.limits)
	}
	if err := p.settle(); err != nil {
		return err
	}
	g, spill, known, put := p.now, p.spill, p.voids.clone(), make(chan error, 1)
	p.now, p.spare, p.aside, p.put = p.spare, nil, g, put
	go func() {
		err := spill.write(g.sorted(known))
		g.clear()
		put <- err
	}()
	return nil
}

// settle waits until what was gathered before is put aside.
func (p *Plan) settle() error {
	if p.aside == nil {
		return nil
	}
	err := <-p.put
	p.spare, p.aside = p.aside, nil
	return err
}

// clone returns what is known by now.
func (v *voids) clone() voids { return voids{maps.Clone(v.trims), maps.Clone(v.gone)} }

// sorted begins to go through the runs by page, without those known to be
// meaningless. Nothing can be added until it is cleared.
func (g *gathered) sorted(known voids) *memoryPart {
	return &memoryPart{gathered: g, voids: known, todo: g.chains.sorted()}
}

// memoryPart goes through the runs in memory, by page.
type memoryPart struct {
	*gathered
	voids
	todo []chain  // not begun
	page []uint32 // entries of a page, the next one last
}

// next returns the next entry that matters and its records.
func (m *memoryPart) next() (*entry, []byte, error) {
	for {
		if len(m.page) == 0 {
			if len(m.todo) == 0 {
				return nil, nil, nil
			}
			for i := m.todo[0].last; i != none; i = m.entries[i].before {
				m.page = append(m.page, i)
			}
			m.todo = m.todo[1:]
		}
		e := &m.entries[m.page[len(m.page)-1]]
		m.page = m.page[:len(m.page)-1]
		if !m.void(e) {
			return e, m.records[e.at:][:e.size], nil
		}
	}
}

// matters returns the part of one page's entries from the last one on that
// makes earlier ones meaningless.
func (v *voids) matters(group []entry) []entry {
	for len(group) > 0 && v.void(&group[0]) {
		group = group[1:]
	}
	for i := len(group) - 1; i > 0; i-- {
		if group[i].kind.begins() {
			return group[i:]
		}
	}
	return group
}

// void reports whether what came later makes an entry meaningless.
func (v *voids) void(e *entry) bool {
	if e.lsn < uint64(v.gone[innodb.SpaceID(e.space)]) {
		return true
	}
	for _, t := range v.trims[innodb.SpaceID(e.space)] {
		if e.lsn < uint64(t.LSN) && (t.All || e.page >= uint32(t.Page)) {
			return true
		}
	}
	return false
}

// Close releases the temporary file.
func (p *Plan) Close() error {
	err := p.settle()
	p.now, p.spare = nil, nil
	if p.spill == nil {
		return err
	}
	err = errors.Join(err, p.spill.f.Close())
	p.spill = nil
	return err
}

// Spaces returns the tablespaces that runs were added of, with their number.
func (p *Plan) Spaces() map[innodb.SpaceID]uint64 { return p.spaces }

// Begins reports whether the log begins a tablespace: its page 0.
func (p *Plan) Begins(id innodb.SpaceID) bool { return p.begun[id] }

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
