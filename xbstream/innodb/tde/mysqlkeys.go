package tde

import (
	"errors"

	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
)

// Unlock opens the encryption information with the keys that hb was given. The error is a
// *keyring.MissingKeyError or a *keyring.WrongKeyError, which names the master key.
func (i MySQLInfo) Unlock(keys *keyring.Keys) (MySQLKey, error) {
	var master []byte
	if i.Number != 0 {
		key, err := keys.Master(i.Master())
		if err != nil {
			return MySQLKey{}, err
		}
		master = key
	}
	k, err := i.Open(master)
	if errors.Is(err, ErrWrongMaster) {
		err = &keyring.WrongKeyError{Name: "the master key " + i.Master(), What: "it does not decrypt the encryption information of a tablespace or of the redo log; or that is damaged"}
	}
	return k, err
}

// OpenMySQLSpace returns the cipher of a tablespace of MySQL, by its page 0; nil if that
// has no encryption information: then no page is encrypted.
func OpenMySQLSpace(space *innodb.Space, page0 []byte, keys *keyring.Keys) (innodb.Cipher, error) {
	info, err := PageInfo(space, page0)
	if errors.Is(err, ErrNoInfo) && !space.MySQLEncrypted() {
		return nil, nil
	}
	if errors.Is(err, ErrNoInfo) {
		return NewMySQLSpace(space), nil // the server has made the file, and the redo log has the information
	}
	if err != nil {
		return nil, err
	}
	key, err := info.Unlock(keys)
	if err != nil {
		return nil, err
	}
	return NewMySQLSpace(space, key), nil
}
