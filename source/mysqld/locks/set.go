// Package locks takes the locks of a backup, each on a connection of its own, proves
// that they were held to the end, and records for how long.
package locks

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/contents"
)

// A Set is the locks that one backup takes on a server. Closing the server releases
// those that are still held. Its methods may be called by several goroutines.
type Set struct {
	srv *mysqld.Server

	mu  sync.Mutex
	all []*lockConn
}

// New returns a set without a lock.
func New(srv *mysqld.Server) *Set { return &Set{srv: srv} }

// newLock makes a lock that is not taken yet; release is the statement that
// will release it.
func (s *Set) newLock(release string) *Lock {
	l := &Lock{lockConn{srv: s.srv, release: release}}
	s.keep(&l.lockConn)
	return l
}

// lock takes one lock by one statement on a connection of its own.
func (s *Set) lock(ctx context.Context, t Timing, release string) (*Lock, error) {
	l := s.newLock(release)
	return l, l.first(ctx, t)
}

// first takes the first lock of a connection, which it closes after an error.
func (l *Lock) first(ctx context.Context, t Timing) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.acquire(ctx, t); err != nil {
		return errors.Join(err, l.hangUp())
	}
	return nil
}

// keep adds l to the set, and has the server release its locks when it is closed.
func (s *Set) keep(l *lockConn) {
	s.srv.OnClose(l)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, l)
}

// Times says how each lock went so far, in the order in
// which they were asked for: MariaDB's stages and MySQL's locks alike.
func (s *Set) Times() []Timing {
	s.mu.Lock()
	all := slices.Clone(s.all)
	s.mu.Unlock()
	var out []Timing
	for _, l := range all {
		out = append(out, l.Times()...)
	}
	slices.SortStableFunc(out, func(a, b Timing) int { return cmp.Compare(a.Began.UnixNano(), b.Began.UnixNano()) })
	return out
}

// Instance takes LOCK INSTANCE FOR BACKUP (Series.LogStatus), which blocks
// DDL, the creation and removal of files, truncation of undo tablespaces and
// the purge of binary logs, and lets all writes go on. Server.Close releases it.
// It waits for running DDL; the error is a *TimeoutError after
// Options.LockWait.
func (s *Set) Instance(ctx context.Context) (*Lock, error) {
	return s.lock(ctx, instanceTiming, unlockInstance)
}

var instanceTiming = Timing{Lock: "LOCK INSTANCE FOR BACKUP", Blocks: BlocksDDL}

const unlockInstance = "UNLOCK INSTANCE"

// InstanceWithin is Instance with a wait of its own, which the server counts in whole
// seconds. DDL that is asked for waits as long.
func (s *Set) InstanceWithin(ctx context.Context, wait time.Duration) (*Lock, error) {
	l := s.newLock(unlockInstance)
	l.within = wait
	return l, l.first(ctx, instanceTiming)
}

// Tables takes Percona Server's LOCK TABLES FOR BACKUP (Series.TablesLock),
// which blocks DDL and writes to non-transactional tables and waits for those
// that run, but not for SELECT.
func (s *Set) Tables(ctx context.Context) (*Lock, error) {
	return s.lock(ctx, Timing{Lock: "LOCK TABLES FOR BACKUP", Blocks: BlocksDDL | BlocksOthers}, "UNLOCK TABLES")
}

// Binlog takes Percona Server's LOCK BINLOG FOR BACKUP (Series.BinlogLock),
// which blocks everything that moves the position of the binary log or of the
// replica's threads.
func (s *Set) Binlog(ctx context.Context) (*Lock, error) {
	return s.lock(ctx, Timing{Lock: "LOCK BINLOG FOR BACKUP", Blocks: BlocksCommits}, "UNLOCK BINLOG")
}

// FlushTable has the server close a table that nobody uses: its files then have all
// changes, and are marked as closed. It needs RELOAD.
func FlushTable(ctx context.Context, srv *mysqld.Server, t contents.Table) error {
	return srv.Control.Exec(ctx, "FLUSH NO_WRITE_TO_BINLOG TABLES "+tableList([]contents.Table{t}))
}
