package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"hb/source/innodb"
	"hb/source/mysqld"
	"hb/source/redo"
	"hb/stream/disk"
)

// A check looks at one thing that may stop a backup. What it finds is told by
// Check alone; its error is what the backup ends with.
type check struct {
	name string
	look func(b *backup, ctx context.Context, f *Finding) error
}

// preflightChecks are what every backup begins with, in this order: missing
// privileges, what hb cannot copy, files that are not this server's or cannot be
// read, a redo log of unknown format.
var preflightChecks = []check{
	{"privileges", (*backup).checkPrivileges},
	{"features", (*backup).checkFeatures},
	{"replication", (*backup).checkReplica},
	{"files", (*backup).checkReadable},
	{"data directory", (*backup).checkDatadir},
	{"redo log", (*backup).checkRedo},
}

// preflight finds out, before anything is locked or sent, what would stop the
// backup.
func (b *backup) preflight(ctx context.Context) error {
	b.opt.Progress.Begin("looking at the server", 0)
	for _, c := range preflightChecks {
		if err := c.look(b, ctx, &Finding{}); err != nil {
			return err
		}
	}
	if text := b.withoutEffect(); text != "" {
		b.warn("%s", text)
	}
	return nil
}

// withoutEffect names the options that were given and mean nothing to this server;
// "" if there are none.
func (b *backup) withoutEffect() string {
	var names []string
	add := func(given bool, name string) {
		if given {
			names = append(names, name)
		}
	}
	d := &b.srv.Dialect
	add(b.opt.GaleraInfo && !d.Stages, "--galera-info")
	add(b.opt.FTWRL.WaitTimeout > 0 && d.Stages, "--ftwrl-wait-timeout")
	add(b.opt.FTWRL.KillTimeout > 0 && d.Stages, "--kill-long-queries-timeout")
	add(b.opt.LockDDLPerTable && (d.Stages || d.LogStatus), "--lock-ddl-per-table")
	add(b.opt.SafeSlave && d.Stages, "--safe-slave-backup")
	add(b.opt.DumpBufferPool && d.Stages, "--dump-innodb-buffer-pool")
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("without effect on %v %s: %s", b.srv.Flavor, b.srv.Version.Full, strings.Join(names, ", "))
}

// checkPrivileges looks for all that is needed now, so that no privilege is
// missed at the end of a long copy.
func (b *backup) checkPrivileges(ctx context.Context, f *Finding) error {
	needs := b.needs()
	if b.srv.Dialect.LogStatus {
		var err error
		if needs.HoldTables, err = b.mustHoldTables(ctx); err != nil {
			return err
		}
	}
	if err := b.srv.CheckPrivileges(ctx, needs); err != nil {
		return err
	}
	f.Text = "the account has all that this backup needs"
	return nil
}

// mustHoldTables reports whether there are tables without transactions to be
// locked at the end, on 8.0 and later.
func (b *backup) mustHoldTables(ctx context.Context) (bool, error) {
	list, err := b.layout.list()
	switch {
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist):
		list = &listing{} // checkReadable has the words for it
	case err != nil:
		return false, err
	}
	_, some, err := b.hasPlainTables(ctx, func(yield func(string) bool) {
		for _, info := range list.others {
			if !yield(info.name) {
				return
			}
		}
	})
	return some, err
}

func (b *backup) checkFeatures(ctx context.Context, f *Finding) error {
	if err := b.srv.CheckFeatures(ctx); err != nil {
		return err
	}
	f.Text = "no encryption, engine or setting that hb does not back up"
	return nil
}

// needs says what the backup is going to do, but for its last lock: what that
// takes goes by the series.
func (b *backup) needs() mysqld.Needs {
	return mysqld.Needs{
		SlaveInfo: b.opt.SlaveInfo, KillQueries: b.opt.FTWRL.KillTimeout > 0, SafeSlave: b.opt.SafeSlave,
		DumpBufferPool: b.opt.DumpBufferPool, LockTableDDL: b.opt.LockDDLPerTable,
	}
}

// UnreadableError says that a file of the server cannot be read.
type UnreadableError struct {
	Path string
	Err  error
}

func (e *UnreadableError) Error() string {
	return fmt.Sprintf("%s cannot be read: %v; run hb as root or as the server's own user", e.Path, e.Err)
}

func (e *UnreadableError) Unwrap() error { return e.Err }

// checkReadable looks whether this user may read every file of the backup, those
// first that the server need not be asked for.
func (b *backup) checkReadable(ctx context.Context, f *Finding) error {
	for _, dir := range []string{b.layout.Datadir, b.layout.RedoDir, b.layout.UndoDir, b.layout.AriaLogDir} {
		if err := disk.Access(dir, disk.Readable|disk.Searchable); err != nil {
			return &UnreadableError{dir, err}
		}
	}
	list, err := b.layout.list()
	if err != nil {
		return err
	}
	local := len(list.tablespaces)
	if err := readable(append(pathsOf(list.tablespaces, list.others), b.layout.System...)); err != nil {
		return err
	}
	f.Text = "all in the data directory can be read"
	if b.layout.General {
		if err := b.addRemote(ctx, list); err != nil {
			return err
		}
	}
	f.Text = fmt.Sprintf("all can be read: %d tablespaces, %d files of other engines and definitions", len(list.tablespaces)+len(b.layout.System), len(list.others))
	return readable(pathsOf(list.tablespaces[local:]))
}

func pathsOf(lists ...[]fileInfo) (paths []string) {
	for _, files := range lists {
		for _, info := range files {
			paths = append(paths, info.path)
		}
	}
	return paths
}

// readable looks whether this user may read files; those that are gone do not
// matter.
func readable(paths []string) error {
	for _, path := range paths {
		if err := disk.Access(path, disk.Readable); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &UnreadableError{path, err}
		}
	}
	return nil
}

// checkDatadir makes sure that the files are the server's.
func (b *backup) checkDatadir(ctx context.Context, f *Finding) error {
	_, err := b.srv.CheckDatadir(ctx, mysqld.DatadirFiles{
		Datadir: b.layout.Datadir, SystemFile: b.layout.System[0], Checkpoint: b.checkpoint,
	})
	if err == nil {
		f.Text = fmt.Sprintf("%s is the connected server's", b.layout.Datadir)
	}
	return err
}

// checkRedo makes sure that the redo log is one that hb can follow.
func (b *backup) checkRedo(_ context.Context, f *Finding) error {
	state, err := b.lookAtRedo()
	if err == nil {
		f.Text = fmt.Sprintf("the format is known: %v", state.Format)
	}
	return err
}

func (b *backup) lookAtRedo() (redo.State, error) {
	return b.sequence.lookAtRedo(b.disk, b.layout.RedoDir)
}

// checkpoint reads the newest checkpoint of the redo log.
func (b *backup) checkpoint() (innodb.LSN, error) {
	state, err := b.lookAtRedo()
	return state.Checkpoint, err
}
