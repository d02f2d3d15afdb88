package mariadbredo

import (
	"fmt"
	"io"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/redolog"
)

// Geometry maps an LSN to the offset of its byte in a log file.
type Geometry struct {
	Format Format
	// First is an LSN whose byte lies at FirstOffset.
	First       innodb.LSN
	FirstOffset int64
	// Capacity is the number of log bytes that the file holds before it comes
	// around: the LSNs L and L+Capacity share their place. 0: the log is
	// linear, as in a backup, and does not come around.
	Capacity int64
	// Crypt is of an encrypted log, and Cipher decrypts it; nil: there is no key.
	Crypt  Crypt
	Cipher Cipher
}

// LiveGeometry is that of a server's own log file of size bytes with that
// header and (any valid) checkpoint.
func LiveGeometry(h Header, c Checkpoint, size int64) (Geometry, error) {
	f := h.Format.Facts()
	g := Geometry{Format: h.Format, First: h.FirstLSN, FirstOffset: f.HeaderSize, Capacity: size - f.HeaderSize, Crypt: h.Crypt}
	if h.Format == Format105 {
		// Where LSN 0 would lie is nowhere but in the checkpoint. A copier may
		// need blocks before it, so everything is counted from whole blocks.
		g.First = c.LSN &^ (blockSize - 1)
		g.FirstOffset = int64(c.Offset &^ (blockSize - 1))
		g.Capacity &^= blockSize - 1
		g.Crypt = c.Crypt
	}
	if g.Capacity <= 0 || g.FirstOffset < f.HeaderSize || g.FirstOffset >= size {
		return Geometry{}, fmt.Errorf("the redo log of %d bytes is too small for its checkpoint (LSN %d at offset %d)",
			size, c.LSN, c.Offset)
	}
	return g, nil
}

// LinearGeometry is that of a backup's log file.
func LinearGeometry(h Header, c Checkpoint) Geometry {
	f := h.Format.Facts()
	g := Geometry{Format: h.Format, First: h.FirstLSN, FirstOffset: f.HeaderSize, Crypt: h.Crypt}
	if h.Format == Format105 {
		g.First = c.LSN &^ (blockSize - 1)
		g.Crypt = c.Crypt
	}
	return g
}

// Offset returns the file offset of the byte at lsn. In a linear log that of
// an LSN before First is negative or inside the header: there is no such byte.
func (g Geometry) Offset(lsn innodb.LSN) int64 {
	d := int64(lsn - g.First) // signed: an LSN before First is legitimate in a circle
	if g.Capacity == 0 {
		return g.FirstOffset + d
	}
	header := g.Format.Facts().HeaderSize
	d = (g.FirstOffset - header + d) % g.Capacity
	if d < 0 {
		d += g.Capacity
	}
	return header + d
}

// Contiguous returns how many log bytes can be read at Offset(lsn) before
// the file comes around. It is 0 for a linear log: no limit but the file's end.
func (g Geometry) Contiguous(lsn innodb.LSN) int64 {
	if g.Capacity == 0 {
		return 0
	}
	return g.Format.Facts().HeaderSize + g.Capacity - g.Offset(lsn)
}

// sequence returns the sequence byte of a mini-transaction in the 10.8+ format
// whose sequence byte lies at lsn.
func (g Geometry) sequence(lsn innodb.LSN) byte {
	if g.Capacity == 0 {
		return 1
	}
	return 1 ^ byte(uint64(lsn-g.First)/uint64(g.Capacity))&1
}

// Advance returns the LSN of the byte n bytes of records after the one at lsn:
// in the 10.5 format the headers and trailers of blocks lie between.
func (g Geometry) Advance(lsn innodb.LSN, n int) innodb.LSN {
	if g.Format != Format105 {
		return lsn + innodb.LSN(n)
	}
	return redolog.AdvanceIn(lsn, n, g.blockEnd())
}

// Payload returns n bytes of records, the first of which is at lsn, from log
// bytes that begin with that one. Records that are not in one piece there are put
// together in scratch, which must have room for n bytes.
func (g Geometry) Payload(log []byte, lsn innodb.LSN, n int, scratch []byte) ([]byte, error) {
	if g.Format != Format105 {
		if n > len(log) {
			return nil, io.ErrUnexpectedEOF
		}
		return log[:n:n], nil
	}
	return redolog.Payload(log, lsn, n, scratch)
}
