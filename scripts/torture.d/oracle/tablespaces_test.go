package oracle

import (
	"bytes"
	"encoding/binary"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// TestLaterStamps: a later LSN on a page with the same content is no difference, all
// else is one.
func TestLaterStamps(t *testing.T) {
	const size = 16384
	whole := innodbtest.Random(7, 8)
	page := func(file []byte, no int) []byte { return file[no*size : (no+1)*size] }
	change := func(lsn innodb.LSN, at int) []byte {
		file := bytes.Clone(whole)
		if at > 0 {
			page(file, 3)[at] ^= 1
		}
		innodbtest.Seal(page(file, 3), innodbtest.Full16K, lsn, innodb.ChecksumFullCRC32)
		return file
	}
	older, later := change(1000, 0), change(2000, 0)
	if bytes.Equal(older, later) || !laterStamps(later, older) {
		t.Error("a later LSN with the same content counts as a difference")
	}
	for name, pair := range map[string][2][]byte{
		"the hurt copy is the later one": {older, later},
		"another byte":                   {later, change(1000, 5000)},
		"a zero page":                    {later, bytes.Replace(older, page(older, 3), make([]byte, size), 1)},
		"a page less":                    {later, older[:7*size]},
		"an LSN of 0":                    {later, change(0, 0)},
	} {
		if laterStamps(pair[0], pair[1]) {
			t.Errorf("%s: counts as the same", name)
		}
	}
}

// TestSameContents: only the LSN and the checksum of a page may differ.
func TestSameContents(t *testing.T) {
	const size, pages = 16384, 5
	whole := innodbtest.Tablespace{ID: 7, Flags: innodbtest.Full16K, Pages: pages, LSN: 1000, Fill: func(page []byte, no innodb.PageNo) {
		if no == 0 {
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPLimit:], pages)
			innodbtest.Extent(page, 0, 2, 64, func(i int) bool { return i != 3 })
		} else {
			page[5000] = byte(no)
		}
	}}.Bytes()
	change := func(no int, lsn innodb.LSN, at int) []byte {
		file := bytes.Clone(whole)
		page := file[no*size:][:size]
		page[at] ^= 1
		innodbtest.Seal(page, innodbtest.Full16K, lsn, innodb.ChecksumFullCRC32)
		return file
	}
	lost := func(no int) []byte {
		file := bytes.Clone(whole)
		clear(file[no*size:][:size])
		return file
	}
	if a, b := change(2, 1000, 5000), change(2, 2000, 5000); bytes.Equal(a, b) || !sameContents(a, b) || !sameContents(b, a) {
		t.Error("another LSN counts as another content")
	}
	for _, b := range [][]byte{lost(3), change(3, 1000, 5000)} {
		if !sameContents(whole, b) || !sameContents(b, whole) {
			t.Error("a page that is free counts")
		}
	}
	freed := bytes.Clone(whole)
	innodbtest.Extent(freed, 0, 2, 64, func(i int) bool { return i < 2 })
	innodbtest.Seal(freed[:size], innodbtest.Full16K, 1000, innodb.ChecksumFullCRC32)
	for name, b := range map[string][]byte{
		"a byte": change(2, 1000, 5000), "the type": change(2, 1000, 25), "a page less": whole[:3*size],
		"a lost page": lost(2), "page 0": lost(0), "the page map": freed,
	} {
		if sameContents(whole, b) || sameContents(b, whole) {
			t.Errorf("%s differs, and that counts as the same content", name)
		}
	}
}
