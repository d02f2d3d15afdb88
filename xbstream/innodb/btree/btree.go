// Package btree reads InnoDB's B-trees from the pages of a tablespace: the records of
// dictionary tables, of serialized dictionary information and of user tables, and
// columns that are stored on pages of their own.
//
// An index page, of type 17855 (17853 for serialized dictionary information), big-endian:
//
//	 8  4  previous page of the level   12  4  next one (PageNull: none)
//	38  2  slots of the directory       40  2  end of the heap
//	42  2  records in the heap and the two system records; bit 15: COMPACT
//	54  2  records                      64  2  level; 0: leaf
//	66  8  id of the index
//	94  …  infimum, supremum, then the heap of records
//	    …  directory: 2 for each slot, growing downwards from 8 before the page's end:
//	       the origins of infimum, of every fourth to eighth record, and of supremum
//
// Records are linked in the order of their keys, from infimum to supremum; where a record
// begins, its origin, lies between its header and its data. On a page that is not a leaf
// the last field of each record is the number of a page of the next lower level. See
// record.go for the two formats of records and extern.go for columns on other pages.
//
// Sources: page0page.h, page0types.h, rem0rec.h, btr0btr.h, lob0lob.h, lob0first.h,
// zlob0first.h and lob0impl.h of MySQL 9.7.2; MySQL 5.6 and 5.7, and MariaDB 10.5 to 11.8,
// which have the same pages and records except for those of instant ALTER TABLE, are read
// by the tests of package sink/export.
package btree

import (
	"encoding/binary"
	"fmt"

	"hb/xbstream/innodb"
)

var be = binary.BigEndian

// Pages are the pages of one tablespace.
type Pages interface {
	// Page returns page no: verified, and without encryption and page compression. It has
	// Space.Logical bytes if it is a page of an index; another page of
	// ROW_FORMAT=COMPRESSED has Space.Physical. The caller keeps the page and does not
	// change it.
	Page(no innodb.PageNo) ([]byte, error)
	// Space describes the tablespace.
	Space() *innodb.Space
}

// A Tree is one index.
type Tree struct {
	Pages  Pages
	Root   innodb.PageNo
	ID     uint64 // of the index, as its pages have it
	Format Format
}

// maxLevels is how many levels a server lets a tree have (BTR_MAX_LEVELS).
const maxLevels = 100

// Walk calls f for each record of the leaf pages, in the order of their keys, deleted ones
// included. The record and its values are valid only during the call. An error of f ends the
// walk and is returned. Any other error is a *innodb.PageError, or what Pages returned.
func (t *Tree) Walk(f func(r *Record) error) error {
	p, err := t.firstLeaf()
	last := innodb.PageNull
	for seen := uint32(0); err == nil; seen++ {
		switch {
		case p.prev() != last:
			return p.errorf("page %d does not come before it, but page %d", last, p.prev())
		case seen >= t.Pages.Space().Size:
			return p.errorf("its index has more pages than the tablespace")
		}
		if err = p.records(&t.Format, f); err != nil || p.next() == innodb.PageNull {
			return err
		}
		last = p.no
		p, err = t.page(p.next(), 0)
	}
	return err
}

// firstLeaf descends from the root to the leaf with the lowest keys.
func (t *Tree) firstLeaf() (*page, error) {
	p, err := t.page(t.Root, -1)
	if err != nil {
		return nil, err
	}
	if p.prev() != innodb.PageNull || p.next() != innodb.PageNull {
		return nil, p.errorf("it is not the root of an index: it has neighbours, pages %d and %d", p.prev(), p.next())
	}
	for p.level() > 0 {
		if p.prev() != innodb.PageNull {
			return nil, p.errorf("it is not the first page of level %d", p.level())
		}
		child, err := p.firstChild(&t.Format)
		if err != nil {
			return nil, err
		}
		if p, err = t.page(child, p.level()-1); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// page reads and checks a page of the index, of the given level; -1: of any.
func (t *Tree) page(no innodb.PageNo, level int) (*page, error) {
	b, err := t.Pages.Page(no)
	if err != nil {
		return nil, err
	}
	return t.asPage(b, no, level)
}

func (t *Tree) asPage(b []byte, no innodb.PageNo, level int) (*page, error) {
	s := t.Pages.Space()
	p := &page{PageID: innodb.PageID{Space: s.ID, No: no}, b: b, no: no}
	if len(b) != s.Logical {
		return nil, p.errorf("it has %d bytes", len(b))
	}
	if err := p.check(t.Format.Compact); err != nil {
		return nil, err
	}
	switch {
	case p.index() != t.ID:
		return nil, p.errorf("it is of index %d, not of index %d", p.index(), t.ID)
	case level >= 0 && p.level() != level:
		return nil, p.errorf("it is of level %d of its index, not of level %d", p.level(), level)
	case p.level() >= maxLevels:
		return nil, p.errorf("it is of level %d, which no index has", p.level())
	}
	return p, nil
}

// errorf makes a *innodb.PageError.
func (p *page) errorf(format string, args ...any) error {
	return &innodb.PageError{PageID: p.PageID, What: fmt.Sprintf(format, args...)}
}
