package sourcetest

import (
	"encoding/binary"
	"os"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
)

// ZeroPages makes a tablespace of compressed pages of 1 KiB that are all in use, by
// descriptors of that LSN, and so many of them zero. The file has holes there: it takes
// little room. The zero pages are those that are no multiple of 1024.
func ZeroPages(t testing.TB, path string, id innodb.SpaceID, lsn innodb.LSN, zero int) {
	t.Helper()
	const size = 1 << 10                   // of a page, and how many pages a page of descriptors describes
	pages := zero + (zero+size-2)/(size-1) // one of descriptors before each 1023
	s := innodbtest.Tablespace{ID: id, Flags: innodbtest.Plain16K | 1<<1, LSN: lsn, Pages: pages}
	s.Fill = func(page []byte, no innodb.PageNo) {
		for place := range size / 64 {
			innodbtest.Extent(page, place, 4, 64, func(int) bool { return true })
		}
		if no == 0 {
			binary.BigEndian.PutUint32(page[innodb.OffsetFSPLimit:], uint32(pages))
		}
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for no := 0; no < pages; no += size {
		if _, err := f.WriteAt(s.Page(innodb.PageNo(no)), int64(no)*size); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(int64(pages) * size); err != nil {
		t.Fatal(err)
	}
}
