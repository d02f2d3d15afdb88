package sink

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"hb/sink/replay"
	"hb/source/innodb"
	"hb/stream/disk"
)

// fileRules are what a server family, or a series of it, makes of the files of
// tablespaces.
type fileRules struct {
	// find finds the tablespaces that are not in the directory of a database,
	// but for the system tablespace.
	find func(t *tablespaces, root disk.Dir) error
	// path returns where in a backup the file is that the redo log names so.
	path func(h *replay.FileHistory, name string) (string, error)
	// renamed reports whether recovery gives the file the name that it has at
	// the end of the log; nil: it never does.
	renamed func(h *replay.FileHistory) bool
	// removes: recovery removes files that the log says were deleted.
	removes bool
	// extents: see replay.SetSizes.
	extents bool
}

// tablespaces are those of a directory, and what the redo log says of them.
type tablespaces struct {
	backup   *backupDir
	rules    *fileRules
	log      *replay.Files
	all      []*replay.Tablespace
	ids      map[innodb.SpaceID]*replay.Tablespace
	zero     map[string]bool // files whose page 0 is not written yet
	ignored  map[innodb.SpaceID]bool
	stale    []*replay.Tablespace // that the log deletes
	warnings []string
}

// findTablespaces looks at page 0 of every tablespace in the directory.
func findTablespaces(root disk.Dir, b *backupDir, rules *fileRules, log *replay.Files) (*tablespaces, error) {
	t := &tablespaces{
		backup: b, rules: rules, log: log, ids: make(map[innodb.SpaceID]*replay.Tablespace),
		zero: make(map[string]bool), ignored: make(map[innodb.SpaceID]bool),
	}
	if err := t.findSystem(root); err != nil {
		return nil, err
	}
	if err := rules.find(t, root); err != nil {
		return nil, err
	}
	err := eachDatabaseFile(root, func(file string) error {
		switch ext := path.Ext(file); {
		case ext == extTable:
			return t.findTable(root, file)
		case ext == ".delta", slices.Contains(packedExts, ext):
			return fmt.Errorf("%s is compressed, encrypted or incremental: use the tool that made this backup to unpack it first", file)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, t.findStale(root)
}

// findStale takes out what the log says was deleted, unless it is newer than
// that: a tablespace of the same id was imported then.
func (t *tablespaces) findStale(root disk.Dir) error {
	for _, id := range slices.Sorted(maps.Keys(t.log.Named)) {
		h, s := t.log.Named[id], t.ids[id]
		if s == nil || s.Deferred || !h.Deleted || h.DeletedAt == 0 {
			continue
		}
		lsn, err := pageLSN(root, s.Files[0].Path)
		if err != nil {
			return err
		}
		if lsn >= h.DeletedAt {
			h.Deleted = false
			continue
		}
		delete(t.ids, id)
		t.all = slices.DeleteFunc(t.all, func(other *replay.Tablespace) bool { return other == s })
		t.stale = append(t.stale, s)
	}
	return nil
}

func (t *tablespaces) add(space innodb.Space, files []replay.File, deferred bool) error {
	s := &replay.Tablespace{Space: space, Files: files, Deferred: deferred}
	if h := t.log.Named[space.ID]; h != nil {
		s.Unlogged, s.MinSize = h.Unlogged, h.MinSize
	}
	if other := t.ids[space.ID]; other != nil {
		return fmt.Errorf("%s and %s are both tablespace %d", other.Name(), s.Name(), space.ID)
	}
	if !deferred && space.Logical != t.backup.pageSize {
		return fmt.Errorf("%s has pages of %d bytes, the server of this backup %d", s.Name(), space.Logical, t.backup.pageSize)
	}
	t.ids[space.ID] = s
	t.all = append(t.all, s)
	return nil
}

func (t *tablespaces) findSystem(root disk.Dir) error {
	names := t.backup.systemFiles
	space, err := readSpace(root, names[0])
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
// whose page 0 was just being written anew is known by its neighbours.
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
		space, err := readSpace(root, d.Name())
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
	space, err := readSpace(root, file)
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
		return nil, fmt.Errorf("internal error: tablespace %d was not resolved", id)
	}
	return s, nil
}

// resolve decides for every tablespace that the redo log changes which file it
// is, or why its changes do not matter. Anything else would be a table that the
// server finds missing.
func (t *tablespaces) resolve(changed map[innodb.SpaceID]uint64) error {
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
			return missing("%s: page 0 is neither in the file nor in the redo log: the backup is incomplete", file)
		}
	}
	return nil
}

// checkDeferred makes sure that the redo log makes what page 0 is not there of.
func (t *tablespaces) checkDeferred(plan *replay.Plan) error {
	for _, s := range t.all {
		if s.Deferred && !plan.Begins(s.Space.ID) {
			return missing("%s: page 0 is neither in the file nor in the redo log: the backup is incomplete", s.Name())
		}
	}
	return nil
}

