package mysql

import (
	"encoding/binary"
	"errors"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// writable is how much of the page bytes can be written to one by one: of a
// compressed page its headers.
func (p *page) writable() int {
	if p.zip != nil {
		return pageData
	}
	return len(p.frame)
}

// write stores a number of n bytes. (mtr0log.cc, mlog_parse_nbytes)
func (p *page) write(n int, r body) error {
	at := r.u2()
	var v uint64
	if n == 8 {
		v = r.c64()
	} else {
		v = uint64(r.c32())
	}
	switch err := r.end(); {
	case err != nil:
		return err
	case at > p.writable()-n:
		return fmt.Errorf("%d bytes at offset %d do not fit the page", n, at)
	case n < 8 && v>>(8*n) != 0:
		return fmt.Errorf("%d is not a number of %d bytes", v, n)
	}
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], v)
	copy(p.frame[at:], b[8-n:])
	return nil
}

// writeString stores bytes.
func (p *page) writeString(r body) error {
	at, n := r.u2(), r.u2()
	b := r.take(n)
	if err := r.end(); err != nil {
		return err
	}
	if at > p.writable()-n {
		return fmt.Errorf("%d bytes at offset %d do not fit the page", n, at)
	}
	copy(p.frame[at:], b)
	return nil
}

// initPage initialises the page. Its type and links come later.
// (fsp0fsp.cc, fsp_init_file_page_low)
func (p *page) initPage() {
	p.frame, p.zip = p.image, nil
	clear(p.frame)
	binary.BigEndian.PutUint32(p.frame[innodb.OffsetPageNo:], uint32(p.id.No))
	binary.BigEndian.PutUint32(p.frame[innodb.OffsetSpace:], uint32(p.id.Space))
}

// typeBitmap is a page of the change buffer's bitmap, which has 4 bits for each
// page up to the next one.
const typeBitmap innodb.PageType = 5

// initBitmap is of the change buffer's bitmap. (ibuf_bitmap_page_init)
func (p *page) initBitmap() error {
	const at, bits = 94, 4
	end := at + len(p.frame)*bits/8
	if end > len(p.frame) {
		return errors.New("a bitmap does not fit the page")
	}
	p.set(innodb.OffsetType, int(typeBitmap))
	clear(p.frame[at:end])
	return nil
}

// Undo pages, offsets from the start of the page. (trx0undo.h)
const (
	undoType   = 38 // 1 insert, 2 update
	undoStart  = 40 // where the newest undo log on the page begins
	undoFree   = 42 // first free byte
	undoNode   = 44 // list node of 12 bytes
	undoBegin  = 56 // after the page header; on a segment's first page its state
	undoState  = 56
	undoLast   = 58 // newest log header on the page
	undoHeader = 86 // first log header

	undoActive = 1
)

// The header of an undo log, offsets in it.
const (
	logTrxID    = 0
	logDelMarks = 16
	logStart    = 18
	logFlags    = 20
	logDict     = 21
	logNext     = 30
	logPrev     = 32
	logSize     = 46
	// logRoom is what servers keep free for a header and what they put after it
	// (XA ids, since 8.0 GTIDs), 5.6 least of all.
	logRoom = 186 + 100
)

// undoPage checks that the page is one of undo records and returns its first
// free byte.
func (p *page) undoPage() (free int, err error) {
	if t := innodb.HeaderType(p.frame); t != innodb.TypeUndo {
		return 0, fmt.Errorf("the page is of type %d, not an undo page", t)
	}
	free = p.get(undoFree)
	if free < undoBegin || free > len(p.frame)-trailer {
		return 0, fmt.Errorf("the undo page has its free space at offset %d", free)
	}
	return free, nil
}

// initUndo makes an undo page. (trx_undo_page_init)
func (p *page) initUndo(r body) error {
	t := int(r.c32())
	if err := r.end(); err != nil {
		return err
	}
	p.set(undoType, t)
	p.set(undoStart, undoBegin)
	p.set(undoFree, undoBegin)
	p.set(innodb.OffsetType, int(innodb.TypeUndo))
	return nil
}

// appendUndo adds an undo record between the offset of the next one and its
// own. (trx_undo_parse_add_undo_rec)
func (p *page) appendUndo(r body) error {
	b := r.take(r.u2())
	free, err := p.undoPage()
	if err := errors.Join(r.end(), err); err != nil {
		return err
	}
	end := free + 2 + len(b) + 2
	if end > len(p.frame)-trailer {
		return fmt.Errorf("an undo record of %d bytes does not fit at offset %d", len(b), free)
	}
	p.set(free, end)
	copy(p.frame[free+2:], b)
	p.set(end-2, free)
	p.set(undoFree, end)
	return nil
}

// eraseUndoEnd overwrites the rest of an undo page. (trx_undo_erase_page_end)
func (p *page) eraseUndoEnd() error {
	free, err := p.undoPage()
	if err != nil {
		return err
	}
	for i := range p.frame[free : len(p.frame)-trailer] {
		p.frame[free+i] = 0xFF
	}
	return nil
}

// undoLog begins an undo log: after the others, or, if the segment is used again, in
// the place of the first. (trx_undo_header_create, trx_undo_insert_header_reuse)
func (p *page) undoLog(t mlog.Type, r body) error {
	id := r.c64()
	at, err := p.undoPage()
	if err := errors.Join(r.end(), err); err != nil {
		return err
	}
	if t == mlog.UndoHdrReuse {
		at = undoHeader
	}
	if at < undoHeader || at+logRoom >= len(p.frame) {
		return fmt.Errorf("no undo log can begin at offset %d", at)
	}
	p.set(undoStart, at+logSize)
	p.set(undoFree, at+logSize)
	p.set(undoState, undoActive)
	if t == mlog.UndoHdrCreate {
		if err := p.chainUndoLog(at); err != nil {
			return err
		}
	}
	binary.BigEndian.PutUint64(p.frame[at+logTrxID:], id)
	p.set(at+logStart, at+logSize)
	p.frame[at+logFlags], p.frame[at+logDict] = 0, 0
	return nil
}

// chainUndoLog makes the log at at the last one of the page.
func (p *page) chainUndoLog(at int) error {
	last := p.get(undoLast)
	if last != 0 {
		if last < undoHeader || last+logRoom >= len(p.frame) {
			return fmt.Errorf("the undo page has its last log at offset %d", last)
		}
		p.set(last+logNext, at)
	}
	p.set(undoLast, at)
	p.set(at+logDelMarks, 1)
	p.set(at+logNext, 0)
	p.set(at+logPrev, last)
	return nil
}
