package innodbtest

import (
	"bytes"

	"hb/xbstream/innodb"
)

// Form is how a family's series lays out its redo log files after their header.
type Form uint8

// The forms.
const (
	// MariaDB108 is that of MariaDB 10.8 and later: mini-transactions one after the
	// other.
	MariaDB108 Form = iota
	// MariaDB105 is MariaDB's before: blocks, with a CRC-32C.
	MariaDB105
	// MySQL56 is blocks with a sum that is no CRC.
	MySQL56
	// MySQL57 is MySQL's up to 8.0.29: blocks with a CRC-32C.
	MySQL57
	// MySQL8030 is the same with the laps of the block numbers counted.
	MySQL8030
)

// MySQLForm is the form of MySQL's logs whose headers have that format's number: 0 in
// 5.6, 6 in 8.0.30 and later.
func MySQLForm[T ~uint32](format T) Form {
	switch {
	case format == 0:
		return MySQL56
	case format < 6:
		return MySQL57
	}
	return MySQL8030
}

// Blocks, in bytes: records are in between.
const (
	blockSize   = 512
	blockHeader = 12
	blockEnd    = 508 // a CRC-32C or the like
)

// Log is a redo log that is being made, without its header. Make one with Form and Start.
type Log struct {
	Form  Form
	Start innodb.LSN // where the first mini-transaction begins: not in a block's header or trailer

	payload []byte
	starts  []innodb.LSN
}

// MTR appends a mini-transaction, and returns the LSN at which it ends.
func (l *Log) MTR(records ...[]byte) innodb.LSN {
	l.starts = append(l.starts, l.End())
	all := bytes.Join(records, nil)
	switch l.Form {
	case MariaDB108:
		l.payload = append(l.payload, MTR(all, 1)...)
	case MariaDB105:
		l.payload = append(append(l.payload, all...), 0)
	default:
		const multiRecEnd = 31
		l.payload = append(append(l.payload, all...), multiRecEnd)
	}
	return l.End()
}

// End is the LSN at which the last mini-transaction ends.
func (l *Log) End() innodb.LSN {
	if l.Form == MariaDB108 {
		return l.Start + innodb.LSN(len(l.payload))
	}
	const room = blockEnd - blockHeader // of records in a block
	block := l.Start / blockSize
	n := innodb.LSN(len(l.payload)) + l.Start%blockSize - blockHeader
	return (block+n/room)*blockSize + blockHeader + n%room
}

// Bytes returns the log after the header: from Start, or from the block that holds
// it, up to a block that is not full.
func (l *Log) Bytes() []byte {
	if l.Form == MariaDB108 {
		return bytes.Clone(l.payload)
	}
	out, last := Blocks(l.Form, l.Start, l.payload, l.starts...), blockOf(l.End())
	if blockOf(l.Start)+innodb.LSN(len(out)) == last { // all are full
		out = append(out, Block{Form: l.Form, At: last, Used: blockHeader}.Bytes()...)
	}
	return out
}

func blockOf(lsn innodb.LSN) innodb.LSN { return lsn &^ (blockSize - 1) }

// MTR is a mini-transaction in the form MariaDB108. sequence is 1 or 0, in turns from lap
// to lap of the file, and 1 in a backup's log.
func MTR(records []byte, sequence byte) []byte {
	return be.AppendUint32(append(bytes.Clone(records), sequence), crc(records))
}

// Blocks lays records out in blocks, the first byte at start. Mini-transactions begin at
// starts.
func Blocks(f Form, start innodb.LSN, payload []byte, starts ...innodb.LSN) []byte {
	var out []byte
	at := blockOf(start)
	for off := int(start - at); ; off = blockHeader {
		b := Block{Form: f, At: at, Payload: make([]byte, off-blockHeader)}
		n := min(len(payload), blockEnd-off)
		b.Payload, payload = append(b.Payload, payload[:n]...), payload[n:]
		if b.Used = off + n; b.Used == blockEnd {
			b.Used = blockSize
		}
		for len(starts) > 0 && starts[0] < at+blockSize {
			if b.First == 0 {
				b.First = int(starts[0] - at)
			}
			starts = starts[1:]
		}
		out = append(out, b.Bytes()...)
		if len(payload) == 0 {
			return out
		}
		at += blockSize
	}
}

// Block is one block of a log.
type Block struct {
	Form Form
	At   innodb.LSN // where it begins
	// Used is how many of its bytes count, all 512 of a full one; First is the byte at
	// which the first mini-transaction in it begins, 0: none does.
	Used, First int
	Payload     []byte // after byte 12
}

// Bytes returns its 512 bytes.
func (b Block) Bytes() []byte {
	const flush = 1 << 31 // a write began here
	out := make([]byte, blockSize)
	no := uint32(b.At/blockSize)&(1<<30-1) + 1
	switch b.Form {
	case MariaDB105:
		no |= flush
	case MySQL8030:
		be.PutUint32(out[8:], uint32(b.At/blockSize>>30)+1)
	}
	be.PutUint32(out, no)
	be.PutUint16(out[4:], uint16(b.Used))
	be.PutUint16(out[6:], uint16(b.First))
	copy(out[blockHeader:blockEnd], b.Payload)
	SealBlock(b.Form, out)
	return out
}

// SealBlock writes the checksum of a block, or of one in the header of a log's file. The
// form MariaDB108 has them only there.
func SealBlock(f Form, block []byte) {
	sum := crc(block[:blockEnd])
	if f == MySQL56 {
		sum = additive(block[:blockEnd])
	}
	be.PutUint32(block[blockEnd:], sum)
}

// additive is the sum of 5.6 (log_block_calc_checksum).
func additive(b []byte) uint32 {
	sum, shift := uint32(1), 0
	for _, c := range b {
		sum = sum&0x7fffffff + uint32(c) + uint32(c)<<shift
		if shift++; shift > 24 {
			shift = 0
		}
	}
	return sum
}
