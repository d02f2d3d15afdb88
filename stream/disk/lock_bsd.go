//go:build unix && !linux

package disk

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Lock uses flock(2), whose locks belong to the open file. They keep out another
// hb. Whether they keep out servers too, which take those of fcntl(2), was not
// tried.
func (f file) Lock() error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

func (f file) Unlock() error { return unix.Flock(int(f.Fd()), unix.LOCK_UN) }
