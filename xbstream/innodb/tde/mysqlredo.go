package tde

import (
	"crypto/rand"
	"encoding/binary"

	"hb/xbstream/innodb/redolog"
)

// redoEncrypted marks an encrypted block, in its number of used bytes.
const redoEncrypted = 1 << 15

// RedoBlocks encrypts and decrypts blocks of MySQL's redo log (8.0 and later): all after
// the header. The checksum is that of the plain block, and is encrypted with it
// (log_files_write_buffer in log0write.cc and Encryption::encrypt_log in os0enc.cc of
// MySQL 9.7.2). Several goroutines may use one.
type RedoBlocks struct{ c *mysqlCipher }

// NewRedoBlocks returns the cipher of a key.
func NewRedoBlocks(k MySQLKey) *RedoBlocks { return &RedoBlocks{newMySQLCipher(k)} }

// Open decrypts an encrypted block in place.
func (r *RedoBlocks) Open(block []byte) {
	r.c.open(block[redolog.BlockHeader:redolog.BlockSize])
	used := binary.BigEndian.Uint16(block[4:])
	binary.BigEndian.PutUint16(block[4:], used&^redoEncrypted)
}

// Seal encrypts a block in place.
func (r *RedoBlocks) Seal(block []byte) {
	r.c.seal(block[redolog.BlockHeader:redolog.BlockSize])
	used := binary.BigEndian.Uint16(block[4:])
	binary.BigEndian.PutUint16(block[4:], used|redoEncrypted)
}

// NewMySQLKey returns a random key.
func NewMySQLKey() MySQLKey {
	var k MySQLKey
	rand.Read(k.Key[:]) // never fails
	rand.Read(k.IV[:])
	return k
}
