package xbstream

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
)

// readS reads the rest of an S chunk after its path, in any dialect.
func (r *Reader) readS() error {
	dialect := r.opts.Dialect
	if dialect == AnyDialect {
		var err error
		if dialect, err = r.sniffS(); err != nil {
			return err
		}
	}
	if dialect == MariaDB {
		return r.readSeek()
	}
	return r.readSparse()
}

// sniffS looks at the bytes after an S chunk's path. After MariaDB's offset the
// next chunk, or nothing, follows; read as Percona's the same bytes would
// promise a length beyond any bound. What is not SEEK must prove itself as a
// sparse payload by its bounds and its checksum.
func (r *Reader) sniffS() (Dialect, error) {
	const seekSize = 8
	p, err := r.r.Peek(seekSize + len(magic))
	if err != nil && err != io.EOF {
		return AnyDialect, fmt.Errorf("reading the archive at byte %d: %w", r.pos, err)
	}
	if len(p) == seekSize || len(p) == seekSize+len(magic) && string(p[seekSize:]) == magic {
		return MariaDB, nil
	}
	return Percona, nil
}

// readSeek reads MariaDB's SEEK. It may go back: the header of an Aria log is
// written after the rest.
func (r *Reader) readSeek() error {
	f := r.fields[:8]
	if err := r.readFull(f, "a seek"); err != nil {
		return err
	}
	offset := binary.LittleEndian.Uint64(f)
	if offset > MaxFile {
		return r.corrupt("seek offset", fmt.Sprintf("at most %d", uint64(MaxFile)), fmt.Sprint(offset))
	}
	c := &r.chunk
	c.Type = Seek
	if _, isOpen := r.open[c.Path]; !isOpen {
		if err := r.openFile(c.Flags&flagRewrite != 0); err != nil {
			return err
		}
	}
	c.Offset = int64(offset)
	r.open[c.Path] = int64(offset)
	r.opts.Dialect = MariaDB
	return nil
}

// readSparse reads Percona's sparse payload.
func (r *Reader) readSparse() error {
	f := r.fields[:sparseSize]
	if err := r.readFull(f, "a sparse payload's head"); err != nil {
		return err
	}
	count := binary.LittleEndian.Uint32(f)
	length, offset, want := payloadFields(f[4:])
	if count > MaxSparse {
		return r.corrupt("entries of the sparse map", fmt.Sprintf("at most %d", MaxSparse), fmt.Sprint(count))
	}
	if err := r.checkExtent(length, offset); err != nil {
		return err
	}
	span, crc, err := r.readSparseMap(int(count), length)
	if err != nil {
		return err
	}
	if span > MaxFile || offset > MaxFile-span {
		return r.corrupt("sparse payload reaches too far", "", "")
	}
	if err := r.begin(offset, span); err != nil {
		return err
	}
	if err := r.readData(int(length), want, crc); err != nil {
		return err
	}
	r.opts.Dialect = Percona
	return nil
}

// readSparseMap reads count entries, which must spread length bytes of data.
// It returns how far data and holes reach together, and the map's CRC.
func (r *Reader) readSparseMap(count int, length uint64) (span uint64, crc uint32, err error) {
	r.raw = grow(r.raw, count*8)
	if err := r.readFull(r.raw, "a sparse map"); err != nil {
		return 0, 0, err
	}
	var data uint64
	extents := make([]Extent, count)
	for i := range extents {
		e := Extent{
			Skip: binary.LittleEndian.Uint32(r.raw[i*8:]),
			Len:  binary.LittleEndian.Uint32(r.raw[i*8+4:]),
		}
		// At most MaxSparse entries of less than 2^33 each: no overflow.
		data += uint64(e.Len)
		span += uint64(e.Skip) + uint64(e.Len)
		extents[i] = e
	}
	if data != length {
		return 0, 0, r.corrupt("the sparse map does not cover the payload", fmt.Sprint(length), fmt.Sprint(data))
	}
	r.chunk.Sparse = extents
	return span, crc32.ChecksumIEEE(r.raw), nil
}

// grow returns b with length n, reallocated if it is too small.
func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
