package mlog

import "encoding/binary"

// Index is what a record contains about the index that its page belongs to.
type Index struct {
	Compact bool
	// NUniq is how many fields make a row unique: those that a node pointer
	// holds. It is 0 where the record does not have it (REDUNDANT, which needs
	// none of this), and differs from len(Fields) in clustered indexes.
	NUniq  int
	Fields []Field // in logical order
	// Physical is the logical field at each physical position.
	Physical []int
	// NInstant is how many fields a row without a count of its own has, if
	// HasInstant.
	NInstant              int
	Versioned, HasInstant bool
}

// Field is one field of an index. Of REDUNDANT indexes only the versions are
// known.
type Field struct {
	Len          uint16 // of a fixed-length field; 0: variable
	NotNull, Big bool   // Big: variable with a maximum above 255 bytes
	// Added and Dropped are the row versions that the field came and went with.
	Added, Dropped       uint8
	HasAdded, HasDropped bool
	listed               bool // its physical position is in the record
}

const (
	// maxFields is the most that a record of an index can have
	// (REC_MAX_N_FIELDS).
	maxFields = 1023

	lengthNotNull = 0x8000 // in the length of a field
	lengthBig     = 0x7FFF // the rest of it: variable, maximum above 255

	oldInstant = 0x8000 // in the number of fields: two numbers follow

	indexVersion   = 1
	indexCompact   = 1 << 0
	indexVersioned = 1 << 1
	indexInstant   = 1 << 2

	physicalAdded   = 1 << 15
	physicalDropped = 1 << 14
)

// clear empties x and keeps its slices.
func (x *Index) clear() {
	*x = Index{Fields: x.Fields[:0], Physical: x.Physical[:0]}
}

// Parse fills x from the body of a record of type t and returns the rest of the
// body. Its slices are used again. Types that contain nothing about their index
// leave x empty: those of REDUNDANT pages up to 8.0.28. The error is a
// *RecordError, or ErrShort.
func (x *Index) Parse(t Type, body []byte) (rest []byte, err error) {
	x.clear()
	f := t.facts()
	if f == nil {
		return nil, &RecordError{t, unknownRecord}
	}
	p := parser{b: body}
	p.index(f.index, x)
	switch {
	case p.bad != "":
		return nil, &RecordError{t, p.bad}
	case p.short:
		return nil, ErrShort
	}
	return body[p.at:], nil
}

// index reads the index of a record into x, or steps over it if x is nil.
func (p *parser) index(kind index, x *Index) {
	switch kind {
	case indexOld:
		p.oldIndex(x)
	case indexNew:
		p.newIndex(x)
	}
}

// oldIndex reads the form of 5.6 to 8.0.28.
func (p *parser) oldIndex(x *Index) {
	n, instant := p.u2(), -1
	if n&oldInstant != 0 {
		instant = n &^ oldInstant
		n = p.u2()
	}
	p.fields(x, n, instant)
	if x != nil && !p.failed() {
		x.identity()
	}
}

// newIndex reads the form of 8.0.30 and later. That of 8.0.29 has the version
// 0: servers since do not read it either.
func (p *parser) newIndex(x *Index) {
	if p.u1() != indexVersion {
		p.fail("describes its index in a form that only MySQL 8.0.29 wrote, or one that is not known")
	}
	flags := p.u1()
	if flags&^(indexCompact|indexVersioned|indexInstant) != 0 {
		p.fail("describes its index with unknown flags")
	}
	n, instant := 0, -1
	if flags&(indexCompact|indexVersioned) != 0 {
		n = p.u2()
	}
	if flags&indexCompact != 0 {
		if flags&indexInstant != 0 {
			instant = p.u2()
		}
		p.fields(x, n, instant)
	} else if n > maxFields {
		p.fail("has an index of too many fields")
	} else if x != nil && !p.failed() {
		x.Fields = append(x.Fields, make([]Field, n)...)
	}
	switch {
	case flags&indexVersioned != 0:
		p.versions(x, n)
	case x != nil && !p.failed():
		x.identity()
	}
}

// fields reads the number of unique fields and the lengths of all n, of a
// compact index. instant is negative if the table has no such columns.
func (p *parser) fields(x *Index, n, instant int) {
	uniq := p.u2()
	if n > maxFields || uniq > n || instant > n {
		p.fail("has an index of an impossible number of fields")
	}
	b := p.take(2 * n)
	if x == nil || p.failed() {
		return
	}
	x.Compact, x.NUniq = true, uniq
	if instant >= 0 {
		x.HasInstant, x.NInstant = true, instant
	}
	for ; len(b) > 0; b = b[2:] {
		l := binary.BigEndian.Uint16(b)
		f := Field{NotNull: l&lengthNotNull != 0, Len: l &^ lengthNotNull}
		if f.Len == lengthBig {
			f.Len, f.Big = 0, true
		}
		x.Fields = append(x.Fields, f)
	}
}

// versions reads where the fields with row versions are and derives where the
// others are.
func (p *parser) versions(x *Index, n int) {
	if x != nil && !p.failed() {
		x.Versioned = true
		for range n {
			x.Physical = append(x.Physical, -1)
		}
	}
	for k := p.u2(); k > 0 && !p.failed(); k-- {
		logical, physical := p.u2(), p.u2()
		f := Field{HasAdded: physical&physicalAdded != 0, HasDropped: physical&physicalDropped != 0}
		if f.HasAdded {
			f.Added = uint8(p.u1())
		}
		if f.HasDropped {
			f.Dropped = uint8(p.u1())
		}
		physical &^= physicalAdded | physicalDropped
		if logical >= n || physical >= n {
			p.fail("has a field where none can be")
		}
		if x != nil && !p.failed() {
			p.place(x, logical, physical, f)
		}
	}
	if x != nil && !p.failed() {
		p.placeOthers(x)
	}
}

// place puts the field at its physical position.
func (p *parser) place(x *Index, logical, physical int, versions Field) {
	f := &x.Fields[logical]
	if f.listed || x.Physical[physical] >= 0 {
		p.fail("has two fields in one place")
		return
	}
	f.Added, f.HasAdded, f.Dropped, f.HasDropped = versions.Added, versions.HasAdded, versions.Dropped, versions.HasDropped
	f.listed = true
	x.Physical[physical] = logical
}

// placeOthers puts the fields without versions where the server, which does not
// say it, has them: in logical order, without those that were added since.
func (p *parser) placeOthers(x *Index) {
	shift := 0
	for i := range x.Fields {
		f := &x.Fields[i]
		if f.listed {
			if f.HasAdded && !f.HasDropped {
				shift++
			}
			continue
		}
		at := i - shift
		for at < len(x.Physical) && x.Physical[at] >= 0 {
			at++
		}
		if at == len(x.Physical) {
			p.fail("has fields without a place")
			return
		}
		x.Physical[at] = i
	}
}

func (x *Index) identity() {
	for i := range x.Fields {
		x.Physical = append(x.Physical, i)
	}
}
