package optfile

import (
	"fmt"
	"slices"
	"strings"
)

// A Setting is an option's name taken apart.
type Setting struct {
	Name  string // with '-' between its words and without prefixes
	Loose bool   // "loose-": an unknown name is not a mistake
	// Off is "skip-" or "disable-", On is "enable-": a flag written without
	// a value.
	Off, On bool
}

// Setting takes the option's name apart. The prefixes are those of MariaDB's
// and MySQL's option reader; "maximum-" belongs to the server only.
func (o Option) Setting() Setting {
	s := Setting{Name: strings.ReplaceAll(o.Key, "_", "-")}
	if rest, ok := strings.CutPrefix(s.Name, "loose-"); ok {
		s.Name, s.Loose = rest, true
	}
	for _, p := range []string{"skip-", "disable-", "enable-"} {
		if rest, ok := strings.CutPrefix(s.Name, p); ok && rest != "" {
			s.Name, s.Off, s.On = rest, p != "enable-", p == "enable-"
			break
		}
	}
	return s
}

// Lookup returns the last option of one of the names in the whole set, whatever
// its group. Names are written with '-'.
func (s *Set) Lookup(names ...string) (Option, bool) {
	for _, o := range slices.Backward(s.Options) {
		if slices.Contains(names, o.Setting().Name) {
			return o, true
		}
	}
	return Option{}, false
}

// Bool returns the last setting of a flag: set says whether there was any.
// "skip-NAME" and "disable-NAME" turn it off, "NAME" and "enable-NAME" on.
func (s *Set) Bool(name string) (on, set bool, err error) {
	o, ok := s.Lookup(name)
	if !ok {
		return false, false, nil
	}
	on, err = o.Bool()
	return on, true, err
}

// Bool reads the option as a flag. With a prefix, a value of 0 turns the
// prefix's meaning around, as in the servers' option reader.
func (o Option) Bool() (bool, error) {
	v := true
	if o.HasValue {
		var err error
		if v, err = ParseBool(o.Value); err != nil {
			return false, fmt.Errorf("%v is neither on nor off", o)
		}
	}
	if o.Setting().Off {
		v = !v
	}
	return v, nil
}

// ParseBool reads the value of a flag, as the servers' option reader does.
func ParseBool(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "1", "on", "true":
		return true, nil
	case "0", "off", "false":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither on nor off", text)
}

// InGroup returns the options of a group, also with the suffix that the set was
// loaded with, in the same order.
func (s *Set) InGroup(group string) *Set {
	out := &Set{Files: s.Files, Warnings: s.Warnings, suffix: s.suffix}
	for _, o := range s.Options {
		if strings.EqualFold(group, o.Group) || strings.EqualFold(group+s.suffix, o.Group) {
			out.Options = append(out.Options, o)
		}
	}
	return out
}
