package subject

import (
	"context"
	"errors"
	"io"
	"time"

	"filippo.io/age"

	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/login"
	"hb/source/scope"
	"hb/stream"
	"hb/stream/progress"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// Options say how to make a backup. The tags are the command line's.
type Options struct {
	// Datadir is the path of the server's data directory as hb sees it; empty: the
	// server's own path.
	Datadir string `help:"Path of the server's data directory as hb sees it (default: the server's own path)." placeholder:"DIR" type:"path"`
	// Parallel is the number of readers, at most 64; 0: one for each processor, at
	// most 8.
	Parallel int `type:"count" help:"Number of readers (default: processors, at most 8)." placeholder:"N"`
	// Throttle limits the reading of tablespaces; 0: full speed. Redo is never
	// slowed down.
	Throttle stream.Size `help:"Limit reading of tablespaces to SIZE bytes per second." placeholder:"SIZE"`
	// Tmpdir is the directory for redo and staged files that do not fit into memory.
	Tmpdir string `help:"Directory for the spool of redo that the archive cannot take yet (default: TMPDIR or /tmp)." placeholder:"DIR" type:"path"`
	// Since is the base of an incremental backup: see since.Open; "": a full backup.
	Since string `help:"Back up only what changed since this backup: its archive, a file or an https:// address; its manifest; or a directory extracted from it and not applied." placeholder:"BASE" type:"archive"`
	// SlaveInfo records the position of the server's own replication.
	SlaveInfo bool `help:"Record the position of the server's own replication."`
	// GaleraInfo records the Galera position (MariaDB).
	GaleraInfo bool `help:"Record the Galera position."`

	// NoDefinitions leaves out hb-definitions: see package definitions.
	NoDefinitions bool `help:"Do not record the definitions of tables, views, triggers, routines and events as SQL."`

	// Scope says which tables to back up; its zero value: all.
	Scope scope.Options `embed:"" group:"Partial backups"`

	MySQLOptions `embed:"" group:"Locks and replication (MySQL)"`

	// Keys are those that hb was given; nil: none.
	Keys *keyring.Keys `kong:"-"`
	// Recipients can read the keys that a restore needs, which the archive then has; nil:
	// it has none.
	Recipients []age.Recipient `kong:"-"`

	Tool        string `kong:"-"` // name of the program, for metadata
	ToolVersion string `kong:"-"`
	Command     string `kong:"-"` // the command line without secrets, for metadata
	// Stored says which stages the archive passes through, for metadata.
	Stored metadata.ArchiveFlags `kong:"-"`

	// Manifest gets hb-archive.json and hb-manifest.json; nil: only the archive has them.
	Manifest io.Writer `kong:"-"`
	// Progress counts what the backup has done; nil: nobody looks.
	Progress *progress.Tracker `kong:"-"`
	// Warn gets what the user should know although the backup is good, as soon as hb
	// notices it; it must not block. The manifest has the warnings, too. nil: only the
	// manifest has them.
	Warn func(text string) `kong:"-"`
	// Pace is called before hb reads that many bytes of a tablespace, and may wait;
	// nil: Throttle sets the rate.
	Pace func(ctx context.Context, bytes int) error `kong:"-"`
}

// MySQLOptions are those of MySQL and Percona Server only.
type MySQLOptions struct {
	// FTWRL says how to take FLUSH TABLES WITH READ LOCK, where hb takes it. The
	// backup warns of each killed statement before it calls Killed.
	FTWRL locks.FTWRL `embed:""`
	// LockDDLPerTable takes a metadata lock on every InnoDB table before
	// copying begins, so that DDL on them waits for the end of the backup (5.6
	// and 5.7; later servers have one lock for that). Without it DDL goes on,
	// and hb copies again, under the final lock, what it changed.
	LockDDLPerTable bool `name:"lock-ddl-per-table" help:"Lock every table against DDL before copying (5.6 and 5.7). Not needed: hb copies again what DDL changed."`
	// LockDDL says when LOCK INSTANCE FOR BACKUP is held, on 8.0 and later.
	LockDDL LockDDL `name:"lock-ddl" help:"Hold LOCK INSTANCE FOR BACKUP (8.0 and later) only at the end, so that DDL goes on while hb copies pages (REDUCED), or from the beginning (ON)." enum:"ON,REDUCED" default:"REDUCED" placeholder:"ON|REDUCED"`
	// SafeSlave stops the replica's applier threads, waits at most
	// SafeSlaveTimeout (0: DefaultSafeSlaveTimeout) until no temporary table of
	// replication is open, and starts them again after the locks: around the final lock, or
	// with LockDDLOn around the whole copy, as 8.0 and later let nobody stop the threads
	// while the instance is locked.
	SafeSlave        bool          `name:"safe-slave-backup" help:"Stop the replica's SQL threads, once none of their temporary tables is open, while hb reads the position."`
	SafeSlaveTimeout time.Duration `name:"safe-slave-backup-timeout" help:"How long to wait for those tables to close (default 300)." placeholder:"SECONDS"`
	// DumpBufferPool has the server dump the list of pages in its buffer pool,
	// DumpBufferPoolPct percent of each instance (0: the server's setting), and waits
	// at most DumpBufferPoolTimeout (0: DefaultDumpTimeout) after the pages are copied.
	// Without it hb backs up the file of an earlier dump.
	DumpBufferPool        bool          `name:"dump-innodb-buffer-pool" help:"Have the server dump the list of pages in its buffer pool, and back that list up."`
	DumpBufferPoolPct     int           `name:"dump-innodb-buffer-pool-pct" help:"Share of the buffer pool to dump (default: the server's setting)." placeholder:"PERCENT"`
	DumpBufferPoolTimeout time.Duration `name:"dump-innodb-buffer-pool-timeout" help:"How long to wait for the dump after the pages are copied (default 10)." placeholder:"SECONDS"`
}

// LockDDL is when DDL is locked out, by the names that XtraBackup has for it.
type LockDDL string

// The times.
const (
	LockDDLOn      LockDDL = "ON"      // while hb copies pages
	LockDDLReduced LockDDL = "REDUCED" // only at the end; for the zero value too
)

// The waits that XtraBackup has by default.
const (
	DefaultSafeSlaveTimeout = 300 * time.Second
	DefaultDumpTimeout      = 10 * time.Second
)

// Flags are the command-line options of a backup.
type Flags struct {
	Connection login.Flags `embed:"" group:"Connection"`
	Options
	InfoFile    string            `help:"Keep the status of the backup in this file, as JSON: running, complete or failed." placeholder:"FILE" type:"path"`
	ManifestOut string            `help:"Write the backup's manifest to this file when the archive is complete. It is what --since needs of this backup." placeholder:"FILE" type:"path"`
	Estimate    bool              `help:"Estimate the size of the archive without taking a backup. Prints a number for aws s3 cp --expected-size. With --since, a sample of 4096 pages shows how many have changed: the number leaves room for its error."`
	Stages      stream.WriteFlags `embed:"" group:"Stages"`
	Encryption  keyring.Flags     `embed:"" group:"Encryption at rest"`
}

// Prepare completes the Options, and returns the stages that the archive passes
// through. The first mistake in the flags, or in what they name, is a
// *stream.UsageError. It does not look at the connection: see Connect.
func (f *Flags) Prepare() (stream.WriteOptions, error) {
	stages, mistakes := f.PrepareAll()
	if len(mistakes) > 0 {
		return stages, mistakes[0]
	}
	return stages, nil
}

// PrepareAll is Prepare with all mistakes.
func (f *Flags) PrepareAll() (stages stream.WriteOptions, mistakes []error) {
	var err error
	if f.Tmpdir, err = stream.TempDir(f.Tmpdir); err != nil {
		mistakes = append(mistakes, err)
	}
	if stages, err = f.Stages.Options(); err != nil {
		mistakes = append(mistakes, err)
	}
	if _, err := f.Scope.Compile(); err != nil {
		mistakes = append(mistakes, err)
	}
	if f.Keys, err = f.Encryption.Load(); err != nil {
		mistakes = append(mistakes, err)
	}
	if f.Stages.EncryptPassphraseFile == "" {
		f.Recipients = stages.Recipients
	}
	if f.InfoFile != "" && f.InfoFile == f.ManifestOut {
		mistakes = append(mistakes, stream.AsUsage(errors.New("--info-file and --manifest-out name the same file")))
	}
	if f.Since == "-" {
		mistakes = append(mistakes, stream.AsUsage(errors.New("--since reads its base from a file or an address, and not from standard input")))
	}
	f.Stored.Compressed, f.Stored.Encrypted = stages.Compress != nil, len(stages.Recipients) > 0
	return stages, mistakes
}

// Connect connects to the server that the flags or env name, and passes to warn what
// is doubtful about the connection. An error is that of mysqld.Connect, a
// *login.NoSocketError, or a *stream.UsageError.
func (f *Flags) Connect(ctx context.Context, env login.Env, warn func(text string)) (*mysqld.Server, error) {
	o, err := f.Resolve(env)
	if err != nil {
		return nil, err
	}
	for _, text := range o.Doubts() {
		warn(text)
	}
	return mysqld.Connect(ctx, o)
}

// Resolve says how to connect. If no option names the socket, and there is none in the
// usual places, the server probably does not run: that is not a *stream.UsageError.
func (f *Flags) Resolve(env login.Env) (login.Options, error) {
	o, _, err := login.Resolve(f.Connection, env)
	if _, stopped := errors.AsType[*login.NoSocketError](err); !stopped {
		err = stream.AsUsage(err)
	}
	return o, err
}
