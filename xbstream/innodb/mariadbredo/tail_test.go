package mariadbredo

import (
	"bytes"
	"encoding/binary"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// liveBlock is a block of the 10.5 format as a server writes it.
func liveBlock(at innodb.LSN, used, first int) []byte {
	payload := bytes.Repeat([]byte{0x5A}, blockSize)
	return innodbtest.Block{Form: innodbtest.MariaDB105, At: at, Used: used, First: first, Payload: payload}.Bytes()
}

func TestLastBlock(t *testing.T) {
	const at = innodb.LSN(700 * blockSize)
	older := liveBlock(at-100*blockSize, blockSize, 12)
	for _, tc := range []struct {
		name  string
		live  []byte
		end   innodb.LSN
		used  int // 0: an error
		first int
	}{
		{"cut", liveBlock(at, 400, 100), at + 300, 300, 100},
		{"cut before the first mini-transaction that begins here", liveBlock(at, 400, 350), at + 300, 300, 0},
		{"cut of a full block", liveBlock(at, blockSize, 12), at + 300, 300, 12},
		{"as it is", liveBlock(at, 300, 0), at + 300, 300, 0},
		{"not written so far", liveBlock(at, 200, 12), at + 300, 0, 0},
		{"of an earlier lap, and nothing is in it", older, at + 12, 12, 0},
		{"the end of the block before", older, at - 4, 12, 0},
		{"of an earlier lap", older, at + 300, 0, 0},
		{"of a later lap", liveBlock(at+100*blockSize, 400, 12), at + 300, 0, 0},
	} {
		b, err := Geometry{Format: Format105}.LastBlock(tc.live, tc.end)
		if tc.used == 0 {
			if err == nil {
				t.Errorf("%s: no error", tc.name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if stop := (Geometry{}).checkBlock(b, at); stop.Cause != 0 {
			t.Errorf("%s: %v", tc.name, stop)
		}
		used, first := int(binary.BigEndian.Uint16(b[4:])), int(binary.BigEndian.Uint16(b[6:]))
		if used != tc.used || first != tc.first || !innodb.AllZero(b[used:blockEnd]) {
			t.Errorf("%s: %d bytes used, first %d, want %d, %d", tc.name, used, first, tc.used, tc.first)
		}
		if !bytes.Equal(b[blockHeader:used], tc.live[blockHeader:used]) && tc.used > blockHeader {
			t.Errorf("%s: other bytes", tc.name)
		}
	}
}
