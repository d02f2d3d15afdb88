package innodb

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Checksum is the algorithm by which one page was stamped. Servers before full
// adoption of CRC-32C mix them page by page, so that it is a property of a
// page; full_crc32 is one of a whole tablespace.
type Checksum uint8

// The algorithms. For pages with a trailer, "both" means the field at byte 0
// and the first four bytes of the trailer.
const (
	// ChecksumUnset is of an all-zero page, which has none.
	ChecksumUnset Checksum = iota
	// ChecksumFullCRC32: CRC-32C of all but the last four bytes, stored there.
	ChecksumFullCRC32
	// ChecksumCRC32: CRC-32C of bytes 4-26 xor that of 38 to the trailer, in both.
	ChecksumCRC32
	// ChecksumLegacy: the fold of InnoDB's first years ("innodb").
	ChecksumLegacy
	// ChecksumNone: 0xDEADBEEF in both.
	ChecksumNone
)

// noneMagic stands for "no checksum" (BUF_NO_CHECKSUM_MAGIC).
const noneMagic = 0xDEADBEEF

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC32C is the CRC that InnoDB uses everywhere.
func CRC32C(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// PageError says what is wrong with a page.
type PageError struct {
	PageID
	What    string
	Foreign bool // it says that it is of another tablespace
}

func (e *PageError) Error() string { return fmt.Sprintf("page %d: %s", e.No, e.What) }

// Verify checks that page, of the tablespace's physical size, is page no of
// this tablespace and that its checksum is right, and returns the algorithm
// that it was stamped with. An all-zero page is valid. What is encrypted or
// page_compressed is checked without a key or decompression where the format
// allows it: always in full_crc32 tablespaces; in the older formats a
// page_compressed page carries no checksum (0xDEADBEEF) and only its header is
// checked. A page that MySQL stores compressed is unpacked, since its checksum is
// that of the plain page. The error is a *PageError.
func (s *Space) Verify(page []byte, no PageNo) (Checksum, error) {
	fail := func(format string, args ...any) (Checksum, error) {
		return ChecksumUnset, &PageError{PageID: PageID{s.ID, no}, What: fmt.Sprintf(format, args...)}
	}
	if len(page) != s.Physical {
		return fail("is %d bytes, not %d", len(page), s.Physical)
	}
	if AllZero(page) {
		return ChecksumUnset, nil
	}
	if got := HeaderPageNo(page); got != no {
		return fail("says it is page %d", got)
	}
	if got := HeaderSpace(page); got != s.ID && !s.packed(page) {
		return ChecksumUnset, &PageError{PageID{s.ID, no}, fmt.Sprintf("says it is of tablespace %d, not %d", got, s.ID), true}
	}
	sum, ok := s.identify(page)
	if !ok {
		return fail("wrong checksum (stored %#08x, %#08x)", binary.BigEndian.Uint32(page),
			binary.BigEndian.Uint32(page[len(page)-trailerSize:]))
	}
	return sum, nil
}

// identify finds the algorithm whose value the page carries, likeliest first.
func (s *Space) identify(page []byte) (Checksum, bool) {
	switch {
	case s.FullCRC32:
		end := s.storedSize(page)
		return ChecksumFullCRC32, end > 0 &&
			binary.BigEndian.Uint32(page[end-4:]) == CRC32C(page[:end-4])
	case s.Zip():
		return identifyZip(page)
	case s.PageCompressed && isOldPageCompressed(HeaderType(page)):
		return ChecksumNone, binary.BigEndian.Uint32(page) == noneMagic
	case s.Packed(page):
		return identifyPacked(page)
	}
	return identifyPlain(page)
}

// packed reports whether a page of a full_crc32 tablespace is stored
// page_compressed: then only its first 26 bytes are as they were, which do not
// include the space id.
func (s *Space) packed(page []byte) bool {
	return s.FullCRC32 && s.PageCompressed && HeaderType(page)&fullCRC32Compressed != 0
}

// storedSize is how many bytes of a page in a full_crc32 tablespace are stored:
// a page_compressed page says it in its type; 0 if what it says cannot be.
func (s *Space) storedSize(page []byte) int {
	if !s.packed(page) {
		return len(page)
	}
	n := int(HeaderType(page)&0xFF) << 8
	if n == 0 || n > len(page) {
		return 0
	}
	return n
}

func isOldPageCompressed(t PageType) bool {
	return t == TypePageCompressed || t == TypePageCompEncr
}

func identifyPlain(page []byte) (Checksum, bool) {
	trailer := len(page) - trailerSize
	head := binary.BigEndian.Uint32(page)
	tail := binary.BigEndian.Uint32(page[trailer:])
	if c := crc32Plain(page); head == c && tail == c {
		return ChecksumCRC32, true
	}
	if head == noneMagic && tail == noneMagic {
		return ChecksumNone, true
	}
	// Before MySQL 4.0.14 the trailer began with the low half of the LSN.
	tailOK := tail == fold(0, page[:26]) || tail == binary.BigEndian.Uint32(page[OffsetLSN+4:])
	return ChecksumLegacy, tailOK && head == legacyPlain(page)
}

func identifyZip(page []byte) (Checksum, bool) {
	switch binary.BigEndian.Uint32(page) {
	case crc32Zip(page):
		return ChecksumCRC32, true
	case noneMagic:
		return ChecksumNone, true
	case legacyZip(page):
		return ChecksumLegacy, true
	}
	return ChecksumUnset, false
}

func crc32Plain(page []byte) uint32 {
	return CRC32C(page[OffsetPageNo:26]) ^ CRC32C(page[OffsetBody:len(page)-trailerSize])
}

func crc32Zip(page []byte) uint32 {
	return CRC32C(page[4:16]) ^ CRC32C(page[24:26]) ^ CRC32C(page[34:])
}

func legacyPlain(page []byte) uint32 {
	return fold(0, page[OffsetPageNo:26]) + fold(0, page[OffsetBody:len(page)-trailerSize])
}

// Fold is the hash of 5.6's redo log checkpoints, the same as of "innodb" page
// checksums.
func Fold(b []byte) uint32 { return fold(0, b) }

// fold is the hash of "innodb" checksums (ut_fold_binary), modulo 2^32.
func fold(f uint32, b []byte) uint32 {
	for _, c := range b {
		f = ((((f ^ uint32(c) ^ 1653893711) << 8) + f) ^ 1463735687) + uint32(c)
	}
	return f
}

// legacyZip is Adler-32 over the three ranges, from 0 instead of the usual 1.
func legacyZip(page []byte) uint32 {
	var a, b uint32
	for _, part := range [][]byte{page[4:16], page[24:26], page[34:]} {
		for len(part) > 0 {
			n := min(len(part), 5552) // the sums cannot overflow before
			for _, c := range part[:n] {
				a += uint32(c)
				b += a
			}
			a %= 65521
			b %= 65521
			part = part[n:]
		}
	}
	return b<<16 | a
}

// SetLSN writes the LSN of the last change into the header and, where the
// tablespace's format repeats its low half in the trailer, there too.
func (s *Space) SetLSN(page []byte, lsn LSN) {
	binary.BigEndian.PutUint64(page[OffsetLSN:], uint64(lsn))
	switch {
	case s.Zip():
	case s.FullCRC32:
		binary.BigEndian.PutUint32(page[len(page)-trailerSize:], uint32(lsn))
	default:
		binary.BigEndian.PutUint32(page[len(page)-4:], uint32(lsn))
	}
}

// Stamp computes the page's checksum by the given algorithm and stores it.
// The algorithm is ignored in a full_crc32 tablespace, which has only one, and
// ChecksumUnset means what servers write by default: CRC-32C. The page must be
// plain: neither page_compressed nor encrypted.
func (s *Space) Stamp(page []byte, algorithm Checksum) {
	if s.FullCRC32 {
		end := len(page) - 4
		binary.BigEndian.PutUint32(page[end:], CRC32C(page[:end]))
		return
	}
	head, tail := s.sums(page, algorithm)
	binary.BigEndian.PutUint32(page, head)
	if !s.Zip() {
		binary.BigEndian.PutUint32(page[len(page)-trailerSize:], tail)
	}
}

// sums returns the values of both checksum fields; the legacy value of the
// second one covers the first, so page receives that on the way.
func (s *Space) sums(page []byte, algorithm Checksum) (head, tail uint32) {
	switch {
	case algorithm == ChecksumNone:
		return noneMagic, noneMagic
	case algorithm == ChecksumLegacy && s.Zip():
		return legacyZip(page), 0
	case algorithm == ChecksumLegacy:
		head = legacyPlain(page)
		binary.BigEndian.PutUint32(page, head)
		return head, fold(0, page[:26])
	case s.Zip():
		return crc32Zip(page), 0
	}
	head = crc32Plain(page)
	return head, head
}
