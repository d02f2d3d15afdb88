package redo

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"hb/source/innodb"
	"hb/source/innodb/redolog"
)

// logName is the name of the redo log file (MariaDB 10.5 and later have one).
const logName = "ib_logfile0"

// liveLog is the log file of a running server, and how far it was read.
type liveLog struct {
	path   string
	file   *os.File
	header redolog.Header
	geo    redolog.Geometry
	cutter *redolog.Cutter
	buf    []byte
	size   int // of the next read
}

// reading is what one look at the log brought.
type reading struct {
	bytes []byte       // log bytes as a backup holds them, from start on
	start innodb.LSN   // LSN of bytes[0]
	lost  innodb.LSN   // where the server begins to overwrite what was read
	end   innodb.LSN   // end of the last whole mini-transaction
	ends  []innodb.LSN // ends of all of them
	ops   []fileOp     // what they did to files
	more  bool         // there is more to be read at once
}

// openLog opens a log and positions it at its newest checkpoint.
func openLog(path string) (*liveLog, redolog.Checkpoint, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, redolog.Checkpoint{}, fmt.Errorf("opening the redo log: %w", err)
	}
	l := &liveLog{path: path, file: file, buf: make([]byte, maxRead), size: minRead}
	c, err := l.init()
	if err != nil {
		return nil, c, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return l, c, nil
}

func (l *liveLog) init() (redolog.Checkpoint, error) {
	var none redolog.Checkpoint
	block := make([]byte, 512)
	n, err := l.file.ReadAt(block, 0)
	if err != nil && err != io.EOF {
		return none, err
	}
	if l.header, err = redolog.ParseHeader(block[:n]); err != nil {
		return none, err
	}
	c, err := l.checkpoint()
	if err != nil {
		return none, err
	}
	st, err := l.file.Stat()
	if err != nil {
		return none, err
	}
	if l.geo, err = redolog.LiveGeometry(l.header, c, st.Size()); err != nil {
		return none, err
	}
	l.cutter = redolog.NewCutter(l.geo, c.LSN)
	return c, nil
}

// checkpointTries is how often the header is read again when neither
// checkpoint is whole: the server writes one at a time, and long between.
const checkpointTries = 100

func (l *liveLog) checkpoint() (redolog.Checkpoint, error) {
	head := make([]byte, l.header.Format.Facts().HeaderSize)
	for try := 1; ; try++ {
		if _, err := l.file.ReadAt(head, 0); err != nil {
			return redolog.Checkpoint{}, fmt.Errorf("reading the redo log's header: %w", err)
		}
		c, err := l.header.Checkpoint(head)
		if err == nil || try == checkpointTries {
			return c, err
		}
	}
}

