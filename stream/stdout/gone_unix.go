//go:build unix

package stdout

import "syscall"

// readerGone are the errors of a write to a pipe or a socket that nobody reads.
var readerGone = []error{syscall.EPIPE, syscall.ECONNRESET}
