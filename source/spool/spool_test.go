package spool

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"hb/stream/disk"
)

// TestSpool appends pieces of all sizes across the borders between blocks of
// memory, and between memory and file, and reads them back whole and in parts.
func TestSpool(t *testing.T) {
	for _, limit := range []int64{0, 1, 1000, 1 << 20, 20*blockSize + 7} {
		dir := t.TempDir()
		s := New(disk.OS, dir, limit)
		rng := rand.New(rand.NewPCG(1, uint64(limit)))
		longest := 100
		if limit > 1<<20 {
			longest = blockSize * 3 / 2
		}
		for round := range 2 {
			var want [][]byte
			var extents []Extent
			var total int64
			for range 200 {
				p := make([]byte, rng.IntN(longest))
				for i := range p {
					p[i] = byte(rng.Uint32())
				}
				e, err := s.Append(p)
				if err != nil {
					t.Fatal(err)
				}
				want, extents, total = append(want, p), append(extents, e), total+e.Len()
			}
			if s.Size() != total {
				t.Errorf("limit %d: size %d, want %d", limit, s.Size(), total)
			}
			for i, e := range extents {
				got := make([]byte, e.Len())
				if n, err := s.ReadAt(e, got, 0); err != nil || !bytes.Equal(got[:n], want[i]) {
					t.Fatalf("limit %d, round %d, piece %d: %d bytes, %v", limit, round, i, n, err)
				}
				if half := e.First(e.Len() / 2); half.Len() != e.Len()/2 {
					t.Errorf("First has %d of %d bytes", half.Len(), e.Len())
				}
				n, err := s.ReadAt(e, make([]byte, e.Len()+10), 3)
				if err != io.EOF || int64(n) != max(0, e.Len()-3) {
					t.Errorf("reading over the end of %d bytes: %d, %v", e.Len(), n, err)
				}
			}
			if err := s.Reset(); err != nil || s.Size() != 0 {
				t.Errorf("reset: size %d, %v", s.Size(), err)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("limit %d: the directory has %v, %v", limit, left, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSpoolNowhere: what cannot be spooled is an error that says what to do.
func TestSpoolNowhere(t *testing.T) {
	s := New(disk.OS, t.TempDir()+"/none", 10)
	if _, err := s.Append([]byte("short")); err != nil {
		t.Errorf("in memory: %v", err)
	}
	if _, err := s.Append([]byte("longer than the limit")); err == nil || !strings.Contains(err.Error(), "--tmpdir") {
		t.Errorf("error = %v", err)
	}
}
