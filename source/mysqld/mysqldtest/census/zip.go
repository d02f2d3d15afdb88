package census

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"

	"hb/xbstream/innodb"
)

// pageCompressed is the type of a page that is stored with COMPRESSION='zlib'.
const pageCompressed = 14

// plain returns a page as it is without COMPRESSION. Bytes 26 to 33, where the
// stored form keeps what it needs, are 0 then.
func plain(page []byte) ([]byte, error) {
	if innodb.HeaderType(page) != pageCompressed {
		return page, nil
	}
	if page[27] != 1 {
		return nil, fmt.Errorf("a page is compressed by algorithm %d", page[27])
	}
	kind, size, stored := page[28:30], binary.BigEndian.Uint16(page[30:]), binary.BigEndian.Uint16(page[32:])
	content, _, err := inflate(page[innodb.OffsetBody : innodb.OffsetBody+int(stored)])
	if err != nil || len(content) != int(size) {
		return nil, fmt.Errorf("a compressed page of %d bytes instead of %d: %v", len(content), size, err)
	}
	p := make([]byte, len(page))
	copy(p, page[:innodb.OffsetBody])
	copy(p[innodb.OffsetType:], kind)
	clear(p[innodb.OffsetFlushLSN:innodb.OffsetSpace])
	copy(p[innodb.OffsetBody:], content)
	return p, nil
}

// samePlain reports whether two pages are equal without COMPRESSION.
func samePlain(a, b []byte) bool {
	if innodb.HeaderType(a) != pageCompressed && innodb.HeaderType(b) != pageCompressed {
		return false
	}
	x, errA := plain(a)
	y, errB := plain(b)
	return errA == nil && errB == nil && equalBut(x, y, innodb.OffsetFlushLSN, innodb.OffsetSpace)
}

// zipStream is where the compressed stream of a COMPRESSED index page begins.
const zipStream = 94

// sameZip reports whether two COMPRESSED index pages differ only in how their
// records are deflated: in the bytes of the stream and in its length. Recovery
// has to deflate where the server did not log the compressed image.
func sameZip(a, b []byte) bool {
	if len(a) != len(b) || !bytes.Equal(a[4:zipStream], b[4:zipStream]) {
		return false
	}
	x, restA, errA := inflate(a[zipStream:])
	y, restB, errB := inflate(b[zipStream:])
	return errA == nil && errB == nil && bytes.Equal(x, y) && sameRest(restA, restB)
}

// inflate returns the content of a stream and what follows it.
func inflate(b []byte) (content, rest []byte, err error) {
	in := bytes.NewReader(b) // a ByteReader: nothing is read ahead
	r, err := zlib.NewReader(in)
	if err != nil {
		return nil, nil, err
	}
	content, err = io.ReadAll(r)
	return content, b[len(b)-in.Len():], err
}

// sameRest compares modification log and trailer, between which the longer one
// has more zeroes.
func sameRest(a, b []byte) bool {
	if len(a) < len(b) {
		a, b = b, a
	}
	before := 0
	for before < len(b) && a[before] == b[before] {
		before++
	}
	more := len(a) - len(b)
	return bytes.Equal(a[before+more:], b[before:]) && len(bytes.Trim(a[before:before+more], "\x00")) == 0
}
