package oracle

import (
	"bytes"
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
	const size = 16384
	whole := innodbtest.Random(7, 4)
	change := func(lsn innodb.LSN, at int) []byte {
		file := bytes.Clone(whole)
		page := file[2*size : 3*size]
		page[at] ^= 1
		innodbtest.Seal(page, innodbtest.Full16K, lsn, innodb.ChecksumFullCRC32)
		return file
	}
	if a, b := change(1000, 5000), change(2000, 5000); bytes.Equal(a, b) || !sameContents(a, b) || !sameContents(b, a) {
		t.Error("another LSN counts as another content")
	}
	for name, b := range map[string][]byte{"a byte": change(1000, 5000), "the type": change(1000, 25), "a page less": whole[:3*size]} {
		if sameContents(whole, b) {
			t.Errorf("%s differs, and that counts as the same content", name)
		}
	}
}
