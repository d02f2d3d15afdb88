package apply

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"hb/sink/apply/fixup"
	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/sink/replay/mariadb"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/redolog"
	"hb/xbstream/metadata"
)

// mariadbFamily is MariaDB 10.5 and later.
type mariadbFamily struct {
	*applier
	log *mariadb.Log
}

// exact reports whether the backup's last LSN is the end of a mini-transaction.
// The tool of 10.5 counts the blocks that it copied.
func (m *mariadbFamily) exact() bool {
	return m.backup.Own || m.log.Header.Format != mariadbredo.Format105
}

func (m *mariadbFamily) goal() replay.Goal {
	c := m.backup.Checkpoints
	g := replay.Goal{Needed: c.ToLSN, Target: c.LastLSN, Exact: m.exact()}
	if m.log.Header.Format == mariadbredo.Format105 {
		g.Needed, g.Target = redolog.Canonical(g.Needed), redolog.Canonical(g.Target)
	}
	return g
}

func (m *mariadbFamily) fixUp() error { return fixup.InDatabases(m.root, nil) }

func (m *mariadbFamily) rules() *fileRules { return &mariadbFiles }

// logged: a parameter of 10.5 that had it build indexes without redo has no effect
// (10.5.23 warns of innodb_log_optimize_ddl so), and later series do not have it.
var mariadbFiles = fileRules{find: (*tablespaces).findUndo, path: mariadbPath, renamed: always, logged: true, sysTables: true}

func always(*replay.FileHistory) bool { return true }

// mariadbPath returns where in a backup the file is that the log names so.
func mariadbPath(_ *replay.FileHistory, name string) (string, error) {
	return backupdir.TablePath(name)
}

func (m *mariadbFamily) alreadyApplied() (innodb.LSN, bool, error) {
	c := m.backup.Checkpoints
	if c.BackupType != metadata.LogApplied {
		return 0, false, nil
	}
	log, err := mariadb.OpenLog(m.root, m.Keys)
	if errors.Is(err, mariadbredo.ErrEmptyLog) {
		return c.LastLSN, true, nil
	}
	if foreign, ok := errors.AsType[*mariadb.ForeignLogError](err); ok {
		return 0, false, &backupdir.NotBackupError{Dir: m.dir, What: fmt.Sprintf("this backup was recovered already, and a server (%s) has run on it since", foreign.Creator)}
	}
	if err != nil {
		return 0, false, m.needLog(mariadb.LogName, err)
	}
	lsn, clean, err := log.Clean()
	if err := errors.Join(err, log.Close()); err != nil {
		return 0, false, err
	}
	if !clean {
		return 0, false, &backupdir.NotBackupError{Dir: m.dir, What: fmt.Sprintf("%s says that it was recovered, but its redo log was not: restore it again", m.backup.CheckpointsName)}
	}
	return lsn, true, nil
}

// checkApplied: hb recognised the directory by its clean log; if there is no log, the
// server begins one at the LSN in page 0.
func (m *mariadbFamily) checkApplied(lsn innodb.LSN) error {
	if m.backup.Archive == nil {
		return nil
	}
	if m.backup.Archive.RedoFormat != mariadbredo.Format105.String() {
		st, err := m.root.Stat(mariadb.LogName)
		if err == nil && st.Size() == 0 {
			err = &backupdir.DamageError{File: mariadb.LogName, Err: errors.New("it is empty: hb apply leaves a redo log there; extract and apply the backup again")}
		}
		return err
	}
	return m.checkFlushLSN(lsn, redolog.Canonical(lsn))
}

// ranSince has nothing to report: a server's log was recognised by its creator
// (alreadyApplied).
func (m *mariadbFamily) ranSince(innodb.LSN) bool { return false }

func (m *mariadbFamily) openLog() (redoLog, error) {
	log, err := mariadb.OpenLog(m.root, m.Keys)
	if errors.Is(err, mariadbredo.ErrEmptyLog) {
		return nil, &backupdir.NotBackupError{Dir: m.dir, What: "the redo log is empty, but the backup was not recovered yet: extract it again"}
	}
	if foreign, ok := errors.AsType[*mariadb.ForeignLogError](err); ok {
		return nil, &backupdir.NotBackupError{Dir: m.dir, What: foreign.Error()}
	}
	if err != nil {
		return nil, m.needLog(mariadb.LogName, err)
	}
	m.log = log
	return log, nil
}

// complete makes sure that the tablespaces are there in which rollback segments
// are. Of anything else that a server needs the redo log speaks, or the system
// tablespace.
func (m *mariadbFamily) complete(t *tablespaces) error {
	return t.checkRollbackSegments(m.root, func(int) bool { return false })
}

func (m *mariadbFamily) recovered(s *replay.Scanned) (backupdir.State, error) {
	return backupdir.State{Stage: backupdir.StageFinish, End: s.End, Format: uint32(m.log.Header.Format)}, nil
}

// finish puts a clean redo log in place of the one that was replayed.
func (m *mariadbFamily) finish(s backupdir.State) error {
	st, err := m.root.Stat(mariadb.LogName)
	if err != nil {
		return fmt.Errorf("looking at the redo log: %w", err)
	}
	f := mariadbredo.Format(s.Format)
	if f == mariadbredo.Format105 {
		if err := m.stampFlushLSN(m.backup.SystemFiles[0], s.End); err != nil {
			return err
		}
	}
	if err := backupdir.ReplaceFile(m.root, mariadb.LogName, mariadbredo.CleanLog(f, s.End, m.Tool), st); err != nil {
		return err
	}
	return m.writeCheckpoints(metadata.LogApplied)
}

// checkHandOver refuses a log that names a file outside the data directory: the
// server looks there, not for the file that the backup has inside, and does not
// start (11.8.9: "File … was not found"), or recovers the old file that is there.
func (m *mariadbFamily) checkHandOver(t *tablespaces, s *replay.Scanned) error {
	if err := t.checkReused(m.dir, false); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(s.Named)) {
		if h := s.Named[id]; !h.Deleted && filepath.IsAbs(h.Name) {
			return notByServer(m.dir, "the server would look for %s, outside of the directory, where the redo log has it", h.Name)
		}
	}
	return nil
}

// prepareHandOver prepares nothing: a backup's log is one that the server recovers
// from as it is (seen on 10.5.23, 10.11.18 and 11.8.6), and neither hb's nor
// mariadb-backup's has anything after the end that it states.
func (m *mariadbFamily) prepareHandOver(*replay.Scanned) error { return nil }

// handOver leaves the log where the server looks for it.
func (m *mariadbFamily) handOver() error { return nil }

func (m *mariadbFamily) keepsLog() bool { return true }

// checkHandedOver relies on where recovery begins: a server moves that when it is
// done, and has another creator in the log.
func (m *mariadbFamily) checkHandedOver(s backupdir.State) error {
	log, err := mariadb.OpenLog(m.root, m.Keys)
	if err == nil {
		same := log.Start() == s.From
		if err := log.Close(); err != nil || same {
			return err
		}
	}
	return &backupdir.NotBackupError{Dir: m.dir, What: "hb apply --by-server made it ready for a server, and one has run on it since"}
}
