// Package stdout writes an archive to standard output: to a pipe as fast as the kernel
// takes it, to a file durably.
package stdout

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// errClosed is the error of calls after Close.
var errClosed = errors.New("already closed")

// errGivenUp is the error of writes after Interrupt.
var errGivenUp = errors.New("given up")

// OutputError is the failure to write the archive.
type OutputError struct{ Err error }

func (e *OutputError) Error() string {
	err := e.Err
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		err = path.Err
	}
	text := fmt.Sprintf("writing to standard output: %v", err)
	if IsBrokenPipe(err) {
		text += ": the program that reads it has ended; see its messages"
	}
	return text
}

// Unwrap returns the system's error.
func (e *OutputError) Unwrap() error { return e.Err }

// Whole is true: see package terminal.
func (e *OutputError) Whole() bool { return true }

// IsBrokenPipe reports whether err means that the reader of the output is
// gone.
func IsBrokenPipe(err error) bool {
	return slices.ContainsFunc(readerGone, func(gone error) bool { return errors.Is(err, gone) })
}
