package apply

import (
	"fmt"
	"maps"
	"slices"

	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
)

// cutFiles are tablespaces whose files are shorter than page 0 says: how many
// pages there are. A file can be copied so, without any damage, in one way: page
// 0 was read after the file's length, and the server extended the file between.
// Then the redo log makes all pages that are missing.
type cutFiles map[innodb.SpaceID]innodb.PageNo

// maxCut bounds how many there can be: they are written to the state file.
const maxCut = 64

// checkLengths compares the length of each tablespace with page 0, which is yet
// as it was copied. Where the log does not change page 0, it does not extend the
// file either, and nothing excuses one that is short; where it truncates or
// begins the tablespace, the length in the file does not matter.
func (t *tablespaces) checkLengths(root disk.Dir, plan *replay.Plan) (cutFiles, error) {
	cut := make(cutFiles)
	for _, s := range t.all {
		id := s.Space.ID
		if s.Deferred || len(plan.Trims(id)) > 0 || plan.Begins(id) {
			continue
		}
		have, err := lengthOf(root, s)
		if err != nil {
			return nil, err
		}
		short := s.Space.CheckLength(have)
		switch {
		case short == nil:
		case !plan.ChangesHead(id):
			return nil, &backupdir.DamageError{File: s.Name(), Err: short}
		default:
			cut[id] = innodb.PageNo(have / int64(s.Space.Physical))
		}
	}
	return cut, nil
}

// lengthOf is how many bytes the files of a tablespace have, whole pages in all
// but the last.
func lengthOf(root disk.Dir, s *replay.Tablespace) (int64, error) {
	var bytes int64
	for i, file := range s.Files {
		if i < len(s.Files)-1 {
			bytes += int64(file.Pages) * int64(s.Space.Physical)
			continue
		}
		st, err := root.Stat(file.Path)
		if err != nil {
			return 0, fmt.Errorf("looking at a tablespace: %w", err)
		}
		bytes += st.Size()
	}
	return bytes, nil
}

// checkMade makes sure that the redo log made their missing pages.
func (c cutFiles) checkMade(root disk.Dir, spaces *tablespaces, keys *keyring.Keys) error {
	for _, id := range slices.Sorted(maps.Keys(c)) {
		s := spaces.ids[id]
		if s == nil {
			continue // dropped by the log
		}
		if err := replay.CheckMade(root, s, c[id], keys); err != nil {
			return err
		}
	}
	return nil
}

// warnings says, for each file, what cannot be decided without a recovery.
func (c cutFiles) warnings(spaces *tablespaces) (w []string) {
	for _, id := range slices.Sorted(maps.Keys(c)) {
		w = append(w, fmt.Sprintf("%s is shorter than its page 0 says; only hb verify --replay or hb apply shows whether the redo log makes the missing pages", spaces.ids[id].Name()))
	}
	return w
}
