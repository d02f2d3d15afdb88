// Package undo finds the transactions that had not ended when a copy was made, and the tables
// that they changed, in the rollback segments.
//
// Page 5 of the system tablespace has, from byte 56, 128 rollback segments: tablespace and
// page, 4 bytes each; PageNull: none. Undo tablespaces of MySQL 8.0 and later have theirs on
// page 3, of type 21: from byte 56 128 pages. Such a page has, from byte 72, a slot for each 16
// bytes of a page: the first page of an undo segment, or PageNull. There, big-endian:
//
//	40  2  first record    42  2  end of records    50  6  next page of the segment, and offset
//	56  2  state: 1 active, 2 to 4 ended, 5 prepared (since 8.0.29 6, and 7 for a coordinator)
//	58  2  the newest log:
//	        0  8  transaction     18  2  first record     20  1  bit 0: there is an XID
//	       21  1  it changes the dictionary    46  4  XID: format    50  4  bytes of its first
//	       part    54  4  of its second    58  128  both
//
// Records of the newest log go on on the next pages, which have 40, 42 and 50 too:
//
//	0  2  next record     2  1  type: bits 0 to 3 what was done; bit 6, MySQL 8.0 and later: a
//	byte follows          …  number of the record, and id of the table, much compressed
//
// Source: trx0sys.h, trx0rseg.h, trx0undo.h, trx0rec.cc of MySQL 5.7 and 9.7.2; MariaDB 10.5
// to 11.8 have the same. A test compares what is found with what six servers show.
package undo

