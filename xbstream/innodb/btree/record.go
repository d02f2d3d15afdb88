package btree

import "hb/xbstream/innodb"

// A record of ROW_FORMAT=REDUNDANT describes itself. Before its origin, from there back:
//
//	2  origin of the next record      3  heap number (13 bits), number of fields (10), and
//	1  info bits, records owned          whether the ends of fields have one byte
//	…  the end of each field, from the origin: 1 byte with the highest bit for NULL, or 2
//	   bytes with the highest bit for NULL and the next one for a column on other pages
//
// One of COMPACT, DYNAMIC and COMPRESSED needs the index's description:
//
//	2  distance to the next record    2  heap number (13 bits), status (3)
//	1  info bits, records owned
//	…  a bit for each field that can be NULL, the lowest one nearest to the origin
//	…  the length of each field that is neither fixed nor NULL: 1 byte, or 2 if the first has
//	   the highest bit; then the next bit is for a column on other pages
//
// (rem0rec.h, rem0rec.cc of MySQL 9.7.2.)

// A Field is a field of an index, as far as COMPACT records need it described.
type Field struct {
	Fixed    int  // bytes; 0: the length is in the record
	Long     bool // of variable length, with a maximum above 255 bytes
	Nullable bool
}

// Format describes the records of an index.
type Format struct {
	Compact bool // ROW_FORMAT=COMPACT, DYNAMIC or COMPRESSED
	// Fields of a record on a leaf; needed for Compact only.
	Fields []Field
	// Key is how many of them are in records on pages that are not leaves.
	Key int
}

// A Value is a field of a record.
type Value struct {
	Data []byte
	Null bool
	// External: Data ends in a reference to the rest, for Tree.External.
	External bool
}

// A Record is a record of an index.
type Record struct {
	Page    innodb.PageNo
	Origin  int  // where its data begins, in bytes from the start of the page
	Deleted bool // marked as deleted, and not yet purged
	Fields  []Value
}

const (
	childSize = 4 // a page number, the last field on pages that are not leaves

	infoOwned   = 0x0F
	infoMinRec  = 0x10 // the first record of the first page of a level that is not the leaves'
	infoDeleted = 0x20

	statusLeaf  = 0
	statusNode  = 1
	statusMask  = 7
	maxFields   = 1023 // REC_MAX_N_FIELDS
	redundOwned = 6    // where a redundant record has info bits, back from the origin
)

// decode reads the record with the given origin.
func (p *page) decode(r *Record, origin int, format *Format) error {
	if origin < p.heap+p.extra || origin > p.heapTop() {
		return p.errorf("it links a record at %d, where none can be", origin)
	}
	info := p.b[origin-p.extra] &^ infoOwned
	if info&^(infoMinRec|infoDeleted) != 0 || p.level() == 0 && info&infoMinRec != 0 {
		return p.errorf("the record at %d is of instant ALTER TABLE (%#x), which hb does not read", origin, info)
	}
	*r = Record{Page: p.no, Origin: origin, Deleted: info&infoDeleted != 0, Fields: r.Fields[:0]}
	if p.compact {
		return p.decodeCompact(r, format)
	}
	return p.decodeRedundant(r)
}

func (p *page) decodeRedundant(r *Record) error {
	count := p.u16(r.Origin-4) >> 1 & 0x3FF
	size, null, external := 2, 0x8000, 0x4000
	if p.b[r.Origin-3]&1 != 0 {
		size, null, external = 1, 0x80, 0
	}
	if count == 0 || r.Origin-redundOwned-count*size < p.heap {
		return p.errorf("the record at %d cannot have %d fields", r.Origin, count)
	}
	begin := 0
	for i := range count {
		at := r.Origin - redundOwned - (i+1)*size
		end := int(p.b[at])
		if size == 2 {
			end = p.u16(at)
		}
		v := Value{Null: end&null != 0, External: end&external != 0}
		end &^= null | external
		if end < begin || r.Origin+end > p.heapTop() {
			return p.errorf("field %d of the record at %d does not fit", i, r.Origin)
		}
		v.Data = p.b[r.Origin+begin : r.Origin+end]
		if begin = end; v.Null {
			v.Data = nil
		}
		r.Fields = append(r.Fields, v)
	}
	return nil
}

// compactHeader reads the header of a compact record, from its origin backwards.
type compactHeader struct {
	p       *page
	null    int // the next bit for NULL
	lengths int // where the next length is
}

func (p *page) decodeCompact(r *Record, format *Format) error {
	fields, want := format.Fields, statusLeaf
	nulls := 0
	for _, f := range fields {
		if f.Nullable {
			nulls++
		}
	}
	if p.level() > 0 {
		fields, want = fields[:min(format.Key, len(fields))], statusNode
	}
	if status := p.u16(r.Origin-4) & statusMask; status != want || len(fields) > maxFields {
		return p.errorf("the record at %d has status %d, not %d", r.Origin, status, want)
	}
	h := compactHeader{p: p, lengths: r.Origin - p.extra - 1 - (nulls+7)/8}
	if h.lengths < p.heap-1 {
		return p.errorf("the record at %d does not fit", r.Origin)
	}
	at := r.Origin
	for i, f := range fields {
		n, v, ok := h.field(r.Origin, f)
		if !ok || at+n > p.heapTop() {
			return p.errorf("field %d of the record at %d does not fit", i, r.Origin)
		}
		if !v.Null {
			v.Data = p.b[at : at+n]
		}
		r.Fields, at = append(r.Fields, v), at+n
	}
	if want == statusNode {
		if at+childSize > p.heapTop() {
			return p.errorf("the record at %d does not fit", r.Origin)
		}
		r.Fields = append(r.Fields, Value{Data: p.b[at : at+childSize]})
	}
	return nil
}

// field reads what the header of the record has of the next field: its length, and the
// value without its data. It is not ok if the header reaches beyond the heap.
func (h *compactHeader) field(origin int, f Field) (n int, v Value, ok bool) {
	if f.Nullable {
		bits := h.p.b[origin-h.p.extra-1-h.null/8]
		v.Null = bits>>(h.null%8)&1 != 0
		if h.null++; v.Null {
			return 0, v, true
		}
	}
	if f.Fixed != 0 {
		return f.Fixed, v, true
	}
	if h.lengths < h.p.heap {
		return 0, v, false
	}
	n = int(h.p.b[h.lengths])
	h.lengths--
	if f.Long && n&0x80 != 0 {
		if h.lengths < h.p.heap {
			return 0, v, false
		}
		n = n<<8 | int(h.p.b[h.lengths])
		h.lengths--
		v.External, n = n&0x4000 != 0, n&0x3FFF
	}
	return n, v, true
}
