package innodb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// Space is what page 0 records about a tablespace: its identity and the geometry and
// encoding of its pages.
type Space struct {
	ID       SpaceID
	Flags    uint32
	Size     uint32 // FSP_SIZE, pages; the file may be larger, or not yet as large
	Physical int    // bytes of one page in the file
	Logical  int    // bytes of one page in the buffer pool: innodb_page_size

	FullCRC32      bool        // MariaDB 10.5+: one CRC-32C over the whole page
	PageCompressed bool        // MariaDB page_compressed=1, by the flags
	Compression    Compression // its algorithm, where the flags name one (full_crc32)
	Encryption     Encryption
	// MySQLInfo is MySQL's encryption information on page 0, for tde.ParseMySQLInfo; zero
	// if there is none.
	MySQLInfo [MySQLInfoSize]byte
	// Cipher has the keys of the tablespace; nil: there are none, or it is not encrypted.
	Cipher Cipher
}

// Zip reports whether the tablespace holds ROW_FORMAT=COMPRESSED pages. They may
// be as large as others: KEY_BLOCK_SIZE can be the page size.
func (s *Space) Zip() bool {
	return !s.FullCRC32 && s.Flags>>flagZipShift&flagZipMask != 0
}

// Compression is the algorithm of MariaDB's page_compressed pages.
type Compression uint8

// The algorithms, by the number that is stored on disk.
const (
	CompressNone Compression = iota
	CompressZlib
	CompressLZ4
	CompressLZO
	CompressLZMA
	CompressBzip2
	CompressSnappy
)

var compressionNames = [...]string{"none", "zlib", "lz4", "lzo", "lzma", "bzip2", "snappy"}

func (c Compression) String() string {
	if int(c) < len(compressionNames) {
		return compressionNames[c]
	}
	return fmt.Sprintf("compression %d", uint8(c))
}

// Encryption is MariaDB's encryption data on page 0.
type Encryption struct {
	Present    bool   // page 0 has encryption data, perhaps to mark that nothing is encrypted
	Scheme     uint8  // 0 none, 1 encrypted with derived keys
	MinVersion uint32 // smallest key version in use; 0: some pages are not encrypted
	KeyID      uint32
	Mode       uint8    // as the table was made: 0 as the server's default is, 1 ENCRYPTED=YES, 2 NO
	IV         [16]byte // from which the keys of the tablespace are derived
}

// MySQLInfoSize is how many bytes MySQL reserves for its encryption information
// (Encryption::INFO_SIZE in os0enc.h of 9.7.2).
const MySQLInfoSize = 115

// Flags of FSP_SPACE_FLAGS. MySQL's and MariaDB's words differ above bit 10;
// bit 4 distinguishes MariaDB's full_crc32 layout from all others, because no
// compressed page size has a code above 7.
const (
	flagFullCRC32       = 1 << 4
	flagFullSizeMask    = 0xF
	flagFullCompShift   = 5
	flagFullCompMask    = 7
	flagZipShift        = 1
	flagZipMask         = 0xF
	flagPageShift       = 6
	flagPageMask        = 0xF
	flagMariaCompressed = 1 << 16
	flagMySQLEncrypted  = 1 << 13
	flagSDI             = 1 << 14
)

// Page sizes that a server can have, in bytes.
const (
	MinPageSize = 4 << 10
	MaxPageSize = 64 << 10
	MinZipSize  = 1 << 10
	// SpaceHeaderSize is how much of page 0 ParseSpace wants to see at least.
	SpaceHeaderSize = 64
)

// ErrZeroHeader says that page 0 was allocated and not yet written: MariaDB
// 10.6 and later create tablespaces so, and their identity is then only in the
// redo log.
var ErrZeroHeader = errors.New("page 0 is not written yet")

