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

// The ids of MySQL's undo tablespaces since 8.0: from the highest down, in turn those of
// each of the 127 that there can be (dict0dict.h, undo::id2num in trx0purge.h). One that is
// truncated gets the next id of its number.
const (
	firstUndoID = 0xFFFFFFEF
	lastUndoID  = 0xFCF8DA70
	mostUndo    = 127
)

// UndoNumber is the number of an undo tablespace of MySQL 8.0 or later, from 1; 0 if the id is
// of another tablespace.
func UndoNumber(id SpaceID) int {
	if id < lastUndoID || id > firstUndoID {
		return 0
	}
	return int(firstUndoID-id)%mostUndo + 1
}
