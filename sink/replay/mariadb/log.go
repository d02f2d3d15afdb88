package mariadb

import (
	"encoding/binary"
	"fmt"
	"io"

	"hb/sink/replay"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// LogName is the redo log of a backup.
const LogName = "ib_logfile0"

// Log is a backup's redo log. It is the replay.Log of MariaDB.
type Log struct {
	Header     mariadbredo.Header
	Checkpoint mariadbredo.Checkpoint
	geo        mariadbredo.Geometry
	in         *replay.Input
	file       io.Closer
	keys       *keyring.Keys // of an encrypted log
}

// ForeignLogError says that the redo log is not that of a backup.
type ForeignLogError struct{ Creator string }

func (e *ForeignLogError) Error() string {
	return fmt.Sprintf("%s was written by %q, not by a backup tool: this looks like a server's own data directory", LogName, e.Creator)
}

// OpenLog opens the redo log of a backup. A log without any byte is
// mariadbredo.ErrEmptyLog; one that a server wrote is a *ForeignLogError.
// keys are for one that is encrypted; nil: there are none.
func OpenLog(root disk.Dir, keys *keyring.Keys) (*Log, error) {
	return replay.OpenLog(root, LogName, func(f io.ReadCloser) (*Log, error) { return ReadLog(f, keys) })
}

// ReadLog is OpenLog of what file reads, from front to back. Close closes it.
func ReadLog(file io.ReadCloser, keys *keyring.Keys) (*Log, error) {
	l := &Log{in: replay.NewInput(file), file: file}
	head, err := l.in.Need(int(mariadbredo.Format108.Facts().HeaderSize))
	if err == nil {
		err = l.parse(head, keys)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", LogName, err)
	}
	return l, nil
}

func (l *Log) parse(head []byte, keys *keyring.Keys) error {
	h, err := mariadbredo.ParseHeader(head)
	if err != nil {
		return err
	}
	l.Header, l.keys = h, keys
	if !h.FromBackup() {
		return &ForeignLogError{h.Creator}
	}
	if l.Checkpoint, err = h.Checkpoint(head); err != nil {
		return err
	}
	l.geo = mariadbredo.LinearGeometry(h, l.Checkpoint)
	if h.Crypt.Encrypted() {
		l.geo.Cipher, err = tde.OpenMariaDBRedo(l.geo.Crypt, keys)
	}
	return err
}

// Close closes the log.
func (l *Log) Close() error { return l.file.Close() }

// NewApplier implements replay.Log.
func (l *Log) NewApplier() replay.Applier { return new(Applier) }

// noteFile adds a record about a file, in a mini-transaction that ends at an LSN.
func (s *scanner) noteFile(op mariadbredo.FileOp, end innodb.LSN) error {
	if op.Type == mariadbredo.FileCheckpoint {
		return nil
	}
	h, err := s.result.Of(op.Space)
	if err != nil {
		return err
	}
	if err := s.result.Call(h, op.Name); err != nil {
		return err
	}
	switch op.Type {
	case mariadbredo.FileCreate:
		h.Created, h.Deleted = true, false
	case mariadbredo.FileDelete:
		h.Deleted, h.Again = true, false
		return s.plan.Discard(op.Space, end)
	case mariadbredo.FileModify:
		h.Again = h.Deleted
	case mariadbredo.FileRename:
		h.Renamed = true
		return s.result.Call(h, op.NewName)
	}
	return nil
}

// Start returns the LSN at which recovery begins.
func (l *Log) Start() innodb.LSN { return l.Checkpoint.LSN }

// Scan reads the log from its checkpoint to the goal, and puts what it does to
// pages into plan. It can be done once.
func (l *Log) Scan(plan *replay.Plan, goal replay.Goal) (*replay.Scanned, error) {
	s := &scanner{log: l, plan: plan}
	s.result.Occupy = plan.Occupy
	c := mariadbredo.NewCutter(l.geo, l.Checkpoint.LSN)
	err := l.in.Skip(l.geo.Offset(c.Position()))
	if err == nil {
		err = replay.Scan[mariadbredo.Stop](&s.result, l.in, c, goal, s.mtr)
	}
	if err != nil && c.Stop().Keyless() {
		err = tde.MariaDBRedoError(l.geo.Crypt, c.Stop())
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", LogName, err)
	}
	if l.Header.Crypt.Encrypted() {
		l.keys.Prove(tde.MariaDBRedoKey(l.geo.Crypt)) // else its records had been nonsense
	}
	result := s.result // and not the scanner with it, which has the log's buffers
	result.Occupy = nil
	return &result, nil
}

type scanner struct {
	log    *Log
	plan   *replay.Plan
	result replay.Scanned
	run    replay.Run
}

// mtr adds one mini-transaction to the plan.
func (s *scanner) mtr(m redolog.MTR) error {
	rr := mariadbredo.ReadRuns(m.Records)
	for rr.Next() {
		run := rr.Run()
		switch {
		case run.Kind.IsFile():
			if h := s.result.Named[run.Page.Space]; h != nil && !h.Deleted && rr.Modifies(h.Name) {
				continue // the record has nothing new
			}
			op, err := rr.FileOp()
			if err == nil {
				err = s.noteFile(op, m.End)
			}
			if err != nil {
				return err
			}
		case run.Trim:
			t := replay.Trim{LSN: m.Start, Page: run.Page.No, All: run.Page.Space != 0}
			if err := s.plan.Trim(run.Page.Space, t); err != nil {
				return err
			}
		default:
			s.run = replay.Run{
				Page: run.Page, LSN: s.log.geo.Advance(m.Start, run.Offset), Records: run.Bytes,
				Start: m.Start, End: m.End,
			}
			switch run.Kind {
			case mariadbredo.InitPage:
				s.run.Kind = replay.Init
			case mariadbredo.FreePage:
				s.run.Kind = replay.Free
			}
			if err := s.plan.Add(&s.run); err != nil {
				return err
			}
		}
	}
	return rr.Err()
}

// Clean reports whether the log is one that a finished recovery left: it says
// that there is nothing to recover, and ends at the LSN returned. The log must
// not be used after that.
func (l *Log) Clean() (lsn innodb.LSN, clean bool, err error) {
	const records = 11 // FILE_CHECKPOINT
	whole := records + l.geo.Tail()
	if l.Header.Format != mariadbredo.Format108 || l.Checkpoint.LSN != l.Header.FirstLSN || l.Checkpoint.End != l.Checkpoint.LSN {
		return 0, false, nil
	}
	head := int(l.Header.Format.Facts().HeaderSize)
	log, err := l.in.Need(head + whole + 1)
	if err != nil {
		return 0, false, fmt.Errorf("%s: %w", LogName, err)
	}
	c := mariadbredo.NewCutter(l.geo, l.Checkpoint.LSN)
	c.Feed(log[head:])
	m, ok := c.Next()
	if !ok || len(m.Records) != records || m.Records[0] != byte(mariadbredo.FileCheckpoint)<<4|records-1 ||
		innodb.LSN(binary.BigEndian.Uint64(m.Records[3:])) != l.Checkpoint.LSN {
		return 0, false, nil
	}
	if _, more := c.Next(); more || !c.Clean() {
		return 0, false, nil
	}
	return m.End, true, nil
}
