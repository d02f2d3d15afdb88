package replay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"hb/source/innodb"
	"hb/stream/disk"
)

// DoublewriteName is the file in the recovered directory that holds what is
// being written. It is removed at the end.
const DoublewriteName = "hb-doublewrite"

// The file consists of slots of equal size, one for each writer: a header,
// where the pages belong, and the pages. A slot is written in one piece before
// the pages are; if it is not whole, none of its pages were touched.
//
//	 0  8  magic
//	 8  4  CRC-32C of all behind it, up to the end of the pages
//	12  4  number of pages
//	16  4  bytes of one page
//	20  4  bytes of the path
//	24  8  identity of the recovery: LSN where the log begins
//	32  8  and where it ends
//	40     path, page offsets in the file (8 each), pages
//
// A page whose offset is skipped stands between others and is not written.
const (
	dwMagic      = "hb-dw 2\n"
	dwHeader     = 40
	dwMaxPath    = 4 << 10
	dwMaxPages   = batchPages
	dwHeaderArea = (dwHeader + dwMaxPath + 8*dwMaxPages + 4095) &^ 4095
	dwSlotSize   = dwHeaderArea + batchBytes
	skipped      = -1
)

// Identity tells one recovery from another, so that what a doublewrite file
// holds never goes to another backup's files.
type Identity struct{ From, To innodb.LSN }

// doublewrite is the file as its writers use it.
type doublewrite struct {
	f  disk.File
	id Identity
}

func openDoublewrite(root disk.Dir, id Identity) (*doublewrite, error) {
	f, err := root.OpenFile(DoublewriteName, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("creating the doublewrite file: %w", err)
	}
	return &doublewrite{f: f, id: id}, nil
}

// slot is one writer's part of the file, and the pages that it writes.
type slot struct {
	d    *doublewrite
	no   int64
	area []byte // room for what comes before the pages, and the pages
}

func (d *doublewrite) slot(no int) *slot {
	return &slot{d: d, no: int64(no), area: make([]byte, dwSlotSize)}
}

// pages is where the pages go that are to be put into the slot.
func (s *slot) pages() []byte { return s.area[dwHeaderArea:] }

// put stores those of pages that lie from one on, of size bytes each, one for
// each offset in the file. What is before them in pages is overwritten.
func (s *slot) put(path string, size, from int, offsets []int64) error {
	if len(path) > dwMaxPath || len(offsets) > dwMaxPages || (from+len(offsets))*size > batchBytes {
		return fmt.Errorf("internal error: doublewrite of %d pages of %d bytes of %s", len(offsets), size, path)
	}
	begin := dwHeaderArea + from*size - headSize(path, offsets)
	b := s.area[begin : dwHeaderArea+(from+len(offsets))*size]
	appendSlotHead(b[:0], s.d.id, path, size, offsets)
	seal(b)
	if _, err := s.d.f.WriteAt(b, s.no*dwSlotSize); err != nil {
		return fmt.Errorf("writing the doublewrite file: %w", err)
	}
	return nil
}

func headSize(path string, offsets []int64) int { return dwHeader + len(path) + 8*len(offsets) }

// appendSlotHead appends all that comes before the pages, without the CRC.
func appendSlotHead(b []byte, id Identity, path string, size int, offsets []int64) []byte {
	be := binary.BigEndian
	b = append(b, dwMagic...)
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, uint32(len(offsets)))
	b = be.AppendUint32(b, uint32(size))
	b = be.AppendUint32(b, uint32(len(path)))
	b = be.AppendUint64(b, uint64(id.From))
	b = be.AppendUint64(b, uint64(id.To))
	b = append(b, path...)
	for _, off := range offsets {
		b = be.AppendUint64(b, uint64(off))
	}
	return b
}

// seal sets the CRC of a slot.
func seal(b []byte) { binary.BigEndian.PutUint32(b[8:], innodb.CRC32C(b[12:])) }

// DoublewriteSlot returns the bytes of one slot of a doublewrite file: pages of
// one file, of size bytes each, with their offsets in it.
func DoublewriteSlot(id Identity, path string, size int, offsets []int64, pages [][]byte) []byte {
	b := appendSlotHead(nil, id, path, size, offsets)
	for _, page := range pages {
		b = append(b, page...)
	}
	seal(b)
	return b
}

// RestoreDoublewrite writes the pages that an interrupted recovery of the same
// log was writing. It must run before anything looks at the tablespaces. It
// returns how many pages those were.
func RestoreDoublewrite(root disk.Dir, id Identity) (int, error) {
	f, err := root.Open(DoublewriteName)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("opening the doublewrite file: %w", err)
	}
	defer f.Close() // only read
	buf := make([]byte, dwSlotSize)
	restored := 0
	for at := int64(0); ; at += dwSlotSize {
		n, err := f.ReadAt(buf, at)
		if err != nil && err != io.EOF {
			return restored, fmt.Errorf("reading the doublewrite file: %w", err)
		}
		pages, werr := restoreSlot(root, id, buf[:n])
		restored += pages
		if werr != nil {
			return restored, werr
		}
		if err == io.EOF {
			return restored, nil
		}
	}
}

// restoreSlot writes the pages of a slot that is whole and of this recovery.
func restoreSlot(root disk.Dir, id Identity, b []byte) (int, error) {
	be := binary.BigEndian
	if len(b) < dwHeader || string(b[:8]) != dwMagic ||
		be.Uint64(b[24:]) != uint64(id.From) || be.Uint64(b[32:]) != uint64(id.To) {
		return 0, nil
	}
	count, size, name := int(be.Uint32(b[12:])), int(be.Uint32(b[16:])), int(be.Uint32(b[20:]))
	if count > dwMaxPages || size > innodb.MaxPageSize || name > dwMaxPath {
		return 0, nil
	}
	end := dwHeader + name + count*(8+size)
	if end > len(b) || innodb.CRC32C(b[12:end]) != be.Uint32(b[8:]) {
		return 0, nil
	}
	path := string(b[dwHeader : dwHeader+name])
	f, err := root.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return 0, fmt.Errorf("completing an interrupted recovery: %w", err)
	}
	offsets := b[dwHeader+name:]
	pages := offsets[count*8:]
	written := 0
	for i := range count {
		at := int64(be.Uint64(offsets[i*8:]))
		if at == skipped {
			continue
		}
		if _, err := f.WriteAt(pages[i*size:(i+1)*size], at); err != nil {
			return written, errors.Join(fmt.Errorf("completing an interrupted recovery of %s: %w", path, err), f.Close())
		}
		written++
	}
	// The run that follows may find nothing left to do on these pages.
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return written, fmt.Errorf("completing an interrupted recovery of %s: %w", path, err)
	}
	return written, nil
}
