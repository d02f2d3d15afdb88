package innodb

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Where the header of a page of MySQL's COMPRESSION='zlib' or 'lz4' (5.7 and later,
// type TypePacked) keeps what. Its checksum is that of the plain page, and the rest
// of the page is a hole. (fil0types.h, Compression::deserialize in os0file.cc.)
const (
	packedVersion   = OffsetFlushLSN     // 1 or 2
	packedAlgorithm = OffsetFlushLSN + 1 // CompressZlib or CompressLZ4
	packedType      = OffsetFlushLSN + 2 // of the plain page
	packedPlain     = OffsetFlushLSN + 4 // bytes after the header when plain
	packedStored    = OffsetFlushLSN + 6 // and as they are stored
)

// TypePacked is the type of a page that MySQL stores compressed.
const TypePacked PageType = 14

// Packed reports whether a page is stored compressed by MySQL.
func (s *Space) Packed(page []byte) bool {
	return !s.FullCRC32 && !s.Zip() && HeaderType(page) == TypePacked
}

// Unpack puts the plain form of such a page into plain, of the same size, as the
// server has it in memory: the header's fields about the compression stay there.
func Unpack(plain, page []byte) error {
	version := page[packedVersion]
	n, stored := binary.BigEndian.Uint16(page[packedPlain:]), int(binary.BigEndian.Uint16(page[packedStored:]))
	body := page[OffsetBody:]
	if version < 1 || version > 2 || int(n) != len(body) || stored > len(body) {
		return fmt.Errorf("compressed page: version %d, %d bytes stored for %d", version, stored, n)
	}
	var err error
	switch algorithm := Compression(page[packedAlgorithm]); algorithm {
	case CompressZlib:
		err = inflate(plain[OffsetBody:], body[:stored])
	case CompressLZ4:
		err = DecodeLZ4(plain[OffsetBody:], body[:stored])
	default:
		err = fmt.Errorf("algorithm %d", algorithm)
	}
	if err != nil {
		return fmt.Errorf("compressed page: %w", err)
	}
	copy(plain, page[:OffsetBody])
	copy(plain[OffsetType:], page[packedType:packedType+2])
	return nil
}

func inflate(dst, src []byte) error {
	r, err := zlib.NewReader(bytes.NewReader(src))
	if err != nil {
		return fmt.Errorf("zlib: %w", err)
	}
	if _, err := io.ReadFull(r, dst); err != nil {
		return fmt.Errorf("zlib: %w", err)
	}
	return nil
}

var errLZ4 = errors.New("lz4: damaged block")

// DecodeLZ4 decodes one LZ4 block, which must fill dst exactly: sequences of a
// token, literals and a copy of earlier output; the last has no copy.
func DecodeLZ4(dst, src []byte) error {
	out := 0
	for len(src) > 0 {
		token := src[0]
		n, rest, ok := lz4Length(int(token>>4), src[1:])
		if !ok || n > len(rest) || n > len(dst)-out {
			return errLZ4
		}
		out += copy(dst[out:], rest[:n])
		if src = rest[n:]; len(src) == 0 {
			break
		}
		if len(src) < 2 {
			return errLZ4
		}
		distance := int(binary.LittleEndian.Uint16(src))
		n, src, ok = lz4Length(int(token&15), src[2:])
		n += 4
		if !ok || distance == 0 || distance > out || n > len(dst)-out {
			return errLZ4
		}
		for end := out + n; out < end; out++ { // byte by byte: it may overlap
			dst[out] = dst[out-distance]
		}
	}
	if out != len(dst) {
		return fmt.Errorf("lz4: %d bytes, want %d", out, len(dst))
	}
	return nil
}

// lz4Length extends a length of 15 by the bytes that follow.
func lz4Length(n int, src []byte) (int, []byte, bool) {
	if n < 15 {
		return n, src, true
	}
	for i, b := range src {
		n += int(b)
		if b < 255 {
			return n, src[i+1:], n <= MaxPageSize
		}
	}
	return 0, nil, false
}
