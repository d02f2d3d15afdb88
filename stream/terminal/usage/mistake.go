package usage

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"hb/stream/nearest"
	"hb/stream/terminal/usage/grammar"
)

// unknown is kong's message about a flag or an argument that it does not know, before
// its suggestion.
var unknown = regexp.MustCompile(`^(unknown flag|unexpected argument) (\S+?)(?:, did you mean .*)?$`)

// missing is kong's message about an argument that must be given.
var missing = regexp.MustCompile(`^expected "<(\S+)>"$`)

// A word is a command that people look for, as other tools have it, and hb's way.
type word struct{ names, way string }

var words = []word{
	{"restore copy-back move-back recover", "hb extract -C DIR ARCHIVE unpacks a backup, and hb apply DIR makes it ready for a server; hb extract --apply does both"},
	{"prepare apply-log replay", "hb apply DIR makes an extracted backup ready for a server"},
	{"unpack untar decompress decrypt unzip", "hb extract -C DIR ARCHIVE unpacks a backup, whether it is compressed, encrypted or neither"},
	{"ls info show stat inspect contents", "hb list ARCHIVE shows what an archive has"},
	{"test validate fsck", "hb verify checks an archive or a directory; hb check looks whether a backup would succeed"},
	{"create dump save run full", "hb backup > FILE takes a backup"},
}

// way is hb's way of doing what another tool has a command for, or "".
func way(command string) string {
	for _, w := range words {
		if slices.Contains(strings.Fields(w.names), command) {
			return w.way
		}
	}
	return ""
}

// ShortHelp makes -h into --help where it has no value, and so cannot be the host: as
// the only, the first or the last argument.
func ShortHelp(args []string) []string {
	args = slices.Clone(args)
	for _, i := range []int{0, len(args) - 1} {
		if i >= 0 && i < len(args) && args[i] == "-h" {
			args[i] = "--help"
		}
	}
	return args
}

// Mistake is the message about a command line that kong refused, with what was
// perhaps meant, and where to read more.
func Mistake(app *kong.Application, err error) string {
	var whole interface{ Whole() bool }
	if errors.As(err, &whole) && whole.Whole() { // it is not in the command line
		return err.Error()
	}
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
		return "a command is missing: " + strings.Join(grammar.Names(app), ", ")
	case m == nil:
		return valueRefused(text)
	case m[1] == "unexpected argument" && selected != nil && selected.Name == toStdout:
		return fmt.Sprintf("unexpected argument %s: %s", m[2], redirect(m[2]))
	case m[1] == "unexpected argument" && selected != nil:
		return fmt.Sprintf("unexpected argument %s", m[2])
	case m[1] == "unexpected argument" && way(m[2]) != "":
		return fmt.Sprintf("unknown command %s: %s", m[2], way(m[2]))
	case m[1] == "unexpected argument":
		return fmt.Sprintf("unknown command %s%s", m[2], didYouMean(nearest.To(m[2], grammar.Names(app))))
	}
	return fmt.Sprintf("unknown flag %s%s", m[2], unknownFlag(app, selected, m[2]))
}

// toStdout is the command that writes to standard output.
const toStdout = "backup"

// outputs are the flags that other tools have for the file to write.
var outputs = []string{"-o", "--output", "--out", "-f", "--file", "-d", "--directory"}

// redirect says how to send the archive into a file.
func redirect(file string) string {
	return fmt.Sprintf("hb %s writes to standard output: hb %[1]s > %s", toStdout, file)
}

// notBool is kong's message about a flag without a value that was given one.
var notBool = regexp.MustCompile(`^(--[a-z-]+): bool value must be .* but got "(.*)"$`)

// valueRefused is the message about a value that a flag does not take.
func valueRefused(text string) string {
	m := notBool.FindStringSubmatch(text)
	switch {
	case m == nil:
		return text
	case m[1] == "--compress":
		return fmt.Sprintf("--compress has no value, but got %q: hb compresses with zstd; --compress-level N sets its level", m[2])
	}
	return fmt.Sprintf("%s has no value, but got %q", m[1], m[2])
}

// unknownFlag is the message about a flag that a command does not have.
func unknownFlag(app *kong.Application, selected *kong.Node, flag string) string {
	if selected != nil && selected.Name == toStdout && slices.Contains(outputs, flag) {
		return ": " + redirect("FILE")
	}
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
		if name == "json" {
			text += "; --log-format json makes JSON of the messages of every command"
		}
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

// others names the other commands that have a flag.
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
		return fmt.Sprintf(" before the command: it belongs after %s", strings.Join(have, ", "))
	}
	return fmt.Sprintf(" of %s %s: it is one of %s", app.Name, selected.Name, strings.Join(have, ", "))
}

// flagsOf are the flags that can stand after a command, or before all.
func flagsOf(app *kong.Application, selected *kong.Node) []*kong.Flag {
	if selected == nil {
		return app.Flags
	}
	return slices.Concat(selected.Flags, app.Flags)
}

// didYouMean is a question, if there is anything to ask for.
func didYouMean(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return ", did you mean " + strings.Join(names, " or ") + "?"
}
