//go:build unix

package backupdir

import (
	"io/fs"
	"os"
	"syscall"

	"hb/stream/disk"
)

// NoFollow keeps an open from following a link.
const NoFollow = syscall.O_NOFOLLOW

// SameOwner gives f the owner of another file, where it is not that already.
func SameOwner(f disk.File, like fs.FileInfo) error {
	want, ok := like.Sys().(*syscall.Stat_t)
	if !ok || int(want.Uid) == os.Geteuid() && int(want.Gid) == os.Getegid() {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}

// OfRoot reports whether a file belongs to root, so that only root's programs, and no
// server that has an account of its own, can write it.
func OfRoot(st fs.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && sys.Uid == 0
}

// Links is how many names a file has.
func Links(st fs.FileInfo) uint64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return uint64(sys.Nlink)
	}
	return 1
}
