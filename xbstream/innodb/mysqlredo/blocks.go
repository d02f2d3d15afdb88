package mysqlredo

import (
	"encoding/binary"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/redolog"
)

// Blocks, of all formats.
const (
	blockSize    = redolog.BlockSize
	blockHeader  = redolog.BlockHeader
	blockTrailer = redolog.BlockTrailer
	blockEnd     = redolog.BlockEnd
	blockPayload = blockEnd - blockHeader

	offUsed  = 4
	offFirst = 6
	offEpoch = 8 // of the checkpoint number before 8.0.30

	blockEncrypted = 1 << 15 // in the number of used bytes

	// noChecksum stands for the checksum of a block that has none
	// (LOG_NO_CHECKSUM_MAGIC): innodb_log_checksums=OFF, 5.7.9 to 8.0.29.
	noChecksum = 0xDEADBEEF
)

// Epoch counts the laps of the block numbers: 512 GiB of log each.
func Epoch(lsn innodb.LSN) uint32 { return uint32(lsn/blockSize>>30) + 1 }

// additive is the checksum of 5.6's blocks (log_block_calc_checksum).
func additive(b []byte) uint32 {
	sum, shift := uint32(1), 0
	for _, c := range b {
		sum &= 0x7fffffff
		sum += uint32(c)
		sum += uint32(c) << shift
		if shift++; shift > 24 {
			shift = 0
		}
	}
	return sum
}

func checksum(f Format, block []byte) uint32 {
	if f == Format56 {
		return additive(block[:blockEnd])
	}
	return innodb.CRC32C(block[:blockEnd])
}

// seal writes the checksum of a block.
func seal(f Format, block []byte) {
	binary.BigEndian.PutUint32(block[blockEnd:], checksum(f, block))
}

// checkBlock checks the block at an LSN: number, epoch, checksum, lengths.
// unsummed: a block without a checksum will do.
func checkBlock(f Format, b []byte, at innodb.LSN, unsummed bool) Stop {
	if stop := checkNumber(f, b, at); stop.Cause != 0 {
		return stop
	}
	used, first := binary.BigEndian.Uint16(b[offUsed:]), binary.BigEndian.Uint16(b[offFirst:])
	if used&blockEncrypted != 0 {
		return Stop{Cause: StopEncrypted, LSN: at}
	}
	if stored := binary.BigEndian.Uint32(b[blockEnd:]); stored != checksum(f, b) {
		switch {
		case stored != noChecksum || f == Format56 || !f.Ring():
			return Stop{Cause: StopChecksum, LSN: at}
		case !unsummed:
			return Stop{Cause: StopUnsummed, LSN: at}
		}
	}
	if used < blockHeader || used >= blockEnd && used != blockSize ||
		first != 0 && (first < blockHeader || first > used) {
		return Stop{Cause: StopBlockUsed, LSN: at}
	}
	return Stop{}
}

// checkNumber finds out whether the block is the one at an LSN, one of an earlier
// lap or of a later one. A block that was never written has number 0.
func checkNumber(f Format, b []byte, at innodb.LSN) Stop {
	got, want := binary.BigEndian.Uint32(b), redolog.BlockNumber(at)
	epoch, wantEpoch := Epoch(at), Epoch(at)
	if f.Ring() {
		got &^= redolog.BlockFlush
	} else {
		epoch = binary.BigEndian.Uint32(b[offEpoch:])
	}
	if got == want && epoch == wantEpoch {
		return Stop{}
	}
	stop := Stop{Cause: StopBlockNumber, LSN: at, Block: got, Want: want, Epoch: epoch}
	switch {
	case got == 0 || got > 1<<30: // none has this number
	case f.Ring():
		stop.Newer = redolog.NewerBlock(got, want)
	default:
		stop.Newer = epoch > wantEpoch || epoch == wantEpoch && got > want
	}
	return stop
}

// LastBlock makes the last block of a log that ends exactly at end, from that block
// as it is in the live log: what lies after end is cut off. Where end is at the
// beginning of a block the server may not have written that one yet; an older block
// in its place will do. The returned block is never full: it marks the end.
func LastBlock(f Format, live []byte, end innodb.LSN) ([]byte, error) {
	end = redolog.Canonical(end)
	at, used := redolog.BlockOf(end), int(end%blockSize)
	if len(live) != blockSize {
		return nil, fmt.Errorf("block of %d bytes", len(live))
	}
	b := make([]byte, blockSize)
	stop := checkBlock(f, live, at, false)
	switch {
	case stop.Cause == 0 && int(binary.BigEndian.Uint16(live[offUsed:])) >= used:
		copy(b, live[:used])
		// Where no mini-transaction begins before the end, the next one begins there: a
		// server that finds 0 warns of damage ("corrupted first_rec_group and became
		// fixed", 9.7).
		if first := int(binary.BigEndian.Uint16(b[offFirst:])); first == 0 || first > used {
			binary.BigEndian.PutUint16(b[offFirst:], uint16(used))
		}
	case used == blockHeader && (stop.Cause == 0 || stop.Cause == StopBlockNumber && !stop.Newer):
		binary.BigEndian.PutUint32(b, redolog.BlockNumber(at))
		if !f.Ring() {
			binary.BigEndian.PutUint32(b[offEpoch:], Epoch(at))
		}
		binary.BigEndian.PutUint16(b[offFirst:], uint16(used))
	case stop.Cause != 0:
		return nil, stop
	default:
		return nil, fmt.Errorf("the redo log ends before LSN %d", end)
	}
	binary.BigEndian.PutUint16(b[offUsed:], uint16(used))
	seal(f, b)
	return b, nil
}
