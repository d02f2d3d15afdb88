package datadir

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// A page that fails its check may be in the middle of being written: it is read
// again, at most Retries times, after pauses that begin with FirstRetry and double:
// about one second in all.
const (
	Retries    = 10
	FirstRetry = time.Millisecond
)

// Retry calls read until it succeeds, or finds for certain that the page does not
// exist, or fails for the last time. An error of the system is not a torn page: Retry
// does not try again.
func Retry(ctx context.Context, read func() error) error {
	wait := FirstRetry
	for try := 0; ; try++ {
		err := read()
		if err == nil || errors.Is(err, innodb.ErrZeroHeader) || SystemFailed(err) || try == Retries {
			return err
		}
		if err := Pause(ctx, wait); err != nil {
			return err
		}
		wait *= 2
	}
}

// SystemFailed reports whether the system call failed for a reason that no change by
// the server explains.
func SystemFailed(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok && !errors.Is(err, fs.ErrNotExist)
}

// Pause waits, or returns why the context ended.
func Pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// StaysEmpty reports whether a file without a byte is not just being made.
func StaysEmpty(ctx context.Context, system disk.System, info File) (bool, error) {
	wait := FirstRetry
	for range Retries {
		now, err := Stat(system, info.Path, info.Name)
		if err != nil || now.Size > 0 {
			return false, IgnoreGone(err)
		}
		if err := Pause(ctx, wait); err != nil {
			return false, err
		}
		wait *= 2
	}
	return true, nil
}
