// Package delta reads and writes the files in which an incremental backup keeps the
// changed pages of a tablespace's file P, as XtraBackup and mariadb-backup do: P.meta
// and P.delta.
//
// P.meta is text: see [Meta]. P.delta is a sequence of clusters, each of whole pages,
// big-endian:
//
//	index page  4  "xtra": another cluster follows; "XTRA": it is the last one
//	            4  number of a page, up to PageSize/4 - 1 times; 0xFFFFFFFF ends a list
//	               that does not fill the index page
//	pages          in the order of the list, as they are in the file
//
// A cluster that is not the last one is full. A page's number is its offset in the
// file P, divided by the page size: not that in the tablespace, which may have several
// files. There is always a last cluster, which may be empty.
//
// Source: files that mariadb-backup 10.5.23, 10.11.18 and 11.8.9 wrote (see testdata), and
// extra/mariabackup/write_filt.cc and xtrabackup.cc of 10.5 and 10.11.
package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"hb/xbstream/innodb"
)

// The ends of the names of both files.
const (
	Ext     = ".delta"
	ExtMeta = ".meta"
)

const (
	magicMore = "xtra"
	magicLast = "XTRA"

	entrySize = 4
	endOfList = uint32(innodb.PageNull)
)

// Capacity is how many pages a full cluster has.
func Capacity(pageSize int) int { return pageSize/entrySize - 1 }

// CheckPageSize returns an error if no page in a file has that many bytes.
func CheckPageSize(pageSize int) error {
	if pageSize < innodb.MinZipSize || pageSize > innodb.MaxPageSize || pageSize&(pageSize-1) != 0 {
		return fmt.Errorf("no tablespace has pages of %d bytes", pageSize)
	}
	return nil
}

// parseIndex appends the numbers in an index page to list.
func parseIndex(index []byte, list []innodb.PageNo) (_ []innodb.PageNo, last bool, err error) {
	switch magic := string(index[:entrySize]); magic {
	case magicLast:
		last = true
	case magicMore:
	default:
		return nil, false, fmt.Errorf("a cluster begins with %q", magic)
	}
	full := len(list) + Capacity(len(index))
	for rest := index[entrySize:]; len(rest) > 0; rest = rest[entrySize:] {
		no := binary.BigEndian.Uint32(rest)
		if no == endOfList {
			break
		}
		list = append(list, innodb.PageNo(no))
	}
	if !last && len(list) < full {
		return nil, false, fmt.Errorf("a cluster before the last one has %d pages, not %d", len(list)+Capacity(len(index))-full, Capacity(len(index)))
	}
	return list, last, nil
}

// DuplicateError says that a page came twice.
type DuplicateError struct{ No innodb.PageNo }

func (e *DuplicateError) Error() string { return fmt.Sprintf("page %d is there twice", e.No) }

// set is a set of page numbers. It takes a bit for each page that is near others, and
// less than the smallest page for one that is not.
type set map[innodb.PageNo]*[setBlock / 64]uint64

const setBlock = 4096

// add enters a number; false if it was there already.
func (s set) add(no innodb.PageNo) bool {
	block := s[no/setBlock]
	if block == nil {
		block = new([setBlock / 64]uint64)
		s[no/setBlock] = block
	}
	word, bit := &block[no%setBlock/64], uint64(1)<<(no%64)
	was := *word&bit != 0
	*word |= bit
	return !was
}

// Reader reads a P.delta from front to back. Its memory is bounded by a cluster's index,
// and a few bytes for each page that was read.
type Reader struct {
	r    io.Reader
	page []byte
	left []innodb.PageNo // of the current cluster
	seen set
	last bool // the current cluster is the last one
	err  error
}

// NewReader returns a Reader of a file with pages of a size that CheckPageSize accepts.
func NewReader(r io.Reader, pageSize int) (*Reader, error) {
	if err := CheckPageSize(pageSize); err != nil {
		return nil, err
	}
	return &Reader{r: r, page: make([]byte, pageSize), seen: make(set)}, nil
}

// Next returns the next page, which is valid until the next call. io.EOF means that the
// last cluster has ended, and the file with it. A file that is cut gives an error that
// wraps io.ErrUnexpectedEOF.
func (r *Reader) Next() (no innodb.PageNo, page []byte, err error) {
	if r.err == nil {
		no, r.err = r.next()
	}
	if r.err != nil {
		return 0, nil, r.err
	}
	return no, r.page, nil
}

func (r *Reader) next() (innodb.PageNo, error) {
	for len(r.left) == 0 {
		if r.last {
			return 0, r.end()
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
		var err error
		if r.left, r.last, err = parseIndex(r.page, r.left[:0]); err != nil {
			return 0, err
		}
	}
	no := r.left[0]
	if !r.seen.add(no) {
		return 0, &DuplicateError{no}
	}
	r.left = r.left[1:]
	return no, r.fill()
}

// fill reads a page, which must be there.
func (r *Reader) fill() error {
	_, err := io.ReadFull(r.r, r.page)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it is cut: %w", err)
	}
	return err
}

// end makes sure that nothing follows the last cluster.
func (r *Reader) end() error {
	n, err := io.ReadFull(r.r, r.page[:1])
	switch {
	case n > 0:
		return errors.New("it continues after its last cluster")
	case err != nil:
		return err // io.EOF if it is whole
	}
	return io.ErrNoProgress
}
