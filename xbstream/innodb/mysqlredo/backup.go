package mysqlredo

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
)

// CreatorPrefix opens the creator string of a log that XtraBackup or hb copied:
// it marks the directory as not prepared yet.
const CreatorPrefix = "xtrabkup "

// BackupHead returns the beginning of xtrabackup_logfile, HeaderSize bytes, for
// a log copied from the server's checkpoint c on. h is the header of the
// server's log; at becomes part of the creator. The blocks from the one that
// holds c.LSN on follow it, as the server wrote them; the last one is not full.
func BackupHead(h Header, c Checkpoint, at time.Time) []byte {
	h.Creator = CreatorPrefix + at.Format("060102 15:04:05")
	return head(h, c)
}

// head makes the head of a linear log that begins with the checkpoint's block.
func head(h Header, c Checkpoint) []byte {
	h.StartLSN = redolog.BlockOf(c.LSN)
	h.Flags &^= FileFull
	c.Offset = HeaderSize + uint64(c.LSN%blockSize)
	b := make([]byte, HeaderSize)
	copy(b, h.Marshal())
	copy(b[c.slot():], h.MarshalCheckpoint(c))
	if !h.Format.Ring() {
		copy(b[secondSlot:], h.MarshalCheckpoint(c)) // both, as XtraBackup
	}
	return b
}

// Linear is a log as xtrabackup_logfile holds it: byte HeaderSize is the first
// of the block that holds the checkpoint.
type Linear struct {
	Header     Header
	Checkpoint Checkpoint
}

// ParseLinear reads the beginning of a linear log: the head and the first
// block, HeaderSize+blockSize bytes. XtraBackup copies both checkpoints of the
// server's log. The server may have written one in between: that one
// counts which is in the first block.
func ParseLinear(b []byte) (Linear, error) {
	if len(b) < HeaderSize+blockSize {
		return Linear{}, fmt.Errorf("the redo log is cut short at %d bytes: %w", len(b), io.ErrUnexpectedEOF)
	}
	h, err := ParseHeader(b)
	if err != nil {
		return Linear{}, err
	}
	all, err := h.Checkpoints(b)
	if err != nil {
		return Linear{}, err
	}
	if len(all) == 0 {
		return Linear{}, ErrNoCheckpoint
	}
	for _, c := range all {
		if checkNumber(h.Format, b[HeaderSize:], redolog.BlockOf(c.LSN)).Cause == 0 {
			return Linear{Header: h, Checkpoint: c}, nil
		}
	}
	return Linear{}, fmt.Errorf("the redo log does not begin with the block of its checkpoint: %w",
		checkNumber(h.Format, b[HeaderSize:], redolog.BlockOf(all[0].LSN)))
}

// Start is the LSN of the byte at HeaderSize.
func (l Linear) Start() innodb.LSN { return redolog.BlockOf(l.Checkpoint.LSN) }

// Offset returns the file offset of the byte at an LSN, which must not be
// before Start.
func (l Linear) Offset(lsn innodb.LSN) int64 { return HeaderSize + int64(lsn-l.Start()) }

// FlushLSN is the LSN that a server begins its new log at, for data that was
// recovered up to end: the FLUSH LSN that page 0 of the system tablespace needs
// (innodb.OffsetFlushLSN). 8.0.30 and later crash on one that is not a payload byte.
func FlushLSN(end innodb.LSN) innodb.LSN {
	return (end+blockSize-1)/blockSize*blockSize + blockHeader
}

// redoGranule divides the size of each file in RedoDir: the
// largest page, and the least that a server accepts.
const redoGranule = 64 << 10

// Synthetic is a log in which there is nothing to recover but metadata, for
// data that was recovered up to End: since 8.0 AUTO_INCREMENT counters live
// only in the log until the server gets around to its dictionary.
type Synthetic struct {
	End  innodb.LSN
	UUID uint32
	Meta []mlog.Meta
}

// WriteSynthetic writes the log as the only file of RedoDir, RedoName(0), in the
// format of 8.0.30 and later. FLUSH LSN must be FlushLSN(s.End).
func WriteSynthetic(w io.Writer, s Synthetic) error {
	h := Header{Format: Format8030, UUID: s.UUID, Creator: rebuiltCreator}
	c := Checkpoint{LSN: FlushLSN(s.End)}
	p := packer{b: head(h, c), at: redolog.BlockOf(c.LSN)}
	for i := range s.Meta {
		if err := s.Meta[i].Check(); err != nil {
			return fmt.Errorf("table %d: %w", s.Meta[i].Table, err)
		}
		p.mtr(s.Meta[i].Append(nil))
	}
	b := p.finish()
	size := (len(b) + redoGranule - 1) / redoGranule * redoGranule
	_, err := w.Write(append(b, make([]byte, size-len(b))...))
	return err
}

// packer puts mini-transactions into blocks of the format of 8.0.30.
type packer struct {
	b    []byte     // what goes before, then full blocks
	at   innodb.LSN // of block
	used int        // of block; 0: there is none yet
	blk  [blockSize]byte
}

func (p *packer) open() {
	p.blk = [blockSize]byte{}
	binary.BigEndian.PutUint32(p.blk[:], redolog.BlockNumber(p.at))
	binary.BigEndian.PutUint32(p.blk[offEpoch:], Epoch(p.at))
	p.used = blockHeader
}

func (p *packer) close(used int) {
	binary.BigEndian.PutUint16(p.blk[offUsed:], uint16(used))
	seal(Format8030, p.blk[:])
	p.b = append(p.b, p.blk[:]...)
	p.at += blockSize
	p.used = 0
}

func (p *packer) mtr(payload []byte) {
	for first := true; len(payload) > 0; first = false {
		if p.used == 0 {
			p.open()
		}
		if first && binary.BigEndian.Uint16(p.blk[offFirst:]) == 0 {
			binary.BigEndian.PutUint16(p.blk[offFirst:], uint16(p.used))
		}
		n := copy(p.blk[p.used:blockEnd], payload)
		payload = payload[n:]
		if p.used += n; p.used == blockEnd {
			p.close(blockSize)
		}
	}
}

// finish closes the last block, which is never a full one, and returns it all. It
// records where the server's first mini-transaction will begin, if none begins in it
// before: the server warns of a block that does not.
func (p *packer) finish() []byte {
	if p.used == 0 {
		p.open()
	}
	if binary.BigEndian.Uint16(p.blk[offFirst:]) == 0 {
		binary.BigEndian.PutUint16(p.blk[offFirst:], uint16(p.used))
	}
	p.close(p.used)
	return p.b
}
