package replay

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

	"hb/source/innodb"
)

// Where page_compressed pages keep what (fil0pagecompress.cc, fsp0types.h).
const (
	compFullMark  = 0x8000 // type word in full_crc32 tablespaces
	compFullData  = innodb.OffsetFlushLSN
	compAlgorithm = innodb.OffsetFlushLSN // other tablespaces: 8 bytes
	compLength    = innodb.OffsetBody
	compData      = innodb.OffsetBody + 2
)

// isCompressed reports whether a page is stored compressed (MariaDB's
// page_compressed).
func isCompressed(s *innodb.Space, page []byte) bool {
	t := innodb.HeaderType(page)
	if s.FullCRC32 {
		return s.PageCompressed && t&compFullMark != 0
	}
	return t == innodb.TypePageCompressed || t == innodb.TypePageCompEncr
}

// decompress puts the plain form of a page_compressed page into plain, which
// has the page's size. The page's checksum was verified already.
func decompress(s *innodb.Space, plain, page []byte) error {
	algorithm, data, err := compressedData(s, page)
	if err == nil {
		err = decompressData(algorithm, plain, data)
	}
	if err != nil {
		return fmt.Errorf("page_compressed page: %w", err)
	}
	// The header travels in both forms.
	if !bytes.Equal(plain[innodb.OffsetPageNo:innodb.OffsetType], page[innodb.OffsetPageNo:innodb.OffsetType]) {
		return errors.New("page_compressed page: what was compressed is another page")
	}
	return nil
}

func compressedData(s *innodb.Space, page []byte) (innodb.Compression, []byte, error) {
	if !s.FullCRC32 {
		if innodb.HeaderType(page) != innodb.TypePageCompressed {
			return 0, nil, errors.New("it is encrypted")
		}
		algorithm := binary.BigEndian.Uint64(page[compAlgorithm:])
		n := int(binary.BigEndian.Uint16(page[compLength:]))
		if algorithm > uint64(innodb.CompressSnappy) || n > len(page)-compData {
			return 0, nil, fmt.Errorf("algorithm %d, %d bytes", algorithm, n)
		}
		return innodb.Compression(algorithm), page[compData : compData+n], nil
	}
	stored := int(innodb.HeaderType(page)&0xFF) << 8
	if stored == 0 || stored > len(page) {
		return 0, nil, fmt.Errorf("stored size %d", stored)
	}
	end := stored - 4
	switch s.Compression {
	case innodb.CompressLZ4, innodb.CompressLZO, innodb.CompressSnappy:
		// These do not tell where they end: the byte before the checksum is the
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

func decompressData(algorithm innodb.Compression, plain, data []byte) error {
	switch algorithm {
	case innodb.CompressZlib:
		r, err := zlib.NewReader(bytes.NewReader(data))
		if err != nil {
			return fmt.Errorf("zlib: %w", err)
		}
		return readWhole(r, plain)
	case innodb.CompressBzip2:
		return readWhole(bzip2.NewReader(bytes.NewReader(data)), plain)
	case innodb.CompressSnappy:
		if n, err := snappy.DecodedLen(data); err != nil || n != len(plain) {
			return fmt.Errorf("snappy: it has %d bytes, want %d", n, len(plain))
		}
		if _, err := snappy.Decode(plain, data); err != nil {
			return fmt.Errorf("snappy: %w", err)
		}
		return nil
	case innodb.CompressLZ4:
		return innodb.DecodeLZ4(plain, data)
	case innodb.CompressLZO:
		return decodeLZO(plain, data)
	case innodb.CompressLZMA:
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
// stream. The page's checksum covers it all.
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
