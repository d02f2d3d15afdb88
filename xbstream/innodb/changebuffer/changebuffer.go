// Package changebuffer reads InnoDB's change buffer: changes of leaf pages of secondary
// indexes that servers did not have in memory, and will make when they read the pages.
//
// It is a B-tree of ROW_FORMAT=REDUNDANT in the system tablespace with its root on page 4. Its
// records begin with: tablespace (4), a zero byte, page (4). MariaDB 11.0 and later do not have
// it, and empty it when they start on an older directory.
//
// Source: ibuf0ibuf.cc of MySQL 5.7 and 9.7.2 and of MariaDB 10.5.
package changebuffer

import (
	"encoding/binary"
	"fmt"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
)

const (
	root    innodb.PageNo = 4
	indexID uint64        = 0xFFFFFFFF00000000
)

// without is the first version of MariaDB that has no change buffer.
const without = 110000

// Read returns how many changes are buffered for which tablespace. server is the version of the
// server, such as 80036 or 101118.
func Read(system btree.Pages, server int) (map[innodb.SpaceID]int, error) {
	page, err := system.Page(root)
	if err != nil {
		return nil, err
	}
	if t := innodb.HeaderType(page); t != innodb.TypeIndex {
		if server >= without && (t == innodb.TypeAllocated || innodb.AllZero(page) || t == typeSystem) {
			return nil, nil
		}
		return nil, &innodb.PageError{PageID: innodb.PageID{No: root}, What: fmt.Sprintf("the root of the change buffer is of type %d", t)}
	}
	changes := map[innodb.SpaceID]int{}
	tree := &btree.Tree{Pages: system, Root: root, ID: indexID}
	return changes, tree.Walk(func(r *btree.Record) error {
		if r.Deleted { // the change was made
			return nil
		}
		if len(r.Fields) < 4 || len(r.Fields[0].Data) != 4 || len(r.Fields[1].Data) != 1 || r.Fields[1].Data[0] != 0 {
			return &innodb.PageError{PageID: innodb.PageID{No: r.Page}, What: fmt.Sprintf("the change buffer has a record at %d of another form", r.Origin)}
		}
		changes[innodb.SpaceID(binary.BigEndian.Uint32(r.Fields[0].Data))]++
		return nil
	})
}

// typeSystem is a page without a purpose that its type names.
const typeSystem innodb.PageType = 6
