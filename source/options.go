package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/login"
	"hb/stream"
	"hb/stream/progress"
	"hb/xbstream/metadata"
)

// Options say how to make a backup. The tags are the command line's.
type Options struct {
	// Datadir is where the server's data directory is seen from here; empty: where
	// the server says.
	Datadir string `help:"Path of the server's data directory as hb sees it (default: the server's own path)." placeholder:"DIR" type:"path"`
	// Parallel is how many readers there are, at most 64; 0: one for each processor,
	// at most 8.
	Parallel int `type:"count" help:"Number of readers (default: processors, at most 8)." placeholder:"N"`
	// Throttle limits the reading of tablespaces; 0: full speed. Redo is never
	// slowed down.
	Throttle stream.Size `help:"Limit reading of tablespaces to SIZE bytes per second." placeholder:"SIZE"`
	// Tmpdir is where redo and staged files are spooled that memory does not hold.
	Tmpdir string `help:"Directory for the spool of redo that the archive cannot take yet (default: TMPDIR or /tmp)." placeholder:"DIR" type:"path"`
	// SlaveInfo records the position of the server's own replication.
	SlaveInfo bool `help:"Record the position of the server's own replication."`
	// GaleraInfo records the Galera position (MariaDB).
	GaleraInfo bool `help:"Record the Galera position."`

	MySQLOptions `embed:"" group:"Locks and replication (MySQL)"`

	Tool        string `kong:"-"` // name of the program, for metadata
	ToolVersion string `kong:"-"`
	Command     string `kong:"-"` // the command line without secrets, for metadata
	// Stored is what the stages after the archive do, for metadata.
	Stored metadata.ArchiveFlags `kong:"-"`

	// Progress is told how far the backup is; nil: nobody looks.
	Progress *progress.Tracker `kong:"-"`
	// Warn is told what the user should know although the backup is good, when it
	// is noticed; it must not wait. The manifest has it too. nil: nobody is told.
	Warn func(text string) `kong:"-"`
	// Pace is asked before so many bytes of a tablespace are read, and may wait.
	// nil: Throttle says how fast.
	Pace func(ctx context.Context, bytes int) error `kong:"-"`
}

// MySQLOptions are those of MySQL and Percona Server only.
type MySQLOptions struct {
	// FTWRL says how FLUSH TABLES WITH READ LOCK is taken, where it is. The backup
	// makes a warning of what its Killed is told, and tells the caller after that.
	FTWRL locks.FTWRL `embed:""`
	// LockDDLPerTable takes a metadata lock on every InnoDB table before
	// copying begins, so that DDL on them waits for the end of the backup (5.6
	// and 5.7; later servers have one lock for that). Without it DDL goes on,
	// and what it changed is copied again under the final lock.
	LockDDLPerTable bool `name:"lock-ddl-per-table" help:"Lock every table against DDL before copying (5.6 and 5.7). Not needed: hb copies again what DDL changed."`
	// SafeSlave stops the replica's applier threads, waits at most
	// SafeSlaveTimeout (0: DefaultSafeSlaveTimeout) until no temporary table of
	// replication is open, and starts them again after the locks. On 5.6 and
	// 5.7 that is around the final lock; later servers let nobody stop the
	// threads while the instance is locked, so that they rest while pages are
	// copied.
	SafeSlave        bool          `name:"safe-slave-backup" help:"Stop the replica's SQL threads, once none of their temporary tables is open, while hb reads the position."`
	SafeSlaveTimeout time.Duration `name:"safe-slave-backup-timeout" help:"How long to wait for those tables to close (default 300)." placeholder:"SECONDS"`
	// DumpBufferPool has the server write down which pages its buffer pool
	// holds, DumpBufferPoolPct percent of each instance (0: as it is set), and
	// waits at most DumpBufferPoolTimeout (0: DefaultDumpTimeout) beyond the
	// time that copying takes. Without it the file of an earlier dump is taken.
	DumpBufferPool        bool          `name:"dump-innodb-buffer-pool" help:"Have the server dump the list of pages in its buffer pool, and back that list up."`
	DumpBufferPoolPct     int           `name:"dump-innodb-buffer-pool-pct" help:"Share of the buffer pool to dump (default: the server's setting)." placeholder:"PERCENT"`
	DumpBufferPoolTimeout time.Duration `name:"dump-innodb-buffer-pool-timeout" help:"How long to wait for the dump after the pages are copied (default 10)." placeholder:"SECONDS"`
}

