package xbstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"hb/xbstream/xbtest/raw"
)

// maxTestFile bounds what a seek or a hole can make parse allocate.
const maxTestFile = 64 << 20

// parse reads an archive to its end and returns the files as an extraction
// would leave them.
func parse(r io.Reader, opts ReaderOptions) (map[string][]byte, error) {
	files := make(map[string][]byte)
	rd := NewReader(r, opts)
	for {
		c, err := rd.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return files, err
		}
		if c.First {
			files[c.Path] = nil
		}
		switch c.Type {
		case Payload:
			files[c.Path] = putAt(files[c.Path], c.Offset, c.Data)
		case Sparse:
			at, data := c.Offset, c.Data
			for _, e := range c.Sparse {
				files[c.Path] = putAt(files[c.Path], at, nil)
				at += int64(e.Skip)
				files[c.Path] = putAt(files[c.Path], at, data[:e.Len])
				at, data = at+int64(e.Len), data[e.Len:]
			}
		case Rename:
			files[c.NewPath] = files[c.Path]
			if c.NewPath != c.Path {
				delete(files, c.Path)
			}
		case Remove:
			for _, path := range c.Removed {
				delete(files, path)
			}
		}
	}
}

func putAt(b []byte, at int64, p []byte) []byte {
	if end := at + int64(len(p)); end > int64(len(b)) && end <= maxTestFile {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	if at <= int64(len(b)) {
		copy(b[at:], p)
	}
	return b
}

func TestReaderGolden(t *testing.T) {
	want := map[string][]byte{"a/b": []byte("hello!"), "c": {0}, "empty": nil}
	readers := map[string]func(io.Reader) io.Reader{
		"plain":   func(r io.Reader) io.Reader { return r },
		"onebyte": iotest.OneByteReader,
		"half":    iotest.HalfReader,
		"dataerr": iotest.DataErrReader,
	}
	for name, wrap := range readers {
		for _, dialect := range []Dialect{AnyDialect, MariaDB, Percona} {
			files, err := parse(wrap(strings.NewReader(golden)), ReaderOptions{Dialect: dialect})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !maps.EqualFunc(files, want, bytes.Equal) {
				t.Errorf("%s: got %q, want %q", name, files, want)
			}
		}
	}
}

func TestReaderChunks(t *testing.T) {
	rd := NewReader(strings.NewReader(golden), ReaderOptions{})
	var got []string
	for {
		c, err := rd.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d %v %s %d %q first=%v", c.At, c.Type, c.Path, c.Offset, c.Data, c.First))
	}
	want := []string{
		`0 payload a/b 0 "hello" first=true`,
		`42 payload c 0 "\x00" first=true`,
		`78 payload a/b 5 "!" first=false`,
		`116 end of file empty 0 "" first=true`,
		`135 end of file c 1 "" first=false`,
		`150 end of file a/b 6 "" first=false`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if rd.Pos() != int64(len(golden)) {
		t.Errorf("Pos() = %d, want %d", rd.Pos(), len(golden))
	}
}

// TestReaderTruncation cuts an archive of two interleaved files everywhere. A
// cut between two chunks must be noticed as well as one within.
func TestReaderTruncation(t *testing.T) {
	whole := slices.Concat(
		raw.Payload(0, "a/b", 0, "hello"),
		raw.Payload(0, "c", 0, "x"),
		raw.End("c"),
		raw.Payload(0, "a/b", 5, "!"),
		raw.End("a/b"))
	boundaries := map[int]bool{42: true, 78: true, 93: true, 131: true}
	for n := range len(whole) {
		_, err := parse(bytes.NewReader(whole[:n]), ReaderOptions{})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v, want io.ErrUnexpectedEOF", n, err)
		}
		unclosed, ok := errors.AsType[*UnclosedError](err)
		if ok != boundaries[n] {
			t.Errorf("cut at %d: error %v (%T)", n, err, err)
		}
		if ok && !slices.Contains(unclosed.Paths, "a/b") {
			t.Errorf("cut at %d: error does not name the unfinished file: %v", n, err)
		}
	}
	if _, err := parse(bytes.NewReader(whole), ReaderOptions{}); err != nil {
		t.Errorf("the whole archive: %v", err)
	}
}

func TestReaderErrorIsSticky(t *testing.T) {
	rd := NewReader(io.MultiReader(strings.NewReader("garbage, not a chunk"), strings.NewReader(golden)), ReaderOptions{})
	_, first := rd.Next()
	_, second := rd.Next()
	if first == nil || first != second {
		t.Errorf("first error %v, second %v", first, second)
	}
}

func TestReaderPassesOnErrors(t *testing.T) {
	errNet := errors.New("connection reset")
	for n := range len(golden) {
		r := io.MultiReader(strings.NewReader(golden[:n]), iotest.ErrReader(errNet))
		if _, err := parse(r, ReaderOptions{}); !errors.Is(err, errNet) {
			t.Errorf("error after %d bytes: got %v", n, err)
		}
	}
}

func setLE64(b []byte, at int, v uint64) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint64(b[at:], v)
	return b
}

