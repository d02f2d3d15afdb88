package completion

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"hb/stream/terminal/usage/grammar"
)

// bash is the script for bash: tables of options, and a function that walks along
// the line. Where it has nothing to offer it leaves names of files to readline,
// which knows how to quote them.
func bash(app *program) string {
	var all, options, values, arguments strings.Builder
	for _, w := range grammar.Names(app.Application) {
		all.WriteString(" " + w)
	}
	for _, c := range append([]*kong.Node{app.Node}, grammar.Commands(app.Application)...) {
		name := c.Name
		if c.Type == kong.ApplicationNode {
			name = ""
		}
		bashOptions(&options, app, c, name)
		bashValues(&values, app, c, name)
		if v := argument(app, c); v.kind != noValue {
			fmt.Fprintf(&arguments, "\t%s) REPLY=%s ;;\n", name, quoted(bashKind(v)))
		}
	}
	return strings.NewReplacer("@HB@", app.Name, "@COMMANDS@", strings.TrimSpace(all.String()),
		"@OPTIONS@", options.String(), "@VALUES@", values.String(), "@ARGUMENTS@", arguments.String()).Replace(bashScript)
}

func bashOptions(b *strings.Builder, app *program, n *kong.Node, command string) {
	var list []string
	for _, f := range options(n) {
		list = append(list, "--"+f.Name)
	}
	if command != "" {
		for _, f := range options(app.Node) {
			list = append(list, "--"+f.Name)
		}
	}
	pattern := command
	if command == "" {
		pattern = "''"
	}
	fmt.Fprintf(b, "\t%s) REPLY=%s ;;\n", pattern, quoted(strings.Join(list, " ")))
}

func bashValues(b *strings.Builder, app *program, n *kong.Node, command string) {
	for _, f := range options(n) {
		v := valueOf(app, f.Value)
		if v.kind == noValue {
			continue
		}
		if command == "" {
			command = "*"
		}
		var patterns []string
		for _, s := range spellings(f) {
			patterns = append(patterns, command+" "+s)
		}
		for i, p := range patterns {
			patterns[i] = strings.ReplaceAll(p, " ", `\ `)
		}
		fmt.Fprintf(b, "\t%s) REPLY=%s ;;\n", strings.Join(patterns, "|"), quoted(bashKind(v)))
	}
}

// bashKind is a value as the function has it: a kind, and its words.
func bashKind(v value) string {
	switch v.kind {
	case fileValue:
		return "file"
	case dirValue:
		return "dir"
	case wordValue:
		return "words " + strings.Join(v.words, " ")
	}
	return "any"
}

const bashScript = `# Completion of @HB@ in bash, made by "@HB@ completion bash".

# The options of a command, or of all.
__@HB@_options() {
	case $1 in
@OPTIONS@	*) REPLY= ;;
	esac
}

# What a command's option takes.
__@HB@_value() {
	case "$1 $2" in
@VALUES@	*) REPLY= ;;
	esac
}

# What a command takes beside options.
__@HB@_argument() {
	case $1 in
@ARGUMENTS@	*) REPLY= ;;
	esac
}

# Names of files (-f default) or directories (-d dirnames): readline's work, which
# knows about quotes, except what follows an equals sign inside of a word.
__@HB@_names() {
	local name
	if [[ -z $prefix ]]; then
		compopt -o "$2"
		return
	fi
	while IFS= read -r name; do
		printf -v name %q "$name"
		COMPREPLY+=("$prefix$name")
	done < <(compgen "$1" -- "$cur")
}

_@HB@() {
	local REPLY IFS=$' \t\n' cur=${COMP_WORDS[COMP_CWORD]} command= option= last= prefix= only= taken= i word
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $word == = && -n $last ]]; then
			option=$last last=
			continue
		fi
		last=
		if [[ -n $option ]]; then
			option=
		elif [[ -z $only && $word == -- ]]; then
			only=1
		elif [[ -z $only && $word == -?* ]]; then
			last=$word
			__@HB@_value "$command" "$word"
			[[ -z $REPLY ]] || option=$word
		elif [[ -z $command ]]; then
			command=$word
		else
			taken=1
		fi
	done
	# An equals sign is a word of its own, if COMP_WORDBREAKS is as it was.
	if [[ $cur == = && -n $last ]]; then
		option=$last cur=
	elif [[ -z $option && -z $only && $cur == --*=* ]]; then
		option=${cur%%=*} prefix=${cur%%=*}= cur=${cur#*=}
	fi

	COMPREPLY=()
	if [[ -n $option ]]; then
		__@HB@_value "$command" "$option"
	elif [[ -z $only && $cur == -* ]]; then
		__@HB@_options "$command"
		REPLY="words $REPLY"
	elif [[ -z $command ]]; then
		REPLY='words @COMMANDS@'
	elif [[ -z $taken ]]; then
		__@HB@_argument "$command"
	else
		REPLY=
	fi
	case $REPLY in
	file) __@HB@_names -f default ;;
	dir) __@HB@_names -d dirnames ;;
	words\ *) COMPREPLY=($(compgen -P "$prefix" -W "${REPLY#words }" -- "$cur")) ;;
	esac
}

complete -F _@HB@ @HB@
`
