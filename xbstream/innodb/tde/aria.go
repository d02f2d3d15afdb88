package tde

import "hb/xbstream/keyring"

// ariaKey is the key of MariaDB that Aria's tables are encrypted with; only temporary ones
// may have another. (get_encryption_key_id in ma_crypt.c of 10.11.18.)
const ariaKey = 1

// Aria decrypts the blocks of an encrypted Aria table. One goroutine at a time may use it.
type Aria struct {
	message [16]byte
	keys    *keyring.Keys
	version uint32 // of stream
	stream  *stream
}

// OpenAria returns what decrypts an Aria table whose key is made of message.
func OpenAria(message [16]byte, keys *keyring.Keys) *Aria {
	return &Aria{message: message, keys: keys}
}

// Decrypt decrypts b in place. The error is a *keyring.MissingKeyError, or that of a
// program that prints keys.
func (a *Aria) Decrypt(b []byte, version uint32, iv [16]byte) error {
	if a.stream == nil || a.version != version {
		s, err := derive(a.keys, keyring.MariaDBKey{ID: ariaKey, Version: version}, a.message)
		if err != nil {
			return err
		}
		a.version, a.stream = version, s
	}
	a.stream.decrypt(b, iv)
	return nil
}
