package mysql

import (
	"encoding/binary"
	"errors"
	"fmt"

	"hb/xbstream/innodb/mysqlredo/mlog"
)

// A record is addressed by its origin, where its data begin. Before the origin
// lie, nearest first:
//
//	COMPACT, DYNAMIC, COMPRESSED             REDUNDANT
//	2  next record, relative                 2  next record, absolute
//	2  heap number << 3 | status             2  fields << 1 | short (11 bits)
//	                                         2  heap number << 3 (with those)
//	1  info bits, records owned              1  info bits, records owned
//	   [row version (1) or fields (1-2)]        [row version (1)]
//	   NULL bits                                ends of the fields: 1 byte each if
//	   lengths of variable fields               short, else 2
//
// Source: rem/rec.h and rem/rec.cc of MySQL 9.7.2 (rec_init_offsets_…), which
// read all that 5.6 and later wrote.

// Info bits, in the byte with the number of records owned.
const (
	infoMinRec    = 0x10 // the first record of a level above the leaves
	infoDeleted   = 0x20
	infoVersioned = 0x40 // a row version precedes
	infoInstant   = 0x80 // a number of fields precedes: ADD COLUMN of 8.0.12 to 8.0.28
	infoMask      = 0xF0
	ownedMask     = 0x0F
)

// Status of a compact record, the low bits of its heap number's second byte.
const (
	statusLeaf     = 0
	statusNode     = 1
	statusInfimum  = 2
	statusSupremum = 3
	statusMask     = 7
)

const (
	compactExtra   = 5 // fixed bytes before the origin
	redundantExtra = 6
	heapNoShift    = 3
	childSize      = 4 // page number at the end of a node pointer
)

// field is where a field ends, in bytes from the origin, and what it is.
type field uint32

const (
	fieldNull   field = 1 << 31
	fieldExtern field = 1 << 30 // the rest is stored elsewhere
	fieldAbsent field = 1 << 29 // this row has none: added later, or dropped before
	fieldFlags        = fieldNull | fieldExtern | fieldAbsent
)

func (f field) end() int        { return int(f &^ fieldFlags) }
func (f field) is(w field) bool { return f&w != 0 }

// record is the layout of one record.
type record struct {
	extra  int     // bytes before the origin
	data   int     // bytes, counted from the origin
	fields []field // in physical order
}

// size is the length of the whole record in bytes.
func (r *record) size() int { return r.extra + r.data }

// bounds returns where field i is, from the origin.
func (r *record) bounds(i int) (from, to int) {
	if i > 0 {
		from = r.fields[i-1].end()
	}
	return from, max(from, r.fields[i].end())
}

var errRecordCut = errors.New("its header does not fit the place it has")

// parse finds the layout of the record with the given origin. All of it must be
// within b, or the error is not nil.
func (r *record) parse(b []byte, origin int, x *mlog.Index) error {
	r.fields = r.fields[:0]
	var err error
	switch {
	case origin > len(b) || origin < compactExtra || origin < redundantExtra && !x.Compact:
		return errRecordCut
	case x.Compact:
		err = r.parseCompact(b, origin, x)
	default:
		err = r.parseRedundant(b, origin, x)
	}
	switch {
	case err != nil:
		return err
	case r.extra > origin:
		return errRecordCut
	case r.data > len(b)-origin:
		return fmt.Errorf("its %d bytes do not fit the place it has", r.data)
	}
	return nil
}

func (r *record) parseCompact(b []byte, origin int, x *mlog.Index) error {
	switch status := b[origin-3] & statusMask; status {
	case statusLeaf:
		return r.parseLeaf(b, origin, x)
	case statusNode:
		return r.parseNode(b, origin, x)
	case statusInfimum, statusSupremum:
		r.extra, r.data = compactExtra, 8
		r.fields = append(r.fields, 8)
		return nil
	default:
		return fmt.Errorf("has the status %d", status)
	}
}

// shape is which fields of an index a row has.
type shape struct {
	limit   int // physical positions from here on are absent
	version int // row version, or -1: fields do not depend on it
}

const noVersion = -1

