//go:build !linux

package spool

import "errors"

// FreeSpace: hb makes backups, and spools, on Linux only.
func FreeSpace(string) (free int64, inMemory bool, err error) { return 0, false, errors.ErrUnsupported }
