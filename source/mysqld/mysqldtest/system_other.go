//go:build !linux

package mysqldtest

import (
	"errors"
	"os/exec"
)

// The servers run on Linux only. Elsewhere the package compiles, so that all of the
// module does, and finds no server.

// CopyFile is there on Linux only.
func CopyFile(string, string) error { return errors.ErrUnsupported }

func dieWithParent(*exec.Cmd) {}

// Freeze is there on Linux only.
func (s *Server) Freeze() error { return errors.ErrUnsupported }

// Thaw is there on Linux only.
func (s *Server) Thaw() error { return errors.ErrUnsupported }
