// Package tde encrypts and decrypts what servers encrypt at rest: the pages of
// tablespaces, the redo log and binary logs. It gets keys, and never looks for them: see
// package keyring.
package tde

import (
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
)

// Open returns the cipher of a tablespace that may have encrypted pages, by its page 0,
// which is whole; nil for any other. MariaDB's needs no key yet: which version of it a page
// needs is in the page, and the cipher returns a *keyring.MissingKeyError. MySQL's is in
// page 0: the error for its master key is a *keyring.MissingKeyError or a
// *keyring.WrongKeyError.
func Open(space *innodb.Space, page0 []byte, keys *keyring.Keys) (innodb.Cipher, error) {
	switch {
	case space.Encryption.MayEncrypt():
		return openMariaDB(space, keys)
	case space.MySQLEncrypted():
		return openMySQL(space, keys)
	}
	return nil, nil
}

// OpenToVerify is Open for a tablespace whose pages cannot be verified without keys, which
// is MySQL's; nil for any other: the checksums of MariaDB's cover what is stored. It is nil
// also if page 0 has no key yet, which is then in the redo log.
func OpenToVerify(space *innodb.Space, page0 []byte, keys *keyring.Keys) (innodb.Cipher, error) {
	if !space.MySQLEncrypted() || space.MySQLInfo == [innodb.MySQLInfoSize]byte{} {
		return nil, nil
	}
	return Open(space, page0, keys)
}
