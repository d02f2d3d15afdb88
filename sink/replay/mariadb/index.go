package mariadb

import (
	"errors"
	"fmt"

	"hb/xbstream/innodb"
)

// Index page header, offsets from the start of the page.
const (
	pageSlots      = 38 // directory slots
	pageHeapTop    = 40
	pageHeap       = 42 // records in the heap, bit 15: not ROW_FORMAT=REDUNDANT
	pageFree       = 44 // first of the list of deleted records
	pageGarbage    = 46 // bytes in that list
	pageLastInsert = 48
	pageDirection  = 51 // low 3 bits of the byte
	pageNDirection = 52
	pageRecords    = 54
	pageHeaderPriv = 64 // end of what page creation clears
	pageLevel      = 64
	pageData       = 94 // infimum and supremum
)

// Directions of consecutive inserts.
const (
	directionLeft  = 1
	directionRight = 2
	directionNone  = 5
	directionMask  = 7
)

// A directory slot owns 4 to 8 records, the first exactly the infimum.
const (
	slotMinOwned = 4
	slotMaxOwned = 8
)

// maxFields is how many fields a record can have (REC_MAX_N_FIELDS).
const maxFields = 1024 - 1

// userHeap is the first heap number that is not infimum's or supremum's.
const userHeap = 2

const dynamicBit = 0x8000

// layout is what differs between ROW_FORMAT=REDUNDANT and all others.
type layout struct {
	infimum, supremum int // origins
	heap              int // where user records begin
	extra             int // fixed bytes before a record's origin
	relative          bool
	seed              string // infimum and supremum, beginning at pageData
}

var (
	redundant = layout{
		infimum: 101, supremum: 116, heap: 125, extra: 6,
		seed: "\x08\x01\x00\x00\x03\x00\x74infimum\x00" + "\x09\x01\x00\x08\x03\x00\x00supremum\x00",
	}
	dynamic = layout{
		infimum: 99, supremum: 112, heap: 120, extra: 5, relative: true,
		seed: "\x01\x00\x02\x00\x0dinfimum\x00" + "\x01\x00\x0b\x00\x00supremum",
	}
)

func initIndex(page []byte, isDynamic bool) {
	l, heap := &redundant, userHeap
	if isDynamic {
		l, heap = &dynamic, userHeap|dynamicBit
	}
	put16(page, innodb.OffsetType, int(innodb.TypeIndex))
	clear(page[pageSlots:pageHeaderPriv])
	put16(page, pageSlots, 2)
	page[pageDirection] = directionNone
	put16(page, pageHeap, heap)
	put16(page, pageHeapTop, l.heap)
	n := copy(page[pageData:], l.seed)
	clear(page[pageData+n : len(page)-trailer])
	p := index{page, l}
	put16(page, p.slot(0), l.infimum)
	put16(page, p.slot(1), l.supremum)
}

// index is an index page whose header and directory were found in order.
type index struct {
	b []byte
	*layout
}

var errNotIndex = errors.New("the page is not the index page that the record is about")

// openIndex checks what everything else relies on: that the directory and the
// heap lie within the page and do not overlap.
func openIndex(page []byte, id innodb.PageID, l *layout) (index, error) {
	p := index{page, l}
	switch innodb.HeaderType(page) {
	case innodb.TypeIndex, innodb.TypeRTree, typeInstant:
	default:
		return p, errNotIndex
	}
	isDynamic := get16(page, pageHeap)&dynamicBit != 0
	if innodb.HeaderPageNo(page) != id.No || isDynamic != l.relative {
		return p, errNotIndex
	}
	slots, heap, top := p.slots(), get16(page, pageHeap)&^dynamicBit, get16(page, pageHeapTop)
	if slots < 2 || heap < slots || slots > len(page)/4 || top < l.heap || top > p.slot(slots-1) ||
		get16(page, p.slot(0)) != l.infimum || get16(page, p.slot(slots-1)) != l.supremum ||
		get16(page, l.supremum-2) != 0 {
		return p, errNotIndex
	}
	return p, nil
}

// typeInstant is an index page of a table that had columns added instantly.
const typeInstant innodb.PageType = 18

func (p index) slots() int { return get16(p.b, pageSlots) }

// slot returns the offset of directory slot i.
func (p index) slot(i int) int { return len(p.b) - trailer - 2*(i+1) }

