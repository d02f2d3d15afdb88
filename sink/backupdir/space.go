package backupdir

import (
	"errors"
	"fmt"
	"syscall"

	"hb/stream"
	"hb/stream/disk"
)

// FreeSpace is how many bytes a directory's file system has for this user. Tests give others.
type FreeSpace func(dir string) (free int64, err error)

// SpaceError says that files do not fit into a directory's file system.
type SpaceError struct {
	Dir          string
	Needed, Free int64 // bytes
	What         string
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("%s %s in %s, where %s are free: make room, or give another place", e.What, stream.Size(e.Needed), e.Dir, stream.Size(e.Free))
}

// Unwrap makes it the error that a full disk would give.
func (e *SpaceError) Unwrap() error { return syscall.ENOSPC }

// CheckSpace returns a *SpaceError if a directory does not have that many bytes free. what is the
// subject and the verb of its text. f is how that is found out; nil: the system is asked, if it
// can tell.
func CheckSpace(f FreeSpace, dir string, needed int64, what string) error {
	if f == nil {
		f = systemSpace
	}
	free, err := f(dir)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return nil
	case err != nil:
		return fmt.Errorf("looking for space in %s: %w", dir, err)
	case free < needed:
		return &SpaceError{dir, needed, free, what}
	}
	return nil
}

func systemSpace(dir string) (int64, error) {
	free, _, err := disk.FreeSpace(dir)
	return free, err
}
