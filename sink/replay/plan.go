package replay

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"

	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// Plan gathers the runs of a log. The zero value is not usable: see NewPlan.
//
// It has memory for runs twice. While one half is put aside, the other is filled.
type Plan struct {
	dir    disk.Dir
	store  *store
	spare  *store     // being put aside, or empty; nil: all runs were added
	spill  *spillFile // nil until the first time that the store was full
	trims  map[innodb.SpaceID][]Trim
	gone   map[innodb.SpaceID]innodb.LSN // by Discard
	spaces map[innodb.SpaceID]uint64     // runs put aside
	heads  map[innodb.SpaceID]bool       // whose page 0 the log changes: whether it begins it
	runs   uint64
	size   int64 // of their records, bytes
	memory int64 // that it was given, bytes
	beside int64 // of it, the part that is not for runs: see Occupy

	writing sync.WaitGroup            // of the spare store
	failed  error                     // likewise, once it is over
	passes  func(innodb.SpaceID) bool // of tablespaces of which nothing is kept; nil: none
}

// Trim is the truncation of a tablespace in the log. What the log did before
// to the pages that were cut off does not matter any more.
type Trim struct {
	LSN  innodb.LSN    // where the mini-transaction begins
	Page innodb.PageNo // the new size
	All  bool          // the remaining pages were initialised too: undo tablespaces
}

// NewPlan returns an empty plan that keeps at most about memory bytes of runs,
// or one run, and puts the rest into a temporary file in dir, without a name.
// Close it.
func NewPlan(dir disk.Dir, memory int64) *Plan {
	return &Plan{
		dir: dir, memory: memory, store: newStore(memory / 2), spare: newStore(memory / 2),
		trims: make(map[innodb.SpaceID][]Trim), spaces: make(map[innodb.SpaceID]uint64),
		gone: make(map[innodb.SpaceID]innodb.LSN), heads: make(map[innodb.SpaceID]bool),
	}
}

// PassOver drops all runs that are added for tablespaces for which passes holds.
func (p *Plan) PassOver(passes func(innodb.SpaceID) bool) { p.passes = passes }

// Add adds a run. Runs come in the order of the log.
func (p *Plan) Add(r *Run) error {
	if len(r.Records) > maxRun {
		return fmt.Errorf("%d bytes of records for page %d of tablespace %d at LSN %d", len(r.Records), r.Page.No, r.Page.Space, r.LSN)
	}
	if p.passes != nil && p.passes(r.Page.Space) {
		return nil
	}
	if p.store.full(len(r.Records)) {
		if err := p.putAside(); err != nil {
			return err
		}
	}
	p.store.add(r)
	if r.Page.No == 0 {
		begins, known := p.heads[r.Page.Space]
		if !known {
			if err := p.Occupy(mapEntry); err != nil {
				return err
			}
		}
		p.heads[r.Page.Space] = begins || r.Kind == Init || r.Kind == InitOlder
	}
	p.runs++
	p.size += int64(len(r.Records))
	return nil
}

// Trim records a truncation.
func (p *Plan) Trim(space innodb.SpaceID, t Trim) error {
	p.trims[space] = append(p.trims[space], t)
	return p.Occupy(mapEntry)
}

// Discard drops all changes of a tablespace before an LSN: its file was removed, or
// created again.
func (p *Plan) Discard(space innodb.SpaceID, before innodb.LSN) error {
	lsn, known := p.gone[space]
	p.gone[space] = max(lsn, before)
	if known {
		return nil
	}
	return p.Occupy(mapEntry)
}

const (
	// besideFree is how much memory there is, in bytes, for what a log has besides
	// runs, without any of a plan's.
	besideFree = 24 << 20
	// mapEntry is about the size of a number in a map, in bytes.
	mapEntry = 32
)