// Result is what Run has to tell of a backup.
type Result struct {
	Manifest metadata.Manifest
	Locks    []locks.Timing // in the order in which they were asked for
	Bytes    int64          // of the archive, before compression
}

// The waits that XtraBackup has by default.
const (
	DefaultSafeSlaveTimeout = 300 * time.Second
	DefaultDumpTimeout      = 10 * time.Second
)

// Describe says in a few lines what the archive holds and what making it took: sent
// is its bytes after its stages, took the time.
func (r *Result) Describe(sent int64, took time.Duration) string {
	var b strings.Builder
	m := &r.Manifest
	fmt.Fprintf(&b, "backup complete: %s in %s, %s/s", stream.Size(sent), took, stream.Rate(sent, took))
	fmt.Fprintf(&b, "\nredo from LSN %d to %d", m.FromLSN, m.LastLSN)
	if m.Binlog != nil {
		fmt.Fprintf(&b, "\nbinlog %s:%d %s", m.Binlog.File, m.Binlog.Pos, m.Binlog.GTID)
	}
	for _, l := range r.Locks {
		fmt.Fprintf(&b, "\n%s: waited %s, held %s", l.Lock, l.Wait.Round(time.Microsecond), l.Held.Round(time.Microsecond))
	}
	if n := len(m.Warnings); n > 0 {
		fmt.Fprintf(&b, "\nwarnings: %d, as told above; the manifest has them too", n)
	}
	return b.String()
}

// Facts are what Describe says, for programs.
func (r *Result) Facts() []slog.Attr {
	m := &r.Manifest
	facts := []slog.Attr{slog.Int64("archive_bytes", r.Bytes), slog.Uint64("from_lsn", uint64(m.FromLSN)), slog.Uint64("last_lsn", uint64(m.LastLSN))}
	if m.Binlog != nil {
		facts = append(facts, slog.Any("binlog", m.Binlog))
	}
	return append(facts, slog.Any("locks", r.Locks), slog.Any("manifest", m))
}

// Flags are the options of the command line that say what is backed up, and how.
type Flags struct {
	Connection login.Flags `embed:"" group:"Connection"`
	Options
	InfoFile string            `help:"Keep the status of the backup in this file, as JSON: running, complete or failed." placeholder:"FILE" type:"path"`
	Estimate bool              `help:"Estimate the size of the archive without taking a backup. Prints a number for aws s3 cp --expected-size."`
	Stages   stream.WriteFlags `embed:"" group:"Stages"`
}

// Prepare completes the Options, and returns what is done to the archive on its way
// out. The first mistake in the flags, or in what they name, is a *stream.UsageError.
// The server is left to Connect.
func (f *Flags) Prepare() (stream.WriteOptions, error) {
	stages, mistakes := f.prepare()
	if len(mistakes) > 0 {
		return stages, mistakes[0]
	}
	return stages, nil
}

// prepare is Prepare with all mistakes.
func (f *Flags) prepare() (stages stream.WriteOptions, mistakes []error) {
	var err error
	if f.Tmpdir, err = stream.TempDir(f.Tmpdir); err != nil {
		mistakes = append(mistakes, err)
	}
	if stages, err = f.Stages.Options(); err != nil {
		mistakes = append(mistakes, err)
	}
	f.Stored.Compressed, f.Stored.Encrypted = stages.Compress != nil, len(stages.Recipients) > 0
	return stages, mistakes
}

// Connect connects to the server that the flags name, or else env, and tells warn
// what is doubtful of the connection. An error is that of mysqld.Connect, a
// *mysqld.NoSocketError, or a *stream.UsageError.
func (f *Flags) Connect(ctx context.Context, env login.Env, warn func(text string)) (*mysqld.Server, error) {
	o, err := f.resolve(env)
	if err != nil {
		return nil, err
	}
	for _, text := range o.Doubts() {
		warn(text)
	}
	return mysqld.Connect(ctx, o)
}

// resolve says how to connect. Where nothing says where the server is, and it is
// not where servers are, it does not run: that is not a mistake.
func (f *Flags) resolve(env login.Env) (login.Options, error) {
	o, _, err := login.Resolve(f.Connection, env)
	if _, stopped := errors.AsType[*login.NoSocketError](err); !stopped {
		err = stream.AsUsage(err)
	}
	return o, err
}
