package mlog

import (
	"encoding/binary"
	"slices"

	"hb/xbstream/innodb"
)

// Grants finds, in one mini-transaction, pages that a segment is given and that
// the log does not initialise: pages of an index that MySQL 5.7 and later build
// without redo.
//
// Such a build (btr0bulk.cc) allocates each page in a logged mini-transaction, which
// changes nothing but the descriptor of the page's extent and the segment's inode,
// and fills the page in another one that is not logged. Every other allocation
// initialises the page in the same mini-transaction (fsp0fsp.cc). The first pages
// of a segment are single ones, whose numbers stand in the segment's inode: the
// first page of an index's leaf segment is always among them. So each build shows
// up once at least, before it writes a page. MLOG_INDEX_LOAD does not do: the
// server writes it for ALTER TABLE … LOCK=NONE and for rebuilds, but not for
// LOCK=SHARED, for an index that is built together with a full-text or spatial
// one, nor for the tables of a full-text index (row0merge.cc, row0ftsort.cc).
type Grants struct {
	PageSize uint32 // innodb_page_size; to be set

	page  innodb.PageID   // the only changed one, apart from those of descriptors; zero: none
	mixed bool            // there are more, or one is initialised
	given []innodb.PageID // that an inode names now
	bits  []bitmapByte    // written
}

// bitmapByte is one byte of an extent descriptor's bitmap, with two bits for each
// of four pages.
type bitmapByte struct {
	page   innodb.PageID // that it is on
	offset uint32
	value  uint32
}

// Of an inode page, and of a page of extent descriptors (fsp0fsp.h).
const (
	inodesAt     = 50 // the first inode
	inodeSlotsAt = 64 // in an inode: the numbers of single pages, 4 bytes each, for half an extent
	extentsAt    = 150
	bitmapAt     = 24 // in a descriptor
	pageBits     = 2  // in the bitmap; the lower one: the page is free
)

// extent is how many pages an extent has.
func (g *Grants) extent() uint32 { return max(64, 1<<20/g.PageSize) }

// Reset begins a mini-transaction.
func (g *Grants) Reset() {
	g.page, g.mixed, g.given, g.bits = innodb.PageID{}, false, g.given[:0], g.bits[:0]
}

// Add takes in a record that changes a page. Descriptors are on each page whose
// number is a multiple of the page size, which in a compressed tablespace is a
// smaller one; the page there may also be an inode's.
func (g *Grants) Add(r *Record) {
	if g.mixed {
		return
	}
	descriptors := r.Page.No%innodb.MinZipSize == 0
	if !descriptors {
		made := r.Type == InitFilePage || r.Type == InitFilePage2
		g.mixed = g.mixed || made || g.page != r.Page && g.page != innodb.PageID{}
		g.page = r.Page
	}
	if g.mixed || r.Type != Write1 && r.Type != Write4 {
		return
	}
	offset := uint32(binary.BigEndian.Uint16(r.Body))
	value, _ := C32(r.Body[2:])
	switch {
	case r.Type == Write1 && descriptors:
		g.bits = append(g.bits, bitmapByte{r.Page, offset, value})
	case r.Type == Write4 && r.Page.No != 0 && g.isSlot(offset) && value%g.PageSize != 0 && value != uint32(innodb.PageNull):
		g.given = append(g.given, innodb.PageID{Space: r.Page.Space, No: innodb.PageNo(value)})
	}
}

// isSlot reports whether an offset of an inode page is that of a single page's
// number.
func (g *Grants) isSlot(offset uint32) bool {
	size := inodeSlotsAt + g.extent()/2*4
	in := (offset - inodesAt) % size
	return offset >= inodesAt && in >= inodeSlotsAt && in%4 == 0
}

// Unlogged returns the tablespace with a page that was given and not initialised.
// What looks like an inode's slot may be something else, of an undo log for
// instance: the page must be marked as used, too.
func (g *Grants) Unlogged() (space innodb.SpaceID, ok bool) {
	if g.mixed {
		return 0, false
	}
	if i := slices.IndexFunc(g.given, g.taken); i >= 0 {
		return g.given[i].Space, true
	}
	return 0, false
}

// taken reports whether the bitmap of the page's extent was written, and has the
// page as used.
func (g *Grants) taken(page innodb.PageID) bool {
	extent := g.extent()
	return slices.ContainsFunc(g.bits, func(b bitmapByte) bool {
		if b.page.Space != page.Space || b.page.No > page.No {
			return false
		}
		at := uint32(page.No - b.page.No)
		bit := at % extent * pageBits
		size := bitmapAt + extent*pageBits/8
		return b.offset == extentsAt+at/extent*size+bitmapAt+bit/8 && b.value>>(bit%8)&1 == 0
	})
}
