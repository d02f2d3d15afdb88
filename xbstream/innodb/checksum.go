package innodb

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"sync"
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
	// ChecksumSealed is of a page of MySQL that is encrypted: its checksum is that of the
	// plain page, which cannot be verified without the Space's Cipher.
	ChecksumSealed
)

// A Tally counts pages that no checksum vouches for.
type Tally struct {
	Unsummed int64 // ChecksumNone: damage within them cannot be noticed
	// Unproven are those of them that have no second LSN either, so that they might
	// be torn: of ROW_FORMAT=COMPRESSED.
	Unproven int64
	Sealed   int64 // ChecksumSealed: they cannot be verified without the keys
}

// Count enters a page of a tablespace that was verified.
func (t *Tally) Count(s *Space, sum Checksum) {
	switch sum {
	case ChecksumSealed:
		t.Sealed++
		return
	case ChecksumNone:
	default:
		return
	}
	t.Unsummed++
	if s.Zip() {
		t.Unproven++
	}
}

// Add enters what another tally has.
func (t *Tally) Add(o Tally) {
	t.Unsummed += o.Unsummed
	t.Unproven += o.Unproven
	t.Sealed += o.Sealed
}

// Describe explains the counted pages; "" if there are none.
func (t Tally) Describe() string {
	sealed := ""
	if t.Sealed > 0 {
		sealed = fmt.Sprintf("%d pages are encrypted, and hb cannot verify their checksums without the keys of the server", t.Sealed)
	}
	if t.Unsummed == 0 {
		return sealed
	}
	text := fmt.Sprintf("%d pages have no checksum (innodb_checksum_algorithm=none): damage in them cannot be noticed", t.Unsummed)
	if t.Unproven > 0 {
		text += fmt.Sprintf("; %d of them are of ROW_FORMAT=COMPRESSED, where hb cannot be certain that a page was not torn", t.Unproven)
	}
	if sealed != "" {
		text += "; " + sealed
	}
	return text
}

