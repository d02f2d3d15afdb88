package disk

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

func (system) Statx(path string) (Facts, error) { return statx(unix.AT_FDCWD, path, path, 0) }

func (system) Lstatx(path string) (Facts, error) {
	return statx(unix.AT_FDCWD, path, path, unix.AT_SYMLINK_NOFOLLOW)
}

// openFlags are those of OpenRegular.
func openFlags(links bool) int {
	if links {
		return unix.O_NONBLOCK
	}
	return unix.O_NONBLOCK | unix.O_NOFOLLOW
}

func (f file) Statx() (Facts, error) {
	return statx(int(f.Fd()), "", f.Name(), unix.AT_EMPTY_PATH)
}

func statx(fd int, relative, path string, flags int) (Facts, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, relative, flags, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st); err != nil {
		return Facts{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	facts := Facts{
		Mode: fileMode(st.Mode),
		Dev:  uint64(st.Dev_major)<<32 | uint64(st.Dev_minor), Ino: st.Ino, Links: uint64(st.Nlink), Size: int64(st.Size),
		Modified: nanoseconds(st.Mtime), Changed: nanoseconds(st.Ctime),
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		facts.Born = nanoseconds(st.Btime)
	}
	return facts, nil
}

// fileMode is the type of a file.
func fileMode(mode uint16) fs.FileMode {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return 0
	case unix.S_IFDIR:
		return fs.ModeDir
	case unix.S_IFLNK:
		return fs.ModeSymlink
	case unix.S_IFIFO:
		return fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return fs.ModeSocket
	}
	return fs.ModeDevice
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*1e9 + int64(t.Nsec) }

// unnamed makes a file without a name, where the file system can.
func unnamed(dir string) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), dir), nil
}

func (f file) Lock() error {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrLocked
	}
	return err
}

func (f file) Unlock() error {
	return unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
}

func (f file) StartWriteback(off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE) // advice
}
