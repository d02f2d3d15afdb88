package tde

import (
	"errors"
	"fmt"

	"hb/xbstream/innodb"
)

// mysqlSpace is the innodb.Cipher of a tablespace of MySQL.
type mysqlSpace struct {
	physical int          // bytes of a stored page
	key      *mysqlCipher // nil: page 0 does not have it yet
	seals    bool         // pages are written encrypted
}

// NewMySQLSpace returns the cipher of a tablespace; key is nil if page 0 does not have it yet.
// Pages are encrypted if the tablespace is flagged as encrypted.
func NewMySQLSpace(space *innodb.Space, key *MySQLKey) innodb.Cipher {
	s := &mysqlSpace{physical: space.Physical, seals: space.MySQLEncrypted()}
	if key != nil {
		s.key = newMySQLCipher(*key)
	}
	return s
}

// errNoKey says that a page is encrypted and the tablespace has no key.
var errNoKey = errors.New("it is encrypted, and its tablespace has no key")

func (s *mysqlSpace) Decrypt(page []byte, _ innodb.PageNo) error {
	if s.key == nil {
		return errNoKey
	}
	return s.key.decrypt(page)
}

// Encrypt leaves alone page 0, pages that are zero, and those of a tablespace that is
// not encrypted any more (os_file_encrypt_page, fil_io_set_encryption of MySQL 9.7.2).
func (s *mysqlSpace) Encrypt(page []byte, no innodb.PageNo) error {
	if !s.seals || no == 0 || innodb.AllZero(page) {
		return nil
	}
	if s.key == nil {
		return errNoKey
	}
	if len(page) != s.physical {
		return fmt.Errorf("a page of %d bytes", len(page))
	}
	s.key.encrypt(page)
	return nil
}

// SameKey reports whether two ciphers of a tablespace of MySQL encrypt with the same key,
// whatever master key that is kept under. A nil cipher has no key.
func SameKey(a, b innodb.Cipher) bool {
	x, ok := a.(*mysqlSpace)
	y, also := b.(*mysqlSpace)
	return ok && also && x.key != nil && y.key != nil && x.key.same(y.key)
}

// HasKey reports whether a cipher of a tablespace of MySQL has a key: page 0 of a new file
// has none until the server writes it again.
func HasKey(c innodb.Cipher) bool {
	s, ok := c.(*mysqlSpace)
	return ok && s.key != nil
}
