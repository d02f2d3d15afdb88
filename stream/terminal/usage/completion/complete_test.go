package completion

import (
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// commandLine is a small command line.
type commandLine struct {
	List struct {
		Socket string   `short:"S" help:"Unix socket: where it is." type:"path" placeholder:"FILE" group:"Connection"`
		Key    *string  `help:"A secret." group:"Connection"`
		Kind   string   `help:"What [kind] it's of." enum:"a,b," default:""`
		To     []string `short:"t" help:"Of which there may be several." placeholder:"WHO"`
		Tmpdir string   `help:"Where." type:"path" placeholder:"DIR"`
		Mode   string   `help:"How." complete:"FAST,SLOW"`
		Hidden bool     `hidden:""`

		Archive string `arg:"" optional:"" help:"What to read." type:"path"`
	} `cmd:"" help:"Read it. And more."`
	Quiet bool `help:"Say nothing."`
}

func model(t *testing.T) *kong.Application {
	t.Helper()
	parser, err := kong.New(new(commandLine), kong.Name("hb"), kong.Description("A program."), kong.NoDefaultHelp())
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model
}

// TestScripts: what the scripts say of each kind of option. (That shells understand
// them is for the tests in scripts/test.d.)
func TestScripts(t *testing.T) {
	app := model(t)
	for shell, lines := range map[string][]string{
		"bash": {
			"\t'') REPLY='--quiet' ;;\n", "\tlist) REPLY='--socket --key --kind --to --tmpdir --mode --quiet' ;;\n",
			"\tlist\\ --socket|list\\ -S) REPLY='file' ;;\n", "\tlist\\ --kind) REPLY='words a b' ;;\n", "\tlist\\ --to|list\\ -t) REPLY='any' ;;\n",
			"\tlist\\ --tmpdir) REPLY='dir' ;;\n", "\tlist\\ --mode) REPLY='words FAST SLOW' ;;\n", "\tlist) REPLY='file' ;;\n", "\t\tREPLY='words list'\n",
			"\ncomplete -F _hb hb\n",
		},
		"zsh": {
			"#compdef hb\n", "\t\t'list:Read it'\n", "'(--socket -S)--socket=[Unix socket]:FILE:_files'", "'(--socket -S)-S+[Unix socket]:FILE:_files'", "'--key[A secret]'",
			`'--kind=[What \[kind\] it'\''s of]:KIND:(a b)'`, "'*--to=[Of which there may be several]:WHO: '", "'*-t+[Of which there may be several]:WHO: '",
			"'--tmpdir=[Where]:DIR:_files -/'", "'--mode=[How]:MODE:(FAST SLOW)'", "'1:ARCHIVE:_files'", "'--quiet[Say nothing]'",
		},
		"fish": {
			"complete -c hb -n '__hb_is \"\"' -a list -d 'Read it'\n", "complete -c hb -l quiet -d 'Say nothing'\n",
			"complete -c hb -n '__hb_is list' -s S -l socket -d 'Unix socket' -r -F\n", "complete -c hb -n '__hb_is list' -l key -d 'A secret'\n",
			`complete -c hb -n '__hb_is list' -l kind -d 'What [kind] it\'s of' -r -f -a 'a b'` + "\n",
			"complete -c hb -n '__hb_is list' -s t -l to -d 'Of which there may be several' -r -f\n",
			"complete -c hb -n '__hb_is list' -l tmpdir -d 'Where' -r -f -a '(__fish_complete_directories)'\n", "complete -c hb -n '__hb_is list' -F\n",
		},
	} {
		script := Script(app, shell, []string{"locks"})
		for _, line := range lines {
			if !strings.Contains(script, line) {
				t.Errorf("%s: there is no %q in\n%s", shell, line, script)
			}
		}
		if strings.Contains(script, "hidden") || strings.Contains(script, "@HB@") || strings.Contains(script, "@OPTIONS@") {
			t.Errorf("%s: what is hidden is shown, or something was not filled in:\n%s", shell, script)
		}
	}
}
