package terminal

import (
	"os"

	"hb/stream"
)

// size is a number of bytes as it is shown.
type size = stream.Size

// canDraw reports whether f is a terminal that a line can be drawn on more than
// once.
func canDraw(f *os.File) bool {
	term := os.Getenv("TERM")
	return IsTerminal(f) && term != "" && term != "dumb"
}

// usualColumns is the assumed width of a terminal that does not report it.
const usualColumns = 80
