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
//	12  2  where the base information begins; from there
//	       16  8  size of the header, blocks after it are index pages
//	      100  2  block size
//	      106  1  1: the table is crash-safe
//
// Source: storage/maria/ma_open.c, ma_pagecrc.c and ma_backup.c of MariaDB
// 10.11.
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
)

// Table is the header of t.MAI.
type Table struct {
	BlockSize  int   // bytes
	HeaderSize int64 // bytes of t.MAI that are not index blocks
	CrashSafe  bool  // its blocks carry checksums, its changes are in the log
}

// ReadTable reads the header of an index file (t.MAI).
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
		CrashSafe:  base[106] != 0 && binary.BigEndian.Uint16(head[4:])&optionPageChecksum != 0,
	}
	if t.BlockSize < 1024 || t.BlockSize&(t.BlockSize-1) != 0 || t.HeaderSize <= 0 {
		return Table{}, fmt.Errorf("the header is damaged: block size %d, header size %d", t.BlockSize, t.HeaderSize)
	}
	return t, nil
}

// VerifyIndex checks block no of t.MAI, of a crash-safe table.
func (t Table) VerifyIndex(block []byte, no int64) error {
	if no*int64(t.BlockSize) < t.HeaderSize || innodb.AllZero(block) {
		return nil // never written, or the header, which has no checksum
	}
	used := int(binary.BigEndian.Uint16(block[usedOffset:]))
	if used > t.BlockSize-checksumSize {
		return fmt.Errorf("block %d says that %d of its %d bytes are used", no, used, t.BlockSize)
	}
	return t.verify(block, no, used)
}

// VerifyData checks block no of t.MAD, of a crash-safe table.
func (t Table) VerifyData(block []byte, no int64) error {
	if innodb.AllZero(block[:len(block)-checksumSize]) {
		return nil // a block or row bitmap that was not written yet
	}
	return t.verify(block, no, t.BlockSize-checksumSize)
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
