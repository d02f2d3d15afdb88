package replay

import (
	"fmt"

	"hb/source/innodb"
	"hb/source/innodb/mlog"
)

// Scanned is what reading a redo log told, besides what went into a Plan.
type Scanned struct {
	Files
	End  innodb.LSN // of the last mini-transaction that counts
	MTRs uint64
	Torn bool // part of a mini-transaction behind End was ignored
	// Meta is the newest dynamic metadata of each of MySQL's tables: no page holds
	// it.
	Meta mlog.MetaSet
}

// Files is what a redo log says of the files of tablespaces. The zero value is
// ready to use.
type Files struct {
	// Named maps each tablespace that the log names to what happened to it.
	Named map[innodb.SpaceID]*FileHistory
}

// FileHistory is what the log says of one tablespace's file.
type FileHistory struct {
	First, Name string // its name at first and at last, as the server wrote it; "" if it is never told
	Created     bool   // in this log
	Flags       uint32 // that it was created with, where the log says it
	Renamed     bool
	Deleted     bool
	DeletedAt   innodb.LSN // end of the last deletion's mini-transaction
	// Unlogged: pages of it were written without redo (MLOG_INDEX_LOAD).
	Unlogged bool
	MinSize  int64 // the file was made at least so long, in bytes
}

// maxNamed bounds the number of tablespaces that a log can name, and with it
// the memory that a hostile one can claim.
const maxNamed = 32 << 20

// Of returns what is known of a tablespace, to be added to. It fails if the log
// names more of them than any server has.
func (f *Files) Of(id innodb.SpaceID) (*FileHistory, error) {
	h := f.Named[id]
	if h == nil {
		if f.Named == nil {
			f.Named = make(map[innodb.SpaceID]*FileHistory)
		}
		if len(f.Named) >= maxNamed {
			return nil, fmt.Errorf("the redo log names more than %d files", maxNamed)
		}
		h = new(FileHistory)
		f.Named[id] = h
	}
	return h, nil
}

// Call notes the name of the file.
func (h *FileHistory) Call(name string) {
	if h.First == "" {
		h.First = name
	}
	h.Name = name
}
