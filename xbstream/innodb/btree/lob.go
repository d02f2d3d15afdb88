package btree

import (
	"bytes"

	"hb/xbstream/innodb"
)

// Since 8.0, MySQL keeps a column on pages of these types, which let it replace parts:
//
//	24  first page: list of entries at 64, at 96 10 entries, then bytes of the column
//	22  more entries               23  bytes of the column: how many at 39, from 49
//	25  first page of ROW_FORMAT=COMPRESSED: list of entries at 88, at 136 entries of both
//	    kinds (see zlobFirstData), then compressed bytes
//	27  more entries               26  compressed bytes: how many at 39, from 49
//	28  parts of several streams: 2 bytes each, growing downwards from 10 before the page's
//	    end, say where part i is; there, at 4, are its length, header included, and its bytes
//	    from 8
//
// An entry says where some bytes of the column are, and which versions of the column have
// them. Entries form a list, as the column's parts follow each other; the older versions of
// an entry form another one:
//
//	 0  6  previous entry: page and offset   6  6  next one   12 16  older versions of it
//	48  4  page         52  4  bytes         56  4  version              (types 24 and 22)
//	48  4  page         52  2  part of page  54  4  bytes
//	58  4  compressed   62  4  version                                   (types 25 and 27)
//
// A list has, in 16 bytes, its length and the addresses of its first and last entries. Each
// part of ROW_FORMAT=COMPRESSED is a zlib stream of its own.
//
// Source: lob0first.h, lob0index.h, lob0pages.h, lob0impl.h, zlob0first.h, zlob0index.h and
// zlob0read.cc of MySQL 9.7.2.

// lobKind is what differs between the two kinds of columns.
type lobKind struct {
	first, index innodb.PageType
	list         int // of entries, on the first page
	version      int // in an entry
	size         int // of an entry
}

var lobKinds = map[bool]lobKind{
	false: {first: typeLobFirst, index: typeLobIndex, list: 64, version: 56, size: 60},
	true:  {first: typeZlobFirst, index: typeZlobIndex, list: 88, version: 62, size: 66},
}

const (
	lobVersions  = 12 // in an entry
	lobPage      = 48
	zlobPart     = 52
	zlobBytes    = 54
	zlobStored   = 58
	lobStored    = innodb.OffsetBody + 1 // on a page of bytes
	lobFirstLen  = innodb.OffsetBody + 16
	lobData      = innodb.OffsetBody + 11
	lobFirstData = 96 + 10*60

	zlobChunk = 128 << 10 // bytes of a column in one stream, at most (Z_CHUNK_SIZE)
)

// zlobFirstData is where the compressed bytes begin on the first page, by its size: after
// entries of 66 bytes and descriptions of pages of type 28, of 24 bytes.
var zlobFirstData = map[int]int{
	16 << 10: 136 + 100*66 + 200*24,
	8 << 10:  136 + 80*66 + 100*24,
	4 << 10:  136 + 40*66 + 40*24,
	2 << 10:  136 + 20*66 + 20*24,
	1 << 10:  136 + 5*66 + 5*24,
}

// lobReader reads one column.
type lobReader struct {
	*external
	kind    lobKind
	zip     bool
	start   innodb.PageNo           // the first page
	version uint32                  // that the reference means
	lists   map[innodb.PageNo]*page // those with entries
}

func (e *external) lob(p *page, version uint32, zip bool) error {
	r := lobReader{external: e, kind: lobKinds[zip], zip: zip, start: p.no, version: version,
		lists: map[innodb.PageNo]*page{p.no: p}}
	if zip && zlobFirstData[len(p.b)] == 0 {
		return p.errorf("it cannot have a compressed column")
	}
	page, at := address(p.b[r.kind.list+4:])
	for page != innodb.PageNull && len(e.out) < e.want {
		entry, err := r.entry(page, at)
		if err != nil {
			return err
		}
		page, at = address(entry[6:])
		if entry, err = r.seen(entry); err != nil {
			return err
		}
		if err := r.part(entry); err != nil {
			return err
		}
	}
	return nil
}

// address reads the place of an entry: a page, and the offset in it.
func address(b []byte) (innodb.PageNo, int) {
	return innodb.PageNo(be.Uint32(b)), int(be.Uint16(b[4:]))
}

