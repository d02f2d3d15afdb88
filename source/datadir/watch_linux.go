package datadir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"
)

// nameWatch notices which names come to a directory, and leave it (inotify(7)).
type nameWatch struct {
	fd  int // -1: closed
	buf []byte
}

func watchNames(dir string) (*nameWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_DELETE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_ONLYDIR); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return &nameWatch{fd: fd, buf: make([]byte, 64<<10)}, nil
}

func (w *nameWatch) close() error {
	if w.fd < 0 {
		return nil
	}
	fd := w.fd
	w.fd = -1
	return unix.Close(fd)
}

// changed are the names that have come or left since the last call. An error is
// the last one.
func (w *nameWatch) changed() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for {
			n, err := unix.Read(w.fd, w.buf)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case errors.Is(err, unix.EAGAIN):
				return
			case err != nil:
				yield("", err)
				return
			}
			if !parseEvents(w.buf[:n], yield) {
				return
			}
		}
	}
}

// parseEvents reads events: each a header, and a name filled up with zeros. It
// reports whether there is more to yield.
func parseEvents(b []byte, yield func(string, error) bool) bool {
	for len(b) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(b[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		if end > len(b) {
			break
		}
		if mask&(unix.IN_Q_OVERFLOW|unix.IN_IGNORED|unix.IN_UNMOUNT) != 0 {
			yield("", fmt.Errorf("it cannot be watched any more (event %#x): back up again", mask))
			return false
		}
		if !yield(unix.ByteSliceToString(b[unix.SizeofInotifyEvent:end]), nil) {
			return false
		}
		b = b[end:]
	}
	return true
}
