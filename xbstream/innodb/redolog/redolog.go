// Package redolog states what the redo logs of MariaDB and MySQL have in common:
// mini-transactions, and the arithmetic of LSNs in blocks of 512 bytes.
// Packages mariadbredo and mysqlredo state the rest.
//
// A block has a header of 12 bytes, up to 496 bytes of records and a trailer of
// 4 bytes. The LSN counts headers and trailers too. MySQL's logs of all series
// and MariaDB's up to 10.7 consist of such blocks.
//
// Sources: storage/innobase/include/log0log.h of MariaDB 10.5.23,
// log0constants.h of MySQL 9.7.
package redolog

import (
	"fmt"
	"io"

	"hb/xbstream/innodb"
)

// MTR is one mini-transaction: the unit that is applied as a whole or not at all.
type MTR struct {
	// Start is the LSN of its first byte, End the LSN after its last one, as
	// the server computes it: the LSN of the pages that it changed.
	Start, End innodb.LSN
	// Records are its records, without what ends it. They are valid until the
	// next call of the cutter's Next or Feed.
	Records []byte
}

// Sizes of a block and its parts, in bytes.
const (
	BlockSize    = 512
	BlockHeader  = 12
	BlockTrailer = 4
	BlockEnd     = BlockSize - BlockTrailer // where the records of a full block end
	blockPayload = BlockEnd - BlockHeader
)

// Numbers of blocks have 30 bits. Bit 31 marks the first block of a write.
const (
	BlockFlush  = 1 << 31
	blockNoMask = 1<<30 - 1
)

// BlockOf returns the LSN at which the block of lsn begins.
func BlockOf(lsn innodb.LSN) innodb.LSN { return lsn &^ (BlockSize - 1) }

// BlockNumber returns the number of the block that holds lsn.
func BlockNumber(lsn innodb.LSN) uint32 { return uint32(lsn/BlockSize)&blockNoMask + 1 }

// NewerBlock compares block numbers, which have 30 bits and start from 1: got
// is of a later lap than want.
func NewerBlock(got, want uint32) bool {
	d := (got - want) & blockNoMask
	return d != 0 && d < 1<<29
}

// Canonical moves an LSN that points into a block's trailer, at its end or into
// the header of the next to the first record byte after it: so servers count.
func Canonical(lsn innodb.LSN) innodb.LSN {
	off := lsn % BlockSize
	switch {
	case off < BlockHeader:
		return lsn - off + BlockHeader
	case off >= BlockEnd:
		return lsn - off + BlockSize + BlockHeader
	}
	return lsn
}

// Advance returns the LSN of the record byte n bytes after the one at lsn: the
// headers and trailers of blocks lie between.
func Advance(lsn innodb.LSN, n int) innodb.LSN { return AdvanceIn(lsn, n, BlockEnd) }

// AdvanceIn is Advance in blocks whose records end at byte end.
func AdvanceIn(lsn innodb.LSN, n, end int) innodb.LSN {
	lsn = Canonical(lsn)
	block, n, payload := BlockOf(lsn), int(lsn%BlockSize)-BlockHeader+n, end-BlockHeader
	return block + innodb.LSN(n/payload)*BlockSize + BlockHeader + innodb.LSN(n%payload)
}

// Payload returns n bytes of records, the first of which is at lsn, from log
// bytes that begin with that one. Records that are not in one piece there are put
// together in scratch, which must have room for n bytes.
func Payload(log []byte, lsn innodb.LSN, n int, scratch []byte) ([]byte, error) {
	room := BlockEnd - int(lsn%BlockSize) // in lsn's own block
	if room <= 0 || room > blockPayload {
		return nil, fmt.Errorf("no record is at LSN %d", lsn)
	}
	if n <= room && n <= len(log) {
		return log[:n:n], nil
	}
	out := scratch[:0:n]
	for {
		room = min(room, n-len(out))
		if room > len(log) {
			return nil, io.ErrUnexpectedEOF
		}
		out = append(out, log[:room]...)
		if len(out) == n {
			return out, nil
		}
		skip := room + BlockTrailer + BlockHeader
		if skip > len(log) {
			return nil, io.ErrUnexpectedEOF
		}
		log, room = log[skip:], blockPayload
	}
}
