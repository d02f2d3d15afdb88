package tracking

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"slices"

	"hb/xbstream/innodb"
)

// Pages is a set of pages, in eight bytes each.
type Pages struct {
	// Until is the checkpoint up to which the set is complete: a page that is not in it,
	// and changed in its file, has a greater LSN.
	Until innodb.LSN
	ids   []uint64 // tablespace and page number; ascending
}

func pageKey(space innodb.SpaceID, no innodb.PageNo) uint64 { return uint64(space)<<32 | uint64(no) }

// newPages makes a set of a list in any order, with duplicates, which it keeps.
func newPages(ids []uint64) *Pages {
	slices.Sort(ids)
	return &Pages{ids: slices.Compact(ids)}
}

// readIDs reads n entries. Fewer are an error.
func readIDs(r io.Reader, n int64) ([]uint64, error) {
	ids := make([]uint64, n)
	in := bufio.NewReaderSize(r, 64<<10)
	var b [entrySize]byte
	for i := range ids {
		if _, err := io.ReadFull(in, b[:]); err != nil {
			return nil, fmt.Errorf("entry %d of %d: %w", i, n, err)
		}
		ids[i] = binary.BigEndian.Uint64(b[:])
	}
	return ids, nil
}

// Len returns the number of pages.
func (p *Pages) Len() int { return len(p.ids) }

// Has reports whether a page is in the set.
func (p *Pages) Has(id innodb.PageID) bool {
	_, ok := slices.BinarySearch(p.ids, pageKey(id.Space, id.No))
	return ok
}

// Of returns the pages of a tablespace in a range, ascending.
func (p *Pages) Of(space innodb.SpaceID, in innodb.PageRange) iter.Seq[innodb.PageNo] {
	return func(yield func(innodb.PageNo) bool) {
		i, _ := slices.BinarySearch(p.ids, pageKey(space, in.First))
		for _, id := range p.ids[i:] {
			if id >= pageKey(space, in.End) || !yield(innodb.PageNo(id)) {
				return
			}
		}
	}
}

// Runs returns what to read of one file of a tablespace, which has the pages of a range:
// runs in ascending order that hold all listed pages, and page 0 in any case. Neighbours
// are read in one run if that takes at most half a page more for each listed one, so
// that in all not more than one and a half times the listed pages are read.
func (p *Pages) Runs(space innodb.SpaceID, in innodb.PageRange) iter.Seq[innodb.PageRange] {
	return func(yield func(innodb.PageRange) bool) {
		var run innodb.PageRange
		listed := int64(0) // pages in run
		add := func(no innodb.PageNo) bool {
			if span := int64(no) - int64(run.First) + 1; listed > 0 && 2*span <= 3*(listed+1) {
				run.End = no + 1
				listed++
				return true
			}
			if listed > 0 && !yield(run) {
				return false
			}
			run, listed = innodb.PageRange{First: no, End: no + 1}, 1
			return true
		}
		if in.Contains(0) && !p.Has(innodb.PageID{Space: space}) && !add(0) {
			return
		}
		for no := range p.Of(space, in) {
			if !add(no) {
				return
			}
		}
		if listed > 0 {
			yield(run)
		}
	}
}
