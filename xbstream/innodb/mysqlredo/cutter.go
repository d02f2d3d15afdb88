package mysqlredo

import (
	"encoding/binary"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
)

// StopCause is why a Cutter found no further mini-transaction.
type StopCause uint8

// The causes. In the log of a live server StopShort to StopSealed can simply
// be the end of what has been written so far.
const (
	// StopShort: the blocks fed end before the mini-transaction does.
	StopShort StopCause = iota + 1
	// StopPartialBlock: a valid block that is not full: the last one.
	StopPartialBlock
	// StopBlockNumber: the block is of another lap.
	StopBlockNumber
	// StopStale: by its checkpoint number the block is 512 GiB older than the
	// one before (up to 8.0.29).
	StopStale
	// StopChecksum: wrong checksum; perhaps the block is being written.
	StopChecksum
	// StopSealed: no key makes of the encrypted block one with the right checksum;
	// perhaps the block is being written.
	StopSealed
	// StopUnsummed: the block has no checksum, or not as the ones before.
	StopUnsummed
	// StopEncrypted: the block is encrypted, and there is no key.
	StopEncrypted
	// StopBlockUsed: the lengths in the block's header cannot be.
	StopBlockUsed
	// StopRecord: a record that cannot be.
	StopRecord
	// StopTooLong: longer than a mini-transaction can be.
	StopTooLong
)

// Stop is where and why cutting stopped.
type Stop struct {
	Cause StopCause
	// LSN of the mini-transaction that could not be cut, or of the block that
	// was not accepted.
	LSN innodb.LSN
	// Block is the number that was found, Want the one expected, and Epoch the
	// epoch found (8.0.30 and later), for StopBlockNumber. Newer: the block is
	// of a later lap, which means that this LSN is lost.
	Block, Want, Epoch uint32
	Newer              bool
	// Offset is where in the mini-transaction's payload the record begins that
	// Err is about, for StopRecord.
	Offset int
	Err    error
}

// Fatal reports whether no later reading of the same place can do better.
func (s Stop) Fatal() bool { return s.Newer || s.Cause >= StopUnsummed }

// Short reports that the blocks fed end before the mini-transaction does.
func (s Stop) Short() bool { return s.Cause == StopShort }

// InOrder reports whether a log that nothing is wrong with may end so, in the
// middle of a mini-transaction or not.
func (s Stop) InOrder() bool { return s.Cause == StopShort || s.Cause == StopPartialBlock }

var stopText = [...]string{
	StopShort:        "the log ends inside a mini-transaction",
	StopPartialBlock: "the log ends in a block that is not full",
	StopBlockNumber:  "wrong block number",
	StopStale:        "block of an earlier lap around the log",
	StopChecksum:     "wrong checksum of a block",
	StopSealed:       "an encrypted block that does not decrypt: the key is wrong, or the block is damaged",
	StopUnsummed:     "a block without a checksum: the server runs with innodb_log_checksums=OFF, or did; set it ON and wait for a checkpoint",
	StopEncrypted:    "the redo log is encrypted (innodb_redo_log_encrypt): hb cannot read it",
	StopBlockUsed:    "impossible lengths in the header of a block",
	StopRecord:       "malformed redo",
	StopTooLong:      "mini-transaction too long",
}

func (s Stop) Error() string {
	text := "no reason"
	if int(s.Cause) < len(stopText) && s.Cause > 0 {
		text = stopText[s.Cause]
	}
	switch s.Cause {
	case StopBlockNumber:
		return fmt.Sprintf("LSN %d: %s: %d (epoch %d) instead of %d", s.LSN, text, s.Block, s.Epoch, s.Want)
	case StopRecord:
		return fmt.Sprintf("LSN %d: %s: at byte %d of the mini-transaction: %v", s.LSN, text, s.Offset, s.Err)
	}
	return fmt.Sprintf("LSN %d: %s", s.LSN, text)
}

func (s Stop) Unwrap() error { return s.Err }

// Cutter cuts log blocks into mini-transactions:
//
//	c := NewCutter(header.Format, checkpoint.LSN)
//	for {
//		c.Feed(blocks of the log from LSN c.Position() on)
//		for m, ok := c.Next(); ok; m, ok = c.Next() { … }
//		// c.Stop() says why no more; c.End() is the end of the last one.
//	}
//
// The blocks fed are consecutive: whoever reads a ring unwraps it. Feed may be
// called again at any time with a newer reading of the same place. It does not
// allocate, except for mini-transactions that span blocks (one buffer, reused).
type Cutter struct {
	// Settled: nobody writes the log any more. Then a log without checksums can be
	// read; in a live one a whole block looks like half a write.
	Settled bool
	// Ciphers decrypt encrypted blocks; none: such a block is StopEncrypted.
	Ciphers []BlockCipher

	cipher int // the one that decrypted the newest encrypted block
	plain  [blockSize]byte
	format Format
	start  innodb.LSN // records before it are not returned
	seek   bool       // where a mini-transaction begins is not known yet
	raw    []byte     // fed and not looked at yet
	pos    innodb.LSN // of the next payload byte
	end    innodb.LSN // of the last whole mini-transaction
	stop   Stop

	seen     bool   // a block has been accepted
	unsummed bool   // it had no checksum
	ckptNo   uint32 // in the header of the newest block (up to 8.0.29)

	pay     []byte     // payload of the current block not looked at yet; pos is its first byte's
	full    bool       // that block is full
	carry   []byte     // payload of a mini-transaction that began in an earlier block
	from    innodb.LSN // of carry[0]
	scanned int        // where the next record of carry begins
	need    int        // how long carry must be to see more of that record
	done    bool       // carry was handed out whole
}

