package redolog

import (
	"encoding/binary"
	"fmt"

	"hb/source/innodb"
)

// LastBlock makes the last block of a backup's log that ends at end, from that
// block as it is in the live log (10.5 format): what lies behind end is cut
// off. A live block of an earlier lap means that the server has written nothing
// behind end yet, which is right only where end is at the block's beginning.
func LastBlock(live []byte, end innodb.LSN) ([]byte, error) {
	end = Canonical105(end)
	at, used := end&^(blockSize-1), int(end%blockSize)
	if len(live) != blockSize {
		return nil, fmt.Errorf("block of %d bytes", len(live))
	}
	b := make([]byte, blockSize)
	stop := checkBlock(live, at)
	switch {
	case stop.Cause == 0 && int(binary.BigEndian.Uint16(live[4:])) >= used:
		copy(b, live[:used])
		if first := binary.BigEndian.Uint16(b[6:]); int(first) >= used {
			binary.BigEndian.PutUint16(b[6:], 0)
		}
	case used == blockHeader:
		binary.BigEndian.PutUint32(b, BlockNumber(at))
	case stop.Cause != 0:
		return nil, stop
	default:
		return nil, fmt.Errorf("the redo log ends before LSN %d", end)
	}
	binary.BigEndian.PutUint16(b[4:], uint16(used))
	binary.BigEndian.PutUint32(b[blockEnd:], innodb.CRC32C(b[:blockEnd]))
	return b, nil
}

// BlockOf returns the LSN at which the 512-byte block of lsn begins (10.5).
func BlockOf(lsn innodb.LSN) innodb.LSN { return lsn &^ (blockSize - 1) }

// BlockSize is the size of a block of the 10.5 format.
const BlockSize = blockSize

// NewerBlock compares block numbers, which have 30 bits and start from 1: got
// is of a later lap than want.
func NewerBlock(got, want uint32) bool {
	d := (got - want) & blockNoMask
	return d != 0 && d < 1<<29
}
