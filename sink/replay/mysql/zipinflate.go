package mysql

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"hash/adler32"
	"io"
	"math/bits"
	"slices"

	"hb/xbstream/innodb"
)

// zipScratch is what decompression and compression need beside the page. One
// worker has one.
type zipScratch struct {
	src     bytes.Reader
	inflate io.ReadCloser
	out     []byte // list of fields and heap, as the stream has them
	origins []zipHeapRecord
}

// zipHeapRecord is a record of the heap: its origin, twice, plus 1 if it is on
// the free list. So they sort by heap number, which is the order of addresses.
type zipHeapRecord uint32

func newHeapRecord(origin int, free bool) zipHeapRecord {
	if free {
		return zipHeapRecord(origin<<1 | 1)
	}
	return zipHeapRecord(origin << 1)
}

func (r zipHeapRecord) origin() int { return int(r >> 1) }
func (r zipHeapRecord) free() bool  { return r&1 != 0 }

const zlibHeader = 2

// stream inflates the zlib stream at the start of src and returns the list of
// fields and the heap, both in scratch, and the length of the stream. The list
// is what comes before the first flush. logical, the size of the frame, bounds
// both what comes out and the window: servers refuse a larger one.
func (s *zipScratch) stream(src []byte, logical int) (list, heap []byte, size int, err error) {
	if len(src) < zlibHeader {
		return nil, nil, 0, zipErrorf("has no room for its data")
	}
	method, window := src[0]&0xF, int(src[0]>>4)+8
	if method != 8 || window > bits.Len(uint(logical))-1 || src[1]&0x20 != 0 || binary.BigEndian.Uint16(src)%31 != 0 {
		return nil, nil, 0, zipErrorf("does not begin with the header of a zlib stream (%x)", src[:zlibHeader])
	}
	s.open(src[zlibHeader:])
	if len(s.out) != logical {
		s.out = make([]byte, logical)
	}
	n, err := s.inflate.Read(s.out)
	if err != nil {
		return nil, nil, 0, zipErrorf("cannot be inflated: %w", noEOF(err))
	}
	end := n
	for err == nil && end < len(s.out) {
		var more int
		more, err = s.inflate.Read(s.out[end:])
		end += more
	}
	if !errors.Is(err, io.EOF) {
		return nil, nil, 0, zipErrorf("cannot be inflated: %w", noEOF(err))
	}
	size = len(src) - s.src.Len()
	if size+adler32.Size > len(src) || binary.BigEndian.Uint32(src[size:]) != adler32.Checksum(s.out[:end]) {
		return nil, nil, 0, zipErrorf("inflates to something with another checksum")
	}
	return s.out[:n], s.out[n:end], size + adler32.Size, nil
}

// open starts inflating b. The reader takes single bytes and none beyond the
// stream, so that what is left in src tells where it ended.
func (s *zipScratch) open(b []byte) {
	s.src.Reset(b)
	if s.inflate == nil {
		s.inflate = flate.NewReader(&s.src)
		return
	}
	// It cannot fail: see flate.Resetter.
	_ = s.inflate.(flate.Resetter).Reset(&s.src, nil)
}

