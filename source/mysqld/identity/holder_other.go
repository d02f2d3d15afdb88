//go:build !linux

package identity

import "errors"

// Only Linux says it. Nothing is backed up elsewhere.
func lockHolder(string) (pid int, locked bool, err error) { return 0, false, errors.ErrUnsupported }
