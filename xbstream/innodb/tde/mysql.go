package tde

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde/cbc"
)

// offsetPlainType is where an encrypted page keeps the type that it had
// (FIL_PAGE_ORIGINAL_TYPE_V1 in fil0types.h). Pages of R-trees have other data there:
// their type when encrypted tells it.
const offsetPlainType = innodb.OffsetFlushLSN + 2

// seal encrypts data in place: AES-256-CBC of all whole blocks, and then, if less than a
// block is left over, of the last two blocks' length up to the end once more, with
// the same IV (Encryption::encrypt_low in os0enc.cc of MySQL 9.7.2).
func (c *mysqlCipher) seal(data []byte) {
	main := data[:len(data)/aes.BlockSize*aes.BlockSize]
	cipher.NewCBCEncrypter(c.block, c.iv[:]).CryptBlocks(main, main)
	if len(main) < len(data) {
		last := data[len(data)-2*aes.BlockSize:]
		cipher.NewCBCEncrypter(c.block, c.iv[:]).CryptBlocks(last, last)
	}
}

// open undoes seal. data is at least two blocks.
func (c *mysqlCipher) open(data []byte) {
	main := data[:len(data)/aes.BlockSize*aes.BlockSize]
	if len(main) < len(data) {
		last := data[len(data)-2*aes.BlockSize:]
		c.decrypter.Decrypt(last, c.iv)
	}
	c.decrypter.Decrypt(main, c.iv)
}

// mysqlCipher is a MySQLKey that is ready for use.
type mysqlCipher struct {
	block     cipher.Block
	decrypter *cbc.Decrypter
	iv        [aes.BlockSize]byte
}

func newMySQLCipher(k MySQLKey) *mysqlCipher {
	block, err := aes.NewCipher(k.Key[:])
	decrypter, derr := cbc.New(k.Key[:])
	if err != nil || derr != nil {
		panic("tde: internal error: a key of 32 bytes is refused") // it has one of AES's sizes
	}
	return &mysqlCipher{block, decrypter, [aes.BlockSize]byte(k.IV[:])}
}

// same compares what they make of a block.
func (c *mysqlCipher) same(o *mysqlCipher) bool {
	var x, y [aes.BlockSize]byte
	c.block.Encrypt(x[:], c.iv[:])
	o.block.Encrypt(y[:], c.iv[:])
	return c.iv == o.iv && x == y
}

// masterCipher is AES-256 with a master key.
func masterCipher(master []byte) (cipher.Block, error) {
	if len(master) != 32 {
		return nil, fmt.Errorf("%w: it has %d bytes, not 32", ErrWrongMaster, len(master))
	}
	return aes.NewCipher(master)
}

// minPacked is the least length of the encrypted part of a compressed page, header
// included: two blocks of AES after the header (Encryption::encrypt).
const minPacked = innodb.OffsetBody + 2*aes.BlockSize

// sealedPart returns what is encrypted of a stored page.
func sealedPart(page []byte) ([]byte, error) {
	if innodb.HeaderType(page) != innodb.TypePackedEncrypted {
		return page[innodb.OffsetBody:], nil
	}
	n := innodb.OffsetBody + int(binary.BigEndian.Uint16(page[offsetPackedSize:]))
	n = max(n, minPacked)
	if n > len(page) {
		return nil, fmt.Errorf("its compressed length is %d bytes", n)
	}
	return page[innodb.OffsetBody:n], nil
}

// offsetPackedSize is where a compressed page has the length of its data
// (FIL_PAGE_COMPRESS_SIZE_V1).
const offsetPackedSize = innodb.OffsetFlushLSN + 6

// decrypt makes of an encrypted page the one that it was.
func (c *mysqlCipher) decrypt(page []byte) error {
	was := innodb.PageType(binary.BigEndian.Uint16(page[offsetPlainType:]))
	switch innodb.HeaderType(page) {
	case innodb.TypeEncrypted:
	case innodb.TypePackedEncrypted:
		was = innodb.TypePacked
	case innodb.TypeRTreeEncrypted:
		was = innodb.TypeRTree
	default:
		return fmt.Errorf("it is of type %d, which is not that of an encrypted page", innodb.HeaderType(page))
	}
	part, err := sealedPart(page)
	if err != nil {
		return err
	}
	c.open(part)
	if innodb.HeaderType(page) == innodb.TypeEncrypted {
		binary.BigEndian.PutUint16(page[offsetPlainType:], 0)
	}
	binary.BigEndian.PutUint16(page[innodb.OffsetType:], uint16(was))
	return nil
}

// encrypt makes of a plain page, which is not compressed, the one that is stored.
func (c *mysqlCipher) encrypt(page []byte) {
	was := innodb.HeaderType(page)
	now := innodb.TypeEncrypted
	if was == innodb.TypeRTree {
		now = innodb.TypeRTreeEncrypted
	} else {
		binary.BigEndian.PutUint16(page[offsetPlainType:], uint16(was))
	}
	binary.BigEndian.PutUint16(page[innodb.OffsetType:], uint16(now))
	c.seal(page[innodb.OffsetBody:])
}
