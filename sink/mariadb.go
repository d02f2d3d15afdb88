package sink

import (
	"errors"
	"fmt"

	"hb/sink/replay"
	"hb/sink/replay/mariadb"
	"hb/source/innodb"
	"hb/source/innodb/redolog"
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
	return m.backup.own || m.log.Header.Format != redolog.MariaDB105
}

func (m *mariadbFamily) goal() replay.Goal {
	c := m.backup.checkpoints
	g := replay.Goal{Needed: c.ToLSN, Target: c.LastLSN, Exact: m.exact()}
	if m.log.Header.Format == redolog.MariaDB105 {
		g.Needed, g.Target = redolog.Canonical105(g.Needed), redolog.Canonical105(g.Target)
	}
	return g
}

func (m *mariadbFamily) fixUp() error { return fixUp(m.root, inDatabases) }

func (m *mariadbFamily) rules() *fileRules { return &mariadbFiles }

var mariadbFiles = fileRules{find: (*tablespaces).findUndo, path: mariadbPath, renamed: always}

func always(*replay.FileHistory) bool { return true }

// mariadbPath returns where in a backup the file is that the log names so.
func mariadbPath(_ *replay.FileHistory, name string) (string, error) { return tablePath(name) }

func (m *mariadbFamily) alreadyApplied() (innodb.LSN, bool, error) {
	c := m.backup.checkpoints
	if c.BackupType != metadata.LogApplied {
		return 0, false, nil
	}
	log, err := mariadb.OpenLog(m.root)
	if errors.Is(err, redolog.ErrEmptyLog) {
		return c.LastLSN, true, nil
	}
	if foreign, ok := errors.AsType[*mariadb.ForeignLogError](err); ok {
		return 0, false, &NotBackupError{m.dir, fmt.Sprintf("this backup was recovered already, and a server (%s) has run on it since", foreign.Creator)}
	}
	if err != nil {
		return 0, false, m.needLog(mariadb.LogName, err)
	}
	lsn, clean, err := log.Clean()
	if err := errors.Join(err, log.Close()); err != nil {
		return 0, false, err
	}
	if !clean {
		return 0, false, &NotBackupError{m.dir, fmt.Sprintf("%s says that it was recovered, but its redo log was not: restore it again", m.backup.checkpointsName)}
	}
	return lsn, true, nil
}

// checkApplied: that the log is a clean one is what the directory was recognised
// by; where there is none, the server begins one at the LSN in page 0.
func (m *mariadbFamily) checkApplied(lsn innodb.LSN) error {
	if m.backup.archive == nil || m.backup.archive.RedoFormat != redolog.MariaDB105.String() {
		return nil
	}
	return m.checkFlushLSN(lsn, redolog.Canonical105(lsn))
}

func (m *mariadbFamily) openLog() (redoLog, error) {
	log, err := mariadb.OpenLog(m.root)
	if errors.Is(err, redolog.ErrEmptyLog) {
		return nil, &NotBackupError{m.dir, "the redo log is empty, but the backup was not recovered yet: extract it again"}
	}
	if foreign, ok := errors.AsType[*mariadb.ForeignLogError](err); ok {
		return nil, &NotBackupError{m.dir, foreign.Error()}
	}
	if err != nil {
		return nil, m.needLog(mariadb.LogName, err)
	}
	m.log = log
	return log, nil
}

// complete has nothing to look for: what a server needs, the redo log or the
// system tablespace speaks of.
func (m *mariadbFamily) complete(*tablespaces) error { return nil }

func (m *mariadbFamily) recovered(s *replay.Scanned) (state, error) {
	return state{Stage: stageFinish, End: s.End, Format: uint32(m.log.Header.Format)}, nil
}

// finish puts a clean redo log in place of the one that was replayed.
func (m *mariadbFamily) finish(s state) error {
	st, err := m.root.Stat(mariadb.LogName)
	if err != nil {
		return fmt.Errorf("looking at the redo log: %w", err)
	}
	f := redolog.Format(s.Format)
	if f == redolog.MariaDB105 {
		if err := m.stampFlushLSN(m.backup.systemFiles[0], s.End); err != nil {
			return err
		}
	}
	if err := replaceFile(m.root, mariadb.LogName, redolog.CleanLog(f, s.End, m.Tool), st); err != nil {
		return err
	}
	return m.writeCheckpoints(metadata.LogApplied)
}

// prepareHandOver has nothing to prepare: a backup's log is one that the server
// recovers from as it is (seen on 10.5.23, 10.11.18 and 11.8.6), and both hb's
// and mariadb-backup's have nothing behind the end that they state.
func (m *mariadbFamily) prepareHandOver(*tablespaces, *replay.Scanned) error { return nil }

// handOver leaves the log where the server looks for it.
func (m *mariadbFamily) handOver() error { return nil }

func (m *mariadbFamily) keepsLog() bool { return true }

// checkHandedOver goes by where recovery begins: a server moves that when it is
// done, and has another creator in the log.
func (m *mariadbFamily) checkHandedOver(s state) error {
	log, err := mariadb.OpenLog(m.root)
	if err == nil {
		same := log.Start() == s.From
		if err := log.Close(); err != nil || same {
			return err
		}
	}
	return &NotBackupError{m.dir, "hb apply --by-server made it ready for a server, and one has run on it since"}
}
