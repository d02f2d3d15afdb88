package innodb

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Extent descriptors record which pages of a tablespace are in use. They are on page
// 0 and on every page whose number is a multiple of the bytes of a page: each
// describes as many pages as it has bytes. Behind the space header such a page
// holds one descriptor for each extent:
//
//	 0  8  segment that owns the extent
//	 8 12  list node
//	20  4  state; 0: not initialised
//	24  …  two bits for each page, least significant first: free, clean
//
// (fsp0fsp.h of MySQL 5.6 to 9.7 and MariaDB 10.5 to 11.8.)
const (
	descriptors       = OffsetBody + 112
	descriptorState   = 20
	descriptorBitmap  = 24
	descriptorPerPage = 2 // bits
)

// ErrNoKey says that a page of descriptors cannot be read without keys: MySQL encrypts all
// of them but page 0.
var ErrNoKey = errors.New("which pages are in use cannot be told without keys")

// PageReader reads a page of a tablespace. A page past the end of the files is zero.
type PageReader func(page []byte, no PageNo) error

// Usage is which pages of a tablespace are in use.
type Usage struct {
	space *Space
	read  PageReader
	limit PageNo // pages at and after this one never were
	page  []byte // the last descriptor page that was read
	at    PageNo // its number; PageNull: none
}

// NewUsage reads page 0 of a tablespace.
func NewUsage(s *Space, read PageReader) (*Usage, error) {
	u := &Usage{space: s, read: read, page: make([]byte, s.Physical), at: PageNull}
	if err := u.load(0); err != nil {
		return nil, err
	}
	u.limit = PageNo(min(binary.BigEndian.Uint32(u.page[OffsetFSPSize:]), binary.BigEndian.Uint32(u.page[OffsetFSPLimit:])))
	return u, nil
}

// load reads a descriptor page.
func (u *Usage) load(no PageNo) error {
	if u.at == no {
		return nil
	}
	u.at = PageNull
	if err := u.read(u.page, no); err != nil {
		return err
	}
	if _, err := u.space.Verify(u.page, no); err != nil {
		return err
	}
	if u.space.Sealed(u.page, no) {
		if u.space.Cipher == nil {
			return fmt.Errorf("%w: page %d of tablespace %d is encrypted", ErrNoKey, no, u.space.ID)
		}
		if err := u.space.Cipher.Decrypt(u.page, no); err != nil {
			return err
		}
	}
	// MySQL compresses all pages but page 0; MariaDB none that has descriptors.
	if u.space.Packed(u.page) {
		plain := make([]byte, len(u.page))
		if err := Unpack(plain, u.page); err != nil {
			return err
		}
		u.page = plain
	}
	u.at = no
	return nil
}

// InUse reports whether a page is in use: whether it must have been written.
func (u *Usage) InUse(no PageNo) (bool, error) {
	per := PageNo(u.space.Physical)
	if no >= u.limit {
		return false, nil
	}
	if no%per == 0 {
		return true, nil // it holds descriptors itself
	}
	if err := u.load(no - no%per); err != nil {
		return false, err
	}
	pages := u.space.ExtentPages()
	size := descriptorBitmap + (pages*descriptorPerPage+7)/8
	entry := u.page[descriptors+int(no%per)/pages*size:][:size]
	if binary.BigEndian.Uint32(entry[descriptorState:]) == 0 {
		return false, nil
	}
	bit := int(no%per) % pages * descriptorPerPage
	return entry[descriptorBitmap+bit/8]>>(bit%8)&1 == 0, nil
}

// Listed is the LSN of the page that said so when InUse was asked last; 0 for a page
// that holds descriptors itself.
func (u *Usage) Listed(no PageNo) LSN {
	if per := PageNo(u.space.Physical); no%per == 0 || u.at != no-no%per {
		return 0
	}
	return HeaderLSN(u.page)
}

// The inode of a segment, at an offset of a page: lists of its extents, and then
// single pages, as many as half an extent has (fsp0fsp.h, fseg_inode_t).
const (
	inodeMagic     = 60
	inodeFragments = 64
	segmentMagic   = 97937874
)

// doublewriteInode returns the page and the offset in it of the inode of the
// segment that owns the doublewrite area, as page TrxSysPage records it
// (TRX_SYS_DOUBLEWRITE_FSEG).
func doublewriteInode(trxSys []byte) (no PageNo, offset int) {
	at := trxSys[len(trxSys)-200:]
	return PageNo(binary.BigEndian.Uint32(at[4:])), int(binary.BigEndian.Uint16(at[8:]))
}

// NeverWritten returns the pages of the system tablespace that are in use and that no
// server ever writes: the single pages of the doublewrite area's segment, which the
// server took only to get at whole extents. MariaDB encrypts the page with the segment's
// inode: that takes s.Cipher.
func (s *Space) NeverWritten(read PageReader) ([]PageNo, error) {
	page := make([]byte, s.Physical)
	load := func(no PageNo) error {
		if err := read(page, no); err != nil {
			return err
		}
		_, err := s.Unseal(page, no)
		return err
	}
	if err := load(TrxSysPage); err != nil {
		return nil, err
	}
	no, offset := doublewriteInode(page)
	if no == 0 {
		return nil, nil
	}
	if err := load(no); err != nil {
		return nil, err
	}
	return s.fragments(page, offset)
}

// fragments returns the single pages of the segment whose inode is at an offset of a page.
func (s *Space) fragments(page []byte, offset int) ([]PageNo, error) {
	n := s.ExtentPages() / 2
	if offset < OffsetBody || offset+inodeFragments+4*n > len(page) || binary.BigEndian.Uint32(page[offset+inodeMagic:]) != segmentMagic {
		return nil, &PageError{PageID: PageID{s.ID, HeaderPageNo(page)}, What: fmt.Sprintf("has no segment's inode at %d", offset)}
	}
	var pages []PageNo
	for i := range n {
		if no := PageNo(binary.BigEndian.Uint32(page[offset+inodeFragments+4*i:])); no != PageNull {
			pages = append(pages, no)
		}
	}
	return pages, nil
}
