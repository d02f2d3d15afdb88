package apply

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"

	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// A crash of the machine leaves of a directory what was synced, and any of
// the names that were changed since. So apply syncs in this order, and each line is
// on disk before the next begins:
//
//  1. ApplyingName records that pages are being recovered (enter).
//  2. The system tablespace has its second name, and then the placeholder is in
//     the place of the first (hold). From here on no server starts, and all that
//     follows up to 6 can be done again.
//  3. The tools' fix-up files for DDL are carried out, step by step (inSteps).
//  4. Pages and sizes: each file is synced when it is done with (openSpace). What
//     is lost before is recovered again from the redo log, which is there up to 7.
//  5. Names that the redo log gives up, and then those that it gives (settleNames);
//     the directories that these are in (SyncTree), and the redo log that the
//     server is to find, beside the backup's (recovered).
//  6. ApplyingName records that all pages are recovered, and everything that it relies on is
//     on disk (enter): now the backup's redo log is not needed any more.
//  7. Page 0 of encrypted tablespaces, if there is a new master key: that is in its file
//     since before 1 (rewrap). What the server will find: LSNs in the system tablespace, the new redo log in the
//     old one's place, links to other directories removed (family.finish).
//  8. The metadata record that the directory was recovered. It is held, and
//     ApplyingName records that this step may have to be done again.
//  9. ApplyingName is gone (clean), and then the system tablespace has its name
//     back (release). Between the two, the metadata and the second name show that
//     only this is left to do.

// enter begins a stage of the work: from the first one on no server starts. What
// the stage relies on is on disk before the state is, and the state before
// anything is done that relies on it.
func (a *applier) enter(s backupdir.State) error {
	if err := backupdir.SyncIn(a.root, "."); err != nil {
		return err
	}
	if err := a.note(s); err != nil {
		return err
	}
	return a.backup.Hold(a.root)
}

// note records how far apply is. The record is on disk before anything that depends
// on it is changed.
func (a *applier) note(s backupdir.State) error {
	s.NewMaster = a.master
	if err := backupdir.WriteState(a.root, backupdir.ApplyingName, s); err != nil {
		return err
	}
	return backupdir.SyncIn(a.root, ".")
}

// finish makes the directory one that a server starts on. Every step can be
// repeated.
func (a *applier) finish(s backupdir.State) error {
	a.Progress.Begin("finishing", 0)
	if err := a.enter(s); err != nil {
		return err
	}
	if err := a.rewrap(); err != nil {
		return err
	}
	if err := a.family.finish(s); err != nil {
		return err
	}
	if err := backupdir.WriteApplied(a.root, a.backup, s.End, s.Left); err != nil {
		return err
	}
	return a.clean()
}

// removeDropped removes the directories of databases that were dropped during the
// backup: only empty ones, as its fix-up files leave them.
func (a *applier) removeDropped() error {
	if a.backup.Manifest == nil {
		return nil
	}
	for _, name := range a.backup.Manifest.DroppedDatabases {
		if path.Base(name) != name || name == "." || name == ".." {
			return &backupdir.DamageError{File: metadata.ManifestName, Err: fmt.Errorf("%q is not the name of a database's directory", name)}
		}
		files, err := a.root.ReadDir(name)
		if err == nil && len(files) == 0 {
			err = a.root.Remove(name)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing the directory of a database that was dropped during the backup: %w", err)
		}
	}
	return nil
}

// clean ends the work on the directory.
func (a *applier) clean() error {
	if err := a.removeDropped(); err != nil {
		return err
	}
	if err := backupdir.SyncIn(a.root, "."); err != nil {
		return err
	}
	for _, name := range []string{replay.DoublewriteName, replay.SpillName, backupdir.ApplyingName} {
		if err := a.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing %s: %w", name, err)
		}
	}
	if err := backupdir.SyncIn(a.root, "."); err != nil {
		return err
	}
	return a.backup.Release(a.root)
}

// writeCheckpoints gives the backup another type. What that records about the
// directory is on disk before.
func (a *applier) writeCheckpoints(backupType string) error {
	if err := backupdir.SyncIn(a.root, "."); err != nil {
		return err
	}
	c := *a.backup.Checkpoints
	c.BackupType = backupType
	text, err := c.Marshal()
	if err != nil {
		return err
	}
	st, err := a.root.Stat(a.backup.CheckpointsName)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", a.backup.CheckpointsName, err)
	}
	return backupdir.ReplaceFile(a.root, a.backup.CheckpointsName, text, st)
}

// stampFlushLSN writes the LSN at which a server begins a new redo log, if it
// finds none, to the first page of a file of the system tablespace. Should this
// page have been torn by an interrupted run, the fields that both forms differ
// in are exactly those that are written now.
func (a *applier) stampFlushLSN(name string, lsn innodb.LSN) (err error) {
	fail := func(err error) error { return fmt.Errorf("writing the LSN to the first page of %s: %w", name, err) }
	space, err := backupdir.ReadSpace(a.root, a.backup.SystemFiles[0])
	if err != nil {
		return fail(err)
	}
	f, err := a.root.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	page := make([]byte, space.Physical)
	_, err = f.ReadAt(page, 0)
	if err == nil {
		// In formats older than full_crc32 the checksum leaves the field out.
		binary.BigEndian.PutUint64(page[innodb.OffsetFlushLSN:], uint64(lsn))
		if space.FullCRC32 {
			space.Stamp(page, innodb.ChecksumFullCRC32)
		}
		_, err = f.WriteAt(page, 0)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fail(err)
	}
	return nil
}

// checkFlushLSN makes sure that the server will begin its redo log at the LSN
// given, in one form or another: see stampFlushLSN.
func (a *applier) checkFlushLSN(want ...innodb.LSN) error {
	name := a.backup.SystemFiles[0]
	space, err := backupdir.ReadSpace(a.root, name)
	if err != nil {
		return fmt.Errorf("page 0 of %s: %w", name, err)
	}
	page, err := backupdir.ReadPage(a.root, name, &space, 0)
	if err != nil {
		return err
	}
	if got := innodb.LSN(binary.BigEndian.Uint64(page[innodb.OffsetFlushLSN:])); !slices.Contains(want, got) {
		return &backupdir.DamageError{File: name, Err: fmt.Errorf("page 0 says that the directory is of LSN %d, not %d: a server has run on it, or it is not what hb apply left", got, want[0])}
	}
	return nil
}