// record returns the origin that a list or directory entry names, if a record
// can be there: user records from the heap's start to its top, the supremum,
// and the infimum where that is allowed.
func (p index) record(at int) (int, error) {
	if at == p.supremum || at >= p.heap+p.extra && at <= get16(p.b, pageHeapTop) {
		return at, nil
	}
	return 0, fmt.Errorf("no record can be at offset %d", at)
}

// origin returns the origin of the record before a change, which counts from
// the infimum.
func (p index) origin(fromInfimum int) (int, error) {
	if fromInfimum == 0 {
		return p.infimum, nil
	}
	at := p.infimum + fromInfimum
	if p.relative {
		at &= 0xFFFF // the log may hold a negative difference
	}
	if at == p.supremum {
		return 0, errors.New("the supremum has no successor")
	}
	return p.record(at)
}

// next returns the successor of a record; 0 is the end of a list.
func (p index) next(rec int) int {
	n := get16(p.b, rec-2)
	if p.relative && n != 0 {
		n = (rec + n) & 0xFFFF
	}
	return n
}

func (p index) setNext(rec, next int) {
	if p.relative && next != 0 {
		next -= rec
	}
	put16(p.b, rec-2, next)
}

// successor is next where the list may not end and must be sound.
func (p index) successor(rec int) (int, error) { return p.record(p.next(rec)) }

func (p index) owned(rec int) int { return int(p.b[rec-p.extra] & 0xF) }

func (p index) setOwned(rec, n int) {
	at := rec - p.extra
	p.b[at] = p.b[at]&0xF0 | byte(n)
}

func (p index) heapNo(rec int) int { return get16(p.b, rec-p.extra+1) >> 3 }

// owner returns the first record, beginning with rec, that owns a directory slot, the
// index of that slot, and how many records it owns. limit bounds the steps.
func (p index) owner(rec, limit int) (owner, slot, n int, err error) {
	for owner = rec; p.owned(owner) == 0; limit-- {
		if limit == 0 {
			return 0, 0, 0, errors.New("the record list is corrupted: no owner of a directory slot")
		}
		if owner, err = p.successor(owner); err != nil {
			return 0, 0, 0, err
		}
	}
	for slot = p.slots() - 1; slot > 0; slot-- {
		if get16(p.b, p.slot(slot)) == owner {
			return owner, slot, p.owned(owner), nil
		}
	}
	return 0, 0, 0, fmt.Errorf("no directory slot holds offset %d", owner)
}

// linked does what every insert ends with: the new record rec, with data and
// header in place, becomes the successor of prev.
func (p index) linked(rec, prev, next, owner, slot, owned int) error {
	last := get16(p.b, pageLastInsert)
	put16(p.b, pageLastInsert, rec)
	p.setOwned(owner, owned+1)
	if innodb.HeaderType(p.b) != innodb.TypeRTree {
		p.turn(last, prev, next)
	}
	put16(p.b, pageRecords, get16(p.b, pageRecords)+1)
	if owned == slotMaxOwned {
		return p.split(slot)
	}
	return nil
}

// turn keeps the statistics of the direction of inserts.
func (p index) turn(last, prev, next int) {
	direction := int(p.b[pageDirection] & directionMask)
	n := get16(p.b, pageNDirection) + 1
	switch {
	case last != 0 && last == prev && direction != directionLeft:
		direction = directionRight
	case last != 0 && last == next && direction != directionRight:
		direction = directionLeft
	default:
		direction, n = directionNone, 0
	}
	p.b[pageDirection] = p.b[pageDirection]&^directionMask | byte(direction)
	put16(p.b, pageNDirection, n)
}

// split divides the records of a slot that owns one too many: the lower half
// gets a slot of its own below.
func (p index) split(slot int) error {
	const half = (slotMaxOwned + 1) / 2
	n := p.slots()
	upper := get16(p.b, p.slot(slot))
	rec, err := get16(p.b, p.slot(slot-1)), error(nil)
	for range half {
		// The lower slot's record may be the infimum.
		if rec < p.infimum || rec > len(p.b)-trailer {
			return fmt.Errorf("a directory slot holds offset %d", rec)
		}
		if rec, err = p.successor(rec); err != nil {
			return err
		}
	}
	if p.slot(n) < get16(p.b, pageHeapTop) {
		return errors.New("no room for another directory slot")
	}
	copy(p.b[p.slot(n):p.slot(slot)], p.b[p.slot(n-1):p.slot(slot-1)])
	put16(p.b, p.slot(slot), rec)
	put16(p.b, pageSlots, n+1)
	p.setOwned(rec, half)
	p.setOwned(upper, slotMaxOwned+1-half)
	return nil
}

