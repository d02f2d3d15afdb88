// Package tty asks the system about terminals, on each system in its way: whether a file
// is one, how wide it is, and the user for a secret without an echo.
package tty

import "os"

// CanDraw reports whether f is a terminal that a line can be drawn on more than
// once.
func CanDraw(f *os.File) bool {
	term := os.Getenv("TERM")
	return IsTerminal(f) && term != "" && term != "dumb"
}

// usualColumns is the assumed width of a terminal that does not report it.
const usualColumns = 80
