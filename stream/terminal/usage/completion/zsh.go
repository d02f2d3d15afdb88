package completion

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"hb/stream/terminal/usage/grammar"
)

// zsh is the script for zsh: specifications for its _arguments, of all commands and
// of each.
func zsh(app *program) string {
	var list, cases strings.Builder
	for _, c := range grammar.Commands(app.Application) {
		fmt.Fprintf(&list, "\t\t%s\n", quoted(c.Name+":"+summary(c.Help)))
		fmt.Fprintf(&cases, "\t%s)\n\t\t_arguments -s -S \\\n%s%s\t\t\t\"$common[@]\" && ret=0\n\t\t;;\n", c.Name, zshOptions(app, c), zshArgument(app, c))
	}
	common := strings.ReplaceAll(zshOptions(app, app.Node), " \\\n", "\n")
	return strings.NewReplacer("@HB@", app.Name, "@COMMANDS@", list.String(), "@COMMON@", common, "@CASES@", cases.String()).Replace(zshScript)
}

// zshOptions are the specifications of a command's options, each in a line.
func zshOptions(app *program, n *kong.Node) string {
	var b strings.Builder
	for _, f := range options(n) {
		v := valueOf(app, f.Value)
		for _, spelling := range spellings(f) {
			spec := "*" // may be repeated
			if !f.IsCumulative() {
				spec = ""
				if f.Short != 0 {
					spec = "(" + strings.Join(spellings(f), " ") + ")"
				}
			}
			spec += spelling
			switch {
			case v.kind == noValue:
			case strings.HasPrefix(spelling, "--"):
				spec += "="
			default:
				spec += "+"
			}
			spec += "[" + zshEscaped(summary(f.Help)) + "]"
			if v.kind != noValue {
				spec += ":" + zshEscaped(v.name) + ":" + zshAction(v)
			}
			fmt.Fprintf(&b, "\t\t\t%s \\\n", quoted(spec))
		}
	}
	return b.String()
}

// zshArgument is the specification of a command's argument.
func zshArgument(app *program, n *kong.Node) string {
	v := argument(app, n)
	if v.kind == noValue {
		return ""
	}
	return fmt.Sprintf("\t\t\t%s \\\n", quoted("1:"+zshEscaped(v.name)+":"+zshAction(v)))
}

// zshAction completes a value.
func zshAction(v value) string {
	switch v.kind {
	case fileValue:
		return "_files"
	case dirValue:
		return "_files -/"
	case wordValue:
		return "(" + strings.Join(v.words, " ") + ")"
	}
	return " "
}

// zshEscaped is a text inside a specification.
func zshEscaped(text string) string {
	return strings.NewReplacer(`\`, `\\`, "[", `\[`, "]", `\]`, ":", `\:`).Replace(text)
}

const zshScript = `#compdef @HB@
# Completion of @HB@ in zsh, made by "@HB@ completion zsh".

_@HB@() {
	local curcontext=$curcontext state line ret=1
	typeset -A opt_args
	local -a commands common
	commands=(
@COMMANDS@	)
	common=(
@COMMON@	)
	_arguments -s -S -C "$common[@]" '1:command:->command' '*::argument:->arguments' && ret=0
	if [[ $state == command ]]; then
		_describe -t commands command commands && ret=0
		return ret
	fi
	[[ $state == arguments ]] || return ret
	curcontext="${curcontext%:*:*}:@HB@-$line[1]:"
	case $line[1] in
@CASES@	esac
	return ret
}

# Loaded from a file of this name it is the function; else it makes one.
if [[ $funcstack[1] == _@HB@ ]]; then
	_@HB@ "$@"
else
	compdef _@HB@ @HB@
fi
`
