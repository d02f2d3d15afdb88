package apply

import (
	"context"

	"hb/sink/backupdir"
	"hb/sink/replay"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
)

// Inspection is a look at a directory by the rules of recovery. It changes nothing.
type Inspection struct{ a *applier }

// Inspect reads a directory's metadata. A directory that is not a backup is a
// *NotBackupError.
func Inspect(root disk.Dir, o Options) (*Inspection, error) {
	a := &applier{Options: o, dir: root.Name(), root: root}
	if err := a.open(); err != nil {
		return nil, err
	}
	return &Inspection{a}, nil
}

// Backup is the directory's metadata.
func (i *Inspection) Backup() *backupdir.Backup { return i.a.backup }

// Keys are those of Options, and those that the backup has and an identity opened.
func (i *Inspection) Keys() *keyring.Keys { return i.a.Keys }

// Recovered reports whether the directory was recovered, or made ready for recovery
// by a server, and at which LSN.
func (i *Inspection) Recovered() (innodb.LSN, bool, error) { return i.a.done() }

// KeepsLog: a redo log that was made ready for a server is the backup's, as it was.
func (i *Inspection) KeepsLog() bool { return i.a.family.keepsLog() }

// RanSince reports whether the redo log of a recovered directory, which is not the
// one that Run left, is a server's that goes on from an LSN.
func (i *Inspection) RanSince(lsn innodb.LSN) bool { return i.a.family.ranSince(lsn) }

// CheckRecovered makes sure that a directory which was recovered at an LSN is as
// Run leaves one: no tablespace is cut or missing.
func (i *Inspection) CheckRecovered(ctx context.Context, lsn innodb.LSN) error {
	a := i.a
	if err := a.family.checkApplied(lsn); err != nil {
		return err
	}
	spaces, err := findTablespaces(a.root, a.backup, a.family.rules(), new(replay.Files))
	if err == nil {
		_, err = spaces.checkLengths(a.root, replay.NewPlan(a.root, 0))
	}
	if err == nil {
		err = spaces.checkListed()
	}
	return backupdir.AsDamage(ctx, err)
}

// Survey does what Run does on a directory whose files were compared with the
// manifest, except for recovering pages, and returns where the redo log ends. What is
// wrong with the backup is a *DamageError or a *MissingError.
func Survey(ctx context.Context, root disk.Dir, o Options) (*Result, error) {
	a := &applier{Options: o, dir: root.Name(), root: root, verified: true}
	end, err := a.survey(ctx)
	if err != nil {
		return nil, backupdir.AsDamage(ctx, err)
	}
	a.result.LSN = end
	return &a.result, nil
}

// Rehearse does all that Run does on such a directory.
func Rehearse(ctx context.Context, root disk.Dir, o Options) (*Result, error) {
	a := &applier{Options: o, dir: root.Name(), root: root, verified: true}
	err := a.run(ctx)
	if err == nil && a.result.AlreadyApplied {
		err = a.recoveredBefore()
	}
	if err != nil {
		return nil, backupdir.AsDamage(ctx, err)
	}
	return &a.result, nil
}