// NewCutter returns a cutter that begins at a checkpoint. Since 8.0.3 that can
// be inside a mini-transaction, or a record: then cutting begins with the first
// mini-transaction that begins in the checkpoint's block or after it, and its
// records that begin before the checkpoint are left out (the server: their
// pages are on disk).
func NewCutter(f Format, checkpoint innodb.LSN) *Cutter {
	c := NewCutterAt(f, checkpoint)
	if f.midMTR() {
		c.seek = true
	}
	return c
}

// NewCutterAt returns a cutter that begins at the end of a mini-transaction.
func NewCutterAt(f Format, end innodb.LSN) *Cutter {
	end = redolog.Canonical(end)
	return &Cutter{format: f, start: end, pos: end, end: end}
}

// Position returns the LSN of the block that the next Feed must begin with.
func (c *Cutter) Position() innodb.LSN { return redolog.BlockOf(c.pos) }

// End returns the end of the last whole mini-transaction, or where the cutter
// began.
func (c *Cutter) End() innodb.LSN { return c.end }

// Seen returns the LSN up to which blocks were accepted: it may be inside a
// mini-transaction that is not whole yet.
func (c *Cutter) Seen() innodb.LSN { return c.pos }

// Stop returns why the last Next returned false.
func (c *Cutter) Stop() Stop { return c.stop }

// Unsummed reports whether the log has no checksums: damage would go unseen.
func (c *Cutter) Unsummed() bool { return c.unsummed }

// Clean reports whether a log that was shut down in order, or copied up to its
// last whole mini-transaction, could stop so: at the end of what was fed or of
// a block that is not full, with no mini-transaction begun.
func (c *Cutter) Clean() bool {
	switch c.stop.Cause {
	case StopShort:
		return !c.begun() && len(c.raw) == 0
	case StopPartialBlock:
		return !c.begun()
	}
	return false
}

// begun reports whether a mini-transaction has begun that is not whole yet.
func (c *Cutter) begun() bool { return len(c.carry) > 0 && !c.done }

// Feed gives the cutter the log's blocks from LSN Position() on, in place of the part
// that it had not looked at yet. They must not change until Next returned false.
func (c *Cutter) Feed(raw []byte) {
	c.raw, c.pay = raw, nil
	c.stop = Stop{}
}

// Next returns the next mini-transaction, or false: see Stop.
func (c *Cutter) Next() (redolog.MTR, bool) {
	for {
		for len(c.pay) > 0 {
			m, ok := c.cut()
			if c.stop.Cause != 0 {
				return redolog.MTR{}, false
			}
			if ok && c.trim(&m) {
				return m, true
			}
		}
		if !c.nextBlock() {
			return redolog.MTR{}, false
		}
	}
}

// cut looks for the end of a mini-transaction in the payload at hand. If there
// is none, all of it goes to carry.
func (c *Cutter) cut() (redolog.MTR, bool) {
	if c.done {
		c.carry, c.done = c.carry[:0], false
	}
	had, b, from := len(c.carry), c.pay, c.pos
	if had > 0 {
		c.carry = append(c.carry, c.pay...)
		if len(c.carry) < c.need { // nothing new to see in it
			c.consume(len(c.pay))
			return redolog.MTR{}, false
		}
		b, from = c.carry, c.from
	} else {
		c.scanned = 0
	}
	n, need, done, err := scan(b, c.scanned)
	switch {
	case err != nil:
		c.carry = c.carry[:had]
		c.stop = Stop{Cause: StopRecord, LSN: from, Offset: n, Err: err}
		return redolog.MTR{}, false
	case max(len(b), need) > MaxMTR:
		c.carry = c.carry[:had]
		c.stop = Stop{Cause: StopTooLong, LSN: from}
		return redolog.MTR{}, false
	case !done:
		if had == 0 {
			c.carry, c.from = append(c.carry, c.pay...), c.pos
		}
		c.scanned, c.need = n, need
		c.consume(len(c.pay))
		return redolog.MTR{}, false
	}
	c.consume(n - had)
	c.end = max(c.end, c.pos)
	c.done = had > 0
	if grouped(b) {
		n-- // the MultiRecEnd
	}
	return redolog.MTR{Start: from, End: c.pos, Records: b[:n:n]}, true
}

// grouped reports whether b begins with a group of records, which MultiRecEnd
// ends, and not with a single one.
func grouped(b []byte) bool {
	return b[0]&mlog.SingleBit == 0 && mlog.Type(b[0]) != mlog.Dummy && mlog.Type(b[0]) != mlog.CheckpointMark
}

