package stdout

import "golang.org/x/sys/windows"

// readerGone are the errors of a write to a pipe or a socket that nobody reads.
var readerGone = []error{windows.ERROR_BROKEN_PIPE, windows.ERROR_NO_DATA, windows.WSAECONNRESET}
