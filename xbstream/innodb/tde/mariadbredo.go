package tde

import (
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/keyring"
)

// redoStream is the cipher of an encrypted redo log of MariaDB.
type redoStream struct{ *stream }

// MariaDBRedoKey is the key that an encrypted redo log of MariaDB begins with.
func MariaDBRedoKey(c mariadbredo.Crypt) keyring.MariaDBKey {
	return keyring.MariaDBKey{ID: c.KeyID, Version: c.KeyVersion}
}

// OpenMariaDBRedo returns what decrypts an encrypted redo log of MariaDB, or a
// *keyring.MissingKeyError.
func OpenMariaDBRedo(c mariadbredo.Crypt, keys *keyring.Keys) (mariadbredo.Cipher, error) {
	s, err := derive(keys, MariaDBRedoKey(c), c.Message)
	if err != nil {
		return nil, err
	}
	return redoStream{s}, nil
}

// Decrypt implements mariadbredo.Cipher.
func (r redoStream) Decrypt(b []byte, iv [16]byte) { r.decrypt(b, iv) }
