package mariadbredo

import (
	"encoding/binary"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/redolog"
)

// nextInBlocks cuts the 10.5 format.
func (c *Cutter) nextInBlocks() (redolog.MTR, bool) {
	if c.done {
		c.carry, c.done = c.carry[:0], false
	}
	for {
		if len(c.pay) > 0 {
			if m, ok := c.cutPayload(); ok || c.stop.Cause != 0 {
				return m, ok
			}
		}
		if !c.nextBlock() {
			return redolog.MTR{}, false
		}
	}
}

// cutPayload looks for the end of a mini-transaction in the payload at hand. If
// there is none and no reason to stop either, all of it went to carry.
func (c *Cutter) cutPayload() (redolog.MTR, bool) {
	if len(c.carry) > 0 {
		return c.cutCarry()
	}
	for c.pay[0] == 0 { // padding
		c.consume(1)
		if len(c.pay) == 0 {
			return redolog.MTR{}, false
		}
	}
	n, cause := scan(c.pay, 0, MaxMTR)
	switch cause {
	case 0:
		if c.pay[n] != 0 {
			return c.stopped(StopRecord, c.pos)
		}
		m := redolog.MTR{Start: c.pos, Records: c.pay[:n:n]}
		c.consume(n + 1)
		m.End, c.end = c.pos, c.pos
		return m, true
	case StopShort:
		c.carry = append(c.carry[:0], c.pay...)
		c.start, c.scanned = c.pos, n
		c.consume(len(c.pay))
		return redolog.MTR{}, false
	}
	return c.stopped(cause, c.pos)
}

// cutCarry goes on with a mini-transaction that began in an earlier block.
func (c *Cutter) cutCarry() (redolog.MTR, bool) {
	had := len(c.carry)
	c.carry = append(c.carry, c.pay...)
	n, cause := scan(c.carry, c.scanned, MaxMTR)
	switch {
	case cause == StopShort:
		c.scanned = n
		c.consume(len(c.pay))
		return redolog.MTR{}, false
	case cause == 0 && c.carry[n] == 0:
		m := redolog.MTR{Start: c.start, Records: c.carry[:n:n]}
		c.consume(n + 1 - had)
		m.End, c.end = c.pos, c.pos
		c.done = true
		return m, true
	case cause == 0:
		cause = StopRecord
	}
	c.carry = c.carry[:had]
	return c.stopped(cause, c.start)
}

// consume steps over n payload bytes. At the end of a full block the LSN goes
// on past the next block's header, at once: that is the end LSN of a
// mini-transaction that fills the block.
func (c *Cutter) consume(n int) {
	c.pay = c.pay[n:]
	c.pos += innodb.LSN(n)
	if len(c.pay) == 0 && c.full {
		c.pos += innodb.LSN(blockSize - c.geo.blockEnd() + blockHeader)
	}
}

// nextBlock takes the payload of the next block that was fed, if it is valid.
func (c *Cutter) nextBlock() bool {
	at := c.pos &^ (blockSize - 1)
	if len(c.raw) < blockSize {
		c.stop = Stop{Cause: StopShort, LSN: at}
		return false
	}
	b := c.raw[:blockSize]
	stop := c.geo.checkBlock(b, at)
	if c.geo.Crypt.Encrypted() && stop.Cause == 0 {
		c.plain = append(c.plain[:0], b...)
		b = c.plain
		stop = c.geo.open(b, at)
	}
	used := int(binary.BigEndian.Uint16(b[4:]))
	skip := int(c.pos - at) // bytes that an earlier reading of this block gave
	if stop.Cause == 0 && used < skip {
		stop = Stop{Cause: StopBlockUsed, LSN: at}
	}
	if stop.Cause != 0 {
		c.stop = stop
		return false
	}
	c.full = used == blockSize
	if c.full {
		used = c.geo.blockEnd()
	}
	c.pay = b[skip:used]
	if c.full {
		c.raw = c.raw[blockSize:]
		return true
	}
	if len(c.pay) == 0 {
		c.stop = Stop{Cause: StopPartialBlock, LSN: c.pos}
		return false
	}
	return true
}

// checkBlock checks number, CRC and, if it is in clear, length of the block at an LSN.
func (g Geometry) checkBlock(b []byte, at innodb.LSN) Stop {
	no := binary.BigEndian.Uint32(b) &^ redolog.BlockFlush
	want := redolog.BlockNumber(at)
	used := binary.BigEndian.Uint16(b[4:])
	switch {
	case no != want:
		return Stop{Cause: StopBlockNumber, LSN: at, Block: no, Want: want}
	case binary.BigEndian.Uint32(b[blockEnd:]) != innodb.CRC32C(b[:blockEnd]):
		return Stop{Cause: StopChecksum, LSN: at}
	case g.Crypt.Encrypted():
	case used < blockHeader, used >= blockEnd && used != blockSize:
		return Stop{Cause: StopBlockUsed, LSN: at}
	}
	return Stop{}
}
