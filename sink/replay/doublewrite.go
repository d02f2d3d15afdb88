package replay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"

	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// DoublewriteName is the file in the recovered directory that holds the pages that
// are being written. It is removed at the end.
const DoublewriteName = "hb-doublewrite"

// The file consists of slots of equal size, one for each writer: a header,
// which pages of which tablespace these are, and the pages. A slot is written in
// one piece before the pages are; if it is not whole, none of its pages were
// touched. It names the tablespace by its id and not by a path: files may have
// other names when it is read, and another file may have that path.
//
//	 0  8  magic
//	 8  4  CRC-32C of all that follows, up to the end of the pages
//	12  4  number of pages
//	16  4  bytes of one page
//	20  4  id of the tablespace
//	24  8  identity of the recovery: LSN where the log begins
//	32  8  and where it ends
//	40     numbers of the pages (4 each), pages
//
// A page whose number is skipped stands between others and is not written.
const (
	dwMagic      = "hb-dw 3\n"
	dwHeader     = 40
	dwMaxPages   = batchPages
	dwHeaderArea = (dwHeader + 4*dwMaxPages + 4095) &^ 4095
	dwSlotSize   = dwHeaderArea + batchBytes
	skipped      = innodb.PageNo(math.MaxUint32)
)

// Identity distinguishes one recovery from another, so that what a doublewrite file
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
	// Its name is on disk before any of its content has to be.
	if err := disk.SyncDir(root, "."); err != nil {
		return nil, errors.Join(fmt.Errorf("creating the doublewrite file: %w", err), f.Close())
	}
	return &doublewrite{f: f, id: id}, nil
}

// sync syncs the file.
func (d *doublewrite) sync() error {
	if err := d.f.Sync(); err != nil {
		return fmt.Errorf("syncing the doublewrite file: %w", err)
	}
	return nil
}

// slot is one writer's part of the file, and the pages that it writes.
type slot struct {
	d    *doublewrite
	no   int64
	area []byte // room for the header of a slot, and the pages
}

func (d *doublewrite) slot(no int) *slot {
	return &slot{d: d, no: int64(no), area: make([]byte, dwSlotSize)}
}

// pages is where the pages go that are to be put into the slot.
func (s *slot) pages() []byte { return s.area[dwHeaderArea:] }

// put stores the pages that follow the header in pages, of size bytes each, one for
// each number. It overwrites that header.
func (s *slot) put(id innodb.SpaceID, size, from int, numbers []innodb.PageNo) error {
	if len(numbers) > dwMaxPages || (from+len(numbers))*size > batchBytes {
		return &innodb.InternalError{What: fmt.Sprintf("doublewrite of %d pages of %d bytes of tablespace %d", len(numbers), size, id)}
	}
	begin := dwHeaderArea + from*size - headSize(len(numbers))
	b := s.area[begin : dwHeaderArea+(from+len(numbers))*size]
	appendSlotHead(b[:0], s.d.id, id, size, numbers)
	seal(b)
	if _, err := s.d.f.WriteAt(b, s.no*dwSlotSize); err != nil {
		return fmt.Errorf("writing the doublewrite file: %w", err)
	}
	return nil
}

func headSize(pages int) int { return dwHeader + 4*pages }

// appendSlotHead appends all that comes before the pages, without the CRC.
func appendSlotHead(b []byte, of Identity, id innodb.SpaceID, size int, numbers []innodb.PageNo) []byte {
	be := binary.BigEndian
	b = append(b, dwMagic...)
	b = be.AppendUint32(b, 0)
	b = be.AppendUint32(b, uint32(len(numbers)))
	b = be.AppendUint32(b, uint32(size))
	b = be.AppendUint32(b, uint32(id))
	b = be.AppendUint64(b, uint64(of.From))
	b = be.AppendUint64(b, uint64(of.To))
	for _, no := range numbers {
		b = be.AppendUint32(b, uint32(no))
	}
	return b
}

// seal sets the CRC of a slot.
func seal(b []byte) { binary.BigEndian.PutUint32(b[8:], innodb.CRC32C(b[12:])) }

// DoublewriteSlot returns the bytes of one slot of a doublewrite file: pages of
// one tablespace, of size bytes each, with their numbers.
func DoublewriteSlot(of Identity, id innodb.SpaceID, size int, numbers []innodb.PageNo, pages [][]byte) []byte {
	b := appendSlotHead(nil, of, id, size, numbers)
	for _, page := range pages {
		b = append(b, page...)
	}
	seal(b)
	return b
}

// RestoreDoublewrite writes the pages that an interrupted recovery of the same
// log was writing. It must run before anything looks at more of the tablespaces
// than the header of page 0, which is whole in a torn page too. find returns the
// tablespace of an id, or nil: then nothing of it was written, as page 0 of a new
// one comes first. RestoreDoublewrite returns how many pages it wrote.
func RestoreDoublewrite(root disk.Dir, of Identity, find func(innodb.SpaceID) (*Tablespace, error)) (int, error) {
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
		if pages := parseSlot(of, buf[:n]); pages != nil {
			written, err := pages.restore(root, find)
			restored += written
			if err != nil {
				return restored, fmt.Errorf("completing an interrupted recovery: %w", err)
			}
		}
		if err == io.EOF {
			return restored, nil
		}
	}
}

// slotPages are the pages in a slot.
type slotPages struct {
	space   innodb.SpaceID
	size    int
	numbers []byte
	pages   []byte
}

// parseSlot returns the pages of a slot that is whole and of this recovery; else nil.
func parseSlot(of Identity, b []byte) *slotPages {
	be := binary.BigEndian
	if len(b) < dwHeader || string(b[:8]) != dwMagic ||
		be.Uint64(b[24:]) != uint64(of.From) || be.Uint64(b[32:]) != uint64(of.To) {
		return nil
	}
	count, size := int(be.Uint32(b[12:])), int(be.Uint32(b[16:]))
	if count > dwMaxPages || size < innodb.MinZipSize || size > innodb.MaxPageSize {
		return nil
	}
	head := headSize(count)
	end := head + count*size
	if end > len(b) || innodb.CRC32C(b[12:end]) != be.Uint32(b[8:]) {
		return nil
	}
	return &slotPages{innodb.SpaceID(be.Uint32(b[20:])), size, b[dwHeader:head], b[head:end]}
}

// restore writes the pages into their tablespace and syncs it: the run that
// follows may find nothing left to do on these pages.
func (p *slotPages) restore(root disk.Dir, find func(innodb.SpaceID) (*Tablespace, error)) (written int, err error) {
	t, err := find(p.space)
	if t == nil || err != nil {
		return 0, err
	}
	known := *t
	known.Space.Physical = p.size // page 0 may not be written yet
	s, err := openTablespace(root, &known)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.release()) }()
	for i := range len(p.numbers) / 4 {
		no := innodb.PageNo(binary.BigEndian.Uint32(p.numbers[4*i:]))
		if no == skipped {
			continue
		}
		if err := s.writePages(p.pages[i*p.size:(i+1)*p.size], no); err != nil {
			return written, err
		}
		written++
	}
	return written, nil
}
