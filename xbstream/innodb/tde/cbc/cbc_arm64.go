package cbc

import "golang.org/x/sys/cpu"

func hasAES() bool { return cpu.ARM64.HasAES }
