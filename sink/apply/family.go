package apply

import (
	"hb/sink/apply/forget"
	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/xbstream/innodb"
)

// redoLog is a backup's redo log, as Run sees it.
type redoLog interface {
	replay.Log
	// Start is the LSN at which recovery begins.
	Start() innodb.LSN
	// Scan reads the log up to the goal and puts what it does to pages into
	// plan.
	Scan(plan *replay.Plan, goal replay.Goal) (*replay.Scanned, error)
	// Close ends the use of the log.
	Close() error
}

// family is the server family that a backup is of: what Run does differently
// for each.
type family interface {
	// alreadyApplied recognises a directory that was recovered, and that
	// nothing has to be done to.
	alreadyApplied() (innodb.LSN, bool, error)
	// checkApplied checks that such a directory is as apply leaves it, at an LSN.
	checkApplied(lsn innodb.LSN) error
	// ranSince reports whether the redo log of a recovered directory, which is
	// not the one that apply left, is a server's that goes on from an LSN.
	ranSince(lsn innodb.LSN) bool
	// openLog opens the redo log.
	openLog() (redoLog, error)
	// goal is where the log must end, once it is open.
	goal() replay.Goal
	// fixUp carries out the fix-up files of backup tools, for DDL that went on while
	// they copied.
	fixUp() error
	// rules are those of the tablespaces' files.
	rules() *fileRules
	// complete checks that no tablespace is missing that a server needs for
	// itself.
	complete(t *tablespaces) error
	// recovered is called when all pages are recovered and on disk, as long as
	// there is the log, to prepare for finish.
	recovered(s *replay.Scanned) (backupdir.State, error)
	// finish makes the directory one that a server starts on. It can be
	// repeated.
	finish(s backupdir.State) error
	// checkHandOver refuses a backup that the server would not recover by itself.
	checkHandOver(t *tablespaces, s *replay.Scanned) error
	// prepareHandOver makes a log that the server can recover from by itself,
	// aside; handOver puts it where the server looks for it, and can be repeated.
	prepareHandOver(s *replay.Scanned) error
	handOver() error
	// keepsLog: the log that is handed over is the backup's, as it was.
	keepsLog() bool
	// checkHandedOver checks that no server has run on a directory since it was
	// handed over.
	checkHandedOver(s backupdir.State) error
}

// forgetLeftOut takes the tables that a partial backup of hb's leaves out of the dictionary of
// InnoDB, where that is in the system tablespace. The dictionary of MySQL 8.0 and later keeps
// them: a server reports their files missing when they are used, and drops them when asked to.
func (a *applier) forgetLeftOut(r *redo, t *tablespaces) error {
	m := a.backup.Manifest
	if m == nil || m.Scope == nil || len(m.Scope.LeftOut) == 0 {
		return nil
	}
	if !a.family.rules().sysTables {
		if a.Scratch {
			return nil
		}
		a.result.Warnings = append(a.result.Warnings, "the server's data dictionary still has the tables that this partial backup leaves out; its error log names their files when it starts: "+
			"drop these tables before you use the server (DROP TABLE IF EXISTS)")
		return nil
	}
	system := *t.ids[0]
	var err error
	if system.Space, err = backupdir.ReadSpace(a.root, system.Name()); err != nil {
		return err
	}
	a.Progress.Begin("forgetting tables", 0)
	e, err := replay.Edit(&system, replay.Options{
		Root: a.root, Identity: a.identity(r), PageSize: a.backup.PageSize, End: r.scanned.End,
		Checksum: a.backup.Checksum, Keys: a.Keys, EncryptTables: a.backup.EncryptTables,
	})
	if err != nil {
		return err
	}
	_, err = forget.Tables(e, a.backup.LeftOut)
	return err
}
