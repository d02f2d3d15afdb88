package replay

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"hb/source/innodb"
	"hb/stream/disk"
)

// Plan gathers the runs of a log. The zero value is not usable: see NewPlan.
type Plan struct {
	dir     disk.Dir
	limit   int // entries in memory
	entries []entry
	spill   *spillFile // nil until the first time that entries did not fit
	trims   map[innodb.SpaceID][]Trim
	gone    map[innodb.SpaceID]innodb.LSN // by Discard
	spaces  map[innodb.SpaceID]uint64     // runs added
	runs    uint64
	bytes   uint64
}

// Trim is the truncation of a tablespace in the log. What the log did before
// to the pages that were cut off does not matter any more.
type Trim struct {
	LSN  innodb.LSN    // where the mini-transaction begins
	Page innodb.PageNo // the new size
	All  bool          // the remaining pages were begun anew too: undo tablespaces
}

// minEntries is how many entries are kept in memory however small the limit.
const minEntries = 1 << 10

// NewPlan returns an empty plan that keeps at most about memory bytes of
// entries and puts the rest into a temporary file in dir, without a name.
// Close it.
func NewPlan(dir disk.Dir, memory int64) *Plan {
	return &Plan{
		dir: dir, limit: max(minEntries, int(memory/entrySize)),
		trims: make(map[innodb.SpaceID][]Trim), spaces: make(map[innodb.SpaceID]uint64),
		gone: make(map[innodb.SpaceID]innodb.LSN),
	}
}

// Add adds a run. Runs come in the order of the log.
func (p *Plan) Add(r *Run) error {
	if p.entries == nil {
		// Memory that is never touched costs nothing, growing would cost twice.
		p.entries = make([]entry, 0, p.limit)
	}
	if len(p.entries) == p.limit {
		if err := p.putAside(); err != nil {
			return err
		}
	}
	p.entries = append(p.entries, pack(r))
	p.spaces[r.Page.Space]++
	p.runs++
	p.bytes += uint64(r.Size)
	return nil
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

// putAside sorts what is in memory and appends it to the temporary file. If
// enough of it turns out to be needless, it stays in memory.
func (p *Plan) putAside() error {
	p.sort()
	if len(p.entries) <= p.limit/2 {
		return nil
	}
	if p.spill == nil {
		f, err := newSpillFile(p.dir)
		if err != nil {
			return err
		}
		p.spill = f
	}
	if err := p.spill.write(p.entries); err != nil {
		return err
	}
	p.entries = p.entries[:0]
	return nil
}

// sort sorts the entries in memory and drops what does not matter any more.
func (p *Plan) sort() {
	slices.SortFunc(p.entries, order)
	kept := p.entries[:0]
	for group := p.entries; len(group) > 0; {
		n := 1
		for n < len(group) && group[n].space == group[0].space && group[n].page == group[0].page {
			n++
		}
		kept = append(kept, p.matters(group[:n])...)
		group = group[n:]
	}
	p.entries = kept
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
	p.entries = nil
	if p.spill == nil {
		return nil
	}
	err := p.spill.f.Close()
	p.spill = nil
	return err
}

// Spaces returns the tablespaces that runs were added of, with their number.
func (p *Plan) Spaces() map[innodb.SpaceID]uint64 { return p.spaces }

// spillFile holds sorted sequences of entries, one behind the other.
type spillFile struct {
	f     disk.File
	size  int64
	parts []int64 // where each sequence begins
	buf   []byte
}

// SpillName is the temporary file's name for the moment in which it has one.
const SpillName = "hb-spill"

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

// spillBuffer is how many bytes are written to the temporary file at a time.
const spillBuffer = 256 << 10

func (s *spillFile) write(entries []entry) error {
	s.parts = append(s.parts, s.size)
	for len(entries) > 0 {
		n := min(len(entries), spillBuffer/entrySize)
		s.buf = s.buf[:0]
		for i := range entries[:n] {
			s.buf = appendEntry(s.buf, &entries[i])
		}
		if _, err := s.f.WriteAt(s.buf, s.size); err != nil {
			return fmt.Errorf("putting redo records aside: %w", err)
		}
		s.size += int64(len(s.buf))
		entries = entries[n:]
	}
	return nil
}
