package source

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"hb/source/innodb"
	"hb/source/redo"
	"hb/stream/disk"
)

// inventory keeps track of which tablespace is in which file, while DDL goes
// on. It looks into a file again only if that was written since.
type inventory struct {
	disk  disk.System
	known map[fileID]identified
	buf   []byte // one page
}

type identified struct {
	fileInfo
	space innodb.Space
}

func newInventory(system disk.System, pageSize int) *inventory {
	return &inventory{disk: system, known: make(map[fileID]identified), buf: make([]byte, pageSize)}
}

// found is what one look at the tablespaces brought.
type found struct {
	files    []*tablespaceFile // identified by their first page
	deferred []fileInfo        // page 0 is not written yet: only the redo log knows them
	lsn      innodb.LSN        // the server's before the look, where settle wants to know
}

// look identifies the listed files. What vanishes meanwhile is left out.
func (v *inventory) look(ctx context.Context, files []fileInfo) (found, error) {
	var out found
	for _, info := range files {
		t, err := v.identify(ctx, info)
		switch {
		case errors.Is(err, innodb.ErrZeroHeader):
			out.deferred = append(out.deferred, info)
		case err != nil:
			return out, err
		case t != nil:
			out.files = append(out.files, t)
		}
	}
	return out, nil
}

// identify reads a file's first page unless it is known from before. It
// returns nil for a file that is gone.
func (v *inventory) identify(ctx context.Context, info fileInfo) (*tablespaceFile, error) {
	t := &tablespaceFile{fileInfo: info, mayShrink: undoName.MatchString(info.name)}
	if old, ok := v.known[info.fileID]; ok && info.sameContent(old.fileInfo) {
		t.space.Space = old.space
		return t, nil
	}
	f, err := v.disk.Open(info.path)
	if err != nil {
		return nil, ignoreGone(err)
	}
	defer f.Close()
	if t.fileInfo, err = statOpen(f, info.path, info.name); err != nil {
		return nil, err
	}
	if t.space.Space, err = readSpace(ctx, f, v.buf); err != nil {
		return nil, fmt.Errorf("%s: %w", info.path, err)
	}
	v.known[t.fileID] = identified{t.fileInfo, t.space.Space}
	return t, nil
}

// unique refuses two files with one id: one of them is not the server's, and
// redo would go to either.
func (o *found) unique() error {
	paths := make(map[innodb.SpaceID]string)
	for _, t := range o.files {
		if other, ok := paths[t.space.ID]; ok && other != t.path {
			return &DuplicateError{t.space.ID, [2]string{other, t.path}}
		}
		paths[t.space.ID] = t.path
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

// settlement is the state of the tablespaces at the end: what they are called,
// and which the redo makes from nothing.
type settlement struct {
	now     map[spaceFile]string // name of each tablespace that exists
	stubs   []*tablespaceFile    // page 0 not written: their contents are all in the redo
	unknown []fileInfo           // page 0 not written, and the redo does not know them
}

// settle decides of the tablespaces that were there while DDL was locked out,
// with the redo of all DDL in hand, what each is. Every tablespace that the redo speaks of must be
// there: a backup without it would be found out only at its restore.
//
// made: the redo has the whole of a tablespace that it creates, which then need
// not be there; so it is with MariaDB. MySQL writes page 0 before it logs the
// creation.
//
// An ALTER TABLE that was under way when DDL was locked out goes on, and may
// create tables for full-text indexes. It cannot commit any more, so that they
// are left out: whoever recovers the backup makes them as far as the redo does, and
// the server drops them. A file of zeros in their place would not do: 10.5 writes
// page 0 to the file, then logs the creation, then page 0 once more, and the backup
// may end between the two; and its own tools refuse such a file.
func settle(look found, files map[innodb.SpaceID]redo.FileState, made bool) (settlement, error) {
	s := settlement{now: make(map[spaceFile]string)}
	there := make(map[innodb.SpaceID]bool)
	for _, t := range look.files {
		s.now[t.spaceFile()] = t.name
		there[t.space.ID] = true
	}
	byName := make(map[string]innodb.SpaceID)
	for id, state := range files {
		if !state.Deleted {
			byName[state.Name] = id
		}
	}
	for _, info := range look.deferred {
		id, ok := byName[info.name]
		switch {
		case !made || ok && files[id].Created == 0:
			return s, emptyPage0(info)
		case !ok:
			s.unknown = append(s.unknown, info)
		case files[id].Created <= look.lsn:
			t := &tablespaceFile{fileInfo: info, space: innodb.File{Space: innodb.Space{ID: id}}}
			s.now[t.spaceFile()] = t.name
			s.stubs = append(s.stubs, t)
		}
	}
	for id, state := range files {
		if there[id] || state.Deleted || strings.HasPrefix(path.Base(state.Name), temporaryTable) {
			continue
		}
		if state.Created == 0 || !made {
			return s, fmt.Errorf("tablespace %d (%s) is in the redo log, but its file was not found in the data directory", id, state.Name)
		}
	}
	return s, nil
}

// settle sends what the archive still lacks of tablespaces, and records their
// final names.
func (b *backup) settle(ctx context.Context) error {
	files := b.follower.Files()
	end, err := settle(b.last, files, !b.layout.General)
	if err != nil {
		return err
	}
	for _, info := range end.unknown {
		if err := b.inventory.young(ctx, info); err != nil {
			return err
		}
	}
	if !b.layout.General { // else the server's own list is compared
		if err := b.registry.vanished(b.last.files, files); err != nil {
			return err
		}
	}
	for _, t := range end.stubs {
		if err := b.sendStub(t); err != nil {
			return err
		}
	}
	b.now = end.now
	return nil
}

// young makes sure that a file whose page 0 was empty was just being created, so
// that it is no part of the backup: page 0 follows at once, or the file goes.
func (v *inventory) young(ctx context.Context, info fileInfo) error {
	wait := firstPageRetry
	for range pageRetries {
		_, err := v.identify(ctx, info)
		if !errors.Is(err, innodb.ErrZeroHeader) {
			return err
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait *= 2
	}
	return emptyPage0(info)
}

func emptyPage0(info fileInfo) error {
	return fmt.Errorf("%s: page 0 is empty, and the redo log does not create this file: "+
		"it is damaged, or no tablespace; move it away or repair the table", info.path)
}

// stubPages is how many pages a tablespace that has not been written has on
// disk (FIL_IBD_FILE_INITIAL_SIZE).
const stubPages = 4

// sendStub archives a tablespace whose creation is in the copied redo, which
// makes every page of it: the file need only exist. So it is where page 0 has not
// reached the file: the first checkpoint after its creation would have written
// it, so that it was created after the checkpoint at which the copy of the redo
// begins.
func (b *backup) sendStub(t *tablespaceFile) error {
	name, isNew := b.registry.add(t, 0)
	if !isNew {
		return nil
	}
	return b.archive.put(name, make([]byte, stubPages*b.pageSize))
}
