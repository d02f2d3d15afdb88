package usage

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// commandLine is a small command line. Its command has the name of one of hb's, so that
// there is a page.
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

// TestPrint: all parts of a command's help.
func TestPrint(t *testing.T) {
	defer func(p Page) { pages["list"] = p }(pages["list"])
	pages["list"] = Page{Text: "One.\n\n\tas it is", Reads: "this.", Writes: "that.", Examples: []Example{{"hb list x", "an example"}}, Topics: []string{"locks", "archive"}}
	app := model(t)
	var out bytes.Buffer
	if err := Print(&out, app, app.Children[0]); err != nil {
		t.Fatal(err)
	}
	want := `Usage: hb list [OPTION]... [ARCHIVE]

Read it. And more.

One.

    as it is

Reads:   this.
Writes:  that.

Examples:
  hb list x
      an example

Arguments:
  ARCHIVE  What to read.

Options:
      --kind=KIND   What [kind] it's of.
  -t, --to=WHO      Of which there may be several.
      --tmpdir=DIR  Where.
      --mode=MODE   How.

Connection:
  -S, --socket=FILE  Unix socket: where it is.
      --key=KEY      A secret.

Options of all commands:
      --quiet  Say nothing.

Exit codes:
`
	got, codes, _ := strings.Cut(out.String(), "Exit codes:\n")
	if got+"Exit codes:\n" != want {
		t.Errorf("it prints\n%s\nwant\n%s", got, want)
	}
	if !strings.HasPrefix(codes, "  0    the archive is complete\n  1  ") || strings.Contains(codes, "\n  3  ") ||
		!strings.HasSuffix(codes, "\n\nSee also:\n  hb help locks, hb help archive\n") {
		t.Errorf("exit codes:\n%s", codes)
	}
}

// TestReference: what Markdown makes of texts and tables, and of defaults.
func TestReference(t *testing.T) {
	defer func(p Page) { pages["list"] = p }(pages["list"])
	pages["list"] = Page{Text: "With --to, see hb help locks: 2 * _x_ < a_b.\n\nfirst:\tone\nsecond:\ttwo", Reads: "this.", Writes: "that.", Examples: []Example{{"hb list | x", "an example"}}}
	app := model(t)
	for _, f := range app.Children[0].Flags {
		if f.Name == "to" {
			f.Help = "Of which there may be several (default none: 0); more are wrong."
		}
	}
	text := Reference(app, func(option string) ([]string, string) {
		if option == "key" {
			return nil, ""
		}
		return []string{"HB_" + strings.ToUpper(option), "OTHER"}, option
	})
	for _, want := range []string{
		"| [hb list](#hb-list) | Read it. And more. |\n",
		"\n## hb list\n\n`hb list [OPTION]... [ARCHIVE]`\n",
		"\nWith `--to`, see [`hb help locks`](reference.md#hb-help-locks): 2 \\* \\_x\\_ \\< a_b.\n\n- **first:** one\n- **second:** two\n",
		"\n```sh\nhb list | x  # an example\n```\n",
		"\n### hb list: Options\n\n| option | what it says | default | environment | `[hb]` |\n|---|---|---|---|---|\n",
		"| `--kind=KIND` | What [kind] it's of. |  | `HB_KIND`, `OTHER` | `kind` |\n",
		"| `-t, --to=WHO` | Of which there may be several; more are wrong. | none: 0 | `HB_TO`, `OTHER` | `to` |\n",
		"\n### hb list: Connection\n",
		"| `--key=KEY` | A secret. |  |  |  |\n",
		"\n## Options of all commands\n",
		"\n1. the command line\n2. the environment",
		"| 130 | interrupted by a signal |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "hidden") {
		t.Errorf("what is hidden is shown:\n%s", text)
	}
}

// TestRows: a long term has a line of its own, and long texts are broken at the
// last column.
func TestRows(t *testing.T) {
	p := &printer{}
	p.rows([][2]string{{"a", "x"}, {"abc", strings.Repeat("1234 ", 20)}, {strings.Repeat("l", 40), "y"}}, 2)
	p.lines(strings.Repeat("x", 90)+" "+strings.Repeat("y", 79)+" z "+strings.Repeat("v", 78), 0, 0)
	want := "  a    x\n" +
		"  abc  " + strings.TrimSpace(strings.Repeat("1234 ", 14)) + "\n" +
		"       " + strings.TrimSpace(strings.Repeat("1234 ", 6)) + "\n" +
		"  " + strings.Repeat("l", 40) + "\n       y\n" +
		strings.Repeat("x", 90) + "\n" + strings.Repeat("y", 79) + "\nz " + strings.Repeat("v", 78) + "\n"
	if p.String() != want {
		t.Errorf("it prints\n%s\nwant\n%s", p.String(), want)
	}
}