// shapeOf returns the shape of the leaf record and how many bytes hold it.
func shapeOf(b []byte, origin int, x *mlog.Index) (shape, int, error) {
	all := shape{len(x.Fields), noVersion}
	if !x.Versioned && !x.HasInstant {
		return all, 0, nil
	}
	at := origin - compactExtra - 1
	switch b[origin-compactExtra] & (infoVersioned | infoInstant) {
	case infoVersioned | infoInstant:
		return all, 0, errors.New("has both a row version and a number of fields")
	case infoVersioned:
		if at < 0 {
			return all, 0, errRecordCut
		}
		return shape{len(x.Fields), int(b[at])}, 1, nil
	case infoInstant:
		return instantShape(b, at)
	}
	if x.HasInstant {
		return shape{x.NInstant, noVersion}, 0, nil
	}
	return shape{len(x.Fields), 0}, 0, nil
}

// instantShape reads the number of fields, whose lowest byte is at at.
func instantShape(b []byte, at int) (shape, int, error) {
	const twoBytes = 0x80
	if at < 1 {
		return shape{}, 0, errRecordCut
	}
	if b[at]&twoBytes == 0 {
		return shape{int(b[at]), noVersion}, 1, nil
	}
	return shape{int(b[at]&^twoBytes)<<8 | int(b[at-1]), noVersion}, 2, nil
}

// has reports whether such a row stores the field at a physical position.
func (s shape) has(position int, f *mlog.Field) bool {
	if position >= s.limit {
		return false
	}
	return s.version == noVersion ||
		!(f.HasAdded && int(f.Added) > s.version || f.HasDropped && int(f.Dropped) <= s.version)
}

// nullable returns how many fields of such a row have a NULL bit.
func (s shape) nullable(x *mlog.Index) int {
	n := 0
	for i := range x.Fields {
		if f := physical(x, i); !f.NotNull && s.has(i, f) {
			n++
		}
	}
	return n
}

// physical returns the field at a physical position.
func physical(x *mlog.Index, i int) *mlog.Field {
	if x.Versioned {
		i = x.Physical[i]
	}
	return &x.Fields[i]
}

func (r *record) parseLeaf(b []byte, origin int, x *mlog.Index) error {
	s, size, err := shapeOf(b, origin, x)
	if err != nil {
		return err
	}
	h := newHeader(b, origin-compactExtra-1-size, s.nullable(x))
	for i := range x.Fields {
		f := physical(x, i)
		if !s.has(i, f) {
			r.fields = append(r.fields, field(h.end)|fieldAbsent)
			continue
		}
		end, ok := h.field(f)
		if !ok {
			return errRecordCut
		}
		r.fields = append(r.fields, end)
	}
	r.extra, r.data = origin-h.lengths-1, h.end
	return nil
}

// parseNode is parse for a node pointer: the fields that make rows unique, and
// the number of a page. Its NULL bits are those that the whole index had when
// the table was made, and it never has a version.
func (r *record) parseNode(b []byte, origin int, x *mlog.Index) error {
	s := shape{len(x.Fields), noVersion}
	switch {
	case x.HasInstant:
		s.limit = x.NInstant
		if x.Versioned {
			s.version = 0
		}
	case x.Versioned:
		s.version = 0
	}
	h := newHeader(b, origin-compactExtra-1, s.nullable(x))
	for i := range min(x.NUniq, len(x.Fields)) {
		end, ok := h.field(&x.Fields[i])
		if !ok {
			return errRecordCut
		}
		r.fields = append(r.fields, end)
	}
	h.end += childSize
	r.fields = append(r.fields, field(h.end))
	r.extra, r.data = origin-h.lengths-1, h.end
	return nil
}

// header is a compact record's header on its way from the origin down.
type header struct {
	b       []byte
	nulls   int  // byte with the next NULL bit
	bit     byte // that bit
	lengths int  // next byte of the lengths
	end     int  // of the fields so far
}

func newHeader(b []byte, nulls, nullable int) header {
	return header{b: b, nulls: nulls, bit: 1, lengths: nulls - (nullable+7)/8}
}

