package stdout

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is the size that a File asks for when it writes to a pipe. It is the
	// kernel's default limit for users (/proc/sys/fs/pipe-max-size).
	pipeSize = 1 << 20
	// maxIovecs is how many slices writev(2) takes (UIO_MAXIOV).
	maxIovecs = 1024
)

// File writes to a file descriptor: a file, a pipe, a socket, standard
// output. It belongs to one goroutine at a time, except for Interrupt.
type File struct {
	f    *os.File
	conn syscall.RawConn
	own  int // the pipe once more, non-blocking; or -1
	// write makes one attempt on a descriptor that may be in blocking mode, without
	// blocking; nil: writev(2), because nobody keeps such a descriptor's writer waiting.
	write func(fd int, bufs [][]byte) (int, error)
	err   error

	mu          sync.Mutex
	wake        int // an eventfd, written to by Interrupt; -1 once closed
	interrupted bool
}

// New returns a File on f. If f is a pipe its buffer is enlarged where
// the system allows, so that writer and reader need not alternate.
func New(f *os.File) (*File, error) { return newFile(f, reopenPipe) }

func newFile(f *os.File, reopen func(fd int) int) (*File, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	s := &File{f: f, conn: conn, own: -1}
	var stat unix.Stat_t
	var statErr error
	if err := conn.Control(func(fd uintptr) {
		if statErr = unix.Fstat(int(fd), &stat); statErr != nil {
			return
		}
		switch stat.Mode & unix.S_IFMT {
		case unix.S_IFIFO:
			enlargePipe(int(fd))
			if s.own = reopen(int(fd)); s.own < 0 {
				s.write = writeShared
			}
		case unix.S_IFSOCK:
			s.write = sendNow
		}
	}); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if statErr == nil {
		s.wake, statErr = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	}
	if statErr != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), statErr)
	}
	return s, nil
}

// reopenPipe opens the pipe behind fd again, so that it can be non-blocking for this
// process only: the mode belongs to all processes that share fd. Where that is not
// allowed, to a pipe of another user, it returns -1.
func reopenPipe(fd int) int {
	own, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return own
}

// Interrupt makes a Write that waits for the reader of a pipe fail, and all that
// come later: nobody needs the writes that would follow, and others wait for what the
// writer holds. Any goroutine may call it.
func (s *File) Interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interrupted = true
	if s.wake >= 0 {
		_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // cannot fail
	}
}

func (s *File) isInterrupted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.interrupted
}

// enlargePipe does what it can: a small pipe is slow, not wrong.
func enlargePipe(fd int) {
	if have, err := unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0); err == nil && have < pipeSize {
		_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
	}
}

// Write writes all of p.
func (s *File) Write(p []byte) (int, error) { return s.WriteVec(p) }

// WriteVec writes all slices, by one writev(2) where the system takes them at
// once. A reader that is gone gives EPIPE.
func (s *File) WriteVec(bufs ...[]byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	total := 0
	rest := make([][]byte, 0, len(bufs))
	for _, b := range bufs {
		if len(b) > 0 {
			rest = append(rest, b)
		}
	}
	for len(rest) > 0 {
		n, err := s.writev(rest[:min(len(rest), maxIovecs)])
		total += n
		if err != nil {
			s.err = &OutputError{err}
			return total, s.err
		}
		rest = advance(rest, n)
	}
	return total, nil
}

// writev makes one writev(2) that takes something, waiting for room if the
// descriptor is non-blocking. os.File could wait only for descriptors that
// were non-blocking when it was made; a pipe's other holder may change that
// at any time.
func (s *File) writev(bufs [][]byte) (n int, err error) {
	if s.own >= 0 {
		n, err = s.writevTo(s.own, bufs)
	} else if ctlErr := s.conn.Control(func(fd uintptr) { n, err = s.writevTo(int(fd), bufs) }); ctlErr != nil {
		return 0, ctlErr
	}
	if n = max(n, 0); err == nil && n == 0 {
		err = io.ErrShortWrite
	}
	return n, err
}

func (s *File) writevTo(fd int, bufs [][]byte) (int, error) {
	write := unix.Writev
	if s.write != nil {
		write = s.write
	}
	for {
		if s.isInterrupted() {
			return 0, errGivenUp
		}
		n, err := write(fd, bufs)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN:
			if err := s.waitWritable(fd); err != nil {
				return 0, err
			}
		default:
			return n, err
		}
	}
}

// writeShared writes to a pipe that is in blocking mode, and has to stay so for its
// other holders: only what certainly finds room. hb tells Linux 6.4 and later not to wait;
// earlier ones do not know that of pipes, but a pipe that is ready for writing
// takes PIPE_BUF bytes.
func writeShared(fd int, bufs [][]byte) (int, error) {
	n, err := unix.Pwritev2(fd, bufs, -1, unix.RWF_NOWAIT)
	if err != unix.EOPNOTSUPP && err != unix.ENOSYS {
		return n, err
	}
	return writeReady(fd, bufs)
}

// writeReady writes as much as finds room in a pipe that is ready for writing.
func writeReady(fd int, bufs [][]byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if ready, err := unix.Poll(fds, 0); err != nil || ready == 0 {
		return 0, cmp.Or(err, error(unix.EAGAIN))
	}
	return unix.Write(fd, bufs[0][:min(len(bufs[0]), pipeBuf)])
}

// pipeBuf is PIPE_BUF of limits.h.
const pipeBuf = 4096

// sendNow writes to a socket what finds room now.
func sendNow(fd int, bufs [][]byte) (int, error) {
	return unix.SendmsgBuffers(fd, bufs, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

// waitWritable waits for room, or for Interrupt.
func (s *File) waitWritable(fd int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}, {Fd: int32(s.wake), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != unix.EINTR {
			return err
		}
	}
}

// advance drops the first n bytes of bufs.
func advance(bufs [][]byte, n int) [][]byte {
	for len(bufs) > 0 && n >= len(bufs[0]) {
		n -= len(bufs[0])
		bufs = bufs[1:]
	}
	if n > 0 {
		bufs[0] = bufs[0][n:]
	}
	return bufs
}

// Close makes a regular file durable (fsync); there is nothing to do for
// pipes and the like. It does not close the file.
func (s *File) Close() error {
	released := s.release()
	if s.err != nil {
		return s.err
	}
	if s.err = released; s.err != nil {
		return s.err
	}
	s.err = fmt.Errorf("%s: %w", s.f.Name(), errClosed)
	info, err := s.f.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = s.f.Sync()
	}
	if err != nil {
		s.err = fmt.Errorf("syncing %s: %w", s.f.Name(), err)
		return s.err
	}
	return nil
}

// release closes the File's own descriptors.
func (s *File) release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, fd := range []*int{&s.own, &s.wake} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
			*fd = -1
		}
	}
	return errors.Join(errs...)
}
