package redo

import (
	"errors"
	"fmt"
	"io"
	"os"

	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// logName is the name of the redo log file (MariaDB 10.5 and later have one).
const logName = "ib_logfile0"

// mariadbLog is the log file of a running MariaDB, and how far it was read.
type mariadbLog struct {
	// These stay as they are when the log was opened: whoever waits for the reader
	// asks for them meanwhile.
	disk  disk.System
	path  string
	keys  *keyring.Keys // of an encrypted log
	kind  mariadbredo.Format
	start mariadbredo.Checkpoint

	// The rest is the reader's. Another file takes the log's name when the server
	// resizes it: see follow.
	file   disk.File
	header mariadbredo.Header
	geo    mariadbredo.Geometry
	cutter *mariadbredo.Cutter
	buf    []byte
	size   int  // of the next read
	final  bool // another file has the name now: nobody writes to this one any more

	changed changedSpaces
	touched touchedPages
}

// openMariaDB opens a log and positions it at its newest checkpoint.
func openMariaDB(system disk.System, path string, keys *keyring.Keys) (*mariadbLog, error) {
	file, err := system.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the redo log: %w", err)
	}
	l := &mariadbLog{disk: system, path: path, keys: keys, file: file, buf: make([]byte, maxRead), size: minRead}
	if err := l.init(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return l, nil
}

func (l *mariadbLog) init() error {
	block := make([]byte, 512)
	n, err := l.file.ReadAt(block, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if l.header, err = mariadbredo.ParseHeader(block[:n]); err != nil {
		return err
	}
	l.kind = l.header.Format
	if l.start, err = l.checkpoint(); err != nil {
		return err
	}
	st, err := l.file.Stat()
	if err != nil {
		return err
	}
	if l.geo, err = mariadbredo.LiveGeometry(l.header, l.start, st.Size()); err != nil {
		return err
	}
	if l.geo.Crypt.Encrypted() && l.keys != nil {
		if l.geo.Cipher, err = tde.OpenMariaDBRedo(l.geo.Crypt, l.keys); err != nil {
			return err
		}
	}
	l.cutter = mariadbredo.NewCutter(l.geo, l.start.LSN)
	return nil
}

func (l *mariadbLog) where() string { return l.path }

func (l *mariadbLog) format() Format { return l.kind }

func (l *mariadbLog) begin() innodb.LSN { return l.start.LSN }

func (l *mariadbLog) head(tool string) []byte {
	return mariadbredo.SealedHead(l.kind, l.start, tool, l.geo.Crypt)
}

func (l *mariadbLog) sealed() bool { return l.geo.Crypt.Encrypted() }

func (l *mariadbLog) newest() (innodb.LSN, error) {
	c, err := l.checkpoint()
	return c.LSN, err
}

// blocks reports whether the log consists of blocks that prove themselves.
func (l *mariadbLog) blocks() bool { return l.kind == mariadbredo.Format105 }

// peekSize is more than the shortest mini-transaction has.
const peekSize = 64

func (l *mariadbLog) peek() ([]byte, error) {
	at := l.cutter.Position()
	b := make([]byte, min(peekSize, l.geo.Contiguous(at)))
	if _, err := l.file.ReadAt(b, l.geo.Offset(at)); err != nil {
		return nil, fmt.Errorf("reading the redo log at LSN %d: %w", at, err)
	}
	return b, nil
}

func (l *mariadbLog) lastBlock(live []byte, end innodb.LSN) ([]byte, error) {
	return l.geo.LastBlock(live, end)
}

// checkpointTries is how often the header is read again when neither
// checkpoint is whole: the server writes one at a time, and long between.
const checkpointTries = 100

func (l *mariadbLog) checkpoint() (mariadbredo.Checkpoint, error) {
	head := make([]byte, l.header.Format.Facts().HeaderSize)
	for try := 1; ; try++ {
		if _, err := l.file.ReadAt(head, 0); err != nil {
			return mariadbredo.Checkpoint{}, fmt.Errorf("reading the redo log's header: %w", err)
		}
		c, err := l.header.Checkpoint(head)
		if err == nil || try == checkpointTries {
			return c, err
		}
	}
}

// next reads what the server has written since the last call, but nothing at or
// after the LSN limit.
//
// In the 10.5 format every block proves itself, and limit is beyond everything.
// In the later one it must be an LSN that the server has flushed, because a
// mini-transaction does not record where it belongs: the server rewrites the last
// block of the log as it fills, and that block has, after the end, an
// older part of the log buffer, with sequence bytes of this lap and whole
// mini-transactions in it, so that a concurrent reader can see those where newer
// ones are about to be. (log_t::write_buf, "garbage"; seen on
// 10.11.18: a short mini-transaction in place of a long one.) For the same reason
// sequence bytes alone do not prove that the log was not overwritten: the redo that is
// returned counts only if the server has not reached reading.lost in the meantime.
func (l *mariadbLog) next(limit innodb.LSN) (reading, error) {
	if l.header.Format == mariadbredo.Format108 {
		return l.nextFlushed(limit)
	}
	before, err := l.checkpoint()
	if err != nil {
		return reading{}, err
	}
	got, err := l.cut(limit)
	if err != nil {
		return got, err
	}
	stop := l.cutter.Stop()
	got.more = stop.Cause == mariadbredo.StopShort && (len(got.bytes) > 0 || l.size < len(l.buf))
	l.adapt(len(got.bytes))
	newer := stop.Cause == mariadbredo.StopBlockNumber && redolog.NewerBlock(stop.Block, stop.Want)
	// Where the server had passed this place before it was read, something must
	// be here.
	gone := !got.more && len(got.bytes) == 0 && l.cutter.Seen() < before.LSN
	if newer || gone {
		return reading{}, &OverrunError{Read: l.cutter.Seen(), Now: max(before.LSN, l.cutter.Seen()+innodb.LSN(l.geo.Capacity))}
	}
	return got, nil
}

// nextFlushed is next for the 10.8+ format: up to the limit, everything must be
// there.
func (l *mariadbLog) nextFlushed(limit innodb.LSN) (reading, error) {
	at := l.cutter.Position()
	if limit <= at {
		return reading{start: at, end: at}, nil
	}
	got, err := l.cut(limit)
	if err != nil {
		return got, err
	}
	stop, end := l.cutter.Stop(), l.cutter.Position()
	whole := int64(limit-at) <= min(int64(l.size), l.geo.Capacity) // all of it was read
	got.more = end < limit
	switch {
	case end == limit:
	case stop.Cause == mariadbredo.StopShort && !whole && (len(got.bytes) > 0 || l.size < len(l.buf)):
	default:
		return l.follow(got, stop)
	}
	l.adapt(len(got.bytes))
	return got, nil
}

// cut reads the log from the cutter's position on, up to the limit, and cuts it.
func (l *mariadbLog) cut(limit innodb.LSN) (reading, error) {
	at := l.cutter.Position()
	raw, err := l.readFrom(at, limit)
	if err != nil {
		return reading{}, err
	}
	got := reading{start: at, lost: at + innodb.LSN(l.geo.Capacity)}
	l.cutter.Feed(raw)
	for m, ok := l.cutter.Next(); ok; m, ok = l.cutter.Next() {
		got.ends = append(got.ends, m.End)
		if got.ops, err = l.fileOps(got.ops, m); err != nil {
			return reading{}, err
		}
		if l.header.Format == mariadbredo.Format108 {
			raw[m.End-at-innodb.LSN(l.geo.Tail())] = 1 // the sequence byte, as a linear log has it
		}
	}
	if stop := l.cutter.Stop(); stop.Keyless() {
		return reading{}, tde.MariaDBRedoError(l.geo.Crypt, stop)
	}
	got.bytes = raw[:l.cutter.Position()-at]
	if l.cutter.Stop().Cause == mariadbredo.StopPartialBlock {
		got.last = raw[len(got.bytes):][:redolog.BlockSize]
	}
	got.end, got.why = l.cutter.End(), l.cutter.Stop()
	if l.cutter.Clean() {
		got.end = l.cutter.Seen() // padding counts
	}
	return got, nil
}

// adapt chooses the size of the next read: more while there is much, little
// while the log is idle.
func (l *mariadbLog) adapt(taken int) {
	switch {
	case taken == 0 && l.cutter.Stop().Cause != mariadbredo.StopShort:
		l.size = minRead
	case taken > l.size/2 || taken == 0:
		l.size = min(2*l.size, len(l.buf))
	}
}

// readFrom fills the buffer from an LSN up to the limit, around the end of
// the file if it has to. It never reads more than the log holds.
func (l *mariadbLog) readFrom(at, limit innodb.LSN) ([]byte, error) {
	b := l.buf[:min(int64(l.size), l.geo.Capacity)]
	if limit-at < innodb.LSN(len(b)) {
		b = b[:limit-at]
	}
	for n := int64(0); n < int64(len(b)); {
		lsn := at + innodb.LSN(n)
		part := b[n:min(int64(len(b)), n+l.geo.Contiguous(lsn))]
		m, err := l.file.ReadAt(part, l.geo.Offset(lsn))
		if err != nil {
			return nil, fmt.Errorf("reading the redo log at LSN %d: %w", lsn, err)
		}
		n += int64(m)
	}
	return b, nil
}

// follow goes over to the file that has taken the log's name, when this one
// ends before the limit. Without one, the log was replaced. The server may
// have written to this file between its reading and the look at the name: it is read
// to its end first. If the name passed through another file in between, which
// nobody read, the log was overrun.
func (l *mariadbLog) follow(got reading, stop mariadbredo.Stop) (reading, error) {
	moved, err := l.moved()
	if err != nil {
		return got, err
	}
	if !moved {
		now, err := l.checkpoint()
		if err == nil && now.LSN > stop.LSN {
			err = &OverrunError{Read: stop.LSN, Now: now.LSN}
		} else if err == nil {
			err = fmt.Errorf("the redo log is damaged, or was overwritten before it was read: %w", stop)
		}
		return got, err
	}
	if !l.final {
		l.final, got.more = true, true
		return got, nil
	}
	next, err := openMariaDB(l.disk, l.path, l.keys)
	if err != nil {
		return got, fmt.Errorf("the redo log was resized: %w", err)
	}
	end := l.cutter.End()
	switch {
	case next.kind != l.kind:
		return got, errors.Join(fmt.Errorf("the redo log was replaced by one of the format of %v", next.kind), next.close())
	case next.header.Crypt != l.header.Crypt:
		return got, errors.Join(errors.New("the redo log was resized, and has another key since: back up again"), next.close())
	case next.header.FirstLSN > end:
		return got, errors.Join(&OverrunError{Read: end, Now: next.header.FirstLSN}, next.close())
	}
	old := l.file
	l.file, l.header, l.geo, l.cutter, l.size, l.final = next.file, next.header, next.geo, mariadbredo.NewCutter(next.geo, end), next.size, false
	got.more = true
	return got, old.Close()
}

// moved reports whether the log's name belongs to another file now.
func (l *mariadbLog) moved() (bool, error) {
	st, err := l.disk.Stat(l.path)
	if err != nil {
		return false, fmt.Errorf("the redo log has vanished: %w", err)
	}
	mine, err := l.file.Stat()
	if err != nil {
		return false, err
	}
	return !os.SameFile(st, mine), nil
}

func (l *mariadbLog) touches(p innodb.PageID) bool { return l.touched.has(p) }

func (l *mariadbLog) close() error { return l.file.Close() }
