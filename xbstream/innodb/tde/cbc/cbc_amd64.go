package cbc

import "golang.org/x/sys/cpu"

func hasAES() bool { return cpu.X86.HasAES }
