package mysqlredo

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/redolog"
)

func TestHeaders(t *testing.T) {
	for f := Format56; f <= LastFormat; f++ {
		if f == Format8029 {
			continue
		}
		h := Header{Format: f, StartLSN: 1 << 20, Creator: "MySQL 1.2.3"}
		if f >= Format8020 {
			h.Flags = FileFull
		}
		if f == Format8030 {
			h.UUID = 0x12345678
		}
		b := h.Marshal()
		if got, err := ParseHeader(b); err != nil || got != h {
			t.Errorf("%v: %+v, %v", f, got, err)
		}
		b[20]++
		if _, err := ParseHeader(b); (err == nil) != (f == Format56) {
			t.Errorf("%v, damaged: %v", f, err)
		}
	}
	for name, b := range map[string][]byte{
		"cut": make([]byte, 511), "zero": make([]byte, 512), "nothing": nil,
	} {
		if _, err := ParseHeader(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, tag := range []uint32{5, 7, 0x50485953, 0x50687973, 104 | 1<<31} {
		_, err := ParseHeader(binary.BigEndian.AppendUint32(nil, tag)[:4:4])
		if err == nil {
			t.Errorf("%#x: accepted", tag)
		}
		_, err = ParseHeader(append(binary.BigEndian.AppendUint32(nil, tag), make([]byte, 508)...))
		var u *UnsupportedError
		if !errors.As(err, &u) || u.Tag != tag || strings.Contains(err.Error(), "MariaDB") != (tag > 7) || strings.Contains(err.Error(), "8.0.29") != (tag == 5) {
			t.Errorf("%#x: %v", tag, err)
		}
	}
}

func TestFlags(t *testing.T) {
	for flags, text := range map[Flags]string{
		NoLogging: "disabled", NoLogging | CrashUnsafe | FileFull: "disabled", CrashUnsafe: "crashed",
		NotInitialized: "not initialised", 1 << 7: "unknown", 0: "", FileFull: "",
	} {
		err := flags.Check()
		var fe *FlagsError
		if (err != nil) != (text != "") || err != nil && (!errors.As(err, &fe) || !strings.Contains(err.Error(), text)) {
			t.Errorf("%#x: %v", flags, err)
		}
	}
}

// TestCheckpointChoice: by number before 8.0.30, even against the LSN; by LSN
// since, of all files, but only in a file's own range.
func TestCheckpointChoice(t *testing.T) {
	for f := Format56; f < Format8030; f++ {
		h := Header{Format: f}
		older := Checkpoint{No: 7, LSN: 50000, Offset: 2048 + 50000%512}
		newer := Checkpoint{No: 8, LSN: 40000, Offset: 5<<32 + 2048 + 40000%512}
		for _, slots := range [][2]int{{firstSlot, secondSlot}, {secondSlot, firstSlot}} {
			head := make([]byte, HeaderSize)
			copy(head[slots[0]:], h.MarshalCheckpoint(newer))
			copy(head[slots[1]:], h.MarshalCheckpoint(older))
			if c, err := h.Checkpoint(head); err != nil || c != newer {
				t.Errorf("%v: %+v, %v", f, c, err)
			}
			head[slots[0]+9]++ // damage the newer one
			if c, err := h.Checkpoint(head); err != nil || c != older {
				t.Errorf("%v, newer damaged: %+v, %v", f, c, err)
			}
			head[slots[1]+9]++
			if _, err := h.Checkpoint(head); !errors.Is(err, ErrNoCheckpoint) {
				t.Errorf("%v, both damaged: %v", f, err)
			}
		}
	}
	head := make([]byte, HeaderSize)
	file := RedoFile{Size: 1 << 20, Header: Header{Format: Format8030, StartLSN: 1 << 30}}
	put := func(a, b innodb.LSN) {
		copy(head[firstSlot:], file.Header.MarshalCheckpoint(Checkpoint{LSN: a}))
		copy(head[secondSlot:], file.Header.MarshalCheckpoint(Checkpoint{LSN: b}))
	}
	const start, end = 1 << 30, 1<<30 + 1<<20 - HeaderSize
	for _, tc := range []struct{ a, b, want innodb.LSN }{
		{start + 12, start + 600, start + 600}, {start + 600, start + 12, start + 600},
		{0, start + 12, start + 12}, {start + 12, end + 12, start + 12}, {start - 500, start + 12, start + 12},
		{start - 500, end, 0}, {0, 0, 0},
	} {
		put(tc.a, tc.b)
		c, ok, err := file.Checkpoint(head)
		if err != nil || ok != (tc.want != 0) || c.LSN != tc.want {
			t.Errorf("%d, %d: %+v, %v, %v", tc.a, tc.b, c, ok, err)
		}
	}
	if _, err := file.Header.Checkpoints(head[:HeaderSize-1]); err == nil {
		t.Error("a header that is cut short has checkpoints")
	}
}

// TestParseLinear: of the two checkpoints in what XtraBackup copied that one
// counts that the log begins with.
func TestParseLinear(t *testing.T) {
	h := Header{Format: Format57, StartLSN: 8192}
	const first, second = innodb.LSN(100*blockSize + 50), innodb.LSN(200*blockSize + 60)
	b := make([]byte, HeaderSize)
	copy(b, h.Marshal())
	copy(b[firstSlot:], h.MarshalCheckpoint(Checkpoint{No: 8, LSN: first, Offset: 2048 + 50}))
	copy(b[secondSlot:], h.MarshalCheckpoint(Checkpoint{No: 9, LSN: second, Offset: 4096 + 60}))
	for _, at := range []innodb.LSN{first, second} {
		l, err := ParseLinear(append(slices.Clone(b), block(Format57, redolog.BlockOf(at), blockSize, 12, nil)...))
		if err != nil || l.Checkpoint.LSN != at || l.Offset(at) != HeaderSize+int64(at%blockSize) {
			t.Errorf("%d: %+v, %v", at, l, err)
		}
	}
	for name, rest := range map[string][]byte{
		"another block": block(Format57, 150*blockSize, blockSize, 12, nil), "none": nil, "zero": make([]byte, blockSize),
	} {
		if l, err := ParseLinear(append(slices.Clone(b), rest...)); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

// TestRing walks a ring of three files around and compares with a model.
func TestRing(t *testing.T) {
	const files, size, part = 3, 2048 + 4*512, 4 * 512
	for _, c := range []Checkpoint{{LSN: 1<<40 + 100, Offset: 2*size + 2048 + 512 + 100}, {LSN: 8204, Offset: 2048 + 12}} {
		r, err := NewRing(files, size, c)
		if err != nil {
			t.Fatal(err)
		}
		file, offset := int(c.Offset/size), int64(c.Offset%size)
		for lsn := c.LSN; lsn < c.LSN+3*r.Capacity(); lsn++ {
			gotFile, gotOffset, rest := r.Locate(lsn)
			if gotFile != file || gotOffset != offset || rest != size-offset {
				t.Fatalf("LSN %d: file %d, offset %d, %d; want %d, %d", lsn, gotFile, gotOffset, rest, file, offset)
			}
			if offset++; offset == size {
				file, offset = (file+1)%files, HeaderSize
			}
		}
		back, at, _ := r.Locate(c.LSN - part)
		if want := (int(c.Offset/size) + files - 1) % files; back != want || at != int64(c.Offset%size) {
			t.Errorf("a file before the checkpoint: %d, %d", back, at)
		}
	}
	for _, tc := range []struct {
		files  int
		size   int64
		offset uint64
	}{{0, size, 2060}, {101, size, 2060}, {2, 2048, 2060}, {2, size + 1, 2060}, {2, size, 2 * size}, {2, size, size + 100}} {
		if _, err := NewRing(tc.files, tc.size, Checkpoint{LSN: 12, Offset: tc.offset}); err == nil {
			t.Errorf("%+v: accepted", tc)
		}
	}
}

func TestRedoNames(t *testing.T) {
	for name, want := range map[string]bool{
		"#ib_redo0": true, "#ib_redo123": true, "#ib_redo123_tmp": false, "#ib_redo": false, "#ib_redo01": false,
		"#ib_redo+1": false, "ib_logfile0": false, "#ib_redo99999999999999999999": false,
	} {
		if id, ok := ParseRedoName(name); ok != want || ok && RedoName(id) != name {
			t.Errorf("%s: %d, %v", name, id, ok)
		}
	}
}

func TestSequence(t *testing.T) {
	file := func(id uint64, start innodb.LSN, size int64, flags Flags) RedoFile {
		return RedoFile{ID: id, Size: size, Header: Header{Format: Format8030, UUID: 1, StartLSN: start, Flags: flags}}
	}
	whole := func() []RedoFile { // of different sizes, out of order
		return []RedoFile{
			file(9, 1<<20+65536-2048, 1<<20, FileFull), file(8, 1<<20, 65536, FileFull),
			file(10, 1<<20+65536-2048+1<<20-2048, 65536, 0),
		}
	}
	files := whole()
	if err := CheckSequence(files); err != nil || files[0].ID != 8 || files[2].ID != 10 {
		t.Errorf("%v, %v", files, err)
	}
	for name, edit := range map[string]func(f []RedoFile) []RedoFile{
		"none":          func(f []RedoFile) []RedoFile { return nil },
		"hole":          func(f []RedoFile) []RedoFile { return f[1:] },
		"wrong start":   func(f []RedoFile) []RedoFile { f[2].Header.StartLSN += 512; return f },
		"foreign":       func(f []RedoFile) []RedoFile { f[0].Header.UUID++; return f },
		"newest lost":   func(f []RedoFile) []RedoFile { return f[:2] },
		"another size":  func(f []RedoFile) []RedoFile { f[1].Size += 512; return f },
		"id left out":   func(f []RedoFile) []RedoFile { f[2].ID++; return f },
		"the same file": func(f []RedoFile) []RedoFile { return append(f, f[0]) },
	} {
		if err := CheckSequence(edit(whole())); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
