package xbstream

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// golden is an archive of two interleaved files and an empty one, written out
// byte by byte from the format's description.
const golden = "" +
	"XBSTCK01" + "\x00" + "P" + "\x03\x00\x00\x00" + "a/b" +
	"\x05\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x86\xa6\x10\x36" + "hello" +
	"XBSTCK01" + "\x00" + "P" + "\x01\x00\x00\x00" + "c" +
	"\x01\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x8d\xef\x02\xd2" + "\x00" +
	"XBSTCK01" + "\x00" + "P" + "\x03\x00\x00\x00" + "a/b" +
	"\x01\x00\x00\x00\x00\x00\x00\x00" + "\x05\x00\x00\x00\x00\x00\x00\x00" + "\xd3\xff\x6b\x9e" + "!" +
	"XBSTCK01" + "\x00" + "E" + "\x05\x00\x00\x00" + "empty" +
	"XBSTCK01" + "\x00" + "E" + "\x01\x00\x00\x00" + "c" +
	"XBSTCK01" + "\x00" + "E" + "\x03\x00\x00\x00" + "a/b"

func writeGolden(t *testing.T, sink io.Writer) {
	t.Helper()
	w := NewWriter(sink)
	step := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	put := func(f *File, s string) {
		t.Helper()
		n, err := f.Write([]byte(s))
		if err != nil || n != len(s) {
			t.Fatalf("Write(%q) = %d, %v", s, n, err)
		}
	}
	ab, err := w.Create("a/b")
	step(err)
	put(ab, "hello")
	c, err := w.Create("c")
	step(err)
	put(c, "\x00")
	put(ab, "!")
	empty, err := w.Create("empty")
	step(err)
	step(empty.Close())
	step(c.Close())
	put(ab, "")
	step(ab.Close())
	step(w.Close())
	if got := w.Written(); got != int64(len(golden)) {
		t.Errorf("Written() = %d, want %d", got, len(golden))
	}
	want := Sum{Size: 6, CRC32: crc32.ChecksumIEEE([]byte("hello!")), Chunks: 2}
	if ab.Sum() != want {
		t.Errorf("Sum() = %+v, want %+v", ab.Sum(), want)
	}
}

type vecSink struct {
	bytes.Buffer
	vecs int
}

func (s *vecSink) WriteVec(bufs ...[]byte) (int, error) {
	s.vecs++
	n := 0
	for _, b := range bufs {
		n += len(b)
		s.Write(b)
	}
	return n, nil
}

func TestWriterGolden(t *testing.T) {
	var plain bytes.Buffer
	writeGolden(t, &plain)
	if plain.String() != golden {
		t.Errorf("got\n%q\nwant\n%q", plain.String(), golden)
	}
	var vec vecSink
	writeGolden(t, &vec)
	if vec.String() != golden {
		t.Errorf("gathered writes gave\n%q\nwant\n%q", vec.String(), golden)
	}
	if vec.vecs != 3 {
		t.Errorf("%d gathered writes, want one for each of 3 payload chunks", vec.vecs)
	}
}

func TestWriterSplitsAtMaxChunk(t *testing.T) {
	for _, size := range []int{MaxChunk - 1, MaxChunk, MaxChunk + 1, 2*MaxChunk + 7} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(i * 7 >> 3)
		}
		var sink bytes.Buffer
		w := NewWriter(&sink)
		f, err := w.Create("big")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := f.Write(data); n != size || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
		want := Sum{Size: int64(size), CRC32: crc32.ChecksumIEEE(data), Chunks: int64((size + MaxChunk - 1) / MaxChunk)}
		if f.Sum() != want {
			t.Errorf("Sum() = %+v, want %+v", f.Sum(), want)
		}
		if err := errors.Join(f.Close(), w.Close()); err != nil {
			t.Fatal(err)
		}
		files, err := parse(&sink, ReaderOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(files["big"], data) {
			t.Errorf("size %d: other bytes came back", size)
		}
	}
}