// Occupy accounts for n more bytes, or fewer, of what the log has besides runs, such
// as names of files. Beyond besideFree they come out of the memory for runs, at most
// half of it.
func (p *Plan) Occupy(bytes int) error {
	p.beside += int64(bytes)
	if p.beside <= besideFree {
		return nil
	}
	if p.beside-besideFree > p.memory/2 {
		return fmt.Errorf("the redo log names so many files and tables that they take more than %d MiB of memory: give more with --memory", (besideFree+p.memory/2)>>20)
	}
	p.store.limits = p.limits()
	return nil
}

// limits are those of one store.
func (p *Plan) limits() limits { return divide((p.memory - max(0, p.beside-besideFree)) / 2) }

// Trims returns the truncations of a tablespace, oldest first.
func (p *Plan) Trims(space innodb.SpaceID) []Trim { return p.trims[space] }

// Runs returns the number of runs added.
func (p *Plan) Runs() uint64 { return p.runs }

// Size returns how many bytes of records were added.
func (p *Plan) Size() int64 { return p.size }

// Spilled returns how many bytes went to the temporary file, once all is there
// (Settle).
func (p *Plan) Spilled() int64 {
	if p.spill == nil {
		return 0
	}
	return p.spill.size
}

// putAside begins to append the runs in memory to the temporary file, by page, and
// makes room for more. The runs put aside before must be there by then.
func (p *Plan) putAside() (err error) {
	if p.writing.Wait(); p.failed != nil {
		return p.failed
	}
	if p.spill == nil {
		if p.spill, err = newSpillFile(p.dir); err != nil {
			return err
		}
	}
	full, known := p.store, len(p.spaces)
	full.count(p.spaces)
	if err := p.Occupy((len(p.spaces) - known) * mapEntry); err != nil {
		return err
	}
	p.store, p.spare = p.spare, full
	p.store.limit(p.limits())
	p.writing.Go(func() { p.failed = p.spill.write(full) })
	return nil
}

// Settle waits until all that was put aside is in the temporary file, and gives
// the memory back that this took. It is to be called when all runs were added.
func (p *Plan) Settle() error {
	p.writing.Wait()
	p.spare = nil
	return p.failed
}

// matters returns the part of one page's entries that begins with the last one that
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
	p.writing.Wait()
	p.store, p.spare = nil, nil
	if p.spill == nil {
		return nil
	}
	err := p.spill.f.Close()
	p.spill = nil
	return err
}

// Spaces returns the tablespaces that runs were added of, with their number.
func (p *Plan) Spaces() map[innodb.SpaceID]uint64 {
	all := maps.Clone(p.spaces)
	p.store.count(all)
	return all
}

// Begins reports whether the log begins a tablespace: its page 0.
func (p *Plan) Begins(id innodb.SpaceID) bool { return p.heads[id] }

// ChangesHead reports whether the log changes page 0 of a tablespace.
func (p *Plan) ChangesHead(id innodb.SpaceID) bool {
	_, changes := p.heads[id]
	return changes
}

// SpillName is the temporary file's name for the moment in which it has one.
const SpillName = "hb-spill"

// spillFile holds sequences of runs, each by page, one after the other.
type spillFile struct {
	f     disk.File
	size  int64
	parts []spilled
	buf   []byte
}

// spilled is where a sequence begins in the file, and the LSN that its runs are
// counted from.
type spilled struct {
	at   int64
	base uint64
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
	sealed, err := newSealedFile(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &spillFile{f: sealed}, nil
}

// spillBuffer is about how many bytes are written to the temporary file at a
// time.
const spillBuffer = 1 << 20

// write appends the runs of a store, which is empty then.
func (s *spillFile) write(full *store) error {
	defer full.clear()
	s.parts = append(s.parts, spilled{s.size, full.base})
	for m := full.sorted(); ; {
		space, page, runs := m.page()
		if runs == nil {
			return s.flush()
		}
		size := uint32(0)
		for _, l := range runs {
			size += l.size
		}
		s.buf = appendPageHead(s.buf, space, page, size)
		for _, l := range runs {
			s.buf = append(s.buf, m.run(l)...)
			if len(s.buf) >= spillBuffer {
				if err := s.flush(); err != nil {
					return err
				}
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
