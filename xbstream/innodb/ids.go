package innodb

import "fmt"

// LSN is a log sequence number: a byte position in the endless redo log of
// one server. In the block formats (MySQL, MariaDB before 10.8) it counts the
// headers and trailers of the 512-byte blocks too.
type LSN uint64

// String prints the LSN in decimal, as the servers do.
func (l LSN) String() string { return fmt.Sprintf("%d", uint64(l)) }

// SpaceID identifies a tablespace. It is stored in each of its pages (byte 34)
// and in every redo record; a file name may pass from one id to another, an id
// never passes to another tablespace.
type SpaceID uint32

// PageNo counts the pages of a tablespace from 0, across all of its files.
type PageNo uint32

// PageID names one page of one tablespace.
type PageID struct {
	Space SpaceID
	No    PageNo
}

// String prints the page as "space:page".
func (id PageID) String() string { return fmt.Sprintf("%d:%d", id.Space, id.No) }

// PageNull is the "no page" value of page links (FIL_NULL).
const PageNull PageNo = 0xFFFFFFFF
