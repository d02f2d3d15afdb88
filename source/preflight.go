package source

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"hb/source/innodb"
	"hb/source/mysqld"
)

// preflight finds out, before anything is locked or sent, what would stop the
// backup: missing privileges, what hb cannot copy, files that are not this
// server's or cannot be read, a redo log of unknown format.
func (b *backup) preflight(ctx context.Context) error {
	b.opt.Progress.Begin("looking at the server", 0)
	if err := b.srv.CheckPrivileges(ctx, b.needs()); err != nil {
		return err
	}
	if err := b.srv.CheckFeatures(ctx); err != nil {
		return err
	}
	if err := b.checkReplica(ctx); err != nil {
		return err
	}
	if err := b.checkReadable(ctx); err != nil {
		return err
	}
	_, err := b.srv.CheckDatadir(ctx, mysqld.DatadirFiles{
		Datadir:    b.layout.Datadir,
		SystemFile: b.layout.System[0],
		Checkpoint: func() (innodb.LSN, error) { return b.sequence.checkpoint(b.disk, b.layout.RedoDir) },
	})
	return err
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

// checkReadable looks whether this user may read every file of the backup.
func (b *backup) checkReadable(ctx context.Context) error {
	for _, dir := range []string{b.layout.Datadir, b.layout.RedoDir, b.layout.UndoDir, b.layout.AriaLogDir} {
		if err := unix.Access(dir, unix.R_OK|unix.X_OK); err != nil {
			return &UnreadableError{dir, err}
		}
	}
	list, err := b.list(ctx)
	if err != nil {
		return err
	}
	paths := append([]string{}, b.layout.System...)
	for _, files := range [][]fileInfo{list.tablespaces, list.others} {
		for _, info := range files {
			paths = append(paths, info.path)
		}
	}
	for _, path := range paths {
		if err := unix.Access(path, unix.R_OK); err != nil && err != unix.ENOENT {
			return &UnreadableError{path, err}
		}
	}
	return nil
}