// scan steps over records from b[at] on to the end of the mini-transaction that
// b begins with. Without one, next is where the record begins that b does not
// hold whole, or that cannot be, and need how long b must be to see more of it.
func scan(b []byte, at int) (next, need int, done bool, err error) {
	for at < len(b) {
		r, single, err := mlog.ParseRecord(b[at:])
		switch {
		case err == mlog.ErrShort:
			return at, at + r.Size, false, nil
		case err != nil:
			return at, 0, false, err
		case at > 0 && b[at]&mlog.SingleBit != 0:
			return at, 0, false, &mlog.RecordError{Type: r.Type, What: "is marked as a single record, inside a group"}
		}
		if r.Type == mlog.MultiRecEnd || at == 0 && single {
			return at + r.Size, 0, true, nil
		}
		at += r.Size
	}
	return at, at + 1, false, nil
}

// trim drops the records that begin before the start, which only the first
// mini-transactions after a checkpoint have. It reports whether any is left.
func (c *Cutter) trim(m *redolog.MTR) bool {
	if m.Start >= c.start {
		return true
	}
	at, lsn := 0, m.Start
	for lsn < c.start && at < len(m.Records) {
		r, _, err := mlog.ParseRecord(m.Records[at:])
		if err != nil {
			panic("mysqlredo: internal error: a record that was scanned does not parse")
		}
		at += r.Size
		lsn = redolog.Advance(m.Start, at)
	}
	m.Start, m.Records = lsn, m.Records[at:]
	return len(m.Records) > 0
}

// consume steps over n payload bytes. At the end of a full block the LSN goes
// on past the next block's header, at once: that is the end LSN of a
// mini-transaction that fills the block.
func (c *Cutter) consume(n int) {
	c.pay = c.pay[n:]
	c.pos += innodb.LSN(n)
	if len(c.pay) == 0 && c.full {
		c.pos += blockTrailer + blockHeader
	}
}

// nextBlock takes the payload of the next block that was fed, if it is valid.
func (c *Cutter) nextBlock() bool {
	for {
		at := c.Position()
		if len(c.raw) < blockSize {
			c.stop = Stop{Cause: StopShort, LSN: at}
			return false
		}
		var b []byte
		if b, c.stop = c.unseal(c.raw[:blockSize], at); c.stop.Cause != 0 {
			return false
		}
		if c.stop = c.check(b, at); c.stop.Cause != 0 {
			return false
		}
		used := int(binary.BigEndian.Uint16(b[offUsed:]))
		c.full = used == blockSize
		if c.full {
			used, c.raw = blockEnd, c.raw[blockSize:]
		}
		if c.seek && !c.sought(b, at, used) {
			if c.full {
				continue
			}
			return false
		}
		if c.pay = b[c.pos-at : used]; len(c.pay) > 0 {
			return true
		}
		c.stop = Stop{Cause: StopPartialBlock, LSN: c.pos}
		return false
	}
}

// sought looks in the block for the beginning of a mini-transaction, the first
// one after a checkpoint, and goes there.
func (c *Cutter) sought(b []byte, at innodb.LSN, used int) bool {
	first := binary.BigEndian.Uint16(b[offFirst:])
	if first != 0 && int(first) <= used {
		c.pos, c.seek = at+innodb.LSN(first), false
		return true
	}
	// All of it belongs to a mini-transaction that began earlier, which does not
	// count.
	if c.full {
		c.pos = at + blockSize + blockHeader
	} else {
		c.pos = max(c.pos, at+innodb.LSN(used))
		c.stop = Stop{Cause: StopPartialBlock, LSN: c.pos}
	}
	c.end = max(c.end, c.pos)
	return false
}

// check checks the block at an LSN, by itself and against those before.
func (c *Cutter) check(b []byte, at innodb.LSN) Stop {
	stop := checkBlock(c.format, b, at, c.Settled)
	if stop.Cause != 0 {
		return stop
	}
	if skip := int(c.pos - at); !c.seek && int(binary.BigEndian.Uint16(b[offUsed:])) < skip {
		// Less than an earlier reading of this block gave.
		return Stop{Cause: StopBlockUsed, LSN: at}
	}
	stored := binary.BigEndian.Uint32(b[blockEnd:])
	unsummed := stored == noChecksum && stored != checksum(c.format, b)
	if c.seen && unsummed != c.unsummed {
		return Stop{Cause: StopUnsummed, LSN: at}
	}
	if c.format.Ring() {
		no := binary.BigEndian.Uint32(b[offEpoch:])
		// It may step back a little: 5.7's recovery counts its checkpoint twice
		// for the first blocks that it writes. The server minds only this much.
		if c.seen && c.ckptNo > no && c.ckptNo-no > 1<<31 {
			return Stop{Cause: StopStale, LSN: at}
		}
		c.ckptNo = no
	}
	c.seen, c.unsummed = true, unsummed
	return Stop{}
}
