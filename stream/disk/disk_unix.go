//go:build unix

package disk

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// What Access asks for.
const (
	Readable   = unix.R_OK
	Writable   = unix.W_OK
	Searchable = unix.X_OK // of a directory
)

// Access reports why this user may not do something with a file or a directory:
// one or more of Readable, Writable, Searchable.
func Access(path string, what uint32) error { return unix.Access(path, what) }

// IsFull reports whether err means that there is no space left.
func IsFull(err error) bool { return errors.Is(err, syscall.ENOSPC) }

func newDir(root *os.Root) Dir { return dir{root} }

// syncNames makes the names in an open directory durable.
func syncNames(d File) error { return d.Sync() }
