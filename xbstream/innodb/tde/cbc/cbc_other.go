//go:build !amd64 && !arm64

package cbc

import "crypto/aes"

// schedule is that of no processor: crypto/cipher does the work.
type schedule struct{}

func newSchedule([]byte) schedule { return schedule{} }

func (*schedule) decrypt([]byte, *[aes.BlockSize]byte) bool { return false }
