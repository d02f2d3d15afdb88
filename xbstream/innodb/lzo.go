package innodb

import "errors"

var errLZO = errors.New("lzo: damaged block")

// lzoState is where a decoder of LZO1X is in its block: a sequence of instructions,
// each with a copy of earlier output and 0 to 3 literals after it, or with a longer
// run of literals. What the smallest instructions mean depends on how many literals
// came before (Documentation/staging/lzo.rst of Linux describes the format).
type lzoState struct {
	dst, src []byte
	out      int
	literals int // of the last instruction; manyLiterals after a run
}

const (
	manyLiterals = 4
	// The distances of two kinds of copies begin after those of others.
	lzoNear = 2048
	lzoFar  = 16384
)

// decodeLZO decodes one LZO1X block, which must fill dst exactly.
func decodeLZO(dst, src []byte) error {
	s := &lzoState{dst: dst, src: src}
	if len(src) > 0 && src[0] > 17 { // the first byte may be a number of literals
		n := int(src[0]) - 17
		s.src = src[1:]
		if !s.copyLiterals(n) {
			return errLZO
		}
		s.literals = min(n, manyLiterals)
	}
	for {
		end, ok := s.step()
		switch {
		case !ok:
			return errLZO
		case end && s.out == len(dst):
			return nil
		case end:
			return errLZO
		}
	}
}

// step does one instruction. It reports the end of the block.
func (s *lzoState) step() (end, ok bool) {
	if len(s.src) == 0 {
		return false, false
	}
	op := int(s.src[0])
	s.src = s.src[1:]
	switch {
	case op >= 64:
		n := op>>5 - 1 + 2
		h, ok := s.byte()
		return false, ok && s.copyBack(h<<3+op>>2&7+1, n) && s.after(op)
	case op >= 32:
		n, ok := s.length(op&31, 31)
		low, ok2 := s.word()
		return false, ok && ok2 && s.copyBack(low>>2+1, n+2) && s.after(low)
	case op >= 16:
		n, ok := s.length(op&7, 7)
		low, ok2 := s.word()
		distance := lzoFar + op>>3&1<<14 + low>>2
		if ok && ok2 && distance == lzoFar {
			return true, true
		}
		return false, ok && ok2 && s.copyBack(distance, n+2) && s.after(low)
	case s.literals == 0:
		n, ok := s.length(op, 15)
		s.literals = manyLiterals
		return false, ok && s.copyLiterals(n+3)
	}
	h, ok := s.byte()
	distance, n := h<<2+op>>2+1, 2
	if s.literals == manyLiterals {
		distance, n = distance+lzoNear, 3
	}
	return false, ok && s.copyBack(distance, n) && s.after(op)
}

// after copies the literals after an instruction: the low two bits say how many.
func (s *lzoState) after(bits int) bool {
	s.literals = bits & 3
	return s.copyLiterals(s.literals)
}

func (s *lzoState) byte() (int, bool) {
	if len(s.src) == 0 {
		return 0, false
	}
	b := s.src[0]
	s.src = s.src[1:]
	return int(b), true
}

func (s *lzoState) word() (int, bool) {
	low, ok := s.byte()
	high, ok2 := s.byte()
	return low | high<<8, ok && ok2
}

// length extends a length of 0: by most, 255 for each zero byte, and the first
// other byte.
func (s *lzoState) length(n, most int) (int, bool) {
	if n != 0 {
		return n, true
	}
	for n = most; n <= MaxPageSize; n += 255 {
		b, ok := s.byte()
		if !ok || b != 0 {
			return n + b, ok
		}
	}
	return 0, false
}

func (s *lzoState) copyLiterals(n int) bool {
	if n > len(s.src) || n > len(s.dst)-s.out {
		return false
	}
	s.out += copy(s.dst[s.out:], s.src[:n])
	s.src = s.src[n:]
	return true
}

func (s *lzoState) copyBack(distance, n int) bool {
	if distance > s.out || n > len(s.dst)-s.out {
		return false
	}
	copyOverlapping(s.dst, s.out, distance, n)
	s.out += n
	return true
}

// copyOverlapping copies n bytes of dst from distance bytes before at to at, as
// if one by one.
func copyOverlapping(dst []byte, at, distance, n int) {
	for end := at + n; at < end; {
		at += copy(dst[at:min(end, at+distance)], dst[at-distance:at])
	}
}
