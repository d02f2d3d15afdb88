package terminal

import (
	"errors"
	"slices"
	"strings"
)

// A whole error says all there is to say: what stands around it on the way up, such as
// what was being done, tells the user nothing more.
type whole interface {
	error
	// Whole reports whether it is one.
	Whole() bool
}

// Causes is what an error says, one cause on each line: of errors that came together each
// one once, and of a whole error only what it says itself. Causes may have further lines
// of their own, which say what to do.
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