func (t *tablespaces) resolveOne(id innodb.SpaceID) error {
	h := t.log.Named[id]
	if h != nil && h.Deleted || t.backup.temporary(id) {
		t.ignored[id] = true
		return nil
	}
	if t.ids[id] != nil {
		return nil
	}
	if h == nil || h.Name == "" {
		if t.backup.partial {
			t.ignore(id, fmt.Sprintf("tablespace %d is not in this partial backup: the redo log's changes to it were left out", id))
			return nil
		}
		return missing("the redo log changes tablespace %d, of which it gives no name and there is no file: the backup is incomplete", id)
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
	for _, file := range []string{name, first} {
		if t.zero[file] {
			delete(t.zero, file)
			return t.add(innodb.Space{ID: id}, []replay.File{{Path: file}}, true)
		}
	}
	switch {
	case h.Created && h.Unlogged:
		return missing("%s (tablespace %d) is missing: the redo log creates it, but not all of its pages are in there: the backup is incomplete", name, id)
	case h.Created:
		return t.add(innodb.Space{ID: id}, []replay.File{{Path: name}}, true)
	case t.backup.partial:
		t.ignore(id, fmt.Sprintf("%s is not in this partial backup: the redo log's changes to it were left out", name))
		return nil
	}
	return missing("%s (tablespace %d) is missing: the redo log changes it, and does not say that it was dropped: the backup is incomplete", name, id)
}

func (t *tablespaces) ignore(id innodb.SpaceID, warning string) {
	t.ignored[id] = true
	t.warnings = append(t.warnings, warning)
}

// move is a file's way to its name at the end of the log.
type move struct {
	space    *replay.Tablespace
	from, to string
	aside    bool
}

// settleNames gives files the names that the redo log says they have at its
// end, and removes those that it says were deleted, as far as the server does so
// after a crash. Backup tools have seen to that already, so that there is
// normally nothing to do. Interrupted, it begins anew: all goes by the ids in
// the files.
func (t *tablespaces) settleNames(root disk.Dir) error {
	for _, s := range t.stale {
		if !t.rules.removes {
			break
		}
		if err := root.Remove(s.Name()); err != nil {
			return fmt.Errorf("removing a table that the redo log says was dropped: %w", err)
		}
		t.warnings = append(t.warnings, fmt.Sprintf("removed %s, which the redo log says was dropped", s.Name()))
	}
	moves, err := t.moves()
	if err != nil {
		return err
	}
	for len(moves) > 0 {
		if moves, err = t.makeMoves(root, moves); err != nil {
			return err
		}
	}
	return nil
}

// moves lists the files that do not have their names yet.
func (t *tablespaces) moves() ([]*move, error) {
	if t.rules.renamed == nil {
		return nil, nil
	}
	var moves []*move
	for _, id := range slices.Sorted(maps.Keys(t.log.Named)) {
		h, s := t.log.Named[id], t.ids[id]
		if s == nil || h.Deleted || h.Name == "" || !t.rules.renamed(h) {
			continue
		}
		to, err := t.rules.path(h, h.Name)
		if err != nil {
			return nil, fmt.Errorf("the redo log names tablespace %d: %w", id, err)
		}
		if from := s.Files[0].Path; from != to {
			moves = append(moves, &move{space: s, from: from, to: to})
		}
	}
	return moves, nil
}

// makeMoves makes those that can be made and returns the others. If none can,
// it moves a file that another one waits for out of its way.
func (t *tablespaces) makeMoves(root disk.Dir, moves []*move) (left []*move, err error) {
	for _, m := range moves {
		taken, err := exists(root, m.to)
		if err == nil && taken {
			left = append(left, m)
			continue
		}
		if err == nil {
			err = m.rename(root, m.to)
		}
		if err != nil {
			return nil, fmt.Errorf("renaming %s to %s, as the redo log says: %w", m.from, m.to, err)
		}
		t.warnings = append(t.warnings, fmt.Sprintf("renamed %s to %s, as the redo log says", m.from, m.to))
	}
	if len(left) < len(moves) {
		return left, nil
	}
	for _, m := range left {
		for _, other := range left {
			if other.space.Files[0].Path == m.to && !other.aside {
				other.aside = true
				return left, other.rename(root, strings.TrimSuffix(m.to, extTable)+extMoved+extTable)
			}
		}
	}
	return nil, fmt.Errorf("renaming %s to %s, as the redo log says: another tablespace has that name", left[0].from, left[0].to)
}

func (m *move) rename(root disk.Dir, to string) error {
	if err := root.Rename(m.space.Files[0].Path, to); err != nil {
		return err
	}
	m.space.Files[0].Path = to
	return nil
}