// unlink takes rec, the successor of prev, out of list and directory, and
// frees its space: extra bytes before the origin and size after it. hasOwner
// is slot's owner before.
func (p index) unlink(prev, rec, extra, size int) error {
	if get16(p.b, pageRecords) == 0 || rec == p.supremum {
		return errors.New("the page has no such record to delete")
	}
	if rec-extra < p.heap || rec+size > get16(p.b, pageHeapTop) {
		return fmt.Errorf("the record at offset %d (%d+%d bytes) reaches outside the heap", rec, extra, size)
	}
	next, err := p.successor(rec)
	if err != nil {
		return err
	}
	owner, slot, owned, err := p.owner(rec, get16(p.b, pageRecords)+1)
	if err != nil {
		return err
	}
	if owner == rec {
		owner = prev
		put16(p.b, p.slot(slot), prev)
	}
	p.setNext(prev, next)
	p.setOwned(owner, owned-1)
	if err := p.release(rec, extra, size); err != nil {
		return err
	}
	if owned-1 < slotMinOwned && slot != p.slots()-1 {
		return p.balance(slot)
	}
	return nil
}

// release gives the space of a record back: the last one of the heap shortens
// it, others head the free list. The rest of the record becomes zero, but
// for its header in the free list.
func (p index) release(rec, extra, size int) error {
	heap := get16(p.b, pageHeap) - 1
	garbage := get16(p.b, pageGarbage)
	put16(p.b, pageLastInsert, 0)
	put16(p.b, pageRecords, get16(p.b, pageRecords)-1)
	if p.heapNo(rec) == heap&^dynamicBit {
		top := get16(p.b, pageHeapTop)
		savings := top - (rec + size) // of a larger record that was here before
		if savings > garbage {
			return fmt.Errorf("%d bytes of garbage are fewer than the %d at the heap's top", garbage, savings)
		}
		put16(p.b, pageHeapTop, rec-extra)
		put16(p.b, pageHeap, heap)
		put16(p.b, pageGarbage, garbage-savings)
		clear(p.b[rec-extra : rec+size])
		return nil
	}
	p.setNext(rec, get16(p.b, pageFree))
	put16(p.b, pageFree, rec)
	put16(p.b, pageGarbage, garbage+extra+size)
	clear(p.b[rec : rec+size])
	return nil
}

// balance refills a slot, not the last, that owns one record too few: from the
// next one, or by becoming one with it.
func (p index) balance(slot int) error {
	n := p.slots()
	rec, err := p.record(get16(p.b, p.slot(slot)))
	if err != nil && get16(p.b, p.slot(slot)) != p.infimum {
		return err
	}
	if err != nil {
		rec = p.infimum
	}
	upper, err := p.record(get16(p.b, p.slot(slot+1)))
	if err != nil {
		return err
	}
	owned := p.owned(upper)
	if owned <= slotMinOwned {
		p.setOwned(rec, 0)
		p.setOwned(upper, owned+slotMinOwned-1)
		copy(p.b[p.slot(n-1)+2:p.slot(slot)+2], p.b[p.slot(n-1):p.slot(slot)])
		put16(p.b, p.slot(n-1), 0)
		put16(p.b, pageSlots, n-1)
		return nil
	}
	moved, err := p.successor(rec)
	if err != nil {
		return err
	}
	p.setOwned(rec, 0)
	p.setOwned(moved, slotMinOwned)
	p.setOwned(upper, owned-1)
	put16(p.b, p.slot(slot), moved)
	return nil
}

// numbers reads the leading numbers of an EXTENDED record's body and returns
// what follows them.
func numbers(body []byte, into ...*int) ([]byte, error) {
	var err error
	for _, v := range into {
		if *v, body, err = number(body); err != nil {
			return nil, err
		}
	}
	return body, nil
}

// place is where a new record goes.
type place struct {
	start  int // first byte of its header
	heapNo int
}

// fromHeap takes the space of a new record of size bytes from the heap's top.
func (p index) fromHeap(size int) (place, error) {
	top, heap := get16(p.b, pageHeapTop), get16(p.b, pageHeap)
	if size > p.slot(p.slots()-1)-top || heap&^dynamicBit >= len(p.b)/p.extra {
		return place{}, fmt.Errorf("no room for a record of %d bytes", size)
	}
	put16(p.b, pageHeapTop, top+size)
	put16(p.b, pageHeap, heap+1)
	return place{top, heap &^ dynamicBit}, nil
}

