package binlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// The first bytes of a file, plain and encrypted.
var (
	magic     = []byte{0xFE, 'b', 'i', 'n'}
	encrypted = []byte{0xFD, 'b', 'i', 'n'}
)

// ErrEncrypted means that a binary log is encrypted.
var ErrEncrypted = errors.New("the binary log is encrypted")

const (
	// maxPrevious bounds the event with the GTIDs of earlier files. A set of
	// 256 KiB of text, the most that a backup records, has less.
	maxPrevious = 16 << 20
	// maxGroup bounds an event that begins a transaction: it has some hundred bytes.
	maxGroup = 64 << 10
	// maxFormat bounds the format description.
	maxFormat = 4 << 10
)

// A Log is the contents of a binary log file up to a position.
type Log struct {
	Previous     Set // the GTIDs of all earlier files
	Own          Set // those of this one
	Transactions int // in this file, those without a GTID included
}

// All is the GTIDs of this file and all earlier ones.
func (l *Log) All() Set {
	var s Set
	s.AddSet(l.Previous)
	s.AddSet(l.Own)
	return s
}

// Read reads the first n bytes of a binary log of MySQL 8.0 or later. They must
// end with a transaction: it is an error if the server's position is in the
// middle of one, or if the file is damaged, encrypted, or of a form that is not
// known. Each event's checksum is verified where it has one.
func Read(ctx context.Context, r io.Reader, n int64) (*Log, error) {
	f, err := open(r, n)
	if err != nil {
		return nil, err
	}
	for f.at < n {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if err := f.next(); err != nil {
			return nil, fmt.Errorf("event at position %d: %w", f.at, err)
		}
	}
	if !f.previous {
		return nil, errors.New("the binary log does not say which GTIDs are in earlier files")
	}
	return &f.log, nil
}

// Look reads the beginning of a binary log file, and reports whether Read can
// read it.
func Look(r io.Reader) error {
	_, err := open(r, 1<<62)
	return err
}

// file is a binary log that is read.
type file struct {
	r         *bufio.Reader
	n         int64 // where to end
	at        int64 // where the next event begins
	checksums bool
	previous  bool  // the GTIDs of earlier files were read
	end       int64 // of the newest transaction
	log       Log
}

// open reads the first bytes and the format description.
func open(r io.Reader, n int64) (*file, error) {
	f := &file{r: bufio.NewReaderSize(r, 64<<10), n: n, at: int64(len(magic))}
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(f.r, head); err != nil {
		return nil, fmt.Errorf("reading the binary log: %w", err)
	}
	switch {
	case bytes.Equal(head, encrypted):
		return nil, ErrEncrypted
	case !bytes.Equal(head, magic):
		return nil, fmt.Errorf("the file begins with % x: it is not a binary log", head)
	}
	h, err := f.header()
	if err == nil && h.kind != eventFormat {
		err = fmt.Errorf("its first event is of type %d", h.kind)
	}
	if err == nil {
		err = f.format(h)
	}
	if err != nil {
		return nil, fmt.Errorf("the binary log's format description: %w", err)
	}
	return f, nil
}

// header reads the header of the next event, and leaves it to be read again.
func (f *file) header() (header, error) {
	b, err := f.r.Peek(headerSize)
	if err != nil {
		return header{}, short(err)
	}
	h := parseHeader(b)
	least := int64(headerSize)
	if f.checksums {
		least += checksumSize
	}
	switch size := int64(h.size); {
	case size < least:
		return h, fmt.Errorf("it has %d bytes: the file is damaged", size)
	case size > f.n-f.at:
		return h, fmt.Errorf("it has %d bytes, and crosses the position %d", size, f.n)
	case f.at+size <= 1<<32-1 && int64(h.end) != f.at+size:
		return h, fmt.Errorf("it has %d bytes, but its header says that it ends at %d: the file is damaged", size, h.end)
	case h.kind > lastEvent && h.flags&flagIgnorable == 0:
		return h, fmt.Errorf("its type, %d, is not known", h.kind)
	}
	return h, nil
}

func short(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errors.New("the file ends before it does")
	}
	return err
}

