package usage

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"
)

// Places returns where an option can be set other than on the command line: variables
// of the environment, and the key in group [hb] of option files.
type Places func(option string) (variables []string, key string)

// Reference is docs/reference.md: all of hb help, in Markdown, and of each
// option its default and where else it can be set.
func Reference(app *kong.Application, places Places) string {
	s := &sheet{places: places, tables: make(map[string]string)}
	s.line("# Reference")
	s.paragraph(generated)
	s.paragraph("The text of `hb help` on each command and topic, and where each option can be set: [sources of options](#hb-help-options) says which of these places wins. An option without a default is off or empty.")
	s.head(2, "Commands")
	var rows [][]string
	for _, c := range commands(app) {
		rows = append(rows, []string{link(app.Name + " " + c.Name), prosaic(c.Help)})
	}
	s.table([]string{"command", "what it does"}, rows)
	s.paragraph("All have the [options of all commands](#options-of-all-commands) too. Topics:")
	rows = nil
	for _, t := range topics {
		rows = append(rows, []string{link(topicHead(app, t)), prosaic(t.Title)})
	}
	s.table([]string{"topic", "what it is about"}, rows)
	for _, c := range commands(app) {
		s.command(app, c)
	}
	for _, sec := range sections(app.Node) {
		s.head(2, sec.title)
		s.flags(sec.flags, "")
	}
	for _, t := range topics {
		s.head(2, topicHead(app, t))
		s.paragraph("**" + t.Title + "**")
		s.text(t.Text)
	}
	return s.String()
}

// generated is what stands in pages that are made by a program.
const generated = "<!-- Made by go generate from stream/terminal/usage and the grammar in main.go. -->"

func topicHead(app *kong.Application, t Topic) string { return app.Name + " help " + t.Name }

// sheet gathers a page in Markdown.
type sheet struct {
	strings.Builder
	places Places
	tables map[string]string // of options, that are there already: where
}

func (s *sheet) command(app *kong.Application, c Command) {
	name := app.Name + " " + c.Name
	s.head(2, name)
	s.paragraph(code(synopsis(app, c.Node)))
	s.paragraph(prosaic(c.Help))
	s.text(c.Text)
	s.paragraph("**Reads** " + prosaic(c.Reads))
	s.paragraph("**Writes** " + prosaic(c.Writes))
	s.examples(c.Examples)
	if len(c.Positional) > 0 {
		var rows [][]string
		for _, a := range c.Positional {
			rows = append(rows, []string{code(strings.ToUpper(a.Name)), prosaic(a.Help)})
		}
		s.table([]string{"argument", "what it says"}, rows)
	}
	for _, sec := range sections(c.Node) {
		s.head(3, name+": "+sec.title)
		s.flags(sec.flags, name+": "+sec.title)
	}
	s.head(3, name+": exit codes")
	s.text(exitsOf(c.Name))
	if len(c.Topics) > 0 {
		var all []string
		for _, t := range c.Topics {
			all = append(all, link(app.Name+" help "+t))
		}
		s.paragraph("See also " + strings.Join(all, ", ") + ".")
	}
}

// examples are command lines, each followed by what it does.
func (s *sheet) examples(list []Example) {
	width := 0
	for _, e := range list {
		width = max(width, len(e.Line))
	}
	s.paragraph("```sh")
	for _, e := range list {
		s.line(fmt.Sprintf("%-*s  # %s", width, e.Line, e.Does))
	}
	s.line("```")
}

// flags is a table of options. One that is there already is not shown again, except
// for where: under what heading this is.
func (s *sheet) flags(flags []*kong.Flag, heading string) {
	var rows [][]string
	for _, f := range flags {
		option := code(strings.TrimSpace(term(f)))
		meaning, otherwise := defaultOf(f)
		variables, key := s.places(f.Name)
		for i := range variables {
			variables[i] = code(variables[i])
		}
		if key != "" {
			key = code(key)
		}
		rows = append(rows, []string{option, prosaic(meaning), prosaic(otherwise), strings.Join(variables, ", "), key})
	}
	text := fmt.Sprint(rows)
	if at := s.tables[text]; at != "" {
		s.paragraph("As " + link(at) + ".")
		return
	}
	s.tables[text] = heading
	s.table([]string{"option", "what it says", "default", "environment", "`[hb]`"}, rows)
}

