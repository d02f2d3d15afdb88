package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hb/source/mysqld/contents"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/position"
	"hb/source/mysqld/tracking"
	"hb/source/redo"
	"hb/stream/disk"
	"hb/xbstream/innodb"
	"hb/xbstream/metadata"
)

// mysql8Backup is a backup of MySQL 8.0 or later. Whatever was not needed is nil.
type mysql8Backup struct {
	mysqlBackup
	consumer *position.RedoConsumer
	instance *locks.Lock // LOCK INSTANCE FOR BACKUP; nil: it is not held
	late     bool        // DDL goes on until pages are copied
	calm     calm
	pace     func(ctx context.Context, n int) error // of the copier while DDL goes on
	passes   int                                    // how often much was left under the last lock
	binlog   disk.File                              // that the position is in
	logFile  position.BinlogFile
	tracking *metadata.PageTracking
	// sealedLog says that the binary log is encrypted.
	sealedLog bool

	lostConsumer sync.Once // to warn
}

// release ends what may still be held after an error, last taken first.
func (b *mysql8Backup) release() error {
	err := errors.Join(b.closeReplica(), closeLock(b.instance))
	if b.consumer != nil {
		err = errors.Join(err, b.consumer.Close())
	}
	err = errors.Join(err, b.closeDump())
	if b.binlog != nil {
		err = errors.Join(err, b.binlog.Close())
	}
	return err
}

// openRedo opens the redo log and, if the server keeps it for hb, reports to the
// server how far hb has read. A lost registration does no harm by itself: hb notices
// redo that is overwritten before it is read.
func (b *mysql8Backup) openRedo(context.Context) (err error) {
	o := redo.MySQLOptions{PageSize: b.PageSize, Keys: b.Keys}
	if c := b.consumer; c != nil {
		o.Advance = func(ctx context.Context, lsn innodb.LSN) error {
			if err := c.Advance(ctx, lsn); err != nil && ctx.Err() == nil {
				b.lostConsumer.Do(func() { b.Warn("the server no longer keeps redo log files for hb: %v", err) })
			}
			return nil
		}
	}
	b.follower, err = redo.OpenMySQL(b.Disk, b.Layout.RedoDir, b.Options.Tmpdir, o)
	return err
}

func (b *mysql8Backup) describe(m *metadata.Manifest) {
	b.mysqlBackup.describe(m)
	m.BinlogHome = b.binlogHome()
	m.Tracking = b.tracking
	if b.sealedLog {
		m.Encryption.Others = append(m.Encryption.Others, metadata.EncryptedBinlog)
	}
}

// beginTracking has the server begin a list of the pages that it changes, if it tracks
// them, for an incremental backup since this one. Without it, that reads all pages.
func (b *mysql8Backup) beginTracking(ctx context.Context) (err error) {
	b.tracking, err = tracking.Begin(ctx, b.Server)
	if _, unusable := errors.AsType[*tracking.Unusable](err); unusable {
		return nil
	}
	return err
}

// checkpointWait bounds the wait for a checkpoint, for which DDL waits too, by about the
// time in which a backup reads all pages, of so many bytes. A server makes one each second
// at most, and hb may need two.
func checkpointWait(bytes int64) time.Duration {
	const rate = 1 << 30 // bytes a second
	return min(max(time.Duration(bytes/rate)*time.Second, 5*time.Second), time.Minute)
}

// listChanged has an increment read only pages that the server says it has written since
// the base, if that can be trusted.
func (b *mysql8Backup) listChanged(ctx context.Context) error {
	if b.increment == nil {
		return nil
	}
	b.Options.Progress.Begin("asking the server which pages it changed", 0)
	base := b.Base.Manifest.Tracking
	var bytes int64
	for f := range b.Base.Files() {
		bytes += f.Size
	}
	list, err := tracking.Changed(ctx, b.Server, tracking.Request{
		Base: base, Redo: b.follower.Checkpoint().LSN, Disk: b.Disk, Datadir: b.Layout.Datadir, Wait: checkpointWait(bytes),
	})
	if unusable, ok := errors.AsType[*tracking.Unusable](err); ok {
		if base != nil {
			b.Warn("hb read all pages, not only those that the server lists as changed: %v", unusable)
		}
		return nil
	}
	if err != nil {
		return err
	}
	b.copier.Increment.Changed = list.Runs
	b.increment.tracked = true
	return nil
}

// keepRedo has the server keep the redo log files that hb has not read yet.
func (b *mysql8Backup) keepRedo(ctx context.Context) error {
	if !b.Server.Series.RedoConsumer {
		return nil
	}
	consumer, warning, err := position.RegisterRedoConsumer(ctx, b.Server)
	if warning != "" {
		b.Warn("%s", warning)
	}
	b.consumer = consumer
	return err
}

// unlockInstance proves that the locks were held to this moment, and releases
// them.
func (b *mysql8Backup) unlockInstance(ctx context.Context) error {
	if err := b.definitions.Await(); err != nil {
		return err
	}
	return b.instance.Release(ctx)
}

// releaseRedo lets the server recycle its redo log files again.
func (b *mysql8Backup) releaseRedo(context.Context) error {
	if b.consumer == nil {
		return nil
	}
	return b.consumer.Close()
}

// rotateBinlog begins a new binary log file, so that there is little to copy.
func (b *mysql8Backup) rotateBinlog(ctx context.Context) (err error) {
	if on, _ := b.Server.Vars.LogBin(); on {
		b.logFile, err = position.RotateBinlog(ctx, b.Server)
	}
	return err
}

// plainTables lists the non-transactional tables to lock.
func (b *mysql8Backup) plainTables(ctx context.Context) ([]contents.Table, error) {
	tables, some, err := b.HasPlainTables(ctx, b.stage.Names())
	if err != nil || !some {
		return nil, err
	}
	// With the privileges that it takes, the list is complete.
	needs := b.Needs()
	needs.HoldTables = true
	return tables, b.Server.CheckPrivileges(ctx, needs)
}

// LockBrokenError says that tablespaces were created or dropped although hb held LOCK
// INSTANCE FOR BACKUP.
type LockBrokenError struct{ ID innodb.SpaceID }

func (e *LockBrokenError) Error() string {
	return fmt.Sprintf("tablespace %d appeared or changed its file while LOCK INSTANCE FOR BACKUP was held, "+
		"which should have prevented that: the backup is void; back up again", e.ID)
}

// proveUnchanged checks that the copies are those of the tablespaces that exist: none
// was created, dropped or truncated under the lock, and the archive has every
// tablespace that the server knows.
func (b *mysql8Backup) proveUnchanged(ctx context.Context) error {
	if err := b.lookLast(ctx); err != nil {
		return err
	}
	for _, t := range b.last.Files {
		if !b.registry.Has(t.Key()) {
			return &LockBrokenError{t.Space.ID}
		}
	}
	return b.proveComplete(ctx)
}
