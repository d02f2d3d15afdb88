//go:build !linux

package disk

import "errors"

// FreeSpace asks only Linux.
func FreeSpace(string) (free int64, inMemory bool, err error) { return 0, false, errors.ErrUnsupported }
