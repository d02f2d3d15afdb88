package keyring

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// protect keeps the memory of this process out of core dumps, and out of the reach of other
// processes of its user.
func protect() error {
	err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	var limit unix.Rlimit
	err = errors.Join(err, unix.Getrlimit(unix.RLIMIT_CORE, &limit))
	limit.Cur = 0
	if err = errors.Join(err, unix.Setrlimit(unix.RLIMIT_CORE, &limit)); err != nil {
		return fmt.Errorf("keeping keys out of core dumps: %w", err)
	}
	return nil
}
