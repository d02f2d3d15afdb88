package optfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// spaces is the white space of the option file format.
const spaces = " \t\n\v\f\r"

func readBounded(path string) (text []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("option file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	text, err = io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("option file: %w", err)
	}
	if len(text) > maxFileSize {
		return nil, fmt.Errorf("option file %s is larger than %d bytes: is it an option file?", path, maxFileSize)
	}
	return text, nil
}

// parse reads the lines of one file.
func (l *loader) parse(path string, text []byte, depth int) error {
	group, inGroup := "", false
	n := 0
	for raw := range bytes.Lines(text) {
		n++
		fail := func(format string, args ...any) error {
			return fmt.Errorf("option file %s:%d: %w", path, n, fmt.Errorf(format, args...))
		}
		if len(bytes.TrimRight(raw, "\r\n")) > maxLineLen {
			return fail("the line is longer than %d bytes", maxLineLen)
		}
		if bytes.IndexByte(raw, 0) >= 0 {
			return fail("the line holds a zero byte: is it an option file?")
		}
		line := strings.Trim(string(raw), spaces)
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '!':
			if err := l.directive(line[1:], depth); err != nil {
				return fail("%w", err)
			}
		case line[0] == '[':
			name, _, ok := strings.Cut(line[1:], "]")
			if !ok {
				return fail("the group lacks its ']'")
			}
			group, inGroup = strings.TrimRight(name, spaces), true
		case !inGroup:
			return fail("an option stands before the first [group]")
		default:
			o := parseOption(line)
			if o.Key == "" {
				return fail("the option has no name")
			}
			o.Group, o.File, o.Line = group, path, n
			if err := l.add(o); err != nil {
				return err
			}
		}
	}
	return nil
}

// directive follows an include. Its text starts after the '!'.
func (l *loader) directive(text string, depth int) error {
	text = strings.TrimLeft(text, spaces)
	name, arg := text, ""
	if i := strings.IndexAny(text, spaces); i >= 0 {
		name, arg = text[:i], strings.Trim(text[i:], spaces)
	}
	if name != "include" && name != "includedir" {
		return nil
	}
	if arg == "" {
		return fmt.Errorf("!%s names no path", name)
	}
	if depth >= maxDepth {
		l.warn("!%s %s is skipped: includes are followed %d deep", name, arg, maxDepth)
		return nil
	}
	if name == "include" {
		return l.include(arg, depth)
	}
	return l.includeDir(l.expand(arg), depth)
}

func (l *loader) include(path string, depth int) error {
	err := l.file(path, depth+1)
	// Only the included file's own absence is forgiven: what it includes
	// in turn was dealt with one level down.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		l.warn("included %v: ignored", err)
		return nil
	}
	return err
}

func (l *loader) includeDir(dir string, depth int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		// %v: a missing directory must not pass for a missing file.
		return fmt.Errorf("!includedir: %v", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".cnf") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if err := l.include(filepath.Join(dir, name), depth); err != nil {
			return err
		}
	}
	return nil
}

// parseOption reads "key" or "key = value", trimmed and not empty.
func parseOption(line string) Option {
	line = strings.TrimRight(cutComment(line), spaces)
	key, value, ok := strings.Cut(line, "=")
	if !ok {
		return Option{Key: line}
	}
	return Option{
		Key:      strings.TrimRight(key, spaces),
		Value:    unescape(unquote(strings.Trim(value, spaces))),
		HasValue: true,
	}
}

// cutComment drops an end-of-line comment. A '#' inside of quotes, even of
// quotes that never close, is part of the text.
func cutComment(line string) string {
	var quote byte
	escaped := false
	for i := 0; i < len(line); i++ {
		c := line[i]
		if (c == '"' || c == '\'') && !escaped {
			switch quote {
			case 0:
				quote = c
			case c:
				quote = 0
			}
		}
		if c == '#' && quote == 0 {
			return line[:i]
		}
		escaped = quote != 0 && c == '\\' && !escaped
	}
	return line
}

func unquote(v string) string {
	if n := len(v); n > 1 && (v[0] == '"' || v[0] == '\'') && v[0] == v[n-1] {
		return v[1 : n-1]
	}
	return v
}

// escapes maps the byte after a backslash to the byte that the two stand for.
var escapes = map[byte]byte{
	'b': '\b', 't': '\t', 'n': '\n', 'r': '\r', 's': ' ', '\\': '\\', '"': '"', '\'': '\'',
}

func unescape(v string) string {
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			if c, ok := escapes[v[i+1]]; ok {
				b.WriteByte(c)
				i++
				continue
			}
			// An unknown escape keeps both bytes, and the second is not
			// looked at again.
			b.WriteByte(v[i])
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String()
}

// quoted are the bytes that a value cannot have as they are, and escapes of them.
var quoted = strings.NewReplacer(`\`, `\\`, "\b", `\b`, "\t", `\t`, "\n", `\n`, "\r", `\r`, `"`, `\"`, `'`, `\'`)

// Quote writes a value so that it is read as it is.
func Quote(value string) string {
	text := quoted.Replace(value)
	if text != value || strings.ContainsAny(value, "# ;") || strings.Trim(value, spaces) != value {
		return `"` + text + `"`
	}
	return value
}
