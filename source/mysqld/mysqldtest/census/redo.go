package census

import (
	"errors"
	"time"

	"hb/source/innodb"
	"hb/source/innodb/mlog"
	"hb/stream/disk"
)

// Log is the redo log of a data directory that no server uses.
type Log struct {
	Header     mlog.Header
	Checkpoint mlog.Checkpoint
	// Blocks are those from the checkpoint's on, to the last good one.
	Blocks []byte
	// End is where the last whole mini-transaction ends.
	End innodb.LSN
}

// Start is the LSN of the first block.
func (l *Log) Start() innodb.LSN { return mlog.BlockOf(l.Checkpoint.LSN) }

// Each calls f for the mini-transactions of the log.
func (l *Log) Each(f func(m *mlog.MTR) error) error {
	c := mlog.NewCutter(l.Header.Format, l.Checkpoint.LSN)
	c.Settled = true
	c.Feed(l.Blocks)
	for m, ok := c.Next(); ok; m, ok = c.Next() {
		if err := f(&m); err != nil {
			return err
		}
	}
	l.End = c.End()
	if s := c.Stop(); s.Cause != mlog.StopShort && s.Cause != mlog.StopPartialBlock {
		return s
	}
	return nil
}

// BackupLog returns the log as xtrabackup_logfile has it.
func (l *Log) BackupLog() []byte {
	return append(mlog.BackupHead(l.Header, l.Checkpoint, time.Unix(0, 0)), l.Blocks...)
}

// ReadLog reads the redo log of a data directory from its last checkpoint, or
// from that of before if it is not nil: then before's blocks stand in for those
// that are in no file any more.
func ReadLog(data string, before *Log) (_ *Log, err error) {
	files, err := mlog.OpenFiles(disk.OS, data)
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
	for lsn := l.Start(); ; lsn += mlog.BlockSize {
		b := make([]byte, mlog.BlockSize)
		n := int(lsn - l.Start())
		switch there := l.read(files, b, lsn); {
		case there && n < len(l.Blocks):
			copy(l.Blocks[n:], b)
		case there:
			l.Blocks = append(l.Blocks, b...)
		case n >= len(l.Blocks):
			return l, l.Each(func(*mlog.MTR) error { return nil })
		}
	}
}

// read reads the block of an LSN, and reports whether the files have it.
func (l *Log) read(files *mlog.Files, b []byte, lsn innodb.LSN) bool {
	if n, err := files.ReadAt(b, lsn); err != nil || n < len(b) {
		return false
	}
	c := mlog.NewCutterAt(l.Header.Format, lsn)
	c.Settled = true
	c.Feed(b)
	c.Next()
	switch c.Stop().Cause {
	case mlog.StopBlockNumber, mlog.StopChecksum, mlog.StopUnsummed, mlog.StopBlockUsed:
		return false
	}
	return true
}
