package mariadbredo

import (
	"encoding/binary"
	"fmt"
	"strings"

	"hb/xbstream/innodb"
)

// Type is the type of a record: the upper half of its first byte, without the
// same-page bit for records of pages, with it for those of files.
type Type uint8

// Types of records. The meaning of the bodies of page records is the business of
// who applies them.
const (
	FreePage Type = iota
	InitPage
	Extended
	Write
	Memset
	Memmove
	reserved
	Option

	FileCreate     Type = 0x8
	FileDelete     Type = 0x9
	FileRename     Type = 0xA
	FileModify     Type = 0xB
	FileCheckpoint Type = 0xF // with an LSN; or padding
)

// IsFile reports whether records of the type name files instead of changing a
// page.
func (t Type) IsFile() bool { return t >= 8 }

func (t Type) String() string {
	switch t {
	case FreePage:
		return "FREE_PAGE"
	case InitPage:
		return "INIT_PAGE"
	case Extended:
		return "EXTENDED"
	case Write:
		return "WRITE"
	case Memset:
		return "MEMSET"
	case Memmove:
		return "MEMMOVE"
	case Option:
		return "OPTION"
	case FileCreate:
		return "FILE_CREATE"
	case FileDelete:
		return "FILE_DELETE"
	case FileRename:
		return "FILE_RENAME"
	case FileModify:
		return "FILE_MODIFY"
	case FileCheckpoint:
		return "FILE_CHECKPOINT"
	}
	return fmt.Sprintf("record type %#x", uint8(t))
}

// TrimPages is the subtype of the EXTENDED record that truncates a tablespace:
// it is the only one that is not about the page whose ids it carries. The ids
// are the tablespace and the first page that is cut off.
const TrimPages = 10

// Record is one record of a mini-transaction.
type Record struct {
	Type Type
	// SamePage: the record carries no ids, Page is that of the record before.
	SamePage bool
	Page     innodb.PageID // of FILE_ records the page number is 0
	Offset   int           // of its first byte in the mini-transaction
	// Body follows the ids. It is part of the mini-transaction's bytes.
	Body []byte
}

// IsTrim reports whether the record is EXTENDED TRIM_PAGES.
func (r *Record) IsTrim() bool {
	return r.Type == Extended && !r.SamePage && len(r.Body) == 1 && r.Body[0] == TrimPages
}

// RecordError says that a record is impossible, or impossible at its place.
type RecordError struct {
	Offset int // in the mini-transaction
	What   string
}

// unknownType is the text of a RecordError for a type that hb does not know: a newer
// server may.
const unknownType = "unknown type"

// Unwrap returns an *innodb.UnsupportedError if nothing need be wrong with the log.
func (e *RecordError) Unwrap() error {
	if e.What == unknownType {
		return &innodb.UnsupportedError{What: e.What}
	}
	return nil
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("record at byte %d: %s", e.Offset, e.What)
}

// Reader iterates over the records of one mini-transaction:
//
//	r := ReadRecords(mtr.Records)
//	for r.Next() { … r.Record … }
//	if err := r.Err(); err != nil { … }
type Reader struct {
	Record // the current one, after Next returned true

	b    []byte
	next int
	page bool // a record with a page has been seen
	err  error
}

// ReadRecords returns an iterator over the records of a mini-transaction, or
// of a run of records that begins with one that has ids.
func ReadRecords(b []byte) Reader { return Reader{b: b} }

// Err returns what ended the iteration early: a *RecordError, or nil.
func (r *Reader) Err() error { return r.err }

func (r *Reader) fail(what string) bool {
	r.err = &RecordError{Offset: r.Offset, What: what}
	return false
}

// Next moves to the next record. It returns false at the end and for an error.
func (r *Reader) Next() bool {
	if r.err != nil || r.next >= len(r.b) {
		return false
	}
	r.Offset = r.next
	h := r.b[r.next]
	if h <= 1 {
		return r.fail("no record begins so")
	}
	body, ok := r.body(h)
	if !ok {
		return r.fail("its length cannot be")
	}
	r.Type, r.SamePage = Type(h>>4&7), h&0x80 != 0 && r.page
	switch {
	case r.SamePage:
		r.Body = body
		if r.Type <= InitPage {
			return r.fail(r.Type.String() + " without page")
		}
	case h&0x80 != 0:
		r.Type |= 8
		return r.fileRecord(body)
	default:
		if r.Body, ok = r.ids(body); !ok {
			return r.fail("its page number cannot be")
		}
		r.page = true
	}
	if r.Type == reserved {
		return r.fail(unknownType)
	}
	return true
}

