package source

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"hb/source/innodb"
	"hb/source/redo"
)

// registry knows which tablespaces the archive holds, under which names. DDL
// goes on while pages are copied, so that a tablespace may have another name
// at the end, or be gone; what the registry finds then goes into the archive
// as the fix-up files that mariadb-backup's --prepare knows too:
//
//	db/t.del   db/t.ibd is to be deleted
//	db/t.ren   db/t.ibd is to be renamed to what the file says (db/u, no suffix)
//
// in this order. A tablespace that is found when its name is taken already, by
// one that was renamed or dropped or by an earlier copy of itself, is archived
// under a name that no server gives out, and renamed by its own .ren file.
// (extra/mariabackup/xtrabackup.cc of MariaDB 10.11, prepare_handle_del_files
// and _ren_files.) General tablespaces of MySQL have such files without a
// directory.
type registry struct {
	mu     sync.Mutex
	names  map[string]bool
	spaces map[spaceFile]*archivedSpace // what counts
	void   []*archivedSpace             // copies that do not: to be deleted
}

// spaceFile is a tablespace in a certain file. Both count: a file keeps its
// place while IMPORT TABLESPACE gives it another id, and an id may come back
// in a file that was copied from elsewhere.
type spaceFile struct {
	id        innodb.SpaceID
	firstPage innodb.PageNo
	file      fileID
}

type archivedSpace struct {
	spaceFile
	name  string     // in the archive
	since innodb.LSN // up to where the redo was in hand when copying began
}

func newRegistry() *registry {
	return &registry{
		names:  make(map[string]bool),
		spaces: make(map[spaceFile]*archivedSpace),
	}
}

func (t *tablespaceFile) spaceFile() spaceFile {
	return spaceFile{t.space.ID, t.space.First, t.fileID}
}

// add enters a file whose copy begins now and returns the name that it gets in
// the archive; isNew is false if it is there already.
func (r *registry) add(t *tablespaceFile, since innodb.LSN) (name string, isNew bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := t.spaceFile()
	if _, ok := r.spaces[key]; ok {
		return "", false
	}
	name = t.name
	for n := 1; r.names[name]; n++ {
		base, isTable := strings.CutSuffix(t.name, ".ibd")
		name = fmt.Sprintf("%s#hb#%d", base, key.id)
		if n > 1 {
			name += fmt.Sprintf("#%d", n)
		}
		if isTable {
			name += ".ibd"
		}
	}
	r.names[name] = true
	r.spaces[key] = &archivedSpace{key, name, since}
	return name, true
}

// has reports whether the file is in the archive, in a copy that counts.
func (r *registry) has(key spaceFile) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.spaces[key]
	return ok
}

// ids returns the tablespaces of which the archive has a copy that counts.
func (r *registry) ids() map[innodb.SpaceID]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[innodb.SpaceID]bool, len(r.spaces))
	for key := range r.spaces {
		out[key.id] = true
	}
	return out
}

// vanished reports a table whose file was there when it was copied, and is not at
// the end, although the redo log does not say that it was dropped: the server may
// still hold it open, and believe that it has it.
func (r *registry) vanished(last []*tablespaceFile, log map[innodb.SpaceID]redo.FileState) error {
	there := make(map[fileID]bool, len(last))
	for _, t := range last {
		there[t.fileID] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.spaces {
		if _, ok := a.table(); ok && a.file != (fileID{}) && !there[a.file] && !log[a.id].Deleted {
			return fmt.Errorf("the file of tablespace %d, copied as %s, was removed during the backup, but the redo log does not say that the table was dropped: "+
				"drop the table, or bring the file back", a.id, a.name)
		}
	}
	return nil
}

// discard makes void every copy for which changed holds: the tablespace is to
// be copied again, if it is still there. It returns them.
func (r *registry) discard(changed func(*archivedSpace) bool) []*archivedSpace {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*archivedSpace
	for key, a := range r.spaces {
		if changed(a) {
			delete(r.spaces, key)
			out = append(out, a)
		}
	}
	r.void = append(r.void, out...)
	return out
}

// release gives the name of a void copy free, which is not in the archive yet
// and never will be.
func (r *registry) release(a *archivedSpace) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.names, a.name)
	r.void = slices.DeleteFunc(r.void, func(v *archivedSpace) bool { return v == a })
}

// fixups returns the files that bring the archive's names to what they are
// now, given the final name of every tablespace that still exists.
func (r *registry) fixups(now map[spaceFile]string) map[string]string {
	out := make(map[string]string)
	for _, a := range r.void {
		if base, ok := a.table(); ok {
			out[base+".del"] = ""
		}
	}
	for _, a := range r.spaces {
		base, ok := a.table()
		if !ok {
			continue
		}
		switch name, exists := now[a.spaceFile]; {
		case !exists:
			out[base+".del"] = ""
		case name != a.name:
			out[base+".ren"] = strings.TrimSuffix(name, ".ibd")
		}
	}
	return out
}

// table returns the file's name without its suffix; ok is false for system and
// undo tablespaces, which have fixed names.
func (a *archivedSpace) table() (base string, ok bool) {
	base, ok = strings.CutSuffix(a.name, ".ibd")
	return base, ok && a.id != 0
}