// ParseSpace reads the space header from the beginning of page 0. With the
// whole page, encryption data is read too. It checks the header for
// consistency, not the page's checksum (see Space.Verify).
func ParseSpace(page0 []byte) (Space, error) {
	if len(page0) < SpaceHeaderSize {
		return Space{}, fmt.Errorf("page 0 is cut short at %d bytes", len(page0))
	}
	if AllZero(page0) {
		return Space{}, ErrZeroHeader
	}
	s, err := ParseFlags(binary.BigEndian.Uint32(page0[OffsetFSPFlags:]))
	if err != nil {
		return Space{}, err
	}
	s.ID = HeaderSpace(page0)
	s.Size = binary.BigEndian.Uint32(page0[OffsetFSPSize:])
	if id := SpaceID(binary.BigEndian.Uint32(page0[OffsetFSPSpace:])); id != s.ID {
		return Space{}, fmt.Errorf("page 0 names two tablespaces, %d and %d", s.ID, id)
	}
	if no := HeaderPageNo(page0); no != 0 {
		return Space{}, fmt.Errorf("the first page says it is page %d", no)
	}
	s.readEncryption(page0)
	return s, nil
}

// ParseFlags derives page geometry and encoding from FSP_SPACE_FLAGS.
func ParseFlags(flags uint32) (Space, error) {
	s := Space{Flags: flags}
	if flags&flagFullCRC32 != 0 {
		s.FullCRC32 = true
		s.Logical = 512 << (flags & flagFullSizeMask)
		s.Physical = s.Logical
		s.Compression = Compression(flags >> flagFullCompShift & flagFullCompMask)
		s.PageCompressed = s.Compression != CompressNone
	} else {
		s.Logical = 16 << 10
		if code := flags >> flagPageShift & flagPageMask; code != 0 {
			s.Logical = 512 << code
		}
		s.Physical = s.Logical
		if code := flags >> flagZipShift & flagZipMask; code != 0 {
			s.Physical = 512 << code
		}
		s.PageCompressed = flags&flagMariaCompressed != 0
	}
	if s.Logical < MinPageSize || s.Logical > MaxPageSize || s.Physical < MinZipSize || s.Physical > s.Logical {
		return Space{}, fmt.Errorf("tablespace flags %#x are not of any InnoDB: page size %d, compressed page size %d",
			flags, s.Logical, s.Physical)
	}
	return s, nil
}

// encryptionMagic opens MariaDB's encryption data (fil0crypt.h, CRYPT_MAGIC).
var encryptionMagic = []byte{'s', 0xE, 0xC, 'R', 'E', 't'}

// OffsetMySQLInfo is where page 0 has MySQLInfo, in bytes: after the extent descriptors,
// which begin at 150 and are 24 bytes and a bitmap for each extent that one descriptor page
// describes (fsp_header_get_encryption_offset of MySQL).
func (s *Space) OffsetMySQLInfo() int {
	extent := s.ExtentPages()
	return 150 + (24+(2*extent+7)/8)*(s.Physical/extent)
}

// readEncryption fills s.Encryption and s.MySQLInfo where page0 reaches far enough.
// MariaDB's data lie 38 bytes after MySQL's: fil0crypt.cc adds the header's offset once
// more.
func (s *Space) readEncryption(page0 []byte) {
	at := s.OffsetMySQLInfo()
	if s.MySQLEncrypted() && len(page0) >= at+MySQLInfoSize {
		copy(s.MySQLInfo[:], page0[at:])
	}
	at += OffsetBody
	const size = 6 + 1 + 1 + 16 + 4 + 4 + 1
	if len(page0) < at+size || string(page0[at:at+6]) != string(encryptionMagic) {
		return
	}
	s.Encryption = Encryption{
		Present:    true,
		Scheme:     page0[at+6],
		MinVersion: binary.BigEndian.Uint32(page0[at+24:]),
		KeyID:      binary.BigEndian.Uint32(page0[at+28:]),
		Mode:       page0[at+32],
		IV:         [16]byte(page0[at+8:]),
	}
}

// ExtentPages is the number of pages in an extent: 1 MiB of logical pages, but
// 64 pages for pages of 32 KiB and more (2 and 4 MiB).
func (s *Space) ExtentPages() int {
	return max(64, (1<<20)/s.Logical)
}

