package disk

import (
	"iter"

	"golang.org/x/sys/unix"
)

// Holes yields where a file has holes: from which byte to which. There are none where
// the file system does not know, or the file is not the system's. A hole reads as zeros,
// until somebody writes there.
func Holes(f File) iter.Seq2[int64, int64] {
	return func(yield func(from, to int64) bool) {
		own, ok := f.(interface{ Fd() uintptr })
		if !ok {
			return
		}
		fd := int(own.Fd())
		for at := int64(0); ; {
			from, err := unix.Seek(fd, at, unix.SEEK_HOLE)
			if err != nil {
				return
			}
			to, err := unix.Seek(fd, from, unix.SEEK_DATA)
			if err == unix.ENXIO { // no data follow: the file ends in the hole, if it is one
				to, err = unix.Seek(fd, 0, unix.SEEK_END)
			}
			if err != nil || to <= from || !yield(from, to) {
				return
			}
			at = to
		}
	}
}
