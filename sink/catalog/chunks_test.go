package catalog

import (
	"math/rand/v2"
	"testing"
)

func TestDataRuns(t *testing.T) {
	const block = holeBlock
	rng := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		pageSize := block << rng.IntN(5)
		data := make([]byte, rng.IntN(40)*block+rng.IntN(3)*777)
		for i := 0; i < len(data); i += block {
			if rng.IntN(2) == 0 {
				data[min(i+rng.IntN(block), len(data)-1)] = 1
			}
		}
		at := int64(rng.IntN(20) * block)
		if rng.IntN(4) == 0 {
			at += int64(rng.IntN(block))
		}
		covered := make([]bool, len(data))
		end := -1
		for r := range DataRuns(at, data, pageSize) {
			if r.From <= end || r.To <= r.From {
				t.Fatalf("runs out of order: %+v after %d", r, end)
			}
			end = r.To
			for i := r.From; i < r.To; i++ {
				covered[i] = true
			}
		}
		// The rule, written down another way: a byte lies in a hole if all
		// from its block's start to its page's end is in the chunk and zero.
		nonzero := make([]int, len(data)+1) // how many there are from i on
		for i := len(data) - 1; i >= 0; i-- {
			nonzero[i] = nonzero[i+1] + int(data[i])
		}
		for i, c := range covered {
			pos := at + int64(i)
			blockStart := i - int(pos%block)
			pageEnd := i + pageSize - int(pos%int64(pageSize))
			hole := blockStart >= 0 && pageEnd <= len(data) && nonzero[blockStart] == nonzero[pageEnd]
			if hole == c {
				t.Fatalf("byte %d of %d, file offset %d, pages of %d: covered %v, hole %v", i, len(data), pos, pageSize, c, hole)
			}
		}
	}
}
