package tde

import (
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
)

// Open returns the cipher of a tablespace that may have encrypted pages, by its page 0,
// which is whole; nil for any other. MariaDB's needs no key yet: which version of it a page
// needs is in the page, and the cipher returns a *keyring.MissingKeyError.
func Open(space *innodb.Space, page0 []byte, keys *keyring.Keys) (innodb.Cipher, error) {
	switch {
	case space.Encryption.MayEncrypt():
		return openMariaDB(space, keys)
	case space.MySQLEncrypted():
		return OpenMySQLSpace(space, page0, keys)
	}
	return nil, nil
}
