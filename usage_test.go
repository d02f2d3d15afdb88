package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/login"
	"hb/source/mysqld/mysqldtest"
	"hb/source/settings"
	"hb/stream/terminal/usage"
)

// testGrammar is a parser that has no environment and no option files.
func testGrammar() *kong.Kong {
	env := login.Env{Getenv: func(string) string { return "" }, System: []string{}}
	return grammar(new(cli), settings.New(env), io.Discard)
}

// names are those of all commands.
func names(app *kong.Application) (list []string) {
	for _, n := range app.Children {
		list = append(list, n.Name)
	}
	return list
}

// helpTexts are what hb help says, by what it is asked for.
func helpTexts(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{"": hbtest.Succeed(t, hb(t, "help")).Stdout}
	ask := names(testGrammar().Model)
	_, list, _ := strings.Cut(texts[""], "Topics of hb help:\n")
	for line := range strings.Lines(list) {
		if line == "\n" {
			break
		}
		if word := strings.Fields(line)[0]; strings.HasPrefix(line, "  "+word) {
			ask = append(ask, word)
		}
	}
	for _, name := range ask {
		texts[name] = hbtest.Succeed(t, hb(t, "help", name)).Stdout
	}
	return texts
}

// TestHelp: every command's help has all its parts and options, and every topic is
// there; no line is longer than a terminal is wide; all options that are named
// exist, and all examples can be parsed.
func TestHelp(t *testing.T) {
	app := testGrammar().Model
	texts := helpTexts(t)
	for _, topic := range []string{"exit-codes", "options", "restore", "stages", "locks", "archive"} {
		if len(texts[topic]) < 500 {
			t.Errorf("the topic %s is %q", topic, texts[topic])
		}
	}
	flags := map[string]bool{"--no-lock": true} // which is said not to exist
	for _, f := range app.Flags {
		flags["--"+f.Name] = true
	}
	for _, n := range app.Children {
		text := texts[n.Name]
		if got := hbtest.Succeed(t, hb(t, n.Name, "--help")).Stdout; got != text {
			t.Errorf("hb %s --help says\n%s\nand hb help\n%s", n.Name, got, text)
		}
		for _, part := range []string{"Usage: hb " + n.Name + " [OPTION]...", "\nReads: ", "\nWrites: ", "\nExamples:\n  hb ", "\nOptions of all commands:\n", "\nExit codes:\n  0 "} {
			if !strings.Contains(text, part) {
				t.Errorf("the help of %s has no %q", n.Name, part)
			}
		}
		for _, f := range n.Flags {
			flags["--"+f.Name] = true
			if !regexp.MustCompile(`(?m)^  (   |-.,) --` + f.Name + `(=|  |$)`).MatchString(text) {
				t.Errorf("the help of %s has no --%s", n.Name, f.Name)
			}
		}
	}
	examples := 0
	for name, text := range texts {
		for line := range strings.Lines(text) {
			if line = strings.TrimSuffix(line, "\n"); len(line) > 80 || regexp.MustCompile(`[^ -~]`).MatchString(line) {
				t.Errorf("hb help %s: %q", name, line)
			}
		}
		for _, f := range regexp.MustCompile(`--[a-z][a-z-]*[a-z]`).FindAllString(text, -1) {
			if !flags[f] && f != "--expected-size" { // which is that of aws s3 cp
				t.Errorf("hb help %s: there is no %s", name, f)
			}
		}
		examples += parseExamples(t, text)
	}
	if examples < 35 {
		t.Errorf("%d examples", examples)
	}
	t.Logf("%d texts, %d command lines in examples", len(texts), examples)
}

// exampleLine is a line of help that is a command line with hb in it, and
// exampleCommand one command there.
var (
	exampleLine    = regexp.MustCompile(`(?m)^(?:  |    )((?:hb|ssh|age) .*)$`)
	exampleCommand = regexp.MustCompile(`(?:^|[|"(] ?|&& )hb ([^|"<>)&]*)`)
)

// parseExamples parses the command lines in a text with hb's own grammar.
func parseExamples(t *testing.T, text string) (n int) {
	t.Helper()
	for _, line := range exampleLine.FindAllStringSubmatch(text, -1) {
		if strings.HasPrefix(line[1], "hb help ") && strings.Contains(line[1], ",") {
			continue // what else to see
		}
		n += parseLine(t, line[1])
	}
	return n
}

