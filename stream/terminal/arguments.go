package terminal

import (
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"hb/stream/remote"
)

// Arguments returns the process's arguments, and takes passwords out of those
// that other users see in the list of processes, as the servers' clients do. (The
// strings of os.Args are the kernel's copy itself.)
func Arguments() []string {
	args := make([]string, 0, len(os.Args))
	for _, a := range os.Args[1:] {
		args = append(args, strings.Clone(a))
		if at := passwordAt(a); at > 0 {
			for i := range unsafe.Slice(unsafe.StringData(a), len(a))[at:] {
				unsafe.Slice(unsafe.StringData(a), len(a))[at+i] = 'x'
			}
		}
	}
	return args
}

// valueAt returns where the value of a long flag begins in its argument, or 0.
func valueAt(arg string) int {
	if !strings.HasPrefix(arg, "--") {
		return 0
	}
	return strings.IndexByte(arg, '=') + 1
}

// passwordAt returns where in an argument a password begins, or 0. The query of an
// address counts as one: it has a presigned one's signature.
func passwordAt(arg string) int {
	if value := arg[valueAt(arg):]; remote.Is(value) {
		if at := strings.IndexByte(value, '?'); at >= 0 {
			return len(arg) - len(value) + at + 1
		}
		return 0
	}
	for _, flag := range []string{"--password=", "-p"} {
		if strings.HasPrefix(arg, flag) && len(arg) > len(flag) {
			return len(flag)
		}
	}
	return 0
}

// PasswordFlags turns the servers' clients' ways to give a password, -pSECRET
// and a bare --password, into flags that a grammar can have: --password=SECRET
// and --ask-password.
func PasswordFlags(args []string) []string {
	out := make([]string, 0, len(args))
	for i, a := range args {
		switch {
		case a == "--":
			return append(out, args[i:]...)
		case a == "--password":
			a = "--ask-password"
		case strings.HasPrefix(a, "-p") && passwordAt(a) > 0:
			a = "--password=" + a[2:]
		}
		out = append(out, a)
	}
	return out
}

// MaskedCommand is the command line, program first, without passwords.
func MaskedCommand(args []string) string {
	out := []string{filepath.Base(args[0])}
	for _, a := range args[1:] {
		if at := passwordAt(a); at > 0 {
			a = a[:at] + "..."
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}

// WithoutPasswords is a message about arguments, without a password that stands where
// it does not belong: after a flag that asks for it.
func WithoutPasswords(text string, args []string) string {
	for i, a := range args {
		if at := passwordAt(a); at > 0 {
			text = strings.ReplaceAll(text, a[at:], "...")
		}
		if (a == "-p" || a == "--password") && i+1 < len(args) && args[i+1] != "" && !strings.HasPrefix(args[i+1], "-") {
			text = strings.ReplaceAll(text, args[i+1], "...")
		}
	}
	return text
}
