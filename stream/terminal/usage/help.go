package usage

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

const (
	width  = 80 // columns of a line, at most, where it can be broken
	indent = 2
	gutter = 30 // column at which the second column of a list begins, at most
)

// Print prints the help of a command, or with the application's own node that of
// the whole program.
func Print(w io.Writer, app *kong.Application, n *kong.Node) error {
	p := &printer{}
	p.raw("Usage: " + synopsis(app, n))
	p.paragraph(n.Help, 0)
	if n.Type == kong.ApplicationNode {
		p.overview(app)
	} else {
		p.command(Command{n, pages[n.Name]})
	}
	for _, s := range sections(app.Node) {
		p.section(s)
	}
	if n.Type != kong.ApplicationNode {
		p.head("Exit codes")
		p.text(exitsOf(n.Name), indent)
		p.seeAlso(app.Name, pages[n.Name].Topics)
	}
	_, err := io.WriteString(w, p.String())
	return err
}

// printTopic prints a topic.
func printTopic(w io.Writer, t Topic) error {
	p := &printer{}
	p.raw(t.Title)
	p.text(t.Text, 0)
	_, err := io.WriteString(w, p.String())
	return err
}

// printer gathers text for a terminal.
type printer struct{ strings.Builder }

func (p *printer) overview(app *kong.Application) {
	p.head("Commands")
	var rows [][2]string
	for _, c := range commands(app) {
		rows = append(rows, [2]string{c.Name, c.Help})
	}
	p.rows(rows, indent)
	p.head(fmt.Sprintf("Topics of %s help", app.Name))
	rows = nil
	for _, t := range topics {
		rows = append(rows, [2]string{t.Name, t.Title})
	}
	p.rows(rows, indent)
	p.paragraph(fmt.Sprintf("%s help COMMAND and %[1]s help TOPIC say more.", app.Name), 0)
}

func (p *printer) command(c Command) {
	p.text(c.Text, 0)
	p.raw("")
	p.rows([][2]string{{"Reads:", c.Reads}, {"Writes:", c.Writes}}, 0)
	p.head("Examples")
	for _, e := range c.Examples {
		p.raw(strings.Repeat(" ", indent) + e.Line)
		p.lines(e.Does, 3*indent, 3*indent)
	}
	if len(c.Positional) > 0 {
		p.head("Arguments")
		var rows [][2]string
		for _, a := range c.Positional {
			rows = append(rows, [2]string{strings.ToUpper(a.Name), a.Help})
		}
		p.rows(rows, indent)
	}
	for _, s := range sections(c.Node) {
		p.section(s)
	}
}

func (p *printer) section(s section) {
	p.head(s.title)
	var rows [][2]string
	for _, f := range s.flags {
		rows = append(rows, [2]string{term(f), f.Help})
	}
	p.rows(rows, indent)
}

func (p *printer) seeAlso(app string, names []string) {
	if len(names) == 0 {
		return
	}
	p.head("See also")
	var all []string
	for _, name := range names {
		all = append(all, app+" help "+name)
	}
	p.lines(strings.Join(all, ", "), indent, indent)
}

// raw is a line as it is.
func (p *printer) raw(line string) { p.WriteString(line + "\n") }

// head begins a part.
func (p *printer) head(title string) { p.raw("\n" + title + ":") }

// paragraph is a paragraph of its own, if there is any text.
func (p *printer) paragraph(text string, left int) {
	if text != "" {
		p.raw("")
		p.lines(text, left, left)
	}
}

// text is a text of several blocks.
func (p *printer) text(text string, left int) {
	for i, b := range blocks(text) {
		switch {
		case b.rows != nil:
			if i > 0 || left == 0 {
				p.raw("")
			}
			p.rows(b.rows, max(left, indent))
		case b.verbatim != nil:
			p.raw("")
			for _, l := range b.verbatim {
				p.raw(strings.Repeat(" ", left+2*indent) + l)
			}
		default:
			p.paragraph(b.text, left)
		}
	}
}

// rows are two columns. A term that is too long for the first has a line of its
// own.
func (p *printer) rows(rows [][2]string, left int) {
	column := 0
	for _, r := range rows {
		if n := left + utf8.RuneCountInString(r[0]) + indent; n <= gutter {
			column = max(column, n)
		}
	}
	if column == 0 {
		column = 4 * indent
	}
	for _, r := range rows {
		term := strings.Repeat(" ", left) + r[0]
		if n := utf8.RuneCountInString(term); n+indent <= column {
			p.WriteString(term)
			p.lines(r[1], column-n, column)
			continue
		}
		p.raw(term)
		p.lines(r[1], column, column)
	}
}

// lines breaks text into lines. The first one begins with so many spaces, where
// something stands before it perhaps; the others begin in column left.
func (p *printer) lines(text string, first, left int) {
	p.WriteString(strings.Repeat(" ", first))
	at := left
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case at+1+n > width:
			p.WriteString("\n" + strings.Repeat(" ", left))
			at = left
		default:
			p.WriteString(" ")
			at++
		}
		p.WriteString(word)
		at += n
	}
	p.WriteString("\n")
}
