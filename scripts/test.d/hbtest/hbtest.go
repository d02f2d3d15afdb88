// Package hbtest helps tests that run hb as a program: how it ended, and what it wrote.
package hbtest

import (
	"bytes"
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// Result is how a command ended.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Finish runs a command and returns how it ended.
func Finish(t *testing.T, cmd *exec.Cmd) Result {
	t.Helper()
	var out, errs bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &out
	}
	cmd.Stderr = &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return Result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// Succeed runs a command that must end well and returns what it said.
func Succeed(t *testing.T, cmd *exec.Cmd) Result {
	t.Helper()
	r := Finish(t, cmd)
	if r.Code != 0 {
		t.Fatalf("%s: exit code %d\n%s", strings.Join(cmd.Args[1:], " "), r.Code, r.Stderr)
	}
	return r
}