func setLE32(b []byte, at int, v uint32) []byte {
	b = bytes.Clone(b)
	binary.LittleEndian.PutUint32(b[at:], v)
	return b
}

func TestReaderHostile(t *testing.T) {
	p := raw.Payload(0, "f", 0, "data")
	sparse := raw.Sparse("f", 0, []uint32{4, 4}, "data")
	tests := []struct {
		name    string
		in      []byte
		dialect Dialect
		want    string
	}{
		{"not an archive", []byte("PK\x03\x04 something else"), 0, "no chunk begins here"},
		{"trailing garbage", slices.Concat([]byte(golden), []byte("garbage")), 0, "no chunk begins here"},
		{"later version", []byte("XBSTCK02\x00P\x01\x00\x00\x00f"), 0, "a version of xbstream"},
		{"unknown type", raw.Chunk('z', 0, "f"), 0, "unknown chunk type 'z'"},
		{"unknown type, ignorable", raw.Chunk('z', 1, "f"), 0, "ignorable"},
		{"type NUL", raw.Chunk(0, 0, "f"), 0, "unknown chunk"},
		{"hb's own seek value", raw.Chunk('s', 0, "f"), 0, "unknown chunk"},
		{"unknown flags", raw.Chunk('P', 0x80, "f"), 0, "unknown flags"},
		{"empty path", raw.Chunk('P', 0, ""), 0, "path length"},
		{"path of 512 bytes", raw.Payload(0, strings.Repeat("x", 512), 0, ""), 0, "path length"},
		{"path length bomb", setLE32(p, 10, 0xffffffff), 0, "path length"},
		{"parent", raw.Payload(0, "../x", 0, "d"), 0, "unsafe name"},
		{"inner parent", raw.Payload(0, "a/../../x", 0, "d"), 0, "unsafe name"},
		{"absolute", raw.Payload(0, "/etc/passwd", 0, "d"), 0, "unsafe name"},
		{"dot slash absolute", raw.Payload(0, ".//etc/passwd", 0, "d"), 0, "unsafe name"},
		{"dot", raw.Payload(0, ".", 0, "d"), 0, "unsafe name"},
		{"only dot slash", raw.Payload(0, "./", 0, "d"), 0, "unsafe name"},
		{"directory", raw.Payload(0, "a/", 0, "d"), 0, "unsafe name"},
		{"NUL in path", raw.Payload(0, "a\x00b", 0, "d"), 0, "unsafe name"},
		{"payload length bomb", setLE64(p, 15, MaxPayload+1), 0, "payload length"},
		{"payload length negative", setLE64(p, 15, 1<<63), 0, "payload length"},
		{"offset not at start", raw.Payload(0, "f", 1, "data"), 0, "payload offset: want 0, got 1"},
		{"offset overflow", raw.Payload(0, "f", 1<<63-2, "data"), 0, "payload offset"},
		{"offset negative", raw.Payload(0, "f", 1<<63, "data"), 0, "payload offset"},
		{"gap", slices.Concat(p, raw.Payload(0, "f", 5, "data")), 0, "payload offset: want 4, got 5"},
		{"overlap", slices.Concat(p, raw.Payload(0, "f", 3, "data")), 0, "payload offset: want 4, got 3"},
		{"repeat", slices.Concat(p, p), 0, "payload offset: want 4, got 0"},
		{"checksum", raw.Chunk('P', 0, "f", uint64(4), uint64(0), uint32(0xdeadbeef), []byte("data")), 0, "checksum: want deadbeef, got adf3f363"},
		{"same path twice", slices.Concat(p, raw.End("f"), p), 0, "twice"},
		{"same path twice by dot slash", slices.Concat(p, raw.End("f"), raw.Payload(0, "./f", 0, "data")), 0, "twice"},
		{"end twice", slices.Concat(p, raw.End("f"), raw.End("f")), 0, "twice"},
		{"single object is no rewrite", slices.Concat(p, raw.End("f"), raw.Payload(2, "f", 0, "x")), Percona, "twice"},
		{"rename of an open file", slices.Concat(p, raw.Rename("f", "g")), 0, "before it ended"},
		{"rename of nothing", raw.Rename("f", "g"), 0, "before it ended"},
		{"rename over an open file", slices.Concat(p, raw.End("f"), raw.Payload(0, "g", 0, "x"), raw.Rename("f", "g")), 0, "has not ended"},
		{"rename out", slices.Concat(p, raw.End("f"), raw.Rename("f", "../g")), 0, "unsafe name"},
		{"rename length bomb", slices.Concat(p, raw.End("f"), raw.Chunk('R', 0, "f"), []byte{0xff, 0xff, 0xff, 0x7f}), 0, "path length"},
		{"remove of an open file", slices.Concat(p, raw.Remove("f")), 0, "has not ended"},
		{"remove by pattern of an open file", slices.Concat(p, raw.Remove("f*")), 0, "has not ended"},
		{"remove outside", raw.Remove("../*"), 0, "unsafe name"},
		{"MariaDB chunk in Percona's archive", slices.Concat(p, raw.End("f"), raw.Remove("f")), Percona, "MariaDB"},
		{"seek negative", slices.Concat(raw.Seek("f", 1<<63), p), 0, "seek offset"},
		{"gap after seek", slices.Concat(raw.Seek("f", 100), raw.Payload(0, "f", 101, "x")), 0, "payload offset: want 100, got 101"},
		{"sparse map bomb", setLE32(sparse, 15, MaxSparse+1), 0, "entries of the sparse map"},
		{"sparse map too short for its payload", raw.Sparse("f", 0, []uint32{4, 3}, "data"), 0, "does not cover"},
		{"sparse map longer than its payload", raw.Sparse("f", 0, []uint32{4, 5}, "data"), 0, "does not cover"},
		{"sparse overflow", setLE64(raw.Sparse("f", 0, []uint32{4, 4}, "data"), 27, MaxFile-7), 0, "reaches too far"},
		{"sparse gap", slices.Concat(sparse, raw.Payload(0, "f", 4, "x")), 0, "payload offset: want 8, got 4"},
		{"S of neither dialect", slices.Concat(raw.Chunk('S', 0, "f"), make([]byte, 23), []byte{1}), 0, "neither"},
		{"sparse checksum", setLE32(sparse, 35, 1), Percona, "checksum: want 00000001"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(bytes.NewReader(tt.in), ReaderOptions{Dialect: tt.dialect})
			corrupt, ok := errors.AsType[*CorruptError](err)
			if !ok {
				t.Fatalf("error %v (%T), want a CorruptError", err, err)
			}
			if !strings.Contains(corrupt.Error(), tt.want) {
				t.Errorf("error %q does not say %q", corrupt, tt.want)
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("damage passes for a truncation: %v", err)
			}
		})
	}
}

