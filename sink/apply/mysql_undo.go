package apply

import (
	"encoding/binary"
	"fmt"
	"path"

	"hb/sink/backupdir"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/metadata"
)

// A server makes an undo tablespace that it misses again, empty, and then what
// was not committed stays for good. So hb reads everything that names one.

func lacksUndo(format string, args ...any) error {
	return backupdir.Missing("%s is missing: the backup is incomplete. A server would start without it and keep uncommitted changes", fmt.Sprintf(format, args...))
}

// checkListed makes sure that the undo tablespaces are there that the server had,
// by the manifest of a backup of hb's.
func (t *tablespaces) checkListed() error {
	if t.backup.Manifest == nil {
		return nil
	}
	for _, id := range t.backup.Manifest.UndoSpaces {
		if t.ids[id] == nil {
			return lacksUndo("undo tablespace %d, which is in the manifest,", id)
		}
	}
	return nil
}

// The slots of the rollback segments in the transaction system's page
// (TRX_SYS_RSEGS): tablespace and page number, 4 bytes each.
const (
	rollbackSlots = 128
	rollbackArray = 56
	noPage        = 0xFFFFFFFF // of a slot that is not used
)

// checkRollbackSegments makes sure that the tablespaces are there in which the
// rollback segments are that the transaction system knows. Slots for which skip
// holds do not count.
func (t *tablespaces) checkRollbackSegments(root disk.Dir, skip func(slot int) bool) error {
	page, err := t.systemPage(root, innodb.TrxSysPage)
	if err != nil {
		return err
	}
	name := t.ids[0].Name()
	if _, err := t.ids[0].Space.Verify(page, innodb.TrxSysPage); err != nil {
		return &backupdir.DamageError{File: name, Err: err}
	}
	if innodb.HeaderType(page) != innodb.TypeTrxSys {
		return &backupdir.DamageError{File: name, Err: fmt.Errorf("page %d is not the transaction system's", innodb.TrxSysPage)}
	}
	for slot := range rollbackSlots {
		at := page[rollbackArray+8*slot:]
		id, no := innodb.SpaceID(binary.BigEndian.Uint32(at)), binary.BigEndian.Uint32(at[4:])
		if no != noPage && !skip(slot) && t.ids[id] == nil {
			return lacksUndo("undo tablespace %d, in which rollback segment %d is,", id, slot)
		}
	}
	return nil
}

// systemPage reads a page of the system tablespace, whichever file it is in.
func (t *tablespaces) systemPage(root disk.Dir, no innodb.PageNo) ([]byte, error) {
	system := t.ids[0]
	at := no
	for i, file := range system.Files {
		if at < file.Pages || i == len(system.Files)-1 {
			return backupdir.ReadPage(root, file.Path, &system.Space, at)
		}
		at -= file.Pages
	}
	return nil, &innodb.InternalError{What: "a system tablespace without files"}
}

// checkUndo makes sure that all undo tablespaces are there.
func (m *mysqlFamily) checkUndo(t *tablespaces) error {
	temporary := func(slot int) bool { return m.series().tempRsegs && slot >= 1 && slot <= 32 }
	if err := t.checkRollbackSegments(m.root, temporary); err != nil {
		return err
	}
	if err := t.checkListed(); err != nil {
		return err
	}
	external, err := metadata.ReadExternal(m.root.FS())
	if err != nil {
		return err
	}
	for _, s := range external.Spaces {
		if there, err := m.hasUndo(s); err != nil {
			return fmt.Errorf("looking for undo tablespaces: %w", err)
		} else if !there {
			return lacksUndo("undo tablespace %s", s.Name)
		}
	}
	return m.checkNumbers(t)
}

// checkNumbers uses the numbers of the undo tablespaces of 8.0 and later that
// are there.
func (m *mysqlFamily) checkNumbers(t *tablespaces) error {
	found := make(map[int]bool)
	for id := range t.ids {
		if n := innodb.UndoNumber(id); n > 0 {
			found[n] = true
		}
	}
	for n := range 2 {
		if m.series().implicitUndo && !found[n+1] {
			return lacksUndo("undo tablespace undo_%03d", n+1)
		}
	}
	// Before 8.0.14 there was no statement to make more: the variable counts them.
	if f := m.log.Header.Format; f >= mysqlredo.Format801 && f <= mysqlredo.Format803 && len(found) < m.backup.Undo {
		return lacksUndo("one of %d undo tablespaces", m.backup.Undo)
	}
	return nil
}

// hasUndo reports whether a tablespace is not for undo, or is there: the
// server's own ones under their names, others as NAME.ibu.
func (m *mysqlFamily) hasUndo(s metadata.ExternalSpace) (bool, error) {
	if s.Type != metadata.ExternalUndo {
		return true, nil
	}
	for _, name := range []string{path.Base(s.File), path.Base(s.Name) + ".ibu"} {
		if there, err := backupdir.Exists(m.root, name); there || err != nil {
			return there, err
		}
	}
	return false, nil
}
