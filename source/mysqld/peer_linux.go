package mysqld

import (
	"net"

	"golang.org/x/sys/unix"
)

// peerProcess asks the kernel which process listens at the other end of a connection:
// 0 if it does not know.
func peerProcess(c *net.UnixConn) (pid int) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}
