package census

import (
	"encoding/binary"
	"errors"
	"time"

	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/redolog"
)

// Log is the redo log of a data directory that no server uses.
type Log struct {
	Header     mysqlredo.Header
	Checkpoint mysqlredo.Checkpoint
	// Blocks are those from the checkpoint's on, to the last good one.
	Blocks []byte
	// End is where the last whole mini-transaction ends.
	End innodb.LSN
}

// Start is the LSN of the first block.
func (l *Log) Start() innodb.LSN { return redolog.BlockOf(l.Checkpoint.LSN) }

// Each calls f for the mini-transactions of the log.
func (l *Log) Each(f func(m *redolog.MTR) error) error {
	c := mysqlredo.NewCutter(l.Header.Format, l.Checkpoint.LSN)
	c.Settled = true
	c.Feed(l.Blocks)
	for m, ok := c.Next(); ok; m, ok = c.Next() {
		if err := f(&m); err != nil {
			return err
		}
	}
	l.End = c.End()
	if s := c.Stop(); s.Cause != mysqlredo.StopShort && s.Cause != mysqlredo.StopPartialBlock {
		return s
	}
	return nil
}

// BackupLog returns the log as xtrabackup_logfile has it.
func (l *Log) BackupLog() []byte {
	return append(mysqlredo.BackupHead(l.Header, l.Checkpoint, time.Unix(0, 0)), l.Blocks...)
}

// ReadLog reads the redo log of a data directory from its last checkpoint, or
// from that of before if it is not nil: then before's blocks stand in for those
// that are in no file any more.
func ReadLog(data string, before *Log) (_ *Log, err error) {
	files, err := mysqlredo.OpenFiles(disk.OS, data)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	l := &Log{}
	if l.Header, l.Checkpoint, err = files.Newest(); err != nil {
		return nil, err
	}
	if before != nil {
		l.Checkpoint = before.Checkpoint
		l.Blocks = append(l.Blocks, before.Blocks...)
	}
	for lsn := l.Start(); ; lsn += redolog.BlockSize {
		b := make([]byte, redolog.BlockSize)
		n := int(lsn - l.Start())
		switch there := l.read(files, b, lsn); {
		case there && n < len(l.Blocks):
			copy(l.Blocks[n:], b)
		case there:
			l.Blocks = append(l.Blocks, b...)
		case n >= len(l.Blocks):
			return l, l.Each(func(*redolog.MTR) error { return nil })
		}
	}
}

// firstLSN is where the log of a new server begins since 8.0: LOG_START_LSN.
const firstLSN = 8192

// ReadWhole reads all of the redo log that is in the files of a data directory, from
// the first mini-transaction that begins there, as if that were the checkpoint. In a
// ring this is up to a lap before the last checkpoint: what the server had done long
// before it stopped.
func ReadWhole(data string) (_ *Log, err error) {
	files, err := mysqlredo.OpenFiles(disk.OS, data)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	l := &Log{}
	if l.Header, l.Checkpoint, err = files.Newest(); err != nil {
		return nil, err
	}
	b := make([]byte, redolog.BlockSize)
	first := l.Start()
	for first > firstLSN && l.read(files, b, first-redolog.BlockSize) {
		first -= redolog.BlockSize
	}
	for l.Checkpoint.LSN = 0; l.read(files, b, first); first += redolog.BlockSize {
		if begins := binary.BigEndian.Uint16(b[offFirst:]); l.Checkpoint.LSN == 0 && begins > 0 {
			l.Checkpoint.LSN = first + innodb.LSN(begins)
		}
		if l.Checkpoint.LSN > 0 {
			l.Blocks = append(l.Blocks, b...)
		}
	}
	return l, l.Each(func(*redolog.MTR) error { return nil })
}

// offFirst is where a block says where its first mini-transaction begins, 2 bytes.
const offFirst = 6

// read reads the block of an LSN, and reports whether the files have it.
func (l *Log) read(files *mysqlredo.Files, b []byte, lsn innodb.LSN) bool {
	if n, err := files.ReadAt(b, lsn); err != nil || n < len(b) {
		return false
	}
	c := mysqlredo.NewCutterAt(l.Header.Format, lsn)
	c.Settled = true
	c.Feed(b)
	c.Next()
	switch c.Stop().Cause {
	case mysqlredo.StopBlockNumber, mysqlredo.StopChecksum, mysqlredo.StopUnsummed, mysqlredo.StopBlockUsed:
		return false
	}
	return true
}
