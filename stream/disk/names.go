package disk

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// NameError says that Windows cannot have a file of a name. It would take some of
// them for another's.
type NameError struct{ Name, Reason string }

func (e *NameError) Error() string {
	return fmt.Sprintf("Windows cannot have a file %q: %s", e.Name, e.Reason)
}

// reserved are names of devices, with or without an extension.
var reserved = strings.Fields("CON PRN AUX NUL CONIN$ CONOUT$" +
	" COM0 COM1 COM2 COM3 COM4 COM5 COM6 COM7 COM8 COM9 COM¹ COM² COM³" +
	" LPT0 LPT1 LPT2 LPT3 LPT4 LPT5 LPT6 LPT7 LPT8 LPT9 LPT¹ LPT² LPT³")

// checkWindows reports why a path, with "/" between its parts, cannot be one on
// Windows.
func checkWindows(path string) error {
	for part := range strings.SplitSeq(path, "/") {
		if reason := wrongOnWindows(part); reason != "" {
			return &NameError{path, reason}
		}
	}
	return nil
}

func wrongOnWindows(part string) string {
	special := func(r rune) bool { return r < ' ' || strings.ContainsRune(`<>:"|?*\`, r) }
	base, _, _ := strings.Cut(part, ".")
	base = strings.ToUpper(strings.TrimRight(base, " "))
	switch {
	case part == "." || part == "..":
		return ""
	case !utf8.ValidString(part):
		return "it is not UTF-8"
	case strings.ContainsFunc(part, special):
		return `it has one of < > : " | ? * \, or a control character`
	case strings.HasSuffix(part, ".") || strings.HasSuffix(part, " "):
		return "it ends with a dot or a space"
	case slices.Contains(reserved, base):
		return base + " is a device"
	}
	return ""
}
