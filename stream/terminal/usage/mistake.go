package usage

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"hb/stream/nearest"
)

// unknown is what kong says of a flag or an argument that it does not know, before
// what it suggests.
var unknown = regexp.MustCompile(`^(unknown flag|unexpected argument) (\S+?)(?:, did you mean .*)?$`)

// missing is what kong says of an argument that must be given.
var missing = regexp.MustCompile(`^expected "<(\S+)>"$`)

// Mistake is what is wrong with a command line that kong refused, with what was
// perhaps meant, and what tells more.
func Mistake(app *kong.Application, err error) string {
	var selected *kong.Node
	more := app.Name
	if e, ok := errors.AsType[*kong.ParseError](err); ok && e.Context != nil && e.Context.Selected() != nil {
		selected = e.Context.Selected()
		more += " " + selected.Name
	}
	return fmt.Sprintf("%s (%s --help shows how)", mistake(app, selected, err.Error()), more)
}

func mistake(app *kong.Application, selected *kong.Node, text string) string {
	m := unknown.FindStringSubmatch(text)
	if m := missing.FindStringSubmatch(text); m != nil {
		return strings.ToUpper(m[1]) + " is missing"
	}
	switch {
	case selected == nil && strings.HasPrefix(text, "expected one of "):
		return "a command is missing: " + strings.Join(commandNames(app), ", ")
	case m == nil:
		return text
	case m[1] == "unexpected argument" && selected != nil:
		return fmt.Sprintf("unexpected argument %s", m[2])
	case m[1] == "unexpected argument":
		return fmt.Sprintf("unknown command %s%s", m[2], didYouMean(nearest.To(m[2], commandNames(app))))
	}
	return fmt.Sprintf("unknown flag %s%s", m[2], unknownFlag(app, selected, m[2]))
}

// unknownFlag is what is said of a flag that a command, or none, does not have.
func unknownFlag(app *kong.Application, selected *kong.Node, flag string) string {
	if !strings.HasPrefix(flag, "--") {
		return others(app, selected, flag)
	}
	// The servers' own option reader takes '_' for '-', and so do fingers.
	name := strings.ReplaceAll(flag[len("--"):], "_", "-")
	var names []string
	for _, f := range flagsOf(app, selected) {
		if f.Name == name {
			return didYouMean([]string{"--" + name})
		}
		names = append(names, f.Name)
	}
	if text := others(app, selected, "--"+name); text != "" {
		return text
	}
	if p, ok := peer(name); ok && p.Text != "" {
		return ": " + p.Hint()
	}
	near := nearest.To(name, names)
	for i := range near {
		near[i] = "--" + near[i]
	}
	return didYouMean(near)
}

// others says which other commands have a flag.
func others(app *kong.Application, selected *kong.Node, flag string) string {
	var have []string
	for _, c := range commands(app) {
		if c.Node == selected {
			continue
		}
		for _, f := range c.Flags {
			if flag == "--"+f.Name || flag == "-"+string(f.Short) {
				have = append(have, app.Name+" "+c.Name)
			}
		}
	}
	switch {
	case len(have) == 0:
		return ""
	case selected == nil:
		return fmt.Sprintf(" before the command: it belongs behind %s", strings.Join(have, ", "))
	}
	return fmt.Sprintf(" of %s %s: it is one of %s", app.Name, selected.Name, strings.Join(have, ", "))
}

// flagsOf are the flags that can stand behind a command, or before all.
func flagsOf(app *kong.Application, selected *kong.Node) []*kong.Flag {
	if selected == nil {
		return app.Flags
	}
	return slices.Concat(selected.Flags, app.Flags)
}

func commandNames(app *kong.Application) (names []string) {
	for _, c := range commands(app) {
		names = append(names, c.Name)
	}
	return names
}

// didYouMean is a question, if there is anything to ask for.
func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ", did you mean " + strings.Join(names, " or ") + "?"
}
