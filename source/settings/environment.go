package settings

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"hb/stream/nearest"
)

// prefix begins the name of each variable that is hb's.
const prefix = "HB_"

// protecting begin the names of options that an archive or a connection must not
// miss: a variable that is perhaps meant to be one of them is not passed over.
var protecting = []string{"encrypt", "compress", "ssl"}

// others are variables that are not options: the password's, and those of hb's own
// scripts and tests, which begin so.
var others = []string{"HB_PASSWORD", "HB_SERVERS", "HB_TEST_", "HB_TORTURE_", "HB_RECIPE_"}

// checkEnvironment makes sure that no variable is a misspelled option that protects,
// and warns of others that are not an option of any command.
func (s *Settings) checkEnvironment(app *kong.Application) error {
	if s.Env.Environ == nil {
		return nil
	}
	names, err := optionNames(app)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(neverFromEnvironment, n) })
	for _, line := range s.Env.Environ() {
		variable, value, _ := strings.Cut(line, "=")
		name, ours := strings.CutPrefix(variable, prefix)
		if !ours || value == "" || slices.ContainsFunc(others, func(o string) bool { return strings.HasPrefix(variable, o) }) {
			continue
		}
		name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
		if slices.Contains(names, name) {
			continue
		}
		near := nearest.To(name, names)
		text := fmt.Sprintf("%s is set, but hb has no such option%s", variable, didYouMean(near))
		if resembles(name, near) {
			return fmt.Errorf("%s Correct the variable or unset it: hb does not guess where an option protects", text)
		}
		s.Env.Options.Warnings = append(s.Env.Options.Warnings, text+" It is ignored")
	}
	return nil
}

// resembles reports whether a name is perhaps meant to be an option that protects.
func resembles(name string, near []string) bool {
	return slices.ContainsFunc(protecting, func(p string) bool {
		return strings.Contains(name, p) || slices.ContainsFunc(near, func(n string) bool { return strings.HasPrefix(n, p) })
	})
}

// didYouMean ends a sentence about a variable.
func didYouMean(options []string) string {
	if len(options) == 0 {
		return "."
	}
	var variables []string
	for _, o := range options {
		variables = append(variables, Variable(o))
	}
	return ". Did you mean " + strings.Join(variables, " or ") + "?"
}

// optionNames are the names of all commands' options.
func optionNames(app *kong.Application) (names []string, err error) {
	err = kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok && !slices.Contains(names, f.Name) {
			names = append(names, f.Name)
		}
		return next(nil)
	})
	return names, err
}