// field steps over a field that the record has.
func (h *header) field(f *mlog.Field) (field, bool) {
	if h.lengths < -1 {
		return 0, false
	}
	if !f.NotNull {
		if h.bit == 0 {
			h.nulls, h.bit = h.nulls-1, 1
		}
		if h.nulls < 0 {
			return 0, false
		}
		null := h.b[h.nulls]&h.bit != 0
		h.bit <<= 1
		if null {
			return field(h.end) | fieldNull, true
		}
	}
	if f.Len != 0 {
		h.end += int(f.Len)
		return field(h.end), true
	}
	return h.variable(f.Big)
}

// variable steps over the length of a variable field: one byte, or two if it
// can be above 255 and is above 127 or continues elsewhere.
func (h *header) variable(big bool) (field, bool) {
	const twoBytes, external, mask = 0x80, 0x4000, 0x3FFF
	if h.lengths < 0 {
		return 0, false
	}
	n := int(h.b[h.lengths])
	h.lengths--
	if !big || n&twoBytes == 0 {
		h.end += n
		return field(h.end), true
	}
	if h.lengths < 0 {
		return 0, false
	}
	n = n<<8 | int(h.b[h.lengths])
	h.lengths--
	h.end += n & mask
	if n&external != 0 {
		return field(h.end) | fieldExtern, true
	}
	return field(h.end), true
}

// Flags in the ends of the fields of a REDUNDANT record.
const (
	shortNull  = 0x80
	longNull   = 0x8000
	longExtern = 0x4000
)

// ends is where a REDUNDANT record has the ends of its fields.
type ends struct {
	n       int  // fields
	short   bool // of one byte each
	version int  // row version, or noVersion
}

func readEnds(b []byte, origin int) (ends, error) {
	v := get16(b, origin-4)
	e := ends{n: v >> 1 & 0x3FF, short: v&1 != 0, version: noVersion}
	if b[origin-redundantExtra]&infoVersioned != 0 {
		if origin < redundantExtra+1 {
			return e, errRecordCut
		}
		e.version = int(b[origin-redundantExtra-1])
	}
	if e.n == 0 || e.extra() > origin {
		return e, errRecordCut
	}
	return e, nil
}

// width is how many bytes an end takes.
func (e ends) width() int {
	if e.short {
		return 1
	}
	return 2
}

func (e ends) extra() int {
	n := redundantExtra + e.n*e.width()
	if e.version != noVersion {
		n++
	}
	return n
}

// at is where the end of field i is stored, in bytes before the origin.
func (e ends) at(i int) int { return e.extra() - (e.n-1-i)*e.width() }

func (e ends) get(b []byte, origin, i int) field {
	if e.short {
		v := b[origin-e.at(i)]
		f := field(v &^ shortNull)
		if v&shortNull != 0 {
			f |= fieldNull
		}
		return f
	}
	v := binary.BigEndian.Uint16(b[origin-e.at(i):])
	f := field(v &^ (longNull | longExtern))
	if v&longNull != 0 {
		f |= fieldNull
	}
	if v&longExtern != 0 {
		f |= fieldExtern
	}
	return f
}

// setNull sets whether field i is NULL. In both widths the flag is the
// highest bit of the first byte.
func (e ends) setNull(b []byte, origin, i int, null bool) {
	at := origin - e.at(i)
	b[at] &^= shortNull
	if null {
		b[at] |= shortNull
	}
}

func (r *record) parseRedundant(b []byte, origin int, x *mlog.Index) error {
	e, err := readEnds(b, origin)
	if err != nil {
		return err
	}
	r.extra, r.data = e.extra(), e.get(b, origin, e.n-1).end()
	if !x.Versioned || e.n == 1 {
		for i := range e.n {
			r.fields = append(r.fields, e.get(b, origin, i))
		}
		return nil
	}
	// Rows of a version have all fields of it; others, and node pointers, as
	// many of the first as they say.
	s, last := shape{len(x.Fields), e.version}, field(0)
	for i, raw := 0, 0; i < len(x.Fields); i++ {
		if raw == e.n || !s.has(i, physical(x, i)) {
			r.fields = append(r.fields, last|fieldAbsent)
			continue
		}
		f := e.get(b, origin, raw)
		r.fields, last = append(r.fields, f), f&^fieldFlags
		raw++
	}
	return nil
}

func get16(b []byte, at int) int { return int(binary.BigEndian.Uint16(b[at:])) }

func put16(b []byte, at, v int) { binary.BigEndian.PutUint16(b[at:], uint16(v)) }
