package mlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

func TestIntegers(t *testing.T) {
	for _, tc := range []struct {
		b    string
		want uint32
	}{
		{"\x7f", 127}, {"\x80\x80", 128}, {"\xbf\xff", 1<<14 - 1}, {"\xc0\x40\x00", 1 << 14}, {"\xdf\xff\xff", 1<<21 - 1},
		{"\xe0\x20\x00\x00", 1 << 21}, {"\xef\xff\xff\xff", 1<<28 - 1}, {"\xf0\x10\x00\x00\x00", 1 << 28},
		{"\xf0\xff\xff\xff\xff", 0xFFFFFFFF},
		// Since 8.0.19: FIL_NULL, the id of mysql.ibd, of the last undo tablespace.
		{"\xfb\xff", 0xFFFFFFFF}, {"\xfb\xfe", 0xFFFFFFFE}, {"\xf8\x00", 0xFFFFFC00}, {"\xfd\xfb\xff", 0xFFFFFBFF},
		{"\xfc\x00\x00", 0xFFFE0000}, {"\xfe\xfd\xff\xff", 0xFFFDFFFF}, {"\xfe\x00\x00\x00", 0xFF000000},
	} {
		b := []byte(tc.b)
		if v, n := C32(b); v != tc.want || n != len(b) {
			t.Errorf("%x: %d, %d bytes", b, v, n)
		}
		for cut := range b {
			if _, n := C32(b[:cut]); n != 0 {
				t.Errorf("%x cut at %d: %d bytes", b, cut, n)
			}
		}
		if v, n := C32(AppendC32(nil, tc.want)); v != tc.want || n <= 0 {
			t.Errorf("%d comes back as %d", tc.want, v)
		}
		for high := range uint64(2) {
			want := high<<40 | uint64(tc.want)
			if v, _ := C64(binary.BigEndian.AppendUint32(AppendC32(nil, uint32(want>>32)), uint32(want))); v != want {
				t.Errorf("%d comes back as %d", want, v)
			}
			if v, _ := M64(AppendM64(nil, want)); v != want {
				t.Errorf("%d comes back as %d", want, v)
			}
		}
	}
	for _, b := range []string{"\xf1\x00\x00\x00\x00", "\xf7\x00\x00\x00\x00", "\xff\x00\x00\x00\x00"} {
		if _, n := C32([]byte(b)); n >= 0 {
			t.Errorf("%x: %d bytes", b, n)
		}
	}
}

func TestIndex(t *testing.T) {
	var x Index
	parse := func(typ Type, b string) (string, error) {
		rest, err := x.Parse(typ, []byte(b))
		return string(rest), err
	}
	// Redundant: nothing in the old types, two bytes in the new ones.
	if rest, err := parse(OldDelete, "\x00\x63"); err != nil || rest != "\x00\x63" || x.Compact || len(x.Fields) != 0 {
		t.Errorf("%+v, rest %x, %v", x, rest, err)
	}
	if rest, err := parse(Delete, "\x01\x00\x00\x63"); err != nil || rest != "\x00\x63" || x.Compact || len(x.Fields) != 0 {
		t.Errorf("%+v, rest %x, %v", x, rest, err)
	}
	const lengths = "\x80\x04\x80\x06\x80\x07\x00\x00\xff\xff"
	fields := []Field{{Len: 4, NotNull: true}, {Len: 6, NotNull: true}, {Len: 7, NotNull: true}, {}, {Big: true, NotNull: true}}
	for typ, b := range map[Type]string{
		OldCompDelete: "\x00\x05\x00\x01" + lengths,
		Delete:        "\x01\x01\x00\x05\x00\x01" + lengths,
	} {
		rest, err := parse(typ, b+"\x00\x63")
		if err != nil || rest != "\x00\x63" || !x.Compact || x.NUniq != 1 || x.HasInstant || x.Versioned ||
			!slices.Equal(x.Fields, fields) || !slices.Equal(x.Physical, []int{0, 1, 2, 3, 4}) {
			t.Errorf("%v: %+v, rest %x, %v", typ, x, rest, err)
		}
	}
	// Columns that were added instantly before 8.0.29.
	for typ, b := range map[Type]string{
		OldCompDelete: "\x80\x03\x00\x05\x00\x01" + lengths,
		Delete:        "\x01\x05\x00\x05\x00\x03\x00\x01" + lengths,
	} {
		if rest, err := parse(typ, b); err != nil || rest != "" || !x.HasInstant || x.NInstant != 3 || x.Versioned || len(x.Fields) != 5 {
			t.Errorf("%v: %+v, rest %x, %v", typ, x, rest, err)
		}
	}
}

