package deflate

import (
	"bytes"
	"compress/zlib"
	"hash/adler32"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"
)

// deflateCase is what to compress, and how.
type deflateCase struct {
	level, window int
	list, heap    []byte
}

// deflateCases are 120 pages of several kinds.
func deflateCases() []deflateCase {
	rng := rand.New(rand.NewPCG(3, 4))
	text := func(n, kind int) []byte {
		var b []byte
		for len(b) < n {
			switch from := rng.IntN(len(b) + 1); {
			case kind == 0 || len(b) < 10:
				b = append(b, byte(rng.IntN(256)))
			case kind == 1: // a match, near or far
				b = append(b, b[from:min(len(b), from+3+rng.IntN(9))]...)
				b = append(b, byte(rng.IntN(4)))
			case kind == 2: // a run
				b = append(b, bytes.Repeat([]byte{byte(rng.IntN(3))}, 1+rng.IntN(400))...)
			case kind == 3: // few symbols
				b = append(b, byte(rng.IntN(6)*rng.IntN(6)))
			default:
				b = append(b, "record "...)
				b = append(b, byte(len(b)>>8), byte(len(b)), byte('a'+rng.IntN(26)), 0, 0, 0)
			}
		}
		return b[:n]
	}
	var cases []deflateCase
	for i := range 120 {
		c := deflateCase{level: 1 + i%9, window: 12 + i%3}
		c.list = text(1+rng.IntN(40), 3)
		c.heap = text(rng.IntN(1<<c.window-400), i%5)
		if i > 110 {
			c.heap = c.heap[:min(len(c.heap), i-111)]
		}
		cases = append(cases, c)
	}
	return cases
}

// TestDeflate compares with zlib 1.2.13: the lengths and the CRC-32 of all its
// streams. (Python: zlib.compressobj(level, DEFLATED, window, 9), Z_FULL_FLUSH
// between the pieces.)
func TestDeflate(t *testing.T) {
	const wantSize, wantCRC = 207106, 0x411d8d2d
	var d Compressor
	size, sum := 0, crc32.NewIEEE()
	for i, c := range deflateCases() {
		for _, old := range []bool{true, false} {
			head := StreamHeader(c.level, c.window)
			got := d.Deflate(head[:], c.list, c.heap, c.level, c.window, old)
			check := adler32.New()
			check.Write(c.list)
			check.Write(c.heap)
			got = check.Sum(got)
			checkInflates(t, i, got, append(bytes.Clone(c.list), c.heap...))
			if !old {
				size += len(got)
				sum.Write(got)
			}
		}
	}
	if size != wantSize || sum.Sum32() != wantCRC {
		t.Errorf("%d bytes of CRC-32 %#08x, want %d of %#08x", size, sum.Sum32(), wantSize, wantCRC)
	}
}

func checkInflates(t *testing.T, i int, stream, want []byte) {
	t.Helper()
	r, err := zlib.NewReader(bytes.NewReader(stream))
	if err != nil {
		t.Fatalf("case %d: %v", i, err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("case %d: %d bytes inflate to %d, want %d (%v)", i, len(stream), len(got), len(want), err)
	}
}