// LengthError says that a tablespace is shorter than the size in its page 0.
type LengthError struct {
	ID         SpaceID
	Have, Want int64 // bytes
}

func (e *LengthError) Error() string {
	return fmt.Sprintf("tablespace %d has %d bytes, but page 0 counts pages for %d: it was cut off", e.ID, e.Have, e.Want)
}

// CheckLength returns a *LengthError if have, the bytes of all files of the
// tablespace, is less than FSP_SIZE asks for. Servers extend a file before they
// write the new size to page 0, so that a shorter file is damaged. There are two
// exceptions. Page 0 of a copy may be newer than the file's end: then the redo log
// has a record for page 0 and makes the missing pages. And truncation cuts an undo
// tablespace before page 0 is written: then the redo log has that too (MariaDB),
// or the server truncates the file again when it starts (MySQL 5.7).
func (s *Space) CheckLength(have int64) error {
	if want := s.MinBytes(); have < want {
		return &LengthError{s.ID, have, want}
	}
	return nil
}

// MinBytes is the least length of a tablespace's files together. Servers make
// the files longer before page 0 has the size, and in multiples of 4096 bytes: they
// leave smaller pages past such a multiple to the first write
// (fil_space_extend_must_retry). Only a truncation makes files shorter first.
func (s *Space) MinBytes() int64 { return int64(s.Size) * int64(s.Physical) &^ 4095 }

// MySQLEncrypted reports MySQL's ENCRYPTION='Y' flag.
func (s *Space) MySQLEncrypted() bool {
	return !s.FullCRC32 && s.Flags&flagMySQLEncrypted != 0
}

// HasSDI reports whether MySQL 8.0 or later keeps the definitions of its tables in the
// tablespace: see package sdi.
func (s *Space) HasSDI() bool { return !s.FullCRC32 && s.Flags&flagSDI != 0 }

// PageRange is a run of pages, First included, End not.
type PageRange struct{ First, End PageNo }

// Contains reports whether the range holds page no.
func (r PageRange) Contains(no PageNo) bool { return r.First <= no && no < r.End }

// TrxSysPage is the number of the transaction system's page in the system
// tablespace (FSP_TRX_SYS_PAGE_NO).
const TrxSysPage PageNo = 5

// doublewriteMagic marks that the system tablespace holds a doublewrite area
// (TRX_SYS_DOUBLEWRITE_MAGIC_N).
const doublewriteMagic = 536853855

// DoublewriteArea returns the pages of the system tablespace that hold the
// doublewrite buffer, as page TrxSysPage records them: two blocks of one
// extent each, or none. Their contents are copies of other pages, so that
// neither their numbers nor their checksums mean anything there, and nothing
// in a backup needs them. (trx0sys.h, TRX_SYS_DOUBLEWRITE.)
func (s *Space) DoublewriteArea(trxSys []byte) []PageRange {
	at := len(trxSys) - 200 + 10
	if at < OffsetBody || HeaderType(trxSys) != TypeTrxSys ||
		binary.BigEndian.Uint32(trxSys[at:]) != doublewriteMagic {
		return nil
	}
	var area []PageRange
	for _, off := range []int{at + 4, at + 8} {
		first := PageNo(binary.BigEndian.Uint32(trxSys[off:]))
		area = append(area, PageRange{first, first + PageNo(s.ExtentPages())})
	}
	return area
}

// PlainSpace is the system tablespace of a server with pages of so many bytes,
// as far as it follows from that and the kind of the checksum.
func PlainSpace(pageSize int, fullCRC32 bool) (Space, error) {
	code := uint32(bits.TrailingZeros(uint(pageSize / 512)))
	switch {
	case fullCRC32:
		return ParseFlags(flagFullCRC32 | code)
	case pageSize == 16<<10:
		return ParseFlags(0)
	}
	return ParseFlags(code << flagPageShift)
}
