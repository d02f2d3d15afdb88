package tde

import (
	"sync"

	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/keyring"
)

// redoStream is the cipher of an encrypted redo log of MariaDB.
type redoStream struct {
	crypt mariadbredo.Crypt
	keys  *keyring.Keys

	mu     sync.Mutex
	newest *stream // of version crypt.KeyVersion
}

// MariaDBRedoKey is the key that an encrypted redo log of MariaDB begins with.
func MariaDBRedoKey(c mariadbredo.Crypt) keyring.MariaDBKey {
	return keyring.MariaDBKey{ID: c.KeyID, Version: c.KeyVersion}
}

// MariaDBRedoError is the error for a log that could not be decrypted.
func MariaDBRedoError(c mariadbredo.Crypt, stop mariadbredo.Stop) error {
	return &keyring.WrongKeyError{Name: MariaDBRedoKey(c).String(), What: stop.Error()}
}

// OpenMariaDBRedo returns what decrypts an encrypted redo log of MariaDB, or a
// *keyring.MissingKeyError.
func OpenMariaDBRedo(c mariadbredo.Crypt, keys *keyring.Keys) (mariadbredo.Cipher, error) {
	s, err := derive(keys, MariaDBRedoKey(c), c.Message)
	if err != nil {
		return nil, err
	}
	return &redoStream{crypt: c, keys: keys, newest: s}, nil
}

// of returns what encrypts with a version of the log's key.
func (r *redoStream) of(version uint32) (*stream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if version != r.crypt.KeyVersion {
		c := r.crypt
		c.KeyVersion = version
		s, err := derive(r.keys, MariaDBRedoKey(c), c.Message)
		if err != nil {
			return nil, err
		}
		r.crypt, r.newest = c, s
	}
	return r.newest, nil
}

// Decrypt implements mariadbredo.Cipher.
func (r *redoStream) Decrypt(b []byte, version uint32, iv [16]byte) error {
	s, err := r.of(version)
	if err == nil {
		s.decrypt(b, iv)
	}
	return err
}

// Encrypt implements mariadbredo.Cipher.
func (r *redoStream) Encrypt(b []byte, version uint32, iv [16]byte) error {
	s, err := r.of(version)
	if err == nil {
		s.encrypt(b, iv)
	}
	return err
}
