package replay

import (
	"errors"
	"fmt"
	"slices"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// maxRun is the longest run of records in bytes: that of the longest
// mini-transaction that any log has (mysqlredo.MaxMTR).
const maxRun = 64 << 20

// worker recovers batches, with buffers and a doublewrite slot of its own.
type worker struct {
	r       *recovery
	slot    *slot
	buf     []byte // the slot's: images of a batch's pages, one after the other
	plain   []byte // for decompression
	applier Applier
	page    pageState

	changed []place         // of a batch; reused
	numbers []innodb.PageNo // for write; reused
}

// place is where a page's image is.
type place struct {
	no  innodb.PageNo
	at  int             // in pages, from the beginning of buf
	sum innodb.Checksum // that it was stamped with
}

// follows reports whether the page lies n pages after another, in its file and in buf.
func (p place) follows(first place, n int) bool {
	return p.no == first.no+innodb.PageNo(n) && p.at == first.at+n
}

func (p place) unsummed() bool { return p.sum == innodb.ChecksumNone }

func (r *recovery) newWorker(s *slot) *worker {
	return &worker{r: r, slot: s, buf: s.pages(), applier: r.Log.NewApplier()}
}

// pageState is a page on its way through its entries.
type pageState struct {
	s     *openSpace
	no    innodb.PageNo
	image []byte
	ready bool            // image holds the page: read and verified, or initialised
	fresh bool            // initialised by the log
	freed bool            // its content does not matter at this point
	bad   error           // why the bytes that were read are not a page; void if the log initialises it
	unfit error           // why a run could not be applied; void if the log begins or frees the page after it
	base  innodb.LSN      // of the page as it was read
	end   innodb.LSN      // of the last mini-transaction applied
	sum   innodb.Checksum // to be stamped with
	begun bool            // the applier works on it
	dirty bool
	read  bool // image holds the page of the file
	// sealed: the page of the file is encrypted.
	sealed bool
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
			w.changed = append(w.changed, place{g.no, i, w.page.sum})
		}
	}
	return w.write(s, w.changed)
}

// needsRead reports whether a page with those entries must be read: not if the
// log initialises it in any case, or only records that it was freed.
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
//
// Entries before the last one that begins or frees the page need not fit: a server never
// writes a page that it frees soon, so that no file has it as they found it. Only where a
// page has more of them than a batch holds are they here at all (see matters).
func (w *worker) apply(p *pageState, b *batch, entries []entry) error {
	for i := range entries {
		e := &entries[i]
		switch {
		case e.kind == Free:
			p.freed, p.unfit = true, nil
			continue
		case e.kind == Init:
			p.forget()
		case p.freed:
			return p.errorf("the redo log changes it after it was freed (LSN %d)", e.lsn)
		case !p.ready:
			if err := w.open(p); err != nil {
				return err
			}
		}
		if e.kind == InitOlder && p.yields(e) {
			p.forget()
		}
		if p.bad != nil || p.unfit != nil || e.mtrStart() < p.base {
			continue
		}
		p.unfit = w.applyRun(p, e, b.data(e))
	}
	return nil
}

// forget forgets the page's content.
func (p *pageState) forget() {
	clear(p.image)
	p.ready, p.fresh, p.freed, p.bad, p.base, p.sum = true, true, false, nil, 0, p.s.sum
	p.begun, p.sealed, p.unfit = false, false, nil
}

