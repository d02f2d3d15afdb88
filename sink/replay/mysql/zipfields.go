package mysql

// zipField is a field of an index as a zip frame describes it.
type zipField struct {
	size     int // bytes; 0: variable
	nullable bool
	big      bool // variable with a maximum above 255 bytes
}

// zipFields are the fields of an index as a zip frame describes them: runs of
// adjacent fields of fixed length that cannot be NULL are one field, so that sizes of
// records and all that is stored outside of the stream are known, and no more.
//
// Encoded, a field is one byte, or two with the highest bit set: length << 1 | not
// NULL, or for variable ones 0 and 1 with a maximum of 255 bytes and 126 and 127
// above. The last number is, on a leaf, the field that begins with DB_TRX_ID, or
// 0; elsewhere how many fields of the index, not only of those listed, can be
// NULL. (page_zip_fields_encode, page_zip_fields_decode)
type zipFields struct {
	encoded []byte
	fields  []zipField
	leaf    bool
	trx     int // field that begins with DB_TRX_ID; 0 but on leaves of clustered indexes
	nulls   int // fields that have a NULL bit
}

const (
	zipFieldLong    = 0x80 // the number has two bytes
	zipFieldNotNull = 1
	zipFieldVar     = 0
	zipFieldBig     = 126

	zipMaxRun    = 768        // most bytes of a run of fixed fields (DICT_MAX_FIXED_COL_LEN)
	zipMaxFields = 1024 - 1   // REC_MAX_N_FIELDS
	zipMaxList   = 2 * (1024) // bytes of the list, encoded
)

// clustered reports whether the page is a leaf of a clustered index.
func (x *zipFields) clustered() bool { return x.trx != 0 }

// stored is how many bytes each heap record has outside of the stream, its slot
// in the dense directory included, except for BLOB pointers.
func (x *zipFields) stored() int {
	switch {
	case !x.leaf:
		return zipSlotSize + childSize
	case x.clustered():
		return zipSlotSize + zipTrxSize
	}
	return zipSlotSize
}

// decode reads the list of fields of a page.
func (x *zipFields) decode(list []byte, leaf bool) error {
	*x = zipFields{encoded: append(x.encoded[:0], list...), fields: x.fields[:0], leaf: leaf}
	var last int
	for first := true; len(list) > 0; first = false {
		if !first {
			x.add(last)
		}
		last = int(list[0])
		list = list[1:]
		if last&zipFieldLong != 0 {
			if len(list) == 0 {
				return zipErrorf("has a list of fields that is cut short")
			}
			last = last<<8 | int(list[0]) // the mark stays
			list = list[1:]
		}
	}
	if len(x.fields) == 0 || len(x.fields) > zipMaxFields {
		return zipErrorf("has a list of %d fields", len(x.fields))
	}
	return x.setLast(last)
}

// add appends a field by its number, which has the mark zipFieldLong in its
// upper byte if it was of two bytes.
func (x *zipFields) add(v int) {
	f := zipField{nullable: v&zipFieldNotNull == 0}
	switch {
	case v > 0xFF:
		f.size = v &^ (zipFieldLong << 8) >> 1
	case v >= zipFieldBig:
		f.big = true
	case v > zipFieldNotNull:
		f.size = v >> 1
	}
	if f.nullable {
		x.nulls++
	}
	x.fields = append(x.fields, f)
}

// setLast takes the number after the fields.
func (x *zipFields) setLast(v int) error {
	if v > 0xFF {
		v &^= zipFieldLong << 8
	}
	if !x.leaf {
		if v < x.nulls || v > zipMaxFields {
			return zipErrorf("has %d fields that can be NULL, of which it lists %d", v, x.nulls)
		}
		x.nulls = v
		return nil
	}
	if v >= len(x.fields) {
		return zipErrorf("has DB_TRX_ID in field %d of %d", v, len(x.fields))
	}
	if v != 0 && (x.fields[v].nullable || x.fields[v].size < zipTrxSize) {
		return zipErrorf("has DB_TRX_ID in a field of %d bytes", x.fields[v].size)
	}
	x.trx = v
	return nil
}

