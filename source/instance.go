package source

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hb/source/innodb"
	"hb/source/mysqld"
	"hb/source/spool"
)

// keepRedo has the server keep the redo log files that hb has not read yet.
func (b *backup) keepRedo(ctx context.Context) error {
	if !b.srv.Dialect.RedoConsumer {
		return nil
	}
	consumer, warning, err := b.srv.RegisterRedoConsumer(ctx)
	if warning != "" {
		b.warn("%s", warning)
	}
	b.mysql.consumer = consumer
	return err
}

func (b *backup) lockInstance(ctx context.Context) (err error) {
	b.opt.Progress.Begin("waiting for LOCK INSTANCE FOR BACKUP", 0)
	b.mysql.instance, err = b.srv.LockInstance(ctx)
	return err
}

// unlockInstance proves that the locks were held to this moment, and releases
// them.
func (b *backup) unlockInstance(ctx context.Context) error { return b.mysql.instance.Release(ctx) }

// releaseRedo lets the server recycle its redo log files again.
func (b *backup) releaseRedo(context.Context) error {
	if b.mysql.consumer == nil {
		return nil
	}
	return b.mysql.consumer.Close()
}

// rotateBinlog begins a new binary log file, so that little of it is to be
// copied.
func (b *backup) rotateBinlog(ctx context.Context) error {
	if on, _ := b.srv.Vars.LogBin(); !on {
		return nil
	}
	return b.srv.FlushBinaryLogs(ctx)
}

// position takes position and LSN of one moment. While there are tables without
// transactions nobody may write to them from when what changed in them is staged
// until then.
func (b *backup) position(ctx context.Context) error {
	b.opt.Progress.Begin("taking the position", 0)
	tables, err := b.plainTables(ctx)
	if err != nil {
		return err
	}
	if len(tables) > 0 {
		if err := b.mysql.instance.HoldTables(ctx, tables, b.lockPolicy()); err != nil {
			return err
		}
		if err := b.restage(ctx); err != nil {
			return err
		}
	}
	if err := b.takeStatus(ctx); err != nil {
		return err
	}
	return b.openBinlog()
}

// plainTables lists the users' tables without transactions.
func (b *backup) plainTables(ctx context.Context) ([]mysqld.Table, error) {
	tables, some, err := b.hasPlainTables(ctx, maps.Keys(b.stage.files))
	if err != nil || !some {
		return nil, err
	}
	// With the privileges that it takes, the list is complete.
	needs := b.needs()
	needs.HoldTables = true
	return tables, b.srv.CheckPrivileges(ctx, needs)
}

// hasPlainTables reports whether there are users' tables without transactions,
// and which of them the account may see, by the names of the files that are not
// InnoDB's: what the account may not see it cannot be told of.
func (b *backup) hasPlainTables(ctx context.Context, files iter.Seq[string]) ([]mysqld.Table, bool, error) {
	tables, complete, err := b.srv.NonTransactionalTables(ctx)
	if err != nil || complete || len(tables) > 0 {
		return tables, len(tables) > 0, err
	}
	for name := range files {
		if isUserFile(name) {
			return nil, true, nil
		}
	}
	return nil, false, nil
}

// isUserFile reports whether a file belongs to a table in a user's database.
func isUserFile(name string) bool {
	db, base, ok := strings.Cut(name, "/")
	return ok && !slices.Contains([]string{"mysql", "performance_schema", "sys"}, db) && filepath.Ext(base) != ".opt"
}

// restage stages again, under the lock, what changed of other engines' files
// since they were staged.
func (b *backup) restage(ctx context.Context) error {
	list, err := b.layout.list()
	if err != nil {
		return err
	}
	return b.stage.refresh(ctx, list.others, anyFile)
}

// takeStatus asks where all logs stand, and from where a copy of this replica
// would have to go on reading.
func (b *backup) takeStatus(ctx context.Context) error {
	b.follower.Hold()
	st, err := b.srv.LogStatus(ctx)
	if err != nil {
		return err
	}
	b.spot, b.end = st.Binlog, st.LSN
	if b.opt.SlaveInfo {
		if b.slave, err = b.replicaAt(ctx, st); err != nil {
			return err
		}
	}
	return nil
}

// InexactSourceError says that a replica's position is not known to the
// transaction.
type InexactSourceError struct{}

func (InexactSourceError) Error() string {
	return "this replica follows a source by file and position, which is only exact while its applier rests: " +
		"add --safe-slave-backup to --slave-info, or replicate by GTID (SOURCE_AUTO_POSITION=1)"
}

