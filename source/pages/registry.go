package pages

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"hb/source/datadir"
	"hb/source/mysqld/contents"
	"hb/source/redo"
	"hb/xbstream"
	"hb/xbstream/innodb"
)

// Registry knows which tablespaces the archive holds, under which names. DDL
// goes on while pages are copied, so that a tablespace may have another name
// at the end, or be gone; what the registry finds then goes into the archive
// as the fix-up files that mariadb-backup's --prepare knows too:
//
//	db/t.del   db/t.ibd is to be deleted
//	db/t.ren   db/t.ibd is to be renamed to the name in the file (db/u, no suffix)
//
// in this order. A tablespace that is found when its name is taken already, by
// one that was renamed or dropped or by an earlier copy of itself, is archived
// under a name that no server gives out, and renamed by its own .ren file.
// (extra/mariabackup/xtrabackup.cc of MariaDB 10.11, prepare_handle_del_files
// and _ren_files.) General tablespaces of MySQL have such files without a
// directory.
type Registry struct {
	Suffix int // bytes that follow the name of a tablespace's file in the archive, at most

	mu     sync.Mutex
	names  map[string]innodb.SpaceID // in the archive, of all copies
	spaces map[Key]*Copy             // what counts
	void   []*Copy                   // copies that do not: to be deleted
	lost   []*Copy                   // those of void whose file was removed while it was copied
}

// Key is a tablespace in a certain file. Both count: a file keeps its
// place while IMPORT TABLESPACE gives it another id, and an id may come back
// in a file that was copied from elsewhere.
type Key struct {
	ID        innodb.SpaceID
	firstPage innodb.PageNo
	file      datadir.FileID
}

// Copy is the copy of a tablespace in the archive.
type Copy struct {
	Key
	Name     string                    // in the archive
	Since    innodb.LSN                // up to where the redo had been read when copying began
	Builds   map[uint64]contents.Build // that were under way then
	Unlisted bool                      // the server did not have it open then
	Changes                            // of an increment
}

// NewRegistry returns a registry of an archive that is empty.
func NewRegistry() *Registry {
	return &Registry{
		names:  make(map[string]innodb.SpaceID),
		spaces: make(map[Key]*Copy),
	}
}

// Key says which tablespace the file is.
func (t *File) Key() Key {
	return Key{t.Space.ID, t.Space.First, t.FileID}
}

// Add enters a file whose copy begins now, under the name that it gets in the archive;
// isNew is false if it is there already.
func (r *Registry) Add(t *File, since innodb.LSN) (_ *Copy, isNew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := t.Key()
	if a, ok := r.spaces[key]; ok {
		return a, false
	}
	name := t.Name
	for n := 1; r.taken(name); n++ {
		name = datadir.AliasName(t.Name, key.ID, n)
	}
	a := &Copy{Key: key, Name: name, Since: since, Builds: t.builds, Unlisted: t.unlisted}
	r.names[name], r.spaces[key] = key.ID, a
	return a, true
}

// taken reports whether no file can have a name any more, or with what follows it in the
// archive. It is called with the registry locked.
func (r *Registry) taken(name string) bool {
	_, ok := r.names[name]
	return ok || len(path.Base(name))+r.Suffix > xbstream.MaxName
}

// SpaceOf returns the tablespace that a file of the archive is a copy of, whether the
// copy counts or not; false: it is of none.
func (r *Registry) SpaceOf(name string) (innodb.SpaceID, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, ok := r.names[name]
	return id, ok
}

// Has reports whether the file is in the archive, in a copy that counts.
func (r *Registry) Has(key Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.spaces[key]
	return ok
}

// lose voids the copy of a file that was removed before hb had copied all of it.
func (r *Registry) lose(key Key) {
	void := r.Discard(func(a *Copy) bool { return a.Key == key })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = append(r.lost, void...)
}

// Any reports whether is holds for any copy that counts.
func (r *Registry) Any(is func(*Copy) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.spaces {
		if is(a) {
			return true
		}
	}
	return false
}

