package mariadbredo

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/redolog"
)

// LastBlock makes the last block of a backup's log that ends at end, from that
// block as it is in the live log (10.5 format): what lies after end is cut
// off. A live block of an earlier lap means that the server has written nothing
// after end yet, which is right only where end is at the block's beginning.
func (g Geometry) LastBlock(live []byte, end innodb.LSN) ([]byte, error) {
	end = redolog.Canonical(end)
	at, used := end&^(blockSize-1), int(end%blockSize)
	if len(live) != blockSize {
		return nil, fmt.Errorf("block of %d bytes", len(live))
	}
	b := make([]byte, blockSize)
	stop := g.checkBlock(live, at)
	if stop.Cause == 0 {
		live = bytes.Clone(live)
		if stop = g.open(live, at); stop.Cause != 0 {
			return nil, stop
		}
	}
	version := g.Crypt.KeyVersion
	switch {
	case stop.Cause == 0 && int(binary.BigEndian.Uint16(live[4:])) >= used:
		copy(b, live[:used])
		if g.Crypt.Encrypted() {
			version = binary.BigEndian.Uint32(live[offKeyVersion:])
		}
		if first := binary.BigEndian.Uint16(b[6:]); int(first) >= used {
			binary.BigEndian.PutUint16(b[6:], 0)
		}
	case used == blockHeader:
		binary.BigEndian.PutUint32(b, redolog.BlockNumber(at))
	case stop.Cause != 0:
		return nil, stop
	default:
		return nil, fmt.Errorf("the redo log ends before LSN %d", end)
	}
	binary.BigEndian.PutUint16(b[4:], uint16(used))
	if g.Crypt.Encrypted() {
		binary.BigEndian.PutUint32(b[offKeyVersion:], version)
	}
	if err := g.seal(b, at); err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(b[blockEnd:], innodb.CRC32C(b[:blockEnd]))
	return b, nil
}
