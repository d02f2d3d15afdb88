package xbstream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// indexed is an archive of random files whose chunks come in random order, and its
// index.
func indexed(t testing.TB, rng *rand.Rand) (archive, index []byte) {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out)
	var open []*File
	for i, left := 0, 60; len(open) > 0 || left > 0; i++ {
		if left > 0 && (len(open) == 0 || rng.IntN(4) == 0) {
			f, err := w.Create(fmt.Sprintf("db%d/%s%d", rng.IntN(3), strings.Repeat("x", rng.IntN(200)), i))
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, f)
			left--
		}
		at := rng.IntN(len(open))
		if rng.IntN(3) > 0 {
			if _, err := open[at].Write(make([]byte, 1+rng.IntN(3)*100)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := open[at].Close(); err != nil {
			t.Fatal(err)
		}
		open = slices.Delete(open, at, at+1)
	}
	index, ok := w.Index()
	if !ok {
		t.Fatal("no index")
	}
	return out.Bytes(), index
}

// TestIndex: the index tells of each chunk what a reader of the archive finds.
func TestIndex(t *testing.T) {
	for seed := range uint64(20) {
		archive, index := indexed(t, rand.New(rand.NewPCG(seed, 1)))
		x, err := ParseIndex(index)
		if err != nil {
			t.Fatal(err)
		}
		var want []IndexedChunk
		var paths, ends []string
		var again Indexer
		rd := NewReader(bytes.NewReader(archive), ReaderOptions{})
		for {
			ch, err := rd.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if ch.Type == End {
				ends = append(ends, ch.Path)
				again.End(ch.Path)
			} else {
				again.Payload(ch.Path, len(ch.Data))
			}
			paths = append(paths, ch.Path)
			want = append(want, IndexedChunk{Type: ch.Type, At: ch.At, Size: rd.Pos() - ch.At, Offset: ch.Offset, Len: int64(len(ch.Data))})
		}
		for i, path := range paths {
			want[i].File = slices.Index(ends, path)
		}
		if x.Files() != len(ends) {
			t.Fatalf("%d files, want %d", x.Files(), len(ends))
		}
		got := slices.Collect(x.Chunks(func(file int) string { return ends[file] }))
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: %d chunks\n%+v\nwant %d\n%+v", seed, len(got), got, len(want), want)
		}
		if b, ok := again.Bytes(); !ok || !bytes.Equal(b, index) {
			t.Fatal("what the reader makes is another index")
		}
	}
}