// parseLine parses the commands of hb in a line for a shell.
func parseLine(t *testing.T, line string) (n int) {
	t.Helper()
	line, _, _ = strings.Cut(line, " #")
	line = strings.ReplaceAll(line, " 2>", " >")
	for _, m := range exampleCommand.FindAllStringSubmatch(line, -1) {
		if _, err := testGrammar().Parse(strings.Fields(m[1])); err != nil {
			t.Errorf("%q: %v", m[0], err)
		}
		n++
	}
	return n
}

// TestExitCodesDocumented: the help has every exit code that there is, of commands
// that there are, and the manual page has them all.
func TestExitCodesDocumented(t *testing.T) {
	codes := []int{0, 1}
	for _, e := range exitCodes {
		codes = append(codes, e.code)
	}
	slices.Sort(codes)
	if got := usage.Codes(); !slices.Equal(got, codes) {
		t.Errorf("documented are %v, and there are %v", got, codes)
	}
	all := names(testGrammar().Model)
	man := hbtest.Succeed(t, hb(t, "man")).Stdout
	_, man, _ = strings.Cut(man, ".SH \"EXIT STATUS\"\n")
	man = strings.ReplaceAll(man, `\-`, "-")
	for _, e := range usage.Exits {
		for _, command := range strings.Fields(e.Of) {
			if !slices.Contains(all, command) {
				t.Errorf("exit code %d is of %q", e.Code, command)
			}
		}
		text := strings.ReplaceAll(e.Meaning, "'", `\(aq`)
		if !strings.Contains(strings.ReplaceAll(man, "\n", " "), text) {
			t.Errorf("the manual page has no %q", text)
		}
	}
}

// TestPeerOptions: each option of another tool that hb knows of is answered with
// what hb's way is. Where that has an option of the same name, hb has it; what hb
// has is said to be so of one tool at least; what is named instead is there.
func TestPeerOptions(t *testing.T) {
	app := testGrammar().Model
	own := make(map[string]bool)
	for _, n := range append([]*kong.Node{app.Node}, app.Children...) {
		for _, f := range n.Flags {
			own[f.Name] = true
		}
	}
	named := make(map[string]bool) // that hb is said to have, or not to
	for _, p := range allPeers() {
		for _, name := range p.Names() {
			named[name] = named[name] || p.Answer == usage.Yes
			if p.Answer == usage.Yes && !own[name] {
				t.Errorf("hb has no --%s", name)
			}
		}
		for _, f := range regexp.MustCompile(`--[a-z-]*[a-z]`).FindAllString(p.Text+p.More, -1) {
			if !own[f[2:]] {
				t.Errorf("of %s: there is no %s", p.Options, f)
			}
		}
	}
	for name, yes := range named {
		if own[name] && !yes {
			t.Errorf("hb has --%s", name)
		}
	}
	for _, option := range []string{"--backup", "--prepare", "--stream=xbstream", "--target-dir=/x", "--use-memory=1G", "--copy-back", "--apply_log_only", "--incremental-basedir=x", "--innodb_page_size=4k"} {
		name, _, _ := strings.Cut(option, "=")
		i := slices.IndexFunc(allPeers(), func(p usage.Peer) bool { return p.Covers(strings.ReplaceAll(name[2:], "_", "-")) })
		if i < 0 {
			t.Errorf("%s is not known", option)
			continue
		}
		for _, command := range []string{"", "backup", "apply"} {
			args, more := []string{option}, "hb"
			if command != "" {
				args, more = []string{command, option}, "hb "+command
			}
			want := "hb: unknown flag " + name + ": " + strings.ReplaceAll(allPeers()[i].Text, "`", "") + " (" + more + " --help shows how)\n"
			if r := hbtest.Finish(t, hb(t, args...)); r.Code != exitUsage || r.Stderr != want || r.Stdout != "" {
				t.Errorf("%v: exit code %d, %q, want %q", args, r.Code, r.Stderr, want)
			}
		}
	}
}

// allPeers are the options of other tools.
func allPeers() (list []usage.Peer) {
	for _, g := range usage.Peers {
		list = append(list, g.Peers...)
	}
	return list
}

