package redo

import (
	"fmt"
	"maps"
	"path"
	"strings"

	"hb/source/innodb"
	"hb/source/innodb/redolog"
)

// FileState is what the log has said of a tablespace's file since following
// began.
type FileState struct {
	Name    string // the newest name: db/table.ibd
	Created bool   // the log has its whole life, from its first page on
	Deleted bool
}

// fileOp is a file operation and the end of its mini-transaction.
type fileOp struct {
	redolog.FileOp
	end innodb.LSN
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

// track applies a file operation. The state is locked.
func (f *Follower) track(op fileOp) {
	if op.Type == redolog.FileCheckpoint {
		return
	}
	s := f.ops[op.Space]
	if s == nil {
		s = new(FileState)
		f.ops[op.Space] = s
	}
	s.Name = tableName(op.Name)
	switch op.Type {
	case redolog.FileCreate:
		s.Created, s.Deleted = true, false
	case redolog.FileDelete:
		s.Deleted = true
	case redolog.FileRename:
		s.Name = tableName(op.NewName)
	}
}

// tableName reduces a name in the log, ./db/table.ibd or an absolute path, to
// the one in the archive.
func tableName(name string) string {
	dir, base := path.Split(strings.TrimPrefix(name, "./"))
	return path.Join(path.Base(dir), base)
}

// fileOps appends the file operations of a mini-transaction. They come before
// all page records, so that most mini-transactions cost one look.
func fileOps(ops []fileOp, m redolog.MTR) ([]fileOp, error) {
	r := redolog.ReadRecords(m.Records)
	for r.Next() && r.Type.IsFile() {
		op, err := r.FileOp()
		if err != nil {
			return nil, fmt.Errorf("redo log, mini-transaction at LSN %d: %w", m.Start, err)
		}
		ops = append(ops, fileOp{op, m.End})
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("redo log, mini-transaction at LSN %d: %w", m.Start, err)
	}
	return ops, nil
}
