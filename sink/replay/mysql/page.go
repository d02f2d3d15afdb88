package mysql

import (
	"errors"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// Index page header, offsets from the start of the page. (page0types.h)
const (
	pageSlots      = 38 // directory slots
	pageHeapTop    = 40
	pageHeap       = 42 // records in the heap, bit 15: not ROW_FORMAT=REDUNDANT
	pageFree       = 44 // first of the list of deleted records
	pageGarbage    = 46 // bytes in that list
	pageLastInsert = 48
	pageDirection  = 50
	pageNDirection = 52
	pageRecords    = 54
	pageMaxTrxID   = 56 // 8 bytes, in leaves of secondary indexes
	pageLevel      = 64 // page creation clears what is before
	pageData       = 94 // infimum and supremum
)

const (
	compactBit = 0x8000 // in pageHeap
	firstUser  = 2      // heap number: before are infimum and supremum
	trailer    = 8      // bytes at the end of a page
)

// Directions of consecutive inserts.
const (
	directionLeft  = 1
	directionRight = 2
	directionNone  = 5
)

// A directory slot owns 4 to 8 records; the first exactly the infimum, the last
// down to one that owns only the supremum.
const (
	slotMin = 4
	slotMax = 8
)

// rowFormat is what differs between ROW_FORMAT=REDUNDANT and all others.
type rowFormat struct {
	compact           bool
	infimum, supremum int // origins
	heap              int // where user records begin
	extra             int // fixed bytes before a record's origin
	seed              string
}

var (
	redundant = rowFormat{
		infimum: 101, supremum: 116, heap: 125, extra: redundantExtra,
		seed: "\x08\x01\x00\x00\x03\x00\x74infimum\x00" + "\x09\x01\x00\x08\x03\x00\x00supremum\x00",
	}
	compact = rowFormat{
		compact: true, infimum: 99, supremum: 112, heap: 120, extra: compactExtra,
		seed: "\x01\x00\x02\x00\x0dinfimum\x00" + "\x01\x00\x0b\x00\x00supremum",
	}
)

// page is a page that records are applied to.
type page struct {
	id    innodb.PageID
	space *innodb.Space
	image []byte // in the size that it has in the file
	// frame is the page as records address it: in logical size, but in that of
	// the file for the pages of ROW_FORMAT=COMPRESSED tablespaces that are not those
	// of a B-tree or R-tree.
	frame []byte
	zip   *zipPage // such a page of a B-tree or R-tree; else nil

	*rowFormat // valid after open

	// Layouts and buffers, used again from record to record.
	one, two record
	built    []byte  // a record to be inserted
	old      []byte  // a page being reorganized
	zipWork  zipWork // of compressed pages
}

func (p *page) get(at int) int { return get16(p.frame, at) }

func (p *page) set(at, v int) { put16(p.frame, at, v) }

func isIndex(t innodb.PageType) bool {
	switch t {
	case innodb.TypeIndex, innodb.TypeRTree, innodb.TypeSDI:
		return true
	}
	return false
}

func (p *page) isCompact() bool { return p.get(pageHeap)&compactBit != 0 }

// open checks that the page is an index page of that row format, and what
// everything else relies on: that directory and heap lie within the page and do
// not overlap.
func (p *page) open(isCompact bool) error {
	if t := innodb.HeaderType(p.frame); !isIndex(t) {
		return fmt.Errorf("the page is of type %d, not an index page", t)
	}
	if p.isCompact() != isCompact {
		return errors.New("the page is of another row format")
	}
	p.rowFormat = &redundant
	if isCompact {
		p.rowFormat = &compact
	}
	slots, top := p.slots(), p.get(pageHeapTop)
	if slots < 2 || slots > len(p.frame)/4 || top < p.heap || top > p.slot(slots-1) ||
		p.heapSize()-firstUser > (top-p.heap)/p.extra ||
		p.get(p.slot(0)) != p.infimum || p.get(p.slot(slots-1)) != p.supremum {
		return errors.New("the page's header or directory is damaged")
	}
	return nil
}

func (p *page) slots() int { return p.get(pageSlots) }

// slot returns the offset of directory slot i.
func (p *page) slot(i int) int { return len(p.frame) - trailer - 2*(i+1) }

func (p *page) isLeaf() bool { return p.get(pageLevel) == 0 }

// heapSize is how many records the heap holds, and more than any list does.
func (p *page) heapSize() int { return p.get(pageHeap) &^ compactBit }

// user checks that a record of the user's can have its origin there.
func (p *page) user(at int) error {
	if at < p.heap+p.extra || at > p.get(pageHeapTop) {
		return fmt.Errorf("no record can be at offset %d", at)
	}
	return nil
}

// linked is user, for all that a list or the directory can name.
func (p *page) linked(at int) error {
	if at == p.infimum || at == p.supremum {
		return nil
	}
	return p.user(at)
}

// layout finds the layout of a record on the page.
func (p *page) layout(r *record, at int, x *mlog.Index) error {
	return p.layoutIn(p.frame, r, at, x)
}

// layoutIn is layout for a frame with the page's header.
func (p *page) layoutIn(frame []byte, r *record, at int, x *mlog.Index) error {
	if err := p.linked(at); err != nil {
		return err
	}
	if err := r.parse(frame[:max(at, get16(frame, pageHeapTop))], at, x); err != nil {
		return fmt.Errorf("the record at offset %d: %w", at, err)
	}
	if at-r.extra < pageData {
		return fmt.Errorf("the record at offset %d: %w", at, errRecordCut)
	}
	return nil
}

// next returns the successor of a record; 0 is the end of a list.
func (p *page) next(rec int) int {
	n := p.get(rec - 2)
	if p.compact && n != 0 {
		n = (rec + n) & (len(p.frame) - 1)
	}
	return n
}

func (p *page) setNext(rec, next int) {
	if p.compact && next != 0 {
		next = (next - rec) & 0xFFFF
	}
	p.set(rec-2, next)
}

// successor is next where the list goes on, at the latest to the supremum.
func (p *page) successor(rec int) (int, error) {
	n := p.next(rec)
	if n == p.supremum {
		return n, nil
	}
	return n, p.user(n)
}

func (p *page) owned(rec int) int { return int(p.frame[rec-p.extra] & ownedMask) }

// setOwned sets how many records a record owns.
func (p *page) setOwned(rec, n int) {
	at := rec - p.extra
	p.frame[at] = p.frame[at]&infoMask | byte(n)&ownedMask
}

func (p *page) info(rec int) byte { return p.frame[rec-p.extra] & infoMask }

func (p *page) setInfo(rec int, info byte) {
	at := rec - p.extra
	p.frame[at] = p.frame[at]&ownedMask | info&infoMask
}

// heapNo is in the same place in both families, counted from the fixed bytes.
func (p *page) heapNo(rec int) int { return p.get(rec-p.extra+1) >> heapNoShift }

func (p *page) setHeapNo(rec, no int) {
	at := rec - p.extra + 1
	p.set(at, no<<heapNoShift|p.get(at)&(1<<heapNoShift-1))
}

var errEndless = errors.New("the list of records has no end")

// maxOwned is more than any record can own: the number has four bits.
const maxOwned = 16

// owner finds the first record, beginning with rec, that owns a directory slot, and
// that slot.
func (p *page) owner(rec int) (owner, slot int, err error) {
	owner = rec
	for steps := maxOwned; p.owned(owner) == 0; steps-- {
		if steps == 0 {
			return 0, 0, errEndless
		}
		if owner, err = p.successor(owner); err != nil {
			return 0, 0, err
		}
	}
	for slot = p.slots() - 1; slot > 0; slot-- {
		if p.get(p.slot(slot)) == owner {
			return owner, slot, nil
		}
	}
	return 0, 0, fmt.Errorf("no directory slot is of the record at offset %d", owner)
}

// before finds the predecessor of a record that slot owns.
func (p *page) before(rec, slot int) (int, error) {
	at := p.get(p.slot(slot - 1))
	if err := p.linked(at); err != nil {
		return 0, err
	}
	for range maxOwned {
		next, err := p.successor(at)
		if err != nil {
			return 0, err
		}
		if next == rec {
			return at, nil
		}
		at = next
	}
	return 0, fmt.Errorf("the record at offset %d is not where the directory has it", rec)
}

// create makes the page an empty index page. What is before the page header,
// and from the level on in it, stays. (page0page.cc, page_create_low)
func (p *page) create(t innodb.PageType, isCompact bool) {
	p.rowFormat = &redundant
	heap := firstUser
	if isCompact {
		p.rowFormat, heap = &compact, firstUser|compactBit
	}
	b := p.frame
	put16(b, innodb.OffsetType, int(t))
	clear(b[pageSlots:pageLevel])
	put16(b, pageSlots, 2)
	put16(b, pageDirection, directionNone)
	put16(b, pageHeap, heap)
	put16(b, pageHeapTop, p.heap)
	n := copy(b[pageData:], p.seed)
	clear(b[pageData+n : len(b)-trailer])
	put16(b, p.slot(0), p.infimum)
	put16(b, p.slot(1), p.supremum)
}

// split divides the records of a slot that owns one too many: the lower half
// gets a slot of its own below. (page_dir_split_slot)
func (p *page) split(slot int) error {
	const half = (slotMax + 1) / 2
	n, upper := p.slots(), p.get(p.slot(slot))
	rec := p.get(p.slot(slot - 1))
	if err := p.linked(rec); err != nil {
		return err
	}
	for range half {
		var err error
		if rec, err = p.successor(rec); err != nil {
			return err
		}
	}
	if p.slot(n) < p.get(pageHeapTop) {
		return errors.New("the page has no room for another directory slot")
	}
	p.set(pageSlots, n+1)
	copy(p.frame[p.slot(n):p.slot(slot)], p.frame[p.slot(n-1):p.slot(slot-1)])
	p.set(p.slot(slot), rec)
	p.setOwned(rec, half)
	p.setOwned(upper, slotMax+1-half)
	return nil
}

// balance refills a slot that owns one record too few, from the next one or by
// becoming one with it. The last slot may own few. (page_dir_balance_slot)
func (p *page) balance(slot int) error {
	if slot == p.slots()-1 {
		return nil
	}
	rec, upper := p.get(p.slot(slot)), p.get(p.slot(slot+1))
	if err := errors.Join(p.linked(rec), p.linked(upper)); err != nil {
		return err
	}
	n := p.owned(upper)
	if n <= slotMin {
		return p.merge(slot, rec, upper)
	}
	moved, err := p.successor(rec)
	if err != nil {
		return err
	}
	count := p.owned(rec) + 1
	p.setOwned(rec, 0)
	p.setOwned(moved, count)
	p.set(p.slot(slot), moved)
	p.setOwned(upper, n-1)
	return nil
}

// merge makes slot one with the next. (page_dir_delete_slot)
func (p *page) merge(slot, rec, upper int) error {
	n, owned := p.slots(), p.owned(rec)+p.owned(upper)
	p.setOwned(rec, 0)
	p.setOwned(upper, owned)
	copy(p.frame[p.slot(n-2):p.slot(slot-1)], p.frame[p.slot(n-1):p.slot(slot)])
	p.set(p.slot(n-1), 0)
	p.set(pageSlots, n-1)
	return nil
}
