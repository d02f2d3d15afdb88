// Package deflate is the compressor of zlib, to the bit: a page that zlib compressed
// into its size at some level may not fit it if another compressor made it one byte
// longer, and then it could not be written at all. None of Go's libraries searches for
// matches as zlib does, nor promises not to be worse.
//
// The input is less than a window, in two pieces, and has fewer symbols
// than zlib gathers for one block: so this needs no sliding and no streaming.
//
// Source: deflate.c and trees.c of zlib 1.2.3 to 1.3.1, for memLevel 9.
package deflate

// BestLevel is the highest level.
const BestLevel = 9

// Matches.
const (
	minMatch     = 3
	maxMatch     = 258
	minLookahead = maxMatch + minMatch + 1 // no match begins so near to the window's end
	tooFar       = 4096                    // a match of minMatch bytes costs more than they do
	hashBits     = 16
	hashShift    = 6
)

// tuning is what a level stands for (configuration_table).
type tuning struct {
	good  int // with a match of this length, the chain is followed less far
	lazy  int // with a match of this length, none is sought at the next byte
	nice  int // a match of this length ends the search
	chain int // how far a chain is followed
	slow  bool
}

var tunings = [BestLevel + 1]tuning{
	1: {4, 4, 8, 4, false},
	2: {4, 5, 16, 8, false},
	3: {4, 6, 32, 32, false},
	4: {4, 4, 16, 16, true},
	5: {8, 16, 32, 32, true},
	6: {8, 16, 128, 128, true},
	7: {8, 32, 128, 256, true},
	8: {32, 128, 258, 1024, true},
	9: {32, 258, 258, 4096, true},
}

// symbol is a byte, or a match of length bytes at a distance.
type symbol struct{ value, length, distance uint16 }

// Compressor is the state of a compression. It is large and can be used again.
type Compressor struct {
	bitWriter
	tuning
	window                       int // bytes
	list                         []symbol
	literals, distances, lengths huffman

	// The window: b[at:] are still to come. Positions are counted from
	// base, because position 0 means none.
	b    []byte
	at   int
	base int
	head [1 << hashBits]uint16
	prev [1 << 15]uint16
	// The match at the last byte: the lazy way looks for a better one first.
	length, start int
}

// StreamHeader returns the two bytes that a zlib stream begins with.
func StreamHeader(level, windowBits int) [2]byte {
	flag := 3
	switch {
	case level < 2:
		flag = 0
	case level < 6:
		flag = 1
	case level == 6:
		flag = 2
	}
	v := (8|(windowBits-8)<<4)<<8 | flag<<6
	v += 31 - v%31
	return [2]byte{byte(v >> 8), byte(v)}
}

// Deflate appends list and heap to out, compressed, with a full flush between.
// Before 1.2.5.1 zlib went on counting positions at the flush: that is old.
func (d *Compressor) Deflate(out, list, heap []byte, level, windowBits int, old bool) []byte {
	d.bitWriter = bitWriter{out: out}
	d.tuning, d.window = tunings[level], 1<<windowBits
	d.piece(list, level, 0, false)
	d.stored(nil, false)
	base := 0
	if old {
		base = len(list)
	}
	d.piece(heap, level, base, true)
	d.align()
	return d.out
}

// piece compresses b as one block, without regard to earlier blocks.
func (d *Compressor) piece(b []byte, level, base int, last bool) {
	d.list = d.list[:0]
	if level == 0 {
		d.stored(b, last)
		return
	}
	d.b, d.at, d.base = b, 0, base
	clear(d.head[:])
	d.length, d.start = minMatch-1, 0
	if d.slow {
		d.searchLazy()
	} else {
		d.search()
	}
	d.block(last)
}

// insert enters the string at position at into its chain, and returns the
// string before it there.
func (d *Compressor) insert(at int) int {
	if len(d.b)-at < minMatch {
		return 0
	}
	h := (int(d.b[at])<<(2*hashShift) ^ int(d.b[at+1])<<hashShift ^ int(d.b[at+2])) & (1<<hashBits - 1)
	pos, before := at+d.base, d.head[h]
	d.prev[pos&(d.window-1)] = before
	d.head[h] = uint16(pos)
	return int(before)
}

func (d *Compressor) near(pos int) bool {
	return pos != 0 && d.at+d.base-pos <= d.window-minLookahead
}

