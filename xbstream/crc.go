package xbstream

import "hash/crc32"

// A CRC-32 is the remainder of the message, read as a polynomial over GF(2),
// modulo a polynomial p of degree 32. Appending len2 bytes multiplies what
// came before by x^(8*len2), so the CRC of a whole follows from the CRCs of
// its two parts. Polynomials are kept as the CRC is: the bit of value 1<<31
// is the coefficient of x^0.

// polyX is the polynomial x.
const polyX = 1 << 30

// mulMod returns a*b modulo the IEEE polynomial.
func mulMod(a, b uint32) uint32 {
	var product uint32
	for a != 0 {
		if a&(1<<31) != 0 {
			product ^= b
		}
		a <<= 1
		carry := b & 1
		b >>= 1
		if carry != 0 {
			b ^= crc32.IEEE
		}
	}
	return product
}

// squares[k] is x^(2^k). The polynomial is primitive, so x^(2^32) is x again
// and 32 entries serve every exponent.
var squares = func() (t [32]uint32) {
	p := uint32(polyX)
	for k := range t {
		t[k] = p
		p = mulMod(p, p)
	}
	return t
}()

// CombineCRC32 returns the CRC-32 (IEEE) of two blocks of bytes put together,
// from the CRC-32 of each and the length of the second in bytes.
func CombineCRC32(crc1, crc2 uint32, len2 int64) uint32 {
	if len2 <= 0 {
		return crc1
	}
	// 8*len2 bits: bit k of len2 stands for x^(2^(k+3)).
	for k := 3; len2 != 0; len2, k = len2>>1, k+1 {
		if len2&1 != 0 {
			crc1 = mulMod(squares[k%32], crc1)
		}
	}
	return crc1 ^ crc2
}