import (
	"encoding/binary"
	"fmt"
	"slices"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

var be = binary.BigEndian

// State is that of a transaction.
type State uint16

// The states of transactions that have not ended.
const (
	Active   State = 1
	Prepared State = 5 // by XA PREPARE, or for the binary log
)

func (s State) String() string {
	if s == Prepared {
		return "prepared"
	}
	return "active"
}

// A Log is an undo log of a transaction that has not ended. A transaction can have two.
type Log struct {
	Trx        uint64
	State      State
	Dictionary bool           // it changes the dictionary: DDL
	XID        *XID           // of a transaction that has one
	Tables     map[uint64]int // how many records it has of which table, by ids
	Page       innodb.PageID  // the first page of the undo segment
	Records    int
}

// An XID is the name of an XA transaction.
type XID struct {
	Format         uint32
	Global, Branch []byte
}

// Offsets on pages, in bytes, and numbers of pages.
const (
	trxSysSlots = 56
	slotCount   = 128

	arrayPage  innodb.PageNo   = 3
	typeArray  innodb.PageType = 21
	arraySlots                 = 56

	rsegSlots = innodb.OffsetBody + 34
	slotShare = 16 // bytes of a page for each slot

	pageStart = innodb.OffsetBody + 2
	pageFree  = innodb.OffsetBody + 4
	pageNext  = innodb.OffsetBody + 12

	segState = innodb.OffsetBody + 18
	segLog   = segState + 2
	firstLog = segState + 30

	logStart = 18
	logFlags = 20
	logDDL   = 21
	logXID   = 46
	xidSize  = 128
	logSize  = 46

	trailerSize = 8
)

// Spaces are tablespaces by their ids: the system tablespace and all undo tablespaces.
type Spaces map[innodb.SpaceID]btree.Pages

// Versions of servers: MySQL 5.7 has rollback segments 1 to 32 in its temporary tablespace, of
// which no copy is made; 8.0 and later always has undo tablespaces 1 and 2, which, unlike
// those of other servers, no page of the system tablespace names; MariaDB's are from 100000 on.
const (
	mysql57 = 50700
	mysql80 = 80000
	mariaDB = 100000
)

// Read returns the undo logs of transactions that have not ended, in the order in which the
// rollback segments have them. server is the version of the server, such as 80036 for 8.0.36.
// Of MySQL 8.0 and later the caller makes sure that all undo tablespaces are there.
func Read(spaces Spaces, server int) ([]Log, error) {
	if server >= mysql80 && server < mariaDB {
		for n := 1; n <= 2; n++ {
			if !spaces.hasUndo(n) {
				return nil, fmt.Errorf("looking for open transactions: undo tablespace %d is not there", n)
			}
		}
	}
	temporary := server >= mysql57 && server < mysql80
	r := &reader{spaces: spaces}
	sys, err := r.page(innodb.PageID{No: innodb.TrxSysPage}, innodb.TypeTrxSys)
	if err != nil {
		return nil, err
	}
	for i := range slotCount {
		at := trxSysSlots + 8*i
		id := innodb.PageID{Space: innodb.SpaceID(be.Uint32(sys[at:])), No: innodb.PageNo(be.Uint32(sys[at+4:]))}
		if id.No == innodb.PageNull || temporary && i > 0 && i <= 32 && spaces[id.Space] == nil {
			continue
		}
		if err := r.segment(id); err != nil {
			return nil, err
		}
	}
	return r.logs, r.arrays()
}

// hasUndo reports whether MySQL's undo tablespace of a number is there.
func (s Spaces) hasUndo(number int) bool {
	for id := range s {
		if innodb.UndoNumber(id) == number {
			return true
		}
	}
	return false
}

type reader struct {
	spaces Spaces
	logs   []Log
}

// arrays reads the rollback segments of undo tablespaces of MySQL 8.0 and later.
func (r *reader) arrays() error {
	var ids []innodb.SpaceID
	for id := range r.spaces {
		if innodb.UndoNumber(id) != 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids {
		array, err := r.page(innodb.PageID{Space: id, No: arrayPage}, typeArray)
		if err != nil {
			return err
		}
		for i := range slotCount {
			no := innodb.PageNo(be.Uint32(array[arraySlots+4*i:]))
			if no == innodb.PageNull {
				continue
			}
			if err := r.segment(innodb.PageID{Space: id, No: no}); err != nil {
				return err
			}
		}
	}
	return nil
}

// page reads a page of one of the given types.
func (r *reader) page(id innodb.PageID, types ...innodb.PageType) ([]byte, error) {
	pages := r.spaces[id.Space]
	if pages == nil {
		return nil, fmt.Errorf("looking for open transactions: rollback segments are in tablespace %d, which is not there", id.Space)
	}
	b, err := pages.Page(id.No)
	switch {
	case err != nil:
		return nil, err
	case len(b) != pages.Space().Logical || len(b) < innodb.MinPageSize:
		return nil, bad(id, "it has %d bytes", len(b))
	case !slices.Contains(types, innodb.HeaderType(b)):
		return nil, bad(id, "it is of type %d", innodb.HeaderType(b))
	}
	return b, nil
}

func bad(id innodb.PageID, format string, args ...any) error {
	return &innodb.PageError{PageID: id, What: "looking for open transactions: " + fmt.Sprintf(format, args...)}
}

// typeSystem is the type of a rollback segment's page.
const typeSystem innodb.PageType = 6

// segment reads a rollback segment.
func (r *reader) segment(id innodb.PageID) error {
	b, err := r.page(id, typeSystem)
	if err != nil {
		return err
	}
	for at := rsegSlots; at < rsegSlots+len(b)/slotShare*4; at += 4 {
		no := innodb.PageNo(be.Uint32(b[at:]))
		if no == innodb.PageNull {
			continue
		}
		if err := r.log(innodb.PageID{Space: id.Space, No: no}); err != nil {
			return err
		}
	}
	return nil
}

// log reads the newest log of an undo segment, if its transaction has not ended.
func (r *reader) log(id innodb.PageID) error {
	b, err := r.page(id, innodb.TypeUndo)
	if err != nil {
		return err
	}
	l := Log{Page: id, State: Active}
	switch state := be.Uint16(b[segState:]); state {
	case 1:
	case 2, 3, 4:
		return nil
	case 5, 6, 7:
		l.State = Prepared
	default:
		return bad(id, "its undo segment has state %d", state)
	}
	at := int(be.Uint16(b[segLog:]))
	if at < firstLog || at > len(b)-trailerSize-logSize {
		return bad(id, "no undo log can begin at byte %d", at)
	}
	h := b[at:]
	l.Trx, l.Dictionary = be.Uint64(h), h[logDDL] != 0
	if h[logFlags]&1 != 0 && be.Uint32(h[logXID:]) != noXID {
		if l.XID, err = readXID(id, h[logXID:]); err != nil {
			return err
		}
	}
	if err := r.records(&l, b, int(be.Uint16(h[logStart:]))); err != nil {
		return err
	}
	r.logs = append(r.logs, l)
	return nil
}

// noXID is the format of a name that is not there.
const noXID = 0xFFFFFFFF

func readXID(id innodb.PageID, b []byte) (*XID, error) {
	const head = 12
	if len(b) < head+xidSize {
		return nil, bad(id, "the name of an XA transaction does not fit")
	}
	global, branch := be.Uint32(b[4:]), be.Uint32(b[8:])
	if global > xidSize || branch > xidSize-global {
		return nil, bad(id, "the name of an XA transaction has %d and %d bytes", global, branch)
	}
	b = slices.Clone(b)
	name := b[head : head+global+branch]
	return &XID{Format: be.Uint32(b), Global: name[:global], Branch: name[global:]}, nil
}

// records reads the records of a log from its first page, b, on.
func (r *reader) records(l *Log, b []byte, start int) error {
	id := l.Page
	l.Tables = map[uint64]int{}
	for n := uint32(0); ; n++ {
		if n > r.spaces[id.Space].Space().Size {
			return bad(id, "its undo segment has more pages than the tablespace")
		}
		if err := l.page(id, b, start); err != nil {
			return err
		}
		next := innodb.PageNo(be.Uint32(b[pageNext:]))
		if next == innodb.PageNull {
			break
		}
		id.No = next
		var err error
		if b, err = r.page(id, innodb.TypeUndo); err != nil {
			return err
		}
		start = int(be.Uint16(b[pageStart:]))
	}
	return nil
}

// page reads the records of one page.
func (l *Log) page(id innodb.PageID, b []byte, at int) error {
	end := int(be.Uint16(b[pageFree:]))
	if end > len(b)-trailerSize || at < segState || at > end {
		return bad(id, "undo records cannot begin at byte %d and end at %d", at, end)
	}
	for at < end {
		next := int(be.Uint16(b[at:]))
		if next < at+minRecord || next > end {
			return bad(id, "an undo record cannot begin at byte %d and end at %d", at, next)
		}
		table, ok := tableOf(b[at+2 : next-2])
		if !ok {
			return bad(id, "the undo record at byte %d has no table", at)
		}
		l.Tables[table]++
		l.Records++
		at = next
	}
	return nil
}

// minRecord is how many bytes an undo record has at least, with those that frame it.
const minRecord = 2 + 3 + 2

// tableOf returns the table of an undo record.
func tableOf(b []byte) (uint64, bool) {
	const extended = 64
	skip := 1
	if b[0]&extended != 0 {
		skip = 2
	}
	if len(b) < skip {
		return 0, false
	}
	_, n := mlog.M64(b[skip:])
	if n <= 0 {
		return 0, false
	}
	table, m := mlog.M64(b[skip+n:])
	return table, m > 0
}
