package mariadbredo

import (
	"encoding/binary"
	"hash/crc32"

	"hb/xbstream/innodb"
)

// Crypt is what the header of an encrypted log has about its key: the key of the log is
// Message, encrypted with that key of the server. The zero value is of a log that is not
// encrypted.
//
// hb reads the form of 10.8 and later that has a tag of its own, which servers write since
// 10.11.15 and 11.8.4: the first byte and the length of each record are in clear, and all
// else in a mini-transaction is encrypted as one sequence of bytes, whose IV begins with 8
// bytes that stand after the sequence byte. The CRC covers the records as they are stored
// and those 8 bytes. (log0crypt.cc, mtr0mtr.cc.)
type Crypt struct {
	KeyID, KeyVersion uint32
	Message           [16]byte
	Nonce             [4]byte // of the log's earlier forms
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

// A Cipher decrypts the bytes of a mini-transaction in place. Package tde makes it.
type Cipher interface {
	Decrypt(b []byte, iv [16]byte)
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
func (c *Cutter) records(mtr []byte, n int) []byte {
	if !c.geo.Crypt.Encrypted() {
		return mtr[:n:n]
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
	c.geo.Cipher.Decrypt(c.hidden, iv)
	hidden := c.hidden
	for at := 0; at < n; {
		frame, size := framing(mtr[at:])
		hidden = hidden[copy(c.plain[at+frame:at+size], hidden):]
		at += size
	}
	return c.plain[:n:n]
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