// fromFree takes the first record of the free list for a new one of size
// bytes, of which the given number are its header, which begins at start(the
// freed record's origin).
func (p index) fromFree(size int, start func(free int) int) (place, error) {
	free, err := p.record(get16(p.b, pageFree))
	if err != nil || free == p.supremum {
		return place{}, errors.New("the list of free records is corrupted")
	}
	next := p.next(free)
	if next != 0 {
		if _, err := p.record(next); err != nil {
			return place{}, err
		}
	}
	at, garbage := start(free), get16(p.b, pageGarbage)
	if at < p.heap || size > get16(p.b, pageHeapTop)-at || size > garbage {
		return place{}, fmt.Errorf("no room for a record of %d bytes at offset %d", size, at)
	}
	put16(p.b, pageFree, next)
	put16(p.b, pageGarbage, garbage-size)
	return place{at, p.heapNo(free)}, nil
}

// neighbours finds what an insert after prev needs to know.
func (p index) neighbours(prev int) (next, owner, slot, owned int, err error) {
	if next, err = p.successor(prev); err != nil {
		return
	}
	owner, slot, owned, err = p.owner(next, slotMaxOwned+1)
	if err == nil && owned > slotMaxOwned {
		err = fmt.Errorf("a directory slot owns %d records", owned)
	}
	return
}

// insertNew is INSERT_HEAP_DYNAMIC and INSERT_REUSE_DYNAMIC. The new record's
// header and data begin (the header: end) as those of the record before it.
func insertNew(page []byte, id innodb.PageID, reuse bool, body []byte) error {
	p, err := openIndex(page, id, &dynamic)
	if err != nil {
		return err
	}
	var prev, shift, flags, headCopy, dataCopy int
	if reuse {
		body, err = numbers(body, &prev, &shift, &flags, &headCopy, &dataCopy)
	} else {
		body, err = numbers(body, &prev, &flags, &headCopy, &dataCopy)
	}
	if err != nil {
		return err
	}
	literal := flags >> 3 // bytes of variable header in body
	instant, leaf := flags&4 != 0, get16(page, pageLevel) == 0
	if literal > len(body) || instant && !leaf {
		return errShortRecord
	}
	if prev, err = p.origin(prev); err != nil {
		return err
	}
	next, owner, slot, owned, err := p.neighbours(prev)
	if err != nil {
		return err
	}
	extra := p.extra + headCopy + literal
	size := extra + dataCopy + len(body) - literal
	if prev-p.extra-headCopy < pageData || dataCopy > len(page)-trailer-prev {
		return errors.New("the record copies from outside the heap")
	}
	var at place
	if reuse {
		at, err = p.fromFree(size, func(free int) int {
			if shift&1 != 0 {
				return free - extra - shift>>1
			}
			return free - extra + shift>>1
		})
	} else {
		at, err = p.fromHeap(size)
	}
	if err != nil {
		return err
	}
	to := page[at.start : at.start+size]
	to = to[copy(to, body[:literal]):]
	to = to[copy(to, page[prev-p.extra-headCopy:prev-p.extra]):]
	to[0] = byte(flags&3) << 4
	status := 0
	switch {
	case !leaf:
		status = 1 // node pointer
	case instant:
		status = 4
	}
	put16(to, 1, at.heapNo<<3|status)
	rec := at.start + extra
	n := copy(page[rec:rec+dataCopy], page[prev:])
	copy(page[rec+n:], body[literal:])
	p.setNext(rec, next)
	p.setNext(prev, rec)
	return p.linked(rec, prev, next, owner, slot, owned)
}

// oldHeader is the header of a ROW_FORMAT=REDUNDANT record: after the field
// end offsets, which grow downwards, the six fixed bytes.
type oldHeader struct {
	fields int
	short  bool // one byte for each end offset
}

func readOldHeader(fixed []byte) oldHeader {
	v := get16(fixed, 2)
	return oldHeader{fields: v >> 1 & 0x3FF, short: v&1 != 0}
}

func (h oldHeader) extra() int {
	if h.short {
		return redundant.extra + h.fields
	}
	return redundant.extra + 2*h.fields
}

// dataSize is the last field's end offset, without its flags; header ends with
// the record's fixed bytes and holds at least all of its header.
func (h oldHeader) dataSize(header []byte) int {
	if h.fields == 0 {
		return 0
	}
	at := len(header) - h.extra()
	if h.short {
		return int(header[at] & 0x7F)
	}
	return get16(header, at) & 0x3FFF
}

