// Package aria reads as much of the Aria storage engine's table format as it
// takes to copy a table that is being written.
//
// A table is two files of blocks: t.MAI, its header and indexes, and t.MAD,
// its rows. The blocks of crash-safe tables (TRANSACTIONAL=1, which implies
// PAGE_CHECKSUM=1) end in a checksum, so that a block that is read while the
// server writes it is noticed; the Aria log has the changes that the file lacks. Files
// of all other Aria tables are only consistent while writers are locked out.
//
// The header of t.MAI, integers big-endian, as hb needs it:
//
//	 0  4  FE FE 09 and the version
//	 4  2  options; 0x800: page checksums
//	 6  2  size of all that describes the table
//	12  2  where the base information begins; from there
//	       16  8  size of the header, blocks after it are index pages
//	       90  2  options; 1: the table is encrypted
//	      100  2  block size
//	      106  1  1: the table is crash-safe
//
// Of an encrypted table (aria_encrypt_tables) the description ends in 1, 20, a number in
// the place of a tablespace's (4, little-endian), and 16 bytes of which its key is made.
// Blocks are encrypted after their own header, but for the row bitmaps in t.MAD. Their
// checksums are those of the plain block, so that hb needs the key to notice a torn one.
// The Aria log is never encrypted. (TestRealEncrypted.)
//
// Source: storage/maria/ma_open.c, ma_create.c, ma_crypt.c, ma_pagecrc.c and ma_backup.c of
// MariaDB 10.11.18.
package aria

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"hb/xbstream/innodb"
)

const (
	optionPageChecksum = 0x800

	// noChecksum and above stand for "this block has no checksum".
	noChecksum   = 0xFFFFFFFE
	checksumSize = 4

	// usedOffset is where an index block of a crash-safe table has the number of its
	// bytes that are in use: after LSN (7), transaction id (6), key number (1) and flag
	// (1). Its checksum covers only those bytes.
	usedOffset = 7 + 6 + 1 + 1

	headSize   = 24
	baseSize   = 107
	maxBasePos = 1 << 15

	optionEncrypted = 1

	// cryptSize is the size of what the description of an encrypted table ends in: type,
	// length, number and the bytes of its key.
	cryptSize   = 2 + 4 + 16
	cryptType   = 1
	cryptLength = cryptSize - 2
)

// Table is the header of t.MAI.
type Table struct {
	BlockSize  int   // bytes
	HeaderSize int64 // bytes of t.MAI that are not index blocks
	CrashSafe  bool  // its blocks carry checksums, its changes are in the log
	Logged     bool  // its changes are in the log
	Encrypted  bool

	// Message is that of which an encrypted table's key is made.
	Message [16]byte
	// Cipher decrypts the blocks of an encrypted table; whoever verifies them sets it.
	Cipher Cipher

	number uint32 // of an encrypted table, for the IV of its blocks
	plain  []byte // a block of an encrypted table, in clear; used again
}

// A Cipher decrypts bytes in place that a version of the table's key encrypted. Package tde
// makes it.
type Cipher interface {
	Decrypt(b []byte, version uint32, iv [16]byte) error
}

// ReadTable reads the header of an index file (t.MAI). Blocks of an encrypted table are
// verified by one goroutine at a time.
func ReadTable(mai io.ReaderAt) (Table, error) {
	var head [headSize]byte
	if _, err := mai.ReadAt(head[:], 0); err != nil {
		return Table{}, fmt.Errorf("reading the header: %w", err)
	}
	if head[0] != 0xFE || head[1] != 0xFE || head[2] != 9 {
		return Table{}, fmt.Errorf("this is no Aria index file: it begins with % x", head[:4])
	}
	pos := binary.BigEndian.Uint16(head[12:])
	if pos > maxBasePos {
		return Table{}, fmt.Errorf("the header's base information begins at %d", pos)
	}
	var base [baseSize]byte
	if _, err := mai.ReadAt(base[:], int64(pos)); err != nil {
		return Table{}, fmt.Errorf("reading the header: %w", err)
	}
	t := Table{
		BlockSize:  int(binary.BigEndian.Uint16(base[100:])),
		HeaderSize: int64(binary.BigEndian.Uint64(base[16:])),
		Logged:     base[106] != 0,
		CrashSafe:  base[106] != 0 && binary.BigEndian.Uint16(head[4:])&optionPageChecksum != 0,
	}
	if t.BlockSize < 1024 || t.BlockSize&(t.BlockSize-1) != 0 || t.HeaderSize <= 0 {
		return Table{}, fmt.Errorf("the header is damaged: block size %d, header size %d", t.BlockSize, t.HeaderSize)
	}
	if binary.BigEndian.Uint16(base[90:])&optionEncrypted == 0 {
		return t, nil
	}
	return t, t.readCrypt(mai, int64(binary.BigEndian.Uint16(head[6:])))
}