// format reads the format description:
//
//	version 2 (4), server's version 50, time 4, size of headers 1 (19),
//	one byte for each type of event, kind of checksums 1, checksum 4
func (f *file) format(h header) error {
	const fixed = 2 + 50 + 4 + 1
	if h.size > maxFormat || h.size < headerSize+fixed+1+checksumSize {
		return fmt.Errorf("it has %d bytes", h.size)
	}
	b, err := f.take(h)
	if err != nil {
		return err
	}
	body, kind := b[headerSize:], b[len(b)-checksumSize-1]
	if version := binary.LittleEndian.Uint16(body); version != 4 || body[fixed-1] != headerSize || kind > 1 {
		return fmt.Errorf("version %d, headers of %d bytes, checksums of kind %d: hb does not know this form", version, body[fixed-1], kind)
	}
	f.checksums = kind == 1
	if !f.checksums {
		return nil
	}
	binary.LittleEndian.PutUint16(b[headerSize-2:], h.flags&^flagInUse) // as it was when the checksum was made
	return verify(b)
}

// take reads an event as a whole.
func (f *file) take(h header) ([]byte, error) {
	b := make([]byte, h.size)
	if _, err := io.ReadFull(f.r, b); err != nil {
		return nil, short(err)
	}
	f.at += int64(h.size)
	return b, nil
}

// verify compares an event's checksum.
func verify(b []byte) error {
	end := len(b) - checksumSize
	return compare(crc32.ChecksumIEEE(b[:end]), b[end:])
}

func compare(sum uint32, stored []byte) error {
	if want := binary.LittleEndian.Uint32(stored); sum != want {
		return fmt.Errorf("its checksum is %08x, and should be %08x: the file is damaged", sum, want)
	}
	return nil
}

// limits bounds the events that are read as a whole.
var limits = map[byte]uint32{
	eventPreviousGTID: maxPrevious, eventGTID: maxGroup, eventAnonymous: maxGroup, eventTaggedGTID: maxGroup,
}

// next reads one event.
func (f *file) next() error {
	h, err := f.header()
	if err != nil {
		return err
	}
	limit, wanted := limits[h.kind]
	if !wanted {
		return f.pass(h)
	}
	if h.size > limit {
		return fmt.Errorf("it has %d bytes, more than %d", h.size, limit)
	}
	began := f.at
	b, err := f.take(h)
	if err != nil {
		return err
	}
	if f.checksums {
		if err := verify(b); err != nil {
			f.at = began
			return err
		}
		b = b[:len(b)-checksumSize]
	}
	if err := f.look(h.kind, b[headerSize:], began); err != nil {
		f.at = began
		return err
	}
	return nil
}

// pass reads an event only for its checksum.
func (f *file) pass(h header) error {
	if h.kind == eventFormat {
		return errors.New("it is a second format description")
	}
	body := int64(h.size)
	if f.checksums {
		body -= checksumSize
	}
	sum := crc32.NewIEEE()
	if _, err := io.CopyN(sum, f.r, body); err != nil {
		return short(err)
	}
	if f.checksums {
		stored := make([]byte, checksumSize)
		if _, err := io.ReadFull(f.r, stored); err != nil {
			return short(err)
		}
		if err := compare(sum.Sum32(), stored); err != nil {
			return err
		}
	}
	f.at += int64(h.size)
	return nil
}

// look takes the GTIDs from an event that began at a position.
func (f *file) look(kind byte, body []byte, began int64) (err error) {
	if kind == eventPreviousGTID {
		if f.previous || f.log.Transactions > 0 {
			return errors.New("it names the GTIDs of earlier files, and is not the second of this one")
		}
		f.previous = true
		f.log.Previous, err = parsePrevious(body)
		return err
	}
	var g group
	if kind == eventTaggedGTID {
		g, err = parseTagged(body)
	} else {
		g, err = parseGTID(kind, body)
	}
	if err != nil {
		return fmt.Errorf("of a GTID: %w", err)
	}
	switch {
	case began < f.end:
		return fmt.Errorf("it begins a transaction within another, which ends at %d", f.end)
	case g.length < uint64(f.at-began):
		return fmt.Errorf("its transaction has %d bytes", g.length)
	case g.length > uint64(f.n-began):
		return fmt.Errorf("its transaction has %d bytes, and crosses the position %d", g.length, f.n)
	}
	f.end = began + int64(g.length)
	f.log.Transactions++
	if g.number == 0 {
		return nil
	}
	return f.log.Own.add(g.id, span{g.number, g.number})
}
