package btree

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"

	"hb/xbstream/innodb"
)

// A column that does not fit into its record ends there in a reference of 20 bytes,
// big-endian:
//
//	 0  4  tablespace    4  4  first page    8  4  where in that page it begins; of pages
//	                                            of types 24 and 25 the version of the column
//	12  1  flags        16  4  bytes on other pages
//
// What it refers to, by the type of the first page:
//
//	10     until MySQL 5.7, MariaDB: where it begins, 4 bytes here, next page, the bytes
//	18     the same, of serialized dictionary information
//	11     the same of ROW_FORMAT=COMPRESSED: a zlib stream from byte 38 of each page (of the
//	       first one perhaps from further on, after the next page's number) to its end; other
//	       pages are of type 12
//	19     the same, of serialized dictionary information; other pages are of type 19
//	24,25  see lob.go
//
// (lob0lob.h, lob0lob.cc, zlob0read.cc of MySQL 9.7.2; btr0cur.cc of MySQL 5.7 and MariaDB.)

// Types of pages of external columns (fil0fil.h).
const (
	typeBlob      innodb.PageType = 10
	typeZipBlob   innodb.PageType = 11
	typeZipBlob2  innodb.PageType = 12
	typeSDIBlob   innodb.PageType = 18
	typeSDIZip    innodb.PageType = 19
	typeLobIndex  innodb.PageType = 22
	typeLobData   innodb.PageType = 23
	typeLobFirst  innodb.PageType = 24
	typeZlobFirst innodb.PageType = 25
	typeZlobData  innodb.PageType = 26
	typeZlobIndex innodb.PageType = 27
	typeZlobFrag  innodb.PageType = 28
)

// RefSize is how many bytes a reference to other pages has.
const RefSize = 20

const (
	refPage     = 4
	refVersion  = 8 // or offset
	refFlags    = 12
	refLength   = 16
	flagChanged = 0x20 // the column is being changed, by a transaction that has not ended
	blobHeader  = 8
)

// ErrUnfinished says that a column was being written when the copy was made: its
// transaction had not ended. The server rolls it back.
var ErrUnfinished = errors.New("the column was being written")

// External returns the whole of a value that is stored on other pages, of at most limit
// bytes. It returns other values as they are.
func (t *Tree) External(v Value, limit int) ([]byte, error) {
	if !v.External {
		return v.Data, nil
	}
	local := len(v.Data) - RefSize
	if local < 0 {
		return nil, fmt.Errorf("a column of %d bytes cannot refer to other pages", len(v.Data))
	}
	ref := v.Data[local:]
	n := int64(be.Uint32(ref[refLength:]))
	switch {
	case innodb.AllZero(ref) || ref[refFlags]&flagChanged != 0:
		return nil, ErrUnfinished
	case int64(local)+n > int64(limit):
		return nil, fmt.Errorf("a column has %d bytes, more than %d", int64(local)+n, limit)
	case innodb.SpaceID(be.Uint32(ref)) != t.Pages.Space().ID:
		return nil, fmt.Errorf("a column is in tablespace %d, not in tablespace %d", be.Uint32(ref), t.Pages.Space().ID)
	}
	e := external{pages: t.Pages, out: append([]byte(nil), v.Data[:local]...), want: local + int(n)}
	return e.read(innodb.PageNo(be.Uint32(ref[refPage:])), be.Uint32(ref[refVersion:]))
}

// external reads one column.
type external struct {
	pages Pages
	out   []byte
	want  int // bytes of out in the end
	// count is how many pages were read; budget, how many more than the tablespace has
	// that may be, because several parts can be on one.
	count, budget int
}

// page reads a page of the column, of one of the given types.
func (e *external) page(no innodb.PageNo, types ...innodb.PageType) (*page, error) {
	s := e.pages.Space()
	b, err := e.pages.Page(no)
	if err != nil {
		return nil, err
	}
	p := &page{PageID: innodb.PageID{Space: s.ID, No: no}, b: b, no: no}
	if e.count++; e.count > int(s.Size)+e.budget {
		return nil, p.errorf("a column has more pages than its tablespace")
	}
	if len(b) != s.Physical {
		return nil, p.errorf("it has %d bytes", len(b))
	}
	for _, t := range types {
		if innodb.HeaderType(b) == t {
			return p, nil
		}
	}
	return nil, p.errorf("it belongs to a column, but is of type %d", innodb.HeaderType(b))
}

