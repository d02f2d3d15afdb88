package mysql

import (
	"encoding/binary"
	"fmt"
	"io"

	"hb/sink/replay"
	"hb/source/innodb"
	"hb/source/innodb/mlog"
	"hb/stream/disk"
)

// LogName is the redo log of a backup.
const LogName = "xtrabackup_logfile"

// Log is a backup's redo log. It is the replay.Dialect of MySQL.
type Log struct {
	mlog.Linear
	in   *replay.Input
	file io.Closer
}

// OpenLog opens the redo log of a backup.
func OpenLog(root disk.Dir) (*Log, error) {
	return replay.OpenLog(root, LogName, ReadLog)
}

// ReadLog is OpenLog of what file reads, from front to back. Close closes it.
func ReadLog(file io.ReadCloser) (*Log, error) {
	l := &Log{in: replay.NewInput(file), file: file}
	head, err := l.in.Need(mlog.HeaderSize + mlog.BlockSize)
	if err == nil {
		l.Linear, err = mlog.ParseLinear(head)
	}
	if err == nil {
		err = l.Header.Flags.Check()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", LogName, err)
	}
	return l, nil
}

// Close closes the log.
func (l *Log) Close() error { return l.file.Close() }

// Start returns the LSN at which recovery begins.
func (l *Log) Start() innodb.LSN { return l.Checkpoint.LSN }

// NewApplier implements replay.Dialect.
func (l *Log) NewApplier() replay.Applier { return NewApplier(l.Header.Format) }

// Scan reads the log from its checkpoint to the goal, and puts what it does to
// pages into plan. It can be done once.
func (l *Log) Scan(plan *replay.Plan, goal replay.Goal) (*replay.Scanned, error) {
	s := &scanner{plan: plan, deleted: make(map[innodb.SpaceID]*replay.FileHistory)}
	s.result.Meta = make(mlog.MetaSet)
	c := mlog.NewCutter(l.Header.Format, l.Checkpoint.LSN)
	c.Settled = true
	err := l.in.Skip(mlog.HeaderSize)
	if err == nil {
		err = replay.Scan[mlog.Stop](&s.result, l.in, c, goal, s.mtr)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", LogName, err)
	}
	return &s.result, nil
}

type scanner struct {
	plan   *replay.Plan
	result replay.Scanned
	// deleted are the tablespaces that the log has deleted and not used since.
	deleted map[innodb.SpaceID]*replay.FileHistory
	run     replay.Run
	from    int // of run in the mini-transaction's records
}

// kinds are the record types that begin a page anew. 5.6's resets whatever is
// on disk (recv_recover_page_func); its successor obeys the page's LSN.
var kinds = map[mlog.Type]replay.Kind{
	mlog.InitFilePage:  replay.Init,
	mlog.InitFilePage2: replay.InitOlder,
}

// mtr adds one mini-transaction to the plan: runs of consecutive records of one
// page, each of which an initialisation begins too.
func (s *scanner) mtr(m mlog.MTR) error {
	at := 0
	for at < len(m.Records) {
		r, _, err := mlog.ParseRecord(m.Records[at:])
		if err != nil {
			return err
		}
		kind := kinds[r.Type]
		if at > s.from && (!r.Type.IsPage() || r.Page != s.run.Page || kind != replay.Change) {
			if err := s.flush(&m, at); err != nil {
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
		if err := s.note(&m, &r); err != nil {
			return err
		}
		at += r.Size
		s.from = at
	}
	err := s.flush(&m, at)
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
		if s.result.Meta.Add(meta); len(s.result.Meta) > maxMeta {
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
