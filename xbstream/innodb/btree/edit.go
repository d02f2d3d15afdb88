package btree

import "hb/xbstream/innodb"

// SetDeleted sets or takes away the delete mark of the record with that origin.
func SetDeleted(page []byte, origin int, compact, deleted bool) {
	at := origin - layouts[compact].extra
	page[at] &^= infoDeleted
	if deleted {
		page[at] |= infoDeleted
	}
}

// A Version is a row as it is to be on a page.
type Version struct {
	Deleted bool
	Fields  []Value
}

// Rebuild returns a leaf page of an index with other versions of the records with the given
// origins, all records in the order that they have and without gaps between them, and whether
// they fit. If not, without is to leave out those that are marked as deleted. Only the format
// COMPACT is known.
func (t *Tree) Rebuild(b []byte, versions map[int]Version, without bool) (out []byte, fits bool, err error) {
	p, err := t.asPage(b, innodb.HeaderPageNo(b), 0)
	if err != nil || !p.compact {
		return nil, false, err
	}
	w := &rebuilding{page: p, out: append([]byte(nil), b...), at: p.heap}
	clear(w.out[p.heap : len(b)-trailerSize])
	var r Record
	n := 0
	for at := p.follow(p.infimum); at != p.supremum; at = p.follow(at) {
		if n++; n > p.u16(offsetRecords) {
			return nil, false, p.errorf("it links more than its %d records", p.u16(offsetRecords))
		}
		if err := p.decode(&r, at, &t.Format); err != nil {
			return nil, false, err
		}
		v := Version{r.Deleted, r.Fields}
		if other, ok := versions[at]; ok {
			v = other
		}
		if v.Deleted && without {
			continue
		}
		if !w.add(v, &t.Format) {
			return nil, false, nil
		}
	}
	return w.out, w.finish(), nil
}

// rebuilding is a page that is being rebuilt.
type rebuilding struct {
	*page
	out     []byte
	at      int   // where the next record begins
	origins []int // of the records
}

// add adds a record after the others; false: it does not fit.
func (w *rebuilding) add(v Version, f *Format) bool {
	header, size := compactHeaderOf(v.Fields, f)
	origin := w.at + len(header) + w.extra
	if header == nil || origin+size > len(w.out)-trailerSize {
		return false
	}
	for i, c := range header {
		w.out[origin-w.extra-1-i] = c
	}
	if v.Deleted {
		w.out[origin-w.extra] = infoDeleted
	}
	be.PutUint16(w.out[origin-4:], uint16(len(w.origins)+systemRecs)<<heapShift|statusLeaf)
	at := origin
	for _, value := range v.Fields {
		at += copy(w.out[at:], value.Data)
	}
	w.origins, w.at = append(w.origins, origin), at
	return true
}

// heapShift is where a compact record has its heap number, in bits above the status.
const heapShift = 3

// compactHeaderOf returns what precedes the fixed part of a record's header, from there
// backwards, and how many bytes the fields have; nil: the fields are not of the format.
func compactHeaderOf(values []Value, f *Format) (header []byte, size int) {
	nulls := 0
	for _, field := range f.Fields {
		if field.Nullable {
			nulls++
		}
	}
	header = make([]byte, (nulls+7)/8, (nulls+7)/8+2*len(values)+1)
	if len(values) != len(f.Fields) {
		return nil, 0
	}
	null := 0
	for i, field := range f.Fields {
		v := values[i]
		if field.Nullable {
			if v.Null {
				header[null/8] |= 1 << (null % 8)
			}
			null++
		}
		n := len(v.Data)
		switch {
		case v.Null && (!field.Nullable || n != 0), field.Fixed != 0 && !v.Null && (n != field.Fixed || v.External):
			return nil, 0
		case v.Null || field.Fixed != 0:
		case field.Long && v.External && n < 1<<14:
			header = append(header, byte(n>>8)|0xC0, byte(n))
		case field.Long && !v.External && n >= 0x80 && n < 1<<14:
			header = append(header, byte(n>>8)|0x80, byte(n))
		case v.External || n > 0xFF || field.Long && n >= 0x80:
			return nil, 0
		default:
			header = append(header, byte(n))
		}
		size += n
	}
	return header, size
}

// groupSize is how many records each slot of a rebuilt directory owns (PAGE_DIR_SLOT_MIN_N_OWNED).
const groupSize = 4

// finish links the records, and writes directory and header; false: the directory does not fit.
func (w *rebuilding) finish() bool {
	slots := len(w.origins)/groupSize + 2
	if w.at > len(w.out)-trailerSize-slots*slotSize {
		return false
	}
	slot := func(i, origin, owned int) {
		be.PutUint16(w.out[len(w.out)-trailerSize-slotSize*(i+1):], uint16(origin))
		w.out[origin-w.extra] = w.out[origin-w.extra]&^infoOwned | byte(owned)
	}
	slot(0, w.infimum, 1)
	last := w.infimum
	for i, origin := range w.origins {
		be.PutUint16(w.out[last-2:], uint16(origin-last))
		if last = origin; (i+1)%groupSize == 0 {
			slot((i+1)/groupSize, origin, groupSize)
		}
	}
	be.PutUint16(w.out[last-2:], uint16(w.supremum-last))
	slot(slots-1, w.supremum, len(w.origins)%groupSize+1)
	be.PutUint16(w.out[offsetSlots:], uint16(slots))
	be.PutUint16(w.out[offsetHeapTop:], uint16(w.at))
	be.PutUint16(w.out[offsetHeap:], compactBit|uint16(len(w.origins)+systemRecs))
	be.PutUint16(w.out[offsetRecords:], uint16(len(w.origins)))
	clear(w.out[offsetHeap+2 : offsetHeap+8]) // PAGE_FREE, PAGE_GARBAGE, PAGE_LAST_INSERT
	return true
}
