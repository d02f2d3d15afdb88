package mergedir

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"hb/sink/backupdir"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/delta"
)

// entry is a tablespace of the increment.
type entry struct {
	name  string // in the end
	id    innodb.SpaceID
	meta  delta.Meta
	delta string // the increment's file of changed pages; "": it has the whole file
	whole string // the increment's file
}

// unwritten is the id of a tablespace whose page 0 was not written yet: the redo log has it.
const unwritten = innodb.SpaceID(innodb.PageNull)

// readIncrement lists the increment's files, with the names that its fix-up files give
// them.
func (m *merging) readIncrement() error {
	f := &fixUps{named: make(map[string]*entry)}
	var metas []string
	err := backupdir.EachFile(m.inc, func(file string) error {
		ext := path.Ext(file)
		base := strings.TrimSuffix(file, ext)
		switch {
		case slices.Contains(backupdir.PackedExts, ext):
			return &backupdir.NotBackupError{Dir: m.inc.Name(), What: fmt.Sprintf("%s is compressed or encrypted by itself: unpack such files with the tool that made them", file)}
		case ext == delta.Ext:
			e, err := m.readDelta(base)
			f.named[base] = e
			return err
		case ext == delta.ExtMeta:
			metas = append(metas, base)
		case ext == backupdir.ExtDelete:
			f.deleted = append(f.deleted, base)
		case ext == backupdir.ExtRename:
			f.renamed = append(f.renamed, base)
		case ext == backupdir.ExtNew:
			f.made = append(f.made, base)
		case ext == backupdir.ExtCorrupt:
			return m.damage(file, errors.New("the backup says that its copy of this tablespace is damaged"))
		case ext == backupdir.ExtTable, m.isUndo(file):
			return m.damage(file, errors.New("an incremental backup has no whole tablespaces"))
		default:
			m.others[file] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, base := range metas {
		if f.named[base] == nil {
			return backupdir.Missing("%s: %s is missing, and %s is there", m.inc.Name(), base+delta.Ext, base+delta.ExtMeta)
		}
	}
	for _, file := range append([]string{m.tool.log, m.name}, m.base.SystemFiles...) {
		if !m.others[file] && f.named[file] == nil {
			return backupdir.Missing("%s: it has nothing of %s", m.inc.Name(), file)
		}
	}
	if err := m.tool.fixUp(m, f); err != nil {
		return err
	}
	return m.enter(f.named)
}

func (m *merging) damage(file string, err error) error {
	return &backupdir.DamageError{File: m.inc.Name() + ": " + file, Err: err}
}

func (m *merging) isUndo(file string) bool { return backupdir.UndoFile.MatchString(path.Base(file)) }

// readDelta reads both files of a tablespace as far as to know that they are whole.
func (m *merging) readDelta(base string) (*entry, error) {
	text, err := m.inc.ReadFile(base + delta.ExtMeta)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, backupdir.Missing("%s: %s is missing, and %s is there", m.inc.Name(), base+delta.ExtMeta, base+delta.Ext)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the increment: %w", err)
	}
	e := &entry{name: base, delta: base + delta.Ext}
	if e.meta, err = delta.ParseMeta(text); err != nil {
		return nil, m.damage(base+delta.ExtMeta, err)
	}
	e.id = e.meta.Space
	f, err := m.inc.Open(e.delta)
	if err != nil {
		return nil, fmt.Errorf("opening the increment: %w", err)
	}
	st, err := f.Stat()
	if err == nil {
		if _, err = delta.ReadList(f, st.Size(), e.meta.PageSize); err != nil {
			err = m.damage(e.delta, err)
		}
	}
	return e, errors.Join(err, f.Close())
}

// enter takes the tablespaces, each of which must be there once.
func (m *merging) enter(named map[string]*entry) error {
	byID := make(map[innodb.SpaceID]*entry)
	for _, e := range named {
		if e.id == unwritten {
			m.entries = append(m.entries, e)
			continue
		}
		if m.base.IsSystem(e.name) {
			if e.id != 0 {
				return m.damage(e.name+delta.ExtMeta, fmt.Errorf("it is of tablespace %d", e.id))
			}
		} else if o := byID[e.id]; o != nil || e.id == 0 {
			return m.damage(e.name, fmt.Errorf("it is of tablespace %d, and so is another file", e.id))
		}
		byID[e.id] = e
		m.entries = append(m.entries, e)
	}
	slices.SortFunc(m.entries, func(a, b *entry) int { return strings.Compare(a.name, b.name) })
	return nil
}

// readBase finds the base's tablespaces by the ids in their files.
func (m *merging) readBase() error {
	ids := make(map[innodb.SpaceID]string)
	return backupdir.EachFile(m.root, func(file string) error {
		system := m.base.IsSystem(file)
		if !system && path.Ext(file) != backupdir.ExtTable && !m.isUndo(file) {
			return nil
		}
		st, err := m.root.Lstat(file)
		if err != nil {
			return fmt.Errorf("looking at %s: %w", file, err)
		}
		if !st.Mode().IsRegular() || backupdir.Links(st) > 1 {
			return &backupdir.NotBackupError{Dir: m.root.Name(), What: fmt.Sprintf("%s is not a file with one name, and hb apply would change it under all of them: copy the directory without hard links (cp -a, without -l)", file)}
		}
		if system {
			return nil
		}
		space, err := backupdir.ReadSpace(m.root, file)
		if err != nil {
			return &backupdir.DamageError{File: file, Err: err}
		}
		if other, twice := ids[space.ID]; twice {
			return &backupdir.DamageError{File: file, Err: fmt.Errorf("it is tablespace %d, and so is %s", space.ID, other)}
		}
		ids[space.ID], m.spaces[file] = file, space.ID
		return nil
	})
}

// match finds out which tablespaces of the base are gone. The tools say by the absence of a
// file that a table was dropped; they say nothing of a file that was lost. But tables have
// other files, too, all of which are in an increment. MySQL 8.0 and later have none.
func (m *merging) match() error {
	kept := make(map[innodb.SpaceID]*entry)
	for _, e := range m.entries {
		kept[e.id] = e
	}
	for _, file := range sorted(m.spaces) {
		if e := kept[m.spaces[file]]; e != nil {
			if e.delta == "" {
				continue
			}
			space, err := backupdir.ReadSpace(m.root, file)
			if err == nil && space.Physical != e.meta.PageSize {
				err = fmt.Errorf("its pages have %d bytes, and those of %s have %d", space.Physical, e.delta, e.meta.PageSize)
			}
			if err != nil {
				return &backupdir.DamageError{File: file, Err: err}
			}
			continue
		}
		table := strings.TrimSuffix(file, backupdir.ExtTable)
		table, _, _ = strings.Cut(table, "#P#")
		table, _, _ = strings.Cut(table, "#p#")
		replaced := slices.ContainsFunc(m.entries, func(e *entry) bool { return e.name == file })
		if !replaced && (m.tool.needed(path.Base(file)) || m.others[table+".frm"] && !m.otherEngine(table)) {
			return backupdir.Missing("%s: it has nothing of %s, although the table was not dropped", m.inc.Name(), file)
		}
		m.result.Dropped = append(m.result.Dropped, file)
	}
	if n := len(m.result.Dropped); n > 0 {
		m.result.Warnings = append(m.result.Warnings, fmt.Sprintf("%d tablespaces of the base, such as %s, are not in %s, by which %s says that they were dropped: if their files were lost, nobody notices", n, m.result.Dropped[0], m.inc.Name(), m.tool.name))
	}
	return nil
}

// otherEngine reports whether a table has files of another engine.
func (m *merging) otherEngine(table string) bool {
	for _, ext := range []string{".MYD", ".MAD", ".CSV", ".ARZ", ".MRG"} {
		if m.others[table+ext] {
			return true
		}
	}
	return false
}

func sorted[V any](files map[string]V) []string {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
