package spool

import (
	"bytes"
	"errors"
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

// TestSpoolRelease: what waits in a spool takes as much space as it has, and some
// segments, however much has gone through; and a part of an extent may be released.
func TestSpoolRelease(t *testing.T) {
	const segment, waiting = 1000, 5000
	s := New(disk.OS, t.TempDir(), 100)
	s.full = segment
	rng := rand.New(rand.NewPCG(1, 2))
	var queue []Extent
	var first byte // of the oldest extent
	for next := range 5000 {
		e, err := s.Append(bytes.Repeat([]byte{byte(next)}, 1+rng.IntN(100)))
		if err != nil {
			t.Fatal(err)
		}
		queue = append(queue, e)
		for s.Size() > waiting {
			head := queue[0].First(10)
			got := make([]byte, queue[0].Len())
			if _, err := s.ReadAt(queue[0], got, 0); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{first}, len(got))) {
				t.Fatalf("extent %d: %v, %v", first, got, err)
			}
			if err := errors.Join(s.Release(head), s.Release(queue[0].After(head.Len()))); err != nil {
				t.Fatal(err)
			}
			queue, first = queue[1:], first+1
		}
		if space := s.Space(); space > waiting+2*segment || len(s.files) > waiting/segment+2 || s.inMemory > 100 {
			t.Fatalf("%d bytes wait, and take %d in %d files, %d in memory", s.Size(), space, len(s.files), s.inMemory)
		}
	}
	if s.Space() < waiting/2 {
		t.Errorf("only %d bytes are on disk", s.Space())
	}
	for _, e := range queue {
		if err := s.Release(e); err != nil {
			t.Fatal(err)
		}
	}
	if s.Size() != 0 || s.Space() != 0 || s.inMemory != 0 || len(s.files) != 0 {
		t.Errorf("all was released: %d bytes, %d on disk in %d files, %d in memory", s.Size(), s.Space(), len(s.files), s.inMemory)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
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
