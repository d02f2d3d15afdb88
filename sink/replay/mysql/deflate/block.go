package deflate

import (
	"math/bits"
)

// bitWriter appends bits, lowest first.
type bitWriter struct {
	out   []byte
	bits  uint64
	count uint
}

func (w *bitWriter) write(v, n int) {
	w.bits |= uint64(v) << w.count
	for w.count += uint(n); w.count >= 8; w.count -= 8 {
		w.out = append(w.out, byte(w.bits))
		w.bits >>= 8
	}
}

// align fills the last byte.
func (w *bitWriter) align() {
	if w.count > 0 {
		w.write(0, int(8-w.count))
	}
}

// stored writes b as it is.
func (w *bitWriter) stored(b []byte, last bool) {
	w.blockHeader(blockStored, last)
	w.align()
	n := len(b)
	w.out = append(w.out, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
	w.out = append(w.out, b...)
}

func (w *bitWriter) blockHeader(kind int, last bool) {
	v := kind << 1
	if last {
		v |= 1
	}
	w.write(v, 3)
}

// block writes the symbols in the shortest of the three ways.
// (_tr_flush_block)
func (d *Compressor) block(last bool) {
	d.count()
	d.literals.build(maxCodeBits)
	d.distances.build(maxCodeBits)
	order := d.buildLengths()
	dynamic := d.literals.cost() + d.distances.cost() + d.lengths.cost() + 3*order + 5 + 5 + 4
	static := d.literals.costBy(&staticLiterals) + d.distances.costBy(&staticDistances)
	best, staticBytes := (dynamic+3+7)>>3, (static+3+7)>>3
	best = min(best, staticBytes)
	switch {
	case len(d.b)+storedBlockSize <= best:
		d.stored(d.b, last)
	case staticBytes == best:
		d.blockHeader(blockStatic, last)
		d.writeSymbols(&staticLiterals, &staticDistances)
	default:
		d.blockHeader(blockDynamic, last)
		d.writeTrees(order)
		d.writeSymbols(&d.literals, &d.distances)
	}
}

// count finds how often each code is used.
func (d *Compressor) count() {
	d.literals.reset(literalExtra)
	d.distances.reset(distanceExtra)
	d.literals.freq[endOfBlock] = 1
	for _, s := range d.list {
		if s.distance == 0 {
			d.literals.freq[s.value]++
			continue
		}
		l, _ := lengthCode(int(s.length))
		c, _ := distanceCode(int(s.distance))
		d.literals.freq[l]++
		d.distances.freq[c]++
	}
}

func (d *Compressor) writeSymbols(literals, distances *huffman) {
	for _, s := range d.list {
		if s.distance == 0 {
			literals.write(&d.bitWriter, int(s.value))
			continue
		}
		code, extra := lengthCode(int(s.length))
		literals.write(&d.bitWriter, code)
		d.write(extra, literalExtra[code])
		code, extra = distanceCode(int(s.distance))
		distances.write(&d.bitWriter, code)
		d.write(extra, distanceExtra[code])
	}
	literals.write(&d.bitWriter, endOfBlock)
}

// buildLengths makes the code of the lengths of the two codes and returns how
// many of its own lengths are written. (build_bl_tree)
func (d *Compressor) buildLengths() int {
	d.lengths.reset(codeLengthExtra)
	count := func(code, _ int) { d.lengths.freq[code]++ }
	d.literals.runs(count)
	d.distances.runs(count)
	d.lengths.build(maxCodeLenBits)
	n := numCodeLength
	for n > 4 && d.lengths.len[codeLengthOrder[n-1]] == 0 {
		n--
	}
	return n
}

// writeTrees writes the codes. (send_all_trees)
func (d *Compressor) writeTrees(order int) {
	d.write(d.literals.max+1-firstLength, 5)
	d.write(d.distances.max+1-1, 5)
	d.write(order-4, 4)
	for _, code := range codeLengthOrder[:order] {
		d.write(d.lengths.len[code], 3)
	}
	send := func(code, extra int) {
		d.lengths.write(&d.bitWriter, code)
		d.write(extra, codeLengthExtra[code])
	}
	d.literals.runs(send)
	d.distances.runs(send)
}

// huffman is a Huffman code and the counts that it is made from.
type huffman struct {
	freq [heapSize]int // how often a code is used; then of the inner nodes
	len  [heapSize]int // of a code in bits; 0: not used
	code [numLiterals + 2]int
	max  int   // largest code in use
	bits []int // extra bits of each code there can be

	dad, depth [heapSize]int
	// heap holds, beginning at 1, live nodes as a heap by frequency; beginning at
	// done, the others, the most frequent first.
	heap       [heapSize]int
	live, done int
}

const heapSize = 2*numLiterals + 1

func (h *huffman) reset(extra []int) {
	h.bits = extra
	clear(h.freq[:])
}

func (h *huffman) write(w *bitWriter, code int) { w.write(h.code[code], h.len[code]) }

// cost is the length in bits of all that freq counts.
func (h *huffman) cost() int { return h.costBy(h) }

func (h *huffman) costBy(c *huffman) int {
	n := 0
	for i, extra := range h.bits {
		n += h.freq[i] * (c.len[i] + extra)
	}
	return n
}

var staticLiterals, staticDistances = staticCodes()

// staticCodes returns the codes that need not be written. (tr_static_init)
func staticCodes() (l, d huffman) {
	const all = numLiterals + 2
	var counts [maxCodeBits + 1]int
	for i := range all {
		n := 8
		switch {
		case i < 144:
		case i < 256:
			n = 9
		case i < 280:
			n = 7
		}
		l.len[i] = n
		counts[n]++
	}
	l.assign(all-1, &counts)
	for i := range numDistances {
		d.len[i], d.code[i] = 5, reverse(i, 5)
	}
	return l, d
}

func reverse(code, n int) int { return int(bits.Reverse16(uint16(code)) >> (16 - n)) }

// assign gives codes to the lengths. (gen_codes)
func (h *huffman) assign(last int, counts *[maxCodeBits + 1]int) {
	var next [maxCodeBits + 1]int
	code := 0
	for n := 1; n <= maxCodeBits; n++ {
		code = (code + counts[n-1]) << 1
		next[n] = code
	}
	for i := range last + 1 {
		if n := h.len[i]; n != 0 {
			h.code[i] = reverse(next[n], n)
			next[n]++
		}
	}
}

// build makes the shortest code for freq of at most limit bits; of several the
// one that zlib makes. (build_tree)
func (h *huffman) build(limit int) {
	h.live, h.done, h.max = 0, heapSize, -1
	for i := range h.bits {
		h.len[i], h.depth[i] = 0, 0
		if h.freq[i] != 0 {
			h.push(i)
		}
	}
	var forced []int
	for h.live < 2 { // two codes at least, even if they are of no use
		i := 0
		if h.max < 2 {
			i = h.max + 1
		}
		h.freq[i] = 1
		h.push(i)
		forced = append(forced, i)
	}
	for i := h.live / 2; i >= 1; i-- {
		h.sink(i)
	}
	h.join()
	counts := h.measure(limit)
	h.assign(h.max, &counts)
	for _, i := range forced {
		h.freq[i] = 0
	}
}

func (h *huffman) push(i int) {
	h.live++
	h.heap[h.live] = i
	h.max = max(h.max, i)
}

// join makes the two least frequent nodes one until one is left.
func (h *huffman) join() {
	for node := len(h.bits); h.live >= 2; node++ {
		a := h.heap[1]
		h.heap[1] = h.heap[h.live]
		h.live--
		h.sink(1)
		b := h.heap[1]
		h.retire(a)
		h.retire(b)
		h.freq[node] = h.freq[a] + h.freq[b]
		h.depth[node] = max(h.depth[a], h.depth[b]) + 1
		h.dad[a], h.dad[b] = node, node
		h.heap[1] = node
		h.sink(1)
	}
	h.retire(h.heap[1])
}

func (h *huffman) retire(i int) {
	h.done--
	h.heap[h.done] = i
}

// sink restores the heap below position k. (pqdownheap)
func (h *huffman) sink(k int) {
	v := h.heap[k]
	for j := 2 * k; j <= h.live; j = 2 * k {
		if j < h.live && h.less(h.heap[j+1], h.heap[j]) {
			j++
		}
		if h.less(v, h.heap[j]) {
			break
		}
		h.heap[k] = h.heap[j]
		k = j
	}
	h.heap[k] = v
}

func (h *huffman) less(a, b int) bool {
	return h.freq[a] < h.freq[b] || h.freq[a] == h.freq[b] && h.depth[a] <= h.depth[b]
}

// measure finds the length of each code, and returns how many codes there are
// of each length. (gen_bitlen)
func (h *huffman) measure(limit int) (counts [maxCodeBits + 1]int) {
	over := 0
	h.len[h.heap[h.done]] = 0 // the root
	for _, i := range h.heap[h.done+1:] {
		n := h.len[h.dad[i]] + 1
		if n > limit {
			n = limit
			over++
		}
		h.len[i] = n
		if i < len(h.bits) {
			counts[n]++
		}
	}
	if over == 0 {
		return counts
	}
	for ; over > 0; over -= 2 {
		n := limit - 1
		for counts[n] == 0 {
			n--
		}
		counts[n]--
		counts[n+1] += 2
		counts[limit]--
	}
	at := heapSize
	for n := limit; n > 0; n-- {
		for left := counts[n]; left > 0; {
			at--
			if i := h.heap[at]; i < len(h.bits) {
				h.len[i] = n
				left--
			}
		}
	}
	return counts
}

// runs calls f with the codes for the lengths of all codes up to the
// largest in use, and their extra bits. (scan_tree, send_tree)
func (h *huffman) runs(f func(code, extra int)) {
	last := -1
	for i := 0; i <= h.max; {
		n, count := h.len[i], 1
		most, least := 6, 3
		switch {
		case n == 0:
			most = 138
		case n != last:
			most, least = 7, 4
		}
		for count < most && i+count <= h.max && h.len[i+count] == n {
			count++
		}
		i += count
		switch {
		case count < least:
			for range count {
				f(n, 0)
			}
		case n == 0 && count <= 10:
			f(repeatZero, count-3)
		case n == 0:
			f(repeatZeroLong, count-11)
		default:
			if n != last {
				f(n, 0)
				count--
			}
			f(repeatLast, count-3)
		}
		last = n
	}
}
