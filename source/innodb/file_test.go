package innodb_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"hb/source/innodb"
)

// TestFlushLSNPage: the first page of a further system file of 5.6 may hold
// nothing but the flush LSN; anything more is damage.
func TestFlushLSNPage(t *testing.T) {
	space, err := innodb.ParseFlags(spaces["crc32 16k"])
	if err != nil {
		t.Fatal(err)
	}
	further := innodb.File{Space: space, First: 768}
	page := make([]byte, space.Physical)
	binary.BigEndian.PutUint64(page[innodb.OffsetFlushLSN:], 12345)
	if err := further.VerifyAt(page, 0); err != nil {
		t.Errorf("a flush LSN alone counts as damage: %v", err)
	}
	if further.VerifyAt(page, int64(space.Physical)) == nil {
		t.Error("a flush LSN alone counts as a page elsewhere")
	}
	if first := (innodb.File{Space: space}); first.VerifyAt(page, 0) == nil {
		t.Error("a flush LSN alone counts as page 0")
	}
	for _, at := range []int{0, innodb.OffsetFlushLSN - 1, innodb.OffsetFlushLSN + 8, len(page) - 1} {
		other := bytes.Clone(page)
		other[at] = 1
		if further.VerifyAt(other, 0) == nil {
			t.Errorf("a page with byte %d set counts as empty", at)
		}
	}
}

// TestExempt: pages are numbered through the files of a tablespace, and those
// of the doublewrite area are not looked at.
func TestExempt(t *testing.T) {
	space, err := innodb.ParseFlags(spaces["crc32 16k"])
	if err != nil {
		t.Fatal(err)
	}
	f := innodb.File{Space: space, First: 64, Exempt: []innodb.PageRange{{First: 66, End: 68}}}
	page := make([]byte, space.Physical)
	binary.BigEndian.PutUint32(page[innodb.OffsetPageNo:], 69)
	space.Stamp(page, innodb.ChecksumCRC32)
	for no, ok := range map[int64]bool{0: false, 1: false, 2: true, 3: true, 4: false, 5: true} {
		if err := f.VerifyAt(page, no*int64(space.Physical)); (err == nil) != ok {
			t.Errorf("page 69 as the file's page %d: %v", no, err)
		}
	}
}
