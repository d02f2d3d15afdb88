// Package mariadb applies MariaDB's redo records, 10.5 and later, to pages.
//
// The records are physical: most of them have the bytes of a page to write, fill or
// move. The EXTENDED ones describe in a few bytes what happens when a record is
// inserted into or deleted from an index page, or appended to an undo page; every
// byte of the result is defined, because later records address the page by offset.
//
// Pages of ROW_FORMAT=COMPRESSED tablespaces are addressed as they are in the
// file, in their compressed size; of page_compressed and encrypted ones as they
// are before that.
//
// What is applied comes from a file that may be damaged or hostile: every
// offset is checked, and what cannot be is an error that leaves the page in an
// undefined state.
//
// Sources: storage/innobase/include/mtr0types.h (mrec_type_t, mrec_ext_t),
// log/log0recv.cc (log_phys_t::apply), page/page0cur.cc (page_apply_…),
// page/page0page.cc (page_create_low) of MariaDB 10.5.23, 10.11.18, 11.8.6.
package mariadb

import (
	"encoding/binary"
	"errors"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
)

// Applier is the replay.Applier of MariaDB.
type Applier struct {
	image []byte
	id    innodb.PageID
	space *innodb.Space
}

// Begin implements replay.Applier.
func (a *Applier) Begin(image []byte, id innodb.PageID, space *innodb.Space) error {
	a.image, a.id, a.space = image, id, space
	return nil
}

// Apply implements replay.Applier.
func (a *Applier) Apply(_ innodb.LSN, run []byte) error {
	return Apply(a.image, a.id, a.space.Zip(), run)
}

// trxSys is the page with the transaction system's header and the address of
// the doublewrite buffer.
var trxSys = innodb.PageID{Space: 0, No: innodb.TrxSysPage}

// Finish implements replay.Applier.
func (a *Applier) Finish() error {
	if !a.space.FullCRC32 && a.id.No != 0 && a.id != trxSys {
		// Where an encrypted page has its key version. Servers clear it as they
		// write (buf_page_encrypt), even where R-tree pages have a number of
		// their own; not on the two pages that are never encrypted.
		clear(a.image[innodb.OffsetFlushLSN:innodb.OffsetSpace])
	}
	return nil
}

// minWrite is the first byte of a page that a record may write: before are the
// checksum and the page's own number.
const minWrite = innodb.OffsetPrev

// Apply applies one run: the records of one page in one mini-transaction, beginning
// with one that has ids. page is the page's image in its physical size, id its
// identity; zip: it is of a ROW_FORMAT=COMPRESSED tablespace. Page LSN and checksum
// are left to the caller. FREE_PAGE leaves the page as it is.
func Apply(page []byte, id innodb.PageID, zip bool, run []byte) error {
	r := mariadbredo.ReadRecords(run)
	base := 0 // what offsets count from
	for r.Next() {
		if r.Page != id {
			return fmt.Errorf("%v of page %v among those of %v", r.Type, r.Page, id)
		}
		if !r.SamePage {
			base = 0
		}
		var err error
		switch r.Type {
		case mariadbredo.FreePage:
		case mariadbredo.InitPage:
			base, err = initPage(page, id, r.Body)
		case mariadbredo.Write, mariadbredo.Memset, mariadbredo.Memmove:
			base, err = write(page, base, r.Type, r.Body)
		case mariadbredo.Extended:
			base = innodb.OffsetType
			if zip || id.No < firstIndexPage {
				err = errors.New("EXTENDED record of a page that is neither index nor undo")
			} else {
				err = extended(page, id, r.Body)
			}
		case mariadbredo.Option:
			// A checksum of the result, written by debug servers only. The
			// offset base stays.
		default:
			err = fmt.Errorf("unexpected %v", r.Type)
		}
		if err != nil {
			return fmt.Errorf("%v at byte %d: %w", r.Type, r.Offset, err)
		}
	}
	return r.Err()
}

// firstIndexPage is the first page of a tablespace that EXTENDED records can
// be about: before are the space header, the change buffer bitmap and the
// segment inodes.
const firstIndexPage = 3