func TestWriterConcurrent(t *testing.T) {
	var sink vecSink
	w := NewWriter(&sink)
	want := make(map[string][]byte)
	var wg sync.WaitGroup
	for i := range 8 {
		path := fmt.Sprintf("dir/file%d", i)
		data := bytes.Repeat([]byte{byte(i), byte(i * 3)}, 1000+i)
		want[path] = data
		f, err := w.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 97+i)
				if _, err := f.Write(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := parse(&sink, ReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(want) {
		t.Errorf("%d files, want %d", len(files), len(want))
	}
	for path, data := range want {
		if !bytes.Equal(files[path], data) {
			t.Errorf("%s: other bytes came back", path)
		}
	}
}

func TestWriterMisuse(t *testing.T) {
	errBroken := errors.New("sink is broken")
	newFile := func(w *Writer, path string) *File {
		f, err := w.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	tests := []struct {
		name string
		do   func(w *Writer) error
		want string
	}{
		{"same path twice", func(w *Writer) error {
			newFile(w, "a").Close()
			_, err := w.Create("a")
			return err
		}, "already in the archive"},
		{"file closed twice", func(w *Writer) error {
			f := newFile(w, "a")
			f.Close()
			return f.Close()
		}, "already closed"},
		{"write after file close", func(w *Writer) error {
			f := newFile(w, "a")
			f.Close()
			_, err := f.Write([]byte("x"))
			return err
		}, "already closed"},
		{"archive closed with an open file", func(w *Writer) error {
			newFile(w, "a")
			return w.Close()
		}, "1 of its files unfinished"},
		{"archive without files", func(w *Writer) error { return w.Close() }, "without a file"},
		{"archive closed twice", func(w *Writer) error {
			newFile(w, "a").Close()
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			return w.Close()
		}, "already closed"},
		{"create after close", func(w *Writer) error {
			newFile(w, "a").Close()
			w.Close()
			_, err := w.Create("b")
			return err
		}, "already closed"},
		{"abort poisons the archive", func(w *Writer) error {
			a, b := newFile(w, "a"), newFile(w, "b")
			a.Abort(errBroken)
			if _, err := b.Write([]byte("x")); !errors.Is(err, errBroken) {
				t.Errorf("Write to another file after Abort: %v", err)
			}
			if err := b.Close(); !errors.Is(err, errBroken) {
				t.Errorf("Close of another file after Abort: %v", err)
			}
			if _, err := w.Create("c"); !errors.Is(err, errBroken) {
				t.Errorf("Create after Abort: %v", err)
			}
			return w.Close()
		}, `file "a": sink is broken`},
		{"first error stays", func(w *Writer) error {
			w.Abort(errBroken)
			w.Abort(errors.New("second"))
			return w.Close()
		}, "sink is broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.do(NewWriter(io.Discard))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// failAfter is a sink that takes n bytes and then fails, or only pretends to
// have taken less.
type failAfter struct {
	n     int
	err   error
	calls int
}

func (s *failAfter) Write(p []byte) (int, error) {
	s.calls++
	if len(p) <= s.n {
		s.n -= len(p)
		return len(p), nil
	}
	n := s.n
	s.n = 0
	return n, s.err
}

func TestWriterSinkErrors(t *testing.T) {
	errFull := errors.New("no space")
	for _, sinkErr := range []error{errFull, nil} {
		want := sinkErr
		if want == nil {
			want = io.ErrShortWrite
		}
		for room := range len(golden) {
			sink := &failAfter{n: room, err: sinkErr}
			w := NewWriter(sink)
			a, _ := w.Create("a/b")
			c, _ := w.Create("c")
			a.Write([]byte("hello"))
			c.Write([]byte{0})
			a.Write([]byte("!"))
			c.Close()
			a.Close()
			e, err := w.Create("empty")
			if err == nil {
				e.Close()
			}
			calls := sink.calls
			err = w.Close()
			if !errors.Is(err, want) {
				t.Fatalf("sink of %d bytes: Close = %v, want %v", room, err, want)
			}
			if w.Written() != int64(room) {
				t.Errorf("sink of %d bytes: Written() = %d", room, w.Written())
			}
			if _, err := a.Write([]byte("more")); !errors.Is(err, want) {
				t.Errorf("Write after failure: %v", err)
			}
			if sink.calls != calls {
				t.Error("the sink was called again after its error")
			}
		}
	}
}

func TestCheckPath(t *testing.T) {
	for _, path := range []string{"a", "a/b.ibd", "db/t#P#p0.ibd", "#innodb_redo/x", "a..b", "a/.b", strings.Repeat("x", MaxPath)} {
		if err := CheckPath(path); err != nil {
			t.Errorf("CheckPath(%q) = %v", path, err)
		}
	}
	for _, path := range []string{"", "/a", ".", "..", "./a", "../a", ".a", "a/..", "a/../b", "a/./b", "a//b", "a/", "a\x00b", strings.Repeat("x", MaxPath+1)} {
		if err := CheckPath(path); err == nil {
			t.Errorf("CheckPath(%q) accepts it", path)
		}
		if _, err := NewWriter(io.Discard).Create(path); err == nil {
			t.Errorf("Create(%q) accepts it", path)
		}
	}
}

func TestCombineCRC32(t *testing.T) {
	// The check value of CRC-32/ISO-HDLC, cut everywhere.
	const check = "123456789"
	for i := range len(check) + 1 {
		a, b := crc32.ChecksumIEEE([]byte(check[:i])), crc32.ChecksumIEEE([]byte(check[i:]))
		if got := CombineCRC32(a, b, int64(len(check)-i)); got != 0xcbf43926 {
			t.Errorf("cut at %d: %08x", i, got)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	whole := crc32.ChecksumIEEE(data)
	for range 50 {
		cut := rng.IntN(len(data))
		got := CombineCRC32(crc32.ChecksumIEEE(data[:cut]), crc32.ChecksumIEEE(data[cut:]), int64(len(data)-cut))
		if got != whole {
			t.Fatalf("cut at %d: %08x, want %08x", cut, got, whole)
		}
	}
	// Lengths that no test can hold in memory: zeros, by doubling. The CRC of
	// 2^k zero bytes combined with itself is that of 2^(k+1).
	crc := crc32.ChecksumIEEE(make([]byte, 1))
	for k := range 24 {
		crc = CombineCRC32(crc, crc, 1<<k)
	}
	if want := crc32.ChecksumIEEE(make([]byte, 1<<24)); crc != want {
		t.Errorf("2^24 zeros: %08x, want %08x", crc, want)
	}
	// Beyond 2^29 bytes the table wraps; associativity must still hold.
	const huge = int64(1)<<40 + 12345
	left := CombineCRC32(CombineCRC32(0x1234, 0x5678, huge), 0x9abc, 3*huge)
	right := CombineCRC32(0x1234, CombineCRC32(0x5678, 0x9abc, 3*huge), 4*huge)
	if left != right {
		t.Errorf("not associative at huge lengths: %08x and %08x", left, right)
	}
}
