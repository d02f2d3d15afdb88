package mysql

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"hb/sink/replay"
	"hb/source/innodb"
	"hb/source/innodb/mlog"
	"hb/stream/disk"
)

// LogName is the redo log of a backup.
const LogName = "xtrabackup_logfile"

// Log is a backup's redo log, mapped into memory. It is the replay.Dialect of
// MySQL.
type Log struct {
	mlog.Linear
	// Meta is the newest dynamic metadata of each table, after Scan. No page
	// holds it.
	Meta mlog.MetaSet
	file *replay.Mapping
}

// OpenLog maps the redo log of a backup. resident is about how much of it may
// be in memory at a time, in bytes.
func OpenLog(root disk.Dir, resident int64) (*Log, error) {
	file, err := replay.Map(root, LogName, resident)
	if err != nil {
		return nil, err
	}
	l := &Log{file: file, Meta: make(mlog.MetaSet)}
	head := make([]byte, min(len(file.Data), mlog.HeaderSize+mlog.BlockSize))
	err = replay.Guard(func() error {
		copy(head, file.Data)
		return nil
	})
	if err == nil {
		l.Linear, err = mlog.ParseLinear(head)
	}
	if err == nil {
		err = l.Header.Flags.Check()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", LogName, err), file.Close())
	}
	return l, nil
}

// Close unmaps the log.
func (l *Log) Close() error { return l.file.Close() }

// Start returns the LSN at which recovery begins.
func (l *Log) Start() innodb.LSN { return l.Checkpoint.LSN }

// NewApplier implements replay.Dialect.
func (l *Log) NewApplier() replay.Applier { return NewApplier(l.Header.Format) }

// Scan reads the log from its checkpoint to the goal, and puts what it does to
// pages into plan. Where the goal is not exact, a mini-transaction that goes
// beyond it is left out.
func (l *Log) Scan(plan *replay.Plan, goal replay.Goal) (*replay.Scanned, error) {
	goal.Needed, goal.Target = mlog.Canonical(goal.Needed), mlog.Canonical(goal.Target)
	s := &scanner{log: l, plan: plan, deleted: make(map[innodb.SpaceID]*replay.FileHistory)}
	if err := replay.Guard(func() error { return s.scan(goal) }); err != nil {
		return nil, fmt.Errorf("%s: %w", LogName, err)
	}
	l.file.Release()
	return &s.result, nil
}

type scanner struct {
	log    *Log
	plan   *replay.Plan
	result replay.Scanned
	// deleted are the tablespaces that the log has deleted and not used since.
	deleted map[innodb.SpaceID]*replay.FileHistory
	run     replay.Run
	from    int // of run in the mini-transaction's records
}

