// Package sdi reads serialized dictionary information: the JSON documents in which MySQL
// 8.0 and later keep, in each tablespace, the definitions of its tables and of itself.
//
// Bit 14 of the tablespace's flags says that it has them. On page 0, after the encryption
// information, are a version, 1, and the root of a B-tree, 4 bytes each. Its records:
//
//	type (4; 1: table, 2: tablespace), id (8), DB_TRX_ID (6), DB_ROLL_PTR (7),
//	bytes of the document (4), compressed (4), the document as a zlib stream
//
// Source: fsp0fsp.cc, dict0sdi.cc and ibd2sdi.cc of MySQL 9.7.2. A test compares the
// documents with those that ibd2sdi prints.
package sdi

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
)

// Types of documents.
const (
	TypeTable      = 1
	TypeTablespace = 2
)

// A Document is one object of the dictionary.
type Document struct {
	Type uint32
	ID   uint64 // of the object in the dictionary
	JSON []byte
}

const (
	version = 1
	indexID = math.MaxUint64
	// maxSize bounds what is inflated: a table of 8192 partitions with 64 indexes each has
	// a document of some 100 MB.
	maxSize = 256 << 20
)

// maxTotal bounds the documents of a tablespace together: general tablespaces have those of
// many tables, of some 10 KB each.
var maxTotal = 1 << 30

// ErrNone says that a tablespace has no serialized dictionary information.
var ErrNone = errors.New("the tablespace has no serialized dictionary information")

// format is that of the B-tree's records.
var format = btree.Format{Compact: true, Key: 2, Fields: []btree.Field{
	{Fixed: 4}, {Fixed: 8}, {Fixed: 6}, {Fixed: 7}, {Fixed: 4}, {Fixed: 4}, {Long: true},
}}

// Root returns the page where the B-tree begins, by page 0; ErrNone if there is none.
func Root(space *innodb.Space, page0 []byte) (innodb.PageNo, error) {
	if !space.HasSDI() {
		return 0, ErrNone
	}
	at := space.OffsetMySQLInfo() + innodb.MySQLInfoSize
	if len(page0) < at+8 {
		return 0, fmt.Errorf("page 0 is cut short at %d bytes", len(page0))
	}
	if v := binary.BigEndian.Uint32(page0[at:]); v != version {
		return 0, fmt.Errorf("the serialized dictionary information has version %d, and hb knows version %d", v, version)
	}
	return innodb.PageNo(binary.BigEndian.Uint32(page0[at+4:])), nil
}

// Read returns the documents of a tablespace, in the order of their types and ids. Documents
// that were deleted are left out.
func Read(pages btree.Pages) ([]Document, error) {
	page0, err := pages.Page(0)
	if err != nil {
		return nil, err
	}
	root, err := Root(pages.Space(), page0)
	if err != nil {
		return nil, err
	}
	tree := &btree.Tree{Pages: pages, Root: root, ID: indexID, Format: format}
	var list []Document
	total := 0
	err = tree.Walk(func(r *btree.Record) error {
		if r.Deleted {
			return nil
		}
		// Before it is inflated: several records could name the same pages.
		if total += int(min(binary.BigEndian.Uint32(r.Fields[4].Data), maxSize)); total > maxTotal {
			return fmt.Errorf("serialized dictionary information: its documents have more than %d bytes", maxTotal)
		}
		d, err := document(tree, r)
		if err != nil {
			return fmt.Errorf("serialized dictionary information, page %d: %w", r.Page, err)
		}
		list = append(list, d)
		return nil
	})
	return list, err
}

// document reads one record.
func document(tree *btree.Tree, r *btree.Record) (Document, error) {
	be := binary.BigEndian
	d := Document{Type: be.Uint32(r.Fields[0].Data), ID: be.Uint64(r.Fields[1].Data)}
	size, packed := be.Uint32(r.Fields[4].Data), be.Uint32(r.Fields[5].Data)
	if size > maxSize || packed > maxSize {
		return d, fmt.Errorf("a document has %d bytes, %d compressed: hb reads up to %d", size, packed, maxSize)
	}
	data, err := tree.External(r.Fields[6], maxSize)
	if err != nil {
		return d, err
	}
	if len(data) != int(packed) {
		return d, fmt.Errorf("a document has %d compressed bytes, not %d", len(data), packed)
	}
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return d, fmt.Errorf("inflating a document: %w", err)
	}
	var out bytes.Buffer
	n, err := io.Copy(&out, io.LimitReader(z, int64(size)+1))
	switch {
	case err != nil:
		return d, fmt.Errorf("inflating a document: %w", err)
	case n != int64(size):
		return d, fmt.Errorf("a document inflates to something other than %d bytes", size)
	}
	d.JSON = out.Bytes()
	return d, nil
}
