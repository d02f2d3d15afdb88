package backupdir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/metadata"
)

// State is the content of ApplyingName and HandedOverName: how far apply is.
type State struct {
	Stage string `json:"stage"` // one of the following, or "": not begun
	// The other fields are what the later stages need: where the redo log begins, the
	// LSN of the directory, and the format of its redo log.
	From   innodb.LSN `json:"from,omitempty"`
	End    innodb.LSN `json:"end,omitempty"`
	Format uint32     `json:"format,omitempty"`
	// Looked: the tablespaces were looked at, while their pages were as they were
	// copied, and Cut is which of them are cut. Before that apply changes nothing but
	// what fix-up files demand.
	Looked bool                             `json:"looked,omitempty"`
	Cut    map[innodb.SpaceID]innodb.PageNo `json:"cut,omitempty"`
	// Zero: the pages that were in use and zero then, in tablespaces that the log
	// changes; nil: not known.
	Zero map[innodb.SpaceID][]PageRange `json:"zero"`
	// NewMaster is the name of the master key of MySQL that the keys of all tablespaces
	// are to be encrypted by; "": they stay as they are.
	NewMaster string `json:"new_master,omitempty"`
	// Left is what apply found of such pages when all were recovered (StageFinish).
	Left Left `json:"left,omitzero"`
}

// PageRange is the pages of a tablespace from the first number up to the second,
// without that one.
type PageRange [2]innodb.PageNo

// Left is what is known of pages that are in use and zero in a recovered directory.
type Left struct {
	// Unwritten, by file, are those that the server had not written yet at the end of the
	// log: nothing is lost of them.
	Unwritten map[string][]innodb.PageNo `json:"unwritten,omitempty"`
	// Lost is a warning of those that the server had written; "": there are none.
	Lost string `json:"lost,omitempty"`
}

// The stages of apply.
const (
	StageReplay = "replay" // pages are being recovered
	StageFinish = "finish" // all pages are recovered and on disk
	StageServer = "server" // the redo log is being made one that a server finds
)

// formats are the redo formats of a family.
var formats = map[string]func(uint32) bool{
	metadata.FlavorMariaDB: func(f uint32) bool {
		return f == uint32(mariadbredo.Format105) || f == uint32(mariadbredo.Format108)
	},
	metadata.FlavorMySQL: func(f uint32) bool { return f <= uint32(mysqlredo.LastFormat) },
}

// maxState bounds the file's size in bytes. MaxPages bounds the ranges and pages in it.
const (
	maxState = 1 << 20
	MaxPages = 4096
)

// ReadState reads a state of that name; the zero State if the file does not exist.
func ReadState(root disk.Dir, name, flavor string) (State, error) {
	var s State
	text, err := root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil && len(text) > maxState {
		err = fmt.Errorf("%d bytes", len(text))
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil && s.Stage != StageReplay && s.Stage != StageServer &&
		(s.Stage != StageFinish || !formats[flavor](s.Format)) {
		err = fmt.Errorf("unknown stage %q", s.Stage)
	}
	if err != nil {
		return s, fmt.Errorf("reading %s: %w", name, err)
	}
	return s, nil
}

func WriteState(root disk.Dir, name string, s State) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return ReplaceFile(root, name, append(text, '\n'), nil)
}

// ReplaceFile gives a file new content, all or nothing, with the owner and mode
// of the file given.
func ReplaceFile(root disk.Dir, name string, content []byte, like fs.FileInfo) error {
	temporary := name + ExtTemporary
	mode := fs.FileMode(0o640)
	var own func(disk.File) error
	if like != nil {
		mode = like.Mode().Perm()
		own = func(f disk.File) error { return SameOwner(f, like) }
	}
	if err := disk.Replace(root, name, temporary, mode, content, own); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// SyncTree syncs the directory and those of the databases: names in them may
// have changed.
func SyncTree(root disk.Dir) error {
	top, err := root.ReadDir(".")
	if err != nil {
		return fmt.Errorf("listing the backup directory: %w", err)
	}
	for _, d := range top {
		if d.IsDir() {
			if err := SyncIn(root, d.Name()); err != nil {
				return err
			}
		}
	}
	return SyncIn(root, ".")
}

// HaveDir makes a directory for a database, unless it is there. It is on disk before
// any file comes into it: one that is moved there would be lost with it.
func HaveDir(root disk.Dir, name string) error {
	err := root.Mkdir(name, DirMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return SyncIn(root, ".")
}

func SyncIn(root disk.Dir, name string) error {
	if err := disk.SyncDir(root, name); err != nil {
		return fmt.Errorf("syncing directory %s: %w", name, err)
	}
	return nil
}
