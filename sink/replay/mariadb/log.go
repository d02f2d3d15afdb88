package mariadb

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"hb/sink/replay"
	"hb/source/innodb"
	"hb/source/innodb/redolog"
)

// LogName is the redo log of a backup.
const LogName = "ib_logfile0"

// Log is a backup's redo log, mapped into memory. It is the replay.Dialect of
// MariaDB.
type Log struct {
	Header     redolog.Header
	Checkpoint redolog.Checkpoint
	geo        redolog.Geometry
	data       []byte // the whole file
	// touched estimates how many bytes of the mapping are resident: pages of
	// the mapping count as the process's memory once they were read.
	touched  atomic.Int64
	resident int64
}

// ForeignLogError says that the redo log is not that of a backup.
type ForeignLogError struct{ Creator string }

func (e *ForeignLogError) Error() string {
	return fmt.Sprintf("%s was written by %q, not by a backup tool: this looks like a server's own data directory", LogName, e.Creator)
}

// OpenLog maps the redo log of a backup. resident is about how much of it may
// be in memory at a time, in bytes. A log without any byte is
// redolog.ErrEmptyLog; one that a server wrote is a *ForeignLogError.
func OpenLog(root *os.Root, resident int64) (*Log, error) {
	f, err := root.Open(LogName)
	if err != nil {
		return nil, fmt.Errorf("opening the redo log: %w", err)
	}
	defer f.Close() // only read; the mapping outlives it
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at the redo log: %w", err)
	}
	if st.Size() == 0 {
		return nil, redolog.ErrEmptyLog
	}
	if !st.Mode().IsRegular() || int64(int(st.Size())) != st.Size() {
		return nil, fmt.Errorf("%s is not a file that can be mapped (%v, %d bytes)", LogName, st.Mode(), st.Size())
	}
	head := make([]byte, redolog.MariaDB108.Facts().HeaderSize)
	n, err := f.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("reading the redo log: %w", err)
	}
	l := &Log{resident: max(resident, minResident)}
	if err := l.parse(head[:n]); err != nil {
		return nil, fmt.Errorf("%s: %w", LogName, err)
	}
	l.data, err = unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping the redo log: %w", err)
	}
	return l, nil
}

// minResident keeps a tiny memory limit from dropping the mapping all the time.
const minResident = 4 << 20

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

// Close unmaps the log. Nothing that Records returned may be used any more.
func (l *Log) Close() error {
	if l.data == nil {
		return nil
	}
	err := unix.Munmap(l.data)
	l.data = nil
	if err != nil {
		return fmt.Errorf("unmapping the redo log: %w", err)
	}
	return nil
}

// touch counts bytes of the mapping that were read, and gives all of it back
// when they become too many: they are in the page cache still.
func (l *Log) touch(n int64) {
	if l.touched.Add(n) > l.resident {
		l.touched.Store(0)
		// Advice only: if it is not taken, nothing but memory is lost.
		_ = unix.Madvise(l.data, unix.MADV_DONTNEED)
	}
}

// guard runs f and makes an error of what a read from the mapping ends in when
// the disk cannot deliver: a fault.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case interface {
			error
			Addr() uintptr
		}:
			err = fmt.Errorf("reading the redo log: the disk failed or the file was cut (%w)", error(r))
		default:
			panic(r)
		}
	}()
	return f()
}

// faultPage is what one short read makes resident: the kernel maps the pages
// around it too.
const faultPage = 64 << 10

// Records implements replay.Dialect.
func (l *Log) Records(lsn innodb.LSN, size int, scratch []byte) ([]byte, error) {
	at := l.geo.Offset(lsn)
	if at < l.Header.Format.Facts().HeaderSize || at > int64(len(l.data)) {
		return nil, fmt.Errorf("internal error: LSN %d is not in the redo log", lsn)
	}
	l.touch(faultPage)
	var out []byte
	err := guard(func() (err error) {
		out, err = l.geo.Payload(l.data[at:], lsn, size, scratch)
		if err == nil && len(out) > 0 && &out[0] != &scratch[0] {
			// Applied from scratch, so that a fault can only happen here.
			copy(scratch, out)
			out = scratch[:size]
		}
		return err
	})
	return out, err
}

// Apply implements replay.Dialect.
func (l *Log) Apply(page []byte, id innodb.PageID, zip bool, run []byte) error {
	return Apply(page, id, zip, run)
}

// Files follows what the log says of files: see Scan.
type Files struct {
	// Named maps each tablespace that the log names to what happened to it.
	Named map[innodb.SpaceID]*FileHistory
}