// printed finds the options that mariadb-backup --help prints, first with what they
// are for and then with their values.
var printed = regexp.MustCompile(`(?m)^(?:  )?(?:-[A-Za-z?], )?--([a-z][a-z0-9-]*)|^([a-z][a-z0-9-]+)  +\S`)

// TestPeerOptionsOfMariaDB: the table has every option that the real
// mariadb-backup prints, those too that it shares with the server, and no option
// of mariadb-backup that none of its releases knows.
func TestPeerOptionsOfMariaDB(t *testing.T) {
	known := make(map[string]bool)
	for _, server := range mysqldtest.MariaDB {
		root := mysqldtest.Need(t, server)
		out, err := root.Tool("mariadb-backup", "--no-defaults", "--help").CombinedOutput()
		if err != nil {
			t.Fatalf("mariadb-backup --help: %v\n%s", err, out)
		}
		_, list, _ := strings.Cut(string(out), "may be given as the first argument:\n")
		n := 0
		for _, m := range printed.FindAllStringSubmatch(list, -1) {
			name := m[1] + m[2]
			if known[name] {
				continue
			}
			known[name] = true
			n++
			if !slices.ContainsFunc(allPeers(), func(p usage.Peer) bool { return p.Of&usage.MariaDBBackup != 0 && p.Covers(name) }) {
				t.Errorf("%s: mariadb-backup has --%s, and no line of the table is for it", server, name)
			}
		}
		t.Logf("%s %s: %d options that were not met yet", server, root.Version, n)
	}
	for _, p := range allPeers() {
		for _, name := range p.Names() {
			if p.Of&usage.MariaDBBackup != 0 && !strings.HasSuffix(name, "*") && !known[name] && name != "innobackupex" { // which is not printed
				t.Errorf("no mariadb-backup has --%s", name)
			}
		}
	}
}

// TestMistakes: the messages about wrong command lines.
func TestMistakes(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"", "a command is missing: backup, check, extract, apply, verify, list, merge, help, completion, man, version (hb --help shows how)"},
		{"bakcup", "unknown command bakcup, did you mean backup? (hb --help shows how)"},
		{"restore", "unknown command restore: hb extract -C DIR ARCHIVE unpacks a backup, and hb apply DIR makes it ready for a server; hb extract --apply does both (hb --help shows how)"},
		{"prepare dir", "unknown command prepare: hb apply DIR makes an extracted backup ready for a server (hb --help shows how)"},
		{"ls x.hb", "unknown command ls: hb list ARCHIVE shows what an archive has (hb --help shows how)"},
		{"test x.hb", "unknown command test: hb verify checks an archive or a directory; hb check looks whether a backup would succeed (hb --help shows how)"},
		{"backup x.hb", "unexpected argument x.hb: hb backup writes to standard output: hb backup > x.hb (hb backup --help shows how)"},
		{"backup -o x.hb", "unknown flag -o: hb backup writes to standard output: hb backup > FILE (hb backup --help shows how)"},
		{"backup --output=x.hb", "unknown flag --output: hb backup writes to standard output: hb backup > FILE (hb backup --help shows how)"},
		{"backup --compress=lz4", `--compress has no value, but got "lz4": hb compresses with zstd; --compress-level N sets its level (hb backup --help shows how)`},
		{"backup --slave-info=x", `--slave-info has no value, but got "x" (hb backup --help shows how)`},
		{"verify -h x", "unknown flag -h of hb verify: it is one of hb backup, hb check, hb extract (hb verify --help shows how)"},
		{"frobnicate", "unknown command frobnicate (hb --help shows how)"},
		{"backup --compres", "unknown flag --compres, did you mean --compress? (hb backup --help shows how)"},
		{"backup --compres=5", "unknown flag --compres, did you mean --compress? (hb backup --help shows how)"},
		{"backup --compress_level=5", "unknown flag --compress_level, did you mean --compress-level? (hb backup --help shows how)"},
		{"backup --encrypt-to-fiel x", "unknown flag --encrypt-to-fiel, did you mean --encrypt-to-file? (hb backup --help shows how)"},
		{"backup --frobnicate", "unknown flag --frobnicate (hb backup --help shows how)"},
		{"backup --def", "unknown flag --def, did you mean --defaults-file or --defaults-extra-file or --defaults-group-suffix? (hb backup --help shows how)"},
		{"backup -x", "unknown flag -x (hb backup --help shows how)"},
		{"extract --compress", "unknown flag --compress of hb extract: it is one of hb backup, hb check, hb merge (hb extract --help shows how)"},
		{"backup --memory 1G", "unknown flag --memory of hb backup: it is one of hb extract, hb apply, hb verify (hb backup --help shows how)"},
		{"apply -C dir", "unknown flag -C of hb apply: it is one of hb extract (hb apply --help shows how)"},
		{"--compress backup", "unknown flag --compress before the command: it belongs after hb backup, hb check, hb merge (hb --help shows how)"},
		{"apply", "DIRECTORY is missing (hb apply --help shows how)"},
		{"list --jsn a", "unknown flag --jsn, did you mean --json? (hb list --help shows how)"},
		{"verify --json a", "unknown flag --json of hb verify: it is one of hb list; --log-format json makes JSON of the messages of every command (hb verify --help shows how)"},
		{"extract -C d a /none/shop", "the increment /none/shop: no such file or directory; to extract chosen files only, use --files shop"},
		{"verify a /none/b", "the increment /none/b: no such file or directory"},
		{"merge a", "name the increments to merge, in their order, after the base"},
		{"backup -q --frobnicate", "unknown flag --frobnicate (hb backup --help shows how)"},
		{"help restor", `there is no help on "restor", did you mean restore?`},
		{"man backpu", `there is no command "backpu", did you mean backup?`},
		{"help frobnicate", `there is no help on "frobnicate"`},
	} {
		r := hbtest.Finish(t, hb(t, strings.Fields(test.args)...))
		if r.Code != exitUsage || r.Stderr != "hb: "+test.want+"\n" || r.Stdout != "" {
			t.Errorf("hb %s: exit code %d, %q, want %q", test.args, r.Code, r.Stderr, test.want)
		}
	}
}