// TestIndexBytes states the format by an example, byte by byte.
func TestIndexBytes(t *testing.T) {
	var x Indexer
	x.Payload("a", 300) // slot 0
	x.Payload("b", 5)   // slot 1
	x.Payload("a", 300)
	x.End("a")
	x.End("empty")      // slot 0 again
	x.Payload("c", 300) // slot 0, whose last payload was as long
	if _, ok := x.Bytes(); ok {
		t.Error("files are open")
	}
	x.End("b")
	x.End("c")
	want := "hbindex\x01" + "\x01\xac\x02" + "\x05\x05" + "\x00" + "\x02" + "\x02" + "\x00" + "\x06" + "\x02"
	if got, ok := x.Bytes(); !ok || string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestIndexRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "begins with",
		"hbindex\x02":                         "begins with",
		"hbindex\x01\x03":                     "unknown kind 3",
		"hbindex\x01\x05\x01\x06":             "slot 1, where the next file has slot 0",
		"hbindex\x01\x00":                     "a chunk of 0 bytes",
		"hbindex\x01\x01\x00":                 "a chunk of 0 bytes",
		"hbindex\x01\x01\x05":                 "1 files do not end",
		"hbindex\x01\x01":                     "its length is cut",
		"hbindex\x01\x01\xff":                 "its length is cut",
		"hbindex\x01\x80":                     "it is cut",
		"hbindex\x01\x01\x81\x80\x80\x20\x02": "a chunk of 67108865 bytes",
		"hbindex\x01" + strings.Repeat("\xff", 9) + "\x01": "slot",
		"hbindex\x01" + strings.Repeat("\xff", 11):         "no number",
	} {
		if _, err := ParseIndex([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	// A file larger than any: 2^22 chunks of 64 MiB are 2^48 bytes, and one more.
	long := append([]byte("hbindex\x01\x01\x80\x80\x80\x20"), make([]byte, MaxFile/MaxPayload-1)...)
	if _, err := ParseIndex(append(slices.Clone(long), 2)); err != nil {
		t.Error(err)
	}
	if _, err := ParseIndex(append(long, 0, 2)); err == nil || !strings.Contains(err.Error(), "at offset") {
		t.Errorf("a file of more than MaxFile bytes: %v", err)
	}
}

// TestIndexSlots: an archive with 65,536 files open at once has an index. One with more
// has none, and what says that it is its index is refused.
func TestIndexSlots(t *testing.T) {
	const most = 65536
	var x Indexer
	text := []byte("hbindex\x01")
	open := func(slot int) {
		x.Payload(strconv.Itoa(slot), 1)
		text = append(binary.AppendUvarint(text, uint64(slot)*4+1), 1)
	}
	end := func(slot int) {
		x.End(strconv.Itoa(slot))
		text = binary.AppendUvarint(text, uint64(slot)*4+2)
	}
	for slot := range most {
		open(slot)
	}
	for slot := range most {
		end(slot)
	}
	if b, ok := x.Bytes(); !ok || !bytes.Equal(b, text) {
		t.Errorf("an index of %d bytes, %v, want one of %d bytes", len(b), ok, len(text))
	}
	if i, err := ParseIndex(text); err != nil || i.Files() != most {
		t.Errorf("%d files open at once: %v", most, err)
	}
	x, text = Indexer{}, text[:8]
	for slot := range most + 1 {
		open(slot)
	}
	for slot := range most + 1 {
		end(slot)
	}
	if b, ok := x.Bytes(); ok || len(b) >= len(text) {
		t.Errorf("%d files open at once: an index of %d bytes, %v", most+1, len(b), ok)
	}
	if _, err := ParseIndex(text); err == nil || !strings.Contains(err.Error(), "more than 65536 files are open at once") {
		t.Errorf("%d files open at once: %v", most+1, err)
	}
}

// TestIndexBytesBound: an archive whose index would be too large has none.
func TestIndexBytesBound(t *testing.T) {
	var y Indexer
	for range MaxIndex/2 + 1 {
		y.Payload("a", 1)
		y.Payload("a", 2)
	}
	y.End("a")
	if b, ok := y.Bytes(); ok || len(b) > MaxIndex+10 {
		t.Errorf("an index of %d bytes, %v", len(b), ok)
	}
}

func FuzzIndex(f *testing.F) {
	_, index := indexed(f, rand.New(rand.NewPCG(1, 1)))
	f.Add(index)
	f.Add([]byte("hbindex\x01\x01\xac\x02\x05\x05\x00\x02\x02\x00\x06\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ParseIndex(b)
		if err != nil {
			return
		}
		// What is accepted is in order and without a gap, and its files end once.
		at, ends := int64(0), make([]int, x.Files())
		sizes := make([]int64, x.Files())
		for c := range x.Chunks(func(int) string { return "ten letter" }) {
			if c.At != at || c.Size < headSize || c.Offset != sizes[c.File] || ends[c.File] > 0 {
				t.Fatalf("%+v at %d, size %d", c, at, sizes[c.File])
			}
			at += c.Size
			sizes[c.File] += c.Len
			if c.Type == End {
				ends[c.File]++
			}
		}
		for file, n := range ends {
			if n != 1 {
				t.Fatalf("file %d ends %d times", file, n)
			}
		}
	})
}
