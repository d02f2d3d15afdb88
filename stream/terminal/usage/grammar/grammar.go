// Package grammar says what every text on the grammar of the command line must agree
// on: which commands there are, and what stands for the value of an option. In goes the
// grammar as package kong has it.
package grammar

import (
	"strings"

	"github.com/alecthomas/kong"
)

// Commands are the commands that are not hidden, in the order of the grammar.
func Commands(app *kong.Application) (list []*kong.Node) {
	for _, n := range app.Children {
		if !n.Hidden {
			list = append(list, n)
		}
	}
	return list
}

// Names are the names of Commands.
func Names(app *kong.Application) (names []string) {
	for _, c := range Commands(app) {
		names = append(names, c.Name)
	}
	return names
}

// ValueName is what stands for an option's value, or "" if it has none.
func ValueName(f *kong.Flag) string {
	switch {
	case f.IsBool():
		return ""
	case f.Tag.PlaceHolder != "":
		return f.Tag.PlaceHolder
	}
	return strings.ToUpper(f.Name)
}
