// Package usage explains how to use hb: the help of each command and topic, manual
// pages, completion scripts for shells, and what was perhaps meant by a command line
// that is wrong. All of it is made from the grammar, as package kong has it, and from
// what stands in this package besides: pages.go, topics.go, exits.go and peers.go.
//
// Texts are paragraphs with an empty line between them. A paragraph whose lines
// begin with a tab is shown as it is; one whose lines have a tab inside is a list
// of terms and what they mean.
package usage

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"hb/stream/terminal/usage/grammar"
)

// A Command is a command of the grammar with its page.
type Command struct {
	*kong.Node
	Page
}

// A Page is the text on a command beyond its grammar.
type Page struct {
	Text          string
	Reads, Writes string
	Examples      []Example
	Topics        []string // to read next
}

// An Example is a command line, for a shell, and what it does.
type Example struct{ Line, Does string }

// commands are those of the grammar, in its order.
func commands(app *kong.Application) []Command {
	var list []Command
	for _, n := range grammar.Commands(app) {
		list = append(list, Command{n, pages[n.Name]})
	}
	return list
}

// find returns the command of that name.
func find(app *kong.Application, name string) (Command, bool) {
	for _, c := range commands(app) {
		if c.Name == name {
			return c, true
		}
	}
	return Command{}, false
}

// synopsis is the command's line in short.
func synopsis(app *kong.Application, n *kong.Node) string {
	line := app.Name
	if n.Type == kong.CommandNode {
		line += " " + n.Name
	} else {
		line += " COMMAND"
	}
	line += " [OPTION]..."
	for _, p := range n.Positional {
		name := strings.ToUpper(p.Name)
		if !p.Required {
			name = "[" + name + "]"
		}
		line += " " + name
	}
	return line
}

// A section is options under a heading.
type section struct {
	title string
	flags []*kong.Flag
}

// sections are a command's options, or those of all commands, by their groups.
func sections(n *kong.Node) []section {
	first := "Options"
	if n.Type == kong.ApplicationNode {
		first = "Options of all commands"
	}
	var list []section
	at := make(map[string]int)
	for _, f := range n.Flags {
		if f.Hidden {
			continue
		}
		title := first
		if f.Group != nil {
			title = f.Group.Title
		}
		i, known := at[title]
		if !known {
			i = len(list)
			at[title] = i
			list = append(list, section{title: title})
		}
		list[i].flags = append(list[i].flags, f)
	}
	// What belongs to no group comes first.
	if i, ok := at[first]; ok && i > 0 {
		own := list[i]
		copy(list[1:i+1], list[:i])
		list[0] = own
	}
	return list
}

// term is an option as lists have it.
func term(f *kong.Flag) string {
	text := "    --" + f.Name
	if f.Short != 0 {
		text = fmt.Sprintf("-%c, --%s", f.Short, f.Name)
	}
	if name := grammar.ValueName(f); name != "" {
		text += "=" + name
	}
	return text
}

// A block is a paragraph of a text.
type block struct {
	text     string      // reflowed, unless:
	verbatim []string    // lines
	rows     [][2]string // terms and their meanings
}

// blocks takes a text apart.
func blocks(text string) []block {
	var list []block
	for paragraph := range strings.SplitSeq(strings.TrimSpace("\n"+text+"\n"), "\n\n") {
		lines := strings.Split(paragraph, "\n")
		var b block
		switch at := strings.IndexByte(lines[0], '\t'); {
		case paragraph == "":
			continue
		case at == 0:
			for _, l := range lines {
				b.verbatim = append(b.verbatim, strings.TrimPrefix(l, "\t"))
			}
		case at > 0:
			for _, l := range lines {
				term, meaning, _ := strings.Cut(l, "\t")
				b.rows = append(b.rows, [2]string{term, meaning})
			}
		default:
			b.text = strings.Join(lines, " ")
		}
		list = append(list, b)
	}
	return list
}
