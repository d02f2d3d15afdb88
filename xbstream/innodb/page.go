// Package innodb states InnoDB's on-disk formats as both halves of hb need
// them: page headers, page types, tablespace flags and checksums. Redo log
// files are in redolog, mariadbredo and mysqlredo.
//
// A tablespace is a sequence of pages of one physical size (4 to 64 KiB, or 1
// to 16 KiB for ROW_FORMAT=COMPRESSED). All integers are big-endian. A page:
//
//	 0  4  checksum; in full_crc32 tablespaces the encryption key version
//	 4  4  page number
//	 8  4  previous page   12  4  next page (PageNull: none)
//	16  8  LSN of the end of the last mini-transaction that changed it
//	24  2  page type
//	26  8  page 0 of the system tablespace: flush LSN; R-tree and encoded pages: their own data
//	34  4  space id
//	38  …  body; page 0 of a tablespace starts with the space header
//	-8  8  trailer: see checksum.go; ROW_FORMAT=COMPRESSED pages have none
//
// Source: storage/innobase/include/fil0fil.h (or fil0types.h) and fsp0fsp.h of
// MySQL 5.6 to 9.7 and MariaDB 10.5 to 11.8, which agree on all of this.
package innodb

import (
	"bytes"
	"encoding/binary"
)

// Offsets in a page, in bytes.
const (
	OffsetPageNo   = 4
	OffsetPrev     = 8
	OffsetNext     = 12
	OffsetLSN      = 16
	OffsetType     = 24
	OffsetFlushLSN = 26 // page 0 of the system tablespace only
	OffsetSpace    = 34
	OffsetBody     = 38

	trailerSize = 8
)

// Offsets in page 0, in bytes from the start of the page.
const (
	OffsetFSPSpace = 38 // the space id once more
	OffsetFSPSize  = 46 // size of the tablespace in pages
	OffsetFSPLimit = 50 // FSP_FREE_LIMIT: pages from there were never used
	OffsetFSPFlags = 54
)

// PageType is the two-byte type in a page's header.
type PageType uint16

// Page types that hb distinguishes.
const (
	TypeAllocated      PageType = 0
	TypeUndo           PageType = 2
	TypeTrxSys         PageType = 7
	TypeFSPHeader      PageType = 8
	TypeXDES           PageType = 9     // extent descriptors, as page 0 has them
	TypeSDI            PageType = 17853 // index page with serialized dictionary information, MySQL 8.0 and later
	TypeRTree          PageType = 17854
	TypeIndex          PageType = 17855
	TypePageCompressed PageType = 34354 // MariaDB, tablespaces that are not full_crc32
	TypePageCompEncr   PageType = 37401 // the same, then encrypted

	// fullCRC32Compressed marks a page_compressed page in a full_crc32
	// tablespace; the low byte is then its stored size in units of 256 bytes.
	fullCRC32Compressed PageType = 0x8000
)

// HeaderPageNo returns the page number in the page's header.
func HeaderPageNo(page []byte) PageNo {
	return PageNo(binary.BigEndian.Uint32(page[OffsetPageNo:]))
}

// HeaderSpace returns the tablespace id in the page's header.
func HeaderSpace(page []byte) SpaceID {
	return SpaceID(binary.BigEndian.Uint32(page[OffsetSpace:]))
}

// HeaderLSN returns the LSN of the last change to the page.
func HeaderLSN(page []byte) LSN {
	return LSN(binary.BigEndian.Uint64(page[OffsetLSN:]))
}

// HeaderType returns the page's type.
func HeaderType(page []byte) PageType {
	return PageType(binary.BigEndian.Uint16(page[OffsetType:]))
}

var zeros [64 << 10]byte

// AllZero reports whether b, up to 64 KiB at a time, holds only zero bytes: a
// page that was allocated and never written, which is valid in every version.
func AllZero(b []byte) bool {
	for len(b) > len(zeros) {
		if !bytes.Equal(b[:len(zeros)], zeros[:]) {
			return false
		}
		b = b[len(zeros):]
	}
	return bytes.Equal(b, zeros[:len(b)])
}
