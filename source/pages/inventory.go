package pages

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"

	"hb/source/datadir"
	"hb/source/redo"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
)

// Inventory keeps track of which tablespace is in which file, while DDL goes
// on. It reads a file again only if that was written since.
type Inventory struct {
	// Keys are those of encrypted tablespaces; nil: there are none.
	Keys *keyring.Keys

	disk  disk.System
	known map[datadir.FileID]identified
	buf   []byte // one page
}

type identified struct {
	datadir.File
	space innodb.Space
	read  time.Time // when it was looked at
}

// clockStep is more than any file system's time stamps lag behind: their clock goes
// in steps, and what is written twice in one of them has the same time stamps.
const clockStep = 2 * time.Second

// settled reports whether any change since the look would show: IMPORT TABLESPACE
// writes another id into page 0 of a file that was copied to its place just before.
func (i *identified) settled() bool {
	return i.read.Sub(time.Unix(0, max(i.Modified, i.Changed))) > clockStep
}

// NewInventory returns an inventory that knows no file yet. pageSize is
// innodb_page_size, bytes.
func NewInventory(system disk.System, pageSize int) *Inventory {
	return &Inventory{disk: system, known: make(map[datadir.FileID]identified), buf: make([]byte, pageSize)}
}

// Found is what one look at the tablespaces brought.
type Found struct {
	Files    []*File        // identified by their first page
	Deferred []datadir.File // page 0 is not written yet: only the redo log knows them
	// Left and LeftDeferred are likewise those that the backup leaves out by its scope: they
	// prove that a tablespace is out of it, and not lost.
	Left         []*File
	LeftDeferred []datadir.File
	LSN          innodb.LSN // the server's before the look, where Settle wants to know
}

// Look identifies the listed files. It leaves out files that vanish in the meantime.
func (v *Inventory) Look(ctx context.Context, files []datadir.File) (Found, error) {
	var out Found
	for _, info := range files {
		t, err := v.identify(ctx, info)
		switch {
		case errors.Is(err, innodb.ErrZeroHeader):
			out.Deferred = append(out.Deferred, info)
		case err != nil:
			return out, err
		case t != nil:
			out.Files = append(out.Files, t)
		}
	}
	return out, nil
}

// identify reads a file's first page unless it is known from before. It
// returns nil for a file that is gone.
func (v *Inventory) identify(ctx context.Context, info datadir.File) (*File, error) {
	t := &File{File: info, undo: datadir.TruncatedInPlace(info.Name)}
	if old, ok := v.known[info.FileID]; ok && info.SameContent(old.File) && old.settled() {
		t.Space.Space = old.space
		return t, nil
	}
	f, err := v.disk.OpenRegular(info.Path, info.Linked)
	if err != nil {
		return nil, datadir.IgnoreGone(err)
	}
	defer f.Close()
	read := time.Now()
	if t.File, err = datadir.StatOpen(f, info); err != nil {
		return nil, err
	}
	if t.Space.Space, err = readSpace(ctx, f, v.Keys, v.buf); err != nil {
		return nil, fmt.Errorf("%s: %w", info.Path, err)
	}
	v.known[t.FileID] = identified{t.File, t.Space.Space, read}
	return t, nil
}

// Unique refuses two files with one id: one of them is not the server's, and
// redo would go to either.
func (o *Found) Unique() error {
	paths := make(map[innodb.SpaceID]string)
	for _, t := range slices.Concat(o.Files, o.Left) {
		if other, ok := paths[t.Space.ID]; ok && other != t.Path {
			return &DuplicateError{t.Space.ID, [2]string{other, t.Path}}
		}
		paths[t.Space.ID] = t.Path
	}
	return nil
}

// DuplicateError says that two files claim to be the same tablespace.
type DuplicateError struct {
	ID    innodb.SpaceID
	Paths [2]string
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("%s and %s both say they are tablespace %d: one of them is a stray copy; move it out of the data directory",
		e.Paths[0], e.Paths[1], e.ID)
}

// Settlement is the state of the tablespaces at the end: what they are called,
// and which the redo makes from nothing.
type Settlement struct {
	Now     map[Key]string // name of each tablespace that exists
	Stubs   []*File        // page 0 not written: their contents are all in the redo
	Unknown []datadir.File // page 0 not written, and the redo does not know them
	Empty   []datadir.File // likewise, and there is not a byte in them
	// Left are the tablespaces that the backup leaves out by its scope, and of which the redo
	// log may have changes.
	Left []innodb.SpaceID
}

// Rules are the properties of a server that Settle needs.
type Rules struct {
	LogsCreation bool // the redo has the whole of a tablespace that it creates: MariaDB
	// Listed are the tablespaces that the server listed last, while DDL went on; nil:
	// it does not list them.
	Listed map[innodb.SpaceID]bool
	// Named are the names of which a file must have one, unless the redo names its
	// tablespace: by where the server had those that it listed then.
	Named map[innodb.SpaceID][]string
	// Has reports whether the backup is of the tablespace in a file of that name; nil: it
	// is of all.
	Has func(name string) bool
}

