package settings

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"

	"hb/source/mysqld/login"
	"hb/source/mysqld/login/optfile"
	"hb/stream"
)

// line is one option as it is printed.
type line struct {
	option, origin string
	secret         bool
}

// Print prints the options of the command that are set, and by what, as a group
// of an option file that can be used as one. Passwords are masked, in comments.
// Of a command that connects to a server, settings of the servers' clients count.
func (s *Settings) Print(w io.Writer, ctx *kong.Context) error {
	var lines []line
	set := make(map[string]bool)
	connects := false
	for _, p := range ctx.Path {
		for _, f := range p.Flags {
			connects = connects || f.Name == passwordOption
			if origins := s.origin(ctx, f.Name); origins != nil && !hidden(f.Name) {
				set[f.Name] = true
				lines = append(lines, linesOf(f, origins)...)
			}
		}
	}
	if connects {
		secret := set[passwordOption] || set[passwordFile] || set[askOption]
		for _, i := range s.Env.Inherited() {
			if !set[i.Name] && !(i.Secret && secret) {
				lines = append(lines, line{i.Name + "=" + optfile.Quote(i.Value), i.Origin, i.Secret})
			}
		}
	}
	return write(w, s.Env.Options.Files, lines)
}

// origin is where an option is from, as in Settings.origins, or nil if it has its
// default.
func (s *Settings) origin(ctx *kong.Context, name string) []string {
	if given(ctx, name) {
		return []string{"command line"}
	}
	return s.origins[name]
}

// hidden are options that make no sense in an option file.
func hidden(name string) bool {
	switch name {
	case defaultsFile, extraFile, groupSuffix, noDefaults, "print-defaults":
		return true
	}
	return false
}

// linesOf is an option's line, or one for each of its values.
func linesOf(f *kong.Flag, origins []string) (lines []line) {
	option := f.Name
	v := f.Target
	switch {
	case f.Name == passwordOption || f.Name == askOption:
		return []line{{option: passwordOption + "=", origin: origins[0], secret: true}}
	case f.IsSlice():
		for i := range v.Len() {
			lines = append(lines, line{option: option + "=" + optfile.Quote(text(f, v.Index(i))), origin: origins[min(i, len(origins)-1)]})
		}
		return lines
	case !f.IsBool():
		option += "=" + optfile.Quote(text(f, v))
	case !v.Bool():
		option += "=0"
	}
	return []line{{option: option, origin: origins[0]}}
}

// text is a value as it can be read again.
func text(f *kong.Flag, v reflect.Value) string {
	if f.Tag.Type == sizeType {
		v = reflect.ValueOf(stream.Size(v.Int()))
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	return fmt.Sprint(v.Interface())
}

// write prints the lines, with their origins below each other.
func write(w io.Writer, files []string, lines []line) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# option files: %s\n[hb]\n", strings.Join(files, " "))
	width := 0
	for i := range lines {
		if l := &lines[i]; l.secret {
			name, _, _ := strings.Cut(l.option, "=")
			l.option = "#" + name + "=" + fmt.Sprint(login.Secret{})
		}
		width = max(width, len(lines[i].option))
	}
	for _, l := range lines {
		fmt.Fprintf(&b, "%-*s # %s\n", width, l.option, l.origin)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