// body returns the bytes after the framing and moves on to the next record.
func (r *Reader) body(h byte) ([]byte, bool) {
	at, n := r.next+1, int(h&15)
	if n == 0 {
		l, size, ok := longLength(r.b[at:])
		if !ok || size == 0 {
			return nil, false
		}
		at, n = at+size, l-size
	}
	if n < 0 || at+n > len(r.b) {
		return nil, false
	}
	r.next = at + n
	return r.b[at:r.next:r.next], true
}

// ids reads tablespace and page number.
func (r *Reader) ids(body []byte) ([]byte, bool) {
	space, n, ok := varint(body)
	if !ok || n == 0 {
		return nil, false
	}
	no, m, ok := varint(body[n:])
	if !ok || m == 0 {
		return nil, false
	}
	r.Page = innodb.PageID{Space: innodb.SpaceID(space), No: innodb.PageNo(no)}
	return body[n+m:], true
}

// fileRecord checks a record about a file. Padding has the type of
// FILE_CHECKPOINT and an empty or zero body: F1 00, F2 00 00 and longer ones.
func (r *Reader) fileRecord(body []byte) bool {
	ok := true
	if r.Type == FileCheckpoint && len(body) == 1 && body[0] == 0 {
		r.Page, r.Body = innodb.PageID{}, nil
		return true
	}
	if r.Body, ok = r.ids(body); !ok || r.Page.No != 0 {
		return r.fail("its page number cannot be")
	}
	switch r.Type {
	case FileCreate, FileDelete, FileRename, FileModify:
		return true
	case FileCheckpoint:
		if len(r.Body) == 8 && r.Page.Space == 0 || innodb.AllZero(r.Body) {
			return true
		}
		return r.fail("FILE_CHECKPOINT of another length")
	}
	return r.fail(unknownType)
}

// FileOp is a FILE_ record.
type FileOp struct {
	Type  Type
	Space innodb.SpaceID
	// Name is the file's name as the server wrote it, ./db/table.ibd or an
	// absolute path; of FILE_RENAME the old one. NewName is of FILE_RENAME.
	Name, NewName string
	// Checkpoint is the LSN in a FILE_CHECKPOINT, 0 in padding.
	Checkpoint innodb.LSN
}

// FileOp decodes the current record, which must be one about a file. It
// allocates the names.
func (r *Reader) FileOp() (FileOp, error) {
	op := FileOp{Type: r.Type, Space: r.Page.Space}
	switch r.Type {
	case FileCheckpoint:
		if len(r.Body) == 8 {
			op.Checkpoint = innodb.LSN(binary.BigEndian.Uint64(r.Body))
		}
		return op, nil
	case FileRename:
		old, renamed, ok := strings.Cut(string(r.Body), "\x00")
		if !ok || !validName(old) || !validName(renamed) {
			return op, &RecordError{r.Offset, fmt.Sprintf("FILE_RENAME with names %q", r.Body)}
		}
		op.Name, op.NewName = strings.Clone(old), strings.Clone(renamed) // each may be kept without the other
	case FileCreate, FileDelete, FileModify:
		op.Name = string(r.Body)
		if !validName(op.Name) {
			return op, &RecordError{r.Offset, fmt.Sprintf("%v with name %q", r.Type, r.Body)}
		}
	default:
		return op, &RecordError{r.Offset, r.Type.String() + " names no file"}
	}
	if op.Space == 0 {
		return op, &RecordError{r.Offset, r.Type.String() + " of the system tablespace"}
	}
	return op, nil
}

// validName checks what servers check: some directory, and .ibd at the end.
func validName(name string) bool {
	return len(name) > len("/.ibd") && strings.HasSuffix(name, ".ibd") &&
		strings.Contains(name, "/") && !strings.Contains(name, "\x00")
}

// Number decodes a variable-length number (1 to 5 bytes) at the beginning of b,
// as records hold them. size is 0 if b does not begin with one.
func Number(b []byte) (v uint32, size int) {
	v, size, ok := varint(b)
	if !ok {
		return 0, 0
	}
	return v, size
}
