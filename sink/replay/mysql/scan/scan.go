// Package scan reads the redo log of a backup of MySQL for a recovery. In goes the log,
// out comes what it does to pages, in a replay.Plan, and what it says of files and
// metadata. Package mysql applies the records to pages.
package scan

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"hb/sink/replay"
	"hb/sink/replay/mysql"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/innodb/tde"
	"hb/xbstream/keyring"
)

// LogName is the redo log of a backup.
const LogName = "xtrabackup_logfile"

// defaultPageSize is the servers' default.
const defaultPageSize = 16 << 10

// Log is a backup's redo log. It is the replay.Log of MySQL.
type Log struct {
	mysqlredo.Linear
	in       *replay.Input
	file     io.Closer
	pageSize int                   // innodb_page_size
	cipher   mysqlredo.BlockCipher // of encrypted blocks; nil: there is no key
	noKey    error                 // why not, if the log has encryption information
}

// OpenLog opens the redo log of a backup. pageSize is innodb_page_size; keys open an
// encrypted log, and may be nil.
func OpenLog(root disk.Dir, pageSize int, keys *keyring.Keys) (*Log, error) {
	l, err := replay.OpenLog(root, LogName, func(file io.ReadCloser) (*Log, error) { return ReadLog(file, pageSize, keys) })
	if err != nil || l.noKey == nil {
		return l, err
	}
	sealed, err := anySealed(root)
	if err == nil && sealed {
		err = l.noKey
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", LogName, err), l.Close())
	}
	return l, nil
}

// anySealed reports whether a block of the redo log is encrypted, so that a key that is
// missing is known before the caller changes anything.
func anySealed(root disk.Dir) (sealed bool, err error) {
	f, err := root.Open(LogName)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	in := bufio.NewReaderSize(f, 1<<20)
	if _, err := in.Discard(mysqlredo.HeaderSize); err != nil {
		return false, err
	}
	block := make([]byte, redolog.BlockSize)
	for {
		switch _, err := io.ReadFull(in, block); {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return false, nil
		case err != nil:
			return false, err
		case mysqlredo.Sealed(block):
			return true, nil
		}
	}
}

// Cipher is that of encrypted blocks; nil: there is no key.
func (l *Log) Cipher() mysqlredo.BlockCipher { return l.cipher }

// ReadLog is OpenLog of what file reads, from front to back. Close closes it.
func ReadLog(file io.ReadCloser, pageSize int, keys *keyring.Keys) (*Log, error) {
	l := &Log{in: replay.NewInput(file), file: file, pageSize: pageSize}
	head, err := l.in.Need(mysqlredo.HeaderSize + redolog.BlockSize)
	if err == nil {
		l.Linear, err = mysqlredo.ParseLinear(head)
	}
	if err == nil {
		err = l.Header.Flags.Check()
	}
	if err == nil {
		l.cipher, l.noKey = openCipher(head, keys)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", LogName, err)
	}
	return l, nil
}

// openCipher opens the key in the log's head; nil if there is none. That it cannot be
// opened matters only if a block is encrypted.
func openCipher(head []byte, keys *keyring.Keys) (mysqlredo.BlockCipher, error) {
	b := mysqlredo.Info(head)
	if b == nil {
		return nil, nil
	}
	info, err := tde.ParseMySQLInfo(b)
	if err != nil {
		return nil, err
	}
	key, err := info.Unlock(keys)
	if err != nil {
		return nil, err
	}
	return tde.NewRedoBlocks(key), nil
}

// Close closes the log.
func (l *Log) Close() error { return l.file.Close() }

// Start returns the LSN at which recovery begins.
func (l *Log) Start() innodb.LSN { return l.Checkpoint.LSN }

// NewApplier implements replay.Log.
func (l *Log) NewApplier() replay.Applier { return mysql.NewApplier(l.Header.Format) }

// Scan reads the log from its checkpoint to the goal, and puts what it does to
// pages into plan. It can be done once.
func (l *Log) Scan(plan *replay.Plan, goal replay.Goal) (*replay.Scanned, error) {
	s := &scanner{plan: plan, grants: mlog.Grants{PageSize: uint32(cmp.Or(l.pageSize, defaultPageSize))}, deleted: make(map[innodb.SpaceID]*replay.FileHistory)}
	s.result.Occupy, s.result.Meta = plan.Occupy, make(mlog.MetaSet)
	c := mysqlredo.NewCutter(l.Header.Format, l.Checkpoint.LSN)
	c.Settled = true
	if l.cipher != nil {
		c.Ciphers = []mysqlredo.BlockCipher{l.cipher}
	}
	err := l.in.Skip(mysqlredo.HeaderSize)
	if err == nil {
		err = replay.Scan[mysqlredo.Stop](&s.result, l.in, c, goal, s.mtr)
	}
	if stop, ok := errors.AsType[mysqlredo.Stop](err); ok && stop.Cause == mysqlredo.StopEncrypted && l.noKey != nil {
		err = l.noKey
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", LogName, err)
	}
	result := s.result // and not the scanner with it, which has the log's buffers
	result.Occupy = nil
	return &result, nil
}

