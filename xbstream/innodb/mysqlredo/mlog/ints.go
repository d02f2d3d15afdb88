package mlog

import "encoding/binary"

// Integers in records. The readers return the value and how many bytes it took:
// 0 if b is cut short, a negative number if no integer begins so. Source:
// storage/innobase/include/mach0data.ic.

// C32 reads a compressed integer of 32 bits: 1 to 5 bytes, of which the leading
// ones of the first count. What begins with more than four of them are values
// near 2^32, which 8.0.20 and later write; no older log has such bytes.
func C32(b []byte) (v uint32, size int) {
	if len(b) == 0 {
		return 0, 0
	}
	h := b[0]
	if h < 0x80 {
		return uint32(h), 1
	}
	var mask, ones uint32 // which of the bits that were read count; which are implied
	switch {
	case h < 0xC0:
		size, mask = 2, 0x3FFF
	case h < 0xE0:
		size, mask = 3, 0x1FFFFF
	case h < 0xF0:
		size, mask = 4, 0x0FFFFFFF
	case h == 0xF0:
		size, mask = 5, 0xFFFFFFFF
	case h < 0xF8 || h == 0xFF:
		return 0, -1
	case h < 0xFC:
		size, mask = 2, 0x3FF
		ones = ^mask
	case h < 0xFE:
		size, mask = 3, 0x1FFFF
		ones = ^mask
	default:
		size, mask = 4, 0xFFFFFF
		ones = ^mask
	}
	if len(b) < size {
		return 0, 0
	}
	for _, c := range b[:size] {
		v = v<<8 | uint32(c)
	}
	return v&mask | ones, size
}

// C64 reads a compressed integer of 64 bits: the upper half compressed, the
// lower half plain.
func C64(b []byte) (v uint64, size int) {
	high, n := C32(b)
	if n <= 0 {
		return 0, n
	}
	if len(b) < n+4 {
		return 0, 0
	}
	return uint64(high)<<32 | uint64(binary.BigEndian.Uint32(b[n:])), n + 4
}

// M64 reads a "much compressed" integer of 64 bits: the lower half compressed,
// and before it, if it is not 0, FF and the upper half compressed.
func M64(b []byte) (v uint64, size int) {
	if len(b) == 0 {
		return 0, 0
	}
	if b[0] != 0xFF {
		low, n := C32(b)
		return uint64(low), n
	}
	high, n := C32(b[1:])
	if n <= 0 {
		return 0, n
	}
	low, m := C32(b[1+n:])
	if m <= 0 {
		return 0, m
	}
	return uint64(high)<<32 | uint64(low), 1 + n + m
}

// AppendC32 appends v as C32 reads it, in the forms that all versions know.
func AppendC32(b []byte, v uint32) []byte {
	switch {
	case v < 1<<7:
		return append(b, byte(v))
	case v < 1<<14:
		return binary.BigEndian.AppendUint16(b, uint16(v)|0x8000)
	case v < 1<<21:
		return append(b, byte(v>>16)|0xC0, byte(v>>8), byte(v))
	case v < 1<<28:
		return binary.BigEndian.AppendUint32(b, v|0xE0000000)
	}
	return binary.BigEndian.AppendUint32(append(b, 0xF0), v)
}

// AppendM64 appends v as M64 reads it.
func AppendM64(b []byte, v uint64) []byte {
	if high := uint32(v >> 32); high != 0 {
		b = AppendC32(append(b, 0xFF), high)
	}
	return AppendC32(b, uint32(v))
}