// TestManualSource: what means something to roff is escaped.
func TestManualSource(t *testing.T) {
	for _, test := range [][2]string{
		{`a-b \ "c" 'd' ^ ~ ` + "`", `a\-b \e \(dqc\(dq \(aqd\(aq \(ha \(ti \(ga`},
		{".TH é", `\&.TH \[u00E9]`},
		{"'x", `\(aqx`},
	} {
		if got := roff(test[0]); got != test[1] {
			t.Errorf("%q becomes %q, want %q", test[0], got, test[1])
		}
	}
	// A word with a dot may begin any line.
	for line := range strings.SplitSeq(prose(strings.Repeat("... .TH ", 40)), "\n") {
		if strings.HasPrefix(line, ".") || len(line) > maxSource {
			t.Errorf("a line is %q", line)
		}
	}
	app := model(t)
	c, ok := find(app, "list")
	if !ok {
		t.Fatal("no command")
	}
	text := manualOf(app, c, Build{Version: "1.2", Time: "2026-11-27T23:00:00-05:00"})
	for _, want := range []string{
		".TH \"HB\\-LIST\" \"1\" \"2026-11-28\" \"hb 1.2\" \"User Commands\"\n",
		".SH \"NAME\"\nhb\\-list \\- read it. And more\n",
		".SH \"SYNOPSIS\"\n\\fBhb list\\fR [OPTION]... [ARCHIVE]\n",
		".TP\n\\fB\\-S\\fR, \\fB\\-\\-socket\\fR=\\fIFILE\\fR\nUnix socket: where it is.\n",
		".TP\n\\fIARCHIVE\\fR\nWhat to read.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

// TestPeers: each option of another tool is there once, and one that hb lacks has a
// word on it.
func TestPeers(t *testing.T) {
	for _, tool := range []Tool{XtraBackup, MariaDBBackup} {
		seen := make(map[string]bool)
		for _, g := range Peers {
			for _, p := range g.Peers {
				if p.Text == "" && p.Answer != Yes || strings.HasSuffix(p.Text, ".") || p.More != "" && !strings.HasSuffix(strings.TrimSuffix(p.More, ")"), ".") {
					t.Errorf("%s: %s, %q, %q", p.Options, p.Answer, p.Text, p.More)
				}
				for _, name := range p.Names() {
					if p.Of&tool != 0 && seen[name] {
						t.Errorf("--%s is there twice", name)
					}
					seen[name] = seen[name] || p.Of&tool != 0
				}
			}
		}
	}
	for option, want := range map[string]string{"innodb-page-size": "hb asks the server, ", "innodb-log-arch-dir": "hb applies the whole ", "prepare": "it is a command: hb apply DIR"} {
		if p, ok := peer(option); !ok || !strings.HasPrefix(p.Hint(), want) {
			t.Errorf("--%s: %q", option, p.Hint())
		}
	}
	if p, ok := peer("innod"); ok {
		t.Errorf("there is %+v", p)
	}
}

// TestTables: tables that are searched by name are in its order.
func TestTables(t *testing.T) {
	if !slices.IsSorted(Codes()) {
		t.Errorf("exit codes: %v", Codes())
	}
	names := topicNames()
	for _, topic := range topics {
		if topic.Title == "" || len(blocks(topic.Text)) < 2 || pages[topic.Name].Reads != "" {
			t.Errorf("the topic %s is empty, or a command", topic.Name)
		}
	}
	for name, page := range pages {
		for _, topic := range page.Topics {
			if !slices.Contains(names, topic) {
				t.Errorf("%s names the topic %s, which there is not", name, topic)
			}
		}
	}
}

// TestVersion: unknown facts are shown as unknown.
func TestVersion(t *testing.T) {
	a := About{Build: Build{Version: "1.2", Commit: "abc", Time: "2026-01-02T03:04:05Z", Go: "go1.26", Platform: "linux/amd64"}, Facts: []Fact{{"servers", "all"}}}
	const rest = "built with: go1.26 for linux/amd64\nservers: all\n"
	if got, want := a.String(), "hb 1.2\ncommit: abc of 2026-01-02T03:04:05Z\n"+rest; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	a.Modified = true
	if got, want := a.String(), "hb 1.2\ncommit: abc of 2026-01-02T03:04:05Z, and changes\n"+rest; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	a.Commit = ""
	if got, want := a.String(), "hb 1.2\ncommit: not recorded\n"+rest; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// failing is a place that takes nothing.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestPrintFails: that nothing could be written is an error.
func TestPrintFails(t *testing.T) {
	app := model(t)
	if err := Print(failing{}, app, app.Node); err != io.ErrClosedPipe {
		t.Error(err)
	}
	if err := printTopic(failing{}, topics[0]); err != io.ErrClosedPipe {
		t.Error(err)
	}
}
