package mysqlredo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"hb/xbstream/innodb"
)

// Offsets in the first block of a log file. From 5.7.9 on the CRC-32C at 508
// covers all before it.
const (
	off56StartLSN = 4
	offUUID       = 4 // 8.0.30 and later
	offStartLSN   = 8
	offCreator    = 16
	creatorSize   = 32
	offFlags      = 48 // 8.0.20 and later
)

// Offsets of the two checkpoint blocks, and in them.
const (
	firstSlot  = 512
	secondSlot = 1536

	offCkptNo       = 0
	offCkptLSN      = 8
	offCkptOffset   = 16  // 5.6: its low half
	off56OffsetHigh = 304 // 5.6
	off56Archived   = 24  // 5.6: the LSN archived up to
	off56Sum1       = 288 // 5.6: fold of all before
	off56Sum2       = 292 // 5.6: fold of the bytes after byte 8
)

// notArchived is the archived LSN of a 5.6 log that is not archived.
const notArchived = 1<<64 - 1

// Flags are the flags in a log's header (8.0.20 and later).
type Flags uint32

// The flags.
const (
	NoLogging      Flags = 1 << iota // ALTER INSTANCE DISABLE INNODB REDO_LOG
	CrashUnsafe                      // and the server has not shut down in order since
	NotInitialized                   // the log was being made
	FileFull                         // 8.0.30 and later: there is a newer file
)

// FlagsError says that a log's flags make it worthless.
type FlagsError struct{ Flags Flags }

func (e *FlagsError) Error() string {
	switch {
	case e.Flags&NoLogging != 0:
		return "redo logging is disabled: changes leave no trace in the redo log; run ALTER INSTANCE ENABLE INNODB REDO_LOG first"
	case e.Flags&CrashUnsafe != 0:
		return "the server crashed while redo logging was disabled: its data cannot be recovered"
	case e.Flags&NotInitialized != 0:
		return "the redo log is not initialised: the server was stopped while it made it"
	}
	return fmt.Sprintf("the redo log has unknown flags %#x", uint32(e.Flags))
}

// Check returns a *FlagsError if changes may be missing from the log.
func (f Flags) Check() error {
	if f&^FileFull != 0 {
		return &FlagsError{f}
	}
	return nil
}

// UnsupportedError says that a redo log is of a format that hb cannot read.
type UnsupportedError struct{ Tag uint32 }

func (e *UnsupportedError) Error() string {
	what := "an unknown one; a newer MySQL than 9.x?"
	switch e.Tag &^ (1 << 31) {
	case uint32(Format8029):
		what = "of MySQL 8.0.29, which no other release reads"
	case 0x50485953, 0x50687973, 0x70485953, 103, 104:
		what = "of MariaDB"
	}
	return fmt.Sprintf("redo log format %#x (%s) is not one that hb reads of MySQL 5.6 to 9.x", e.Tag, what)
}

// Header is the first block of a log file.
type Header struct {
	Format Format
	UUID   uint32 // the same in all files of one log; 8.0.30 and later
	// StartLSN is, in 8.0.30 and later, the LSN of the byte at offset
	// HeaderSize of this file. Before, it is where the log was when its files
	// were made, which means nothing for offsets.
	StartLSN innodb.LSN
	Creator  string // at most 32 bytes, 31 in 8.0.30 and later
	Flags    Flags
}

// ParseHeader reads the first block of a log file: at least 512 bytes. A format
// that is not MySQL's is an *UnsupportedError. Flags are not judged: see
// Flags.Check.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < blockSize {
		return Header{}, fmt.Errorf("the redo log's header is cut short at %d bytes", len(b))
	}
	b = b[:blockSize]
	if innodb.AllZero(b) {
		return Header{}, errors.New("the redo log's header is all zero: the log was never written")
	}
	tag := binary.BigEndian.Uint32(b)
	h := Header{Format: Format(tag), Creator: creator(b)}
	switch {
	case h.Format > LastFormat || h.Format == Format8029:
		return Header{}, &UnsupportedError{tag}
	case h.Format == Format56: // no checksum
		h.StartLSN = innodb.LSN(binary.BigEndian.Uint64(b[off56StartLSN:]))
		return h, nil
	}
	if got, want := binary.BigEndian.Uint32(b[blockEnd:]), innodb.CRC32C(b[:blockEnd]); got != want {
		return Header{}, fmt.Errorf("the redo log's header has checksum %#08x, not %#08x", got, want)
	}
	h.StartLSN = innodb.LSN(binary.BigEndian.Uint64(b[offStartLSN:]))
	if h.Format >= Format8020 {
		h.Flags = Flags(binary.BigEndian.Uint32(b[offFlags:]))
	}
	if h.Format == Format8030 {
		h.UUID = binary.BigEndian.Uint32(b[offUUID:])
		if h.StartLSN == 0 || h.StartLSN%blockSize != 0 {
			return Header{}, fmt.Errorf("the redo log's header is damaged: start LSN %d", h.StartLSN)
		}
	}
	return h, nil
}

func creator(b []byte) string {
	c, _, _ := bytes.Cut(b[offCreator:offCreator+creatorSize], []byte{0})
	return strings.TrimRight(string(c), " ")
}

