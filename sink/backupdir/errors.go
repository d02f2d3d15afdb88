package backupdir

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/keyring"
)

// NotBackupError says that apply cannot work on a directory.
type NotBackupError struct {
	Dir  string
	What string // what it is, or lacks, and what to do
}

func (e *NotBackupError) Error() string { return e.Dir + ": " + e.What }

// DamageError is a fault of a file of a backup: a page, the redo log,
// or its sum in the manifest.
type DamageError struct {
	File string // of the backup; "" where it is about more than one
	Err  error
}

// TargetError reports a target directory that cannot take an archive.
type TargetError struct {
	Dir    string
	Reason string
	Err    error // may be nil
}

func (e *TargetError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("target directory %s: %s: %v", e.Dir, e.Reason, e.Err)
	}
	return fmt.Sprintf("target directory %s: %s", e.Dir, e.Reason)
}

// Unwrap returns the system's error.
func (e *TargetError) Unwrap() error { return e.Err }

// MissingError says that a backup lacks something that recovery, or the
// server, needs.
type MissingError struct{ What string }

func (e *MissingError) Error() string { return e.What }

// Missing returns a *MissingError.
func Missing(format string, args ...any) error { return &MissingError{fmt.Sprintf(format, args...)} }

// AsDamage turns an error of the recovery into a *DamageError, unless it is another
// error of the backup or the directory, of the system, or about what hb cannot do.
func AsDamage(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || slices.ContainsFunc(notDamage, func(is func(error) bool) bool { return is(err) }) {
		return err
	}
	return &DamageError{Err: err}
}

var notDamage = []func(error) bool{
	isA[*NotBackupError], isA[*DamageError], isA[*MissingError], isA[syscall.Errno],
	isA[*mariadbredo.UnsupportedError], isA[*mysqlredo.UnsupportedError], isA[*mysqlredo.FlagsError],
	isA[*innodb.UnsupportedError], isA[*innodb.InternalError], keyring.IsKeyError,
}

func isA[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
