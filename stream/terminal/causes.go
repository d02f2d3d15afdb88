package terminal

import (
	"errors"
	"slices"
	"strings"
)

// A whole error is complete by itself: text that callers add on the way up, such as
// what was being done, is of no use to the user.
type whole interface {
	error
	// Whole reports whether it is one.
	Whole() bool
}

// Causes is an error's text, one cause on each line: of errors that came together
// each one once, and of a whole error only its own text. Causes may have further
// lines of their own, with what to do.
func Causes(err error) string {
	var list []string
	for _, cause := range causes(err) {
		if !slices.Contains(list, cause) {
			list = append(list, cause)
		}
	}
	return strings.Join(list, "\n")
}

func causes(err error) []string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && strings.Contains(err.Error(), "\n") {
		var list []string
		for _, e := range joined.Unwrap() {
			list = append(list, causes(e)...)
		}
		return list
	}
	var w whole
	if errors.As(err, &w) && w.Whole() {
		return []string{w.Error()}
	}
	return []string{err.Error()}
}
