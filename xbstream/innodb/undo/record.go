package undo

import (
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// A RollPtr, DB_ROLL_PTR of a row, names the undo record of the newest change of the row:
//
//	bit 55       the change is an insert: there is no earlier version
//	bits 48-54   the rollback segment; of MySQL 8.0 and later the number of the undo tablespace
//	bits 16-47   page
//	bits 0-15    byte on the page
//
// (trx_undo_build_roll_ptr in trx0undo.ic of MySQL 5.7 and 9.7.2 and of MariaDB 10.5.)
type RollPtr uint64

// Inserted reports whether there is no earlier version.
func (p RollPtr) Inserted() bool { return p>>55&1 != 0 }

// A Type is what a transaction did to a row.
type Type uint8

// The types of undo records (trx0rec.h). In the earlier version of a row that was inserted in
// the place of one marked as deleted (UpdatedDeleted), it has that mark.
const (
	Inserted       Type = 11
	Updated        Type = 12
	UpdatedDeleted Type = 13
	Deleted        Type = 14
)

// A Record is an undo record. After its type and the ids of record and table, it has for an
// insert the fields of the row's key, and otherwise
//
//	1  info bits    …  transaction and roll pointer of the earlier version, compressed
//	…  the fields of the row's key, and, unless it is a deletion: how many fields were changed,
//	   and of each its number in the clustered index and its value
//
// A field is its length and its bytes; FFFFFFFF is NULL, FFFFBFFF is followed by the bytes that
// the row has of it with the reference to the rest, and then by the length and the bytes of a
// longer beginning with that reference. MySQL 8.0 and later have a byte after the type (bit 6),
// and, if the row has columns on other pages that were changed (bit 7), after each such value
// a zero and the number of places of it that were changed there.
type Record struct {
	Type    Type
	Table   uint64
	Deleted bool // the earlier version was marked as deleted
	Trx     uint64
	Roll    RollPtr
	Key     [][]byte
	Changed []Changed
}

// Changed is the earlier value of a field.
type Changed struct {
	Field int // number in the clustered index
	btree.Value
}

// ErrParts says that a record has parts of a column, which hb does not put together.
var ErrParts = fmt.Errorf("a column was changed in parts")

// ErrVirtual says that a record has a virtual column.
var ErrVirtual = fmt.Errorf("an indexed virtual column was changed")

// A History reads undo records.
type History struct {
	r        reader
	segments map[int]innodb.SpaceID // where they are, by their numbers in roll pointers
}

// NewHistory opens the undo records. spaces and server are those of Read.
func NewHistory(spaces Spaces, server int) (*History, error) {
	h := &History{reader{spaces: spaces}, map[int]innodb.SpaceID{}}
	if server >= mysql80 && server < mariaDB {
		h.segments[0] = 0
		for id := range spaces {
			if n := innodb.UndoNumber(id); n != 0 {
				h.segments[n] = id
			}
		}
		return h, nil
	}
	sys, err := h.r.page(innodb.PageID{No: innodb.TrxSysPage}, innodb.TypeTrxSys)
	if err != nil {
		return nil, err
	}
	for i := range slotCount {
		at := trxSysSlots + 8*i
		if innodb.PageNo(be.Uint32(sys[at+4:])) != innodb.PageNull {
			h.segments[i] = innodb.SpaceID(be.Uint32(sys[at:]))
		}
	}
	return h, nil
}

// Record reads an undo record of a table whose clustered index has so many fields in its key.
func (h *History) Record(p RollPtr, keys int) (*Record, error) {
	space, ok := h.segments[int(p>>48&0x7F)]
	if !ok {
		return nil, fmt.Errorf("there is no rollback segment %d", p>>48&0x7F)
	}
	id, at := innodb.PageID{Space: space, No: innodb.PageNo(p >> 16)}, int(p&0xFFFF)
	b, err := h.r.page(id, innodb.TypeUndo)
	if err != nil {
		return nil, err
	}
	if at < segState || at > len(b)-trailerSize-minRecord {
		return nil, bad(id, "no undo record can begin at byte %d", at)
	}
	end := int(be.Uint16(b[at:]))
	if end < at+minRecord || end > len(b)-trailerSize || int(be.Uint16(b[end-2:])) != at {
		return nil, bad(id, "the undo record at byte %d cannot end at %d", at, end)
	}
	rec, err := parseRecord(b[at+2:end-2], keys)
	if err != nil {
		return nil, fmt.Errorf("the undo record at byte %d of page %v: %w", at, id, err)
	}
	return rec, nil
}

// Bits of the byte with the type.
const (
	typeMask = 0x0F
	withByte = 0x40
	external = 0x80
)

// Lengths that mean something else.
const (
	lengthNull     = 0xFFFFFFFF
	lengthExternal = lengthNull - 16384 // UNIV_EXTERN_STORAGE_FIELD
	firstVirtual   = 1023               // REC_MAX_N_FIELDS
	infoDeleted    = 0x20
)

// fields reads parts of a record, until the first error.
type fields struct {
	b   []byte
	err error
}

func (f *fields) fail() {
	if f.err == nil {
		f.err = fmt.Errorf("it is cut short, or of another form")
	}
	f.b = nil
}

func (f *fields) number(read func([]byte) (uint64, int)) uint64 {
	v, n := read(f.b)
	if n <= 0 {
		f.fail()
		return 0
	}
	f.b = f.b[n:]
	return v
}

func c32(b []byte) (uint64, int) {
	v, n := mlog.C32(b)
	return uint64(v), n
}

func (f *fields) bytes(n uint64) []byte {
	if n > uint64(len(f.b)) {
		f.fail()
		return nil
	}
	b := f.b[:n:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) byte() byte {
	if b := f.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// value reads a field.
func (f *fields) value() btree.Value {
	switch n := f.number(c32); {
	case n == lengthNull:
		return btree.Value{Null: true}
	case n == lengthExternal:
		stored := f.number(c32)
		b := f.bytes(f.number(c32))
		if f.err != nil || stored < btree.RefSize || stored > uint64(len(b)) {
			f.fail()
			return btree.Value{}
		}
		local := b[: stored-btree.RefSize : stored-btree.RefSize]
		return btree.Value{External: true, Data: append(local, b[len(b)-btree.RefSize:]...)}
	case n > lengthExternal:
		b := f.bytes(n - lengthExternal)
		return btree.Value{External: true, Data: b}
	default:
		return btree.Value{Data: f.bytes(n)}
	}
}

// parseRecord reads what is between the two links of a record.
func parseRecord(b []byte, keys int) (*Record, error) {
	f := &fields{b: b}
	head := f.byte()
	if head&withByte != 0 && f.byte() != 0 {
		f.fail()
	}
	r := &Record{Type: Type(head & typeMask)}
	f.number(mlog.M64)
	r.Table = f.number(mlog.M64)
	if r.Type < Inserted || r.Type > Deleted {
		return nil, fmt.Errorf("it is of type %d", r.Type)
	}
	if r.Type != Inserted {
		r.Deleted = f.byte()&infoDeleted != 0
		r.Trx, r.Roll = f.number(mlog.C64), RollPtr(f.number(mlog.C64))
	}
	for range keys {
		r.Key = append(r.Key, f.value().Data)
	}
	if r.Type == Updated || r.Type == UpdatedDeleted {
		count := f.number(c32)
		for n := uint64(0); n < count && f.err == nil; n++ {
			c := Changed{Field: int(f.number(c32))}
			if c.Field >= firstVirtual {
				return nil, ErrVirtual
			}
			if c.Value = f.value(); c.External && head&withByte != 0 && head&external != 0 && f.err == nil {
				if f.byte() != 0 || f.number(c32) != 0 {
					return nil, ErrParts
				}
			}
			r.Changed = append(r.Changed, c)
		}
	}
	return r, f.err
}
