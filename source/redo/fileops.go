package redo

import (
	"fmt"
	"path"
	"strings"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
	"hb/xbstream/innodb/redolog"
)

// FileState is what the log has recorded about a tablespace since following began.
type FileState struct {
	Path    string     // the newest name, as the server wrote it; with .ibd, which 5.6 leaves out; "" if the log names none
	Created innodb.LSN // the end LSN of the record that creates it: the log has its whole life; or 0
	Deleted bool
	Renamed bool
	// Changed: the log has records of its pages. It is set for MariaDB only.
	Changed bool
	// Again: it was deleted, and the log has records of its pages after that: it was
	// discarded and imported. It is set for MariaDB only.
	Again bool

	// Unlogged is the end LSN of the newest record that tells of a change to pages
	// without redo, of MySQL, or 0: pages were given to an index that is built
	// without redo, such an index is complete (MLOG_INDEX_LOAD), the tablespace was
	// truncated in place (5.7), page 0 was made new, or the file was deleted: if the
	// id is in use again, its file was imported. It also tells that the server has decrypted
	// the tablespace in place: nobody has the key of pages that were copied before. A copy
	// that began before that LSN must be made again.
	Unlogged innodb.LSN
	// Begun is the end LSN of the newest record that truncates the tablespace, or of
	// MySQL makes its page 0 new; or 0. A page 0 that is older says nothing of the
	// file's length.
	Begun innodb.LSN
	// Info is the newest encryption information that the log writes to page 0 (MySQL); nil:
	// it writes none. Page 0 of a new file may be on disk without it for long.
	Info []byte
}

// Name is the file's newest name in the archive: db/table.ibd.
func (s *FileState) Name() string {
	if s.Path == "" {
		return ""
	}
	return archiveName(s.Path)
}

// opKind is what a record does to a file.
type opKind uint8

const (
	fileNamed opKind = iota
	fileCreated
	fileDeleted
	fileRenamed
	pagesChanged
	pagesUnlogged
	spaceBegun
	spaceSealed
)

// fileOp is such a record, and the end of its mini-transaction.
type fileOp struct {
	kind  opKind
	space innodb.SpaceID
	name  string // the newest one, if the log has any
	end   innodb.LSN
	info  []byte // of spaceSealed
}

const (
	// maxFileMemory bounds what the follower keeps of files, in bytes: about two
	// million, each of which the server has changed since its last checkpoint.
	maxFileMemory = 256 << 20
	// fileMemory is about what a file takes besides its name: a FileState, and its
	// place in the map.
	fileMemory = 96
)

