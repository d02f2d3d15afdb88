// Package cbc decrypts AES in CBC mode. Every block of it can be decrypted by itself, but
// crypto/cipher takes one after the other, at a tenth of what a processor can do that
// works on several at a time: to verify the pages of an encrypted tablespace, that is most
// of the work.
//
// Encryption cannot be had faster: each block needs the one before.
package cbc

import (
	"crypto/aes"
	"crypto/cipher"
)

// Decrypter decrypts with one key. Its methods may be called from several goroutines.
type Decrypter struct {
	block    cipher.Block
	schedule schedule
}

// New returns a Decrypter for an AES key of 16, 24 or 32 bytes, or an aes.KeySizeError.
func New(key []byte) (*Decrypter, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &Decrypter{block, newSchedule(key)}, nil
}

// Decrypt decrypts data in place. Its length must be a multiple of aes.BlockSize.
func (d *Decrypter) Decrypt(data []byte, iv [aes.BlockSize]byte) {
	if len(data)%aes.BlockSize != 0 {
		panic("cbc: internal error: the data are not whole blocks")
	}
	if len(data) > 0 && !d.schedule.decrypt(data, &iv) {
		cipher.NewCBCDecrypter(d.block, iv[:]).CryptBlocks(data, data)
	}
}