func initPage(page []byte, id innodb.PageID, body []byte) (int, error) {
	if len(body) != 0 {
		return 0, errors.New("has a body")
	}
	clear(page)
	binary.BigEndian.PutUint32(page[innodb.OffsetPageNo:], uint32(id.No))
	fill(page[innodb.OffsetPrev:innodb.OffsetLSN], 0xFF)
	binary.BigEndian.PutUint32(page[innodb.OffsetSpace:], uint32(id.Space))
	return innodb.OffsetType, nil
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

var errShortRecord = errors.New("the record is cut short")

// number takes one number from the beginning of a record's body.
func number(body []byte) (int, []byte, error) {
	v, size := mariadbredo.Number(body)
	if size == 0 || v > maxNumber {
		return 0, nil, errShortRecord
	}
	return int(v), body[size:], nil
}

// maxNumber bounds offsets and lengths in a page: no page has more bytes.
const maxNumber = innodb.MaxPageSize * 2

// write applies WRITE, MEMSET and MEMMOVE, and returns the end of what was
// written: the next record's offset counts from there.
func write(page []byte, base int, kind mariadbredo.Type, body []byte) (int, error) {
	offset, body, err := number(body)
	if err != nil {
		return 0, err
	}
	at := base + offset
	if at < minWrite || at >= len(page) {
		return 0, fmt.Errorf("offset %d is outside the page of %d bytes", at, len(page))
	}
	if kind == mariadbredo.Write {
		if len(body) == 0 || len(body) > len(page)-at {
			return 0, fmt.Errorf("%d bytes at offset %d do not fit the page", len(body), at)
		}
		return at + copy(page[at:], body), nil
	}
	n, body, err := number(body)
	if err != nil {
		return 0, err
	}
	if n > len(page)-at || len(body) == 0 {
		return 0, fmt.Errorf("%d bytes at offset %d do not fit the page", n, at)
	}
	if kind == mariadbredo.Memset {
		if len(body) == 1 {
			fill(page[at:at+n], body[0])
			return at + n, nil
		}
		for to := page[at : at+n]; len(to) > 0; {
			to = to[copy(to, body):]
		}
		return at + n, nil
	}
	s, rest, err := number(body)
	if err != nil || len(rest) != 0 {
		return 0, errShortRecord
	}
	from := at + s>>1 + 1
	if s&1 != 0 {
		from = at - s>>1 - 1
	}
	if from < minWrite || from > len(page)-n {
		return 0, fmt.Errorf("source offset %d is outside the page of %d bytes", from, len(page))
	}
	copy(page[at:at+n], page[from:from+n])
	return at + n, nil
}

// Subtypes of EXTENDED.
const (
	initRedundant = iota
	initDynamic
	undoInit
	undoAppend
	insertHeapRedundant
	insertReuseRedundant
	insertHeapDynamic
	insertReuseDynamic
	deleteRedundant
	deleteDynamic
)

func extended(page []byte, id innodb.PageID, body []byte) error {
	if len(body) == 0 {
		return errShortRecord
	}
	subtype, body := body[0], body[1:]
	switch subtype {
	case initRedundant, initDynamic, undoInit:
		if len(body) != 0 {
			return fmt.Errorf("subtype %d has a body", subtype)
		}
		if subtype == undoInit {
			initUndo(page)
		} else {
			initIndex(page, subtype == initDynamic)
		}
		return nil
	case undoAppend:
		return appendUndo(page, body)
	case insertHeapRedundant, insertReuseRedundant:
		return insertOld(page, id, subtype == insertReuseRedundant, body)
	case insertHeapDynamic, insertReuseDynamic:
		return insertNew(page, id, subtype == insertReuseDynamic, body)
	case deleteRedundant:
		return deleteOld(page, id, body)
	case deleteDynamic:
		return deleteNew(page, id, body)
	case mariadbredo.TrimPages:
		return nil // about the tablespace: the caller's business
	}
	return &innodb.UnsupportedError{What: fmt.Sprintf("unknown subtype %d", subtype)}
}

// Undo pages, offsets from the start of the page.
const (
	undoType       = 38
	undoStart      = 40 // where the newest undo log on the page begins
	undoFree       = 42 // first free byte
	undoNode       = 44 // list node: previous and next, 6 bytes each
	undoHeaderEnd  = 56
	undoSegmentEnd = 86 // after the segment header, which UNDO_INIT keeps
)

const trailer = 8

func initUndo(page []byte) {
	put16(page, innodb.OffsetType, int(innodb.TypeUndo))
	put16(page, undoType, 0)
	put16(page, undoStart, undoHeaderEnd)
	put16(page, undoFree, undoHeaderEnd)
	for _, node := range []int{undoNode, undoNode + 6} {
		fill(page[node:node+4], 0xFF)
		put16(page, node+4, 0)
	}
	clear(page[undoSegmentEnd : len(page)-trailer])
}

// appendUndo adds one undo record: the offset of the next one, the record, and
// its own offset.
func appendUndo(page, record []byte) error {
	free := get16(page, undoFree)
	if len(record) <= 2 || free < undoHeaderEnd || free+len(record)+6 >= len(page)-trailer {
		return fmt.Errorf("undo record of %d bytes does not fit at offset %d", len(record), free)
	}
	end := free + 4 + len(record)
	put16(page, undoFree, end)
	put16(page, free, end)
	copy(page[free+2:], record)
	put16(page, end-2, free)
	return nil
}

func get16(b []byte, at int) int { return int(binary.BigEndian.Uint16(b[at:])) }

func put16(b []byte, at, v int) { binary.BigEndian.PutUint16(b[at:], uint16(v)) }