// noneMagic stands for "no checksum" (BUF_NO_CHECKSUM_MAGIC).
const noneMagic = 0xDEADBEEF

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC32C is the CRC that InnoDB uses everywhere.
func CRC32C(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// PageError is a fault of a page.
type PageError struct {
	PageID
	What    string
	Foreign bool  // it has the id of another tablespace
	Cause   error // what the checks returned, or nil: also that a key is missing
}

func (e *PageError) Error() string { return fmt.Sprintf("page %d: %s", e.No, e.What) }

// Unwrap returns the cause.
func (e *PageError) Unwrap() error { return e.Cause }

// Verify checks that page, of the tablespace's physical size, is page no of
// this tablespace and that its checksum is right, and returns the algorithm
// that it was stamped with. An all-zero page is valid. The error is a *PageError.
//
// Pages that are stored compressed without a checksum of the stored bytes are
// unpacked first: pages of MySQL's COMPRESSION, and MariaDB's page_compressed ones
// outside of full_crc32 tablespaces.
//
// An encrypted page of MariaDB is verified by the checksum of what is stored, and with
// Space.Cipher also by what it decrypts to. One of MySQL has only the checksum of the
// plain page: without Space.Cipher the result is ChecksumSealed.
//
// Where no checksum covers the LSN at the end of the page, it must be the one in
// the header, as servers want it: of a page that was stamped ChecksumNone this is
// the only sign that it was torn. ROW_FORMAT=COMPRESSED has none there.
func (s *Space) Verify(page []byte, no PageNo) (Checksum, error) {
	return s.verify(page, no, s.identifySealed)
}

// verify is Verify; sealed identifies an encrypted page.
func (s *Space) verify(page []byte, no PageNo, sealed func([]byte, PageNo) (Checksum, error)) (Checksum, error) {
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
	// In full_crc32 tablespaces the id is compressed, or encrypted, with the rest.
	if got := HeaderSpace(page); got != s.ID && !s.packed(page) && !(s.FullCRC32 && s.Sealed(page, no)) {
		return ChecksumUnset, &PageError{PageID: PageID{s.ID, no}, What: fmt.Sprintf("says it is of tablespace %d, not %d", got, s.ID), Foreign: true}
	}
	identify := s.identify
	switch v := s.KeyVersion(page, no); {
	case s.Sealed(page, no):
		identify = func(page []byte) (Checksum, error) { return sealed(page, no) }
	case v != 0: // the server takes it for a damaged one
		return fail("says it is encrypted with version %d of a key, but the tablespace is not encrypted", v)
	}
	sum, err := identify(page)
	if err != nil {
		return ChecksumUnset, &PageError{PageID: PageID{s.ID, no}, What: err.Error(), Cause: err}
	}
	return sum, nil
}

// identify finds the algorithm whose value the page carries, likeliest first.
func (s *Space) identify(page []byte) (Checksum, error) {
	switch {
	case s.FullCRC32:
		end := s.StoredSize(page)
		if end == 0 || binary.BigEndian.Uint32(page[end-4:]) != CRC32C(page[:end-4]) {
			return ChecksumUnset, wrongChecksum(page)
		}
		return ChecksumFullCRC32, nil
	case s.Zip():
		return identifyZip(page)
	case s.PageCompressed && s.Compressed(page):
		return s.identifyUnpacked(page, s.Decompress)
	case s.Packed(page):
		return s.identifyUnpacked(page, Unpack)
	}
	return identifyPlain(page)
}

func wrongChecksum(page []byte) error {
	return fmt.Errorf("wrong checksum (stored %#08x, %#08x)", binary.BigEndian.Uint32(page), binary.BigEndian.Uint32(page[len(page)-trailerSize:]))
}

// plainPages are buffers for pages that are unpacked to be verified.
var plainPages = sync.Pool{New: func() any { return new([MaxPageSize]byte) }}

// identifyUnpacked is identifyPlain for a page that is stored compressed.
func (s *Space) identifyUnpacked(page []byte, unpack func(plain, page []byte) error) (Checksum, error) {
	buf := plainPages.Get().(*[MaxPageSize]byte)
	defer plainPages.Put(buf)
	plain := buf[:len(page)]
	if err := unpack(plain, page); err != nil {
		return ChecksumUnset, err
	}
	if got := HeaderSpace(plain); got != s.ID {
		return ChecksumUnset, fmt.Errorf("its compressed content is of tablespace %d", got)
	}
	return identifyPlain(plain)
}

// packed reports whether a page of a full_crc32 tablespace is stored
// page_compressed: then only its first 26 bytes are as they were, which do not
// include the space id.
func (s *Space) packed(page []byte) bool {
	return s.FullCRC32 && s.PageCompressed && HeaderType(page)&fullCRC32Compressed != 0
}

// StoredSize is how many bytes of a page in a full_crc32 tablespace are stored:
// a page_compressed page has it in its type; 0 if it is impossible.
func (s *Space) StoredSize(page []byte) int {
	if !s.packed(page) {
		return len(page)
	}
	n := int(HeaderType(page)&0xFF) << 8
	if n == 0 || n > len(page) {
		return 0
	}
	return n
}

func identifyPlain(page []byte) (Checksum, error) {
	trailer := len(page) - trailerSize
	first, last := binary.BigEndian.Uint32(page[OffsetLSN+4:]), binary.BigEndian.Uint32(page[len(page)-4:])
	sum, ok := plainSum(page, binary.BigEndian.Uint32(page), binary.BigEndian.Uint32(page[trailer:]))
	switch {
	case !ok:
		return ChecksumUnset, wrongChecksum(page)
	case first != last:
		return ChecksumUnset, fmt.Errorf("it is torn: its first and last bytes are of different LSNs (%#08x, %#08x)", first, last)
	}
	return sum, nil
}

// plainSum identifies a plain page by what it has in both fields.
func plainSum(page []byte, head, tail uint32) (Checksum, bool) {
	if c := crc32Plain(page); head == c && tail == c {
		return ChecksumCRC32, true
	}
	if head == noneMagic && tail == noneMagic {
		return ChecksumNone, true
	}
	// Before MySQL 4.0.14 the trailer was the LSN, all of it.
	tailOK := tail == fold(0, page[:26]) || tail == binary.BigEndian.Uint32(page[OffsetLSN:])
	return ChecksumLegacy, tailOK && head == legacyPlain(page)
}

func identifyZip(page []byte) (Checksum, error) {
	switch binary.BigEndian.Uint32(page) {
	case crc32Zip(page):
		return ChecksumCRC32, nil
	case noneMagic:
		return ChecksumNone, nil
	case legacyZip(page):
		return ChecksumLegacy, nil
	}
	return ChecksumUnset, wrongChecksum(page)
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
