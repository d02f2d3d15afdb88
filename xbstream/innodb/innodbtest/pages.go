package innodbtest

import (
	"encoding/binary"
	"math/rand/v2"

	"hb/xbstream/innodb"
)

// Flags of tablespaces (FSP_SPACE_FLAGS).
const (
	Full4K   = 1<<4 | 3 // MariaDB's full_crc32, pages of 4 KiB
	Full16K  = 1<<4 | 5 // the same, 16 KiB
	Plain16K = 1 | 1<<5 // ROW_FORMAT=DYNAMIC, pages of 16 KiB that are not full_crc32
)

// Tablespace describes a tablespace.
type Tablespace struct {
	ID    innodb.SpaceID
	Flags uint32
	Pages int        // as page 0 counts them
	LSN   innodb.LSN // of each page
	// Sum is how its pages are stamped, ChecksumCRC32 or ChecksumNone; unset:
	// ChecksumCRC32. full_crc32 has no choice.
	Sum innodb.Checksum
	// Fill writes what a page holds, before its header is written; nil: nothing.
	Fill func(page []byte, no innodb.PageNo)
}

// Bytes returns all pages.
func (t Tablespace) Bytes() []byte {
	var file []byte
	for no := range innodb.PageNo(t.Pages) {
		file = append(file, t.Page(no)...)
	}
	return file
}

// Page returns one page, which may lie beyond those that are counted.
func (t Tablespace) Page(no innodb.PageNo) []byte {
	page := make([]byte, parse(t.Flags).Physical)
	if t.Fill != nil {
		t.Fill(page, no)
	}
	be.PutUint32(page[4:], uint32(no))
	be.PutUint32(page[34:], uint32(t.ID))
	if no == 0 {
		be.PutUint32(page[38:], uint32(t.ID))
		be.PutUint32(page[46:], uint32(t.Pages))
		be.PutUint32(page[54:], t.Flags)
	}
	Seal(page, t.Flags, t.LSN, t.Sum)
	return page
}

func parse(flags uint32) innodb.Space {
	space, err := innodb.ParseFlags(flags)
	if err != nil {
		panic(err)
	}
	return space
}

// Seal writes the LSN of the last change to a page, of a tablespace with those flags, and
// its checksum (see [Tablespace]).
func Seal(page []byte, flags uint32, lsn innodb.LSN, sum innodb.Checksum) {
	space, end := parse(flags), len(page)
	be.PutUint64(page[16:], uint64(lsn))
	if space.FullCRC32 {
		be.PutUint32(page[end-8:], uint32(lsn))
		be.PutUint32(page[end-4:], crc(page[:end-4]))
		return
	}
	stamp := func(parts ...[]byte) (value uint32) {
		switch sum {
		case innodb.ChecksumNone:
			return 0xDEADBEEF
		case innodb.ChecksumUnset, innodb.ChecksumCRC32:
			for _, b := range parts {
				value ^= crc(b)
			}
			return value
		}
		panic("no page is made with this checksum")
	}
	if space.Zip() {
		be.PutUint32(page, stamp(page[4:16], page[24:26], page[34:]))
		return
	}
	be.PutUint32(page[end-4:], uint32(lsn))
	value := stamp(page[4:26], page[38:end-8])
	be.PutUint32(page, value)
	be.PutUint32(page[end-8:], value)
}

// Random returns a full_crc32 tablespace with pages of 16 KiB, all of LSN 1000 and full of
// random bytes, always the same ones for the same id and number.
func Random(id innodb.SpaceID, pages int) []byte {
	rng := rand.New(rand.NewPCG(uint64(id), uint64(pages)))
	t := Tablespace{ID: id, Flags: Full16K, Pages: pages, LSN: 1000, Fill: func(page []byte, _ innodb.PageNo) {
		for i := innodb.OffsetBody; i < len(page); i += 8 {
			binary.LittleEndian.PutUint64(page[min(i, len(page)-8):], rng.Uint64())
		}
	}}
	return t.Bytes()
}

// TrxSys makes a page that of the transaction system, number innodb.TrxSysPage of the
// system tablespace, without rollback segments.
func TrxSys(page []byte) {
	be.PutUint16(page[24:], uint16(innodb.TypeTrxSys))
	for i := rollbackArray; i < rollbackArray+8*rollbackSlots; i++ {
		page[i] = 0xFF
	}
}

// Where the transaction system's page has the rollback segments, and how many
// (trx0sys.h, TRX_SYS_RSEGS and TRX_SYS_N_RSEGS).
const (
	rollbackArray = 38 + 18
	rollbackSlots = 128
)

// RollbackSegment enters in the transaction system's page that the rollback segment of a
// slot is in a tablespace, on page 6.
func RollbackSegment(page []byte, slot int, id innodb.SpaceID) {
	be.PutUint64(page[rollbackArray+8*slot:], uint64(id)<<32|6)
}

// DoublewriteArea enters in the transaction system's page at which pages the two blocks of
// the doublewrite area begin (trx0sys.h, TRX_SYS_DOUBLEWRITE).
func DoublewriteArea(page []byte, first, second innodb.PageNo) {
	const magic = 536853855 // TRX_SYS_DOUBLEWRITE_MAGIC_N
	for i, v := range []uint32{magic, uint32(first), uint32(second)} {
		be.PutUint32(page[len(page)-200+10+4*i:], v)
	}
}

// DoublewriteSegment enters in the transaction system's page where the inode of the
// segment is that owns the doublewrite area (TRX_SYS_DOUBLEWRITE_FSEG).
func DoublewriteSegment(page []byte, no innodb.PageNo, offset uint16) {
	be.PutUint32(page[len(page)-200+4:], uint32(no))
	be.PutUint16(page[len(page)-200+8:], offset)
}

// Inode lays out the inode of a segment at an offset of a page: it has some single pages,
// of as many as half an extent. (fsp0fsp.h, fseg_inode_t.)
func Inode(page []byte, offset, extent int, single ...innodb.PageNo) {
	const magic = 97937874 // FSEG_MAGIC_N_VALUE
	be.PutUint32(page[offset+60:], magic)
	for i := range extent / 2 {
		no := uint32(innodb.PageNull)
		if i < len(single) {
			no = uint32(single[i])
		}
		be.PutUint32(page[offset+64+4*i:], no)
	}
}

// Extent lays out the descriptor of an extent in a descriptor page, of which page 0 is the
// first: its place among those of the page, its state (2: fragments, 4: a segment's), and
// which of its pages are in use. (fsp0fsp.h, xdes_t.)
func Extent(page []byte, place int, state byte, pages int, used func(i int) bool) {
	size := 24 + pages/4
	x := page[150+place*size:][:size]
	x[23] = state
	for i := range pages {
		bits := byte(2) // clean
		if !used(i) {
			bits = 3 // and free
		}
		x[24+i/4] |= bits << (i % 4 * 2)
	}
}
