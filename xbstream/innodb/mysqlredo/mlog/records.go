// Package mlog has the records of MySQL's redo log, 5.6 to 9.x, which the servers' sources
// call MLOG_...: what types there are, and where a record ends. In goes the payload of a
// mini-transaction, as package mysqlredo cuts it out of the log's blocks; out come records,
// and on request the index, the file operation or the metadata that is in their bodies.
//
// A record is a type, a tablespace and page number in compressed integers, and
// a body that only the type's own rules can measure. The type's highest bit
// marks the record as a mini-transaction by itself; otherwise records
// follow up to one of type MultiRecEnd.
//
//	type (1) ‖ space (c32) ‖ page (c32) ‖ [index] ‖ body
//
// Sources: storage/innobase/include/mtr0types.h, mtr/mtr0log.cc and log/log0recv.cc of
// MySQL 5.6.24, 5.7.29, 8.0.25 and 9.7.2.
package mlog

import (
	"encoding/binary"

	"hb/xbstream/innodb"
)

// Record is one record of a mini-transaction.
type Record struct {
	Type Type
	// Page is the page that the record is about: for those about a file its
	// tablespace, and page 0; zero for the types without.
	Page innodb.PageID
	// Body follows type, tablespace and page. It is part of the bytes parsed.
	Body []byte
	Size int // of the whole record in bytes
}

const (
	// SingleBit in a type marks a record that is a mini-transaction by itself.
	SingleBit = 0x80
	// nullLength is the length of a field that is NULL.
	nullLength = 0xFFFFFFFF
	// maxListCopy limits the inserts of a list copied to a new page: the server
	// asserts less than 100 pages (page0page.cc), which have 64 KiB at most.
	maxListCopy = 100 << 16
	// maxUpdate limits the fields of an update: a table has 1017 columns, and as
	// many virtual ones can be counted with them (row0upd.cc).
	maxUpdate = 4 << 10
	// rollPtrSize is the length of DB_ROLL_PTR.
	rollPtrSize = 7
)

// ParseRecord reads the record that b begins with. single: it is a
// mini-transaction by itself; otherwise its group goes on up to MultiRecEnd.
// The error is ErrShort if b ends inside the record, else a *RecordError. With
// ErrShort, r.Size is how much of the record must be there at least to see more of
// it.
func ParseRecord(b []byte) (r Record, single bool, err error) {
	if len(b) == 0 {
		r.Size = 1
		return r, false, ErrShort
	}
	r.Type, single = Type(b[0]&^SingleBit), b[0]&SingleBit != 0
	f := r.Type.facts()
	if f == nil {
		return r, single, &RecordError{r.Type, unknownRecord}
	}
	if f.alone {
		if single {
			return r, single, &RecordError{r.Type, "is marked as a single record, which none such is"}
		}
		single = r.Type != MultiRecEnd
	}
	p := parser{b: b, at: 1}
	if !f.bare {
		r.Page.Space = innodb.SpaceID(p.c32())
		r.Page.No = innodb.PageNo(p.c32())
	}
	body := p.at
	p.index(f.index, nil)
	p.body(f.body)
	switch {
	case p.bad != "":
		return r, single, &RecordError{r.Type, p.bad}
	case p.short:
		r.Size = p.need
		return r, single, ErrShort
	}
	r.Body, r.Size = b[body:p.at:p.at], p.at
	return r, single, nil
}

// parser steps through a record. After a failure, which is in short or bad,
// everything reads as 0.
type parser struct {
	b     []byte
	at    int
	short bool
	need  int // if it is short: how much b must have at least
	bad   string
}

func (p *parser) failed() bool { return p.short || p.bad != "" }

func (p *parser) fail(what string) {
	if !p.failed() {
		p.bad = what
	}
}

// take returns the next n bytes, or nil.
func (p *parser) take(n int) []byte {
	if p.failed() {
		return nil
	}
	if n > len(p.b)-p.at {
		p.short, p.need = true, p.at+n
		return nil
	}
	b := p.b[p.at : p.at+n]
	p.at += n
	return b
}

func (p *parser) u1() (v int) {
	if b := p.take(1); b != nil {
		v = int(b[0])
	}
	return v
}

