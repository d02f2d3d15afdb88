package sink

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"hb/sink/replay"
	"hb/sink/replay/mariadb"
	"hb/source/innodb"
)

// tablespaces are those of a directory, and what the redo log says of them.
type tablespaces struct {
	backup   *backupDir
	log      *mariadb.Files
	all      []*replay.Tablespace
	ids      map[innodb.SpaceID]*replay.Tablespace
	zero     map[string]bool // files whose page 0 is not written yet
	ignored  map[innodb.SpaceID]bool
	warnings []string
}

// findTablespaces looks at page 0 of every tablespace in the directory.
func findTablespaces(root *os.Root, b *backupDir, log *mariadb.Files) (*tablespaces, error) {
	t := &tablespaces{
		backup: b, log: log, ids: make(map[innodb.SpaceID]*replay.Tablespace),
		zero: make(map[string]bool), ignored: make(map[innodb.SpaceID]bool),
	}
	if err := t.findSystem(root); err != nil {
		return nil, err
	}
	if err := t.findUndo(root); err != nil {
		return nil, err
	}
	err := eachDatabaseFile(root, func(file string) error {
		switch ext := path.Ext(file); ext {
		case extTable:
			return t.findTable(root, file)
		case ".qp", ".zst", ".lz4", ".xbcrypt", ".delta":
			return fmt.Errorf("%s is compressed, encrypted or incremental: use the tool that made this backup to unpack it first", file)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (t *tablespaces) add(space innodb.Space, files []replay.File, deferred bool) error {
	s := &replay.Tablespace{Space: space, Files: files, Deferred: deferred}
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

func (t *tablespaces) findSystem(root *os.Root) error {
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
func (t *tablespaces) findUndo(root *os.Root) error {
	top, err := fs.ReadDir(root.FS(), ".")
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

func (t *tablespaces) findTable(root *os.Root, file string) error {
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
		if name, err := tablePath(h.Name); err == nil && h.Deleted {
			delete(t.zero, name)
		}
	}
	for _, file := range slices.Sorted(maps.Keys(t.zero)) {
		if !strings.HasPrefix(path.Base(file), "#sql") {
			return fmt.Errorf("%s: page 0 is neither in the file nor in the redo log: the backup is incomplete", file)
		}
	}
	return nil
}

func (t *tablespaces) resolveOne(id innodb.SpaceID) error {
	h := t.log.Named[id]
	if h != nil && h.Deleted {
		t.ignored[id] = true
		return nil
	}
	if t.ids[id] != nil {
		return nil
	}
	if h == nil {
		if t.backup.partial {
			t.ignore(id, fmt.Sprintf("tablespace %d is not in this partial backup: the redo log's changes to it were left out", id))
			return nil
		}
		return fmt.Errorf("the redo log changes tablespace %d, of which it gives no name and there is no file: the backup is incomplete", id)
	}
	name, err := tablePath(h.Name)
	if err != nil {
		return fmt.Errorf("the redo log names tablespace %d: %w", id, err)
	}
	if strings.HasPrefix(path.Base(name), "#sql") {
		// A table that an ALTER or DROP was not done with: never copied, and
		// dropped by the server at its start.
		t.ignored[id] = true
		return nil
	}
	first, err := tablePath(h.First)
	if err != nil {
		return fmt.Errorf("the redo log names tablespace %d: %w", id, err)
	}
	for _, file := range []string{name, first} {
		if t.zero[file] {
			delete(t.zero, file)
			return t.add(innodb.Space{ID: id}, []replay.File{{Path: file}}, true)
		}
	}
	if h.Created {
		return t.add(innodb.Space{ID: id}, []replay.File{{Path: name}}, true)
	}
	if t.backup.partial {
		t.ignore(id, fmt.Sprintf("%s is not in this partial backup: the redo log's changes to it were left out", name))
		return nil
	}
	return fmt.Errorf("%s (tablespace %d) is missing: the redo log changes it, and does not say that it was dropped: the backup is incomplete", name, id)
}

func (t *tablespaces) ignore(id innodb.SpaceID, warning string) {
	t.ignored[id] = true
	t.warnings = append(t.warnings, warning)
}

// rename gives files the names that the redo log says they have at its end, as
// the server does after a crash. Backup tools have seen to that already, so
// that there is normally nothing to do.
func (t *tablespaces) rename(root *os.Root) error {
	for _, id := range slices.Sorted(maps.Keys(t.log.Named)) {
		h, s := t.log.Named[id], t.ids[id]
		if s == nil || h.Deleted {
			continue
		}
		to, err := tablePath(h.Name)
		if err != nil {
			return fmt.Errorf("the redo log names tablespace %d: %w", id, err)
		}
		from := s.Files[0].Path
		if from == to {
			continue
		}
		taken, err := exists(root, to)
		if err == nil && taken {
			err = errors.New("another tablespace has that name")
		}
		if err == nil {
			err = root.Rename(from, to)
		}
		if err != nil {
			return fmt.Errorf("renaming %s to %s, as the redo log says: %w", from, to, err)
		}
		t.warnings = append(t.warnings, fmt.Sprintf("renamed %s to %s, as the redo log says", from, to))
	}
	return nil
}
