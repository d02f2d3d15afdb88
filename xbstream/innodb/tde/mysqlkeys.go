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

// openMySQL returns the cipher of a tablespace of MySQL that is marked as encrypted.
func openMySQL(space *innodb.Space, keys *keyring.Keys) (innodb.Cipher, error) {
	info, err := ParseMySQLInfo(space.MySQLInfo[:])
	if errors.Is(err, ErrNoInfo) {
		return NewMySQLSpace(space, nil), nil // the server has just made the file, and the redo log has the information
	}
	if err != nil {
		return nil, err
	}
	key, err := info.Unlock(keys)
	if err != nil {
		return nil, err
	}
	return NewMySQLSpace(space, &key), nil
}

// Rewrap returns the information with the key of the tablespace encrypted by another master
// key. The error is that of Unlock, of either.
func (i MySQLInfo) Rewrap(keys *keyring.Keys, master string) (MySQLInfo, error) {
	key, err := i.Unlock(keys)
	if err != nil {
		return MySQLInfo{}, err
	}
	uuid, number, err := ParseMasterName(master)
	if err != nil {
		return MySQLInfo{}, err
	}
	secret, err := keys.Master(master)
	if err != nil {
		return MySQLInfo{}, err
	}
	return key.Seal(secret, uuid, number)
}

// Forms returns what the information is by each of the master keys that there are, in the forms
// of 5.7.12 and of 8.0.5 and later. The error is that of Unlock.
func (i MySQLInfo) Forms(keys *keyring.Keys) (forms [][]byte, err error) {
	key, err := i.Unlock(keys)
	if err != nil {
		return nil, err
	}
	for _, name := range keys.Masters() {
		uuid, number, err := ParseMasterName(name)
		if err != nil {
			continue // of 5.7.11
		}
		secret, err := keys.Master(name)
		if err != nil {
			return nil, err
		}
		sealed, err := key.Seal(secret, uuid, number)
		if err != nil {
			return nil, err
		}
		form := sealed.Marshal()
		old := append([]byte("lCB"), form[3:]...)
		forms = append(forms, form, old)
	}
	return forms, nil
}
