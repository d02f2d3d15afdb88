//go:build unix && !linux

package tty

import "golang.org/x/sys/unix"

// What ioctl(2) is asked for.
const (
	getTermios = unix.TIOCGETA
	setTermios = unix.TIOCSETA
)
