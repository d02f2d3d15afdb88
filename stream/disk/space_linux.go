package disk

import "golang.org/x/sys/unix"

// ramfs is that file system's number.
const ramfs = 0x858458f6

// FreeSpace is how many bytes there are in a directory for this user, and whether
// they are memory.
func FreeSpace(dir string) (free int64, inMemory bool, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false, err
	}
	return int64(st.Bavail) * int64(st.Frsize), uint32(st.Type) == unix.TMPFS_MAGIC || uint32(st.Type) == ramfs, nil
}
