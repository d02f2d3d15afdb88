package sourcetest

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"hb/xbstream/innodb"
)

// flags16k are those of a full_crc32 tablespace with pages of 16 KiB.
const flags16k = 0x15

// Tablespace returns the content of a tablespace of n pages.
func Tablespace(t *testing.T, id innodb.SpaceID, n int) []byte {
	t.Helper()
	s, err := innodb.ParseFlags(flags16k)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(uint64(id), uint64(n)))
	content := make([]byte, n*s.Physical)
	for no := range n {
		page := content[no*s.Physical:][:s.Physical]
		for i := innodb.OffsetBody; i < len(page); i += 8 {
			binary.LittleEndian.PutUint64(page[min(i, len(page)-8):], rng.Uint64())
		}
		binary.BigEndian.PutUint32(page[innodb.OffsetPageNo:], uint32(no))
		binary.BigEndian.PutUint32(page[innodb.OffsetSpace:], uint32(id))
		if no == 0 {
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPSpace:], uint32(id))
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPFlags:], flags16k)
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPSize:], uint32(n))
		}
		s.SetLSN(page, 1000)
		s.Stamp(page, innodb.ChecksumUnset)
	}
	return content
}
