package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"hb/xbstream/innodb"
)

// Memory is how many bytes of pages a Writer keeps before it puts more of them into a
// file: a cluster's index, which precedes its pages, is known when the cluster is full.
const Memory = 4 << 20

// File is where a Writer puts pages; those of one cluster at a time.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// Writer writes a P.delta. It belongs to one goroutine.
type Writer struct {
	w     io.Writer
	temp  func() (File, error)
	size  int    // of a page
	index []byte // of the cluster
	pages int    // in the cluster
	total int64
	kept  []byte // the pages of the cluster that are in no file
	file  File   // nil: none yet
	spilt int64  // bytes of the cluster in file
	seen  set
	err   error
}

// NewWriter returns a Writer to w of pages of a size that CheckPageSize accepts. It calls
// temp for a file when pages take more than Memory: once at most. The file belongs to
// the caller, who closes it after the Writer; it never has more than a cluster of pages
// in it (PageSize/4 of them: 1 to 1024 MiB).
func NewWriter(w io.Writer, pageSize int, temp func() (File, error)) (*Writer, error) {
	if err := CheckPageSize(pageSize); err != nil {
		return nil, err
	}
	d := &Writer{w: w, temp: temp, size: pageSize, index: make([]byte, pageSize), seen: make(set)}
	return d, nil
}

// Len returns how many pages have been added.
func (d *Writer) Len() int64 { return d.total }

// Add adds a page. It does not keep the page's memory. A page that has come before is a
// *DuplicateError.
func (d *Writer) Add(no innodb.PageNo, page []byte) error {
	if d.err == nil {
		d.err = d.add(no, page)
	}
	return d.err
}

func (d *Writer) add(no innodb.PageNo, page []byte) error {
	switch {
	case len(page) != d.size:
		return fmt.Errorf("page %d has %d bytes, not %d", no, len(page), d.size)
	case no == innodb.PageNull:
		return fmt.Errorf("%d is the number of no page", no)
	case !d.seen.add(no):
		return &DuplicateError{no}
	}
	if err := d.keep(page); err != nil {
		return err
	}
	d.pages++
	d.total++
	binary.BigEndian.PutUint32(d.index[entrySize*d.pages:], uint32(no))
	if d.pages < Capacity(d.size) {
		return nil
	}
	return d.flush(magicMore)
}

// keep puts a page behind those of its cluster.
func (d *Writer) keep(page []byte) error {
	if len(d.kept)+len(page) > Memory {
		if err := d.spill(); err != nil {
			return err
		}
	}
	if len(d.kept)+len(page) > cap(d.kept) {
		d.kept = slices.Grow(d.kept, min(Memory, 8*(len(d.kept)+len(page)))-len(d.kept)) // few files have many changed pages
	}
	d.kept = append(d.kept, page...)
	return nil
}

// spill moves the pages in memory to the file.
func (d *Writer) spill() (err error) {
	if d.file == nil {
		if d.file, err = d.temp(); err != nil {
			return err
		}
	}
	if _, err := d.file.WriteAt(d.kept, d.spilt); err != nil {
		return fmt.Errorf("spooling changed pages: %w (give another place with --tmpdir)", err)
	}
	d.spilt += int64(len(d.kept))
	d.kept = d.kept[:0]
	return nil
}

// flush writes the cluster, and begins the next.
func (d *Writer) flush(magic string) error {
	copy(d.index, magic)
	if d.pages < Capacity(d.size) {
		binary.BigEndian.PutUint32(d.index[entrySize*(d.pages+1):], endOfList)
	}
	if _, err := d.w.Write(d.index); err != nil {
		return err
	}
	if d.spilt > 0 {
		// The pages in memory are the last ones: with them in the file, too, there is
		// memory to read the others back.
		if err := d.spill(); err != nil {
			return err
		}
		if err := d.sendSpilt(); err != nil {
			return err
		}
	} else if len(d.kept) > 0 {
		if _, err := d.w.Write(d.kept); err != nil {
			return err
		}
	}
	clear(d.index)
	d.pages, d.spilt, d.kept = 0, 0, d.kept[:0]
	return nil
}

func (d *Writer) sendSpilt() error {
	buf := d.kept[:cap(d.kept)]
	for at := int64(0); at < d.spilt; {
		part := buf[:min(int64(len(buf)), d.spilt-at)]
		if n, err := d.file.ReadAt(part, at); n < len(part) {
			return fmt.Errorf("reading back spooled pages: %w", err)
		}
		if _, err := d.w.Write(part); err != nil {
			return err
		}
		at += int64(len(part))
	}
	return nil
}

// Close writes the last cluster. It closes neither the file nor the writer below.
func (d *Writer) Close() error {
	if d.err == nil {
		d.err = d.flush(magicLast)
	}
	if d.err != nil {
		return d.err
	}
	d.err = errors.New("the file of changed pages is closed already")
	return nil
}