// zipRecord is the layout of a record, in bytes.
type zipRecord struct {
	extra   int       // before the origin, without the fixed bytes
	data    int       // from the origin
	outside []zipSpan // of the data, in ascending order: the fields that are not in the stream
	blobs   int       // how many of those are BLOB pointers
	bad     bool      // a BLOB pointer in a field too short for one
}

// zipSpan is a part of a record's data: DB_TRX_ID with DB_ROLL_PTR, a BLOB
// pointer, or a child page, as its size tells.
type zipSpan struct{ at, size int }

// inside returns part i of those that the stream holds, of which there are
// len(r.outside)+1.
func (r *zipRecord) inside(i int) (from, to int) {
	if i > 0 {
		from = r.outside[i-1].at + r.outside[i-1].size
	}
	if i < len(r.outside) {
		return from, r.outside[i].at
	}
	return from, r.data
}

// zipHeader is a record's header without the fixed bytes: as it lies before an
// origin, or reversed, as in the modification log.
type zipHeader struct {
	b    []byte
	at   int // of the byte nearest to the origin
	step int // to the next
}

// byte returns byte i, counted from the origin. Beyond b it is zero; callers
// check afterwards that the whole record lies within b.
func (h zipHeader) byte(i int) int {
	if at := h.at + i*h.step; at >= 0 && at < len(h.b) {
		return int(h.b[at])
	}
	return 0
}

// layout finds the layout of the record with the given header.
func (x *zipFields) layout(r *zipRecord, h zipHeader) {
	*r = zipRecord{outside: r.outside[:0]}
	null, length := 0, (x.nulls+7)/8
	for i, f := range x.fields {
		if f.nullable {
			is := h.byte(null/8)>>(null%8)&1 != 0
			if null++; is {
				continue
			}
		}
		if f.size != 0 {
			if x.trx != 0 && x.trx == i {
				r.outside = append(r.outside, zipSpan{r.data, zipTrxSize})
			}
			r.data += f.size
			continue
		}
		n := h.byte(length)
		length++
		if f.big && n&0x80 != 0 {
			n = n<<8 | h.byte(length)
			length++
		}
		r.variable(n, f.big && n > 0xFF)
	}
	if !x.leaf {
		r.outside = append(r.outside, zipSpan{r.data, childSize})
		r.data += childSize
	}
	r.extra = length
}

// variable adds a field of variable length. A length of two bytes has 14 bits,
// and whether the field ends in a BLOB pointer.
func (r *zipRecord) variable(n int, long bool) {
	const external, mask = 0x4000, 0x3FFF
	if !long {
		r.data += n
		return
	}
	r.data += n & mask
	if n&external != 0 {
		r.bad = r.bad || n&mask < zipBlobSize
		r.outside = append(r.outside, zipSpan{r.data - zipBlobSize, zipBlobSize})
		r.blobs++
	}
}

// at finds the layout of a frame's record. All of it must lie between the start
// of the heap and end.
func (x *zipFields) at(r *zipRecord, frame []byte, origin, end int) error {
	x.layout(r, zipHeader{frame, origin - compactExtra - 1, -1})
	return x.check(r, origin, end)
}

// reversed finds the layout of the record with the given origin, from its
// header in the modification log at b[at].
func (x *zipFields) reversed(r *zipRecord, b []byte, at, origin, end int) error {
	x.layout(r, zipHeader{b, at, 1})
	return x.check(r, origin, end)
}

func (x *zipFields) check(r *zipRecord, origin, end int) error {
	switch {
	case origin-compactExtra-r.extra < compact.heap || origin+r.data > end:
		return zipErrorf("has a record at %d that does not fit", origin)
	case r.bad || r.blobs > 0 && !x.clustered():
		return zipErrorf("has a record at %d with a BLOB pointer where none can be", origin)
	}
	return nil
}