// search takes the longest match at each byte. (deflate_fast)
func (d *Compressor) search() {
	for d.at < len(d.b) {
		n := 0
		if pos := d.insert(d.at); d.near(pos) {
			n = d.longest(pos, minMatch-1)
		}
		if n < minMatch {
			d.literal(d.at)
			d.at++
			continue
		}
		d.match(n, d.at+d.base-d.start)
		if n <= d.lazy && len(d.b)-d.at-n >= minMatch {
			for i := 1; i < n; i++ {
				d.insert(d.at + i)
			}
		}
		d.at += n
	}
}

// searchLazy takes a match only if there is no longer one at the next byte.
// (deflate_slow)
func (d *Compressor) searchLazy() {
	available := false // the byte before is in no symbol yet
	for d.at < len(d.b) {
		pos := d.insert(d.at)
		before, start := d.length, d.start
		d.length = minMatch - 1
		if before < d.lazy && d.near(pos) {
			d.length = d.longest(pos, before)
			if d.length == minMatch && d.at+d.base-d.start > tooFar {
				d.length = minMatch - 1
			}
		}
		switch {
		case before >= minMatch && d.length <= before:
			d.match(before, d.at+d.base-1-start)
			for range before - 2 {
				d.at++
				d.insert(d.at)
			}
			available, d.length = false, minMatch-1
		case available:
			d.literal(d.at - 1)
		default:
			available = true
		}
		d.at++
	}
	if available {
		d.literal(d.at - 1)
	}
}

// longest returns the length of the longest match at d.at that is in the chain
// that begins at pos and is longer than best, and sets d.start to it; or best.
// (longest_match)
func (d *Compressor) longest(pos, best int) int {
	chain, rest := d.chain, len(d.b)-d.at
	if best >= d.good {
		chain >>= 2
	}
	nice, limit := min(d.nice, rest), max(0, d.at+d.base-(d.window-minLookahead))
	scan := d.b[d.at : d.at+min(rest, maxMatch)]
	for ; pos > limit; pos = int(d.prev[pos&(d.window-1)]) {
		if n := common(d.b[pos-d.base:], scan); n > best {
			d.start, best = pos, n
			if n >= nice {
				break
			}
		}
		if chain--; chain == 0 {
			break
		}
	}
	return min(best, rest)
}

// common is how many bytes a begins with that b is.
func common(a, b []byte) int {
	n := 0
	for n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func (d *Compressor) literal(at int) { d.list = append(d.list, symbol{value: uint16(d.b[at])}) }

func (d *Compressor) match(length, distance int) {
	d.list = append(d.list, symbol{length: uint16(length), distance: uint16(distance)})
}

// Codes of lengths and distances: the code is a range, extra bits the place in it.
const (
	endOfBlock    = 256
	firstLength   = 257
	numLiterals   = 286
	numDistances  = 30
	numCodeLength = 19

	// Codes of code lengths that stand for several.
	repeatLast     = 16 // 3 to 6 times, 2 bits
	repeatZero     = 17 // 3 to 10 times, 3 bits
	repeatZeroLong = 18 // 11 to 138 times, 7 bits

	maxCodeBits     = 15
	maxCodeLenBits  = 7
	blockStored     = 0
	blockStatic     = 1
	blockDynamic    = 2
	storedBlockSize = 4 // bytes of a stored block beside its content
)

var codeLengthOrder = [numCodeLength]int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

var literalExtra, distanceExtra, codeLengthExtra = extraBits()

// extraBits returns how many extra bits codes of each kind have.
func extraBits() (l, d, c []int) {
	l, d, c = make([]int, numLiterals), make([]int, numDistances), make([]int, numCodeLength)
	for i := 8; i < 28; i++ {
		l[firstLength+i] = i/4 - 1
	}
	for i := 4; i < numDistances; i++ {
		d[i] = i/2 - 1
	}
	c[repeatLast], c[repeatZero], c[repeatZeroLong] = 2, 3, 7
	return l, d, c
}

// lengthCode returns the code of a length, and the value of its extra bits.
func lengthCode(n int) (code, extra int) {
	if n == maxMatch {
		return numLiterals - 1, 0
	}
	code, extra = rangeCode(n-minMatch, 2)
	return firstLength + code, extra
}

func distanceCode(n int) (code, extra int) { return rangeCode(n-1, 1) }

// rangeCode numbers ranges of values: 1<<(bits+1) of one value, then 1<<bits
// of each power of two.
func rangeCode(v, bits int) (code, extra int) {
	shift := 0
	for v>>shift >= 2<<bits {
		shift++
	}
	return shift<<bits + v>>shift, v & (1<<shift - 1)
}
