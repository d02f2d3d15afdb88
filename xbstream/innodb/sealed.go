package innodb

import (
	"encoding/binary"
	"errors"
	"fmt"

	"hb/xbstream/keyring"
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

// Modes of a table, as it was made (fil0crypt.h, fil_encryption_t). Of modeOff no page is
// encrypted. In any other tablespace with encryption data some may be, whatever Scheme
// says: page 0 has that only after the server has encrypted, or decrypted, all others.
const (
	modeOn  = 1
	modeOff = 2
)

// MayEncrypt reports whether pages may be encrypted, by MariaDB's data on page 0.
// (fil_space_crypt_t::is_encrypted in fil0crypt.h of 10.11.)
func (e *Encryption) MayEncrypt() bool { return e.Present && e.Mode != modeOff }

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
		end := s.StoredSize(page) - 4
		binary.BigEndian.PutUint32(page[end:], CRC32C(page[:end]))
		return
	}
	binary.BigEndian.PutUint32(page[offsetSealedSum:], s.sealedSum(page))
}

// Unseal verifies a page as Verify does, and decrypts it in place if it is encrypted,
// for which Space.Cipher is needed. It may be compressed then.
func (s *Space) Unseal(page []byte, no PageNo) (Checksum, error) {
	if s.Sealed(page, no) && len(page) == s.Physical && s.Cipher == nil {
		return ChecksumUnset, &InternalError{fmt.Sprintf("there is no cipher for page %d of tablespace %d", no, s.ID)}
	}
	return s.verify(page, no, s.identifyDecrypted)
}

// identifySealed is identify for an encrypted page.
func (s *Space) identifySealed(page []byte, no PageNo) (Checksum, error) {
	if s.Cipher == nil {
		return s.identifyStored(page)
	}
	buf := plainPages.Get().(*[MaxPageSize]byte)
	defer plainPages.Put(buf)
	plain := buf[:len(page)]
	copy(plain, page)
	return s.identifyDecrypted(plain, no)
}

// identifyStored looks at the checksum of what is stored, which MariaDB's encrypted pages
// have. MySQL's have only that of the plain page.
func (s *Space) identifyStored(page []byte) (Checksum, error) {
	switch {
	case s.MySQLEncrypted():
		return ChecksumSealed, nil
	case s.FullCRC32:
		return s.identify(page)
	case binary.BigEndian.Uint32(page[offsetSealedSum:]) != s.sealedSum(page):
		return ChecksumUnset, fmt.Errorf("wrong checksum of the encrypted page (stored %#08x)", binary.BigEndian.Uint32(page[offsetSealedSum:]))
	}
	return ChecksumCRC32, nil
}

// identifyDecrypted decrypts the page in place and identifies the result.
func (s *Space) identifyDecrypted(page []byte, no PageNo) (Checksum, error) {
	version := s.KeyVersion(page, no)
	sum, err := s.identifyStored(page)
	if err == nil {
		err = s.Cipher.Decrypt(page, no)
	}
	switch {
	case err != nil:
		return ChecksumUnset, err
	case !s.FullCRC32:
		sum, err = s.identify(page)
	case s.Compressed(page):
		err = s.checkUnpacked(page)
	}
	if err != nil && version != 0 {
		// What is stored is as the server wrote it.
		err = &keyring.WrongKeyError{Name: keyring.MariaDBKey{ID: s.Encryption.KeyID, Version: version}.String(),
			What: fmt.Sprintf("what page %d of tablespace %d decrypts to has a wrong checksum", no, s.ID)}
	}
	return sum, err
}

// checkUnpacked makes sure that a page of a full_crc32 tablespace can be unpacked. No
// checksum covers the plain page there.
func (s *Space) checkUnpacked(page []byte) error {
	buf := plainPages.Get().(*[MaxPageSize]byte)
	defer plainPages.Put(buf)
	whole := buf[:len(page)]
	if err := s.Decompress(whole, page); err != nil {
		return err
	}
	if HeaderSpace(whole) != s.ID {
		return errors.New("it is of another tablespace")
	}
	return nil
}

// Seals reports whether a page of the tablespace that is written now is to be encrypted. A
// server decides by its setting innodb_encrypt_tables, byDefault, where the table has no setting
// of its own; then hb encrypts also where page 0 says that all others are encrypted. Where page
// 0 says that none is any more, a page that hb encrypted would need a key that nobody may have.
func (s *Space) Seals(byDefault bool) bool {
	e := &s.Encryption
	switch {
	case s.MySQLEncrypted():
		return true
	case !e.MayEncrypt():
		return false
	}
	return e.Mode == modeOn || e.Scheme != 0 || byDefault
}
