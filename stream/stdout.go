package stream

import (
	"errors"
	"slices"
)

// errGivenUp is the error of writes after Interrupt.
var errGivenUp = errors.New("given up")

// IsBrokenPipe reports whether err means that the reader of the output is
// gone.
func IsBrokenPipe(err error) bool {
	return slices.ContainsFunc(readerGone, func(gone error) bool { return errors.Is(err, gone) })
}
