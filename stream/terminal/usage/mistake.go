package usage

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
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
		return fmt.Sprintf("unknown command %s%s", m[2], didYouMean(nearest(m[2], commandNames(app))))
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
	near := nearest(name, names)
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

// maxNearest bounds how many names are asked for, and maxWord how many bytes a word
// has that may be a name.
const (
	maxNearest = 3
	maxWord    = 64
)

// nearest are the names that a word was perhaps meant to be: the only one that it
// begins, or else those that differ in the fewest letters, if those are few, or
// else all that it begins.
func nearest(word string, names []string) []string {
	if word == "" || len(word) > maxWord {
		return nil
	}
	var begun, near []string
	least := 1 + len(word)/4
	for _, name := range names {
		if strings.HasPrefix(name, word) {
			begun = append(begun, name)
		}
		d := distance(word, name)
		if d < least {
			near, least = nil, d
		}
		if d == least {
			near = append(near, name)
		}
	}
	if len(begun) == 1 || len(near) == 0 {
		near = begun
	}
	return near[:min(len(near), maxNearest)]
}

// distance is how many letters must be added, removed, changed or swapped with
// their neighbours to make one word the other.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
