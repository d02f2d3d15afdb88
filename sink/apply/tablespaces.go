package apply

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// fileRules are how a server family, or a series of it, treats the files of
// tablespaces.
type fileRules struct {
	// find finds the tablespaces that are not in the directory of a database,
	// except for the system tablespace.
	find func(t *tablespaces, root disk.Dir) error
	// path returns where in a backup the file is that the redo log names so.
	path func(h *replay.FileHistory, name string) (string, error)
	// renamed reports whether recovery gives the file the name that it has at
	// the end of the log; nil: it never does.
	renamed func(h *replay.FileHistory) bool
	// removes: recovery removes files that the log deletes.
	removes bool
	// extents: see replay.SetSizes.
	extents bool
	// lengthen: the server's recovery ends at a page past the end of its file
	// ("outside the tablespace bounds"), and files that grew after they were copied
	// must be as long as the log needs.
	lengthen bool
	// sysTables: the system tablespace has the dictionary of InnoDB, SYS_TABLES and others.
	sysTables bool
	// logged: the log has all that is in the pages of tablespaces that it creates, and of
	// those that it takes into use.
	logged bool
}

// tablespaces are those of a directory, with the redo log's records about them.
type tablespaces struct {
	root     disk.Dir
	backup   *backupdir.Backup
	rules    *fileRules
	log      *replay.Files
	all      []*replay.Tablespace
	ids      map[innodb.SpaceID]*replay.Tablespace
	zero     map[string]bool // files whose page 0 is not written yet
	ignored  map[innodb.SpaceID]bool
	stale    []*replay.Tablespace // that the log deletes
	moves    []*move              // by planMoves
	wanted   map[string]bool      // the names that files are to have, likewise
	cut      cutFiles             // before recovery
	changed  map[innodb.SpaceID]uint64
	before   map[innodb.SpaceID][]backupdir.PageRange // see listZero
	warnings []string
}