// TestMistakesElsewhere: help is not said to show what is wrong in a file or a variable.
func TestMistakesElsewhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "my.cnf")
	if err := os.WriteFile(file, []byte("[hb]\nparallel=0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ variable, args, want string }{
		{"HB_X=", "backup --defaults-file=" + file, "--parallel: " + file + ":2 [hb]: \"0\" is not a number of 1 or more"},
		{"HB_X=", "backup --defaults-file=" + file + ".no", "option file: stat " + file + ".no: no such file or directory"},
		{"HB_PARALLEL=0", "backup --no-defaults", "--parallel: HB_PARALLEL: \"0\" is not a number of 1 or more"},
		{"HB_NO_DEFAULTS=maybe", "backup", "HB_NO_DEFAULTS: \"maybe\" is neither on nor off"},
	} {
		cmd := hb(t, strings.Fields(test.args)...)
		cmd.Env = append(cmd.Env, test.variable)
		if r := hbtest.Finish(t, cmd); r.Code != exitUsage || r.Stderr != "hb: "+test.want+"\n" {
			t.Errorf("%s hb %s: exit code %d, %q, want %q", test.variable, test.args, r.Code, r.Stderr, test.want)
		}
	}
}

// TestTopicWords: topics are found by other words, too, each of which leads to a topic.
func TestTopicWords(t *testing.T) {
	for word, want := range map[string]string{"json": "Messages as JSON", "monitoring": "Messages as JSON", "encryption": "Compression and encryption", "errors": "What exit codes mean", "prepare": "From an archive", "gtid": "From an archive", "streaming": "Compression and encryption"} {
		if got := hbtest.Succeed(t, hb(t, "help", word)).Stdout; !strings.HasPrefix(got, want) {
			t.Errorf("hb help %s: %.60q", word, got)
		}
	}
}

// TestShortHelp: -h is the host where it has one, and help where it has none.
func TestShortHelp(t *testing.T) {
	for args, want := range map[string]string{"-h": "Usage: hb COMMAND", "extract -h": "Usage: hb extract", "backup -h": "Usage: hb backup", "backup -u x -h": "Usage: hb backup", "-h backup": "Usage: hb"} {
		if r := hbtest.Finish(t, hb(t, strings.Fields(args)...)); r.Code != 0 || !strings.HasPrefix(r.Stdout, want) {
			t.Errorf("hb %s: exit code %d, %q, %q", args, r.Code, r.Stdout[:min(len(r.Stdout), 80)], r.Stderr)
		}
	}
	r := hbtest.Finish(t, hb(t, "backup", "--no-defaults", "-h", "localhost", "--print-defaults"))
	if !strings.Contains(r.Stdout, "host=localhost") {
		t.Errorf("-h with a host: %+v", r)
	}
}

