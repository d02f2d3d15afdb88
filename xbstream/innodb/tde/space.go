package tde

import (
	"errors"
	"fmt"

	"hb/xbstream/innodb"
)

// mysqlSpace is the innodb.Cipher of a tablespace of MySQL.
type mysqlSpace struct {
	space innodb.Space
	keys  []*mysqlCipher // the newest last
	seals bool           // pages are written encrypted
}

// NewMySQLSpace returns the cipher of a tablespace, with its keys, the newest last: a
// copy that was made while the server decrypted and encrypted a tablespace again has
// pages of several. Pages are encrypted with the newest key if the tablespace is
// flagged as encrypted.
func NewMySQLSpace(space *innodb.Space, keys ...MySQLKey) innodb.Cipher {
	s := &mysqlSpace{space: *space, seals: space.MySQLEncrypted()}
	s.space.Cipher = nil
	for _, k := range keys {
		s.keys = append(s.keys, newMySQLCipher(k))
	}
	return s
}

// errNoKey says that a page is encrypted and the tablespace has no key.
var errNoKey = errors.New("it is encrypted, and its tablespace has no key")

// Decrypt tries the keys. The checksum tells which one is right.
func (s *mysqlSpace) Decrypt(page []byte, no innodb.PageNo) error {
	if len(s.keys) == 0 {
		return errNoKey
	}
	for i := len(s.keys) - 1; i > 0; i-- {
		var plain [innodb.MaxPageSize]byte
		p := plain[:copy(plain[:], page)]
		if err := s.keys[i].decrypt(p); err != nil {
			return err
		}
		if _, err := s.space.Verify(p, no); err == nil {
			copy(page, p)
			return nil
		}
	}
	return s.keys[0].decrypt(page)
}

// Encrypt leaves alone page 0, pages that are zero, and those of a tablespace that is
// not encrypted any more (os_file_encrypt_page, fil_io_set_encryption of MySQL 9.7.2).
func (s *mysqlSpace) Encrypt(page []byte, no innodb.PageNo) error {
	if !s.seals || no == 0 || innodb.AllZero(page) {
		return nil
	}
	if len(s.keys) == 0 {
		return errNoKey
	}
	if len(page) != s.space.Physical {
		return fmt.Errorf("a page of %d bytes", len(page))
	}
	s.keys[len(s.keys)-1].encrypt(page)
	return nil
}

// SameKey reports whether two ciphers of a tablespace of MySQL encrypt with the same key,
// whatever master key that is kept under. A nil cipher has no key.
func SameKey(a, b innodb.Cipher) bool {
	x, ok := a.(*mysqlSpace)
	y, also := b.(*mysqlSpace)
	if !ok || !also || len(x.keys) == 0 || len(y.keys) == 0 {
		return false
	}
	return x.keys[len(x.keys)-1].same(y.keys[len(y.keys)-1])
}

// HasKey reports whether a cipher of a tablespace of MySQL has a key: page 0 of a new file
// has none until the server writes it again.
func HasKey(c innodb.Cipher) bool {
	s, ok := c.(*mysqlSpace)
	return ok && len(s.keys) > 0
}
