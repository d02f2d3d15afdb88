//go:build !linux

package tty

import "os"

// IsClosed reports whether f cannot be used.
func IsClosed(f *os.File) bool {
	_, err := f.Stat()
	return err != nil
}
