//go:build !linux

package identity

import "errors"

// Only Linux has it. hb backs up on no other system.
func lockHolder(string) (pid int, locked bool, err error) { return 0, false, errors.ErrUnsupported }
