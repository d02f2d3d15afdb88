package identity

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockHolder asks which process holds a write lock on a file. The process is 0
// if it is in a PID namespace that hb cannot see.
func lockHolder(path string) (pid int, locked bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, fmt.Errorf("system tablespace: %w", err)
	}
	// Asking takes no lock, so closing cannot release one of ours.
	defer func() { err = errors.Join(err, f.Close()) }()
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lk); err != nil {
		return 0, false, fmt.Errorf("ask for the lock on %s: %w", path, err)
	}
	if lk.Type == unix.F_UNLCK {
		return 0, false, nil
	}
	return max(int(lk.Pid), 0), true, nil
}
