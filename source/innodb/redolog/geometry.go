package redolog

import (
	"fmt"

	"hb/source/innodb"
)

// Geometry says at which offset of a log file the byte of an LSN lies.
type Geometry struct {
	Format Format
	// First is an LSN whose byte lies at FirstOffset.
	First       innodb.LSN
	FirstOffset int64
	// Capacity is the number of log bytes that the file holds before it comes
	// around: the LSNs L and L+Capacity share their place. 0: the log is
	// linear, as in a backup, and does not come around.
	Capacity int64
}

// LiveGeometry is that of a server's own log file of size bytes with that
// header and (any valid) checkpoint.
func LiveGeometry(h Header, c Checkpoint, size int64) (Geometry, error) {
	f := h.Format.Facts()
	g := Geometry{Format: h.Format, First: h.FirstLSN, FirstOffset: f.HeaderSize, Capacity: size - f.HeaderSize}
	if h.Format == MariaDB105 {
		// Where LSN 0 would lie is nowhere but in the checkpoint. A copier may
		// need blocks before it, so everything is counted from whole blocks.
		g.First = c.LSN &^ (blockSize - 1)
		g.FirstOffset = int64(c.Offset &^ (blockSize - 1))
		g.Capacity &^= blockSize - 1
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
	g := Geometry{Format: h.Format, First: h.FirstLSN, FirstOffset: f.HeaderSize}
	if h.Format == MariaDB105 {
		g.First = c.LSN &^ (blockSize - 1)
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

// Contiguous returns how many log bytes can be read from Offset(lsn) on before
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
