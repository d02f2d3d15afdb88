package census

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// memory is a system tablespace of some pages, with the type and LSN of each.
func memory(pages int) *Files {
	space := innodb.Space{Logical: 16384, Physical: 16384}
	made := innodbtest.Tablespace{Pages: pages, LSN: 1000, Fill: func(page []byte, _ innodb.PageNo) {
		binary.BigEndian.PutUint16(page[innodb.OffsetType:], uint16(innodb.TypeIndex))
	}}
	f := &File{Name: "ibdata1", Space: space, Bytes: made.Bytes()}
	return &Files{PageSize: space.Logical, Spaces: map[innodb.SpaceID]*File{0: f}}
}

// TestCompareFinds changes one byte of each kind on the server's side.
func TestCompareFinds(t *testing.T) {
	for _, c := range []struct {
		name    string
		page    innodb.PageNo
		at      int
		differs bool
	}{
		{"flush LSN", 0, innodb.OffsetFlushLSN + 3, false},
		{"space id of page 0", 0, innodb.OffsetSpace, true},
		{"flush LSN of another page", 3, innodb.OffsetFlushLSN, true},
		{"checksum", 3, 0, true},
		{"last byte", 3, 16383, true},
		{"a record", 9, 200, true},
		{"dictionary header", dictHeader, 100, true},
		{"the largest space id", dictHeader, maxSpaceID + 3, false},
	} {
		ours, theirs := memory(10), memory(10)
		theirs.Spaces[0].Page(c.page)[c.at]++
		r := &Replay{Files: ours, Pages: map[innodb.PageID]*Page{}}
		got := r.Compare(theirs, 1000)
		if differs := len(got.Diffs) == 1; differs != c.differs || len(got.Diffs) > 1 || got.Pages != 10 || len(got.Later) != 0 {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// TestCompareLater: pages that the server changed later count as such and are
// compared like others; those that could not be replayed never pass.
func TestCompareLater(t *testing.T) {
	ours, theirs := memory(3), memory(3)
	id := innodb.PageID{No: 2}
	theirs.Spaces[0].Space.SetLSN(theirs.Spaces[0].Page(2), 2000)
	r := &Replay{Files: ours, Pages: map[innodb.PageID]*Page{}}
	if c := r.Compare(theirs, 1000); len(c.Diffs) != 1 || !c.Diffs[0].Later || c.Later[17855] != 1 {
		t.Errorf("%+v", c)
	}
	r.Pages[id] = &Page{ID: id, Image: bytes.Clone(theirs.Spaces[0].Page(2))}
	if c := r.Compare(theirs, 1000); len(c.Diffs) != 0 || c.Later[17855] != 1 || c.Replayed != 1 {
		t.Errorf("%+v", c)
	}
	r.Pages[id].Err = errors.New("a record that does not fit")
	if c := r.Compare(theirs, 1000); len(c.Diffs) != 1 {
		t.Errorf("%+v", c)
	}
	theirs.Spaces[7] = theirs.Spaces[0]
	if c := r.Compare(theirs, 1000); len(c.Files) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestSameZip(t *testing.T) {
	page := func(level int, content, log, tail string) []byte {
		var b bytes.Buffer
		b.Write(make([]byte, zipStream))
		w, err := zlib.NewWriterLevel(&b, level)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(content))
		w.Close()
		b.WriteString(log)
		p := make([]byte, 1024)
		copy(p, b.Bytes())
		copy(p[len(p)-len(tail):], tail)
		return p
	}
	text := string(bytes.Repeat([]byte("some rows "), 20))
	a := page(9, text, "log", "tail")
	for _, c := range []struct {
		name string
		b    []byte
		same bool
	}{
		{"another level", page(1, text, "log", "tail"), true},
		{"no compression", page(0, text, "log", "tail"), true},
		{"another row", page(9, text+"!", "log", "tail"), false},
		{"another log", page(1, text, "lag", "tail"), false},
		{"a longer log", page(1, text, "logs", "tail"), false},
		{"another tail", page(1, text, "log", "tale"), false},
		{"a longer tail", page(1, text, "log", "ttail"), false},
	} {
		if got := sameZip(a, c.b); got != c.same {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	b := page(1, text, "log", "tail")
	b[50]++
	if sameZip(a, b) {
		t.Error("another header passes")
	}
}
