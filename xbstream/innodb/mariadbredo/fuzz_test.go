package mariadbredo

import (
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// FuzzHeader reads hostile heads of log files, with checksums that fit, and a
// live log's last blocks.
func FuzzHeader(f *testing.F) {
	for _, version := range []string{"10.5.23", "10.11.18", "11.8.6"} {
		log := realLog(f, version)
		f.Add(log[:min(len(log), 16<<10)], uint64(50_000), false)
		f.Add(log[:min(len(log), 16<<10)], uint64(50_000), true)
	}
	f.Fuzz(func(t *testing.T, head []byte, end uint64, sum bool) {
		for b := head; sum && len(b) >= headerBlock; b = b[headerBlock:] {
			innodbtest.SealBlock(innodbtest.MariaDB108, b[:headerBlock])
		}
		_, _ = Geometry{}.LastBlock(head, innodb.LSN(end))
		h, err := ParseHeader(head)
		if err != nil {
			return
		}
		c, err := h.Checkpoint(head)
		if err != nil {
			return
		}
		cut := NewCutter(LinearGeometry(h, c), c.LSN)
		cut.Feed(head[min(int64(len(head)), h.Format.Facts().HeaderSize):])
		for n := 0; n < 1000; n++ {
			if _, ok := cut.Next(); !ok {
				return
			}
		}
	})
}