// yields reports whether the page gives way to an InitOlder: it is not newer, or
// there was none yet. For a bad page this cannot be known, so it remains an error: an
// index that was built without redo may have got the page later, and no record proves
// that.
func (p *pageState) yields(e *entry) bool {
	if p.bad != nil {
		return p.no == 0 && p.s.Deferred || innodb.AllZero(p.image)
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

// open makes the page of the file a plain page, and finds how new it is.
func (w *worker) open(p *pageState) error {
	p.ready = true
	if !p.read {
		if err := p.s.readPages(p.image, p.no); err != nil {
			return err
		}
	}
	sum, err := w.verify(p)
	switch {
	case fatal(err):
		return fmt.Errorf("%s: %w", p.s.Name(), err)
	case err != nil:
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

// fatal reports whether an error of verify ends the recovery. Others may be those of
// a page that the log makes again.
func fatal(err error) bool {
	_, unsupported := errors.AsType[*innodb.UnsupportedError](err)
	_, internal := errors.AsType[*innodb.InternalError](err)
	return unsupported || internal || keyring.IsKeyError(err)
}

// verify makes the image a plain page, and returns the checksum that it had.
func (w *worker) verify(p *pageState) (innodb.Checksum, error) {
	space := &p.s.Space
	p.sealed = space.Sealed(p.image, p.no)
	sum, err := space.Unseal(p.image, p.no)
	switch {
	case err != nil:
	case space.Packed(p.image):
		err = w.expand(p, innodb.Unpack)
	case space.Compressed(p.image):
		err = w.expand(p, space.Decompress)
	}
	return sum, err
}

// expand replaces the image by its plain form.
func (w *worker) expand(p *pageState, by func(plain, page []byte) error) error {
	if w.plain == nil {
		w.plain = make([]byte, innodb.MaxPageSize)
	}
	plain := w.plain[:len(p.image)]
	if err := by(plain, p.image); err != nil {
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
	case p.unfit != nil:
		return p.unfit
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
		if err := p.checkGeometry(w.r.Keys); err != nil {
			return err
		}
	}
	p.s.Space.SetLSN(p.image, p.end)
	p.s.Space.Stamp(p.image, p.sum)
	return w.encrypt(p)
}

// encrypt encrypts the image of a page if the file has it encrypted.
func (w *worker) encrypt(p *pageState) error {
	byDefault := p.sealed
	if w.r.EncryptTables != nil {
		byDefault = *w.r.EncryptTables
	}
	if p.s.Space.Cipher != nil && p.s.Space.Seals(byDefault) {
		if err := p.s.Space.Cipher.Encrypt(p.image, p.no); err != nil {
			return p.errorf("encrypting it: %w", err)
		}
	}
	return nil
}

// checkGeometry makes sure that page 0 as it is now has the geometry that the pages
// were recovered by.
func (p *pageState) checkGeometry(keys *keyring.Keys) error {
	found, err := innodb.ParseSpace(p.image)
	switch {
	case err != nil:
		return p.errorf("after recovery: %w", err)
	case found.MySQLEncrypted() && p.s.Space.Cipher == nil:
		// The log encrypts it, and no keys were given.
		if _, err := tde.Open(&found, p.image, keys); err != nil {
			return p.errorf("%w", err)
		}
		return &innodb.InternalError{What: fmt.Sprintf("the encryption of tablespace %d was not noticed", found.ID)}
	case found.Encryption.MayEncrypt() && p.s.Space.Cipher == nil:
		// The log makes the server encrypt it, and no keys were given.
		_, err := keys.MariaDB(keyring.MariaDBKey{ID: found.Encryption.KeyID, Version: max(1, found.Encryption.MinVersion)})
		return p.errorf("%w", err)
	case found.Physical != p.s.Space.Physical || found.FullCRC32 != p.s.Space.FullCRC32:
		return p.errorf("the redo log changes the format of the tablespace (flags %#x to %#x)", p.s.Space.Flags, found.Flags)
	}
	return nil
}

// write writes pages of one file, in ascending order: first to the doublewrite
// file, then into place, adjacent ones at once.
//
// If the machine crashes, a page may be torn, and the content of the doublewrite file
// may be lost. The page's checksum shows that. Pages without a checksum would be
// taken for recovered ones, so that the doublewrite file is on disk before they
// are written, and they are on disk before its slot is used again.
func (w *worker) write(s *openSpace, pages []place) error {
	if len(pages) == 0 {
		return nil
	}
	size := s.Space.Physical
	w.numbers = w.numbers[:0]
	for _, p := range pages {
		for len(w.numbers) < p.at-pages[0].at {
			w.numbers = append(w.numbers, skipped)
		}
		w.numbers = append(w.numbers, p.no)
	}
	if err := w.slot.put(s.Space.ID, size, pages[0].at, w.numbers); err != nil {
		return err
	}
	lasting := slices.ContainsFunc(pages, place.unsummed)
	if lasting {
		if err := w.slot.d.sync(); err != nil {
			return err
		}
	}
	for i := 0; i < len(pages); {
		// Adjacent pages of a batch lie one after the other in buf.
		n := 1
		for i+n < len(pages) && pages[i+n].follows(pages[i], n) {
			n++
		}
		if err := s.writePages(w.buf[pages[i].at*size:][:n*size], pages[i].no); err != nil {
			return err
		}
		i += n
	}
	w.r.pages.Add(uint64(len(pages)))
	if lasting {
		return s.sync()
	}
	return nil
}