// next reads what the server has written since the last call, but nothing at or
// behind the LSN limit.
//
// In the 10.5 format every block proves itself, and limit is beyond everything.
// In the later one it must be an LSN that the server has flushed, because a
// mini-transaction does not say where it belongs: the server rewrites the last
// block of the log as it fills, what lies in that block behind the end is an
// older part of the log buffer, with sequence bytes of this lap and whole
// mini-transactions in it, and who reads while the server writes can see those
// where newer ones are about to be. (log_t::write_buf, "garbage"; seen on
// 10.11.18: a short mini-transaction in place of a long one.) For the same reason
// sequence bytes alone do not prove that the log was not overwritten: what is
// returned counts only if the server has not reached reading.lost meanwhile.
func (l *liveLog) next(limit innodb.LSN) (reading, error) {
	if l.header.Format == redolog.MariaDB108 {
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
	got.more = stop.Cause == redolog.StopShort && (len(got.bytes) > 0 || l.size < len(l.buf))
	l.adapt(len(got.bytes))
	newer := stop.Cause == redolog.StopBlockNumber && newerBlock(stop.Block, stop.Want)
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
func (l *liveLog) nextFlushed(limit innodb.LSN) (reading, error) {
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
	case stop.Cause == redolog.StopShort && !whole && (len(got.bytes) > 0 || l.size < len(l.buf)):
	default:
		return l.follow(got, stop)
	}
	l.adapt(len(got.bytes))
	return got, nil
}

// cut reads the log from the cutter's position on, up to the limit, and cuts it.
func (l *liveLog) cut(limit innodb.LSN) (reading, error) {
	at := l.cutter.Position()
	raw, err := l.readFrom(at, limit)
	if err != nil {
		return reading{}, err
	}
	got := reading{start: at, lost: at + innodb.LSN(l.geo.Capacity)}
	l.cutter.Feed(raw)
	for m, ok := l.cutter.Next(); ok; m, ok = l.cutter.Next() {
		got.ends = append(got.ends, m.End)
		if got.ops, err = fileOps(got.ops, m); err != nil {
			return reading{}, err
		}
		if l.header.Format == redolog.MariaDB108 {
			raw[m.End-at-5] = 1 // the sequence byte, as a linear log has it
		}
	}
	got.bytes = raw[:l.cutter.Position()-at]
	got.end = l.cutter.End()
	if l.cutter.Clean() {
		got.end = l.cutter.Seen() // padding counts
	}
	return got, nil
}

// adapt chooses the size of the next read: more while there is much, little
// while the log is idle.
func (l *liveLog) adapt(taken int) {
	switch {
	case taken == 0 && l.cutter.Stop().Cause != redolog.StopShort:
		l.size = minRead
	case taken > l.size/2 || taken == 0:
		l.size = min(2*l.size, len(l.buf))
	}
}

// readFrom fills the buffer from an LSN on, up to the limit, around the end of
// the file if it has to. It never reads more than the log holds.
func (l *liveLog) readFrom(at, limit innodb.LSN) ([]byte, error) {
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

// newerBlock compares block numbers, which have 30 bits and start from 1.
func newerBlock(got, want uint32) bool {
	d := (got - want) & (1<<30 - 1)
	return d != 0 && d < 1<<29
}

// follow goes over to the file that has taken the log's name, when this one
// ends before the limit. Without one, the log is not what it was.
func (l *liveLog) follow(got reading, stop redolog.Stop) (reading, error) {
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
	next, _, err := openLog(l.path)
	if err != nil {
		return got, fmt.Errorf("the redo log was resized: %w", err)
	}
	end := l.cutter.End()
	if next.header.Format != l.header.Format || next.header.FirstLSN > end {
		err := fmt.Errorf("the redo log was replaced by one that begins at LSN %d, after the %d that was read", next.header.FirstLSN, end)
		return got, errors.Join(err, next.close())
	}
	next.cutter = redolog.NewCutter(next.geo, end)
	old := l.file
	*l = *next
	got.more = true
	return got, old.Close()
}

// moved reports whether the log's name belongs to another file now.
func (l *liveLog) moved() (bool, error) {
	st, err := os.Stat(l.path)
	if err != nil {
		return false, fmt.Errorf("the redo log has vanished: %w", err)
	}
	mine, err := l.file.Stat()
	if err != nil {
		return false, err
	}
	return !os.SameFile(st, mine), nil
}

// lastBlock returns the last block of a copy that ends at lsn (10.5 format).
func (l *liveLog) lastBlock(lsn innodb.LSN) ([]byte, error) {
	live := make([]byte, redolog.BlockSize)
	if _, err := l.file.ReadAt(live, l.geo.Offset(redolog.BlockOf(lsn))); err != nil {
		return nil, fmt.Errorf("reading the redo log at LSN %d: %w", lsn, err)
	}
	b, err := redolog.LastBlock(live, lsn)
	if err != nil {
		return nil, fmt.Errorf("end of the redo copy at LSN %d: %w", lsn, err)
	}
	return b, nil
}

func (l *liveLog) close() error { return l.file.Close() }

// NewestCheckpoint reads the newest checkpoint of the log in dir.
func NewestCheckpoint(dir string) (innodb.LSN, error) {
	l, c, err := openLog(filepath.Join(dir, logName))
	if err != nil {
		return 0, err
	}
	return c.LSN, l.close()
}
