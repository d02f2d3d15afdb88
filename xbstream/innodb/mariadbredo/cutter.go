package mariadbredo

import (
	"encoding/binary"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/redolog"
)

// Blocks of the 10.5 format.
const (
	blockSize    = redolog.BlockSize
	blockHeader  = redolog.BlockHeader
	blockTrailer = redolog.BlockTrailer
	blockEnd     = redolog.BlockEnd
)

// StopCause is why a Cutter found no further mini-transaction.
type StopCause uint8

// The causes. In the log of a live server every one of them can simply be the
// end of what has been written so far.
const (
	// StopShort: the bytes fed end before the mini-transaction does.
	StopShort StopCause = iota + 1
	// StopPartialBlock (10.5): a valid block that is not full: the last one.
	StopPartialBlock
	// StopEndMark (10.8+): a byte that no record begins with.
	StopEndMark
	// StopSequence (10.8+): the sequence byte is of another lap.
	StopSequence
	// StopChecksum: wrong CRC, of the mini-transaction (10.8+) or block (10.5).
	StopChecksum
	// StopRecord: record framing that cannot be.
	StopRecord
	// StopTooLong: longer than a mini-transaction can be.
	StopTooLong
	// StopBlockNumber (10.5): the block is of another lap; see Stop.Block.
	StopBlockNumber
	// StopBlockUsed (10.5): the count of used bytes cannot be.
	StopBlockUsed
	// StopSealed: the log is encrypted, and there is no key.
	StopSealed
	// StopKey (10.5): what a whole block decrypts to is not one.
	StopKey
)

// Stop is where and why cutting stopped.
type Stop struct {
	Cause StopCause
	// LSN of the mini-transaction that could not be cut, or of the block that
	// was not accepted.
	LSN innodb.LSN
	// Block is the number that was found, Want the one expected, without the
	// flush bit, for StopBlockNumber. Modulo 2^30, a smaller number is an older
	// lap, not overwritten yet; a greater one means that this LSN is lost.
	Block, Want uint32
}

// Short reports that the bytes fed end before the mini-transaction does.
func (s Stop) Short() bool { return s.Cause == StopShort }

// Keyless reports that the log could not be decrypted.
func (s Stop) Keyless() bool { return s.Cause == StopSealed || s.Cause == StopKey }

// InOrder reports whether a log that nothing is wrong with may end so, in the
// middle of a mini-transaction or not.
func (s Stop) InOrder() bool { return s.Cause == StopShort || s.Cause == StopPartialBlock }

// Clean reports whether a log that was shut down in order, or copied up to its
// last whole mini-transaction, could stop so: at the end of the bytes fed or
// of a block that is not full, with no mini-transaction begun.
func (c *Cutter) Clean() bool {
	switch c.stop.Cause {
	case StopShort:
		return len(c.carry) == 0 && len(c.raw) == 0
	case StopPartialBlock:
		return len(c.carry) == 0
	}
	return false
}

var stopText = [...]string{
	StopShort:        "the log ends inside a mini-transaction",
	StopPartialBlock: "the log ends in a block that is not full",
	StopEndMark:      "no mini-transaction begins here",
	StopSequence:     "the sequence byte is of another lap around the log",
	StopChecksum:     "wrong checksum",
	StopRecord:       "malformed record",
	StopTooLong:      "mini-transaction too long",
	StopBlockNumber:  "wrong block number",
	StopBlockUsed:    "impossible length of a block",
	StopSealed:       "the log is encrypted, and there is no key",
	StopKey:          "the log is encrypted with another key",
}

func (s Stop) Error() string {
	text := "no reason"
	if int(s.Cause) < len(stopText) && s.Cause > 0 {
		text = stopText[s.Cause]
	}
	if s.Cause == StopBlockNumber {
		return fmt.Sprintf("LSN %d: %s %d instead of %d", s.LSN, text, s.Block, s.Want)
	}
	return fmt.Sprintf("LSN %d: %s", s.LSN, text)
}

// Cutter cuts log bytes into mini-transactions:
//
//	c := NewCutter(geometry, checkpoint.LSN)
//	for {
//		c.Feed(bytes of the log from LSN c.Position() on)
//		for m, ok := c.Next(); ok; m, ok = c.Next() { … }
//		// c.Stop() says why no more; c.End() is the end of the last one.
//	}
//
// The bytes fed are consecutive: whoever reads a circular file unwraps it. Feed may
// be called again at any time with a newer reading of the same place. It allocates
// only for mini-transactions that span blocks (one buffer, reused).
type Cutter struct {
	geo  Geometry
	raw  []byte     // fed and not looked at yet
	pos  innodb.LSN // of raw[0] (10.8+); of the next payload byte (10.5)
	end  innodb.LSN // of the last whole mini-transaction
	stop Stop

	// encrypted logs only; reused
	plain  []byte // records in clear; in the 10.5 format the current block
	hidden []byte // the encrypted bytes of all records

	// 10.5 only
	pay     []byte     // payload of the current block not looked at yet; pos is its first byte's
	carry   []byte     // payload of a mini-transaction that began in an earlier block
	start   innodb.LSN // of carry[0]
	scanned int        // where the next record of carry begins
	done    bool       // carry was handed out whole
	full    bool       // the block of pay is full
}

// NewCutter returns a cutter that begins at start, where a mini-transaction
// begins: a checkpoint's LSN or the End of one.
func NewCutter(g Geometry, start innodb.LSN) *Cutter {
	if g.Format == Format105 {
		start = redolog.Canonical(start)
	}
	return &Cutter{geo: g, pos: start, end: start}
}

