package testd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hb/scripts/test.d/hbtest"
	"hb/source/mysqld/mysqldtest"
)

// A completion is a line and what the word at its end can become.
type completion struct {
	line string
	want []string
}

// left is what stands at the end of the line when all completions were asked for:
// what was typed, if there are none.
func (c completion) left() []string {
	if len(c.want) == 0 {
		return []string{c.line[strings.LastIndexByte(c.line, ' ')+1:]}
	}
	return c.want
}

// completions are what all three shells must do.
var completions = []completion{
	{"hb ", []string{"apply", "backup", "check", "completion", "extract", "help", "list", "man", "merge", "verify", "version"}},
	{"hb ver", []string{"verify", "version"}},
	{"hb ba", []string{"backup"}},
	{"hb --q", []string{"--quiet"}},
	{"hb --quiet ba", []string{"backup"}},
	{"hb --log-format json ba", []string{"backup"}},
	{"hb --log-format ", []string{"json", "text"}},
	{"hb --log-format=", []string{"json", "text"}},
	{"hb list --log-format=j", []string{"json"}},
	{"hb backup --comp", []string{"--compress", "--compress-level"}},
	{"hb backup --defaults-e", []string{"--defaults-extra-file"}},
	{"hb extract --comp", nil},
	{"hb backup --ssl-mode V", []string{"VERIFY_CA", "VERIFY_IDENTITY"}},
	{"hb backup --protocol t", []string{"tcp"}},
	{"hb backup --kill-long-query-type ", []string{"all", "select", "update"}},
	{"hb backup -S a", []string{"archive.hb"}},
	{"hb backup --tmpdir=d", []string{"dir"}},
	{"hb extract -C ", []string{"dir"}},
	{"hb extract -C dir a", []string{"archive.hb"}},
	{"hb list ", []string{"archive.hb", "dir", "my file"}},
	{"hb verify --parallel 3 m", []string{"my file"}},
	{"hb apply ", []string{"dir"}},
	{"hb help r", []string{"restore"}},
	{"hb help b", []string{"backup"}},
	{"hb man li", []string{"list"}},
	{"hb completion ", []string{"bash", "fish", "zsh"}},
}

// completionDir has the script of a shell and, in "here", files to complete.
func completionDir(t *testing.T, shell, script string) (dir, here string) {
	t.Helper()
	dir = t.TempDir()
	here = filepath.Join(dir, "here")
	if err := os.MkdirAll(filepath.Join(here, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		filepath.Join(dir, script):        hbtest.Succeed(t, hb(t, "completion", shell)).Stdout,
		filepath.Join(here, "archive.hb"): "",
		filepath.Join(here, "my file"):    "",
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, here
}

// words are completions without what shells add to them: quotes, the slash of
// directories, the option before the equals sign, and the sign itself.
func words(list []string) []string {
	out := []string{}
	for _, w := range list {
		w = strings.TrimRight(strings.ReplaceAll(w, `\ `, " "), "/=")
		if option, value, ok := strings.Cut(w, "="); ok && strings.HasPrefix(option, "--") {
			w = value
		}
		if w != "" {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return out
}

// TestCompletionFish asks fish itself what a line can become.
func TestCompletionFish(t *testing.T) {
	program := mysqldtest.Program(t, "fish")
	dir, here := completionDir(t, "fish", "hb.fish")
	for _, c := range completions {
		cmd := exec.Command(program, "--no-config", "-c", "source $argv[1]; complete -C $argv[2]", filepath.Join(dir, "hb.fish"), c.line)
		cmd.Dir = here
		cmd.Env = append(os.Environ(), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var got []string
		for line := range strings.Lines(string(out)) {
			word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			got = append(got, word)
		}
		if got := words(got); !slices.Equal(got, c.want) {
			t.Errorf("%q becomes %q, want %q", c.line, got, c.want)
		}
	}
}

// TestCompletionBash types lines into bash, whose C-t then puts all completions
// there.
func TestCompletionBash(t *testing.T) {
	program := mysqldtest.Program(t, "bash")
	_, here := completionDir(t, "bash", "hb.bash")
	w := newWindow(t, 250, "cd '"+here+"' && "+program+" --norc --noprofile -i")
	const setup = `PS1='> '; source ../hb.bash; bind '"\C-t": insert-completions'; clear`
	w.complete(setup, completions)
	// For some users the equals sign does not part words.
	w.complete("COMP_WORDBREAKS=${COMP_WORDBREAKS//=}; clear", []completion{
		{"hb --log-format=", []string{"json", "text"}},
		{"hb list --log-format=j", []string{"json"}},
		{"hb backup --tmpdir=d", []string{"dir"}},
		{"hb backup --socket=m", []string{"my file"}},
		{"hb --log-format=json ba", []string{"backup"}},
		{"hb backup --tmpdir=dir --comp", []string{"--compress", "--compress-level"}},
	})
}

// TestCompletionZsh does so with zsh, which finds the script in its fpath.
func TestCompletionZsh(t *testing.T) {
	program := mysqldtest.Program(t, "zsh")
	dir, here := completionDir(t, "zsh", "_hb")
	w := newWindow(t, 250, "cd '"+here+"' && "+program+" -f -i")
	w.complete(`PS1='> '; fpath=('`+dir+`' $fpath); autoload -Uz compinit; compinit -u -D; zstyle ':completion:*' insert true; `+
		`zle -C all complete-word _generic; bindkey '^T' all; zstyle ':completion:all:*' completer _all_matches _complete; clear`, completions)
}

// typed types a text.
func (w *window) typed(text string) {
	w.t.Helper()
	w.run("send-keys", "-l", "--", text)
}

// complete sets a shell up, and types one line with the key that all users know,
// and then lines and C-t.
func (w *window) complete(setup string, list []completion) {
	w.t.Helper()
	w.typed(setup)
	w.run("send-keys", "Enter")
	w.shows(">")
	w.typed("hb ba")
	w.run("send-keys", "Tab")
	w.typed("--compress-")
	w.run("send-keys", "Tab", "3")
	w.shows("> hb backup --compress-level[ =]3")
	w.run("send-keys", "C-u", "C-l")
	w.shows(">")
	for _, c := range list {
		w.typed(c.line)
		w.shows(regexp.QuoteMeta(strings.TrimRight("> "+c.line, " ")))
		// The last key is a mark that the one before was seen to.
		w.run("send-keys", "C-t", "#")
		// What was typed of the last word stands in each completion again.
		before := c.line[:strings.LastIndexAny(c.line, " =")+1]
		var got []string
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			lines := w.lines()
			if len(lines) != 1 || !strings.HasSuffix(lines[0], "#") {
				continue
			}
			rest := strings.TrimPrefix(strings.TrimSuffix(lines[0], "#"), "> "+before)
			if got = words(regexp.MustCompile(`(?:\\.|\S)+`).FindAllString(rest, -1)); slices.Equal(got, c.left()) {
				break
			}
		}
		if !slices.Equal(got, c.left()) {
			w.t.Errorf("%q becomes %q, want %q", c.line, got, c.left())
		}
		w.run("send-keys", "C-u", "C-l")
		w.shows(">")
	}
}
