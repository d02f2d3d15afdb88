//go:build unix

package sink

import (
	"io/fs"
	"os"
	"syscall"

	"hb/stream/disk"
)

// noFollow keeps an open from following a link.
const noFollow = syscall.O_NOFOLLOW

// sameOwner gives f the owner of another file, where it is not that already.
func sameOwner(f disk.File, like fs.FileInfo) error {
	want, ok := like.Sys().(*syscall.Stat_t)
	if !ok || int(want.Uid) == os.Geteuid() && int(want.Gid) == os.Getegid() {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}
