package zstdstage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"

	"github.com/klauspost/compress/zstd"

	"hb/stream/ranges"
	"hb/stream/stage"
)

// maxTable bounds a seek table that is read, in bytes: enough for 20 TiB of hb's frames.
// An archive that has a larger one is read from front to back.
const maxTable = 128 << 20

// zstdAt reads a zstd stage by its seek table, whoever wrote it. Each frame has to
// have a checksum of its content; otherwise the archive's own checksums show damage.
type zstdAt struct {
	in     stage.At
	frames []frameAt
	size   int64
	dec    *zstd.Decoder
	packed []byte
	plain  []byte // content of a frame
	held   int    // which one; -1: none
}

// frameAt is a frame with content.
type frameAt struct {
	off, at       int64 // of the frame in the input, of its content in the output
	packed, plain uint32
}

func (f *frameAt) end() int64 { return f.at + int64(f.plain) }

// NewAt returns ErrNotSeekable if there is no seek table, or none that can be right.
func NewAt(in stage.At) (stage.At, error) {
	table, err := readTable(in)
	if err != nil {
		return nil, err
	}
	z := &zstdAt{in: in, held: -1, plain: make([]byte, 0, MaxBlock)}
	step := tableEntrySize
	if table[len(table)-5]&tableSums == 0 {
		step -= 4
	}
	off := int64(0)
	for e := table[skipHead : len(table)-tableFooterSize]; len(e) > 0; e = e[step:] {
		f := frameAt{off, z.size, binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])}
		if f.plain > MaxBlock || f.plain > 0 && f.packed > maxBlockFrame {
			return nil, stage.ErrNotSeekable
		}
		if off, z.size = off+int64(f.packed), z.size+int64(f.plain); f.plain > 0 {
			z.frames = append(z.frames, f)
		}
	}
	if off != in.Size()-int64(len(table)) {
		return nil, stage.ErrNotSeekable
	}
	z.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBlock), zstd.WithDecodeAllCapLimit(true))
	return z, err
}

// readTable reads the table at the end of the input.
func readTable(in stage.At) ([]byte, error) {
	foot := make([]byte, tableFooterSize)
	if in.Size() < skipHead+tableFooterSize {
		return nil, stage.ErrNotSeekable
	}
	if _, err := stage.ReadFull(in, foot, in.Size()-tableFooterSize); err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	entry := int64(tableEntrySize)
	if foot[4]&tableSums == 0 {
		entry -= 4
	}
	size := skipHead + entry*int64(binary.LittleEndian.Uint32(foot)) + tableFooterSize
	if binary.LittleEndian.Uint32(foot[5:]) != tableEndMagic || foot[4]&tableReserved != 0 || size > min(maxTable, in.Size()) {
		return nil, stage.ErrNotSeekable
	}
	table := make([]byte, size)
	if _, err := stage.ReadFull(in, table, in.Size()-size); err != nil {
		return nil, fmt.Errorf("zstd: %w", err)
	}
	if string(table[:4]) != string(tableMagic) || int64(binary.LittleEndian.Uint32(table[4:])) != size-skipHead {
		return nil, stage.ErrNotSeekable
	}
	return table, nil
}

func (z *zstdAt) Size() int64 { return z.size }

// frame returns the number of the frame that an offset is in.
func (z *zstdAt) frame(off int64) int {
	return sort.Search(len(z.frames), func(i int) bool { return z.frames[i].end() > off })
}

func (z *zstdAt) Plan(spans []ranges.Span) {
	var below []ranges.Span
	for _, s := range spans {
		if s.Len <= 0 || s.End() > z.size {
			continue
		}
		first, last := z.frames[z.frame(s.Off)], z.frames[z.frame(s.End()-1)]
		below = append(below, ranges.Span{Off: first.off, Len: last.off + int64(last.packed) - first.off})
	}
	z.in.Plan(below)
}

func (z *zstdAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("negative offset %d", off)
	}
	total := 0
	for total < len(p) {
		i := z.frame(off)
		if i == len(z.frames) {
			return total, io.EOF
		}
		if err := z.load(i); err != nil {
			return total, err
		}
		n := copy(p[total:], z.plain[off-z.frames[i].at:])
		total, off = total+n, off+int64(n)
	}
	return total, nil
}

// load decompresses a frame.
func (z *zstdAt) load(i int) (err error) {
	if z.held == i {
		return nil
	}
	z.held = -1
	f := z.frames[i]
	if cap(z.packed) < int(f.packed) {
		z.packed = make([]byte, maxBlockFrame)
	}
	z.packed = z.packed[:f.packed]
	if _, err := stage.ReadFull(z.in, z.packed, f.off); err != nil {
		if stage.IsDamage(err) {
			return err
		}
		return fmt.Errorf("zstd: %w", err)
	}
	if z.plain, err = z.dec.DecodeAll(z.packed, z.plain[:0]); err != nil {
		return &stage.DamageError{Stage: "zstd", Err: err}
	}
	if len(z.plain) != int(f.plain) {
		return &stage.DamageError{Stage: "zstd", Err: errors.New("a frame does not hold what the seek table says")}
	}
	z.held = i
	return nil
}
