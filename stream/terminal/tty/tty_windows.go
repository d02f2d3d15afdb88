package tty

import (
	"errors"
	"fmt"
	"hb/stream"
	"os"
	"strings"

	"golang.org/x/sys/windows"
)

// IsTerminal reports whether f is a console.
func IsTerminal(f *os.File) bool {
	var mode uint32
	return windows.GetConsoleMode(windows.Handle(f.Fd()), &mode) == nil
}

// Columns is the width of a console's window now.
func Columns(f *os.File) int {
	var info windows.ConsoleScreenBufferInfo
	err := windows.GetConsoleScreenBufferInfo(windows.Handle(f.Fd()), &info)
	if width := int(info.Window.Right) - int(info.Window.Left) + 1; err == nil && width > 0 {
		return width
	}
	return usualColumns
}

// AskSecret asks on the console, which does not show what is typed. Standard
// input and output belong to the archive.
func AskSecret(prompt string) (_ string, err error) {
	in, inErr := os.OpenFile("CONIN$", os.O_RDWR, 0)
	out, outErr := os.OpenFile("CONOUT$", os.O_RDWR, 0)
	defer func() { _, _ = in.Close(), out.Close() }() // nothing is written that counts
	if inErr != nil || outErr != nil {
		return "", fmt.Errorf("there is no console to ask on (%s)", strings.TrimSpace(prompt))
	}
	console := windows.Handle(in.Fd())
	var old uint32
	if err := windows.GetConsoleMode(console, &old); err != nil {
		return "", err
	}
	if err := windows.SetConsoleMode(console, old&^windows.ENABLE_ECHO_INPUT); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, windows.SetConsoleMode(console, old)) }()
	fmt.Fprint(out, prompt)
	line, err := stream.SecretLine(in, "the console")
	fmt.Fprintln(out)
	return line, err
}