// TestTellsWithoutSettings: commands about hb itself work even if an option file is
// wrong, and notices a reader that goes away.
func TestTellsWithoutSettings(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.cnf")
	if err := os.WriteFile(bad, []byte("[hb]\nnonsense\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"help"}, {"help", "locks"}, {"man"}, {"completion", "zsh"}, {"version"}, {"version", "--print-defaults"}, {"backup", "--help"}} {
		cmd := hb(t, append(slices.Clone(args), "--defaults-file="+bad)...)
		if r := hbtest.Finish(t, cmd); r.Code != 0 || r.Stdout == "" || r.Stderr != "" {
			t.Errorf("%v: exit code %d, %q", args, r.Code, r.Stderr)
		}
	}
	for _, args := range [][]string{{"help"}, {"man"}, {"completion", "bash"}, {"version"}, {"--help"}, {"--version"}, {"backup", "--print-defaults", "--no-defaults", "-ux"}} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		cmd := hb(t, args...)
		cmd.Stdout = w
		if got := hbtest.Finish(t, cmd); got.Code != 9 || got.Stderr != "" {
			t.Errorf("%v without a reader: exit code %d, %q", args, got.Code, got.Stderr)
		}
		w.Close()
	}
	want := regexp.MustCompile(`^hb \S+\ncommit: .*\nbuilt with: go1\.\S+ for linux/\S+\nservers: MySQL .* MariaDB .*\n` +
		`redo logs: MySQL up to format 6 .*, MariaDB .*\narchives: xbstream .*zstd, age\n$`)
	if got := hbtest.Succeed(t, hb(t, "version")).Stdout; !want.MatchString(got) {
		t.Errorf("hb version says %q", got)
	}
}

// TestManualPages: man and mandoc have nothing to say against the pages, and what
// they show has all options and commands.
func TestManualPages(t *testing.T) {
	man, mandoc := mysqldtest.Program(t, "man"), mysqldtest.Program(t, "mandoc")
	mysqldtest.Program(t, "groff")
	app := testGrammar().Model
	for _, name := range append([]string{""}, names(app)...) {
		args := []string{"man"}
		if name != "" {
			args = append(args, name)
		}
		// A test binary has no commit that could have a date.
		page := strings.Replace(hbtest.Succeed(t, hb(t, args...)).Stdout, `"1" "" `, `"1" "2026-01-02" `, 1)
		file := filepath.Join(t.TempDir(), "page.1")
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(mandoc, "-T", "lint", "-W", "style", file).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("hb man %s: mandoc: %v\n%s", name, err, out)
		}
		cmd := exec.Command(man, "--warnings=w", "-l", file)
		cmd.Env = append(os.Environ(), "MANWIDTH=80", "LC_ALL=C.UTF-8", "MANPAGER=cat")
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil || errs.Len() > 0 {
			t.Errorf("hb man %s: man: %v\n%s", name, err, errs.String())
		}
		shownOptions(t, app, name, out.String())
	}
}

// shownOptions makes sure that a page, as it is shown, has the options of a
// command, or of all.
func shownOptions(t *testing.T, app *kong.Application, name, shown string) {
	t.Helper()
	if !regexp.MustCompile(`(?m)^ +hb(-` + name + `)? - \w`).MatchString(shown) {
		t.Errorf("hb man %s has no name:\n%.500s", name, shown)
	}
	n := 0
	for _, c := range append([]*kong.Node{app.Node}, app.Children...) {
		if name != "" && c != app.Node && c.Name != name {
			continue
		}
		for _, f := range c.Flags {
			n++
			if !regexp.MustCompile(`(?m)^ {7}(-., )?--` + f.Name + `(=\S+)?( |$)`).MatchString(shown) {
				t.Errorf("hb man %s does not show --%s", name, f.Name)
			}
		}
	}
	for line := range strings.Lines(shown) {
		if len(strings.TrimRight(line, "\n")) > 80 {
			t.Errorf("hb man %s: %q", name, line)
		}
	}
	t.Logf("hb man %s: %d options", name, n)
}