func (s *scanner) scan(goal replay.Goal) error {
	l, target := s.log, goal.Target
	if l.Checkpoint.LSN > target {
		return fmt.Errorf("it begins at LSN %d, behind its end %d as the backup states it", l.Checkpoint.LSN, target)
	}
	c := mlog.NewCutter(l.Header.Format, l.Checkpoint.LSN)
	c.Settled = true
	c.Feed(l.file.Data[mlog.HeaderSize:])
	told := c.Position()
	for c.End() < target {
		before := c.End()
		m, ok := c.Next()
		if !ok {
			return s.stopped(c, goal)
		}
		if m.End > target {
			if goal.Exact || before < goal.Needed {
				return fmt.Errorf("the mini-transaction at LSN %d ends at %d: the end that the backup states, %d, is inside it", m.Start, m.End, target)
			}
			s.result.End, s.result.Torn = before, true
			return nil
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
func (s *scanner) stopped(c *mlog.Cutter, goal replay.Goal) error {
	stop := c.Stop()
	s.result.End = c.End()
	inOrder := stop.Cause == mlog.StopShort || stop.Cause == mlog.StopPartialBlock
	if inOrder && !goal.Exact && c.Seen() >= goal.Target && c.End() >= goal.Needed {
		s.result.Torn = true
		return nil
	}
	if inOrder {
		return fmt.Errorf("%w: it ends at LSN %d, the backup needs it up to %d", io.ErrUnexpectedEOF, c.End(), goal.Target)
	}
	return fmt.Errorf("it is damaged, or ends, at LSN %d; the backup needs it up to %d: %w", c.End(), goal.Target, stop)
}

// kinds are the record types that begin a page anew. 5.6's resets whatever is
// on disk (recv_recover_page_func); its successor obeys the page's LSN.
var kinds = map[mlog.Type]replay.Kind{
	mlog.InitFilePage:  replay.Init,
	mlog.InitFilePage2: replay.InitOlder,
}

// mtr adds one mini-transaction to the plan: runs of consecutive records of one
// page, each of which an initialisation begins too.
func (s *scanner) mtr(m *mlog.MTR) error {
	s.result.MTRs++
	at := 0
	for at < len(m.Records) {
		r, _, err := mlog.ParseRecord(m.Records[at:])
		if err != nil {
			return err
		}
		kind := kinds[r.Type]
		if at > s.from && (!r.Type.IsPage() || r.Page != s.run.Page || kind != replay.Change) {
			if err := s.flush(m, at); err != nil {
				return err
			}
		}
		if r.Type.IsPage() {
			if at == s.from {
				s.run.Page, s.run.Kind = r.Page, kind
			}
			at += r.Size
			continue
		}
		if err := s.note(m, &r); err != nil {
			return err
		}
		at += r.Size
		s.from = at
	}
	err := s.flush(m, at)
	s.from = 0
	return err
}

// flush adds the run that ends at a byte of the mini-transaction's records, if
// there is one.
func (s *scanner) flush(m *mlog.MTR, to int) error {
	if to == s.from {
		return nil
	}
	r := &s.run
	r.LSN, r.Records, r.Start, r.End = mlog.Advance(m.Start, s.from), m.Records[s.from:to], m.Start, m.End
	s.from = to
	if h := s.deleted[r.Page.Space]; h != nil {
		// The id is in use again: IMPORT TABLESPACE, an undo tablespace.
		h.Deleted = false
		delete(s.deleted, r.Page.Space)
	}
	return s.plan.Add(r)
}

// maxMeta bounds the number of tables that a log can have metadata of, and with
// it the memory that a hostile one can claim.
const maxMeta = 16 << 20

// note takes in a record that changes no page.
func (s *scanner) note(m *mlog.MTR, r *mlog.Record) error {
	switch {
	case r.Type.IsFile():
		return s.file(m, r)
	case r.Type == mlog.Truncate:
		// 5.7 makes the table's file anew: it was what it is now at that LSN.
		s.plan.Discard(r.Page.Space, innodb.LSN(binary.BigEndian.Uint64(r.Body)))
	case r.Type == mlog.IndexLoad:
		h, err := s.result.Of(r.Page.Space)
		if err != nil {
			return err
		}
		h.Unlogged = true
	case r.Type == mlog.DynamicMeta:
		meta, err := mlog.ParseMeta(r.Body)
		if err != nil {
			return err
		}
		if s.log.Meta.Add(meta); len(s.log.Meta) > maxMeta {
			return fmt.Errorf("it has metadata of more than %d tables", maxMeta)
		}
	}
	return nil
}

// file takes in what happened to a tablespace's file.
func (s *scanner) file(m *mlog.MTR, r *mlog.Record) error {
	op, err := r.FileOp()
	if err != nil {
		return err
	}
	h, err := s.result.Of(op.Space)
	if err != nil {
		return err
	}
	if op.Name != "" {
		h.Call(op.Name)
	}
	switch op.Type {
	case mlog.FileDelete:
		s.plan.Discard(op.Space, m.End)
		*h = replay.FileHistory{First: h.First, Name: h.Name, Deleted: true, DeletedAt: m.End}
		s.deleted[op.Space] = h
		return nil
	case mlog.FileCreate, mlog.FileCreate2:
		h.Created, h.Flags = true, op.Flags
	case mlog.FileRename, mlog.FileRename2:
		h.Call(op.NewName)
		h.Renamed = true
	case mlog.FileExtend:
		h.MinSize = max(h.MinSize, extended(op))
	}
	h.Deleted = false
	delete(s.deleted, op.Space)
	return nil
}

// extended is the length of a file that was extended, 0 if none can be so long.
func extended(op mlog.FileOp) int64 {
	const most = 1 << 48 // 2^32 pages of 64 KiB
	if op.Offset > most || op.Size > most {
		return 0
	}
	return int64(op.Offset + op.Size)
}
