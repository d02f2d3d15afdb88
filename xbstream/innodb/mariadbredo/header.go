package mariadbredo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"hb/xbstream/innodb"
)

// Offsets in the first block, the same in both formats. The CRC-32C at 508
// covers all before it.
const (
	headerBlock    = 512
	offSubformat   = 4 // "PHYS": 2; "Phys": 0
	offFirstLSN    = 8
	offCreator     = 16
	creatorSize    = 32
	offHeaderCRC   = 508
	subformat105   = 2
	offFileCkptLSN = 496 // in a "PHYS" checkpoint block
	offCkptCRC108  = 60  // in a "Phys" checkpoint block
	ckptSize108    = 64
)

// Header is the first block of ib_logfile0.
type Header struct {
	Format Format
	// FirstLSN is, in the 10.8+ format, the LSN of the byte at offset 12288 on
	// lap 0; in the earlier format the LSN that the log was created at, which
	// means nothing for offsets.
	FirstLSN innodb.LSN
	Creator  string // at most 32 bytes
	// Crypt is that of the log's key. In the 10.5 format it only says that the log is
	// encrypted: see Checkpoint.Crypt.
	Crypt Crypt
}

// ParseHeader reads the first block of a log file: at least 512 bytes, or none
// for ErrEmptyLog. A format that hb does not read is an *UnsupportedError.
func ParseHeader(block []byte) (Header, error) {
	if len(block) == 0 {
		return Header{}, ErrEmptyLog
	}
	if len(block) < headerBlock {
		return Header{}, fmt.Errorf("the redo log's header is cut short at %d bytes", len(block))
	}
	block = block[:headerBlock]
	if innodb.AllZero(block) {
		return Header{}, errors.New("the redo log's header is all zero: the log was never written")
	}
	f, err := identify(block)
	if err != nil {
		return Header{}, err
	}
	if got, want := binary.BigEndian.Uint32(block[offHeaderCRC:]), innodb.CRC32C(block[:offHeaderCRC]); got != want {
		return Header{}, fmt.Errorf("the redo log's header has checksum %#08x, not %#08x", got, want)
	}
	creator, _, _ := bytes.Cut(block[offCreator:offCreator+creatorSize], []byte{0})
	h := Header{
		Format:   f,
		FirstLSN: innodb.LSN(binary.BigEndian.Uint64(block[offFirstLSN:])),
		Creator:  string(creator),
	}
	if binary.BigEndian.Uint32(block) == tagSealed108 {
		if h.Crypt = parseCrypt(block); !h.Crypt.Encrypted() {
			return Header{}, errors.New("the redo log's header is damaged: the log is encrypted, and there is no key")
		}
	}
	if binary.BigEndian.Uint32(block) == facts[Format105].Tag|encryptedBit {
		h.Crypt.KeyID = keyOfLog // the rest is in the checkpoint blocks
	}
	sub := binary.BigEndian.Uint32(block[offSubformat:])
	if f == Format108 && (sub != 0 || h.FirstLSN < FirstLSN) {
		return Header{}, fmt.Errorf("the redo log's header is damaged: version %d, first LSN %d", sub, h.FirstLSN)
	}
	return h, nil
}

// Marshal returns the first block: 512 bytes. A creator of more than 32 bytes
// is cut.
func (h Header) Marshal() []byte {
	b := make([]byte, headerBlock)
	binary.BigEndian.PutUint32(b, h.Format.Facts().Tag)
	if h.Format == Format105 {
		binary.BigEndian.PutUint32(b[offSubformat:], subformat105)
	}
	binary.BigEndian.PutUint64(b[offFirstLSN:], uint64(h.FirstLSN))
	copy(b[offCreator:offCreator+creatorSize], h.Creator)
	if h.Crypt.Encrypted() {
		if h.Format == Format105 {
			b[0] |= encryptedBit >> 24
		} else {
			h.Crypt.put(b)
		}
	}
	binary.BigEndian.PutUint32(b[offHeaderCRC:], innodb.CRC32C(b[:offHeaderCRC]))
	return b
}

// FromBackup reports whether a backup tool wrote the log.
func (h Header) FromBackup() bool {
	return len(h.Creator) >= len(BackupCreator) && h.Creator[:len(BackupCreator)] == BackupCreator
}