// entry reads an entry.
func (r *lobReader) entry(no innodb.PageNo, at int) ([]byte, error) {
	p := r.lists[no]
	if p == nil {
		var err error
		if p, err = r.page(no, r.kind.index); err != nil {
			return nil, err
		}
		r.lists[no] = p
	}
	if at < innodb.OffsetBody || at+r.kind.size > len(p.b)-trailerSize {
		return nil, p.errorf("no part of a column is described at byte %d", at)
	}
	// There are no more than fit into the tablespace.
	if r.budget++; r.budget > int(r.pages.Space().Size)*(len(p.b)/r.kind.size) {
		return nil, p.errorf("the parts of a column form a circle")
	}
	return p.b[at : at+r.kind.size], nil
}

// seen returns the version of an entry that the reference means: if it is newer, the newest
// of the older ones that is not. Where all are newer, servers read the newest one.
func (r *lobReader) seen(newest []byte) ([]byte, error) {
	entry := newest
	page, at := address(newest[lobVersions+4:])
	for be.Uint32(entry[r.kind.version:]) > r.version {
		if page == innodb.PageNull {
			return newest, nil
		}
		var err error
		if entry, err = r.entry(page, at); err != nil {
			return nil, err
		}
		page, at = address(entry[6:])
	}
	return entry, nil
}

// part appends the part of the column that an entry describes.
func (r *lobReader) part(entry []byte) error {
	no := innodb.PageNo(be.Uint32(entry[lobPage:]))
	switch {
	case no == innodb.PageNull:
		return nil
	case r.zip:
		return r.zipPart(no, entry)
	case no == r.start:
		p := r.lists[no]
		return r.bytes(p, lobFirstData, be.Uint32(p.b[lobFirstLen:]))
	}
	p, err := r.page(no, typeLobData)
	if err != nil {
		return err
	}
	return r.bytes(p, lobData, be.Uint32(p.b[lobStored:]))
}

// bytes appends n bytes of a page.
func (r *lobReader) bytes(p *page, at int, n uint32) error {
	if int64(n) > int64(len(p.b)) {
		return p.errorf("it cannot have %d bytes of a column", n)
	}
	return r.add(p, at, int(n))
}

// zipPart inflates a part.
func (r *lobReader) zipPart(no innodb.PageNo, entry []byte) error {
	n, stored := be.Uint32(entry[zlobBytes:]), be.Uint32(entry[zlobStored:])
	if n == 0 {
		return nil
	}
	if n > zlobChunk || stored > 2*zlobChunk || int(n) > r.want-len(r.out) {
		return r.lists[r.start].errorf("a part of the column that begins there cannot have %d bytes, %d compressed", n, stored)
	}
	var z []byte
	var p *page
	for len(z) < int(stored) {
		var err error
		if p, err = r.page(no, typeZlobFirst, typeZlobData, typeZlobFrag); err != nil {
			return err
		}
		b, err := zlobBytesOf(p, int(be.Uint16(entry[zlobPart:])))
		if err != nil {
			return err
		}
		if len(b) == 0 || len(b) > int(stored)-len(z) {
			return p.errorf("it cannot have %d of %d bytes of a part of a column", len(b), stored)
		}
		z, no = append(z, b...), p.next()
	}
	if p == nil {
		return r.lists[r.start].errorf("a part of the column that begins there has %d bytes, compressed to none", n)
	}
	return r.inflate(p, bytes.NewReader(z), int(n))
}

// zlobBytesOf returns the compressed bytes on a page; of a page of type 28, those of a part.
func zlobBytesOf(p *page, part int) ([]byte, error) {
	at, n := lobData, int64(be.Uint32(p.b[lobStored:]))
	switch innodb.HeaderType(p.b) {
	case typeZlobFirst:
		at, n = zlobFirstData[len(p.b)], int64(be.Uint32(p.b[lobFirstLen:]))
	case typeZlobFrag:
		const count, first, header = trailerSize + 2, trailerSize + 4, 8
		if parts := p.u16(len(p.b) - count); part >= parts || first+2*parts > len(p.b)-innodb.OffsetBody {
			return nil, p.errorf("it does not have part %d of a column", part)
		}
		at = p.u16(len(p.b) - first - 2*part)
		if at < innodb.OffsetBody || at > len(p.b)-first {
			return nil, p.errorf("it cannot have part %d at byte %d", part, at)
		}
		at, n = at+header, int64(p.u16(at+4))-header
	}
	if n < 0 || at == 0 || int64(at)+n > int64(len(p.b)-trailerSize) {
		return nil, p.errorf("it cannot have %d bytes of a column", n)
	}
	return p.b[at : int64(at)+n], nil
}
