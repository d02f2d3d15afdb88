package replay

import (
	"encoding/binary"
	"fmt"

	"hb/source/innodb"
)

// maxRun is the longest run of records in bytes: that of the longest
// mini-transaction that any log has (mlog.MaxMTR).
const maxRun = 64 << 20

// worker recovers batches, with buffers and a doublewrite slot of its own.
type worker struct {
	r       *recovery
	slot    *slot
	buf     []byte // the slot's: images of a batch's pages, one behind the other
	plain   []byte // for decompression
	applier Applier
	page    pageState

	changed []place // of a batch; reused
	offsets []int64 // for write; reused
}

// place is where a page's image is.
type place struct {
	no innodb.PageNo
	at int // in pages, from the beginning of buf
}

func (r *recovery) newWorker(s *slot) *worker {
	return &worker{r: r, slot: s, buf: s.pages(), applier: r.Dialect.NewApplier()}
}

// pageState is a page on its way through its entries.
type pageState struct {
	s     *openSpace
	no    innodb.PageNo
	image []byte
	ready bool            // image holds the page: read and verified, or begun anew
	fresh bool            // begun anew by the log
	freed bool            // its content does not matter at this point
	bad   error           // why what was read is no page; void if the log begins it anew
	base  innodb.LSN      // of the page as it was read
	end   innodb.LSN      // of the last mini-transaction applied
	sum   innodb.Checksum // to be stamped with
	begun bool            // the applier works on it
	dirty bool
	read  bool // image holds what is in the file
}

func (p *pageState) reset(s *openSpace, no innodb.PageNo, image []byte) {
	*p = pageState{s: s, no: no, image: image, sum: s.sum}
}

func (p *pageState) id() innodb.PageID { return innodb.PageID{Space: p.s.Space.ID, No: p.no} }

// errorf names the page.
func (p *pageState) errorf(format string, args ...any) error {
	return fmt.Errorf("%s, page %d: %w", p.s.Name(), p.no, fmt.Errorf(format, args...))
}

// recover recovers all pages of a batch.
func (w *worker) recover(b *batch) error {
	s := b.space
	size := s.Space.Physical
	w.changed = w.changed[:0]
	for i := range b.groups {
		// Compacted here too: parts of the plan were sorted by themselves.
		g := &b.groups[i]
		g.from = g.to - len(w.r.plan.matters(b.of(*g)))
	}
	if err := w.load(b); err != nil {
		return err
	}
	for i, g := range b.groups {
		w.page.reset(s, g.no, w.buf[i*size:(i+1)*size])
		w.page.read = needsRead(b.of(g))
		if err := w.apply(&w.page, b, b.of(g)); err != nil {
			return err
		}
		if err := w.finish(&w.page); err != nil {
			return err
		}
		if w.page.dirty {
			w.changed = append(w.changed, place{g.no, i})
		}
	}
	return w.write(s, w.changed)
}

// needsRead reports whether a page with those entries must be read: not if the
// log begins it anew whatever it is, or only says that it was freed.
func needsRead(entries []entry) bool { return len(entries) > 0 && entries[0].kind.reads() }

// load reads the pages that are needed, adjacent ones at once.
func (w *worker) load(b *batch) error {
	size := b.space.Space.Physical
	for i := 0; i < len(b.groups); {
		if !needsRead(b.of(b.groups[i])) {
			i++
			continue
		}
		n := 1
		for i+n < len(b.groups) && b.groups[i+n].no == b.groups[i].no+innodb.PageNo(n) && needsRead(b.of(b.groups[i+n])) {
			n++
		}
		if err := b.space.readPages(w.buf[i*size:(i+n)*size], b.groups[i].no); err != nil {
			return err
		}
		i += n
	}
	return nil
}

// apply applies entries of a batch to the page, those that it does not have yet.
func (w *worker) apply(p *pageState, b *batch, entries []entry) error {
	for i := range entries {
		e := &entries[i]
		switch {
		case e.kind == Free:
			p.freed = true
			continue
		case e.kind == Init:
			p.anew()
		case p.freed:
			return p.errorf("the redo log changes it after it was freed (LSN %d)", e.lsn)
		case !p.ready:
			if err := w.open(p); err != nil {
				return err
			}
		}
		if e.kind == InitOlder && p.yields(e) {
			p.anew()
		}
		if p.bad != nil || e.mtrStart() < p.base {
			continue
		}
		if err := w.applyRun(p, e, b.data(e)); err != nil {
			return err
		}
	}
	return nil
}

// anew forgets what the page was.
func (p *pageState) anew() {
	clear(p.image)
	p.ready, p.fresh, p.freed, p.bad, p.base, p.sum = true, true, false, nil, 0, p.s.sum
	p.begun = false
}

// yields reports whether the page gives way to an InitOlder: it is not newer,
// or is none. Of a bad page it cannot be known which, so that one in a
// tablespace with pages that were never logged remains an error.
func (p *pageState) yields(e *entry) bool {
	if p.bad != nil {
		return !p.s.Unlogged
	}
	return e.mtrStart() >= p.base
}

