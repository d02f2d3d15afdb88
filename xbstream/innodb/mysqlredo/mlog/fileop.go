package mlog

import (
	"bytes"
	"encoding/binary"

	"hb/xbstream/innodb"
)

// FileOp is a record about a file.
type FileOp struct {
	Type  Type
	Space innodb.SpaceID
	// Name is the file's name as the server wrote it: db/table (5.6, but not
	// for FILE_DELETE), ./db/table.ibd or an absolute path; of a rename the old
	// one, of FileExtend none. NewName is of renames.
	Name, NewName string
	Flags         uint32 // of the tablespace; FileCreate (8.0 and later) and FileCreate2
	// Offset and Size are of FileExtend: the file is at least Offset+Size long.
	Offset, Size uint64
}

// FileOp decodes a record about a file (Type.IsFile). It allocates the names.
func (r *Record) FileOp() (FileOp, error) {
	op := FileOp{Type: r.Type, Space: r.Page.Space}
	p := parser{b: r.Body}
	switch r.Type.facts().body {
	case fileCreate:
		if binary.BigEndian.Uint16(r.Body) == 0 {
			op.Flags = p.u4()
		}
		op.Name = p.fileName()
	case flagsName:
		op.Flags = p.u4()
		op.Name = p.fileName()
	case oneName:
		op.Name = p.fileName()
	case twoNames:
		op.Name, op.NewName = p.fileName(), p.fileName()
	case bytes16:
		op.Offset = binary.BigEndian.Uint64(r.Body)
		op.Size = binary.BigEndian.Uint64(r.Body[8:])
	default:
		p.fail("names no file")
	}
	if p.bad != "" || p.short {
		return op, &RecordError{r.Type, p.bad}
	}
	return op, nil
}

// Names reports whether the record is MLOG_FILE_NAME with that name, without memory for
// the name: a log repeats it after each checkpoint.
func (r *Record) Names(name string) bool {
	p := parser{b: r.Body}
	got, _, ok := bytes.Cut(p.name(), []byte{0})
	return r.Type == FileName && ok && string(got) == name
}

// fileName reads a name, which ends with a zero byte.
func (p *parser) fileName() string {
	name, rest, ok := bytes.Cut(p.name(), []byte{0})
	if !p.failed() && (!ok || len(rest) > 0 || len(name) == 0) {
		p.fail("has a file name that is not one string")
	}
	return string(name)
}
