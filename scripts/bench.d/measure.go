//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hb/stream"
)

// usage is what one run took, and what came of it.
type usage struct {
	Wall  time.Duration
	CPU   time.Duration // user and system, of all programs of the side
	Peak  int64         // resident bytes, of its largest program
	Bytes int64         // of the archive, that came out of the last pipe or was read
	Read  int64         // bytes that all programs of the side have read, of files, pipes and sockets

	Units   float64       // how much there was to do, where that grows; see [perUnit]
	Stall   time.Duration // the longest statement of any writer meanwhile
	Rate    float64       // transactions a second meanwhile
	Outcome outcome
}

// pipeSize is the buffer of every pipe, in bytes: hb asks for as much, which no
// peer does, and only with the same pipe for all is it their work that is
// compared. It is the most that the system gives to any user.
const pipeSize = 1 << 20

// taker takes everything that comes out of a pipe, and counts the bytes.
type taker func(ctx context.Context, pipe *os.File) (int64, error)

// pipeline runs programs whose outputs and inputs are joined by pipes as a shell
// would. The first reads the file in, or nothing if that is empty; what the last
// writes is taken by this process, so that the usage is that of the programs
// alone. (Linux counts the size of this process as a peak of its children, so
// that no peak is below some 10 MiB.)
func pipeline(ctx context.Context, in string, take taker, programs ...[]string) (u usage, err error) {
	cmds := make([]*exec.Cmd, len(programs))
	messages := make([]bytes.Buffer, len(programs))
	for i, p := range programs {
		cmds[i] = exec.CommandContext(ctx, p[0], p[1:]...)
		cmds[i].Stderr = &messages[i]
	}
	last, files, err := join(cmds, in)
	began := time.Now()
	for i := 0; err == nil && i < len(cmds); i++ {
		err = cmds[i].Start()
	}
	// Only the programs hold their ends now: each sees when another is gone.
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	if last != nil {
		var e error
		u.Bytes, e = take(ctx, last)
		err = errors.Join(err, e, last.Close())
	}
	for i, c := range cmds {
		if c.Process == nil {
			continue
		}
		n, e := readBy(c.Process.Pid)
		u.Read, err = u.Read+n, errors.Join(err, e)
		if e := c.Wait(); e != nil {
			text := messages[i].String()
			err = errors.Join(err, fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), e, text[max(0, len(text)-2000):]))
		}
		u.CPU += c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		u.Peak = max(u.Peak, c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10)
	}
	u.Wall = time.Since(began)
	return u, err
}

// readBy waits until a child process has ended, and returns how many bytes it has read:
// the system forgets that when somebody takes notice of the end.
func readBy(pid int) (n int64, err error) {
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	}
	if err != nil {
		return 0, fmt.Errorf("waiting for process %d: %w", pid, err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(text), "rchar:")
	if _, err := fmt.Sscan(after, &n); err != nil {
		return 0, fmt.Errorf("rchar of process %d: %w", pid, err)
	}
	return n, nil
}

// join connects the programs, and returns the end of the last pipe. The files are
// to be closed when all have started.
func join(cmds []*exec.Cmd, in string) (last *os.File, files []*os.File, err error) {
	if in == "" {
		in = os.DevNull
	}
	next, err := os.Open(in)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range cmds {
		r, w, err := pipe()
		if err != nil {
			return nil, append(files, next), err
		}
		files = append(files, next, w)
		c.Stdin, c.Stdout = next, w
		next = r
	}
	return next, files, nil
}

func pipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err != nil {
		return nil, nil, err
	}
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipeSize); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("enlarging a pipe: %w", err), r.Close(), w.Close())
	}
	return r, w, nil
}

// discard is the cheapest reader of a pipe that there is: it moves the pages of
// the pipe to /dev/null without looking at them.
func discard(_ context.Context, pipe *os.File) (n int64, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, null.Close()) }()
	from, to := int(pipe.Fd()), int(null.Fd())
	for {
		k, err := unix.Splice(from, nil, to, nil, pipeSize, 0)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil || k == 0:
			return n, err
		default:
			n += k
		}
	}
}

// intoFile writes a file of what it takes.
func intoFile(name string) taker {
	return func(_ context.Context, pipe *os.File) (n int64, err error) {
		f, err := os.Create(name)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		return io.Copy(f, pipe)
	}
}

// slowly takes as much a second as a network would, into a file.
func slowly(name string, rate stream.Size) taker {
	return func(ctx context.Context, pipe *os.File) (n int64, err error) {
		f, err := os.Create(name)
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		pacer, buf := stream.NewPacer(rate), make([]byte, 64<<10)
		for {
			k, err := pipe.Read(buf)
			if err == nil {
				err = pacer.Wait(ctx, k)
			}
			if err == nil {
				_, err = f.Write(buf[:k])
			}
			n += int64(k)
			if errors.Is(err, io.EOF) {
				return n, nil
			}
			if err != nil {
				return n, err
			}
		}
	}
}

// unpack runs programs that read an archive and write nothing to speak of to
// standard output.
func unpack(ctx context.Context, archive string, programs ...[]string) (u usage, err error) {
	if u, err = pipeline(ctx, archive, discard, programs...); err != nil {
		return u, err
	}
	st, err := os.Stat(archive)
	if err == nil {
		u.Bytes = st.Size()
	}
	return u, err
}

// run runs one program that writes nothing to speak of to standard output.
func run(ctx context.Context, program ...string) (usage, error) {
	return pipeline(ctx, "", discard, program)
}

// inTurn adds up what is done one after the other.
func inTurn(steps ...func() (usage, error)) (all usage, err error) {
	for _, step := range steps {
		u, err := step()
		all.Wall, all.CPU, all.Peak, all.Bytes, all.Read = all.Wall+u.Wall, all.CPU+u.CPU, max(all.Peak, u.Peak), all.Bytes+u.Bytes, all.Read+u.Read
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// ticks is how many a second /proc counts of CPU time (USER_HZ, the same on all
// of Linux but Alpha).
const ticks = 100

// ofProcess returns the CPU time that a process has used and its peak, in a
// usage that is else empty: what a server does cannot be waited for.
func ofProcess(pid int) (u usage, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u, err
	}
	// The name, in brackets, may hold anything; utime and stime are fields 14 and 15.
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	fields := strings.Fields(string(rest))
	if len(fields) < 13 {
		return u, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	var user, system time.Duration
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return u, err
	}
	u.CPU = (user + system) * time.Second / ticks
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	if _, err := fmt.Sscan(after, &u.Peak); err != nil {
		return u, fmt.Errorf("VmHWM of process %d: %w", pid, err)
	}
	u.Peak <<= 10
	return u, nil
}
