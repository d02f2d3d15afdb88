package zstdstage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
)

// seekTable is the seek table of zstd's seekable format (zstd's
// contrib/seekable_format/zstd_seekable_compression_format.md, version 0.1.0), for
// the frames of a blockWriter. It is a skippable frame at the end of the stage:
//
//	0x184D2A5E, length of the rest          4, 4
//	for each frame, skippable ones too:     its length, that of its content, and the
//	                                        last 32 bits of the content's XXH64: 4, 4, 4
//	number of frames, 0x80, 0x8F92EAB1      4, 1, 4
//
// The checksum is also the last of a frame itself, from where it is taken.
type seekTable struct{ frames []tableEntry }

// tableEntry is a frame that holds content.
type tableEntry struct{ packed, plain, sum uint32 }

const (
	tableEntrySize  = 12
	tableFooterSize = 9
	tableSums       = 0x80 // in the descriptor: entries have checksums
	tableReserved   = 0x7c // bits of the descriptor that must be 0
	// tableEndMagic ends the table.
	tableEndMagic = 0x8F92EAB1
	// emptySum is the XXH64 of nothing, its last 32 bits.
	emptySum = 0x51D8E999
)

// tableMagic begins the table.
var tableMagic = []byte("\x5e\x2a\x4d\x18")

// add enters the next frame, whose content has a number of bytes, and with it the
// skippable one before it.
func (t *seekTable) add(frame []byte, plain int) {
	sum := binary.LittleEndian.Uint32(frame[len(frame)-4:])
	t.frames = append(t.frames, tableEntry{uint32(len(frame)), uint32(plain), sum})
}

// frame returns the table as it is stored.
func (t *seekTable) frame() ([]byte, error) {
	entries := 1 + 2*len(t.frames) + 1
	size := int64(entries)*tableEntrySize + tableFooterSize
	if size > math.MaxUint32 {
		return nil, errors.New("the archive is too large for zstd's seek table")
	}
	b := make([]byte, 0, skipHead+size)
	number := func(n uint32) { b = binary.LittleEndian.AppendUint32(b, n) }
	entry := func(packed, plain, sum uint32) { number(packed); number(plain); number(sum) }
	b = append(b, tableMagic...)
	number(uint32(size))
	entry(uint32(len(blocksBegin)), 0, emptySum)
	for _, f := range t.frames {
		entry(skipFrame, 0, emptySum)
		entry(f.packed, f.plain, f.sum)
	}
	entry(uint32(len(blocksEnd)), 0, emptySum)
	number(uint32(entries))
	b = append(b, tableSums)
	number(tableEndMagic)
	return b, nil
}

// endsInTable reports whether a stage that ends so is of a blockWriter: the last entry
// of its table is of its end.
func endsInTable(tail []byte) bool {
	const n = tableEntrySize + tableFooterSize
	if len(tail) < n {
		return false
	}
	tail = tail[len(tail)-n:]
	own, err := new(seekTable).frame()
	own = own[len(own)-n:]
	return err == nil && bytes.Equal(tail[:tableEntrySize], own[:tableEntrySize]) && bytes.Equal(tail[tableEntrySize+4:], own[tableEntrySize+4:])
}
