package xbstream

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrClosed is returned by calls on a Writer or File after its Close.
var ErrClosed = errors.New("xbstream: already closed")

// CorruptError reports bytes that no xbstream writer makes, or that were
// changed on the way.
type CorruptError struct {
	Path   string // the file the chunk belongs to; empty when it is not known
	Offset int64  // where the chunk begins in the archive, in bytes
	Reason string // what is wrong
	Want   string // what the chunk promised or the format demands; may be empty
	Got    string // what was found; may be empty
}

func (e *CorruptError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "archive is damaged: chunk at byte %d", e.Offset)
	if e.Path != "" {
		fmt.Fprintf(&b, ", file %q", e.Path)
	}
	fmt.Fprintf(&b, ": %s", e.Reason)
	if e.Want != "" || e.Got != "" {
		fmt.Fprintf(&b, ": want %s, got %s", e.Want, e.Got)
	}
	return b.String()
}

// UnclosedError reports an archive that stopped between two chunks although
// some of its files had not ended. errors.Is(err, io.ErrUnexpectedEOF) holds:
// the archive was cut.
type UnclosedError struct {
	Paths []string // the files without end, sorted, at most maxUnclosedPaths
	Count int      // how many there are
}

// maxUnclosedPaths keeps the message of an UnclosedError readable.
const maxUnclosedPaths = 8

func (e *UnclosedError) Error() string {
	more := ""
	if n := e.Count - len(e.Paths); n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("archive is cut: it stops before the end of %q%s", e.Paths, more)
}

// Unwrap makes every UnclosedError a truncation.
func (e *UnclosedError) Unwrap() error { return io.ErrUnexpectedEOF }
