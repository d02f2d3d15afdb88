package btree

import "hb/xbstream/innodb"

// Offsets in an index page, in bytes (page0types.h).
const (
	offsetSlots   = innodb.OffsetBody
	offsetHeapTop = innodb.OffsetBody + 2
	offsetHeap    = innodb.OffsetBody + 4
	offsetRecords = innodb.OffsetBody + 16
	offsetLevel   = innodb.OffsetBody + 26
	offsetIndex   = innodb.OffsetBody + 28
	headerSize    = innodb.OffsetBody + 56 // where infimum begins

	compactBit  = 0x8000 // of offsetHeap
	systemRecs  = 2      // infimum and supremum
	slotSize    = 2
	trailerSize = 8
	maxOwned    = 8 // records that a slot can own
)

// typeInstant is that of MariaDB's root pages of tables that had instant ALTER TABLE
// (FIL_PAGE_TYPE_INSTANT in fil0fil.h of 10.5); MySQL has the number for blobs of SDI.
const typeInstant innodb.PageType = 18

// layout is where the system records of a page are, by the format of its records.
type layout struct{ infimum, supremum, heap, extra int }

var layouts = map[bool]layout{
	true:  {infimum: 99, supremum: 112, heap: 120, extra: 5},
	false: {infimum: 101, supremum: 116, heap: 125, extra: 6},
}

// page is a page of an index.
type page struct {
	innodb.PageID
	b  []byte
	no innodb.PageNo
	layout
	compact bool
}

func (p *page) u16(at int) int      { return int(be.Uint16(p.b[at:])) }
func (p *page) prev() innodb.PageNo { return innodb.PageNo(be.Uint32(p.b[innodb.OffsetPrev:])) }
func (p *page) next() innodb.PageNo { return innodb.PageNo(be.Uint32(p.b[innodb.OffsetNext:])) }
func (p *page) level() int          { return p.u16(offsetLevel) }
func (p *page) index() uint64       { return be.Uint64(p.b[offsetIndex:]) }
func (p *page) heapTop() int        { return p.u16(offsetHeapTop) }

// slot returns the origin in slot i of the directory.
func (p *page) slot(i int) int { return p.u16(len(p.b) - trailerSize - slotSize*(i+1)) }

// check checks the header, as far as the walk through the records relies on it.
func (p *page) check(compact bool) error {
	switch t := innodb.HeaderType(p.b); {
	case innodb.AllZero(p.b):
		return p.errorf("it is of an index, and was never written")
	case t != innodb.TypeIndex && t != innodb.TypeSDI && t != typeInstant:
		return p.errorf("it is not a page of an index, but of type %d", t)
	case (p.u16(offsetHeap)&compactBit != 0) != compact:
		return p.errorf("its records are not of the row format of its table")
	}
	p.compact, p.layout = compact, layouts[compact]
	heap, records, slots := p.u16(offsetHeap)&^compactBit-systemRecs, p.u16(offsetRecords), p.u16(offsetSlots)
	switch {
	case records > heap || heap > len(p.b)/p.extra:
		return p.errorf("it cannot have %d records in a heap of %d", records, heap)
	case slots < 2 || slots > records+2:
		return p.errorf("it cannot have %d directory slots for %d records", slots, records)
	case p.heapTop() < p.heap || p.heapTop() > len(p.b)-trailerSize-slots*slotSize:
		return p.errorf("its heap cannot end at %d", p.heapTop())
	case p.slot(0) != p.infimum || p.slot(slots-1) != p.supremum:
		return p.errorf("its directory does not begin and end with the system records")
	}
	return nil
}

// follow returns the origin of the record that is linked after another.
func (p *page) follow(origin int) int {
	next := p.u16(origin - 2)
	if p.compact {
		// Relative, and modulo the size of a page.
		next = (origin + next) & 0xFFFF & (len(p.b) - 1)
	}
	return next
}

// owned is how many records a record's slot owns; 0: it has no slot.
func (p *page) owned(origin int) int { return int(p.b[origin-p.extra] & 0xF) }

// records calls f for each record of the page, in the order of the keys, and compares
// them with the directory and the count.
func (p *page) records(format *Format, f func(*Record) error) error {
	var r Record
	slot, since, n := 1, 0, 0
	for at := p.follow(p.infimum); at != p.supremum; at = p.follow(at) {
		if n++; n > p.u16(offsetRecords) {
			return p.errorf("it links more than its %d records", p.u16(offsetRecords))
		}
		since++
		if err := p.decode(&r, at, format); err != nil {
			return err
		}
		if owned := p.owned(at); owned != 0 {
			if owned != since || owned > maxOwned || slot >= p.u16(offsetSlots)-1 || p.slot(slot) != at {
				return p.errorf("its directory does not fit the record at %d", at)
			}
			slot, since = slot+1, 0
		}
		if r.metadata {
			continue
		}
		if err := f(&r); err != nil {
			return err
		}
	}
	if n != p.u16(offsetRecords) || slot != p.u16(offsetSlots)-1 || p.owned(p.supremum) != since+1 {
		return p.errorf("its header and its directory do not fit its %d records", n)
	}
	return nil
}

// firstChild returns the page that the first record of a page that is not a leaf points to.
func (p *page) firstChild(format *Format) (innodb.PageNo, error) {
	var r Record
	if err := p.decode(&r, p.follow(p.infimum), format); err != nil {
		return 0, err
	}
	child := r.Fields[len(r.Fields)-1]
	if child.Null || len(child.Data) != childSize {
		return 0, p.errorf("its first record does not point to a page")
	}
	return innodb.PageNo(be.Uint32(child.Data)), nil
}