// Names returns the tablespaces of which the archive has a copy that counts, and under
// which name: that of a file of the tablespace when its copying began.
func (r *Registry) Names() map[innodb.SpaceID]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[innodb.SpaceID]string, len(r.spaces))
	for key, a := range r.spaces {
		out[key.ID] = a.Name
	}
	return out
}

// Vanished reports a table whose file was there when it was copied, and is not at
// the end, although the redo log does not record that it was dropped: the server may
// still hold it open, and believe that it has it. named: see Rules.
func (r *Registry) Vanished(last []*File, log map[innodb.SpaceID]*redo.FileState, named map[innodb.SpaceID][]string) error {
	there, home := make(map[datadir.FileID]bool, len(last)), make(map[innodb.SpaceID]bool)
	for _, t := range last {
		there[t.FileID] = true
		home[t.Space.ID] = home[t.Space.ID] || slices.Contains(named[t.Space.ID], t.Name)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range slices.AppendSeq(slices.Clone(r.lost), maps.Values(r.spaces)) {
		state := log[a.ID]
		if _, ok := a.Table(); !ok || a.file == (datadir.FileID{}) || there[a.file] || state != nil && state.Deleted {
			continue
		}
		if home[a.ID] && (state == nil || !state.Renamed) && a.isElsewhere(named[a.ID]) {
			continue // it waited for IMPORT TABLESPACE, which gave it its own id: it had that of the table that it was copied from
		}
		return fmt.Errorf("the file of tablespace %d, copied as %s, was removed during the backup, but the redo log does not record that the table was dropped: "+
			"drop the table, or bring the file back; if somebody imports a tablespace there (ALTER TABLE … IMPORT TABLESPACE), back up again after that", a.ID, a.Name)
	}
	return nil
}

// isElsewhere reports whether the copy is of a file that had none of the names.
func (a *Copy) isElsewhere(names []string) bool {
	return !datadir.IsNameless(a.Name) && !slices.Contains(names, datadir.PlainName(a.Name))
}

// Discard makes void every copy for which changed holds: the tablespace is to
// be copied again, if it is still there. It returns them.
func (r *Registry) Discard(changed func(*Copy) bool) []*Copy {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*Copy
	for key, a := range r.spaces {
		if changed(a) {
			delete(r.spaces, key)
			out = append(out, a)
		}
	}
	r.void = append(r.void, out...)
	return out
}

// Release gives the name of a void copy free, which is not in the archive yet
// and never will be.
func (r *Registry) Release(a *Copy) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.names, a.Name)
	r.void = slices.DeleteFunc(r.void, func(v *Copy) bool { return v == a })
}

// Fixups returns the files that bring the archive's names to what they are
// now, given the final name of every tablespace that still exists.
func (r *Registry) Fixups(now map[Key]string) map[string]string {
	out := make(map[string]string)
	for _, a := range r.void {
		if base, ok := a.Table(); ok {
			out[base+".del"] = ""
		}
	}
	for _, a := range r.spaces {
		base, ok := a.Table()
		if !ok {
			continue
		}
		switch name, exists := now[a.Key]; {
		case !exists:
			out[base+".del"] = ""
		case name != a.Name:
			out[base+".ren"] = strings.TrimSuffix(name, ".ibd")
		}
	}
	return out
}

// Live returns the copies that count, with the final name of each tablespace that still
// exists, sorted by that. System and undo tablespaces keep theirs.
func (r *Registry) Live(now map[Key]string) []Live {
	r.mu.Lock()
	defer r.mu.Unlock()
	live := make([]Live, 0, len(r.spaces))
	for key, a := range r.spaces {
		name, exists := now[key]
		if _, table := a.Table(); !table {
			name, exists = a.Name, true
		}
		if exists {
			live = append(live, Live{name, a})
		}
	}
	slices.SortFunc(live, func(a, b Live) int { return strings.Compare(a.Final, b.Final) })
	return live
}

// Live is a copy of a tablespace that exists at the end.
type Live struct {
	Final string // its name then
	*Copy
}

// Table returns the file's name without its suffix; ok is false for system and
// undo tablespaces, which have fixed names.
func (a *Copy) Table() (base string, ok bool) {
	base, ok = strings.CutSuffix(a.Name, ".ibd")
	return base, ok && a.ID != 0
}
