// Package settings finds options that the command line does not give. An option
// is taken from the first of these that has it:
//
//   - the command line;
//   - the environment: HB_ and the option's name in capitals, with '_' for '-', if
//     that is not empty. Options that may be repeated have commas between values.
//     A variable that no command has is a warning, and a mistake if it resembles an
//     option that protects;
//   - group [hb] of option files, by the rules of package optfile, the last line
//     counting. Options that may be repeated have a line for each value;
//   - its default.
//
// [hb] is for all commands of hb: options that only another command has are passed
// over, those that no command has are mistakes, unless they begin with "loose-".
// Settings of the server's connection in other groups, and in variables of other
// names, are left to package login, and so are passwords.
package settings

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"hb/source/mysqld/login"
	"hb/source/mysqld/login/optfile"
)

// Files are the command-line options that name option files.
type Files struct {
	DefaultsFile        string `help:"Read only this option file." placeholder:"FILE" type:"path"`
	DefaultsExtraFile   string `help:"Read this option file after the global ones." placeholder:"FILE" type:"path"`
	DefaultsGroupSuffix string `help:"Also read option groups with this suffix." placeholder:"SUFFIX"`
	NoDefaults          bool   `help:"Read no option files."`
	PrintDefaults       bool   `help:"Show which options are set and where, and do nothing else."`
}

// Settings is a kong.Resolver of one command line. Call Load before kong resolves.
type Settings struct {
	Env login.Env // Load fills in Options, which are empty until then

	origins map[string][]string // of the options that were found, by name; one for all values, or one for each
}

// New returns Settings from an environment.
func New(env login.Env) *Settings {
	if env.Getenv == nil {
		env.Getenv = os.Getenv
	}
	if env.Options == nil {
		env.Options = new(optfile.Set)
	}
	return &Settings{Env: env, origins: make(map[string][]string)}
}

// The options that name option files.
const (
	defaultsFile   = "defaults-file"
	extraFile      = "defaults-extra-file"
	groupSuffix    = "defaults-group-suffix"
	noDefaults     = "no-defaults"
	passwordOption = "password"
	askOption      = "ask-password"
	passwordFile   = "password-file"
)

// commandLineOnly are options that option files cannot have.
var commandLineOnly = []string{defaultsFile, extraFile, groupSuffix, noDefaults, "help", "version", "print-defaults", "estimate", askOption}

// neverFromEnvironment are options that no variable sets: they ask for something else
// to be done, or are secret, and package login handles those.
var neverFromEnvironment = []string{"help", "version", "print-defaults", "estimate", passwordOption, askOption}

// group is the option group of hb.
const group = "hb"

// Load reads the option files that the command line and the environment name, and
// makes sure that [hb] has no option that no command knows.
func (s *Settings) Load(ctx *kong.Context) (err error) {
	defer func() { err = elsewhere(err) }()
	src := optfile.Source{Groups: login.Groups, Getenv: s.Env.Getenv, System: s.Env.System}
	for _, f := range ctx.Model.Flags {
		text, err := s.early(ctx, f)
		if err != nil {
			return fmt.Errorf("%s: %w", Variable(f.Name), err)
		}
		switch f.Name {
		case defaultsFile:
			src.DefaultsFile = text
		case extraFile:
			src.ExtraFile = text
		case groupSuffix:
			src.GroupSuffix = text
		case noDefaults:
			src.NoDefaults = text == "true"
		}
	}
	set, err := src.Load()
	if err != nil {
		return err
	}
	s.Env.Options = set
	if err := s.checkEnvironment(ctx.Model); err != nil {
		return err
	}
	return check(ctx.Model, set)
}

// A SourceError is a mistake in an option file or the environment: help on the command
// says nothing of it.
type SourceError struct{ error }

// Unwrap returns what is wrong.
func (e *SourceError) Unwrap() error { return e.error }

// Whole is true: see package terminal.
func (e *SourceError) Whole() bool { return true }

// elsewhere returns an error as a *SourceError; nil stays nil.
func elsewhere(err error) error {
	if err == nil {
		return nil
	}
	return &SourceError{err}
}

// early is the value of an option that names option files, as text.
func (s *Settings) early(ctx *kong.Context, f *kong.Flag) (string, error) {
	if !given(ctx, f.Name) {
		text := s.Env.Getenv(Variable(f.Name))
		if f.IsBool() && text != "" {
			on, err := optfile.ParseBool(text)
			return fmt.Sprint(on), err
		}
		return text, nil
	}
	return fmt.Sprint(ctx.FlagValue(f)), nil
}

// Peek is the value of an option, as text, for arguments that the parser refused: the
// first in the arguments, or else the environment's.
func (s *Settings) Peek(args []string, option string) string {
	flag := "--" + option
	for i, a := range args {
		if value, ok := strings.CutPrefix(a, flag+"="); ok {
			return value
		}
		if a == flag && i+1 < len(args) {
			return args[i+1]
		}
	}
	return s.Env.Getenv(Variable(option))
}

