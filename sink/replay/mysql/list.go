package mysql

import (
	"errors"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// tail is a record to be inserted: what it has in common with the one before
// it, the cursor, is left out. (page0cur.cc, page_cur_parse_insert_rec)
type tail struct {
	bytes    []byte // the record's end
	explicit bool   // the following is said; else it is as in the cursor
	info     byte   // info bits and status
	extra    int    // bytes before the origin
	common   int    // bytes of the beginning that are as in the cursor
}

func readTail(r *body) tail {
	n := r.c32()
	t := tail{explicit: n&1 != 0}
	if t.explicit {
		t.info = byte(r.u1())
		t.extra, t.common = int(r.c32()), int(r.c32())
	}
	t.bytes = r.take(int(n >> 1))
	return t
}

// build puts the record together in p.built and finds its layout, p.one.
func (p *page) build(x *mlog.Index, cursor int, t tail) error {
	if !t.explicit || t.common != 0 {
		if err := p.layout(&p.one, cursor, x); err != nil {
			return err
		}
		if !t.explicit {
			t.info, t.extra = p.infoAndStatus(cursor), p.one.extra
			t.common = p.one.size() - len(t.bytes)
		}
		if t.common < 0 || t.common > p.one.size() {
			return fmt.Errorf("has %d bytes in common with one of %d", t.common, p.one.size())
		}
	}
	size := t.common + len(t.bytes)
	if t.extra < p.extra || t.extra > size || size > len(p.frame) {
		return fmt.Errorf("a record of %d bytes cannot have its origin at byte %d", size, t.extra)
	}
	p.built = p.built[:0]
	if t.common > 0 {
		start := cursor - p.one.extra
		p.built = append(p.built, p.frame[start:start+t.common]...)
	}
	p.built = append(p.built, t.bytes...)
	p.setInfoAndStatus(p.built, t.extra, t.info)
	if err := p.one.parse(p.built, t.extra, x); err != nil {
		return fmt.Errorf("the new record: %w", err)
	}
	if p.one.extra != t.extra || p.one.size() != size {
		return fmt.Errorf("the new record has %d+%d bytes, not %d+%d", p.one.extra, p.one.data, t.extra, size-t.extra)
	}
	return nil
}

// infoAndStatus returns the info bits and, if compact, the status in the bits
// between.
func (p *page) infoAndStatus(rec int) byte {
	if p.compact {
		return p.info(rec) | p.frame[rec-3]&statusMask
	}
	return p.info(rec)
}

func (p *page) setInfoAndStatus(b []byte, origin int, v byte) {
	b[origin-p.extra] = b[origin-p.extra]&ownedMask | v&infoMask
	if p.compact {
		b[origin-3] = b[origin-3]&^statusMask | v&statusMask
	}
}

// insert inserts a record after the cursor.
func (p *page) insert(x *mlog.Index, cursor int, t tail) error {
	if cursor == p.supremum {
		return errors.New("nothing can follow the supremum")
	}
	if err := p.linked(cursor); err != nil {
		return err
	}
	if err := p.build(x, cursor, t); err != nil {
		return err
	}
	_, err := p.insertBuilt(x, cursor)
	return err
}

// insertBuilt inserts p.built, of the layout p.one, after the cursor and
// returns its origin. (page_cur_insert_rec_low)
func (p *page) insertBuilt(x *mlog.Index, cursor int) (rec int, err error) {
	start, heapNo, err := p.allocate(x, p.one.size())
	if err != nil {
		return 0, err
	}
	copy(p.frame[start:], p.built)
	rec = start + p.one.extra
	return rec, p.link(cursor, rec, heapNo)
}

// allocate finds the place for a record of size bytes: where the head of the
// list of deleted ones is, if it is large enough, or at the heap's top.
func (p *page) allocate(x *mlog.Index, size int) (start, heapNo int, err error) {
	free := p.get(pageFree)
	if free == 0 {
		return p.allocateHeap(size)
	}
	if err := p.user(free); err != nil {
		return 0, 0, err
	}
	if err := p.layout(&p.two, free, x); err != nil {
		return 0, 0, err
	}
	if p.two.size() < size {
		return p.allocateHeap(size)
	}
	return free - p.two.extra, p.heapNo(free), p.unfree(free, size)
}

// unfree takes the head off the list of deleted records, for a record of size
// bytes. Its remaining bytes are lost until the page is reorganized.
func (p *page) unfree(free, size int) error {
	next, garbage := p.next(free), p.get(pageGarbage)
	if next != 0 {
		if err := p.user(next); err != nil {
			return err
		}
	}
	if garbage < size {
		return fmt.Errorf("a record of %d bytes does not fit into %d bytes of garbage", size, garbage)
	}
	p.set(pageFree, next)
	p.set(pageGarbage, garbage-size)
	return nil
}

func (p *page) allocateHeap(size int) (start, heapNo int, err error) {
	start, heapNo = p.get(pageHeapTop), p.heapSize()
	if size > p.slot(p.slots()-1)-start {
		return 0, 0, fmt.Errorf("the page has no room for a record of %d bytes", size)
	}
	p.set(pageHeapTop, start+size)
	p.set(pageHeap, p.get(pageHeap)+1)
	return start, heapNo, nil
}

// link makes rec, whose bytes are in place, the successor of the cursor.
func (p *page) link(cursor, rec, heapNo int) error {
	next, err := p.successor(cursor)
	if err != nil {
		return err
	}
	p.setNext(rec, next)
	p.setNext(cursor, rec)
	p.set(pageRecords, p.get(pageRecords)+1)
	p.setOwned(rec, 0)
	p.setHeapNo(rec, heapNo)
	p.turn(cursor, next)
	p.set(pageLastInsert, rec)
	owner, slot, err := p.owner(rec)
	if err != nil {
		return err
	}
	n := p.owned(owner)
	p.setOwned(owner, n+1)
	if n == slotMax {
		return p.split(slot)
	}
	return nil
}

// turn keeps the statistics of the direction of inserts.
func (p *page) turn(cursor, next int) {
	last, direction, n := p.get(pageLastInsert), p.get(pageDirection), p.get(pageNDirection)+1
	switch {
	case last != 0 && last == cursor && direction != directionLeft:
		direction = directionRight
	case last != 0 && last == next && direction != directionRight:
		direction = directionLeft
	default:
		direction, n = directionNone, 0
	}
	p.set(pageDirection, direction)
	p.set(pageNDirection, n)
}

// delete deletes a record. (page_cur_delete_rec)
func (p *page) delete(x *mlog.Index, rec int) error {
	if err := p.user(rec); err != nil {
		return err
	}
	if err := p.layout(&p.one, rec, x); err != nil {
		return err
	}
	owner, slot, err := p.owner(rec)
	if err != nil {
		return err
	}
	count := p.owned(owner)
	p.set(pageLastInsert, 0)
	prev, err := p.before(rec, slot)
	if err != nil {
		return err
	}
	next, err := p.successor(rec)
	if err != nil {
		return err
	}
	p.setNext(prev, next)
	if owner == rec {
		owner = prev
		p.set(p.slot(slot), prev)
	}
	p.setOwned(owner, count-1)
	if err := p.release(rec); err != nil {
		return err
	}
	if count <= slotMin {
		return p.balance(slot)
	}
	return nil
}

// release puts a record of the layout p.one, which is in no list any more, at
// the head of that of deleted ones. (page_mem_free)
func (p *page) release(rec int) error {
	free := p.get(pageFree)
	if free != 0 {
		if err := p.user(free); err != nil {
			return err
		}
	}
	p.setNext(rec, free)
	p.set(pageFree, rec)
	p.set(pageGarbage, p.get(pageGarbage)+p.one.size())
	p.set(pageRecords, p.get(pageRecords)-1)
	if p.zip != nil {
		return p.zipReleased(rec)
	}
	return nil
}

// deleteListEnd deletes rec and all that follow. Where they were in the list,
// they are in that of deleted ones. (page_delete_rec_list_end)
func (p *page) deleteListEnd(x *mlog.Index, rec int) error {
	if rec == p.supremum {
		return nil
	}
	if err := p.user(rec); err != nil {
		return err
	}
	last, n, size, err := p.measure(x, rec)
	if err != nil {
		return err
	}
	owner, slot, err := p.owner(rec)
	if err != nil {
		return err
	}
	prev, err := p.before(rec, slot)
	if err != nil {
		return err
	}
	owned, at := p.owned(owner), rec
	for ; at != owner; at = p.next(at) { // owner has been here
		owned--
	}
	if owned <= 0 {
		return errors.New("a directory slot owns too few records")
	}
	p.set(p.slot(slot), p.supremum)
	p.setOwned(p.supremum, owned)
	p.setNext(prev, p.supremum)
	p.setNext(last, p.get(pageFree))
	p.set(pageLastInsert, 0)
	p.set(pageSlots, slot+1)
	p.set(pageFree, rec)
	p.set(pageGarbage, p.get(pageGarbage)+size)
	p.set(pageRecords, p.get(pageRecords)-n)
	return nil
}

// measure follows the list, beginning with rec, and returns its last record, and how
// many there are in how many bytes.
func (p *page) measure(x *mlog.Index, rec int) (last, n, size int, err error) {
	for rec != p.supremum {
		if n > p.heapSize() {
			return 0, 0, 0, errEndless
		}
		if err := p.layout(&p.one, rec, x); err != nil {
			return 0, 0, 0, err
		}
		last, n, size = rec, n+1, size+p.one.size()
		if rec, err = p.successor(rec); err != nil {
			return 0, 0, 0, err
		}
	}
	return last, n, size, nil
}

// deleteEach is deleteListEnd, one record after the other.
func (p *page) deleteEach(x *mlog.Index, rec int) error {
	if rec == p.supremum {
		return nil
	}
	if err := p.user(rec); err != nil {
		return err
	}
	for n := p.heapSize(); n > 0; n-- {
		next := p.next(rec)
		if err := p.delete(x, rec); err != nil || next == p.supremum {
			return err
		}
		rec = next
	}
	return errEndless
}

// deleteListStart deletes all records before rec. (page_delete_rec_list_start)
func (p *page) deleteListStart(x *mlog.Index, rec int) error {
	switch {
	case rec == p.infimum:
		return nil
	case rec == p.supremum && p.zip != nil:
		return errCompressed
	case rec == p.supremum:
		p.empty(x)
		return nil
	}
	if err := p.user(rec); err != nil {
		return err
	}
	for n := p.heapSize(); n > 0; n-- {
		first, err := p.successor(p.infimum)
		if err != nil || first == rec {
			return err
		}
		if err := p.delete(x, first); err != nil {
			return err
		}
	}
	return errEndless
}

// copyToCreated inserts records into an empty page, each after the one before.
// (page_parse_copy_rec_list_to_created_page)
func (p *page) copyToCreated(x *mlog.Index, tails []byte) error {
	if p.get(pageRecords) != 0 {
		return errors.New("the page is not empty")
	}
	last := p.infimum
	for r := (body{b: tails}); len(r.b) > 0; {
		t := readTail(&r)
		if r.short {
			return errShort
		}
		if err := p.build(x, last, t); err != nil {
			return err
		}
		var err error
		if last, err = p.insertBuilt(x, last); err != nil {
			return err
		}
	}
	p.set(pageLastInsert, 0)
	p.set(pageDirection, directionNone)
	p.set(pageNDirection, 0)
	return nil
}

// isClustered reports whether the server treats an index as clustered while it
// recovers.
func isClustered(x *mlog.Index) bool {
	return x.Versioned || x.HasInstant || x.Compact && x.NUniq != len(x.Fields)
}

// empty makes the page an empty one. Leaves of secondary indexes keep the newest
// transaction that changed them. (page_create_empty)
func (p *page) empty(x *mlog.Index) {
	var newest [8]byte
	if !isClustered(x) && p.isLeaf() {
		copy(newest[:], p.frame[pageMaxTrxID:])
	}
	p.create(innodb.HeaderType(p.frame), p.compact)
	copy(p.frame[pageMaxTrxID:], newest[:])
}

// reorganize writes the records again, in their order and without gaps.
// (btr_page_reorganize_low)
func (p *page) reorganize(x *mlog.Index) error {
	p.old = append(p.old[:0], p.frame...)
	old := page{frame: p.old, rowFormat: p.rowFormat}
	p.empty(x)
	from, last := p.infimum, p.infimum
	for n := old.heapSize(); n >= 0; n-- {
		var err error
		if from, err = old.successor(from); err != nil || from == p.supremum {
			return err
		}
		if err := old.layout(&p.one, from, x); err != nil {
			return err
		}
		p.built = append(p.built[:0], p.old[from-p.one.extra:from+p.one.data]...)
		if last, err = p.insertBuilt(x, last); err != nil {
			return err
		}
	}
	return errEndless
}
