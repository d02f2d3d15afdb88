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
// (rem0rec.h, rem0rec.cc of MySQL 9.7.2.) instant.go has what instant ALTER TABLE changes.

// A Field is a field of an index, as far as COMPACT records need it described.
type Field struct {
	Fixed    int  // bytes; 0: the length is in the record
	Long     bool // of variable length, with a maximum above 255 bytes
	Nullable bool
	// Versions of rows that added and dropped it, of MySQL 8.0.29 and later; 0: none did.
	Added, Dropped int
}

// Format describes the records of an index.
type Format struct {
	Compact bool // ROW_FORMAT=COMPACT, DYNAMIC or COMPRESSED
	// Fields of a record on a leaf, in their order there, with those that were dropped
	// instantly; needed for Compact, and after instant ALTER TABLE.
	Fields []Field
	// Key is how many of them are in records on pages that are not leaves.
	Key int
	// Core is of a clustered index to which columns were added instantly without versions of
	// rows: by MySQL 8.0.12 to 8.0.28, and MariaDB; see Tree.Core.
	Core *Core
}

// A Value is a field of a record.
type Value struct {
	Data []byte
	Null bool
	// External: Data ends in a reference to the rest, for Tree.External.
	External bool
	// Missing: the row does not have the field. It was added later, and the row has the
	// column's default, or it had been dropped before.
	Missing bool
}

// A Record is a record of an index.
type Record struct {
	Page    innodb.PageNo
	Origin  int  // where its data begins, in bytes from the start of the page
	Deleted bool // marked as deleted, and not yet purged
	Version int  // of the row, that the row has (MySQL 8.0.29); -1: it has none
	Fields  []Value

	metadata bool // not a row, but what describes MariaDB's instant ALTER TABLE
}

const (
	childSize = 4 // a page number, the last field on pages that are not leaves

	infoOwned   = 0x0F
	infoMinRec  = 0x10 // the first record of the first page of a level that is not the leaves'
	infoDeleted = 0x20
	infoVersion = 0x40 // MySQL 8.0.29: the row has the number of its version
	infoInstant = 0x80 // MySQL 8.0.12: the row has the number of its fields

	statusLeaf  = 0
	statusNode  = 1
	statusAdded = 4 // MariaDB: the row has the number of its fields
	statusMask  = 7
	maxFields   = 1023 // REC_MAX_N_FIELDS
	redundOwned = 6    // where a redundant record has info bits, back from the origin
)

// decode reads the record with the given origin.
func (p *page) decode(r *Record, origin int, format *Format) error {
	if origin < p.heap+p.extra || origin > p.heapTop() {
		return p.errorf("it links a record at %d, where none can be", origin)
	}
	info, leaf := p.b[origin-p.extra]&^infoOwned, p.level() == 0
	*r = Record{Page: p.no, Origin: origin, Deleted: info&infoDeleted != 0, Version: -1, Fields: r.Fields[:0]}
	switch flags := info & (infoVersion | infoInstant); {
	case leaf && info&infoMinRec != 0 && format.Core != nil && flags == 0:
		r.metadata = true
		return nil
	case leaf && info&infoMinRec != 0, flags != 0 && (!leaf || !format.instant()), flags == infoVersion|infoInstant:
		return p.errorf("the record at %d is of instant ALTER TABLE (%#x), which hb does not read", origin, info)
	}
	if p.compact {
		return p.decodeCompact(r, info, format)
	}
	return p.decodeRedundant(r, info, format)
}

func (p *page) decodeRedundant(r *Record, info byte, format *Format) error {
	count, header := p.u16(r.Origin-4)>>1&0x3FF, redundOwned
	size, null, external := 2, 0x8000, 0x4000
	if p.b[r.Origin-3]&1 != 0 {
		size, null, external = 1, 0x80, 0
	}
	if info&infoVersion != 0 {
		header++
		r.Version = int(p.b[r.Origin-header])
	}
	if count == 0 || r.Origin-header-count*size < p.heap {
		return p.errorf("the record at %d cannot have %d fields", r.Origin, count)
	}
	begin := 0
	for i := range count {
		at := r.Origin - header - (i+1)*size
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
	if p.level() == 0 && format.instant() {
		return p.spread(r, format)
	}
	return nil
}

// compactHeader reads the header of a compact record, from its origin backwards.
type compactHeader struct {
	p       *page
	nulls   int // where the bits for NULL begin
	null    int // the next bit for NULL
	lengths int // where the next length is
}

func (p *page) decodeCompact(r *Record, info byte, format *Format) error {
	shape, header, ok := p.shape(r.Origin, info, format)
	if !ok {
		return p.errorf("the header of the record at %d does not fit its table", r.Origin)
	}
	r.Version = shape.given
	fields, node := format.Fields, p.level() > 0
	if node {
		fields = fields[:min(format.Key, len(fields))]
	}
	h := compactHeader{p: p, nulls: header, lengths: header - shape.nullBytes(format)}
	if h.lengths < p.heap-1 {
		return p.errorf("the record at %d does not fit", r.Origin)
	}
	at := r.Origin
	for i, f := range fields {
		if !shape.has(i, f) {
			r.Fields = append(r.Fields, Value{Missing: true})
			continue
		}
		n, v, ok := h.field(f)
		if !ok || at+n > p.heapTop() {
			return p.errorf("field %d of the record at %d does not fit", i, r.Origin)
		}
		if !v.Null {
			v.Data = p.b[at : at+n]
		}
		r.Fields, at = append(r.Fields, v), at+n
	}
	if node {
		if at+childSize > p.heapTop() {
			return p.errorf("the record at %d does not fit", r.Origin)
		}
		r.Fields = append(r.Fields, Value{Data: p.b[at : at+childSize]})
	}
	return nil
}

// field reads what the header of the record has of the next field: its length, and the
// value without its data. It is not ok if the header reaches beyond the heap.
func (h *compactHeader) field(f Field) (n int, v Value, ok bool) {
	if f.Nullable {
		if h.nulls-h.null/8 < h.p.heap {
			return 0, v, false
		}
		bits := h.p.b[h.nulls-h.null/8]
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
