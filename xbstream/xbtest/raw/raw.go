// Package raw makes the chunks of archives for tests byte by byte, from the format's
// description in package xbstream. It uses nothing of that package, so that its Reader and
// Writer are each tested against the format and not only against each other, and makes
// what that Writer refuses to write.
package raw

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

var le = binary.LittleEndian

// Chunk is a chunk of a type, as its letter on the wire, and after its path the values that
// the type adds: integers and bytes.
func Chunk(typ, flags byte, path string, rest ...any) []byte {
	b := append([]byte("XBSTCK01"), flags, typ)
	b = le.AppendUint32(b, uint32(len(path)))
	b = append(b, path...)
	for _, v := range rest {
		var err error
		if b, err = binary.Append(b, le, v); err != nil {
			panic(err)
		}
	}
	return b
}

// Payload is data of a file, at an offset.
func Payload[D string | []byte](flags byte, path string, offset uint64, data D) []byte {
	b := []byte(data)
	return Chunk('P', flags, path, uint64(len(b)), offset, crc32.ChecksumIEEE(b), b)
}

// End ends a file.
func End(path string) []byte { return Chunk('E', 0, path) }

// File is a whole file.
func File(path, data string) []byte { return slices.Concat(Payload(0, path, 0, data), End(path)) }

// Seek is MariaDB's: the next payload of the file begins at that offset.
func Seek(path string, offset uint64) []byte { return Chunk('S', 0, path, offset) }

// Rename is MariaDB's.
func Rename(path, newPath string) []byte {
	return Chunk('R', 0, path, uint32(len(newPath)), []byte(newPath))
}

// Remove is MariaDB's.
func Remove(path string) []byte { return Chunk('D', 0, path) }

// Sparse is Percona's payload with holes: of each of its parts extents has how many bytes
// are a hole, and how many follow in data.
func Sparse(path string, offset uint64, extents []uint32, data string) []byte {
	m, err := binary.Append(nil, le, extents)
	if err != nil {
		panic(err)
	}
	sum := crc32.Update(crc32.ChecksumIEEE(m), crc32.IEEETable, []byte(data))
	return Chunk('S', 0, path, uint32(len(extents)/2), uint64(len(data)), offset, sum, m, []byte(data))
}
