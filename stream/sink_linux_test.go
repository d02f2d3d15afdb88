package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
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
	s, err := NewSink(f)
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
	if err := s.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("the Sink closed the file: %v", err)
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
			s, err := NewSink(w)
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
			time.Sleep(20 * time.Millisecond) // let the pipe fill
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
	s, err := NewSink(w)
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

// TestSinkInterrupt: a write that nobody takes ends when it is told to, and the
// pipe's mode stays what it was for others.
func TestSinkInterrupt(t *testing.T) {
	r, w := testPipe(t, "blocking")
	defer w.Close()
	defer r.Close()
	s, err := NewSink(w)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Write(make([]byte, 8<<20))
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("8 MiB went into a pipe: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	s.Interrupt()
	if err := <-done; !errors.Is(err, errGivenUp) {
		t.Errorf("interrupted: %v", err)
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
}

func TestSinkFull(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := NewSink(f)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Write([]byte("x")); n != 0 || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Write to a full device = %d, %v", n, err)
	}
}