func (e *external) read(first innodb.PageNo, where uint32) ([]byte, error) {
	p, err := e.page(first, typeBlob, typeSDIBlob, typeZipBlob, typeSDIZip, typeLobFirst, typeZlobFirst)
	if err != nil {
		return nil, err
	}
	switch t := innodb.HeaderType(p.b); t {
	case typeLobFirst, typeZlobFirst:
		err = e.lob(p, where, t == typeZlobFirst)
	case typeBlob, typeSDIBlob:
		err = e.chain(p, where, t)
	default:
		err = e.zipChain(p, where, t)
	}
	if err == nil && len(e.out) != e.want {
		err = p.errorf("the column that begins there has %d bytes, not %d", len(e.out), e.want)
	}
	return e.out, err
}

// add appends bytes of page p to the column.
func (e *external) add(p *page, at, n int) error {
	if n > len(p.b)-trailerSize-at || n > e.want-len(e.out) {
		return p.errorf("it cannot have %d bytes of a column of %d", n, e.want)
	}
	e.out = append(e.out, p.b[at:at+n]...)
	return nil
}

// chain reads pages that are not compressed.
func (e *external) chain(p *page, where uint32, t innodb.PageType) (err error) {
	for at := int64(where); ; at = innodb.OffsetBody {
		if at < innodb.OffsetBody || at > int64(len(p.b)-trailerSize-blobHeader) {
			return p.errorf("a column cannot begin at byte %d", at)
		}
		n, next := be.Uint32(p.b[at:]), innodb.PageNo(be.Uint32(p.b[at+4:]))
		if n == 0 || int64(n) > int64(len(p.b)) {
			return p.errorf("it cannot have %d bytes of a column", n)
		}
		if err = e.add(p, int(at)+blobHeader, int(n)); err != nil || next == innodb.PageNull {
			return err
		}
		if p, err = e.page(next, t); err != nil {
			return err
		}
	}
}

// zipChain reads the pages of a zlib stream.
func (e *external) zipChain(p *page, where uint32, t innodb.PageType) error {
	if t == typeZipBlob {
		t = typeZipBlob2
	}
	at := innodb.OffsetBody
	next := p.next()
	if where != innodb.OffsetNext {
		if where < innodb.OffsetBody || int64(where) > int64(len(p.b)-4) {
			return p.errorf("a column cannot begin at byte %d", where)
		}
		next, at = innodb.PageNo(be.Uint32(p.b[where:])), int(where)+4
	}
	return e.inflate(p, &zipReader{e: e, t: t, next: next, rest: p.b[at:]}, e.want-len(e.out))
}

// inflate appends the n bytes that a zlib stream, whose first page is p, has.
func (e *external) inflate(p *page, stream io.Reader, n int) error {
	z, err := zlib.NewReader(stream)
	if err != nil {
		return wrap(p, err)
	}
	var out bytes.Buffer
	got, err := io.Copy(&out, io.LimitReader(z, int64(n)+1))
	switch {
	case err != nil:
		return wrap(p, err)
	case got != int64(n):
		return p.errorf("the column there inflates to something other than %d bytes", n)
	}
	e.out = append(e.out, out.Bytes()...)
	return nil
}

// wrap makes a *innodb.PageError of what inflating a column returned, unless it is one.
func wrap(p *page, err error) error {
	var is *innodb.PageError
	if errors.As(err, &is) {
		return err
	}
	return &innodb.PageError{PageID: p.PageID, What: fmt.Sprintf("the column there cannot be inflated: %v", err), Cause: err}
}

// zipReader reads the stream in a chain of pages.
type zipReader struct {
	e    *external
	t    innodb.PageType
	next innodb.PageNo
	rest []byte
}

func (r *zipReader) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.next == innodb.PageNull {
			return 0, io.ErrUnexpectedEOF
		}
		p, err := r.e.page(r.next, r.t)
		if err != nil {
			return 0, err
		}
		r.next, r.rest = p.next(), p.b[innodb.OffsetBody:]
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
