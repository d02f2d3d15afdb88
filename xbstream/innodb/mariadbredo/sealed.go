package mariadbredo

import (
	"encoding/binary"
	"hash/crc32"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/redolog"
)

// Crypt is what an encrypted log has about its key: the key of the log is Message, encrypted
// with that key of the server. The zero value is of a log that is not encrypted.
//
// In the 10.5 format the checkpoint blocks have it, and each block has the version of its key.
// (log0crypt.cc of 10.5.23.) Of the 10.8+ format hb reads the form that has a tag of its own, which servers write since
// 10.11.15 and 11.8.4: the first byte and the length of each record are in clear, and all
// else in a mini-transaction is encrypted as one sequence of bytes, whose IV begins with 8
// bytes that stand after the sequence byte. The CRC covers the records as they are stored
// and those 8 bytes. (log0crypt.cc, mtr0mtr.cc.)
type Crypt struct {
	KeyID, KeyVersion uint32
	Message           [16]byte
	Nonce             [4]byte // of the 10.5 format
}

// Encrypted reports whether the log is.
func (c *Crypt) Encrypted() bool { return c.KeyID != 0 }

// offCrypt is where the header has it.
const offCrypt = 48

// tagSealed108 is the first word of a log in that form.
const tagSealed108 = 0xF09F979D

func parseCrypt(block []byte) Crypt {
	return Crypt{
		KeyID: binary.BigEndian.Uint32(block[offCrypt:]), KeyVersion: binary.BigEndian.Uint32(block[offCrypt+4:]),
		Message: [16]byte(block[offCrypt+8:]), Nonce: [4]byte(block[offCrypt+24:]),
	}
}

func (c *Crypt) put(block []byte) {
	binary.BigEndian.PutUint32(block, tagSealed108)
	binary.BigEndian.PutUint32(block[offCrypt:], c.KeyID)
	binary.BigEndian.PutUint32(block[offCrypt+4:], c.KeyVersion)
	copy(block[offCrypt+8:], c.Message[:])
	copy(block[offCrypt+24:], c.Nonce[:])
}

// keyOfLog is the number of the key that servers encrypt the log with; in the 10.5 format
// nothing names it.
const keyOfLog = 1

// offCrypt105 is where a checkpoint block of the 10.5 format has the version of the key; after
// it come the nonce and the message.
const offCrypt105 = 32

func parseCrypt105(block []byte) Crypt {
	return Crypt{
		KeyID: keyOfLog, KeyVersion: binary.BigEndian.Uint32(block[offCrypt105:]),
		Nonce: [4]byte(block[offCrypt105+4:]), Message: [16]byte(block[offCrypt105+8:]),
	}
}

func (c *Crypt) put105(block []byte) {
	binary.BigEndian.PutUint32(block[offCrypt105:], c.KeyVersion)
	copy(block[offCrypt105+4:], c.Nonce[:])
	copy(block[offCrypt105+8:], c.Message[:])
}

// A Cipher encrypts and decrypts bytes of the log in place, with a version of its key. Package
// tde makes it.
type Cipher interface {
	Decrypt(b []byte, version uint32, iv [16]byte) error
	Encrypt(b []byte, version uint32, iv [16]byte) error
}

// offKeyVersion is where a block of an encrypted log in the 10.5 format has the version of its
// key, and where what is encrypted ends.
const offKeyVersion = blockEnd - 4

// blockEnd is where the payload of a full block ends.
func (g Geometry) blockEnd() int {
	if g.Crypt.Encrypted() {
		return offKeyVersion
	}
	return blockEnd
}

// blockIV is the IV of the block at an LSN.
func (g Geometry) blockIV(at innodb.LSN) (iv [16]byte) {
	binary.BigEndian.PutUint32(iv[0:], redolog.BlockNumber(at))
	copy(iv[4:], g.Crypt.Nonce[:])
	binary.BigEndian.PutUint64(iv[8:], uint64(at))
	return iv
}

// open decrypts the block at an LSN, which has a right CRC, in place. Whatever it decrypts to is
// only a block if the key is right.
func (g Geometry) open(b []byte, at innodb.LSN) Stop {
	if !g.Crypt.Encrypted() {
		return Stop{}
	}
	if g.Cipher == nil || g.Cipher.Decrypt(b[4:offKeyVersion], binary.BigEndian.Uint32(b[offKeyVersion:]), g.blockIV(at)) != nil {
		return Stop{Cause: StopSealed, LSN: at}
	}
	if used := binary.BigEndian.Uint16(b[4:]); used < blockHeader || used >= offKeyVersion && used != blockSize {
		return Stop{Cause: StopKey, LSN: at}
	}
	return Stop{}
}

// seal is the reverse of open, with the version of the key that the block names.
func (g Geometry) seal(b []byte, at innodb.LSN) error {
	if !g.Crypt.Encrypted() {
		return nil
	}
	if g.Cipher == nil {
		return Stop{Cause: StopSealed, LSN: at}
	}
	return g.Cipher.Encrypt(b[4:offKeyVersion], binary.BigEndian.Uint32(b[offKeyVersion:]), g.blockIV(at))
}

// nonceSize is how many bytes of its IV a mini-transaction has after its sequence byte.
const nonceSize = 8

// Tail is how many bytes there are of a mini-transaction after its records: the first of
// them is the sequence byte. Of the 10.8+ format.
func (g Geometry) Tail() int {
	if g.Crypt.Encrypted() {
		return mtrTail + nonceSize
	}
	return mtrTail
}

// sum is the CRC of a mini-transaction of n bytes of records, as stored.
func (g Geometry) sum(mtr []byte, n int) uint32 {
	sum := innodb.CRC32C(mtr[:n])
	if g.Crypt.Encrypted() {
		sum = crc32.Update(sum, castagnoli, mtr[n+1:][:nonceSize])
	}
	return sum
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// records returns the n bytes of records of a mini-transaction, in clear. They are valid
// until the next call.
func (c *Cutter) records(mtr []byte, n int) ([]byte, error) {
	if !c.geo.Crypt.Encrypted() {
		return mtr[:n:n], nil
	}
	c.plain = append(c.plain[:0], mtr[:n]...)
	var iv [16]byte
	copy(iv[:], mtr[n+1:][:nonceSize])
	c.hidden = c.hidden[:0]
	for at := 0; at < n; {
		frame, size := framing(mtr[at:])
		if at == 0 {
			copy(iv[nonceSize:], mtr[:frame])
		}
		c.hidden = append(c.hidden, mtr[at+frame:][:size-frame]...)
		at += size
	}
	if err := c.geo.Cipher.Decrypt(c.hidden, c.geo.Crypt.KeyVersion, iv); err != nil {
		return nil, err
	}
	hidden := c.hidden
	for at := 0; at < n; {
		frame, size := framing(mtr[at:])
		hidden = hidden[copy(c.plain[at+frame:at+size], hidden):]
		at += size
	}
	return c.plain[:n:n], nil
}

// framing returns how many bytes of a record, which scan has accepted, are its first byte and
// its length, and how many it has with them.
func framing(b []byte) (frame, size int) {
	if n := int(b[0] & 15); n != 0 {
		return 1, 1 + n
	}
	n, length, _ := longLength(b[1:])
	return 1 + length, 1 + n
}
