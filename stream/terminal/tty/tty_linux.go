package tty

import (
	"os"

	"golang.org/x/sys/unix"
)

// What ioctl(2) is asked for.
const (
	getTermios = unix.TCGETS
	setTermios = unix.TCSETS
)

// IsClosed reports whether f, a standard stream, was closed when the process
// began. Go then puts /dev/null in its place, open in both directions, which no
// shell's > does.
func IsClosed(f *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return true
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	null := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
	return err != nil || null && flags&unix.O_ACCMODE == unix.O_RDWR
}