// replicaAt returns the state of replication at the moment of st.
func (b *backup) replicaAt(ctx context.Context, st mysqld.LogStatus) (mysqld.ReplicaState, error) {
	state, err := b.srv.ReplicaState(ctx)
	if err != nil {
		return state, err
	}
	state, exact := state.At(st)
	if !exact && !b.opt.SafeSlave {
		return state, InexactSourceError{}
	}
	return state, nil
}

// checkReplica is replicaAt before anything is locked.
func (b *backup) checkReplica(ctx context.Context, f *Finding) error {
	if !b.opt.SlaveInfo {
		f.Text = "not asked for (--slave-info)"
		return nil
	}
	if b.srv.Dialect.LogStatus {
		st, err := b.srv.LogStatus(ctx)
		if err != nil {
			return err
		}
		if _, err = b.replicaAt(ctx, st); err != nil {
			return err
		}
	}
	f.Text = "the position of its source can be recorded"
	return nil
}

// openBinlog opens the binary log file that the position is in: once the locks
// are released, it may be purged.
func (b *backup) openBinlog() (err error) {
	if b.spot == nil || b.spot.File == "" {
		return nil
	}
	_, base := b.srv.Vars.LogBin()
	path := filepath.Join(filepath.Dir(b.layout.seen(base)), b.spot.File)
	if b.mysql.binlog, err = b.disk.Open(path); err != nil {
		return fmt.Errorf("opening the binary log: %w", err)
	}
	return nil
}

// stageBinlog stages the binary log file up to the position, and an index that
// names it alone: a server that finds them where its binary log is knows which
// of the transactions that were only prepared are to be committed, and its GTID
// set is exactly that of the position.
func (b *backup) stageBinlog(ctx context.Context) error {
	if b.mysql.binlog == nil {
		return nil
	}
	if err := b.stage.copyPrefix(ctx, b.mysql.binlog, b.spot.File, int64(b.spot.Pos)); err != nil {
		return fmt.Errorf("copying the binary log %s: %w", b.spot.File, err)
	}
	index := filepath.Base(b.srv.Vars.BinlogIndex())
	return b.stage.put(index, []byte("./"+b.spot.File+"\n"))
}

// binlogWait bounds the wait for the binary log's file to be as long as the
// position says.
const binlogWait = 10 * time.Second

// copyPrefix stages the first n bytes of f, which grows, under a name.
func (s *stage) copyPrefix(ctx context.Context, f io.ReaderAt, name string, n int64) error {
	c := &staged{info: fileInfo{name: name}}
	for end := time.Now().Add(binlogWait); c.size < n; {
		chunk := s.buf[:min(int64(len(s.buf)), n-c.size)]
		got, err := f.ReadAt(chunk, c.size)
		if err != nil && err != io.EOF {
			return err
		}
		if got == 0 {
			if time.Now().After(end) {
				return fmt.Errorf("it has %d bytes, but the server says it is at position %d", c.size, n)
			}
			if err := pause(ctx, pollBinlog); err != nil {
				return err
			}
			continue
		}
		e, err := s.spool.Append(chunk[:got])
		if err != nil {
			return err
		}
		c.extents = append(c.extents, e)
		c.size += e.Len()
	}
	s.files[name] = c
	return nil
}

// pollBinlog is the time between two looks at a file that is too short.
const pollBinlog = 10 * time.Millisecond

// put stages a small file that is made here.
func (s *stage) put(name string, content []byte) error {
	e, err := s.spool.Append(content)
	if err != nil {
		return err
	}
	s.files[name] = &staged{info: fileInfo{name: name}, extents: []spool.Extent{e}, size: e.Len()}
	return nil
}

// LockBrokenError says that tablespaces came or went although LOCK INSTANCE FOR
// BACKUP was held.
type LockBrokenError struct{ ID innodb.SpaceID }

func (e *LockBrokenError) Error() string {
	return fmt.Sprintf("tablespace %d appeared or changed its file while LOCK INSTANCE FOR BACKUP was held, "+
		"which should have prevented that: the backup is void; back up again", e.ID)
}

// proveUnchanged checks that what was copied is what there is: while the lock is
// held no tablespace comes, goes or is truncated, and every one that the server
// knows is in the archive.
func (b *backup) proveUnchanged(ctx context.Context) error {
	list, err := b.list(ctx)
	if err != nil {
		return err
	}
	if b.last, err = b.inventory.look(ctx, list.tablespaces); err != nil {
		return err
	}
	if err := b.last.unique(); err != nil {
		return err
	}
	b.databases = list.databases
	for _, t := range b.last.files {
		if !b.registry.has(t.spaceFile()) {
			return &LockBrokenError{t.space.ID}
		}
	}
	return b.proveComplete(ctx)
}