// stated is the text of help about a default.
var stated = regexp.MustCompile(` ?\(default:? ([^()]*)\)`)

// defaultOf takes the default out of the help on an option.
func defaultOf(f *kong.Flag) (meaning, otherwise string) {
	if m := stated.FindStringSubmatch(f.Help); m != nil {
		return strings.Replace(f.Help, m[0], "", 1), m[1]
	}
	return f.Help, f.Default
}

// text is a text of several blocks.
func (s *sheet) text(text string) {
	for _, b := range blocks(text) {
		switch {
		case b.rows != nil:
			s.rows(b.rows)
		case b.verbatim != nil:
			s.paragraph("    " + strings.Join(b.verbatim, "\n    "))
		default:
			s.paragraph(prosaic(b.text))
		}
	}
}

// Terms of a list in order, and of a list of exit codes.
var (
	ordinal = regexp.MustCompile(`^\d+\.$`)
	number  = regexp.MustCompile(`^\d+$`)
)

// rows are terms and what they mean.
func (s *sheet) rows(rows [][2]string) {
	if number.MatchString(rows[0][0]) {
		var codes [][]string
		for _, r := range rows {
			codes = append(codes, []string{r[0], prosaic(r[1])})
		}
		s.table([]string{"code", "meaning"}, codes)
		return
	}
	s.line("")
	for _, r := range rows {
		if ordinal.MatchString(r[0]) {
			s.line(r[0] + " " + prosaic(r[1]))
		} else {
			s.line("- **" + prosaic(r[0]) + "** " + prosaic(r[1]))
		}
	}
}

// table is a table. Its cells are Markdown.
func (s *sheet) table(heads []string, rows [][]string) {
	s.line("")
	s.WriteString(tableOf(heads, rows))
}

// tableOf is a table in Markdown, whose cells are so too.
func tableOf(heads []string, rows [][]string) string {
	var b strings.Builder
	row := func(cells []string) {
		for _, c := range cells {
			b.WriteString("| " + strings.ReplaceAll(c, "|", `\|`) + " ")
		}
		b.WriteString("|\n")
	}
	row(heads)
	b.WriteString(strings.Repeat("|---", len(heads)) + "|\n")
	for _, r := range rows {
		row(r)
	}
	return b.String()
}

// head is a heading.
func (s *sheet) head(level int, title string) {
	s.paragraph(strings.Repeat("#", level) + " " + title)
}

// paragraph is lines with an empty one before them, if there are any.
func (s *sheet) paragraph(text string) {
	if text != "" {
		s.line("\n" + text)
	}
}

func (s *sheet) line(text string) { s.WriteString(text + "\n") }

// code is text that is shown as it is.
func code(text string) string { return "`" + text + "`" }

// link leads to a heading of the page.
func link(heading string) string {
	anchor := strings.ToLower(strings.ReplaceAll(heading, " ", "-"))
	return fmt.Sprintf("[%s](#%s)", heading, regexp.MustCompile(`[^a-z0-9_-]`).ReplaceAllString(anchor, ""))
}

// What a text has that means something to Markdown, what is shown there as code, and
// what leads to a topic.
var (
	meaningful = regexp.MustCompile(`[*<\\]|\b_|_\b`)
	codeLike   = regexp.MustCompile(`(?:\bhb [a-z]+ )?--[a-z][a-z0-9-]*[a-z0-9]`)
	topicLike  = regexp.MustCompile(`hb help (` + strings.Join(topicNames(), "|") + `)\b`)
)

// prosaic is text as Markdown has it. What stands between backticks does so there
// too.
func prosaic(text string) string {
	parts := strings.Split(text, "`")
	for i, p := range parts {
		if i%2 == 1 {
			parts[i] = code(p)
			continue
		}
		p = meaningful.ReplaceAllString(p, `\$0`)
		p = codeLike.ReplaceAllString(p, "`$0`")
		parts[i] = topicLike.ReplaceAllString(p, "[`$0`](reference.md#hb-help-$1)")
	}
	return strings.Join(parts, "")
}
