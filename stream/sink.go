package stream

import (
	"errors"
	"fmt"
	"io"
	"os"
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
// output. It belongs to one goroutine at a time.
type Sink struct {
	f    *os.File
	conn syscall.RawConn
	err  error
}

// NewSink returns a Sink on f. If f is a pipe its buffer is enlarged where
// the system allows, so that writer and reader need not alternate.
func NewSink(f *os.File) (*Sink, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	var stat unix.Stat_t
	var statErr error
	if err := conn.Control(func(fd uintptr) {
		if statErr = unix.Fstat(int(fd), &stat); statErr == nil && stat.Mode&unix.S_IFMT == unix.S_IFIFO {
			enlargePipe(int(fd))
		}
	}); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if statErr != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), statErr)
	}
	return &Sink{f: f, conn: conn}, nil
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
	ctlErr := s.conn.Control(func(fd uintptr) {
		for {
			n, err = unix.Writev(int(fd), bufs)
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				if err = waitWritable(int(fd)); err != nil {
					return
				}
			default:
				return
			}
		}
	})
	if n = max(n, 0); ctlErr != nil {
		return n, ctlErr
	}
	if err == nil && n == 0 {
		err = io.ErrShortWrite
	}
	return n, err
}

func waitWritable(fd int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
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
	if s.err != nil {
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

// IsBrokenPipe reports whether err means that the reader of the output is
// gone.
func IsBrokenPipe(err error) bool {
	return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
}
