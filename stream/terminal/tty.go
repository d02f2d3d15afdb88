package terminal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"hb/stream"
)

// size is a number of bytes as it is shown.
type size = stream.Size

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// canDraw reports whether f is a terminal that a line can be drawn on more than
// once.
func canDraw(f *os.File) bool {
	term := os.Getenv("TERM")
	return IsTerminal(f) && term != "" && term != "dumb"
}

// usualColumns is what is taken for a terminal's width that does not say it.
const usualColumns = 80

// columns is the width of a terminal now.
func columns(f *os.File) int {
	w, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Col == 0 {
		return usualColumns
	}
	return int(w.Col)
}

// IsClosed reports whether f, a standard stream, was closed when the process
// began. Go then puts /dev/null in its place, open in both directions, which no
// shell's > does.
func IsClosed(f *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return true
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	null := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
	return err != nil || null && flags&unix.O_ACCMODE == unix.O_RDWR
}

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

// AskSecret asks on the terminal, which does not show what is typed. Standard
// input and output belong to the archive.
func AskSecret(prompt string) (_ string, err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("there is no terminal to ask on (%s)", strings.TrimSpace(prompt))
	}
	defer func() { err = errors.Join(err, tty.Close()) }()
	fd := int(tty.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", err
	}
	silent := *old
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, old)) }()
	fmt.Fprint(tty, prompt)
	line, err := readLine(tty, "the terminal")
	fmt.Fprintln(tty)
	return line, err
}
