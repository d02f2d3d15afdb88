package mysql

import (
	"errors"
	"fmt"
)

// errHeap says that the records of a page are not its heap.
var errHeap = errors.New("the page's records are not those of its heap")

// zipStore makes from the frame the header of the zip frame and all that is
// after the modification log.
func (p *page) zipStore() error {
	z, n := p.zip, p.heapSize()-firstUser
	if z.end+1+n*z.index.stored() > len(z.data) {
		return errNoRoom
	}
	if err := p.zipDirectory(); err != nil {
		return err
	}
	copy(z.data, p.frame[:pageData])
	clear(z.data[z.end+1 : len(z.data)-n*zipSlotSize])
	z.blobs = 0
	for i, h := range p.zipWork.origins {
		if err := z.index.at(&z.rec, p.frame, h.origin(), p.get(pageHeapTop)); err != nil {
			return err
		}
		for _, o := range z.rec.outside {
			from := p.frame[h.origin()+o.at:][:o.size]
			switch {
			case o.size != zipBlobSize:
				copy(z.column(n, i), from)
			case !h.free():
				at := z.blob(n, z.blobs)
				if at <= z.end {
					return errNoRoom
				}
				copy(z.data[at:], from)
				z.blobs++
			}
		}
	}
	return nil
}

// zipDirectory makes the dense directory, and zipWork.origins in the order of
// heap numbers. (page_zip_dir_encode)
func (p *page) zipDirectory() error {
	w, n := &p.zipWork, p.heapSize()-firstUser
	if n < 0 || pageData+1+n*zipSlotSize >= len(p.image) {
		return errNoRoom
	}
	w.origins, w.owners = append(w.origins[:0], make([]zipHeapRecord, n)...), 2 // infimum and supremum
	i, err := p.zipList(0, p.next(compact.infimum), compact.supremum)
	switch {
	case err != nil:
		return err
	case i != p.get(pageRecords):
		return fmt.Errorf("%d records are in the list, not %d", i, p.get(pageRecords))
	case w.owners != p.slots():
		return fmt.Errorf("%d records own a directory slot, of which there are %d", w.owners, p.slots())
	}
	if i, err = p.zipList(i, p.get(pageFree), 0); err == nil && i != n {
		return errHeap
	}
	return err
}

// zipList puts a list of records, which goes on to end, into the dense directory
// beginning with slot i, and returns the slot after it. The list of deleted records
// ends with 0.
func (p *page) zipList(i, rec, end int) (int, error) {
	origins, free := p.zipWork.origins, end == 0
	for ; rec != end; rec = p.next(rec) {
		if err := p.user(rec); err != nil {
			return 0, err
		}
		no := p.heapNo(rec) - firstUser
		if no < 0 || no >= len(origins) || origins[no] != 0 {
			return 0, errHeap
		}
		origins[no] = newHeapRecord(rec, free)
		slot := rec
		if !free && p.owned(rec) != 0 {
			slot |= zipOwned
			p.zipWork.owners++
		}
		if !free && p.info(rec)&infoDeleted != 0 {
			slot |= zipMarked
		}
		i++
		put16(p.image, len(p.image)-zipSlotSize*i, slot)
	}
	return i, nil
}
