package xbstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"
)

// An index lists an archive's chunks in their order, from which follows where each
// of them lies: chunks follow one another, beginning at byte 0, and those of one
// file in the order of their offsets. So it lists neither positions nor offsets,
// and cannot state ranges that overlap or leave a gap.
//
//	"hbindex" 0x01                      magic, version 1
//	a number for each chunk:            slot<<2 | kind
//	  kind 0: payload, as long as the slot's last one
//	  kind 1: payload; its length follows as a number
//	  kind 2: end of the file
//
// Numbers are unsigned LEB128. A file has a slot from its first chunk to its end.
// A chunk in an empty slot begins the next file, which takes the slot that came
// free last, or else a new one, the lowest number that no slot has. Files are
// numbered in the order of their ends: names are in the manifest, in that order.
// A chunk of a large file takes 1 byte, a small file about 4.
const indexMagic = "hbindex\x01"

const (
	indexSame = iota
	indexPayload
	indexEnd
	indexKinds = 4
)

const (
	// MaxIndex bounds an index in bytes: enough for some 25 TiB in chunks of
	// 1 MiB. A larger archive has none.
	MaxIndex = 32 << 20
	// maxSlots bounds how many files may be open at once in an archive that has
	// an index.
	maxSlots = 64 << 10
)

// Indexer makes the index of an archive from its chunks, as they are written or
// read. The zero value is ready to use.
type Indexer struct {
	buf   []byte
	slots map[string]int // of open files
	sizes []uint64       // last payload of each slot, in bytes
	free  []int          // empty slots, the last one freed at the end
	over  bool           // the archive can have no index
}

// Payload enters a payload chunk of n bytes.
func (x *Indexer) Payload(path string, n int) {
	slot := x.slot(path)
	if x.over {
		return
	}
	if x.sizes[slot] == uint64(n) {
		x.number(uint64(slot)*indexKinds + indexSame)
		return
	}
	x.sizes[slot] = uint64(n)
	x.number(uint64(slot)*indexKinds + indexPayload)
	x.number(uint64(n))
}

// End enters the end of a file.
func (x *Indexer) End(path string) {
	slot := x.slot(path)
	if x.over {
		return
	}
	x.number(uint64(slot)*indexKinds + indexEnd)
	delete(x.slots, path)
	x.free = append(x.free, slot)
}

func (x *Indexer) number(n uint64) {
	x.buf = binary.AppendUvarint(x.buf, n)
	x.over = len(x.buf) > MaxIndex
}

// slot returns the file's slot, which it may get now.
func (x *Indexer) slot(path string) int {
	if x.buf == nil {
		x.buf, x.slots = append(x.buf, indexMagic...), make(map[string]int)
	}
	slot, open := x.slots[path]
	switch n := len(x.free); {
	case open || x.over:
		return slot
	case n > 0:
		slot, x.free = x.free[n-1], x.free[:n-1]
	default:
		slot = len(x.sizes)
		x.sizes = append(x.sizes, 0)
		x.over = slot >= maxSlots
	}
	x.slots[path] = slot
	return slot
}

// Bytes returns the index of the chunks so far, which all files must have ended
// in. ok is false if the archive is too large for one.
func (x *Indexer) Bytes() (index []byte, ok bool) { return x.buf, !x.over && len(x.slots) == 0 }

// Index is an index that has been read. Its statements about the archive are claims:
// whoever reads a chunk by it compares the two.
type Index struct {
	ops   []byte
	ended []int32 // by the order in which files begin: the number of the file
}

// IndexedChunk is where a chunk lies.
type IndexedChunk struct {
	File   int   // number of the file, in the order of their ends
	Type   Type  // Payload or End
	At     int64 // of the chunk's head, in the archive
	Size   int64 // of the whole chunk, bytes
	Offset int64 // of the data, in the file; of End: the file's size
	Len    int64 // of the data
}

// ReadPayload reads the data of a payload chunk of a file from the archive, into memory of
// c.Len bytes, and returns its CRC-32. Every byte of the chunk is proven: those of its
// head by the index and the path, and the data by their checksum. Anything else is a
// *CorruptError.
func (c *IndexedChunk) ReadPayload(archive io.ReaderAt, path string, data []byte) (crc uint32, err error) {
	want := newHead(path)
	fields := want[headSize+len(path):]
	binary.LittleEndian.PutUint64(fields, uint64(c.Len))
	binary.LittleEndian.PutUint64(fields[8:], uint64(c.Offset))
	head := make([]byte, len(want))
	for _, part := range []struct {
		b  []byte
		at int64
	}{{head, c.At}, {data[:c.Len], c.At + int64(len(head))}} {
		if n, err := archive.ReadAt(part.b, part.at); n < len(part.b) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, fmt.Errorf("reading the archive at byte %d: %w", part.at+int64(n), err)
		}
	}
	crc = crc32.ChecksumIEEE(data[:c.Len])
	binary.LittleEndian.PutUint32(fields[16:], crc)
	switch sum := head[len(head)-4:]; {
	case !bytes.Equal(head[:len(head)-4], want[:len(want)-4]):
		return 0, &CorruptError{Path: path, Offset: c.At, Reason: "the index says that another chunk is here"}
	case !bytes.Equal(sum, fields[16:]):
		return 0, &CorruptError{Path: path, Offset: c.At, Reason: "checksum of the data",
			Want: fmt.Sprintf("%08x", binary.LittleEndian.Uint32(sum)), Got: fmt.Sprintf("%08x", crc)}
	}
	return crc, nil
}

