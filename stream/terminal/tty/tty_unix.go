//go:build unix

package tty

import (
	"errors"
	"fmt"
	"hb/stream"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// IsTerminal reports whether f is a terminal.
func IsTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), getTermios)
	return err == nil
}

// Columns is the width of a terminal now.
func Columns(f *os.File) int {
	w, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Col == 0 {
		return usualColumns
	}
	return int(w.Col)
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
	old, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return "", err
	}
	silent := *old
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, setTermios, &silent); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(fd, setTermios, old)) }()
	fmt.Fprint(tty, prompt)
	line, err := stream.SecretLine(tty, "the terminal")
	fmt.Fprintln(tty)
	return line, err
}