// given reports whether an option is on the command line.
func given(ctx *kong.Context, name string) bool {
	return slices.ContainsFunc(ctx.Path, func(p *kong.Path) bool {
		return p.Flag != nil && p.Flag.Name == name && !p.Resolved
	})
}

// check makes sure that options in [hb] are some command's.
func check(app *kong.Application, set *optfile.Set) error {
	known, err := optionNames(app)
	if err != nil {
		return err
	}
	known = append(known, login.FileOptions...)
	for _, o := range set.InGroup(group).Options {
		name := o.Setting().Name
		switch {
		case slices.Contains(commandLineOnly, name):
			return fmt.Errorf("%v belongs on the command line", o)
		case !slices.Contains(known, name) && !o.Setting().Loose:
			return fmt.Errorf("%v: no command of hb has it", o)
		}
	}
	return nil
}

// PlacesOf returns where an option can be set other than on the command line: the
// environment variables, of which the first that is not empty counts, and its name in
// group [hb] of option files. Either may be empty.
func PlacesOf(option string) (variables []string, key string) {
	if !slices.Contains(neverFromEnvironment, option) {
		variables = append(variables, Variable(option))
	}
	if !slices.Contains(commandLineOnly, option) {
		key = option
	}
	return append(variables, login.Variables(option)...), key
}

// Variable is the name of an option's environment variable.
func Variable(option string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(option, "-", "_"))
}

// Validate is for kong.
func (s *Settings) Validate(*kong.Application) error { return nil }

// Resolve is for kong: it returns the value of an option that is not on the
// command line, or nil.
func (s *Settings) Resolve(ctx *kong.Context, _ *kong.Path, f *kong.Flag) (any, error) {
	v, origins, err := s.find(ctx, f)
	if err != nil || v == nil {
		return nil, elsewhere(err)
	}
	// Kong would say what is wrong with a value, but not where it is.
	if err := try(f, v); err != nil {
		return nil, elsewhere(fmt.Errorf("%s: %w", origins[len(origins)-1], err))
	}
	s.origins[f.Name] = origins
	return v, nil
}

// find returns an option's value, as kong takes it, and where it, or each of
// several, is from.
func (s *Settings) find(ctx *kong.Context, f *kong.Flag) (v any, origins []string, err error) {
	if v, err := s.fromEnvironment(ctx, f); v != nil || err != nil {
		return v, []string{Variable(f.Name)}, err
	}
	if slices.Contains(login.FileOptions, f.Name) {
		return nil, nil, nil
	}
	return s.fromFiles(f)
}

func (s *Settings) fromEnvironment(ctx *kong.Context, f *kong.Flag) (any, error) {
	text := s.Env.Getenv(Variable(f.Name))
	if text == "" || slices.Contains(neverFromEnvironment, f.Name) {
		return nil, nil
	}
	// Another way to give the password on the command line counts for more.
	if f.Name == passwordFile && (given(ctx, passwordOption) || given(ctx, askOption)) {
		return nil, nil
	}
	switch {
	case f.IsBool():
		on, err := optfile.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", Variable(f.Name), err)
		}
		return on, nil
	case f.IsSlice():
		values := strings.Split(text, ",")
		for i, v := range values {
			values[i] = strings.TrimSpace(v)
		}
		return list(f, values), nil
	}
	return text, nil
}

func (s *Settings) fromFiles(f *kong.Flag) (v any, origins []string, err error) {
	var values []string
	for _, o := range s.Env.Options.InGroup(group).Options {
		setting := o.Setting()
		if setting.Name != f.Name {
			continue
		}
		switch {
		case f.IsBool():
			if v, err = o.Bool(); err != nil {
				return nil, nil, err
			}
		case setting.Off || setting.On || !o.HasValue:
			return nil, nil, fmt.Errorf("%v: it needs a value", o)
		default:
			v, values = o.Value, append(values, o.Value)
		}
		origins = append(origins, o.Place())
	}
	switch {
	case len(origins) == 0:
		return nil, nil, nil
	case f.IsSlice():
		return list(f, values), origins, nil
	}
	return v, origins[len(origins)-1:], nil
}

// list is several values in the form that kong takes; it does not complete paths then.
func list(f *kong.Flag, values []string) []any {
	out := make([]any, len(values))
	for i, v := range values {
		if f.Tag.Type == "path" {
			v = kong.ExpandPath(v)
		}
		out[i] = v
	}
	return out
}

// try parses a value as kong will.
func try(f *kong.Flag, v any) error {
	target := reflect.New(f.Target.Type()).Elem()
	if err := f.Parse(kong.Scan().PushTyped(v, kong.FlagValueToken), target); err != nil {
		if cause := errors.Unwrap(err); cause != nil {
			return cause // without the option's name, which kong will add
		}
		return err
	}
	if text := fmt.Sprint(target); f.Enum != "" && !f.EnumMap()[text] {
		return fmt.Errorf("%q is not one of %s", text, strings.Join(slices.DeleteFunc(f.EnumSlice(), func(s string) bool { return s == "" }), ", "))
	}
	return nil
}
