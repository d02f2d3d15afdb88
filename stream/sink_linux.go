package stream

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is what the Sink asks for when it writes to a pipe. It is the
	// kernel's default limit for users (/proc/sys/fs/pipe-max-size).
	pipeSize = 1 << 20
	// maxIovecs is how many slices writev(2) takes (UIO_MAXIOV).
	maxIovecs = 1024
)

// Sink writes to a file descriptor: a file, a pipe, a socket, standard
// output. It belongs to one goroutine at a time, but for Interrupt.
type Sink struct {
	f    *os.File
	conn syscall.RawConn
	own  int // the pipe once more, non-blocking; -1: there is none
	err  error

	mu          sync.Mutex
	wake        int // an eventfd, written to by Interrupt; -1 once closed
	interrupted bool
}

// NewSink returns a Sink on f. If f is a pipe its buffer is enlarged where
// the system allows, so that writer and reader need not alternate.
func NewSink(f *os.File) (*Sink, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	s := &Sink{f: f, conn: conn, own: -1}
	var stat unix.Stat_t
	var statErr error
	if err := conn.Control(func(fd uintptr) {
		if statErr = unix.Fstat(int(fd), &stat); statErr == nil && stat.Mode&unix.S_IFMT == unix.S_IFIFO {
			enlargePipe(int(fd))
			s.own = reopenPipe(int(fd))
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

// reopenPipe opens the pipe behind fd again, so that it can be non-blocking for
// this process alone: the mode belongs to all who share fd. Where that is not
// allowed, to a pipe of another user, it returns -1, and a write blocks until
// the reader takes it or goes away.
func reopenPipe(fd int) int {
	own, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return own
}

// Interrupt makes a Write that waits for the reader of a pipe fail, and all that
// come later: nobody needs what would be written, and others wait for what the
// writer holds. Any goroutine may call it.
func (s *Sink) Interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interrupted = true
	if s.wake >= 0 {
		_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // cannot fail
	}
}

func (s *Sink) isInterrupted() bool {
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
func (s *Sink) Write(p []byte) (int, error) { return s.WriteVec(p) }

// WriteVec writes all slices, by one writev(2) where the system takes them at
// once. A reader that is gone gives EPIPE.
func (s *Sink) WriteVec(bufs ...[]byte) (int, error) {
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
			s.err = fmt.Errorf("writing to %s: %w", s.f.Name(), err)
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
func (s *Sink) writev(bufs [][]byte) (n int, err error) {
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

func (s *Sink) writevTo(fd int, bufs [][]byte) (int, error) {
	for {
		if s.isInterrupted() {
			return 0, errGivenUp
		}
		n, err := unix.Writev(fd, bufs)
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

// waitWritable waits for room, or for Interrupt.
func (s *Sink) waitWritable(fd int) error {
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
func (s *Sink) Close() error {
	released := s.release()
	if s.err != nil {
		return s.err
	}
	if s.err = released; s.err != nil {
		return s.err
	}
	s.err = fmt.Errorf("%s: %w", s.f.Name(), ErrClosed)
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

// release closes the Sink's own descriptors.
func (s *Sink) release() error {
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
