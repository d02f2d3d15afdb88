package innodb

import (
	"bytes"
	"compress/bzip2"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/therootcompany/xz"
)

// Where page_compressed pages keep what (fil0pagecompress.cc, fsp0types.h).
const (
	compFullData  = OffsetFlushLSN
	compAlgorithm = OffsetFlushLSN // other tablespaces: 8 bytes
	compLength    = OffsetBody
	compData      = OffsetBody + 2
)

// Compressed reports whether a page is stored compressed (MariaDB's
// page_compressed).
func (s *Space) Compressed(page []byte) bool {
	t := HeaderType(page)
	if s.FullCRC32 {
		return s.PageCompressed && t&fullCRC32Compressed != 0
	}
	return t == TypePageCompressed || t == TypePageCompEncr
}

// Decompress puts the plain form of a page_compressed page into plain, which
// has the page's size.
func (s *Space) Decompress(plain, page []byte) error {
	algorithm, data, err := compressedData(s, page)
	if err == nil {
		err = decompressData(algorithm, plain, data)
	}
	if err != nil {
		return fmt.Errorf("page_compressed page: %w", err)
	}
	// The header travels in both forms.
	if !bytes.Equal(plain[OffsetPageNo:OffsetType], page[OffsetPageNo:OffsetType]) {
		return errors.New("page_compressed page: its content is of another page")
	}
	return nil
}

func compressedData(s *Space, page []byte) (Compression, []byte, error) {
	if !s.FullCRC32 {
		if HeaderType(page) != TypePageCompressed {
			return 0, nil, errors.New("it is encrypted")
		}
		algorithm := binary.BigEndian.Uint64(page[compAlgorithm:])
		n := int(binary.BigEndian.Uint16(page[compLength:]))
		if algorithm > uint64(CompressSnappy) || n > len(page)-compData {
			return 0, nil, fmt.Errorf("algorithm %d, %d bytes", algorithm, n)
		}
		return Compression(algorithm), page[compData : compData+n], nil
	}
	stored := int(HeaderType(page)&0xFF) << 8
	if stored == 0 || stored > len(page) {
		return 0, nil, fmt.Errorf("stored size %d", stored)
	}
	end := stored - 4
	switch s.Compression {
	case CompressLZ4, CompressLZO, CompressSnappy:
		// These do not record where they end: the byte before the checksum is the
		// low byte of the data's end, plus 5.
		low := int(page[stored-5])
		if low == 0 {
			low = 256
		}
		end = stored - 256 + low - 5
	}
	if end <= compFullData {
		return 0, nil, fmt.Errorf("stored size %d", stored)
	}
	return s.Compression, page[compFullData:end], nil
}

func decompressData(algorithm Compression, plain, data []byte) error {
	switch algorithm {
	case CompressZlib:
		r, err := zlib.NewReader(bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("zlib: %w", err)
		}
		return readWhole(r, plain)
	case CompressBzip2:
		return readWhole(bzip2.NewReader(bytes.NewReader(data)), plain)
	case CompressSnappy:
		if n, err := snappy.DecodedLen(data); err != nil || n != len(plain) {
			return fmt.Errorf("snappy: it has %d bytes, want %d", n, len(plain))
		}
		if _, err := snappy.Decode(plain, data); err != nil {
			return fmt.Errorf("snappy: %w", err)
		}
		return nil
	case CompressLZ4:
		return DecodeLZ4(plain, data)
	case CompressLZO:
		return decodeLZO(plain, data)
	case CompressLZMA:
		r, err := xz.NewReader(bytes.NewReader(data), xz.DefaultDictMax)
		if err != nil {
			return fmt.Errorf("lzma: %w", err)
		}
		return readWhole(r, plain)
	}
	return fmt.Errorf("it is compressed by %v, which no server writes", algorithm)
}

// readWhole reads exactly the page. How the compressed stream ends is not
// looked at: zero bytes follow it, which bzip2 takes for a damaged second
// stream. A checksum covers it all: in full_crc32 tablespaces that of the page, in
// others that of the plain page.
func readWhole(r io.Reader, plain []byte) error {
	if _, err := io.ReadFull(r, plain); err != nil {
		return fmt.Errorf("decompressing: %w", err)
	}
	var one [1]byte
	if n, _ := r.Read(one[:]); n != 0 {
		return errors.New("decompressing: it is more than one page")
	}
	return nil
}