func (p *parser) u2() (v int) {
	if b := p.take(2); b != nil {
		v = int(binary.BigEndian.Uint16(b))
	}
	return v
}

func (p *parser) u4() (v uint32) {
	if b := p.take(4); b != nil {
		v = binary.BigEndian.Uint32(b)
	}
	return v
}

// took steps over an integer that was read.
func (p *parser) took(size int) {
	switch {
	case size > 0:
		p.at += size
	case size == 0:
		p.short, p.need = true, len(p.b)+1
	default:
		p.fail("has a compressed integer that cannot be")
	}
}

func (p *parser) c32() uint32 {
	if p.failed() {
		return 0
	}
	v, size := C32(p.b[p.at:])
	p.took(size)
	return v
}

func (p *parser) c64() uint64 {
	if p.failed() {
		return 0
	}
	v, size := C64(p.b[p.at:])
	p.took(size)
	return v
}

func (p *parser) m64() uint64 {
	if p.failed() {
		return 0
	}
	v, size := M64(p.b[p.at:])
	p.took(size)
	return v
}

// body steps over the body of a record, after its index.
func (p *parser) body(l layout) {
	switch l {
	case nothing:
	case bytes1:
		p.take(1)
	case bytes2:
		p.take(2)
	case bytes3:
		p.take(3)
	case bytes8:
		p.take(8)
	case bytes16:
		p.take(16)
	case nodePtr:
		p.take(2 + 2 + 4)
	case blobPtr:
		p.take(2 + 2 + 20)
	case number32:
		p.c32()
	case number64:
		p.c64()
	case write32:
		p.take(2)
		p.c32()
	case write64:
		p.take(2)
		p.c64()
	case undoRecord:
		p.take(p.u2())
	case writeBytes:
		p.take(2)
		p.take(p.u2())
	case zipHeader:
		p.take(1)
		p.take(p.u1())
	default:
		p.longBody(l)
	}
}

func (p *parser) longBody(l layout) {
	switch l {
	case insert:
		p.take(2)
		p.insertTail()
	case clustMark:
		p.take(1 + 1)
		p.systemColumns()
		p.take(2)
	case update:
		p.update()
	case listCopy:
		n := p.u4()
		if n > maxListCopy {
			p.fail("copies more than a page")
		}
		p.take(int(n))
	case zipImage:
		n := p.u2()
		n += p.u2()
		p.take(4 + 4 + n)
	case fileCreate:
		// The flags of 8.0 have no bits in their upper half; the length of a
		// name, which 5.6 begins with, is never 0.
		if at := p.at; p.u2() == 0 {
			p.take(2)
		} else if !p.failed() {
			p.at = at
		}
		p.name()
	case flagsName:
		p.take(4)
		p.name()
	case oneName:
		p.name()
	case twoNames:
		p.name()
		p.name()
	case meta:
		p.meta()
	default:
		panic("mysqlredo: internal error: record layout")
	}
}

// insertTail steps over a record to be inserted.
func (p *parser) insertTail() {
	length := p.c32()
	if length&1 != 0 {
		p.take(1) // info and status bits
		p.c32()   // origin
		p.c32()   // mismatch
	}
	p.take(int(length >> 1))
}

// systemColumns steps over position, DB_ROLL_PTR and DB_TRX_ID.
func (p *parser) systemColumns() {
	p.c32()
	p.take(rollPtrSize)
	p.c64()
}

func (p *parser) update() {
	p.take(1)
	p.systemColumns()
	p.take(2 + 1)
	n := p.c32()
	if n > maxUpdate {
		p.fail("changes more fields than a table has")
	}
	for ; n > 0 && !p.failed(); n-- {
		p.c32()
		if size := p.c32(); size != nullLength {
			p.take(int(size))
		}
	}
}

// name steps over a file name with its length. An empty one is of no file.
func (p *parser) name() []byte {
	n := p.u2()
	if n == 0 {
		p.fail("has an empty file name")
	}
	return p.take(n)
}

func (p *parser) meta() {
	p.m64()
	p.m64()
	p.metaItem()
}
