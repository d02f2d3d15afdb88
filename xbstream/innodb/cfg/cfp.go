package cfg

import (
	"crypto/aes"
	"crypto/rand"
	"encoding/binary"

	"hb/xbstream/innodb/tde"
)

// KeyFile returns the .cfp file of an encrypted tablespace of MySQL: with it, and without the
// keys of its server, another server imports the tablespace. Whoever has both can read it.
//
//	4  32   32  transfer key, at random   32  key of the tablespace   32  its IV
//
// The last two are encrypted with the transfer key, by AES-256-ECB.
// (row_quiesce_write_transfer_key in row0quiesce.cc of MySQL 9.7.2)
func KeyFile(k tde.MySQLKey) ([]byte, error) {
	var transfer [32]byte
	if _, err := rand.Read(transfer[:]); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(transfer[:])
	if err != nil {
		return nil, err
	}
	out := binary.BigEndian.AppendUint32(nil, uint32(len(transfer)))
	out = append(out, transfer[:]...)
	for _, secret := range [][]byte{k.Key[:], k.IV[:]} {
		for ; len(secret) > 0; secret = secret[aes.BlockSize:] {
			var sealed [aes.BlockSize]byte
			block.Encrypt(sealed[:], secret)
			out = append(out, sealed[:]...)
		}
	}
	return out, nil
}
