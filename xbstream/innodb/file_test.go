package innodb_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
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
	if _, err := further.VerifyAt(page, 0); err != nil {
		t.Errorf("a flush LSN alone counts as damage: %v", err)
	}
	if _, err := further.VerifyAt(page, int64(space.Physical)); err == nil {
		t.Error("a flush LSN alone counts as a page elsewhere")
	}
	if _, err := (&innodb.File{Space: space}).VerifyAt(page, 0); err == nil {
		t.Error("a flush LSN alone counts as page 0")
	}
	for _, at := range []int{0, innodb.OffsetFlushLSN - 1, innodb.OffsetFlushLSN + 8, len(page) - 1} {
		other := bytes.Clone(page)
		other[at] = 1
		if _, err := further.VerifyAt(other, 0); err == nil {
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
	page := innodbtest.Tablespace{Flags: space.Flags}.Page(69)
	for no, ok := range map[int64]bool{0: false, 1: false, 2: true, 3: true, 4: false, 5: true} {
		if _, err := f.VerifyAt(page, no*int64(space.Physical)); (err == nil) != ok {
			t.Errorf("page 69 as the file's page %d: %v", no, err)
		}
	}
}

// TestCheckLength: FSP_SIZE counts pages of the file, of all files together, also
// where they are compressed.
func TestCheckLength(t *testing.T) {
	for name, physical := range map[string]int64{"full_crc32 16k": 16 << 10, "crc32 64k": 64 << 10, "compressed 8k": 8 << 10, "compressed 1k": 1 << 10} {
		flags, ok := spaces[name]
		if !ok {
			t.Fatalf("no flags called %q", name)
		}
		space, err := innodb.ParseFlags(flags)
		if err != nil {
			t.Fatal(err)
		}
		space.ID, space.Size = 7, 1<<20 // more than 32 bits of bytes
		for have, ok := range map[int64]bool{physical << 20: true, physical<<20 + 1: true, physical<<20 - 1: false, 0: false} {
			err := space.CheckLength(have)
			short, isShort := errors.AsType[*innodb.LengthError](err)
			if isShort == ok || isShort && *short != (innodb.LengthError{ID: 7, Have: have, Want: physical << 20}) {
				t.Errorf("%s, %d bytes: %v", name, have, err)
			}
		}
		// Servers extend files in multiples of 4096 bytes.
		space.Size = 7
		if err := space.CheckLength(7 * physical &^ 4095); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