// readCrypt reads what the description of an encrypted table ends in, which has size bytes.
func (t *Table) readCrypt(mai io.ReaderAt, size int64) error {
	var b [cryptSize]byte
	if size < headSize+cryptSize {
		return fmt.Errorf("the header is damaged: it has %d bytes, and says that the table is encrypted", size)
	}
	if _, err := mai.ReadAt(b[:], size-cryptSize); err != nil {
		return fmt.Errorf("reading the header: %w", err)
	}
	if b[0] != cryptType || b[1] != cryptLength {
		return fmt.Errorf("the table is encrypted by scheme %d with %d bytes, which hb does not know", b[0], b[1])
	}
	t.Encrypted, t.number, t.Message = true, binary.LittleEndian.Uint32(b[2:]), [16]byte(b[6:])
	t.plain = make([]byte, t.BlockSize)
	return nil
}

// Where a block of an encrypted table has the version of its key, and where what is
// encrypted begins. A data block's first byte after the LSN is its type.
const (
	typeOffset = 7
	typeMask   = 7
	typeTail   = 2 // greater ones, of blocks with parts of a BLOB, have a shorter header

	dataVersion = typeOffset + 1 + 4
	blobVersion = typeOffset + 1
	versionSize = 4

	indexVersion = 7 + 6
)

// VerifyIndex checks block no of t.MAI, of a crash-safe table.
func (t Table) VerifyIndex(block []byte, no int64) error {
	if no*int64(t.BlockSize) < t.HeaderSize || innodb.AllZero(block) {
		return nil // never written, or the header, which has no checksum
	}
	at := usedOffset
	if t.Encrypted {
		at += versionSize
	}
	used := int(binary.BigEndian.Uint16(block[at:]))
	if used > t.BlockSize-checksumSize || t.Encrypted && used < at+2 {
		return fmt.Errorf("block %d says that %d of its %d bytes are used", no, used, t.BlockSize)
	}
	if t.Encrypted {
		var err error
		if block, err = t.decrypt(block, no, indexVersion, at+2, used); err != nil {
			return err
		}
	}
	return t.verify(block, no, used)
}

// VerifyData checks block no of t.MAD, of a crash-safe table.
func (t Table) VerifyData(block []byte, no int64) error {
	if innodb.AllZero(block[:len(block)-checksumSize]) {
		return nil // a block or row bitmap that was not written yet
	}
	end := t.BlockSize - checksumSize
	if t.Encrypted && no%t.covered() != 0 {
		version := dataVersion
		if block[typeOffset]&typeMask > typeTail {
			version = blobVersion
		}
		var err error
		if block, err = t.decrypt(block, no, version, version+versionSize, end); err != nil {
			return err
		}
	}
	return t.verify(block, no, end)
}

// covered is how many blocks of t.MAD there are from one row bitmap to the next: it has 3 bits
// for each block, in groups of 6 bytes.
func (t Table) covered() int64 {
	return int64((t.BlockSize-checksumSize)/6*16 + 1)
}

// decrypt returns a block in clear, as its checksum is of it: with 0 for the version of the
// key, which is at version. The bytes from and to are encrypted.
func (t Table) decrypt(block []byte, no int64, version, from, to int) ([]byte, error) {
	key := binary.LittleEndian.Uint32(block[version:])
	if key == 0 {
		return nil, fmt.Errorf("block %d is not encrypted, and the table is", no)
	}
	plain := t.plain[:copy(t.plain, block)]
	clear(plain[version:][:versionSize])
	var iv [16]byte
	binary.LittleEndian.PutUint32(iv[0:], t.number)
	binary.LittleEndian.PutUint32(iv[4:], uint32(no))
	copy(iv[8:], block[3:typeOffset]) // the LSN: its offset, and the number of its file
	copy(iv[12:], block[:3])
	if err := t.Cipher.Decrypt(plain[from:to], key, iv); err != nil {
		return nil, fmt.Errorf("block %d: %w", no, err)
	}
	return plain, nil
}

// verify compares the checksum at the end of a block: CRC-32 (IEEE) of its
// first n bytes, started with the block number.
func (t Table) verify(block []byte, no int64, n int) error {
	stored := binary.LittleEndian.Uint32(block[t.BlockSize-checksumSize:])
	if stored >= noChecksum {
		return nil
	}
	if got := min(crc32.Update(uint32(no), crc32.IEEETable, block[:n]), noChecksum-1); got != stored {
		return fmt.Errorf("block %d has checksum %08x, but says %08x", no, got, stored)
	}
	return nil
}
