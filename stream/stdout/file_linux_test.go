package stdout

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSinkFile(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(f)
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	var many [][]byte
	for i := range 3000 { // more than one writev takes
		many = append(many, fmt.Appendf(nil, "%d,", i))
		want.Write(many[i])
	}
	if n, err := s.WriteVec(many...); n != want.Len() || err != nil {
		t.Fatalf("WriteVec = %d, %v", n, err)
	}
	if n, err := s.WriteVec(nil, nil); n != 0 || err != nil {
		t.Errorf("WriteVec of nothing = %d, %v", n, err)
	}
	if n, err := s.Write([]byte("end")); n != 3 || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	want.WriteString("end")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); !errors.Is(err, errClosed) {
		t.Errorf("second Close: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, errClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("it closed the file that it was given: %v", err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes in the file, want %d; %v", len(got), want.Len(), err)
	}
}

// TestSinkPipe writes through pipes in both modes, one of them made
// non-blocking behind the back of os.File, to a reader that is slow.
func TestSinkPipe(t *testing.T) {
	for _, mode := range []string{"blocking", "pollable", "made non-blocking later"} {
		t.Run(mode, func(t *testing.T) {
			r, w := testPipe(t, mode)
			s, err := New(w)
			if err != nil {
				t.Fatal(err)
			}
			size, err := unix.FcntlInt(w.Fd(), unix.F_GETPIPE_SZ, 0)
			if err != nil || size < pipeSize {
				t.Errorf("the pipe holds %d bytes; %v", size, err)
			}
			if mode == "pollable" { // Fd made it blocking
				unix.SetNonblock(int(w.Fd()), true)
			}
			if mode == "made non-blocking later" {
				unix.SetNonblock(int(w.Fd()), true)
			}
			data := pages(8<<20, 5)
			done := make(chan error, 1)
			go func() {
				n, err := s.WriteVec(data[:10], data[10:5<<20], data[5<<20:])
				if err == nil && n != len(data) {
					err = fmt.Errorf("WriteVec = %d", n)
				}
				done <- errors.Join(err, s.Close(), w.Close())
			}()
			awaitFull(t, r)
			got, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) {
				t.Error("other bytes came through")
			}
		})
	}
}

// awaitFull waits until what is to be read becomes no more: its writer waits.
func awaitFull(t *testing.T, r *os.File) {
	t.Helper()
	raw, err := r.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for end, before := time.Now().Add(time.Minute), 0; time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		n := 0
		cerr := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
		if err := errors.Join(err, cerr); err != nil {
			t.Fatal(err)
		}
		if n > 0 && n == before {
			return
		}
		before = n
	}
	t.Fatal("nothing is written")
}

func testPipe(t *testing.T, mode string) (r, w *os.File) {
	t.Helper()
	if mode == "pollable" {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r, w
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	r, w = os.NewFile(uintptr(fds[0]), "read end"), os.NewFile(uintptr(fds[1]), "write end")
	t.Cleanup(func() { r.Close() })
	return r, w
}

func TestSinkBrokenPipe(t *testing.T) {
	r, w := testPipe(t, "blocking")
	defer w.Close()
	s, err := New(w)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	_, err = s.Write([]byte("x"))
	if !IsBrokenPipe(err) {
		t.Errorf("Write to a pipe without a reader: %v", err)
	}
	if err := s.Close(); !IsBrokenPipe(err) {
		t.Errorf("Close after it: %v", err)
	}
}

// outputs are the kinds of descriptors that may keep a writer waiting, with a File
// on each: its own pipe, another user's, which cannot be opened again, the same on a
// kernel that cannot be told not to wait, and a socket.
var outputs = map[string]func(t *testing.T) (r, w *os.File, s *File){
	"pipe": func(t *testing.T) (r, w *os.File, s *File) {
		r, w = testPipe(t, "blocking")
		return r, w, newTestSink(t, w, reopenPipe)
	},
	"another user's pipe": func(t *testing.T) (r, w *os.File, s *File) {
		r, w = testPipe(t, "blocking")
		return r, w, newTestSink(t, w, func(int) int { return -1 })
	},
	"another user's pipe, old kernel": func(t *testing.T) (r, w *os.File, s *File) {
		r, w = testPipe(t, "blocking")
		s = newTestSink(t, w, func(int) int { return -1 })
		s.write = writeReady
		return r, w, s
	},
	"socket": func(t *testing.T) (r, w *os.File, s *File) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		r, w = os.NewFile(uintptr(fds[0]), "read end"), os.NewFile(uintptr(fds[1]), "write end")
		return r, w, newTestSink(t, w, reopenPipe)
	},
}

func newTestSink(t *testing.T, w *os.File, reopen func(int) int) *File {
	t.Helper()
	s, err := newFile(w, reopen)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSinkInterrupt: a write that nobody takes ends when it is told to, and the
// descriptor's mode stays what it was for others.
func TestSinkInterrupt(t *testing.T) {
	for name, open := range outputs {
		t.Run(name, func(t *testing.T) {
			r, w, s := open(t)
			defer w.Close()
			defer r.Close()
			done := make(chan error, 1)
			go func() {
				_, err := s.Write(make([]byte, 8<<20))
				done <- err
			}()
			select {
			case err := <-done:
				t.Fatalf("8 MiB went into it: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			s.Interrupt()
			select {
			case err := <-done:
				if !errors.Is(err, errGivenUp) {
					t.Errorf("interrupted: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the write goes on")
			}
			if _, err := s.Write([]byte("x")); !errors.Is(err, errGivenUp) {
				t.Errorf("after it: %v", err)
			}
			if err := s.Close(); !errors.Is(err, errGivenUp) {
				t.Errorf("Close: %v", err)
			}
			s.Interrupt()
			if flags, err := unix.FcntlInt(w.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
				t.Errorf("flags %#x, %v", flags, err)
			}
		})
	}
}

// TestSinkOutputs: all bytes come through each of them, in order, to a reader that
// is slow at first; without a reader a write fails.
func TestSinkOutputs(t *testing.T) {
	for name, open := range outputs {
		t.Run(name, func(t *testing.T) {
			r, w, s := open(t)
			defer r.Close()
			data := pages(4<<20, 7)
			done := make(chan error, 1)
			go func() {
				n, err := s.WriteVec(data[:10], nil, data[10:1<<20], data[1<<20:])
				if err == nil && n != len(data) {
					err = fmt.Errorf("WriteVec = %d", n)
				}
				done <- err
			}()
			awaitFull(t, r)
			got := make([]byte, len(data))
			if _, err := io.ReadFull(r, got); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil || !bytes.Equal(got, data) {
				t.Errorf("other bytes came through: %v", err)
			}
			r.Close()
			if _, err := s.Write([]byte("x")); !IsBrokenPipe(err) {
				t.Errorf("without a reader: %v", err)
			}
			if err := s.Close(); !IsBrokenPipe(err) {
				t.Errorf("Close: %v", err)
			}
			w.Close()
		})
	}
}

func TestSinkFull(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := New(f)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Write([]byte("x")); n != 0 || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Write to a full device = %d, %v", n, err)
	}
}

// pages makes n bytes at random.
func pages(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}