// oldRecord reads the header of the record at an origin. Those of the infimum
// and supremum are like any other.
func (p index) oldRecord(rec int) (extra, size int, err error) {
	h := readOldHeader(p.b[rec-p.extra:])
	extra = h.extra()
	if h.fields == 0 || h.fields > maxFields || rec-extra < pageData {
		return 0, 0, fmt.Errorf("the record at offset %d has %d fields", rec, h.fields)
	}
	size = h.dataSize(p.b[:rec])
	if rec+size > len(p.b)-trailer {
		return 0, 0, fmt.Errorf("the record at offset %d has %d bytes", rec, size)
	}
	return extra, size, nil
}

// insertOld is INSERT_HEAP_REDUNDANT and INSERT_REUSE_REDUNDANT.
func insertOld(page []byte, id innodb.PageID, reuse bool, body []byte) error {
	p, err := openIndex(page, id, &redundant)
	if err != nil {
		return err
	}
	var prev, flags, headCopy, dataCopy int
	if body, err = numbers(body, &prev, &flags, &headCopy, &dataCopy); err != nil {
		return err
	}
	if prev, err = p.origin(prev); err != nil {
		return err
	}
	h := oldHeader{fields: flags>>3 + 1, short: flags&4 != 0}
	headCopy += p.extra
	literal := h.extra() - headCopy
	if h.fields > maxFields || literal < 0 || literal > len(body) {
		return errShortRecord
	}
	_, prevSize, err := p.oldRecord(prev)
	if err != nil {
		return err
	}
	next, owner, slot, owned, err := p.neighbours(prev)
	if err != nil {
		return err
	}
	if prev-headCopy < pageData || dataCopy > prevSize {
		return errors.New("the record copies from outside the record before it")
	}

	// The header is built aside, because it has the record's length.
	var buf [6 + 2*maxFields]byte
	header := buf[:h.extra()]
	copy(header, body[:literal])
	copy(header[literal:], page[prev-headCopy:prev])
	fixed := header[len(header)-p.extra:]
	data := h.dataSize(header)
	if dataCopy+len(body)-literal != data {
		return fmt.Errorf("%d bytes do not make a record of %d", dataCopy+len(body)-literal, data)
	}
	at, err := p.placeOld(reuse, len(header)+data)
	if err != nil {
		return err
	}
	short := 0
	if h.short {
		short = 1
	}
	fixed[0] = byte(flags&3) << 4
	put16(fixed, 2, h.fields<<1|short)
	put16(fixed, 1, at.heapNo<<3|int(fixed[2]&7))
	copy(page[at.start:], header)
	rec := at.start + len(header)
	n := copy(page[rec:rec+dataCopy], page[prev:])
	copy(page[rec+n:], body[literal:])
	p.setNext(prev, rec) // rec's own successor was copied with prev's header
	return p.linked(rec, prev, next, owner, slot, owned)
}

func (p index) placeOld(reuse bool, size int) (place, error) {
	if !reuse {
		return p.fromHeap(size)
	}
	free, err := p.record(get16(p.b, pageFree))
	if err != nil {
		return place{}, err
	}
	extra, data, err := p.oldRecord(free)
	if err != nil {
		return place{}, err
	}
	if size > extra+data {
		return place{}, fmt.Errorf("a record of %d bytes does not fit one of %d", size, extra+data)
	}
	return p.fromFree(size, func(free int) int { return free - extra })
}

// deleteOld is DELETE_ROW_FORMAT_REDUNDANT.
func deleteOld(page []byte, id innodb.PageID, body []byte) error {
	p, err := openIndex(page, id, &redundant)
	if err != nil {
		return err
	}
	var prev int
	rest, err := numbers(body, &prev)
	if err != nil || len(rest) != 0 {
		return errShortRecord
	}
	if prev, err = p.origin(prev); err != nil {
		return err
	}
	rec, err := p.successor(prev)
	if err != nil {
		return err
	}
	extra, size, err := p.oldRecord(rec)
	if err != nil {
		return err
	}
	return p.unlink(prev, rec, extra, size)
}

// deleteNew is DELETE_ROW_FORMAT_DYNAMIC.
func deleteNew(page []byte, id innodb.PageID, body []byte) error {
	p, err := openIndex(page, id, &dynamic)
	if err != nil {
		return err
	}
	var prev, header, size int
	rest, err := numbers(body, &prev, &header, &size)
	if err != nil || len(rest) != 0 {
		return errShortRecord
	}
	if prev, err = p.origin(prev); err != nil {
		return err
	}
	rec, err := p.successor(prev)
	if err != nil {
		return err
	}
	return p.unlink(prev, rec, p.extra+header, size)
}
