//go:build !linux

package mysqld

import (
	"errors"
	"net"
)

// What follows stands for what Linux alone has here. Nothing is backed up
// elsewhere.

func peerProcess(*net.UnixConn) int { return 0 }

func lockHolder(string) (pid int, locked bool, err error) { return 0, false, errors.ErrUnsupported }