type scanner struct {
	plan   *replay.Plan
	result replay.Scanned
	// deleted are the tablespaces that the log has deleted and not used since.
	deleted map[innodb.SpaceID]*replay.FileHistory
	grants  mlog.Grants
	run     replay.Run
	from    int // of run in the mini-transaction's records
}

// kinds are the record types that initialise a page. 5.6's resets whatever is
// on disk (recv_recover_page_func); its successor obeys the page's LSN.
var kinds = map[mlog.Type]replay.Kind{
	mlog.InitFilePage:  replay.Init,
	mlog.InitFilePage2: replay.InitOlder,
}

// mtr adds one mini-transaction to the plan: runs of consecutive records of one
// page; an initialisation begins a run of its own.
func (s *scanner) mtr(m redolog.MTR) error {
	at := 0
	s.grants.Reset()
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
			s.grants.Add(&r)
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
	if space, ok := s.grants.Unlogged(); ok && err == nil {
		err = s.unlogged(space)
	}
	return err
}

// unlogged notes that pages of a tablespace are written without redo.
func (s *scanner) unlogged(id innodb.SpaceID) error {
	h, err := s.result.Of(id)
	if err == nil {
		h.Unlogged = true
	}
	return err
}

// flush adds the run that ends at a byte of the mini-transaction's records, if
// there is one.
func (s *scanner) flush(m *redolog.MTR, to int) error {
	if to == s.from {
		return nil
	}
	r := &s.run
	r.LSN, r.Records, r.Start, r.End = redolog.Advance(m.Start, s.from), m.Records[s.from:to], m.Start, m.End
	s.from = to
	if h := s.deleted[r.Page.Space]; h != nil {
		// The id is in use again: IMPORT TABLESPACE, an undo tablespace.
		h.Deleted, h.Again = false, true
		delete(s.deleted, r.Page.Space)
	}
	return s.plan.Add(r)
}

// note takes in a record that changes no page.
func (s *scanner) note(m *redolog.MTR, r *mlog.Record) error {
	switch {
	case r.Type.IsFile():
		return s.file(m, r)
	case r.Type == mlog.Truncate:
		// 5.7 creates the table's file again: at that LSN it was what it is now.
		return s.plan.Discard(r.Page.Space, innodb.LSN(binary.BigEndian.Uint64(r.Body)))
	case r.Type == mlog.IndexLoad:
		return s.unlogged(r.Page.Space)
	case r.Type == mlog.DynamicMeta:
		meta, err := mlog.ParseMeta(r.Body)
		if err != nil {
			return err
		}
		return s.plan.Occupy(s.result.Meta.Add(meta))
	}
	return nil
}

// file takes in what happened to a tablespace's file.
func (s *scanner) file(m *redolog.MTR, r *mlog.Record) error {
	if h := s.result.Named[r.Page.Space]; h != nil && !h.Deleted && r.Names(h.Name) {
		return nil // the record has nothing new
	}
	op, err := r.FileOp()
	if err != nil {
		return err
	}
	h, err := s.result.Of(op.Space)
	if err != nil {
		return err
	}
	if op.Type == mlog.FileName && h.Deleted && op.Name == h.Name {
		return nil // a checkpoint in the middle of the deletion names the file once more
	}
	if op.Name != "" {
		if err := s.result.Call(h, op.Name); err != nil {
			return err
		}
	}
	switch op.Type {
	case mlog.FileDelete:
		*h = replay.FileHistory{First: h.First, Name: h.Name, Deleted: true, DeletedAt: m.End}
		s.deleted[op.Space] = h
		return s.plan.Discard(op.Space, m.End)
	case mlog.FileCreate, mlog.FileCreate2:
		h.Created, h.Flags = true, op.Flags
	case mlog.FileRename, mlog.FileRename2:
		if err := errors.Join(s.result.Leave(h, op.Name), s.result.Call(h, op.NewName)); err != nil {
			return err
		}
		h.Renamed = true
	case mlog.FileExtend:
		h.MinSize = max(h.MinSize, extended(op))
	}
	h.Again = h.Again || h.Deleted && !h.Created
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
