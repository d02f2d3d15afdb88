package tde

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/tde/cbc"
	"hb/xbstream/keyring"
)

// mariadb is the cipher of a tablespace of MariaDB. (fil0crypt.cc of 10.5 to 11.8.)
//
// The key of a tablespace is the 16 bytes of IV in its page 0, encrypted with the
// server's key; so it has 16 bytes too. The IV of a page is its tablespace, number and LSN.
type mariadb struct {
	space *innodb.Space
	keys  *keyring.Keys

	mu      sync.Mutex
	ciphers map[uint32]*stream // by the key's version
}

func openMariaDB(space *innodb.Space, keys *keyring.Keys) (innodb.Cipher, error) {
	if space.Encryption.Scheme > 1 {
		return nil, &innodb.UnsupportedError{What: fmt.Sprintf("tablespace %d is encrypted by scheme %d, which hb does not know", space.ID, space.Encryption.Scheme)}
	}
	own := *space
	own.Cipher = nil
	return &mariadb{space: &own, keys: keys, ciphers: make(map[uint32]*stream)}, nil
}

func (m *mariadb) name(version uint32) keyring.MariaDBKey {
	return keyring.MariaDBKey{ID: m.space.Encryption.KeyID, Version: version}
}

// cipher returns what encrypts with a version of the key.
func (m *mariadb) cipher(version uint32) (*stream, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.ciphers[version]; c != nil {
		return c, nil
	}
	c, err := derive(m.keys, m.name(version), m.space.Encryption.IV)
	if err != nil {
		return nil, err
	}
	m.ciphers[version] = c
	return c, nil
}

// pageIV is the IV of a page. All of it is in the clear part of the header, but for the
// tablespace's id in the full_crc32 format.
func (m *mariadb) pageIV(page []byte, no innodb.PageNo) (iv [aes.BlockSize]byte) {
	binary.LittleEndian.PutUint32(iv[0:], uint32(m.space.ID))
	binary.LittleEndian.PutUint32(iv[4:], uint32(no))
	binary.LittleEndian.PutUint64(iv[8:], uint64(innodb.HeaderLSN(page)))
	return iv
}

// Decrypt implements innodb.Cipher.
func (m *mariadb) Decrypt(page []byte, no innodb.PageNo) error {
	version := m.space.KeyVersion(page, no)
	c, err := m.cipher(version)
	if err != nil {
		return err
	}
	body, err := m.body(page)
	if err != nil {
		return err
	}
	c.decrypt(body, m.pageIV(page, no))
	if !m.space.FullCRC32 {
		if innodb.HeaderType(page) == innodb.TypePageCompEncr {
			return m.unwrapCompressed(page)
		}
		clear(page[innodb.OffsetFlushLSN:innodb.OffsetSpace])
		return nil
	}
	clear(page[:4])
	if m.space.Compressed(page) {
		return nil // what it decompresses to shows whether the key is right
	}
	// The only signs of the right key: no checksum covers the plain page.
	id, low := innodb.HeaderSpace(page), binary.BigEndian.Uint32(page[len(page)-8:])
	if id != m.space.ID || low != uint32(innodb.HeaderLSN(page)) {
		return &keyring.WrongKeyError{Name: m.name(version).String(),
			What: fmt.Sprintf("page %d of tablespace %d does not decrypt with it and %s", no, m.space.ID, m.keys.Algorithm())}
	}
	return nil
}

// Encrypt implements innodb.Cipher.
func (m *mariadb) Encrypt(page []byte, no innodb.PageNo) error {
	if no == 0 || m.space.ID == 0 && no == innodb.TrxSysPage {
		return nil
	}
	switch innodb.HeaderType(page) {
	case innodb.TypeFSPHeader, innodb.TypeXDES:
		return nil
	case innodb.TypeRTree:
		if !m.space.FullCRC32 {
			return nil
		}
	}
	version := m.keys.Latest(m.space.Encryption.KeyID, max(1, m.space.Encryption.MinVersion))
	c, err := m.cipher(version)
	if err != nil {
		return err
	}
	at := innodb.OffsetFlushLSN
	if m.space.FullCRC32 {
		at = 0
	}
	binary.BigEndian.PutUint32(page[at:], version)
	body, err := m.body(page)
	if err != nil {
		return err
	}
	c.encrypt(body, m.pageIV(page, no))
	m.space.StampSealed(page)
	return nil
}

