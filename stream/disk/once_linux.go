package disk

import (
	"errors"
	"io"
	"io/fs"
	"unsafe"

	"golang.org/x/sys/unix"
)

func (f file) ReadAtOnce(p []byte, off int64) (int, error) {
	n, err := f.readDropping(p, off)
	if n == 0 && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL)) {
		return f.readAndDrop(p, off)
	}
	return n, err
}

// readDropping leaves it to the system (RWF_DONTCACHE): Linux 6.14 and later,
// on some file systems.
func (f file) readDropping(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		got, err := unix.Preadv2(int(f.Fd()), [][]byte{p[n:]}, off+int64(n), unix.RWF_DONTCACHE)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return n, &fs.PathError{Op: "read", Path: f.Name(), Err: err}
		case got == 0:
			return n, io.EOF
		}
		n += got
	}
	return n, nil
}

// readAndDrop looks at the page cache first, and drops the pages that were read if
// nothing of it was there. The system must not read ahead: what that brings would
// look as if it had been there.
func (f file) readAndDrop(p []byte, off int64) (int, error) {
	fd := int(f.Fd())
	ours := unix.Fadvise(fd, 0, 0, unix.FADV_RANDOM) == nil && !f.cached(off, len(p))
	n, err := f.ReadAt(p, off)
	if ours {
		_ = unix.Fadvise(fd, off, int64(n), unix.FADV_DONTNEED) // advice
	}
	return n, err
}

// cached reports whether anything of n bytes at off is in the page cache, or
// that it cannot be known.
func (f file) cached(off int64, n int) bool {
	page := int64(unix.Getpagesize())
	from := off / page * page
	size := int(off-from) + n
	if size == 0 {
		return true
	}
	m, err := unix.Mmap(int(f.Fd()), from, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return true
	}
	in := make([]byte, (int64(size)+page-1)/page) // its lowest bit is set for a page that is there
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&in[0])))
	if unix.Munmap(m) != nil || errno != 0 {
		return true
	}
	for _, b := range in {
		if b&1 != 0 {
			return true
		}
	}
	return false
}