// ParseIndex reads an index of at most MaxIndex bytes, which it keeps.
func ParseIndex(b []byte) (*Index, error) {
	switch {
	case len(b) > MaxIndex:
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(b), MaxIndex)
	case len(b) < len(indexMagic) || string(b[:len(indexMagic)]) != indexMagic:
		return nil, fmt.Errorf("it begins with %q", b[:min(len(b), len(indexMagic))])
	}
	x := &Index{ops: b[len(indexMagic):]}
	var w indexWalk
	for rest := x.ops; len(rest) > 0; {
		op, n, err := w.next(rest)
		if err != nil {
			return nil, fmt.Errorf("entry at byte %d: %w", len(b)-len(rest), err)
		}
		rest = rest[n:]
		if op.first {
			x.ended = append(x.ended, 0)
		}
		if op.Type == End {
			x.ended[op.begun] = int32(op.File)
		}
	}
	if w.open > 0 {
		return nil, fmt.Errorf("%d files do not end", w.open)
	}
	return x, nil
}

// Files returns how many files there are.
func (x *Index) Files() int { return len(x.ended) }

// Chunks yields all chunks in their order. path returns a file's path by its
// number; Files must be right for it.
func (x *Index) Chunks(path func(file int) string) iter.Seq[IndexedChunk] {
	return func(yield func(IndexedChunk) bool) {
		var w indexWalk
		at := int64(0)
		for rest := x.ops; len(rest) > 0; {
			op, n, err := w.next(rest)
			if err != nil {
				return // ParseIndex found none
			}
			rest = rest[n:]
			c := op.IndexedChunk
			c.File, c.At = int(x.ended[op.begun]), at
			c.Size = int64(headSize+len(path(c.File))) + c.Len
			if c.Type == Payload {
				c.Size += payloadSize
			}
			at += c.Size
			if !yield(c) {
				return
			}
		}
	}
}

// indexWalk goes over the entries of an index.
type indexWalk struct {
	slots []indexSlot
	free  []int
	open  int // files
	begun int // files
	ended int // files
}

// indexSlot is a slot, empty or not.
type indexSlot struct {
	full  bool
	begun int    // number of its file, in the order in which files begin
	size  uint64 // of its last payload
	end   int64  // of its file, so far
}

// indexOp is an entry. File is right in an End only, where At and Size are not.
type indexOp struct {
	IndexedChunk
	begun int
	first bool
}

// next reads the entry that b begins with, and its length.
func (w *indexWalk) next(b []byte) (op indexOp, n int, err error) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return op, 0, errors.New("it is cut, or no number")
	}
	slot, err := w.slot(v/indexKinds, &op)
	if err != nil {
		return op, 0, err
	}
	op.begun, op.Type, op.Offset = slot.begun, Payload, slot.end
	switch v % indexKinds {
	case indexPayload:
		size, m := binary.Uvarint(b[n:])
		if m <= 0 {
			return op, 0, errors.New("its length is cut, or no number")
		}
		n += m
		slot.size = size
	case indexSame:
	case indexEnd:
		op.Type, op.File = End, w.ended
		slot.full = false
		w.ended++
		w.open--
		w.free = append(w.free, int(v/indexKinds))
		return op, n, nil
	default:
		return op, 0, fmt.Errorf("unknown kind %d", v%indexKinds)
	}
	if slot.size == 0 || slot.size > MaxPayload || slot.end > MaxFile-int64(slot.size) {
		return op, 0, fmt.Errorf("a chunk of %d bytes at offset %d", slot.size, slot.end)
	}
	op.Len = int64(slot.size)
	slot.end += op.Len
	return op, n, nil
}

// slot returns a slot that is full, if need be with the next file.
func (w *indexWalk) slot(number uint64, op *indexOp) (*indexSlot, error) {
	if number < uint64(len(w.slots)) && w.slots[number].full {
		return &w.slots[number], nil
	}
	next := len(w.slots)
	if n := len(w.free); n > 0 {
		next, w.free = w.free[n-1], w.free[:n-1]
	} else if next < maxSlots {
		w.slots = append(w.slots, indexSlot{})
	}
	switch {
	case number != uint64(next):
		return nil, fmt.Errorf("slot %d, where the next file has slot %d", number, next)
	case next >= maxSlots:
		return nil, fmt.Errorf("more than %d files are open at once", maxSlots)
	case w.begun >= MaxFiles:
		return nil, fmt.Errorf("more than %d files", MaxFiles)
	}
	slot := &w.slots[next]
	slot.full, slot.begun, slot.end = true, w.begun, 0
	op.first = true
	w.begun++
	w.open++
	return slot, nil
}
