package mysqldtest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// CopyFile copies a file, as long as it is now, to one that is not there yet, with its
// holes. The kernel copies: the race detector would look at every byte.
func CopyFile(dst, src string) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); ; {
		at, err = in.Seek(at, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO), err == nil && at >= info.Size(): // it may have grown
			return out.Truncate(info.Size())
		case err != nil:
			return err
		}
		end, err := in.Seek(at, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := out.Seek(at, io.SeekStart); err != nil {
			return err
		}
		for at < min(end, info.Size()) {
			n, err := unix.Sendfile(int(out.Fd()), int(in.Fd()), &at, int(min(end, info.Size())-at))
			if err != nil {
				return fmt.Errorf("copy %s: %w", src, err)
			}
			if n == 0 { // it has become shorter
				return out.Truncate(at)
			}
		}
	}
}

// dieWithParent has a server end with this process: a test binary that is killed must
// not leave servers behind.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}

// Freeze stops the server where it is, until Thaw.
func (s *Server) Freeze() error { return syscall.Kill(s.PID(), syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (s *Server) Thaw() error { return syscall.Kill(s.PID(), syscall.SIGCONT) }

// Tmpfs mounts a file system in memory of a size in bytes, until the test ends.
// Where that is not possible, it ends the test as [Need] does.
func Tmpfs(t testing.TB, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		Missing(t, fmt.Errorf("cannot mount a small file system: %w", err))
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ResizeTmpfs gives a file system of [Tmpfs] another size.
func ResizeTmpfs(t testing.TB, dir string, size int64) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", size)); err != nil {
		t.Fatal(err)
	}
}