// TestVersions: where the fields of rows with versions lie. Logical order is
// that of the table now, physical order that in which columns came.
func TestVersions(t *testing.T) {
	var x Index
	type version struct{ logical, physical, added, dropped int }
	for _, tc := range []struct {
		name  string
		n     int
		list  []version
		want  []int // logical field at each physical position
		fails bool
	}{
		{"added at the end", 5, []version{{4, 4, 1, 0}}, []int{0, 1, 2, 3, 4}, false},
		{"added first", 5, []version{{0, 4, 1, 0}}, []int{1, 2, 3, 4, 0}, false},
		{"two added in the middle", 6, []version{{3, 4, 1, 0}, {4, 5, 2, 0}}, []int{0, 1, 2, 5, 3, 4}, false},
		{"dropped", 5, []version{{4, 3, 0, 1}}, []int{0, 1, 2, 4, 3}, false},
		{"added and dropped", 5, []version{{3, 3, 1, 2}}, []int{0, 1, 2, 3, 4}, false},
		{"two in one place", 5, []version{{3, 4, 1, 0}, {2, 4, 1, 0}}, nil, true},
		{"one twice", 5, []version{{3, 4, 1, 0}, {3, 3, 1, 0}}, nil, true},
		{"after the end", 5, []version{{5, 4, 1, 0}}, nil, true},
		{"no such place", 5, []version{{4, 5, 1, 0}}, nil, true},
	} {
		for _, compact := range []bool{true, false} {
			b := []byte{1, 2}
			if compact {
				b[1] = 3
			}
			b = binary.BigEndian.AppendUint16(b, uint16(tc.n))
			if compact {
				b = append(b, 0, 1)
				b = append(b, make([]byte, 2*tc.n)...)
			}
			b = binary.BigEndian.AppendUint16(b, uint16(len(tc.list)))
			for _, v := range tc.list {
				b = binary.BigEndian.AppendUint16(b, uint16(v.logical))
				flags, versions := 0, []byte(nil)
				if v.added > 0 {
					flags, versions = flags|0x8000, append(versions, byte(v.added))
				}
				if v.dropped > 0 {
					flags, versions = flags|0x4000, append(versions, byte(v.dropped))
				}
				b = binary.BigEndian.AppendUint16(b, uint16(v.physical|flags))
				b = append(b, versions...)
			}
			rest, err := x.Parse(Delete, append(b, 0, 99))
			if tc.fails {
				if err == nil {
					t.Errorf("%s: accepted", tc.name)
				}
				continue
			}
			if err != nil || len(rest) != 2 || !x.Versioned || x.Compact != compact || !slices.Equal(x.Physical, tc.want) {
				t.Errorf("%s: %+v, rest %x, %v", tc.name, x, rest, err)
			}
			for _, v := range tc.list {
				f := x.Fields[v.logical]
				if int(f.Added) != v.added || f.HasAdded != (v.added > 0) || int(f.Dropped) != v.dropped || f.HasDropped != (v.dropped > 0) {
					t.Errorf("%s: field %d: %+v", tc.name, v.logical, f)
				}
			}
		}
	}
}

