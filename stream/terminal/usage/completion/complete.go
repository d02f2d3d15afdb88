// Package completion makes the completion scripts for bash, zsh and fish. In goes the
// grammar of the command line, and the names of the help's topics; out comes the
// script. What can be completed of a value, value says for all of them.
package completion

import (
	"reflect"
	"strings"

	"github.com/alecthomas/kong"

	"hb/stream/terminal/usage/grammar"
)

// program is a program with the topics that its help has.
type program struct {
	*kong.Application
	topics []string
}

// Script is the script for a shell, which is bash, zsh or fish. topics are
// those of the program's help.
func Script(app *kong.Application, shell string, topics []string) string {
	script := map[string]func(*program) string{"bash": bash, "zsh": zsh, "fish": fish}[shell]
	return script(&program{app, topics})
}

// A kind is how a value can be completed.
type kind int

const (
	noValue   kind = iota
	anyValue       // any text
	fileValue      // an existing file, or one to make
	dirValue       // a directory
	wordValue      // one of a few words
)

// A value is the value of an option, or an argument.
type value struct {
	kind  kind
	name  string   // what stands for it
	words []string // of wordValue
}

// valueOf is what an option or argument takes. Its tag complete says which words:
// "commands", "topics" (and commands), or the words themselves with commas
// between. Its type and placeholder mark files and directories.
func valueOf(app *program, v *kong.Value) value {
	name := strings.ToUpper(v.Name)
	if v.Flag != nil {
		name = grammar.ValueName(v.Flag)
	}
	switch tag := v.Tag.Get("complete"); {
	case tag == "commands":
		return value{wordValue, name, grammar.Names(app.Application)}
	case tag == "topics":
		return value{wordValue, name, append(grammar.Names(app.Application), app.topics...)}
	case tag != "":
		return value{wordValue, name, strings.Split(tag, ",")}
	case v.Enum != "":
		return value{wordValue, name, enum(v)}
	// An option whose value may be left out is not followed by one.
	case v.IsBool(), v.Flag != nil && v.Target.Kind() == reflect.Pointer:
		return value{}
	case v.Tag.Type == "path" && (name == "DIR" || name == "DIRECTORY"):
		return value{dirValue, name, nil}
	case v.Tag.Type == "path" || v.Tag.Type == "archive" || name == "FILE":
		return value{fileValue, name, nil}
	}
	return value{anyValue, name, nil}
}

// enum are the words of an enumeration that are not empty.
func enum(v *kong.Value) (words []string) {
	for _, w := range v.EnumSlice() {
		if w != "" {
			words = append(words, w)
		}
	}
	return words
}

// argument is what a command takes beside options: hb's commands take one thing
// at most.
func argument(app *program, n *kong.Node) value {
	if len(n.Positional) == 0 {
		return value{}
	}
	return valueOf(app, n.Positional[0])
}

// options are the visible flags of a command or of the application.
func options(n *kong.Node) (list []*kong.Flag) {
	for _, f := range n.Flags {
		if !f.Hidden {
			list = append(list, f)
		}
	}
	return list
}

// spellings are the ways to write an option.
func spellings(f *kong.Flag) []string {
	list := []string{"--" + f.Name}
	if f.Short != 0 {
		list = append(list, "-"+string(f.Short))
	}
	return list
}

// summary is the first sentence of a help text, for a list of completions.
func summary(help string) string {
	if at := strings.IndexAny(help, ".;:("); at > 0 {
		help = help[:at]
	}
	return strings.TrimSpace(help)
}

// quoted is a text in single quotes of a shell like Bourne's.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