// Position returns the LSN that the next Feed must begin with: in the 10.5
// format a multiple of 512, the block that holds the next payload byte, and
// later where the last whole mini-transaction ended.
func (c *Cutter) Position() innodb.LSN {
	if c.geo.Format == Format105 {
		return c.pos &^ (blockSize - 1)
	}
	return c.pos
}

// End returns the end of the last whole mini-transaction, or where the cutter
// began.
func (c *Cutter) End() innodb.LSN { return c.end }

// Seen returns the LSN up to which bytes were accepted: in the 10.5 format it
// may be inside a mini-transaction that is not whole yet.
func (c *Cutter) Seen() innodb.LSN { return c.pos }

// Stop returns why the last Next returned false.
func (c *Cutter) Stop() Stop { return c.stop }

// Feed gives the cutter the log's bytes from LSN Position() on, in place of the part
// that it had not looked at yet. They must not change until Next returned false.
func (c *Cutter) Feed(raw []byte) {
	c.raw, c.pay = raw, nil
	c.stop = Stop{}
}

// Next returns the next mini-transaction, or false: see Stop.
func (c *Cutter) Next() (redolog.MTR, bool) {
	if c.geo.Format == Format105 {
		return c.nextInBlocks()
	}
	return c.nextPlain()
}

func (c *Cutter) stopped(cause StopCause, lsn innodb.LSN) (redolog.MTR, bool) {
	c.stop = Stop{Cause: cause, LSN: lsn}
	return redolog.MTR{}, false
}

// mtrTail is what ends a mini-transaction of the 10.8+ format.
const mtrTail = 1 + 4

func (c *Cutter) nextPlain() (redolog.MTR, bool) {
	if c.geo.Crypt.Encrypted() && c.geo.Cipher == nil {
		return c.stopped(StopSealed, c.pos)
	}
	tail := c.geo.Tail()
	n, cause := scan(c.raw, 0, MaxMTR-tail)
	switch {
	case cause != 0:
		return c.stopped(cause, c.pos)
	case n == 0:
		return c.stopped(StopEndMark, c.pos)
	case len(c.raw) < n+tail:
		// The sequence byte alone can show that there is nothing to wait for.
		if c.raw[n] != c.geo.sequence(c.pos+innodb.LSN(n)) {
			return c.stopped(StopSequence, c.pos)
		}
		return c.stopped(StopShort, c.pos)
	case c.raw[n] != c.geo.sequence(c.pos+innodb.LSN(n)):
		return c.stopped(StopSequence, c.pos)
	case binary.BigEndian.Uint32(c.raw[n+tail-4:]) != c.geo.sum(c.raw, n):
		return c.stopped(StopChecksum, c.pos)
	}
	records, err := c.records(c.raw, n)
	if err != nil {
		return c.stopped(StopSealed, c.pos)
	}
	m := redolog.MTR{Start: c.pos, End: c.pos + innodb.LSN(n+tail), Records: records}
	c.raw, c.pos, c.end = c.raw[n+tail:], m.End, m.End
	return m, true
}

// scan steps over records from b[at] on to the byte that ends them: 0 or 1. It
// returns where that is, or where the record begins that b does not hold whole
// (StopShort) or that cannot be.
func scan(b []byte, at, limit int) (int, StopCause) {
	for at < len(b) {
		h := b[at]
		if h <= 1 {
			return at, 0
		}
		n := int(h & 15)
		if n == 0 {
			l, size, ok := longLength(b[at+1:])
			switch {
			case !ok:
				return at, StopRecord
			case size == 0:
				return at, StopShort
			}
			n = l
		}
		if at+1+n > limit {
			return at, StopTooLong
		}
		if at+1+n > len(b) {
			return at, StopShort
		}
		at += 1 + n
	}
	return at, StopShort
}

// longLength reads the length of a record that does not fit its first byte: a
// varint of 1 to 3 bytes, counted from 15 less those bytes. n is the length of
// all after the first byte, size that of the varint, 0 if b is cut short.
func longLength(b []byte) (n, size int, ok bool) {
	v, size, ok := varint(b)
	if size > 3 {
		return 0, 0, false
	}
	return int(v) + 15, size, ok
}

// varint decodes a number of 1 to 5 bytes. size is 0 if b is cut short; ok is
// false for what no number begins with, or for one beyond 32 bits.
func varint(b []byte) (v uint32, size int, ok bool) {
	if len(b) == 0 {
		return 0, 0, true
	}
	h := b[0]
	switch {
	case h < 0x80:
		return uint32(h), 1, true
	case h < 0xC0:
		if len(b) < 2 {
			return 0, 0, true
		}
		return 0x80 + (uint32(h&0x3F)<<8 | uint32(b[1])), 2, true
	case h < 0xE0:
		if len(b) < 3 {
			return 0, 0, true
		}
		return 0x4080 + (uint32(h&0x1F)<<16 | uint32(b[1])<<8 | uint32(b[2])), 3, true
	case h < 0xF0:
		if len(b) < 4 {
			return 0, 0, true
		}
		return 0x204080 + (binary.BigEndian.Uint32(b) & 0x0FFFFFFF), 4, true
	case h == 0xF0:
		if len(b) < 5 {
			return 0, 0, true
		}
		const base = 0x10204080
		v = binary.BigEndian.Uint32(b[1:])
		return v + base, 5, v <= 0xFFFFFFFF-base
	}
	return 0, 0, false
}
