package terminal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

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

// usualColumns is what is taken for a terminal's width that does not say it.
const usualColumns = 80

// maxSecret bounds a line that holds a password or passphrase.
const maxSecret = 4096

// FirstLine reads the first line of a small file.
func FirstLine(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readLine(f, name)
}

func readLine(r io.Reader, name string) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxSecret)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading %s: %w", name, err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