// Marshal returns the first block: 512 bytes. A creator that is too long is
// cut.
func (h Header) Marshal() []byte {
	b := make([]byte, blockSize)
	binary.BigEndian.PutUint32(b, uint32(h.Format))
	if h.Format == Format56 {
		binary.BigEndian.PutUint64(b[off56StartLSN:], uint64(h.StartLSN))
		copy(b[offCreator:offCreator+creatorSize], h.Creator)
		return b
	}
	binary.BigEndian.PutUint64(b[offStartLSN:], uint64(h.StartLSN))
	copy(b[offCreator:offCreator+creatorSize-1], h.Creator)
	if h.Format >= Format8020 {
		binary.BigEndian.PutUint32(b[offFlags:], uint32(h.Flags))
	}
	if h.Format == Format8030 {
		binary.BigEndian.PutUint32(b[offUUID:], h.UUID)
	}
	seal(h.Format, b)
	return b
}

// Checkpoint is one of the log's checkpoints: where recovery begins.
type Checkpoint struct {
	No  uint64 // 0 in 8.0.30 and later
	LSN innodb.LSN
	// Offset is that of LSN's byte in the ring, as if its files were one; 0 in
	// 8.0.30 and later.
	Offset uint64
}

// ErrNoCheckpoint says that neither checkpoint is valid: the server was writing
// one, or the log is damaged.
var ErrNoCheckpoint = errors.New("the redo log has no valid checkpoint")

// Checkpoints returns the valid ones, the newest first, of a file that begins with
// head: HeaderSize bytes. In a ring only the first file has them. Since 8.0.30 every
// file has two slots, used or not, and the newest checkpoint is the one with the
// highest LSN in any file whose range it is in: those of other ranges are from an
// earlier life of the file, which the caller recognises by its size (see RedoFile).
func (h Header) Checkpoints(head []byte) ([]Checkpoint, error) {
	if len(head) < HeaderSize {
		return nil, fmt.Errorf("the redo log's header is cut short at %d bytes", len(head))
	}
	var out []Checkpoint
	for _, at := range []int{firstSlot, secondSlot} {
		if c, ok := h.parseCheckpoint(head[at : at+blockSize]); ok {
			out = append(out, c)
		}
	}
	if len(out) == 2 && h.newer(out[1], out[0]) {
		out[0], out[1] = out[1], out[0]
	}
	return out, nil
}

// newer reports whether a is the newer checkpoint: by number, or by LSN where
// there are no numbers.
func (h Header) newer(a, b Checkpoint) bool {
	if h.Format.Ring() {
		return a.No > b.No
	}
	return a.LSN > b.LSN
}

// Checkpoint returns the newest valid checkpoint of a ring's first file.
func (h Header) Checkpoint(head []byte) (Checkpoint, error) {
	all, err := h.Checkpoints(head)
	if err != nil {
		return Checkpoint{}, err
	}
	if len(all) == 0 {
		return Checkpoint{}, ErrNoCheckpoint
	}
	return all[0], nil
}

func (h Header) parseCheckpoint(b []byte) (Checkpoint, bool) {
	u64 := func(off int) uint64 { return binary.BigEndian.Uint64(b[off:]) }
	u32 := func(off int) uint32 { return binary.BigEndian.Uint32(b[off:]) }
	c := Checkpoint{LSN: innodb.LSN(u64(offCkptLSN))}
	var ok bool
	switch {
	case h.Format == Format56:
		ok = u32(off56Sum1) == innodb.Fold(b[:off56Sum1]) && u32(off56Sum2) == innodb.Fold(b[offCkptLSN:off56Sum2])
		c.Offset = uint64(u32(off56OffsetHigh))<<32 | uint64(u32(offCkptOffset))
	default:
		ok = u32(blockEnd) == innodb.CRC32C(b[:blockEnd])
	}
	if h.Format.Ring() {
		c.No = u64(offCkptNo)
		if h.Format != Format56 {
			c.Offset = u64(offCkptOffset)
		}
		ok = ok && c.Offset >= HeaderSize && c.Offset%blockSize == uint64(c.LSN)%blockSize
	}
	return c, ok && c.LSN >= blockHeader
}

// MarshalCheckpoint returns a checkpoint block: 512 bytes.
func (h Header) MarshalCheckpoint(c Checkpoint) []byte {
	b := make([]byte, blockSize)
	binary.BigEndian.PutUint64(b[offCkptLSN:], uint64(c.LSN))
	switch {
	case h.Format == Format56:
		binary.BigEndian.PutUint64(b[offCkptNo:], c.No)
		binary.BigEndian.PutUint32(b[offCkptOffset:], uint32(c.Offset))
		binary.BigEndian.PutUint64(b[off56Archived:], notArchived)
		binary.BigEndian.PutUint32(b[off56Sum1:], innodb.Fold(b[:off56Sum1]))
		binary.BigEndian.PutUint32(b[off56Sum2:], innodb.Fold(b[offCkptLSN:off56Sum2]))
		binary.BigEndian.PutUint32(b[off56OffsetHigh:], uint32(c.Offset>>32))
		return b
	case h.Format.Ring():
		binary.BigEndian.PutUint64(b[offCkptNo:], c.No)
		binary.BigEndian.PutUint64(b[offCkptOffset:], c.Offset)
	}
	seal(h.Format, b)
	return b
}

// slot is where the server would write the checkpoint.
func (c Checkpoint) slot() int {
	if c.No&1 == 0 {
		return firstSlot
	}
	return secondSlot
}
