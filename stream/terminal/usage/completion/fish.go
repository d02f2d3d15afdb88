package completion

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"hb/stream/terminal/usage/grammar"
)

// fish is the script for fish: one complete command for each command, option and
// argument, with the condition under which it counts.
func fish(app *program) string {
	var b, valued strings.Builder
	for _, f := range options(app.Node) {
		if valueOf(app, f.Value).kind != noValue {
			valued.WriteString(" " + strings.Join(spellings(f), " "))
		}
	}
	line := func(condition, rest string) {
		fmt.Fprintf(&b, "complete -c %s%s %s\n", app.Name, condition, rest)
	}
	none := fmt.Sprintf(" -n '__%s_is \"\"'", app.Name)
	for _, c := range grammar.Commands(app.Application) {
		line(none, "-a "+c.Name+" -d "+fishQuoted(summary(c.Help)))
	}
	for _, f := range options(app.Node) {
		line("", fishOption(app, f))
	}
	for _, c := range grammar.Commands(app.Application) {
		is := fmt.Sprintf(" -n '__%s_is %s'", app.Name, c.Name)
		for _, f := range options(c) {
			line(is, fishOption(app, f))
		}
		if v := argument(app, c); v.kind != noValue {
			line(is, fishValue(v))
		}
	}
	return strings.NewReplacer("@HB@", app.Name, "@VALUED@", strings.TrimSpace(valued.String()), "@LINES@", b.String()).Replace(fishScript)
}

// fishOption describes an option to complete(1) of fish.
func fishOption(app *program, f *kong.Flag) string {
	text := "-l " + f.Name
	if f.Short != 0 {
		text = fmt.Sprintf("-s %c %s", f.Short, text)
	}
	text += " -d " + fishQuoted(summary(f.Help))
	if v := valueOf(app, f.Value); v.kind != noValue {
		text += " -r " + fishValue(v)
	}
	return text
}

func fishValue(v value) string {
	switch v.kind {
	case fileValue:
		return "-F"
	case dirValue:
		return "-f -a '(__fish_complete_directories)'"
	case wordValue:
		return "-f -a " + fishQuoted(strings.Join(v.words, " "))
	}
	return "-f"
}

// fishQuoted is a text in single quotes of fish.
func fishQuoted(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}

const fishScript = `# Completion of @HB@ in fish, made by "@HB@ completion fish".

# Whether the line has this command so far; none if it is empty.
function __@HB@_is
    set -l value no
    for word in (commandline -opc)[2..-1]
        if test $value = yes
            set value no
        else if contains -- $word @VALUED@
            set value yes
        else if not string match -q -- '-*' $word
            test $word = "$argv[1]"
            return
        end
    end
    test -z "$argv[1]"
end

complete -c @HB@ -f
@LINES@`
