package innodb

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Cipher encrypts and decrypts the pages of one tablespace in place. Several
// goroutines may call its methods at a time. Package tde makes them from keys.
type Cipher interface {
	// Decrypt makes of a stored page, for which Space.Sealed holds, the page that the
	// server had before it encrypted it, perhaps still compressed. Its checksum fields
	// are those of that page; in full_crc32 tablespaces they mean nothing until
	// Space.Stamp. The error names a missing key, or says that the key is wrong as far
	// as that shows; the checksum of the result shows the rest.
	Decrypt(page []byte, no PageNo) error
	// Encrypt makes of a plain page, which is not compressed and has its LSN and its
	// checksum, the page that is stored. It leaves alone the pages that servers do not
	// encrypt.
	Encrypt(page []byte, no PageNo) error
}

// MySQL's types of encrypted pages (fil0types.h).
const (
	TypeEncrypted       PageType = 15
	TypePackedEncrypted PageType = 16 // compressed, then encrypted
	TypeRTreeEncrypted  PageType = 17
)

// MayEncrypt reports whether pages may be encrypted, by MariaDB's data on page 0.
func (e *Encryption) MayEncrypt() bool { return e.Scheme != 0 }

// Sealed reports whether page no is stored encrypted. Encrypted tablespaces have plain
// pages too: page 0, and others while the server converts them.
func (s *Space) Sealed(page []byte, no PageNo) bool {
	if s.MySQLEncrypted() {
		t := HeaderType(page)
		return no != 0 && t >= TypeEncrypted && t <= TypeRTreeEncrypted
	}
	return s.Encryption.MayEncrypt() && s.KeyVersion(page, no) != 0
}

// KeyVersion returns the version of the key that a page of MariaDB is encrypted with, 0
// for a plain one. The server looks for it only where page 0 has encryption data.
// (buf_page_decrypt_after_read in buf0buf.cc.)
func (s *Space) KeyVersion(page []byte, no PageNo) uint32 {
	switch {
	case no == 0 || !s.Encryption.Present:
		return 0
	case s.FullCRC32:
		return binary.BigEndian.Uint32(page)
	}
	return binary.BigEndian.Uint32(page[OffsetFlushLSN:])
}

// offsetSealedSum is where an encrypted page of MariaDB outside of full_crc32
// tablespaces has the checksum of its encrypted form.
const offsetSealedSum = OffsetFlushLSN + 4

// sealedSum computes that checksum: CRC-32C, as if the page were a plain one.
func (s *Space) sealedSum(page []byte) uint32 {
	if s.Zip() {
		return crc32Zip(page)
	}
	return crc32Plain(page)
}

// StampSealed computes and stores the checksum of an encrypted page of MariaDB.
func (s *Space) StampSealed(page []byte) {
	if s.FullCRC32 {
		end := s.storedSize(page) - 4
		binary.BigEndian.PutUint32(page[end:], CRC32C(page[:end]))
		return
	}
	binary.BigEndian.PutUint32(page[offsetSealedSum:], s.sealedSum(page))
}

// identifySealed is identify for an encrypted page. MariaDB's have a checksum of what
// is stored; of MySQL's the only one is that of the plain page.
func (s *Space) identifySealed(page []byte, no PageNo) (Checksum, error) {
	sum := ChecksumSealed
	switch {
	case s.MySQLEncrypted():
	case s.FullCRC32:
		var err error
		if sum, err = s.identify(page); err != nil {
			return sum, err
		}
	case binary.BigEndian.Uint32(page[offsetSealedSum:]) != s.sealedSum(page):
		return ChecksumUnset, fmt.Errorf("wrong checksum of the encrypted page (stored %#08x)", binary.BigEndian.Uint32(page[offsetSealedSum:]))
	default:
		sum = ChecksumCRC32
	}
	if s.Cipher == nil {
		return sum, nil
	}
	buf := plainPages.Get().(*[MaxPageSize]byte)
	defer plainPages.Put(buf)
	plain := buf[:len(page)]
	copy(plain, page)
	if err := s.Cipher.Decrypt(plain, no); err != nil {
		return ChecksumUnset, err
	}
	if !s.FullCRC32 {
		return s.identify(plain)
	}
	if !s.Compressed(plain) {
		return sum, nil // the Cipher has compared what there is
	}
	whole := plainPages.Get().(*[MaxPageSize]byte)
	defer plainPages.Put(whole)
	if err := s.Decompress(whole[:len(page)], plain); err != nil {
		return ChecksumUnset, fmt.Errorf("after it was decrypted: %w", err)
	}
	if HeaderSpace(whole[:]) != s.ID {
		return ChecksumUnset, errors.New("its decrypted content is of another tablespace")
	}
	return sum, nil
}