// Where a page that was compressed and then encrypted outside of full_crc32 tablespaces has
// what.
const (
	compEncrLength    = innodb.OffsetBody     // of the compressed data, 2 bytes
	compEncrAlgorithm = innodb.OffsetBody + 2 // 2 bytes
	compEncrData      = innodb.OffsetBody + 4
)

// body is the part of a page that is encrypted.
func (m *mariadb) body(page []byte) ([]byte, error) {
	switch {
	case m.space.FullCRC32:
		size := m.space.StoredSize(page)
		if size <= innodb.OffsetFlushLSN+4 {
			return nil, fmt.Errorf("its stored size is %d bytes", size)
		}
		return page[innodb.OffsetFlushLSN : size-4], nil
	case innodb.HeaderType(page) == innodb.TypePageCompEncr:
		n := int(binary.BigEndian.Uint16(page[compEncrLength:]))
		if n > len(page)-compEncrData {
			return nil, fmt.Errorf("its compressed size is %d bytes", n)
		}
		return page[compEncrData:][:n], nil
	}
	return page[innodb.OffsetBody : len(page)-8], nil
}

// unwrapCompressed gives a decrypted page_compressed page the header of one that was
// never encrypted: its type, its algorithm in 8 bytes at 26, and the data after the length.
func (m *mariadb) unwrapCompressed(page []byte) error {
	n := int(binary.BigEndian.Uint16(page[compEncrLength:]))
	algorithm := binary.BigEndian.Uint16(page[compEncrAlgorithm:])
	copy(page[innodb.OffsetBody+2:], page[compEncrData:][:n])
	clear(page[innodb.OffsetBody+2+n:][:2])
	binary.BigEndian.PutUint16(page[innodb.OffsetType:], uint16(innodb.TypePageCompressed))
	binary.BigEndian.PutUint64(page[innodb.OffsetFlushLSN:], uint64(algorithm))
	return nil
}

// stream encrypts bytes of any length without padding, as MariaDB does with
// ENCRYPTION_FLAG_NOPAD (mysys_ssl/my_crypt.cc).
type stream struct {
	block     cipher.Block
	decrypter *cbc.Decrypter
	ctr       bool
}

// derive makes the cipher whose key is a message, encrypted with a key of the server.
func derive(keys *keyring.Keys, name keyring.MariaDBKey, message [16]byte) (*stream, error) {
	key, err := keys.MariaDB(name)
	if err != nil {
		return nil, err
	}
	global, err := aes.NewCipher(key)
	if err != nil {
		return nil, errors.New("the key has a wrong length")
	}
	var derived [16]byte
	global.Encrypt(derived[:], message[:])
	block, err := aes.NewCipher(derived[:])
	if err != nil {
		return nil, err
	}
	decrypter, err := cbc.New(derived[:])
	if err != nil {
		return nil, err
	}
	return &stream{block, decrypter, keys.Algorithm() == keyring.CTR}, nil
}

// encrypt encrypts b in place: whole blocks by CBC; the last bytes, fewer than a block, are
// xored with the encrypted IV.
func (c *stream) encrypt(b []byte, iv [aes.BlockSize]byte) {
	if c.ctr {
		cipher.NewCTR(c.block, iv[:]).XORKeyStream(b, b)
		return
	}
	whole := len(b) - len(b)%aes.BlockSize
	cipher.NewCBCEncrypter(c.block, iv[:]).CryptBlocks(b[:whole], b[:whole])
	c.xorTail(b[whole:], iv)
}

// decrypt is the reverse of encrypt.
func (c *stream) decrypt(b []byte, iv [aes.BlockSize]byte) {
	if c.ctr {
		cipher.NewCTR(c.block, iv[:]).XORKeyStream(b, b)
		return
	}
	whole := len(b) - len(b)%aes.BlockSize
	c.decrypter.Decrypt(b[:whole], iv)
	c.xorTail(b[whole:], iv)
}

func (c *stream) xorTail(b []byte, iv [aes.BlockSize]byte) {
	if len(b) == 0 {
		return
	}
	var mask [aes.BlockSize]byte
	c.block.Encrypt(mask[:], iv[:])
	for i := range b {
		b[i] ^= mask[i]
	}
}
