package innodbtest

// MariaDBRecord is a record of MariaDB 10.5 and later: its first byte, without the
// length that it has in its low half, and the rest.
func MariaDBRecord(first byte, body ...byte) []byte {
	n := len(body)
	if n < 16 {
		return append([]byte{first | byte(n)}, body...)
	}
	// The length counts its own bytes, and begins at 15.
	for size := 1; ; size++ {
		if length := AppendVarint(nil, uint32(n-15+size)); len(length) == size {
			return append(append([]byte{first}, length...), body...)
		}
	}
}

// MariaDBFile is a record of a file operation (its first byte), of one name, or of two
// with a zero byte between them.
func MariaDBFile(first byte, space uint32, name string) []byte {
	return MariaDBRecord(first, append(append(AppendVarint(nil, space), 0), name...)...)
}

// MariaDBWrite is a WRITE of text at a byte of a page.
func MariaDBWrite(space, page, at uint32, text string) []byte {
	body := AppendVarint(AppendVarint(AppendVarint(nil, space), page), at)
	return MariaDBRecord(0x30, append(body, text...)...)
}

// AppendVarint appends a number below 0x10204080 as MariaDB's records have it
// (mlog_encode_varint): each length begins where the one before ends.
func AppendVarint(b []byte, v uint32) []byte {
	const (
		two   = 0x80
		three = two + 0x4000
		four  = three + 0x200000
		five  = four + 0x10000000
	)
	switch {
	case v < two:
		return append(b, byte(v))
	case v < three:
		return be.AppendUint16(b, uint16(v-two)|0x8000)
	case v < four:
		v -= three
		return append(b, byte(v>>16)|0xC0, byte(v>>8), byte(v))
	case v < five:
		return be.AppendUint32(b, (v-four)|0xE0000000)
	}
	panic("no record needs such a number")
}

// MySQLRecord is a record of MySQL's of a page, or of a file with page 0.
func MySQLRecord[T ~uint8](t T, space, page uint32, body ...byte) []byte {
	return append(AppendC32(AppendC32([]byte{byte(t)}, space), page), body...)
}

// AppendC32 appends a number as MySQL's records have it (mach_write_compressed), in the
// forms that all versions know.
func AppendC32(b []byte, v uint32) []byte {
	switch {
	case v < 1<<7:
		return append(b, byte(v))
	case v < 1<<14:
		return be.AppendUint16(b, uint16(v)|0x8000)
	case v < 1<<21:
		return append(b, byte(v>>16)|0xC0, byte(v>>8), byte(v))
	case v < 1<<28:
		return be.AppendUint32(b, v|0xE0000000)
	}
	return be.AppendUint32(append(b, 0xF0), v)
}