// Checkpoint is one of the log's two checkpoint blocks: where recovery begins.
type Checkpoint struct {
	LSN innodb.LSN
	// End is, in the 10.8+ format, where the server began to write the file
	// names of that checkpoint; before, the LSN of its FILE_CHECKPOINT, or 0.
	End innodb.LSN
	// At is the offset of the block in the file.
	At int64

	// Of the 10.5 format only.
	Number     uint64 // counts checkpoints; odd ones are in the second block
	Offset     uint64 // file offset of LSN
	BufferSize uint64 // innodb_log_buffer_size, informational
	Crypt      Crypt  // of an encrypted log
}

// ErrNoCheckpoint says that neither checkpoint block is valid.
var ErrNoCheckpoint = errors.New("the redo log has no valid checkpoint")

// Checkpoint returns the newest valid checkpoint. head is the beginning of the
// file: Facts.HeaderSize bytes.
func (h Header) Checkpoint(head []byte) (Checkpoint, error) {
	f := h.Format.Facts()
	if int64(len(head)) < f.HeaderSize {
		return Checkpoint{}, fmt.Errorf("the redo log's header is cut short at %d bytes", len(head))
	}
	var best Checkpoint
	found := false
	for _, at := range f.Checkpoints {
		c, ok := h.parseCheckpoint(head[at:at+headerBlock], at)
		if !ok {
			continue
		}
		newer := c.LSN > best.LSN
		if h.Format == Format105 {
			newer = c.Number > best.Number
		}
		if !found || newer {
			best, found = c, true
		}
	}
	if !found {
		return Checkpoint{}, ErrNoCheckpoint
	}
	return best, nil
}

func (h Header) parseCheckpoint(b []byte, at int64) (Checkpoint, bool) {
	u64 := func(off int) uint64 { return binary.BigEndian.Uint64(b[off:]) }
	if h.Format == Format108 {
		c := Checkpoint{LSN: innodb.LSN(u64(0)), End: innodb.LSN(u64(8)), At: at}
		ok := binary.BigEndian.Uint32(b[offCkptCRC108:]) == innodb.CRC32C(b[:offCkptCRC108]) &&
			h.FirstLSN <= c.LSN && c.LSN <= c.End
		return c, ok
	}
	c := Checkpoint{
		Number: u64(0), LSN: innodb.LSN(u64(8)), Offset: u64(16), BufferSize: u64(24),
		End: innodb.LSN(u64(offFileCkptLSN)), At: at,
	}
	if h.Crypt.Encrypted() {
		c.Crypt = parseCrypt105(b)
	}
	ok := binary.BigEndian.Uint32(b[offHeaderCRC:]) == innodb.CRC32C(b[:offHeaderCRC]) &&
		c.Offset >= uint64(facts[Format105].HeaderSize) && c.Offset%blockSize == uint64(c.LSN)%blockSize
	return c, ok
}

// MarshalCheckpoint returns a checkpoint block: 512 bytes in the 10.5 format,
// 64 in the later one.
func (h Header) MarshalCheckpoint(c Checkpoint) []byte {
	if h.Format == Format108 {
		b := make([]byte, ckptSize108)
		binary.BigEndian.PutUint64(b, uint64(c.LSN))
		binary.BigEndian.PutUint64(b[8:], uint64(c.End))
		binary.BigEndian.PutUint32(b[offCkptCRC108:], innodb.CRC32C(b[:offCkptCRC108]))
		return b
	}
	b := make([]byte, headerBlock)
	binary.BigEndian.PutUint64(b, c.Number)
	binary.BigEndian.PutUint64(b[8:], uint64(c.LSN))
	binary.BigEndian.PutUint64(b[16:], c.Offset)
	binary.BigEndian.PutUint64(b[24:], c.BufferSize)
	if c.Crypt.Encrypted() {
		c.Crypt.put105(b)
	}
	binary.BigEndian.PutUint64(b[offFileCkptLSN:], uint64(c.End))
	binary.BigEndian.PutUint32(b[offHeaderCRC:], innodb.CRC32C(b[:offHeaderCRC]))
	return b
}
