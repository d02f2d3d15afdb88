package redo

import (
	"fmt"
	"maps"
	"path"
	"strings"

	"hb/source/innodb"
	"hb/source/innodb/mlog"
	"hb/source/innodb/redolog"
)

// FileState is what the log has said of a tablespace since following began.
type FileState struct {
	Name    string     // the newest name, as in the archive: db/table.ibd
	Path    string     // the same as the server wrote it; with .ibd, which 5.6 leaves out
	Created innodb.LSN // the end LSN of the record that creates it: the log has its whole life; or 0
	Deleted bool

	// Changes that leave no redo, of MySQL: the end LSN of the newest record
	// that tells of one, or 0. A copy that was begun before has to be made again.
	IndexLoad innodb.LSN // an index was built (5.7 and later)
	Truncate  innodb.LSN // TRUNCATE TABLE in place (5.7)
	// PageZero is the end LSN of the newest record that made page 0 anew: the
	// tablespace was created, or emptied with its id kept.
	PageZero innodb.LSN
}

// opKind is what a record says of a file.
type opKind uint8

const (
	fileNamed opKind = iota
	fileCreated
	fileDeleted
	fileRenamed
	indexLoaded
	fileTruncated
	pageZeroMade
)

// fileOp is such a record, and the end of its mini-transaction.
type fileOp struct {
	kind  opKind
	space innodb.SpaceID
	name  string // the newest one, if it says any
	end   innodb.LSN
}

// Files returns what the log has said so far, after Finish up to its end, of each tablespace that it named.
func (f *Follower) Files() map[innodb.SpaceID]FileState {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[innodb.SpaceID]FileState, len(f.ops))
	for id, s := range maps.All(f.ops) {
		out[id] = *s
	}
	return out
}

// track applies a record. The state is locked.
func (f *Follower) track(op fileOp) {
	s := f.ops[op.space]
	if s == nil {
		s = new(FileState)
		f.ops[op.space] = s
	}
	if op.name != "" {
		s.Name, s.Path = archiveName(op.name), op.name
	}
	switch op.kind {
	case fileCreated:
		s.Created, s.Deleted = op.end, false
	case fileDeleted:
		s.Deleted = true
	case indexLoaded:
		s.IndexLoad = op.end
	case fileTruncated:
		s.Truncate = op.end
	case pageZeroMade:
		s.PageZero = op.end
	}
}

// archiveName reduces a name in the log, ./db/table.ibd or an absolute path, to
// the one in the archive.
func archiveName(name string) string {
	dir, base := path.Split(strings.TrimPrefix(name, "./"))
	return path.Join(path.Base(dir), base)
}

// mariadbOps appends the file operations of a mini-transaction. They come before
// all page records, so that most mini-transactions cost one look.
func mariadbOps(ops []fileOp, m redolog.MTR) ([]fileOp, error) {
	r := redolog.ReadRecords(m.Records)
	for r.Next() && r.Type.IsFile() {
		op, err := r.FileOp()
		if err != nil {
			return nil, fmt.Errorf("redo log, mini-transaction at LSN %d: %w", m.Start, err)
		}
		o := fileOp{space: op.Space, name: op.Name, end: m.End}
		switch op.Type {
		case redolog.FileCheckpoint:
			continue
		case redolog.FileCreate:
			o.kind = fileCreated
		case redolog.FileDelete:
			o.kind = fileDeleted
		case redolog.FileRename:
			o.kind, o.name = fileRenamed, op.NewName
		}
		ops = append(ops, o)
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("redo log, mini-transaction at LSN %d: %w", m.Start, err)
	}
	return ops, nil
}

// mysqlOps is mariadbOps for MySQL, whose records of files may stand anywhere.
func mysqlOps(ops []fileOp, m mlog.MTR, format mlog.Format) ([]fileOp, error) {
	for b := m.Records; len(b) > 0; {
		r, _, err := mlog.ParseRecord(b)
		if err != nil {
			return nil, fmt.Errorf("redo log, mini-transaction at LSN %d: %w", m.Start, err)
		}
		b = b[r.Size:]
		op := fileOp{space: r.Page.Space, end: m.End}
		switch r.Type {
		case mlog.InitFilePage, mlog.InitFilePage2:
			if r.Page.No != 0 {
				continue
			}
			op.kind = pageZeroMade
		case mlog.IndexLoad:
			op.kind = indexLoaded
		case mlog.Truncate:
			op.kind = fileTruncated
		case mlog.FileCreate, mlog.FileCreate2, mlog.FileDelete, mlog.FileName, mlog.FileRename, mlog.FileRename2:
			if err := op.named(&r, format); err != nil {
				return nil, fmt.Errorf("redo log, mini-transaction at LSN %d: %w", m.Start, err)
			}
		default:
			continue
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// named fills in what a record with a file name says.
func (o *fileOp) named(r *mlog.Record, format mlog.Format) error {
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
	if format == mlog.Format56 && path.Ext(o.name) != ".ibd" {
		o.name += ".ibd" // db/table
	}
	return err
}
