package usage

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"

	"hb/stream/terminal/usage/grammar"
)

// manual is hb(1), complete.
func manual(app *kong.Application, b Build) string {
	p := newPage(app.Name, app.Help, b)
	p.head("SYNOPSIS")
	for i, c := range commands(app) {
		if i > 0 {
			p.request(".br")
		}
		p.synopsis(app, c.Node)
	}
	p.head("DESCRIPTION")
	p.text(fmt.Sprintf("This page has all commands, and all topics of %s help.", app.Name))
	p.head("COMMANDS")
	for _, c := range commands(app) {
		p.sub(app.Name + " " + c.Name)
		p.synopsis(app, c.Node)
		p.request(".PP")
		p.command(c)
		p.examples(c)
	}
	for _, s := range sections(app.Node) {
		p.head(strings.ToUpper(s.title))
		p.flags(s.flags)
	}
	for _, t := range topics {
		if t.Name == exitTopic {
			p.head("EXIT STATUS")
		} else {
			p.head(strings.ToUpper(t.Title))
		}
		p.text(t.Text)
	}
	return p.String()
}

// manualOf is the page of one command, such as hb-backup(1).
func manualOf(app *kong.Application, c Command, b Build) string {
	p := newPage(app.Name+"-"+c.Name, c.Help, b)
	p.head("SYNOPSIS")
	p.synopsis(app, c.Node)
	p.head("DESCRIPTION")
	p.command(c)
	for _, s := range sections(app.Node) {
		p.head(strings.ToUpper(s.title))
		p.flags(s.flags)
	}
	p.head("EXIT STATUS")
	p.text(exitsOf(c.Name))
	p.head("EXAMPLES")
	p.examples(c)
	p.head("SEE ALSO")
	p.request(".BR " + roff(app.Name) + " (1)")
	return p.String()
}

// page gathers a manual page, in the roff that man(7) describes.
type page struct{ strings.Builder }

// newPage begins a page with its title and name.
func newPage(name, help string, b Build) *page {
	p := &page{}
	day := ""
	if t, err := time.Parse(time.RFC3339, b.Time); err == nil {
		day = t.UTC().Format(time.DateOnly)
	}
	p.request(fmt.Sprintf(`.TH "%s" "1" "%s" "%s" "User Commands"`, roff(strings.ToUpper(name)), day, roff(b.String())))
	p.request(".nh") // names of options are not to be broken
	p.request(".ad l")
	p.head("NAME")
	help = strings.TrimSuffix(help, ".")
	p.request(prose(name + " - " + strings.ToLower(help[:1]) + help[1:]))
	return p
}

// command is the text on a command: what it does, reads and writes, and its options.
func (p *page) command(c Command) {
	text := c.Help
	if c.Text != "" {
		text += "\n\n" + c.Text
	}
	p.text(text)
	p.item(`\fBReads:\fR`, prose(c.Reads))
	p.item(`\fBWrites:\fR`, prose(c.Writes))
	for _, a := range c.Positional {
		p.item(`\fI`+roff(strings.ToUpper(a.Name))+`\fR`, prose(a.Help))
	}
	for _, s := range sections(c.Node) {
		if s.title != "Options" {
			p.request(".PP")
			p.request(roff(s.title) + ":")
		}
		p.flags(s.flags)
	}
}

func (p *page) flags(flags []*kong.Flag) {
	for _, f := range flags {
		text := `\fB` + roff("--"+f.Name) + `\fR`
		if f.Short != 0 {
			text = `\fB` + roff("-"+string(f.Short)) + `\fR, ` + text
		}
		if name := grammar.ValueName(f); name != "" {
			text += `=\fI` + roff(name) + `\fR`
		}
		p.item(text, prose(f.Help))
	}
}

func (p *page) examples(c Command) {
	for _, e := range c.Examples {
		p.item(roff(e.Line), prose(e.Does))
	}
}

func (p *page) synopsis(app *kong.Application, n *kong.Node) {
	line := synopsis(app, n)
	name := app.Name + " " + n.Name
	p.request(`\fB` + roff(name) + `\fR` + roff(strings.TrimPrefix(line, name)))
}

// text is a text of several blocks. It stands after a heading: what comes first
// begins no paragraph.
func (p *page) text(text string) {
	for i, b := range blocks(text) {
		switch {
		case b.rows != nil:
			for _, r := range b.rows {
				p.item(`\fB`+roff(r[0])+`\fR`, prose(r[1]))
			}
		case b.verbatim != nil:
			p.request(".PP\n.RS 4\n.nf")
			for _, l := range b.verbatim {
				p.request(roff(l))
			}
			p.request(".fi\n.RE")
		default:
			if i > 0 {
				p.request(".PP")
			}
			p.request(prose(b.text))
		}
	}
}

func (p *page) head(title string) { p.request(`.SH "` + roff(title) + `"`) }

func (p *page) sub(title string) { p.request(`.SS "` + roff(title) + `"`) }

// item is a term, in roff, and what it means, in roff.
func (p *page) item(term, meaning string) {
	p.request(".TP")
	p.request(term)
	p.request(meaning)
}

// request is a line of roff.
func (p *page) request(line string) { p.WriteString(line + "\n") }

// maxSource is how long a line of a page's source is, at most, in bytes, where it
// can be broken.
const maxSource = 72

// prose is text that is filled, in lines that are not long.
func prose(text string) string {
	var b strings.Builder
	n := 0
	for word := range strings.FieldsSeq(text) {
		word = roff(word)
		switch {
		case n == 0:
		case n+1+len(word) > maxSource:
			b.WriteByte('\n')
			n = 0
		default:
			b.WriteByte(' ')
			n++
		}
		b.WriteString(word)
		n += len(word)
	}
	return b.String()
}

// roff writes text so that nothing in it means anything to roff.
func roff(text string) string {
	var b strings.Builder
	for i, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`) // not a hyphen: it can be copied and pasted
		case r == '"':
			b.WriteString(`\(dq`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '.' && i == 0:
			b.WriteString(`\&.`)
		case r >= utf8.RuneSelf:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
