// Package filename converts names of databases, tables and partitions, as SQL has them, into
// those of their files, and back: the character set "filename" of MySQL and MariaDB.
//
// Letters and digits of ASCII and _ are themselves. Some letters of other scripts are @ and two
// characters, whose letters have the case of the letter; all others are @ and the four
// hexadecimal digits of their number in Unicode. A name that Windows keeps for a device ends
// with @@@.
//
// Source: the servers' manuals, "Mapping of Identifiers to File Names", and the servers.
package filename

import (
	"fmt"
	"slices"
	"strings"
)

// reserved ends the names of files whose names Windows keeps for devices.
const reserved = "@@@"

// devices are those names, in lower case. (check_if_legal_tablename of MySQL 5.6 to 9.7)
var devices = []string{
	"con", "prn", "nul", "aux", "clock$",
	"com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9",
	"lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
}

var toRune, toPair = func() (map[string]rune, map[rune]string) {
	runes, names := map[string]rune{}, map[rune]string{}
	for _, p := range pairs {
		second := p.first[1]
		for _, r := range p.text {
			if r != ' ' {
				pair := string([]byte{p.first[0], second})
				runes[pair], names[r] = r, pair
			}
			second++
		}
	}
	return runes, names
}()

func isPlain(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// Encode returns the name that files have for a name in SQL.
func Encode(name string) string {
	var b strings.Builder
	for _, r := range name {
		switch pair, ok := toPair[r]; {
		case r < 0x80 && isPlain(byte(r)):
			b.WriteByte(byte(r))
		case ok:
			b.WriteString("@" + pair)
		default:
			fmt.Fprintf(&b, "@%04x", r)
		}
	}
	if slices.Contains(devices, strings.ToLower(name)) {
		b.WriteString(reserved)
	}
	return b.String()
}

// Decode returns the name in SQL of a file's name, without its end; not ok: no name in SQL has
// this one. Servers call such a file #mysql50# and its name.
func Decode(file string) (name string, ok bool) {
	var b strings.Builder
	for s := strings.TrimSuffix(file, reserved); len(s) > 0; {
		r, n := decodeOne(s)
		if n == 0 {
			return "", false
		}
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String(), b.Len() > 0 && Encode(b.String()) == file
}

// decodeOne decodes the first character; n is how many bytes it has, 0: it is not one.
func decodeOne(s string) (r rune, n int) {
	if isPlain(s[0]) {
		return rune(s[0]), 1
	}
	if s[0] != '@' {
		return 0, 0
	}
	if len(s) >= 3 {
		if r, ok := toRune[s[1:3]]; ok {
			return r, 3
		}
	}
	if len(s) < 5 {
		return 0, 0
	}
	for _, c := range []byte(s[1:5]) {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		default:
			return 0, 0
		}
	}
	return r, 5
}