// noEOF explains an end of the input, or of the room for output.
func noEOF(err error) error {
	switch {
	case err == nil:
		return errors.New("more comes out than a page holds")
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

// decompress makes the frame from z.data. The frame has the logical size; all of
// its bytes are set. After an error it is undefined.
func (z *zipPage) decompress(frame []byte, s *zipScratch) error {
	d := zipDecompressor{zipScratch: s, zipPage: z, frame: frame}
	clear(frame[copy(frame, z.data[:pageData]):])
	for _, step := range []func() error{d.header, d.directory, d.heap, d.log, d.columns} {
		if err := step(); err != nil {
			return err
		}
	}
	d.chain()
	z.stale = false
	return nil
}

// zipDecompressor makes a frame from a zip frame.
type zipDecompressor struct {
	*zipScratch
	*zipPage
	frame    []byte
	records  int // that exist; the other heap records are free
	heapTop  int
	status   int // of records
	numbered int // heap records whose number is set; the next can be new

	src []byte // the rest of the heap as the stream has it
	to  int    // where in the frame it goes
}

// header checks the counts that everything else relies on, and the dense directory.
func (d *zipDecompressor) header() error {
	n := get16(d.frame, pageHeap)
	heap := n&^compactBit - firstUser
	d.records, d.heapTop = get16(d.frame, pageRecords), get16(d.frame, pageHeapTop)
	slots := get16(d.frame, pageSlots)
	switch {
	case n&compactBit == 0 || heap < 0 || pageData+heap*zipSlotSize >= len(d.data):
		return zipErrorf("cannot have a heap of %#x records", n)
	case d.records > heap:
		return zipErrorf("says that %d of its %d records exist", d.records, heap)
	case slots < 2 || slots > d.records+2:
		return zipErrorf("cannot have %d directory slots for %d records", slots, d.records)
	case d.heapTop < compact.heap || d.heapTop > len(d.frame)-trailer-slots*zipSlotSize:
		return zipErrorf("cannot have a heap that ends at %d", d.heapTop)
	}
	if get16(d.frame, pageLevel) != 0 {
		d.status = statusNode
	}
	return d.sort(heap)
}

// sort orders the records by address and thereby by heap number.
func (d *zipDecompressor) sort(heap int) error {
	d.origins = d.origins[:0]
	for i := range heap {
		slot := d.slot(i)
		if i >= d.records && slot&^zipOrigin != 0 {
			return zipErrorf("marks a record of its free list (%#x)", slot)
		}
		d.origins = append(d.origins, newHeapRecord(slot&zipOrigin, i >= d.records))
	}
	if free := get16(d.frame, pageFree); d.records == heap && free != 0 || d.records < heap && free != d.slot(d.records) {
		return zipErrorf("has a free list that begins at %d and one that does not", free)
	}
	slices.Sort(d.origins)
	last := compact.heap
	for _, r := range d.origins {
		if r.origin() < last+compactExtra || r.origin() > d.heapTop {
			return zipErrorf("has a record at %d, where none can be", r.origin())
		}
		last = r.origin()
	}
	return nil
}

// directory makes the sparse directory from the dense one.
func (d *zipDecompressor) directory() error {
	slots, n := get16(d.frame, pageSlots), 1
	put := func(i, origin int) { put16(d.frame, len(d.frame)-trailer-zipSlotSize*(i+1), origin) }
	for i := range d.records {
		slot := d.slot(i)
		if slot&zipOwned == 0 {
			continue
		}
		if n < slots-1 {
			put(n, slot&zipOrigin)
		}
		n++
	}
	if n != slots-1 {
		return zipErrorf("has %d directory slots instead of %d", n+1, slots)
	}
	put(0, compact.infimum)
	put(n, compact.supremum)
	copy(d.frame[pageData:], compact.seed)
	return nil
}

// heap inflates the stream and puts the records where they belong.
func (d *zipDecompressor) heap() error {
	list, heap, size, err := d.stream(d.data[pageData:len(d.data)-1], len(d.frame))
	if err != nil {
		return err
	}
	if err := d.index.decode(list, d.status == statusLeaf); err != nil {
		return err
	}
	d.src, d.to, d.end = heap, compact.heap, pageData+size
	for i, r := range d.origins {
		// Records that came after the page was compressed are in the log.
		if gap := r.origin() - compactExtra - d.to; gap > len(d.src) {
			d.place(len(d.src))
			return nil
		} else if gap < 0 {
			return zipErrorf("has records at %d that overlap", r.origin())
		} else {
			d.place(gap)
		}
		d.number(i)
		d.to = r.origin()
		if len(d.src) == 0 {
			return nil
		}
		if err := d.fields(r.origin()); err != nil {
			return err
		}
	}
	if len(d.src) > d.heapTop-d.to {
		return zipErrorf("has more data than its heap")
	}
	d.place(len(d.src))
	return nil
}

// place puts the next n bytes of the stream into the frame.
func (d *zipDecompressor) place(n int) {
	d.to += copy(d.frame[d.to:], d.src[:n])
	d.src = d.src[n:]
}

// number sets heap number and status of record i of the heap.
func (d *zipDecompressor) number(i int) {
	put16(d.frame, d.origins[i].origin()-4, (i+firstUser)<<heapNoShift|d.status)
	d.numbered = max(d.numbered, i+1)
}

// fields puts the data of a record that has some outside of the stream; that of
// others is part of the gap before the next record.
func (d *zipDecompressor) fields(origin int) error {
	if d.index.leaf && !d.index.clustered() {
		return nil
	}
	if err := d.index.at(&d.rec, d.frame, origin, d.heapTop); err != nil {
		return err
	}
	for i := range len(d.rec.outside) + 1 {
		from, to := d.rec.inside(i)
		if to-from > len(d.src) {
			return zipErrorf("has less data than its heap")
		}
		d.to = origin + from
		d.place(to - from)
	}
	d.to = origin + d.rec.data
	return nil
}

// log applies the modification log: whole records, except for the fields outside of
// the stream.
func (d *zipDecompressor) log() error {
	limit := len(d.data) - len(d.origins)*d.index.stored()
	for d.end < limit {
		v, size := int(d.data[d.end]), 1
		switch {
		case v == 0 && d.numbered == len(d.origins):
			return nil
		case v == 0:
			return zipErrorf("holds %d of its %d records", d.numbered, len(d.origins))
		}
		if v&zipLogLong != 0 && d.end+1 < limit {
			v, size = v&^zipLogLong<<8|int(d.data[d.end+1]), 2
		}
		if err := d.entry(v, d.end+size, limit); err != nil {
			return err
		}
	}
	return zipErrorf("has a modification log without an end")
}

// entry applies the entry of the modification log whose number v ends at at.
func (d *zipDecompressor) entry(v, at, limit int) error {
	i := v>>1 - 1
	isNew := i == d.numbered
	if i < 0 || i >= len(d.origins) || i > d.numbered || isNew && v&zipLogClear != 0 {
		return zipErrorf("has an entry %#x in its modification log that cannot be", v)
	}
	d.number(i)
	origin := d.origins[i].origin()
	if v&zipLogClear != 0 {
		if err := d.index.at(&d.rec, d.frame, origin, d.heapTop); err != nil {
			return err
		}
		clear(d.frame[origin : origin+d.rec.data])
		d.end = at
		return nil
	}
	if err := d.index.reversed(&d.rec, d.data[:limit], at, origin, d.heapTop); err != nil {
		return err
	}
	return d.write(origin, at, limit)
}

// write puts the record whose header and data are in the modification log at at.
func (d *zipDecompressor) write(origin, at, limit int) error {
	size := d.rec.extra + d.rec.data
	for _, o := range d.rec.outside {
		size -= o.size
	}
	if at+size >= limit {
		return zipErrorf("has a modification log that goes on past its room")
	}
	for i := range d.rec.extra {
		d.frame[origin-compactExtra-1-i] = d.data[at+i]
	}
	at += d.rec.extra
	for i := range len(d.rec.outside) + 1 {
		from, to := d.rec.inside(i)
		at += copy(d.frame[origin+from:origin+to], d.data[at:])
	}
	d.end = at
	return nil
}

// columns restores the fields that are stored outside of the stream, and checks that
// the records are where the directory has them.
func (d *zipDecompressor) columns() error {
	d.blobs = 0
	if d.end+len(d.origins)*d.index.stored() >= len(d.data) {
		return zipErrorf("has a modification log that goes on past its room")
	}
	last := compact.heap
	for i, r := range d.origins {
		origin := r.origin()
		if err := d.index.at(&d.rec, d.frame, origin, d.heapTop); err != nil {
			return err
		}
		if origin-compactExtra-d.rec.extra < last || get16(d.frame, origin-4) != (i+firstUser)<<heapNoShift|d.status {
			return zipErrorf("has records at %d that overlap", origin)
		}
		last = origin + d.rec.data
		if err := d.outside(i, r); err != nil {
			return err
		}
	}
	return nil
}

// outside restores the columns of heap record i that are not in the stream.
// Records of the free list have no BLOB pointers.
func (d *zipDecompressor) outside(i int, r zipHeapRecord) error {
	for _, o := range d.rec.outside {
		to := d.frame[r.origin()+o.at:][:o.size]
		switch {
		case o.size != zipBlobSize:
			copy(to, d.column(len(d.origins), i))
		case r.free():
			clear(to)
		default:
			at := d.blob(len(d.origins), d.blobs)
			if at <= d.end {
				return zipErrorf("has BLOB pointers in its modification log")
			}
			copy(to, d.data[at:])
			d.blobs++
		}
	}
	return nil
}

// chain links the records, and sets their info bits and what they own.
func (d *zipDecompressor) chain() {
	info, owned, last := byte(0), byte(1), compact.infimum
	if d.status == statusNode && binary.BigEndian.Uint32(d.frame[innodb.OffsetPrev:]) == uint32(innodb.PageNull) {
		info = infoMinRec
	}
	for i := range d.records {
		slot := d.slot(i)
		origin := slot & zipOrigin
		if slot&zipMarked != 0 {
			info |= infoDeleted
		}
		if slot&zipOwned != 0 {
			info |= owned
			owned = 0
		}
		owned++
		d.frame[origin-compactExtra], info = info, 0
		d.link(last, origin)
		last = origin
	}
	d.link(last, compact.supremum)
	d.frame[compact.supremum-compactExtra] = owned
	for i := d.records; i < len(d.origins); i++ {
		origin := d.slot(i)
		d.frame[origin-compactExtra] = 0
		put16(d.frame, origin-2, 0) // the end of the list
		if i > d.records {
			d.link(d.slot(i-1), origin)
		}
	}
}

func (d *zipDecompressor) link(rec, next int) { put16(d.frame, rec-2, (next-rec)&0xFFFF) }
