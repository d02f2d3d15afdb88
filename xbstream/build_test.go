package xbstream

import (
	"encoding/binary"
	"hash/crc32"
)

// The functions below build chunks byte by byte, apart from the Writer, so
// that Reader and Writer are each tested against the format and not only
// against each other.

func rawHead(typ byte, flags byte, path string) []byte {
	b := []byte("XBSTCK01")
	b = append(b, flags, typ)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(path)))
	return append(b, path...)
}

func rawP(flags byte, path string, offset uint64, data string) []byte {
	return rawPCRC(flags, path, offset, data, crc32.ChecksumIEEE([]byte(data)))
}

func rawPCRC(flags byte, path string, offset uint64, data string, crc uint32) []byte {
	b := rawHead('P', flags, path)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	b = binary.LittleEndian.AppendUint64(b, offset)
	b = binary.LittleEndian.AppendUint32(b, crc)
	return append(b, data...)
}

func rawE(path string) []byte { return rawHead('E', 0, path) }

func rawSeek(path string, offset uint64) []byte {
	return binary.LittleEndian.AppendUint64(rawHead('S', 0, path), offset)
}

func rawRename(path, newPath string) []byte {
	b := binary.LittleEndian.AppendUint32(rawHead('R', 0, path), uint32(len(newPath)))
	return append(b, newPath...)
}

func rawRemove(path string) []byte { return rawHead('D', 0, path) }

func rawSparse(path string, offset uint64, extents []Extent, data string) []byte {
	var m []byte
	for _, e := range extents {
		m = binary.LittleEndian.AppendUint32(m, e.Skip)
		m = binary.LittleEndian.AppendUint32(m, e.Len)
	}
	b := binary.LittleEndian.AppendUint32(rawHead('S', 0, path), uint32(len(extents)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(data)))
	b = binary.LittleEndian.AppendUint64(b, offset)
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(crc32.ChecksumIEEE(m), crc32.IEEETable, []byte(data)))
	return append(append(b, m...), data...)
}

func cat(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}
