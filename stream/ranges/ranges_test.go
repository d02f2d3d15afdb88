package ranges

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"hb/stream/progress"
)

// counted is a source that remembers which ranges it was asked for.
type counted struct {
	data  []byte
	asked []Span
	open  int
	fault error // of reading, after half of a range
}

func (c *counted) Size() int64 { return int64(len(c.data)) }

func (c *counted) Range(off, n int64) (io.ReadCloser, error) {
	if n <= 0 || off < 0 || off+n > c.Size() {
		return nil, errors.New("a range that there is not")
	}
	c.asked = append(c.asked, Span{off, n})
	c.open++
	r := io.Reader(bytes.NewReader(c.data[off : off+n]))
	if c.fault != nil {
		r = io.MultiReader(io.LimitReader(r, n/2), errReader{c.fault})
	}
	return &closing{r, c}, nil
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

type closing struct {
	io.Reader
	c *counted
}

func (c *closing) Close() error { c.c.open--; return nil }

func random(n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(b)
	return b
}

// TestWindowReads: whatever is planned and read, the bytes are those of the source, and
// what was counted is what the source gave.
func TestWindowReads(t *testing.T) {
	data := random(5 << 20)
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(seed, 2))
		src := &counted{data: data[:rng.IntN(len(data))]}
		phase := progress.NewPhase("", 0)
		w := New(src, phase)
		size := w.Size()
		if size > 0 && rng.IntN(2) == 0 {
			var spans []Span
			for at := rng.Int64N(size); at < size; at += rng.Int64N(1 << 20) {
				spans = append(spans, Span{at, min(size-at, rng.Int64N(1<<20))})
			}
			w.Plan(spans)
		}
		at := int64(0)
		for range 40 {
			if rng.IntN(3) == 0 {
				at = rng.Int64N(size + 2)
			}
			p := make([]byte, rng.IntN(200_000))
			n, err := w.ReadAt(p, at)
			want := src.data[min(at, size):min(at+int64(len(p)), size)]
			if !bytes.Equal(p[:n], want) || (err == io.EOF) != (n < len(p)) || err != nil && err != io.EOF {
				t.Fatalf("seed %d: %d bytes of %d at %d of %d: %v", seed, n, len(p), at, size, err)
			}
			at += int64(n)
		}
		if err := w.Close(); err != nil || src.open != 0 {
			t.Errorf("%d ranges are open: %v", src.open, err)
		}
		if w.Requests() != len(src.asked) {
			t.Errorf("%d requests counted, %d made", w.Requests(), len(src.asked))
		}
	}
}

// TestWindowRequests: both ends are one request each, and so is each planned span, with
// those that are near.
func TestWindowRequests(t *testing.T) {
	src := &counted{data: random(64 << 20)}
	size := src.Size()
	w := New(src, nil)
	read := func(s Span) {
		t.Helper()
		for off := s.Off; off < s.End(); { // in pieces, as stages do
			p := make([]byte, min(s.End()-off, 70_000))
			if n, err := w.ReadAt(p, off); err != nil || !bytes.Equal(p[:n], src.data[off:off+int64(n)]) {
				t.Fatal(err)
			}
			off += int64(len(p))
		}
	}
	read(Span{0, 500})
	read(Span{100, 5000})
	read(Span{size - 9, 9})
	read(Span{size - 200_000, 100_000})
	plan := []Span{{10 << 20, 1 << 20}, {11<<20 + maxGap, 1 << 20}, {20 << 20, 100}, {30 << 20, 2 << 20}}
	w.Plan(plan)
	for _, s := range plan {
		read(s)
	}
	want := []Span{{0, HeadSize}, {size - minTail, minTail}, {10 << 20, 2<<20 + maxGap}, {20 << 20, 100}, {30 << 20, 2 << 20}}
	if !slices.Equal(src.asked, want) {
		t.Errorf("asked for %+v, want %+v", src.asked, want)
	}
	total := int64(0)
	for _, s := range want {
		total += s.Len
	}
	if w.BytesRead() != total {
		t.Errorf("%d bytes read, want %d", w.BytesRead(), total)
	}
}

func TestWindowErrors(t *testing.T) {
	errNet := errors.New("reset")
	for _, tt := range []struct{ fault, want error }{{errNet, errNet}, {io.EOF, io.ErrUnexpectedEOF}} {
		w := New(&counted{data: random(4 << 20), fault: tt.fault}, nil)
		for _, off := range []int64{0, 2 << 20, 4<<20 - 100} {
			if _, err := w.ReadAt(make([]byte, 50<<10), off); !errors.Is(err, tt.want) && off != 4<<20-100 {
				t.Errorf("at %d: %v, want %v", off, err, tt.want)
			}
		}
	}
	w := New(&counted{data: random(100)}, nil)
	if _, err := w.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset is read")
	}
	if _, err := w.ReadAt(make([]byte, 1), 100); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

func TestTailSize(t *testing.T) {
	for size, want := range map[int64]int64{0: 0, 1000: 1000, 1 << 20: 256 << 10, 2 << 30: 4 << 20, 1 << 40: 16 << 20} {
		if got := TailSize(size); got != want {
			t.Errorf("of %d bytes: %d, want %d", size, got, want)
		}
	}
}
