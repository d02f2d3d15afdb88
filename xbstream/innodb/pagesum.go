package innodb

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// PageSum is a sum over the pages of one file of a tablespace, in any order. It changes
// with every page: with its number, with the LSN of its last change, and with the checksum
// that it carries. Pages that are all zero do not count, so that the file may have more or
// fewer of them; those of a doublewrite area are the caller's to leave out (File.Exempt),
// because they change without an LSN.
//
// Two servers that continue from one backup write pages of different sums, even where
// their LSNs happen to be the same. The sum is no proof against an adversary.
type PageSum uint64

// Toggle enters a page that is not in the sum, or takes out one that is. no is the number
// of the page in its file: the offset, divided by the page size.
func (s *PageSum) Toggle(no PageNo, page []byte, space *Space) {
	if AllZero(page) {
		return
	}
	h := mix(uint64(no) + 1)
	h = mix(h ^ uint64(HeaderLSN(page)))
	*s ^= PageSum(mix(h ^ space.stored(page)))
}

// stored is the checksum that a page carries. If it carries none, it is that of its
// content from OffsetBody on: before that, servers write the flush LSN into page 0
// without a change of the page's LSN (see OffsetFlushLSN).
func (s *Space) stored(page []byte) uint64 {
	head := binary.BigEndian.Uint32(page)
	switch {
	case s.FullCRC32:
		end := s.StoredSize(page)
		if end == 0 {
			end = len(page) // damaged: its checksum is wrong, too
		}
		return uint64(binary.BigEndian.Uint32(page[end-4:]))
	case head == noneMagic:
		return uint64(head)<<32 | uint64(CRC32C(page[OffsetBody:]))
	case s.Zip():
		return uint64(head) << 32
	}
	return uint64(head)<<32 | uint64(binary.BigEndian.Uint32(page[len(page)-trailerSize:]))
}

// mix spreads every bit over all others. It maps no two values to one (the finalizer of
// SplitMix64, by Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// String returns the sum as 16 hexadecimal digits.
func (s PageSum) String() string { return fmt.Sprintf("%016x", uint64(s)) }

// MarshalText is String.
func (s PageSum) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the digits.
func (s *PageSum) UnmarshalText(text []byte) error {
	var b [8]byte
	if len(text) != 2*len(b) {
		return fmt.Errorf("the sum of pages %.20q has not 16 digits", text)
	}
	if _, err := hex.Decode(b[:], text); err != nil {
		return fmt.Errorf("the sum of pages %q: %w", text, err)
	}
	*s = PageSum(binary.BigEndian.Uint64(b[:]))
	return nil
}

// Unsummed reports whether a page that was verified before is stamped ChecksumNone.
func (s *Space) Unsummed(page []byte) bool {
	switch {
	case s.FullCRC32 || binary.BigEndian.Uint32(page) != noneMagic || s.PageCompressed && s.Compressed(page) || s.Packed(page):
		return false
	case s.Zip():
		return true
	}
	return binary.BigEndian.Uint32(page[len(page)-trailerSize:]) == noneMagic
}