// FileHistory is what the log says of one tablespace's file.
type FileHistory struct {
	First, Name string // its name at first and at last, as the server wrote it
	Created     bool   // in this log
	Deleted     bool
}

// maxNamed bounds the number of tablespaces that a log can name, and with it
// the memory that a hostile one can claim.
const maxNamed = 32 << 20

func (f *Files) apply(op redolog.FileOp) error {
	if op.Type == redolog.FileCheckpoint {
		return nil
	}
	h := f.Named[op.Space]
	if h == nil {
		if len(f.Named) >= maxNamed {
			return fmt.Errorf("the redo log names more than %d files", maxNamed)
		}
		h = &FileHistory{First: op.Name}
		f.Named[op.Space] = h
	}
	h.Name = op.Name
	switch op.Type {
	case redolog.FileCreate:
		h.Created, h.Deleted = true, false
	case redolog.FileDelete:
		h.Deleted = true
	case redolog.FileRename:
		h.Name = op.NewName
	}
	return nil
}

// Scanned is the result of Scan.
type Scanned struct {
	Files
	End  innodb.LSN // of the last mini-transaction that counts
	MTRs uint64
	Torn bool // part of a mini-transaction behind End was ignored
}

// Scan reads the log from its checkpoint to the LSN that the backup recorded
// as its end, and puts what it does to pages into plan. It is an error if the
// log does not reach target. exact says that a mini-transaction ends there;
// otherwise (10.5's own tool counts what it copied in blocks) the last one may
// be cut off, if it begins at or behind needed.
func (l *Log) Scan(plan *replay.Plan, needed, target innodb.LSN, exact bool) (*Scanned, error) {
	s := &scanner{log: l, plan: plan}
	s.result.Named = make(map[innodb.SpaceID]*FileHistory)
	if l.Header.Format == redolog.MariaDB105 {
		needed, target = redolog.Canonical105(needed), redolog.Canonical105(target)
	}
	err := guard(func() error { return s.scan(needed, target, exact) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", LogName, err)
	}
	return &s.result, nil
}

type scanner struct {
	log    *Log
	plan   *replay.Plan
	result Scanned
	run    replay.Run
}

// scanStep is how many bytes of the mapping are read before touch hears of it.
const scanStep = 1 << 20

func (s *scanner) scan(needed, target innodb.LSN, exact bool) error {
	l := s.log
	if l.Checkpoint.LSN > target {
		return fmt.Errorf("it begins at LSN %d, behind its end %d as the backup states it", l.Checkpoint.LSN, target)
	}
	c := redolog.NewCutter(l.geo, l.Checkpoint.LSN)
	at := l.geo.Offset(c.Position())
	if at > int64(len(l.data)) {
		return fmt.Errorf("%w: %d bytes", io.ErrUnexpectedEOF, len(l.data))
	}
	c.Feed(l.data[at:])
	told := c.Position()
	for c.End() < target {
		m, ok := c.Next()
		if !ok {
			return s.stopped(c, needed, target, exact)
		}
		if m.End > target {
			return fmt.Errorf("the mini-transaction at LSN %d ends at %d: the end that the backup states, %d, is inside it", m.Start, m.End, target)
		}
		if err := s.mtr(&m); err != nil {
			return fmt.Errorf("LSN %d: %w", m.Start, err)
		}
		if m.End-told > scanStep {
			l.touch(int64(m.End - told))
			told = m.End
		}
	}
	s.result.End = c.End()
	return nil
}

// stopped decides whether the log may end where it does.
func (s *scanner) stopped(c *redolog.Cutter, needed, target innodb.LSN, exact bool) error {
	stop := c.Stop()
	s.result.End = c.End()
	inOrder := stop.Cause == redolog.StopShort || stop.Cause == redolog.StopPartialBlock
	if inOrder && !exact && c.Seen() >= target && c.End() >= needed {
		s.result.Torn = true
		return nil
	}
	if inOrder {
		return fmt.Errorf("%w: it ends at LSN %d, the backup needs it up to %d", io.ErrUnexpectedEOF, c.End(), target)
	}
	return fmt.Errorf("it is damaged, or ends, at LSN %d; the backup needs it up to %d: %w", c.End(), target, stop)
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
				err = s.result.apply(op)
			}
			if err != nil {
				return err
			}
		case run.Trim:
			s.plan.Trim(run.Page.Space, replay.Trim{LSN: m.Start, Page: run.Page.No, All: run.Page.Space != 0})
		default:
			s.run = replay.Run{
				Page: run.Page, LSN: s.log.geo.Advance(m.Start, run.Offset), Size: len(run.Bytes),
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
	c.Feed(l.data[l.Header.Format.Facts().HeaderSize:])
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