// Settle classifies the tablespaces that were listed while DDL was locked out, using
// the redo of all DDL up to that point. Every tablespace that the redo names must be
// there: otherwise the loss would only surface at restore.
//
// MariaDB's redo has the whole of a tablespace that it creates, which then need not
// be there; MySQL writes page 0 before it logs the creation. A tablespace that
// MariaDB's redo only names need not be there either, if the
// server does not list it: a checkpoint between the two halves of DROP TABLE
// names a file that is gone (fil_delete_tablespace, fil_names_clear). The server's
// recovery accepts that too: it asks for the file only if there are records of the
// tablespace's pages (recv_validate_tablespace in log0recv.cc: "there were no
// modifications either").
//
// An ALTER TABLE that was under way when DDL was locked out goes on, and may
// create tables for full-text indexes. It cannot commit any more, so that they
// are left out: whoever recovers the backup makes them as far as the redo does, and
// the server drops them. A file of zeros in their place would not do: 10.5 writes
// page 0 to the file, then logs the creation, then page 0 once more, and the backup
// may end between the two; and its own tools refuse such a file.
//
// A tablespace is out of the scope of a partial backup if a file of its id has a name that
// is; or, if the redo makes all of it, if that name is.
func Settle(look Found, files map[innodb.SpaceID]*redo.FileState, rules Rules) (Settlement, error) {
	s := Settlement{Now: make(map[Key]string)}
	there := make(map[innodb.SpaceID]bool)
	undo := make(map[int]bool) // by number: one that is truncated has another id then
	for _, t := range look.Files {
		s.Now[t.Key()] = t.Name
		there[t.Space.ID] = true
		if err := rules.checkName(t, files[t.Space.ID]); err != nil {
			return s, err
		}
		if n := innodb.UndoNumber(t.Space.ID); n > 0 {
			undo[n] = true
		}
	}
	for _, t := range look.Left {
		there[t.Space.ID] = true
		s.Left = append(s.Left, t.Space.ID)
		if err := rules.checkName(t, files[t.Space.ID]); err != nil {
			return s, err
		}
	}
	byName := make(map[string]innodb.SpaceID)
	for id, state := range files {
		if !state.Deleted && state.Path != "" {
			byName[state.Name()] = id
		}
	}
	for _, info := range slices.Concat(look.Deferred, look.LeftDeferred) {
		id, ok := byName[info.Name]
		switch {
		case !ok && info.Size == 0:
			s.Empty = append(s.Empty, info)
		case !rules.LogsCreation || ok && files[id].Created == 0:
			return s, emptyPage0(info)
		case !ok:
			s.Unknown = append(s.Unknown, info)
		case rules.leaves(info.Name): // it is made by the redo: see below
		case files[id].Created <= look.LSN:
			t := &File{File: info, Space: innodb.File{Space: innodb.Space{ID: id}}}
			s.Now[t.Key()] = t.Name
			s.Stubs = append(s.Stubs, t)
		}
	}
	for id, state := range files {
		if id == 0 { // the system tablespace: its files are not among those found
			continue
		}
		if !there[id] && !state.Deleted && rules.LogsCreation && state.Created != 0 && rules.leaves(state.Name()) {
			s.Left = append(s.Left, id)
		}
		if !there[id] && !state.Deleted && !undo[innodb.UndoNumber(id)] && !rules.dispensable(id, state) && !datadir.IsTemporaryTable(path.Base(state.Path)) {
			return s, fmt.Errorf("tablespace %d (%s) is in the redo log, but its file was not found in the data directory", id, state.Name())
		}
	}
	return s, nil
}

// leaves reports whether the backup leaves out a tablespace by the name of its file.
func (r Rules) leaves(name string) bool { return r.Has != nil && !r.Has(name) }

// checkName makes sure that nobody moved a table's file: the server, which holds it open,
// would not notice, and a server on the backup would not find it. MySQL's list is
// compared with the files while it cannot change.
func (r Rules) checkName(t *File, state *redo.FileState) error {
	if !r.LogsCreation || path.Ext(t.Name) != ".ibd" || state != nil && state.Deleted {
		return nil
	}
	names := r.Named[t.Space.ID]
	if state != nil && state.Path != "" {
		names = []string{state.Name()}
	}
	if len(names) == 0 || slices.Contains(names, t.Name) {
		return nil
	}
	return &MovedError{t.Space.ID, t.Path, names[0]}
}

// MovedError says that a table's file is not where the server has it.
type MovedError struct {
	ID   innodb.SpaceID
	Path string
	Name string // that it must have
}

func (e *MovedError) Error() string {
	return fmt.Sprintf("%s is tablespace %d, which the server has as %s: somebody moved the file, and a restored server would not find it there; stop the server, and bring the file back",
		e.Path, e.ID, e.Name)
}

// dispensable reports whether a tablespace that the redo tells of, and does not
// delete, need not have a file: see Settle. That pages are changed of a tablespace
// without a name is so of the undo tablespaces.
func (r Rules) dispensable(id innodb.SpaceID, state *redo.FileState) bool {
	if !r.LogsCreation {
		return false
	}
	return state.Path == "" || state.Created != 0 || !state.Changed && r.Listed != nil && !r.Listed[id]
}

// Young makes sure that a file whose page 0 was empty was just being created, so
// that it is not part of the backup: page 0 follows at once, or the file goes.
func (v *Inventory) Young(ctx context.Context, info datadir.File) error {
	wait := datadir.FirstRetry
	for range datadir.Retries {
		_, err := v.identify(ctx, info)
		if !errors.Is(err, innodb.ErrZeroHeader) {
			return err
		}
		if err := datadir.Pause(ctx, wait); err != nil {
			return err
		}
		wait *= 2
	}
	return emptyPage0(info)
}

func emptyPage0(info datadir.File) error {
	return fmt.Errorf("%s: page 0 is empty, and the redo log does not create this file: "+
		"it is damaged, or no tablespace; move it away or repair the table", info.Path)
}