// TestFileOps: 5.6 and 8.0 write FILE_CREATE in two ways.
func TestFileOps(t *testing.T) {
	for _, tc := range []struct {
		b    string
		want FileOp
	}{
		{"\xa1\x05\x00\x00\x05db/t\x00", FileOp{Type: FileCreate, Space: 5, Name: "db/t"}},
		{"\xa1\x05\x00\x00\x00\x40\x21\x00\x0bdb/t#1.ibd\x00", FileOp{Type: FileCreate, Space: 5, Name: "db/t#1.ibd", Flags: 0x4021}},
		{"\xaf\x05\x00\x00\x00\x00\x21\x00\x0b./db/t.ibd\x00", FileOp{Type: FileCreate2, Space: 5, Name: "./db/t.ibd", Flags: 0x21}},
		{"\xa2\x05\x00\x00\x05db/t\x00\x00\x05db/u\x00", FileOp{Type: FileRename, Space: 5, Name: "db/t", NewName: "db/u"}},
		{"\xa3\xfb\xef\x00\x00\x0b./undo_001\x00", FileOp{Type: FileDelete, Space: 0xFFFFFFEF, Name: "./undo_001"}},
		{"\xc1\x05\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x40\x00\x00", FileOp{Type: FileExtend, Space: 5, Offset: 1 << 16, Size: 1 << 22}},
	} {
		r, single, err := ParseRecord([]byte(tc.b))
		if err != nil || !single || r.Size != len(tc.b) {
			t.Fatalf("%+v: %+v, %v", tc.want, r, err)
		}
		if op, err := r.FileOp(); err != nil || op != tc.want {
			t.Errorf("%+v, %v, want %+v", op, err, tc.want)
		}
		checkPrefixes(t, []byte(tc.b))
	}
	for _, b := range []string{"\xa3\x05\x00\x00\x05a\x00b\x00\x00", "\xa3\x05\x00\x00\x05abcde", "\xa3\x05\x00\x00\x01\x00"} {
		r, _, err := ParseRecord([]byte(b))
		if err != nil {
			t.Fatal(err)
		}
		if op, err := r.FileOp(); err == nil {
			t.Errorf("%q: %+v", b, op)
		}
	}
}

func TestMetaSet(t *testing.T) {
	counter := func(table, version, v uint64) Meta {
		return Meta{Table: table, Version: version, Item: AppendM64([]byte{metaCounter}, v)}
	}
	corrupted := func(table uint64, ids ...byte) Meta {
		item := []byte{metaCorrupted, byte(len(ids))}
		for _, id := range ids {
			item = append(item, append(make([]byte, metaIndex-1), id)...)
		}
		return Meta{Table: table, Item: item}
	}
	s := MetaSet{}
	// Of one version the highest counter counts, in any order; a new version
	// begins again.
	for _, m := range []Meta{
		counter(9, 0, 5), counter(9, 0, 300), counter(9, 0, 200),
		counter(8, 0, 1<<40), counter(8, 1, 7), counter(8, 0, 1<<41),
		corrupted(9, 3), corrupted(9, 3, 4),
	} {
		body := m.Append(nil)[1:]
		got, err := ParseMeta(body)
		if err != nil || got.Table != m.Table || got.Version != m.Version || !bytes.Equal(got.Item, m.Item) {
			t.Fatalf("%+v comes back as %+v, %v", m, got, err)
		}
		s.Add(got)
	}
	want := []Meta{counter(8, 1, 7), corrupted(9, 3, 4), counter(9, 0, 300)}
	if got := s.Sorted(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, b := range [][]byte{nil, {1}, {1, 1, 2}, {1, 1, 2, 5, 6}, {1, 1, 9, 1}, {1, 1, 1, 2, 0}} {
		if m, err := ParseMeta(b); err == nil {
			t.Errorf("%x: %+v", b, m)
		}
	}
	if err := (&Meta{Item: []byte{3}}).Check(); err == nil {
		t.Error("metadata that no server could read passes")
	}
}

// checkPrefixes: of a record that is cut short nothing is found but that.
func checkPrefixes(t *testing.T, record []byte) {
	t.Helper()
	for n := range min(len(record), 100) {
		if r, _, err := ParseRecord(record[:n]); err != ErrShort {
			t.Fatalf("%d bytes of %x: %+v, %v", n, record, r, err)
		}
	}
}
