package mariadb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"hb/sink/replay"
	"hb/source/innodb"
	"hb/source/innodb/redolog"
	"hb/stream/disk"
)

// LogName is the redo log of a backup.
const LogName = "ib_logfile0"

// Log is a backup's redo log, mapped into memory. It is the replay.Dialect of
// MariaDB.
type Log struct {
	Header     redolog.Header
	Checkpoint redolog.Checkpoint
	geo        redolog.Geometry
	file       *replay.Mapping
}

// ForeignLogError says that the redo log is not that of a backup.
type ForeignLogError struct{ Creator string }

func (e *ForeignLogError) Error() string {
	return fmt.Sprintf("%s was written by %q, not by a backup tool: this looks like a server's own data directory", LogName, e.Creator)
}

// OpenLog maps the redo log of a backup. resident is about how much of it may
// be in memory at a time, in bytes. A log without any byte is
// redolog.ErrEmptyLog; one that a server wrote is a *ForeignLogError.
func OpenLog(root disk.Dir, resident int64) (*Log, error) {
	file, err := replay.Map(root, LogName, resident)
	if err != nil {
		return nil, err
	}
	l := &Log{file: file}
	head := make([]byte, min(len(file.Data), int(redolog.MariaDB108.Facts().HeaderSize)))
	err = replay.Guard(func() error {
		copy(head, file.Data)
		return nil
	})
	if err == nil {
		err = l.parse(head)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", LogName, err), file.Close())
	}
	return l, nil
}

func (l *Log) parse(head []byte) error {
	h, err := redolog.ParseHeader(head)
	if err != nil {
		return err
	}
	l.Header = h
	if !h.FromBackup() {
		return &ForeignLogError{h.Creator}
	}
	if l.Checkpoint, err = h.Checkpoint(head); err != nil {
		return err
	}
	l.geo = redolog.LinearGeometry(h, l.Checkpoint)
	return nil
}

// Close unmaps the log.
func (l *Log) Close() error { return l.file.Close() }

// NewApplier implements replay.Dialect.
func (l *Log) NewApplier() replay.Applier { return new(Applier) }

// noteFile adds what a record says of a file.
func noteFile(files *replay.Files, op redolog.FileOp) error {
	if op.Type == redolog.FileCheckpoint {
		return nil
	}
	h, err := files.Of(op.Space)
	if err != nil {
		return err
	}
	h.Call(op.Name)
	switch op.Type {
	case redolog.FileCreate:
		h.Created, h.Deleted = true, false
	case redolog.FileDelete:
		h.Deleted = true
	case redolog.FileRename:
		h.Call(op.NewName)
		h.Renamed = true
	}
	return nil
}

// Start returns the LSN at which recovery begins.
func (l *Log) Start() innodb.LSN { return l.Checkpoint.LSN }

// Scan reads the log from its checkpoint to the goal, and puts what it does to
// pages into plan.
func (l *Log) Scan(plan *replay.Plan, goal replay.Goal) (*replay.Scanned, error) {
	s := &scanner{log: l, plan: plan}
	if l.Header.Format == redolog.MariaDB105 {
		goal.Needed, goal.Target = redolog.Canonical105(goal.Needed), redolog.Canonical105(goal.Target)
	}
	err := replay.Guard(func() error { return s.scan(goal) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", LogName, err)
	}
	l.file.Release()
	return &s.result, nil
}

type scanner struct {
	log    *Log
	plan   *replay.Plan
	result replay.Scanned
	run    replay.Run
}

func (s *scanner) scan(goal replay.Goal) error {
	l, target := s.log, goal.Target
	if l.Checkpoint.LSN > target {
		return fmt.Errorf("it begins at LSN %d, behind its end %d as the backup states it", l.Checkpoint.LSN, target)
	}
	c := redolog.NewCutter(l.geo, l.Checkpoint.LSN)
	at := l.geo.Offset(c.Position())
	if at > int64(len(l.file.Data)) {
		return fmt.Errorf("%w: %d bytes", io.ErrUnexpectedEOF, len(l.file.Data))
	}
	c.Feed(l.file.Data[at:])
	told := c.Position()
	for c.End() < target {
		m, ok := c.Next()
		if !ok {
			return s.stopped(c, goal)
		}
		if m.End > target {
			return fmt.Errorf("the mini-transaction at LSN %d ends at %d: the end that the backup states, %d, is inside it", m.Start, m.End, target)
		}
		if err := s.mtr(&m); err != nil {
			return fmt.Errorf("LSN %d: %w", m.Start, err)
		}
		if m.End-told > replay.ScanStep {
			l.file.Touch(int64(m.End - told))
			goal.Read.Add(int64(m.End - told))
			told = m.End
		}
	}
	s.result.End = c.End()
	return nil
}

// stopped decides whether the log may end where it does.
func (s *scanner) stopped(c *redolog.Cutter, goal replay.Goal) error {
	stop := c.Stop()
	s.result.End = c.End()
	inOrder := stop.Cause == redolog.StopShort || stop.Cause == redolog.StopPartialBlock
	if inOrder && !goal.Exact && c.Seen() >= goal.Target && c.End() >= goal.Needed {
		s.result.Torn = true
		return nil
	}
	if inOrder {
		return fmt.Errorf("%w: it ends at LSN %d, the backup needs it up to %d", io.ErrUnexpectedEOF, c.End(), goal.Target)
	}
	return fmt.Errorf("it is damaged, or ends, at LSN %d; the backup needs it up to %d: %w", c.End(), goal.Target, stop)
}

// mtr adds one mini-transaction to the plan.
func (s *scanner) mtr(m *redolog.MTR) error {
	s.result.MTRs++
	rr := redolog.ReadRuns(m.Records)
	for rr.Next() {
		run := rr.Run()
		switch {
		case run.Kind.IsFile():
			op, err := rr.FileOp()
			if err == nil {
				err = noteFile(&s.result.Files, op)
			}
			if err != nil {
				return err
			}
		case run.Trim:
			s.plan.Trim(run.Page.Space, replay.Trim{LSN: m.Start, Page: run.Page.No, All: run.Page.Space != 0})
		default:
			s.run = replay.Run{
				Page: run.Page, LSN: s.log.geo.Advance(m.Start, run.Offset), Records: run.Bytes,
				Start: m.Start, End: m.End,
			}
			switch run.Kind {
			case redolog.InitPage:
				s.run.Kind = replay.Init
			case redolog.FreePage:
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
func (l *Log) Clean() (innodb.LSN, bool) {
	const records = 11 // FILE_CHECKPOINT
	if l.Header.Format != redolog.MariaDB108 || l.Checkpoint.LSN != l.Header.FirstLSN || l.Checkpoint.End != l.Checkpoint.LSN {
		return 0, false
	}
	c := redolog.NewCutter(l.geo, l.Checkpoint.LSN)
	c.Feed(l.file.Data[l.Header.Format.Facts().HeaderSize:])
	m, ok := c.Next()
	if !ok || len(m.Records) != records || m.Records[0] != byte(redolog.FileCheckpoint)<<4|records-1 ||
		innodb.LSN(binary.BigEndian.Uint64(m.Records[3:])) != l.Checkpoint.LSN {
		return 0, false
	}
	if _, more := c.Next(); more || !c.Clean() {
		return 0, false
	}
	return m.End, true
}