// findTablespaces looks at page 0 of every tablespace in the directory.
func findTablespaces(root disk.Dir, b *backupdir.Backup, rules *fileRules, log *replay.Files) (*tablespaces, error) {
	t := &tablespaces{
		root: root, backup: b, rules: rules, log: log, ids: make(map[innodb.SpaceID]*replay.Tablespace),
		zero: make(map[string]bool), ignored: make(map[innodb.SpaceID]bool),
	}
	if err := t.findSystem(root); err != nil {
		return nil, err
	}
	if err := rules.find(t, root); err != nil {
		return nil, err
	}
	err := backupdir.EachDatabaseFile(root, func(file string) error {
		switch ext := path.Ext(file); {
		case ext == backupdir.ExtTable:
			return t.findTable(root, file)
		case ext == ".delta", slices.Contains(backupdir.PackedExts, ext):
			return fmt.Errorf("%s is compressed, encrypted or incremental: use the tool that made this backup to unpack it first", file)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, t.findStale(root)
}

// findStale finds the files that the log deletes. Where the log has the LSN of the
// deletion, the file is taken out, unless it is newer: then a tablespace of the same
// id was imported.
func (t *tablespaces) findStale(root disk.Dir) error {
	for _, id := range slices.Sorted(maps.Keys(t.log.Named)) {
		h, s := t.log.Named[id], t.ids[id]
		if s == nil || s.Deferred || !h.Deleted {
			continue
		}
		if h.DeletedAt != 0 {
			lsn, err := backupdir.PageLSN(root, s.Files[0].Path)
			if err != nil {
				return err
			}
			if lsn >= h.DeletedAt {
				h.Deleted = false
				continue
			}
			delete(t.ids, id)
			t.all = slices.DeleteFunc(t.all, func(other *replay.Tablespace) bool { return other == s })
		}
		t.stale = append(t.stale, s)
	}
	return nil
}

func (t *tablespaces) add(space innodb.Space, files []replay.File, deferred bool) error {
	s := &replay.Tablespace{Space: space, Files: files, Deferred: deferred}
	if h := t.log.Named[space.ID]; h != nil {
		s.MinSize = h.MinSize
	}
	if other := t.ids[space.ID]; other != nil {
		return fmt.Errorf("%s and %s are both tablespace %d", other.Name(), s.Name(), space.ID)
	}
	if t.backup.LeftOut(space.ID) {
		return &backupdir.DamageError{File: s.Name(), Err: fmt.Errorf("it is tablespace %d, which this partial backup leaves out by its manifest", space.ID)}
	}
	if !deferred && space.Logical != t.backup.PageSize {
		return fmt.Errorf("%s has pages of %d bytes, the server of this backup %d", s.Name(), space.Logical, t.backup.PageSize)
	}
	t.ids[space.ID] = s
	t.all = append(t.all, s)
	return nil
}

func (t *tablespaces) findSystem(root disk.Dir) error {
	names := t.backup.SystemFiles
	space, err := backupdir.ReadSpace(root, names[0])
	if err == nil && space.ID != 0 {
		err = fmt.Errorf("it is tablespace %d", space.ID)
	}
	if err != nil {
		return fmt.Errorf("page 0 of %s: %w", names[0], err)
	}
	files := make([]replay.File, len(names))
	for i, name := range names {
		st, err := root.Stat(name)
		if err != nil {
			return fmt.Errorf("looking at the system tablespace: %w", err)
		}
		files[i] = replay.File{Path: name, Pages: innodb.PageNo(st.Size() / int64(space.Physical))}
	}
	return t.add(space, files, false)
}

// findUndo finds undo001, undo002 …. Their ids are consecutive, so that one
// whose page 0 was just being written is known by its neighbours.
func (t *tablespaces) findUndo(root disk.Dir) error {
	top, err := root.ReadDir(".")
	if err != nil {
		return fmt.Errorf("listing the backup directory: %w", err)
	}
	unknown := make(map[int]string)
	first := 0 // the id that undo000 would have
	for _, d := range top {
		digits, ok := strings.CutPrefix(d.Name(), "undo")
		n, err := strconv.Atoi(digits)
		if !ok || err != nil || len(digits) != 3 || d.IsDir() {
			continue
		}
		space, err := backupdir.ReadSpace(root, d.Name())
		switch {
		case errors.Is(err, innodb.ErrZeroHeader):
			unknown[n] = d.Name()
			continue
		case err != nil:
			return fmt.Errorf("page 0 of %s: %w", d.Name(), err)
		}
		first = int(space.ID) - n
		if err := t.add(space, []replay.File{{Path: d.Name()}}, false); err != nil {
			return err
		}
	}
	for n, name := range unknown {
		id := innodb.SpaceID(first + n)
		if err := t.add(innodb.Space{ID: id}, []replay.File{{Path: name}}, true); err != nil {
			return err
		}
	}
	return nil
}

func (t *tablespaces) findTable(root disk.Dir, file string) error {
	space, err := backupdir.ReadSpace(root, file)
	if errors.Is(err, innodb.ErrZeroHeader) {
		t.zero[file] = true
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && space.ID == 0 {
		err = errors.New("it says it is the system tablespace")
	}
	if err != nil {
		return fmt.Errorf("page 0 of %s: %w", file, err)
	}
	return t.add(space, []replay.File{{Path: file}}, false)
}

// byID implements replay.Options.Tablespace, after resolve.
func (t *tablespaces) byID(id innodb.SpaceID) (*replay.Tablespace, error) {
	if t.ignored[id] {
		return nil, nil
	}
	s := t.ids[id]
	if s == nil {
		return nil, &innodb.InternalError{What: fmt.Sprintf("tablespace %d was not resolved", id)}
	}
	return s, nil
}

// resolve decides for every tablespace that the redo log changes which file it
// is, or why its changes do not matter. Anything else would be a table that the
// server finds missing.
func (t *tablespaces) resolve(changed map[innodb.SpaceID]uint64) error {
	t.changed = changed
	for _, id := range slices.Sorted(maps.Keys(changed)) {
		if err := t.resolveOne(id); err != nil {
			return err
		}
	}
	return t.checkZero()
}

// checkZero makes sure that no file is left whose page 0 is neither there nor
// in the redo log.
func (t *tablespaces) checkZero() error {
	for _, h := range t.log.Named {
		if name, err := t.rules.path(h, h.Name); err == nil && h.Deleted {
			delete(t.zero, name)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(t.zero)) {
		if !strings.HasPrefix(path.Base(file), "#sql") {
			return backupdir.Missing("%s: page 0 is neither in the file nor in the redo log: the backup is incomplete", file)
		}
	}
	return nil
}

// checkDeferred makes sure that the redo log makes what page 0 is not there of.
func (t *tablespaces) checkDeferred(plan *replay.Plan) error {
	for _, s := range t.all {
		if s.Deferred && !plan.Begins(s.Space.ID) {
			return backupdir.Missing("%s: page 0 is neither in the file nor in the redo log: the backup is incomplete", s.Name())
		}
	}
	return nil
}

func (t *tablespaces) resolveOne(id innodb.SpaceID) error {
	if t.backup.LeftOut(id) {
		t.ignored[id] = true
		return nil
	}
	h := t.log.Named[id]
	if h != nil && h.Deleted && (!h.Again || t.ids[id] == nil) || t.backup.Temporary(id) {
		t.ignored[id] = true
		return nil
	}
	if t.ids[id] != nil {
		return nil
	}
	if h == nil || h.Name == "" {
		if t.backup.Partial {
			t.ignore(id, fmt.Sprintf("tablespace %d is not in this partial backup: the redo log's changes to it were left out", id))
			return nil
		}
		return backupdir.Missing("the backup is incomplete: the redo log changes tablespace %d, but the backup has no file with that id and the log does not name one", id)
	}
	name, err := t.rules.path(h, h.Name)
	if err != nil {
		return fmt.Errorf("the redo log names tablespace %d: %w", id, err)
	}
	if strings.HasPrefix(path.Base(name), "#sql") {
		// A table that an ALTER or DROP was not done with: never copied, and
		// dropped by the server at its start.
		t.ignored[id] = true
		return nil
	}
	return t.resolveNamed(id, h, name)
}

// resolveNamed decides of a tablespace that the log calls so, and that is in no
// file with its id.
func (t *tablespaces) resolveNamed(id innodb.SpaceID, h *replay.FileHistory, name string) error {
	first, err := t.rules.path(h, h.First)
	if err != nil {
		return fmt.Errorf("the redo log names tablespace %d: %w", id, err)
	}
	for _, file := range []string{name, first, asideName(name, id)} {
		if t.zero[file] {
			delete(t.zero, file)
			return t.add(innodb.Space{ID: id}, []replay.File{{Path: file}}, true)
		}
	}
	left, err := t.leftOut(name)
	if err != nil {
		return err
	}
	switch {
	case left:
		t.ignore(id, fmt.Sprintf("%s is not in this partial backup: the redo log's changes to it were left out", name))
		return nil
	case h.Created && h.Unlogged:
		return backupdir.Missing("%s (tablespace %d) is missing: the redo log creates it, but not all of its pages are in there: the backup is incomplete", name, id)
	case h.Created:
		// Another tablespace may have the name yet, which the log renames or
		// deletes.
		taken, err := backupdir.Exists(t.root, name)
		if err != nil {
			return fmt.Errorf("looking at tablespaces: %w", err)
		}
		if taken {
			name = asideName(name, id)
		}
		return t.add(innodb.Space{ID: id}, []replay.File{{Path: name}}, true)
	case t.backup.Partial:
		t.ignore(id, fmt.Sprintf("%s is not in this partial backup: the redo log's changes to it were left out", name))
		return nil
	}
	return backupdir.Missing("%s (tablespace %d) is missing: the redo log changes it and does not record that it was dropped: the backup is incomplete", name, id)
}

// checkReused refuses to leave a log to a server that deletes a tablespace and changes it
// later under the same id, as DISCARD and IMPORT TABLESPACE do. The recovery of servers
// leaves out all records of a tablespace that the log deletes. A server never has such a
// log itself, as each import ends with a checkpoint; a backup has one if it began before.
// Then MySQL 5.7 and MariaDB 10.5 and 11.8 started, and the table lacked what was
// committed after the import, which CHECK TABLE did not see; 5.6 crashed. That one
// deletes the file itself (deletes), whatever is in it by now: it crashed also where
// nothing was changed after the import.
func (t *tablespaces) checkReused(dir string, deletes bool) error {
	for _, id := range slices.Sorted(maps.Keys(t.ids)) {
		h := t.log.Named[id]
		if h != nil && deletes && h.DeletedAt != 0 {
			return notByServer(dir, "the redo log deletes %s (tablespace %d), as ALTER TABLE … IMPORT TABLESPACE does, and a server would delete what was imported", t.ids[id].Name(), id)
		}
		if h != nil && h.Again {
			return notByServer(dir, "the redo log deletes %s (tablespace %d) and changes it after that, as ALTER TABLE … IMPORT TABLESPACE does, and a server would leave those changes out", t.ids[id].Name(), id)
		}
	}
	return nil
}

// leftOut reports whether a partial backup leaves out the whole database of a table:
// it has no directory. Then the files that the log creates there were left out, too.
func (t *tablespaces) leftOut(name string) (bool, error) {
	if dir := path.Dir(name); t.backup.Partial && dir != "." {
		there, err := backupdir.Exists(t.root, dir)
		if err != nil {
			return false, fmt.Errorf("looking at tablespaces: %w", err)
		}
		return !there, nil
	}
	return false, nil
}

func (t *tablespaces) ignore(id innodb.SpaceID, warning string) {
	t.ignored[id] = true
	t.warnings = append(t.warnings, warning)
}

// move is a file's way to its name at the end of the log.
type move struct {
	space *replay.Tablespace
	was   string // its name in the backup, for messages; "": the log creates it
	to    string
}

func (m *move) from() string { return m.space.Files[0].Path }

func (m *move) rename(root disk.Dir, to string) error {
	if err := root.Rename(m.from(), to); err != nil {
		return err
	}
	m.space.Files[0].Path = to
	return nil
}

// asideName is a tablespace's temporary name, beside a name, while it cannot
// have that. No table has such a name: a server encodes the hyphen.
func asideName(name string, id innodb.SpaceID) string {
	return path.Join(path.Dir(name), backupdir.MovedName(id)+backupdir.ExtTable)
}

// planMoves lists the files that do not have their names yet, and makes sure that
// the names are free, or will be: before anything is written.
func (t *tablespaces) planMoves() error {
	t.wanted = make(map[string]bool)
	free := make(map[string]bool) // names that files have, but not for long
	for _, s := range t.stale {
		free[s.Name()] = true
	}
	for _, id := range slices.Sorted(maps.Keys(t.log.Named)) {
		m, err := t.moveOf(id)
		if err != nil {
			return err
		}
		if m != nil {
			t.moves = append(t.moves, m)
			free[m.from()] = true
		}
	}
	for _, m := range t.moves {
		taken, err := t.wanted[m.to], error(nil)
		if !taken && !free[m.to] {
			taken, err = backupdir.Exists(t.root, m.to)
		}
		if err == nil && taken {
			err = errors.New("another tablespace has that name")
		}
		if err != nil {
			return fmt.Errorf("renaming %s to %s, as the redo log says: %w", m.from(), m.to, err)
		}
		t.wanted[m.to] = true
	}
	return nil
}

// moveOf returns the move of a tablespace, nil if there is none.
func (t *tablespaces) moveOf(id innodb.SpaceID) (*move, error) {
	h, s := t.log.Named[id], t.ids[id]
	if s == nil || h.Deleted || h.Name == "" {
		return nil, nil
	}
	from := s.Files[0].Path
	was := from
	if from == asideName(from, id) {
		if was = ""; h.Renamed {
			was = h.First
		}
	} else if t.rules.renamed == nil || !t.rules.renamed(h) {
		return nil, nil
	}
	to, err := t.rules.path(h, h.Name)
	if err != nil {
		return nil, fmt.Errorf("the redo log names tablespace %d: %w", id, err)
	}
	if from == to {
		return nil, nil
	}
	return &move{s, was, to}, nil
}

// settleNames gives files the names that they have at the redo log's end, and removes
// those that it deletes, as far as the server does so after a crash or another file
// is to have the name. Backup tools have seen to that already, so that there is
// normally nothing to do.
//
// It can be interrupted, and a crash can lose any of the renames: when it runs again
// it relies only on the ids in the files. So no rename relies on one that is not on
// disk. First files give up the names that others are to have, then all take their
// own.
func (t *tablespaces) settleNames(root disk.Dir) error {
	if err := t.removeStale(root); err != nil {
		return err
	}
	given := false
	for _, m := range t.moves {
		from := m.from()
		if !t.wanted[from] {
			continue
		}
		if err := m.rename(root, asideName(from, m.space.Space.ID)); err != nil {
			return fmt.Errorf("renaming %s, whose name another tablespace has by the redo log: %w", from, err)
		}
		given = true
	}
	if given {
		if err := backupdir.SyncTree(root); err != nil {
			return err
		}
	}
	for _, m := range t.moves {
		if err := t.take(root, m); err != nil {
			return err
		}
	}
	return nil
}

// take gives a file its name.
func (t *tablespaces) take(root disk.Dir, m *move) error {
	err := backupdir.HaveDir(root, path.Dir(m.to))
	if err == nil {
		err = m.rename(root, m.to)
	}
	if err != nil {
		return fmt.Errorf("renaming %s to %s, as the redo log says: %w", m.from(), m.to, err)
	}
	if m.was != "" {
		t.warnings = append(t.warnings, fmt.Sprintf("renamed %s to %s, as the redo log says", m.was, m.to))
	}
	return nil
}

// removeStale removes the files that the log deletes.
func (t *tablespaces) removeStale(root disk.Dir) error {
	for _, s := range t.stale {
		name := s.Name()
		if !t.rules.removes && !t.wanted[name] {
			continue
		}
		if err := root.Remove(name); err != nil {
			return fmt.Errorf("removing a table that the redo log says was dropped: %w", err)
		}
		t.warnings = append(t.warnings, fmt.Sprintf("removed %s, which the redo log says was dropped", name))
	}
	return nil
}