// TestReaderBoundsAllocation makes sure that a promise alone costs nothing
// beyond the limits.
func TestReaderBoundsAllocation(t *testing.T) {
	in := setLE64(raw.Payload(0, "f", 0, ""), 15, MaxPayload+1)
	_, err := parse(bytes.NewReader(in), ReaderOptions{Alloc: func(n int) ([]byte, error) {
		t.Errorf("%d bytes allocated for a payload that is too long", n)
		return make([]byte, n), nil
	}})
	if err == nil {
		t.Error("accepted")
	}
}

func TestReaderAlloc(t *testing.T) {
	var bufs [][]byte
	rd := NewReader(strings.NewReader(golden), ReaderOptions{Alloc: func(n int) ([]byte, error) {
		b := make([]byte, n+3)
		bufs = append(bufs, b)
		return b, nil
	}})
	var datas [][]byte
	for {
		c, err := rd.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.Data != nil {
			datas = append(datas, c.Data)
		}
	}
	if got := fmt.Sprintf("%q", datas); got != `["hello" "\x00" "!"]` {
		t.Errorf("payloads kept by the caller: %s", got)
	}
	for i := range datas {
		if &datas[i][0] != &bufs[i][0] {
			t.Errorf("payload %d is not in the caller's memory", i)
		}
	}
	errFull := errors.New("no more memory")
	_, err := parse(strings.NewReader(golden), ReaderOptions{Alloc: func(int) ([]byte, error) { return nil, errFull }})
	if !errors.Is(err, errFull) {
		t.Errorf("Alloc's error came back as %v", err)
	}
}

