package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// usage is what a run took.
type usage struct {
	Wall time.Duration
	CPU  time.Duration // user and system, of all its programs
	Peak int64         // resident bytes, of its largest program
}

// pipeline runs programs whose outputs and inputs are joined as a shell would,
// the first reading the file in, the last writing to the file out; "" is
// /dev/null for both.
func pipeline(ctx context.Context, in, out string, programs ...[]string) (u usage, err error) {
	cmds := make([]*exec.Cmd, len(programs))
	messages := make([]bytes.Buffer, len(programs))
	for i, p := range programs {
		cmds[i] = exec.CommandContext(ctx, p[0], p[1:]...)
		cmds[i].Stderr = &messages[i]
	}
	files, err := join(cmds, in, out)
	began := time.Now()
	for i := 0; err == nil && i < len(cmds); i++ {
		err = cmds[i].Start()
	}
	for _, f := range files {
		err = errors.Join(err, f.Close())
	}
	for i, c := range cmds {
		if c.Process == nil {
			continue
		}
		if e := c.Wait(); e != nil {
			text := messages[i].String()
			err = errors.Join(err, fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), e, text[max(0, len(text)-2000):]))
			continue
		}
		r := c.ProcessState.SysUsage().(*syscall.Rusage)
		u.CPU += c.ProcessState.UserTime() + c.ProcessState.SystemTime()
		u.Peak = max(u.Peak, r.Maxrss<<10)
	}
	u.Wall = time.Since(began)
	return u, err
}

// join connects the programs. The files are to be closed when all have started.
func join(cmds []*exec.Cmd, in, out string) (files []*os.File, err error) {
	keep := func(f *os.File, e error) *os.File {
		if e != nil {
			err = errors.Join(err, e)
			return nil
		}
		files = append(files, f)
		return f
	}
	if in == "" {
		in = os.DevNull
	}
	first := keep(os.Open(in))
	var last *os.File
	if out == "" {
		last = keep(os.OpenFile(os.DevNull, os.O_WRONLY, 0))
	} else {
		last = keep(os.Create(out))
	}
	for i, c := range cmds {
		c.Stdin = first
		if i == len(cmds)-1 {
			c.Stdout = last
			break
		}
		r, w, e := os.Pipe()
		if e != nil {
			return files, errors.Join(err, e)
		}
		files = append(files, r, w)
		first, c.Stdout = r, w
	}
	return files, err
}

// medians returns the median of each figure by itself.
func medians(runs []usage) usage {
	return usage{
		Wall: median(runs, func(u usage) time.Duration { return u.Wall }),
		CPU:  median(runs, func(u usage) time.Duration { return u.CPU }),
		Peak: median(runs, func(u usage) int64 { return u.Peak }),
	}
}

func median[T ~int64](runs []usage, of func(usage) T) T {
	v := make([]T, len(runs))
	for i, u := range runs {
		v[i] = of(u)
	}
	slices.Sort(v)
	return v[len(v)/2]
}