// Files returns the state of each tablespace that the log names, at the log's end.
// Call it after Finish, and do not change the result.
func (f *Follower) Files() map[innodb.SpaceID]*FileState {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

// Untouched reports that the log, up to its end, has no record of a page: what the
// server's file had when following began is what it has to have. It is for after
// Finish. Of few pages without a record it is false.
func (f *Follower) Untouched(p innodb.PageID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.log.touches(p)
}

// track applies a record. It fails if that takes more memory than there is for
// files. The state is locked.
func (f *Follower) track(op fileOp) error {
	s := f.ops[op.space]
	if s == nil {
		s = new(FileState)
		f.ops[op.space] = s
		f.opsSize += fileMemory
	}
	if op.name != "" && s.Path != op.name {
		f.opsSize += len(op.name) - len(s.Path)
		s.Path = op.name
	}
	if f.opsSize > f.opsLimit {
		return fmt.Errorf("the redo log names so many files (%d) that the backup would need more than %d MiB of memory for their names: "+
			"back up again after a checkpoint of the server, with fewer tables changed since", len(f.ops), f.opsLimit>>20)
	}
	switch op.kind {
	case fileCreated:
		s.Created, s.Deleted, s.Again = op.end, false, false
	case fileDeleted:
		s.Deleted, s.Again, s.Unlogged = true, false, op.end
	case fileRenamed:
		s.Renamed = true
	case pagesChanged:
		s.Changed, s.Again = true, s.Again || s.Deleted
	case pagesUnlogged:
		s.Unlogged = op.end
	case spaceBegun:
		s.Unlogged, s.Begun = op.end, op.end
	case spaceSealed:
		s.Info = op.info
	}
	return nil
}

// archiveName reduces a name in the log, ./db/table.ibd or an absolute path, to
// the one in the archive.
func archiveName(name string) string {
	dir, base := path.Split(strings.TrimPrefix(name, "./"))
	return path.Join(path.Base(dir), base)
}

// changedSpaces remembers which tablespaces pages were reported of, so that most
// mini-transactions report nothing: the last one of each remainder of its id. The
// system tablespace, which every server has, is never reported.
type changedSpaces [1 << 10]innodb.SpaceID

// add reports whether a tablespace has to be reported.
func (c *changedSpaces) add(id innodb.SpaceID) bool {
	last := &c[uint(id)%uint(len(c))]
	isNew := id != 0 && *last != id
	if isNew {
		*last = id
	}
	return isNew
}

// forget has a tablespace reported again.
func (c *changedSpaces) forget(space innodb.SpaceID) {
	if last := &c[uint(space)%uint(len(c))]; *last == space {
		*last = 0
	}
}

// fileOps appends what a mini-transaction does to files, and which tablespaces it
// changes pages of.
func (l *mariadbLog) fileOps(ops []fileOp, m redolog.MTR) ([]fileOp, error) {
	r := mariadbredo.ReadRecords(m.Records)
	for r.Next() {
		switch {
		case r.SamePage:
		case !r.Type.IsFile():
			l.touched.add(r.Page)
			if r.IsTrim() {
				ops = append(ops, fileOp{kind: spaceBegun, space: r.Page.Space, end: m.End})
			}
			if l.changed.add(r.Page.Space) {
				ops = append(ops, fileOp{kind: pagesChanged, space: r.Page.Space, end: m.End})
			}
		case r.Type != mariadbredo.FileCheckpoint:
			op, err := r.FileOp()
			if err != nil {
				return nil, fmt.Errorf("redo log, mini-transaction at LSN %d: %w", m.Start, err)
			}
			if op.Type == mariadbredo.FileDelete {
				l.changed.forget(op.Space)
			}
			ops = append(ops, mariadbOp(op, m.End))
		}
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("redo log, mini-transaction at LSN %d: %w", m.Start, err)
	}
	return ops, nil
}

func mariadbOp(op mariadbredo.FileOp, end innodb.LSN) fileOp {
	o := fileOp{space: op.Space, name: op.Name, end: end}
	switch op.Type {
	case mariadbredo.FileCreate:
		o.kind = fileCreated
	case mariadbredo.FileDelete:
		o.kind = fileDeleted
	case mariadbredo.FileRename:
		o.kind, o.name = fileRenamed, op.NewName
	}
	return o
}

// fileOps appends what a mini-transaction does to files, or to pages without redo.
func (l *mysqlLog) fileOps(ops []fileOp, m redolog.MTR) ([]fileOp, error) {
	l.grants.Reset()
	for b := m.Records; len(b) > 0; {
		r, _, err := mlog.ParseRecord(b)
		if err != nil {
			return nil, fmt.Errorf("redo log, mini-transaction at LSN %d: %w", m.Start, err)
		}
		b = b[r.Size:]
		l.touched.add(r.Page)
		op := fileOp{space: r.Page.Space, end: m.End}
		switch r.Type {
		case mlog.InitFilePage, mlog.InitFilePage2:
			if l.grants.Add(&r); r.Page.No != 0 {
				continue
			}
			op.kind = spaceBegun
		case mlog.Truncate:
			op.kind = spaceBegun
		case mlog.IndexLoad:
			op.kind = pagesUnlogged
		case mlog.WriteString:
			l.grants.Add(&r)
			var unsealed bool
			switch op.info, unsealed = sealing(&r); {
			case op.info != nil:
				op.kind = spaceSealed
			case unsealed:
				op.kind = pagesUnlogged
			default:
				continue
			}
		case mlog.FileCreate, mlog.FileCreate2, mlog.FileDelete, mlog.FileName, mlog.FileRename, mlog.FileRename2:
			if err := op.named(&r, l.header.Format); err != nil {
				return nil, fmt.Errorf("redo log, mini-transaction at LSN %d: %w", m.Start, err)
			}
		default:
			if r.Type.IsPage() {
				l.grants.Add(&r)
			}
			continue
		}
		ops = append(ops, op)
	}
	if space, ok := l.grants.Unlogged(); ok {
		ops = append(ops, fileOp{kind: pagesUnlogged, space: space, end: m.End})
	}
	return ops, nil
}

// named fills in the fields of a record with a file name.
func (o *fileOp) named(r *mlog.Record, format mysqlredo.Format) error {
	op, err := r.FileOp()
	o.name = op.Name
	switch r.Type {
	case mlog.FileCreate, mlog.FileCreate2:
		o.kind = fileCreated
	case mlog.FileDelete:
		o.kind = fileDeleted
	case mlog.FileRename, mlog.FileRename2:
		o.kind, o.name = fileRenamed, op.NewName
	}
	if format == mysqlredo.Format56 && path.Ext(o.name) != ".ibd" {
		o.name += ".ibd" // db/table
	}
	return err
}