func (w *worker) applyRun(p *pageState, e *entry, run []byte) error {
	if !p.begun {
		if err := w.applier.Begin(p.image, p.id(), &p.s.Space); err != nil {
			return p.errorf("before the redo record at LSN %d: %w", e.lsn, err)
		}
		p.begun = true
	}
	if err := w.applier.Apply(e.mtrStart(), run); err != nil {
		return p.errorf("the redo record at LSN %d does not fit: %w", e.lsn, err)
	}
	p.dirty, p.end = true, e.mtrEnd()
	w.r.applied.Add(1)
	return nil
}

// open makes what is in the file a plain page, and finds how new it is.
func (w *worker) open(p *pageState) error {
	p.ready = true
	if !p.read {
		if err := p.s.readPages(p.image, p.no); err != nil {
			return err
		}
	}
	space := &p.s.Space
	if space.FullCRC32 && binary.BigEndian.Uint32(p.image) != 0 {
		return encrypted(p.s)
	}
	sum, err := w.verify(p)
	if err != nil {
		p.bad = err
		return nil
	}
	if sum != innodb.ChecksumUnset {
		p.sum = sum
	}
	p.base = innodb.HeaderLSN(p.image)
	if p.base > w.r.End {
		return p.errorf("is of LSN %d, newer than the redo log, which ends at %d", p.base, w.r.End)
	}
	return nil
}

// verify makes the image a plain page, and returns by what it was stamped.
func (w *worker) verify(p *pageState) (innodb.Checksum, error) {
	space := &p.s.Space
	sum, err := space.Verify(p.image, p.no)
	switch {
	case err != nil:
	case space.Packed(p.image):
		err = w.expand(p, func(_ *innodb.Space, plain, page []byte) error { return innodb.Unpack(plain, page) })
	case isCompressed(space, p.image):
		if err = w.expand(p, decompress); err == nil && !space.FullCRC32 {
			sum, err = space.Verify(p.image, p.no)
		}
	}
	return sum, err
}

// expand replaces the image by its plain form.
func (w *worker) expand(p *pageState, by func(s *innodb.Space, plain, page []byte) error) error {
	if w.plain == nil {
		w.plain = make([]byte, innodb.MaxPageSize)
	}
	plain := w.plain[:len(p.image)]
	if err := by(&p.s.Space, plain, p.image); err != nil {
		return &innodb.PageError{PageID: p.id(), What: err.Error()}
	}
	copy(p.image, plain)
	return nil
}

// finish checks the page and gives it its LSN and checksum.
func (w *worker) finish(p *pageState) error {
	switch {
	case p.freed:
		p.dirty = false
		return nil
	case p.bad != nil:
		return fmt.Errorf("%s: %w: the copy is damaged", p.s.Name(), p.bad)
	case !p.dirty:
		w.r.current.Add(1)
		return nil
	}
	if err := w.applier.Finish(); err != nil {
		return p.errorf("after the redo records up to LSN %d: %w", p.end, err)
	}
	if no, id := innodb.HeaderPageNo(p.image), innodb.HeaderSpace(p.image); no != p.no || id != p.s.Space.ID {
		return p.errorf("after recovery it says it is page %d of tablespace %d", no, id)
	}
	if p.no == 0 {
		if err := p.checkGeometry(); err != nil {
			return err
		}
	}
	p.s.Space.SetLSN(p.image, p.end)
	p.s.Space.Stamp(p.image, p.sum)
	return nil
}

// checkGeometry makes sure that page 0 as it is now says what the pages were
// recovered by.
func (p *pageState) checkGeometry() error {
	found, err := innodb.ParseSpace(p.image)
	switch {
	case err != nil:
		return p.errorf("after recovery: %w", err)
	case found.Encrypted():
		return encrypted(p.s)
	case found.Physical != p.s.Space.Physical || found.FullCRC32 != p.s.Space.FullCRC32:
		return p.errorf("the redo log changes the format of the tablespace (flags %#x to %#x)", p.s.Space.Flags, found.Flags)
	}
	return nil
}

// write writes pages of one file, in ascending order: first to the doublewrite
// file, then into place, adjacent ones at once.
func (w *worker) write(s *openSpace, pages []place) error {
	if len(pages) == 0 {
		return nil
	}
	size := s.Space.Physical
	file, first := s.locate(pages[0].no)
	w.offsets = w.offsets[:0]
	for _, p := range pages {
		for len(w.offsets) < p.at-pages[0].at {
			w.offsets = append(w.offsets, skipped)
		}
		w.offsets = append(w.offsets, int64(p.no-first)*int64(size))
	}
	if err := w.slot.put(s.Files[file].Path, size, pages[0].at, w.offsets); err != nil {
		return err
	}
	for i := 0; i < len(pages); {
		// Adjacent pages of a batch lie one behind the other in buf.
		n := 1
		for i+n < len(pages) && pages[i+n] == (place{pages[i].no + innodb.PageNo(n), pages[i].at + n}) {
			n++
		}
		if err := s.writePages(w.buf[pages[i].at*size:][:n*size], pages[i].no); err != nil {
			return err
		}
		i += n
	}
	w.r.pages.Add(uint64(len(pages)))
	return nil
}
