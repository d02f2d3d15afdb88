package delta

import (
	"cmp"
	"fmt"
	"io"
	"iter"
	"slices"

	"hb/xbstream/innodb"
)

// List is which pages a P.delta has, and where. It takes 4 bytes of memory for each page,
// or 8 if the pages are not in the order of their numbers.
type List struct {
	pageSize int
	numbers  []innodb.PageNo // in the order of the file
	sorted   []uint32        // places in numbers, by number; nil: numbers ascend
}

// ReadList reads the index pages of a P.delta of size bytes, and nothing else. A file that
// is cut gives an error that wraps io.ErrUnexpectedEOF.
func ReadList(r io.ReaderAt, size int64, pageSize int) (*List, error) {
	if err := CheckPageSize(pageSize); err != nil {
		return nil, err
	}
	l := &List{pageSize: pageSize}
	index, end := make([]byte, pageSize), int64(0)
	for last, clusters := false, 0; !last; {
		if end+int64(pageSize) > size {
			return nil, cut(size)
		}
		if n, err := r.ReadAt(index, end); n < len(index) {
			if err == io.EOF {
				err = cut(end + int64(n))
			}
			return nil, err
		}
		var err error
		if l.numbers, last, err = parseIndex(index, l.numbers); err != nil {
			return nil, err
		}
		clusters++
		// Every page that is listed must be there: so the file bounds the list.
		if end = int64(clusters+len(l.numbers)) * int64(pageSize); end > size {
			return nil, cut(size)
		}
	}
	if end != size {
		return nil, fmt.Errorf("it continues after its last cluster: it has %d bytes, not %d", size, end)
	}
	return l, l.sort()
}

func cut(size int64) error {
	return fmt.Errorf("it is cut at %d bytes: %w", size, io.ErrUnexpectedEOF)
}

// sort makes the list searchable, and refuses a page that is there twice.
func (l *List) sort() error {
	if !slices.IsSorted(l.numbers) {
		l.sorted = make([]uint32, len(l.numbers))
		for i := range l.sorted {
			l.sorted[i] = uint32(i)
		}
		slices.SortFunc(l.sorted, func(a, b uint32) int { return cmp.Compare(l.numbers[a], l.numbers[b]) })
	}
	before := innodb.PageNull
	for no := range l.Pages() {
		if no == before {
			return &DuplicateError{no}
		}
		before = no
	}
	return nil
}

// Len is how many pages there are.
func (l *List) Len() int { return len(l.numbers) }

// Pages yields the pages in the order of their numbers, and the offset in the file at
// which each of them is.
func (l *List) Pages() iter.Seq2[innodb.PageNo, int64] {
	return func(yield func(innodb.PageNo, int64) bool) {
		for i := range l.numbers {
			if place := l.place(i); !yield(l.numbers[place], l.at(place)) {
				return
			}
		}
	}
}

// Find returns the offset in the file at which a page is; ok is false if it is not there.
func (l *List) Find(no innodb.PageNo) (at int64, ok bool) {
	i := l.search(no)
	if i == l.Len() || l.numbers[l.place(i)] != no {
		return 0, false
	}
	return l.at(l.place(i)), true
}

// Next returns the first page at or after a number; ok is false if there is none.
func (l *List) Next(no innodb.PageNo) (next innodb.PageNo, ok bool) {
	i := l.search(no)
	if i == l.Len() {
		return 0, false
	}
	return l.numbers[l.place(i)], true
}

// search returns how many pages are before a number.
func (l *List) search(no innodb.PageNo) int {
	lo, hi := 0, l.Len()
	for lo < hi {
		if mid := (lo + hi) / 2; l.numbers[l.place(mid)] < no {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// place is the place in the file of the i-th page by number.
func (l *List) place(i int) int {
	if l.sorted == nil {
		return i
	}
	return int(l.sorted[i])
}

// at is the offset of the page at a place: the clusters before its own are full.
func (l *List) at(place int) int64 {
	return (int64(place/Capacity(l.pageSize)) + 1 + int64(place)) * int64(l.pageSize)
}
