package census

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"hb/source/innodb"
	"hb/source/innodb/mlog"
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
func ReadLog(data string, before *Log) (*Log, error) {
	read := readRing
	if _, err := os.Stat(filepath.Join(data, mlog.RedoDir)); err == nil {
		read = readSequence
	}
	l, at, err := read(data)
	if err != nil {
		return nil, err
	}
	var next []byte
	if before != nil {
		l.Checkpoint = before.Checkpoint
		l.Blocks = append(l.Blocks, before.Blocks...)
	}
	for lsn := l.Start(); ; lsn += mlog.BlockSize {
		next = at(lsn)
		n := int(lsn - l.Start())
		switch {
		case next != nil && n < len(l.Blocks):
			copy(l.Blocks[n:], next)
		case next != nil:
			l.Blocks = append(l.Blocks, next...)
		case n >= len(l.Blocks):
			return l, l.Each(func(*mlog.MTR) error { return nil })
		}
	}
}

// blockAt returns the block of an LSN, or nil if the files do not have it.
type blockAt func(lsn innodb.LSN) []byte

// good returns b if it is the block of an LSN.
func good(f mlog.Format, b []byte, lsn innodb.LSN) []byte {
	c := mlog.NewCutterAt(f, lsn)
	c.Settled = true
	c.Feed(b)
	c.Next()
	switch c.Stop().Cause {
	case mlog.StopBlockNumber, mlog.StopChecksum, mlog.StopUnsummed, mlog.StopBlockUsed:
		return nil
	}
	return b
}

func readRing(data string) (*Log, blockAt, error) {
	var files [][]byte
	for {
		b, err := os.ReadFile(filepath.Join(data, mlog.RingName(len(files))))
		if os.IsNotExist(err) && len(files) > 0 {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		files = append(files, b)
	}
	h, err := mlog.ParseHeader(files[0])
	if err != nil {
		return nil, nil, err
	}
	c, err := h.Checkpoint(files[0])
	if err != nil {
		return nil, nil, err
	}
	ring, err := mlog.NewRing(len(files), int64(len(files[0])), c)
	if err != nil {
		return nil, nil, err
	}
	at := func(lsn innodb.LSN) []byte {
		file, offset, _ := ring.Locate(lsn)
		return good(h.Format, files[file][offset:offset+mlog.BlockSize], lsn)
	}
	return &Log{Header: h, Checkpoint: c}, at, nil
}

func readSequence(data string) (*Log, blockAt, error) {
	dir := filepath.Join(data, mlog.RedoDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	var files []mlog.RedoFile
	content := map[uint64][]byte{}
	var last mlog.Checkpoint
	for _, e := range entries {
		id, ok := mlog.ParseRedoName(e.Name())
		if !ok {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, nil, err
		}
		f, err := mlog.NewRedoFile(id, int64(len(b)), b)
		if err != nil {
			return nil, nil, err
		}
		c, ok, err := f.Checkpoint(b)
		if err != nil {
			return nil, nil, err
		}
		if ok && c.LSN > last.LSN {
			last = c
		}
		files = append(files, f)
		content[id] = b
	}
	if err := mlog.CheckSequence(files); err != nil {
		return nil, nil, err
	}
	if last.LSN == 0 {
		return nil, nil, fmt.Errorf("%s: %w", dir, mlog.ErrNoCheckpoint)
	}
	at := func(lsn innodb.LSN) []byte {
		for _, f := range files {
			if f.Has(lsn) {
				o := f.Offset(lsn)
				return good(f.Header.Format, content[f.ID][o:o+mlog.BlockSize], lsn)
			}
		}
		return nil
	}
	return &Log{Header: files[0].Header, Checkpoint: last}, at, nil
}
