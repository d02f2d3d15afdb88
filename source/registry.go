package source

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"hb/source/innodb"
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
// one that was renamed or dropped, is archived under a name that no server
// gives out, and renamed by its own .ren file. (extra/mariabackup/xtrabackup.cc
// of MariaDB 10.11, prepare_handle_del_files and _ren_files.)
type registry struct {
	mu     sync.Mutex
	names  map[string]bool
	spaces map[spaceFile]*archivedSpace
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
	name string // in the archive
}

func newRegistry() *registry {
	return &registry{
		names:  make(map[string]bool),
		spaces: make(map[spaceFile]*archivedSpace),
	}
}

func (t *tablespaceFile) spaceFile() spaceFile {
	return spaceFile{t.space.ID, t.firstPage, t.fileID}
}

// add enters a file and returns the name that it gets in the archive; isNew is
// false if it is there already.
func (r *registry) add(t *tablespaceFile) (name string, isNew bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := t.spaceFile()
	if _, ok := r.spaces[key]; ok {
		return "", false, nil
	}
	name = t.name
	if r.names[name] {
		name = fmt.Sprintf("%s#hb#%d.ibd", strings.TrimSuffix(t.name, ".ibd"), key.id)
	}
	if r.names[name] {
		return "", false, fmt.Errorf("%s: tablespace %d was replaced by another file of the same id during the backup; "+
			"back up again when nobody moves tablespace files", t.path, key.id)
	}
	r.names[name] = true
	r.spaces[key] = &archivedSpace{key, name}
	return name, true, nil
}

// has reports whether the file is in the archive.
func (r *registry) has(key spaceFile) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.spaces[key]
	return ok
}

// fixups returns the files that bring the archive's names to what they are
// now, given the final name of every tablespace that still exists.
func (r *registry) fixups(now map[spaceFile]string) map[string]string {
	out := make(map[string]string)
	byName := slices.SortedFunc(maps.Values(r.spaces), func(a, b *archivedSpace) int {
		return cmp.Compare(a.name, b.name)
	})
	for _, a := range byName {
		base, isTable := strings.CutSuffix(a.name, ".ibd")
		if !isTable || path.Dir(base) == "." {
			continue // system and undo tablespaces have fixed names
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
