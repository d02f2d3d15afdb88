package replay

import (
	"hash/maphash"
	"slices"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// Scanned is what reading a redo log found out, besides what went into a Plan.
type Scanned struct {
	Files
	End  innodb.LSN // of the last mini-transaction that counts
	MTRs uint64
	Torn bool // part of a mini-transaction after End was ignored
	// Meta is the newest dynamic metadata of each of MySQL's tables: no page holds
	// it.
	Meta mlog.MetaSet
}

// Files is what a redo log records about the files of tablespaces. The zero value is
// ready to use, and takes any memory.
type Files struct {
	// Named maps each tablespace that the log names to what happened to it.
	Named map[innodb.SpaceID]*FileHistory
	// Occupy takes memory, or gives it back: Plan.Occupy.
	Occupy func(bytes int) error
}

// FileHistory is what the log records about one tablespace's file.
type FileHistory struct {
	First, Name string     // its name at first and at last, as the server wrote it; "" if the log never has it: see Files.Call
	DeletedAt   innodb.LSN // end of the last deletion's mini-transaction
	MinSize     int64      // the file was made at least this long, in bytes
	Flags       uint32     // that it was created with, where the log has them
	Created     bool       // in this log
	Renamed     bool
	// Left are hashes of the names that it was renamed from (MySQL): see Returned.
	Left    []uint64
	Deleted bool
	// Again: it was deleted and then changed, under the same id, with no record that
	// creates it: its file was discarded, and another one imported. (MariaDB: or only
	// named again.)
	Again bool
	// Unlogged: pages of it were written without redo, those of an index that MySQL 5.7
	// and later build (mlog.Grants).
	Unlogged bool
}

// historySize is about the memory that a file takes besides its names, in bytes: a
// FileHistory, and places in the maps that have it.
const historySize = 128

func (f *Files) occupy(n int) error {
	if f.Occupy == nil || n == 0 {
		return nil
	}
	return f.Occupy(n)
}

// Of returns what is known of a tablespace, to be added to.
func (f *Files) Of(id innodb.SpaceID) (*FileHistory, error) {
	h := f.Named[id]
	if h == nil {
		if err := f.occupy(historySize); err != nil {
			return nil, err
		}
		if f.Named == nil {
			f.Named = make(map[innodb.SpaceID]*FileHistory)
		}
		h = new(FileHistory)
		f.Named[id] = h
	}
	return h, nil
}

// nameSeed is for hashes of names.
var nameSeed = maphash.MakeSeed()

// Leave notes that a file is renamed from a name.
func (f *Files) Leave(h *FileHistory, name string) error {
	h.Left = append(h.Left, maphash.String(nameSeed, name))
	return f.occupy(8)
}

// Returned reports whether the file was renamed from the name that it has at last: it
// came back to it.
func (h *FileHistory) Returned() bool {
	return slices.Contains(h.Left, maphash.String(nameSeed, h.Name))
}

// Call notes the name of a file. The same name again takes no memory: a log repeats
// it after each checkpoint.
func (f *Files) Call(h *FileHistory, name string) error {
	switch {
	case name == h.Name:
		return nil
	case h.First == "":
		h.First = name
		h.Name = h.First
		return f.occupy(len(name))
	}
	before := len(h.Name)
	if h.Name == h.First {
		before = 0
	}
	if name == h.First {
		h.Name = h.First
		return f.occupy(-before)
	}
	h.Name = name
	return f.occupy(len(name) - before)
}
