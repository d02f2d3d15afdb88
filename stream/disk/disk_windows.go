package disk

import (
	"errors"
	"io/fs"
	"math"
	"os"

	"golang.org/x/sys/windows"
)

// What Access asks for.
const (
	Readable = 1 << iota
	Writable
	Searchable // of a directory
)

// Access reports why this user may not do something with a file or a directory,
// as far as that can be known without trying: whether it is there.
func Access(path string, what uint32) error {
	st, err := os.Stat(path)
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if err == nil && what&Searchable != 0 && !st.IsDir() {
		return windows.ERROR_DIRECTORY
	}
	return err
}

func newDir(root *os.Root) Dir { return windowsDir{dir{root}} }

// windowsDir refuses new names that would become others.
type windowsDir struct{ dir }

func (d windowsDir) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if flag&os.O_CREATE != 0 {
		if err := checkWindows(name); err != nil {
			return nil, err
		}
	}
	return d.dir.OpenFile(name, flag, perm)
}

func (d windowsDir) Mkdir(name string, perm fs.FileMode) error {
	return checked(name, func() error { return d.dir.Mkdir(name, perm) })
}

func (d windowsDir) MkdirAll(name string, perm fs.FileMode) error {
	return checked(name, func() error { return d.dir.MkdirAll(name, perm) })
}

func (d windowsDir) Rename(from, to string) error {
	return checked(to, func() error { return d.dir.Rename(from, to) })
}

func (d windowsDir) Link(from, to string) error {
	return checked(to, func() error { return d.dir.Link(from, to) })
}

func (d windowsDir) Symlink(target, name string) error {
	return checked(name, func() error { return d.dir.Symlink(target, name) })
}

func checked(name string, do func() error) error {
	if err := checkWindows(name); err != nil {
		return err
	}
	return do()
}

// IsFull reports whether err means that there is no space left.
func IsFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL)
}

// syncNames has nothing to call: a directory cannot be flushed. NTFS writes its
// log of names in order.
func syncNames(File) error { return nil }

// Lock locks a byte past the end of any file. Locks are mandatory here: a lock on the
// file's content would block the other handles of this process.
func (f file) Lock() error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, lockedByte())
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	return err
}

func (f file) Unlock() error {
	return windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, lockedByte())
}

func lockedByte() *windows.Overlapped {
	return &windows.Overlapped{Offset: math.MaxUint32 - 1, OffsetHigh: math.MaxInt32}
}
