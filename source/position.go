package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"hb/source/binlog"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/position"
	"hb/source/subject"
	"hb/xbstream/metadata"
)

// stand takes the moment that the backup stands for, under a lock that keeps the
// server's logs from moving. Nothing else sets it. From just before this, redo that is
// read is held back: redo beyond the moment must not reach the archive.
func (b *backup) stand(ctx context.Context, by locks.Held) (err error) {
	b.follower.Hold()
	b.at, err = position.Take(ctx, b.Server, by, position.Wanted{Replica: b.Options.SlaveInfo, Galera: b.Options.GaleraInfo})
	if err == nil && !b.at.Exact {
		err = subject.InexactSourceError{}
	}
	return err
}

// openBinlog opens the binary log file that the position is in: once the locks
// are released, the server may purge it.
func (b *mysql8Backup) openBinlog() (err error) {
	if b.at.Binlog != nil && b.at.Binlog.File != "" {
		b.binlog, err = b.OpenBinlog(b.at.Binlog.File)
	}
	return err
}

// stageBinlog stages the binary log file up to the position, and an index that names
// only this file. From them a restored server knows which prepared transactions to
// commit, and its GTID set is exactly that of the position.
func (b *mysql8Backup) stageBinlog(ctx context.Context) error {
	if b.binlog == nil {
		return nil
	}
	content, head, err := binlog.Open(b.binlog, b.Keys)
	if err != nil {
		return &subject.BinlogError{File: b.at.Binlog.File, Err: err}
	}
	b.sealedLog = head > 0
	if err := b.stage.CopyPrefix(ctx, b.binlog, b.at.Binlog.File, head+int64(b.at.Binlog.Pos)); err != nil {
		return fmt.Errorf("copying the binary log %s: %w", b.at.Binlog.File, err)
	}
	if err := b.countGTIDs(ctx, content); err != nil {
		return &subject.BinlogError{File: b.at.Binlog.File, Err: err}
	}
	if home := b.binlogHome(); home != nil {
		b.Warn("the binary log of this server is outside of its data directory, at %s: to restore the backup, hb apply will have to be told where the restored server has its own (--log-bin)", home.Base)
	}
	index := filepath.Base(b.Server.Vars.BinlogIndex())
	return b.stage.Put(index, []byte("./"+b.at.Binlog.File+"\n"))
}

// binlogHome is where the server keeps its binary log, whose end is in the archive,
// if a restored server would look for it elsewhere than in its data directory.
func (b *mysql8Backup) binlogHome() *metadata.BinlogHome {
	_, base := b.Server.Vars.LogBin()
	index, datadir := b.Server.Vars.BinlogIndex(), b.Server.Vars.Datadir()
	if b.binlog == nil || filepath.Dir(base) == datadir && filepath.Dir(index) == datadir {
		return nil
	}
	return &metadata.BinlogHome{Base: base, Index: index}
}

// countGTIDs records the GTID set that belongs to the position: the set of the binary
// log up to there. log_status reports gtid_executed, which lacks transactions that are
// in the binary log and in the redo log, but whose sessions have not added their GTIDs
// yet: seen on 8.0.30 with plain commits and on 9.7.4 with XA transactions. A replica
// that began with that set would apply them twice.
//
// Transactions that were executed, but are in no binary log that the server has
// (gtid_purged), belong to the set, too; so do those that were in earlier files and had not been
// carried out yet when this one was begun. Everything else in gtid_executed must be in the log, and
// everything that was executed before it was begun: otherwise this file is not the one that
// the server writes.
func (b *mysql8Backup) countGTIDs(ctx context.Context, content io.ReaderAt) error {
	end := int64(b.at.Binlog.Pos)
	log, err := binlog.Read(ctx, io.NewSectionReader(content, 0, end), end)
	if err != nil {
		return err
	}
	var sets [4]binlog.Set
	for i, set := range []struct{ name, text string }{
		{"gtid_executed", b.at.Binlog.GTID}, {"gtid_purged", b.at.Purged}, {"gtid_executed", b.logFile.Before}, {"gtid_executed", b.logFile.Executed},
	} {
		if sets[i], err = binlog.ParseSet(set.text); err != nil {
			return fmt.Errorf("%s is %.200q: %w", set.name, set.text, err)
		}
	}
	reported, purged, before, earlier := sets[0], sets[1], sets[2], sets[3]
	all := log.All()
	all.AddSet(purged)
	missing := all.Missing(before)
	if missing == "" {
		all.AddSet(earlier)
		missing = all.Missing(reported)
	}
	if missing != "" {
		return fmt.Errorf("the server reports the transactions %.400s as executed at position %d, and they are not in the log", missing, end)
	}
	all = log.All()
	all.AddSet(reported)
	b.at.Binlog.GTID = all.String()
	b.at.Replica.GTIDPos = b.at.Binlog.GTID
	return nil
}

// standStill takes position and LSN while nothing can commit: under the final lock or,
// if that lets commits go on, under Percona Server's lock for the binary log, which hb
// holds only for that.
func (b *mysql5Backup) standStill(ctx context.Context) error {
	if !b.Server.Series.BinlogLock {
		return b.stand(ctx, b.global)
	}
	l, err := b.locks.Binlog(ctx)
	if err != nil {
		return err
	}
	if err := b.stand(ctx, l); err != nil {
		return errors.Join(err, l.Close())
	}
	return l.Release(ctx)
}

// position takes position and LSN of one moment. If there are non-transactional
// tables, it locks them first, so that nobody writes to them between the last staging
// of their files and that moment. wait is how long it waits for them; 0: Options.LockWait.
func (b *mysql8Backup) position(ctx context.Context, wait time.Duration) error {
	b.Options.Progress.Begin("taking the position", 0)
	tables, err := b.plainTables(ctx)
	if err != nil {
		return err
	}
	if len(tables) > 0 {
		broken, err := b.instance.HoldTables(ctx, tables, wait, b.lockPolicy())
		if err != nil {
			return err
		}
		for _, t := range broken {
			b.Warn("the server cannot open the table %s.%s, whose files are in the backup as they are: %v", t.Schema, t.Name, t.Err)
		}
	}
	if err := b.restage(ctx); err != nil {
		return err
	}
	for range fileTries {
		if b.logFile.Name != "" {
			if err := b.logFile.Await(ctx, b.Server); err != nil {
				return err
			}
		}
		if err := b.stand(ctx, b.instance); err != nil {
			return err
		}
		if b.logFile.Name == "" || b.logFile.Name == b.at.Binlog.File {
			return b.openBinlog()
		}
	}
	return &subject.BinlogError{File: b.at.Binlog.File, Err: fmt.Errorf("the server began a new file at each of %d looks", fileTries)}
}

// fileTries is how often hb takes the position if the server begins another binary log file
// just then.
const fileTries = 20
