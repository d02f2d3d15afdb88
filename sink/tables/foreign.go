package tables

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"hb/sink/backupdir"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// completeForeign makes what was extracted of an archive of the peers' a partial backup, of
// which apply passes over the redo of all tablespaces that are not there.
func (s *Selection) completeForeign(root disk.Dir) error {
	x := &foreign{Selection: s, root: root, ids: make(map[innodb.SpaceID]bool), files: make(map[string]bool)}
	if err := backupdir.EachFile(root, x.see); err != nil {
		return err
	}
	finals := s.seen
	for _, file := range x.renames {
		to, err := x.settle(file)
		if err != nil {
			return err
		}
		finals = append(finals, to)
	}
	if err := s.want.missing(finals, nil); err != nil {
		return err
	}
	info, name, err := metadata.ReadInfo(root.FS())
	if errors.Is(err, fs.ErrNotExist) {
		return &backupdir.NotBackupError{Dir: root.Name(), What: fmt.Sprintf("the archive has neither %s nor %s: extract all of it", metadata.XtraBackupNames.Info, metadata.MariaDBNames.Info)}
	}
	if err != nil {
		return err
	}
	info.Partial = true
	text, err := info.Marshal()
	if err != nil {
		return err
	}
	return put(root, name, text)
}

// foreign is what there is of an archive of the peers'.
type foreign struct {
	*Selection
	root    disk.Dir
	files   map[string]bool
	ids     map[innodb.SpaceID]bool // of tablespaces
	renames []string                // fix-up files
}

func (x *foreign) see(file string) error {
	x.files[file] = true
	switch path.Ext(file) {
	case backupdir.ExtRename:
		x.renames = append(x.renames, file)
	case backupdir.ExtTable:
		space, err := backupdir.ReadSpace(x.root, file)
		if err != nil && !errors.Is(err, innodb.ErrZeroHeader) {
			return fmt.Errorf("page 0 of %s: %w", file, err)
		}
		x.ids[space.ID] = true
	}
	return nil
}

// settle removes a fix-up file that renames what was not extracted. It returns the new name.
func (x *foreign) settle(file string) (string, error) {
	text, err := readFixup(x.root, file)
	if err != nil {
		return "", err
	}
	to, err := backupdir.TablePath(strings.TrimRight(string(text), "\x00\r\n"))
	if err != nil {
		return "", &backupdir.DamageError{File: file, Err: err}
	}
	was := strings.TrimSuffix(file, backupdir.ExtRename)
	there := x.files[was+backupdir.ExtTable]
	if id, err := strconv.ParseUint(path.Base(was), 10, 32); err == nil {
		there = there || x.ids[innodb.SpaceID(id)]
	}
	switch {
	case there, x.files[strings.TrimSuffix(to, backupdir.ExtTable)+backupdir.ExtNew], x.files[to+backupdir.ExtNew]:
		return to, nil
	case x.want.has(to):
		return "", &RenamedError{was, to}
	}
	if err := x.root.Remove(file); err != nil {
		return "", fmt.Errorf("removing what is not needed: %w", err)
	}
	return to, nil
}