func TestReaderDialects(t *testing.T) {
	const mariadb, percona = "MariaDB", "Percona"
	tests := []struct {
		name    string
		in      []byte
		want    map[string]string
		dialect string
	}{
		{"seek forward and back", slices.Concat(
			raw.Seek("log", 4), raw.Payload(0, "log", 4, "body"),
			raw.Seek("log", 0), raw.Payload(0, "log", 0, "head"), raw.End("log")),
			map[string]string{"log": "headbody"}, mariadb},
		{"rename swap", slices.Concat(
			raw.Payload(0, "a", 0, "A"), raw.End("a"), raw.Payload(0, "b", 0, "B"), raw.End("b"),
			raw.Rename("a", "tmp"), raw.Rename("b", "a"), raw.Rename("tmp", "b")),
			map[string]string{"a": "B", "b": "A"}, mariadb},
		{"rename over", slices.Concat(
			raw.Payload(0, "a", 0, "A"), raw.End("a"), raw.Payload(0, "b", 0, "B"), raw.End("b"), raw.Rename("a", "b")),
			map[string]string{"b": "A"}, mariadb},
		{"remove, and the name comes again", slices.Concat(
			raw.Payload(0, "a", 0, "A"), raw.End("a"), raw.Remove("a"), raw.Payload(0, "a", 0, "B"), raw.End("a")),
			map[string]string{"a": "B"}, mariadb},
		{"remove of what never was", slices.Concat(raw.Remove("x"), raw.End("a")),
			map[string]string{"a": ""}, mariadb},
		{"remove by pattern", slices.Concat(
			raw.End("d/t#P#p0.MYD"), raw.End("d/t#P#p1.MYD"), raw.End("d/t.frm"), raw.End("d/t#P#x/y"), raw.End("e/t#P#p0.MYD"), raw.Remove("d/t#P#*")),
			map[string]string{"d/t.frm": "", "d/t#P#x/y": "", "e/t#P#p0.MYD": ""}, mariadb},
		{"rewrite", slices.Concat(
			raw.Payload(0, "a", 0, "first"), raw.End("a"), raw.Payload(2, "a", 0, "x"), raw.Payload(2, "a", 1, "y"), raw.End("a")),
			map[string]string{"a": "xy"}, mariadb},
		{"rewrite to nothing", slices.Concat(
			raw.Payload(0, "a", 0, "first"), raw.End("a"), raw.Remove("none"), raw.End("a")),
			map[string]string{"a": ""}, mariadb},
		{"flag 2 on a new file tells nothing", slices.Concat(raw.Payload(2, "a", 0, "x"), raw.End("a")),
			map[string]string{"a": "x"}, "unknown"},
		{"sparse", slices.Concat(
			raw.Sparse("a", 0, []uint32{0, 2, 3, 2, 2, 0}, "abcd"), raw.Payload(0, "a", 9, "!"), raw.End("a")),
			map[string]string{"a": "ab\x00\x00\x00cd\x00\x00!"}, percona},
		{"sparse without data", slices.Concat(raw.Sparse("a", 0, []uint32{4, 0}, ""), raw.End("a")),
			map[string]string{"a": "\x00\x00\x00\x00"}, percona},
		{"ignorable flag on a known type", slices.Concat(raw.Payload(1, "a", 0, "x"), raw.End("a")),
			map[string]string{"a": "x"}, "unknown"},
		{"empty payload", slices.Concat(raw.Payload(0, "a", 0, ""), raw.End("a")), map[string]string{"a": ""}, "unknown"},
		{"dot slash", slices.Concat(raw.Payload(0, "././d/a", 0, "x"), raw.End("d/a")), map[string]string{"d/a": "x"}, "unknown"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, wrap := range []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader} {
				files, err := parse(wrap(bytes.NewReader(tt.in)), ReaderOptions{})
				if err != nil {
					t.Fatal(err)
				}
				got := make(map[string]string)
				for path, data := range files {
					got[path] = string(data)
				}
				if !maps.Equal(got, tt.want) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			}
			rd := NewReader(bytes.NewReader(tt.in), ReaderOptions{})
			for {
				if _, err := rd.Next(); err != nil {
					break
				}
			}
			if got := rd.Dialect().String(); got != tt.dialect {
				t.Errorf("dialect %s, want %s", got, tt.dialect)
			}
		})
	}
}

// TestReaderSeekAtEnd: an archive cut right after a seek is cut, however the
// S is understood.
func TestReaderSeekAtEnd(t *testing.T) {
	in := raw.Seek("f", 7)
	for n := 1; n <= len(in); n++ {
		if _, err := parse(bytes.NewReader(in[:n]), ReaderOptions{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}
