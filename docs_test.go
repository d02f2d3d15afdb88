package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"hb/source/mysqld/login"
	"hb/source/settings"
	"hb/stream/terminal/usage"
)

// update has TestGenerated write what it finds out of date.
var update = flag.Bool("update", false, "write the generated pages in docs")

// TestGenerated: the pages in docs that are made from the grammar, and from what
// package usage says of other tools' options, are up to date.
func TestGenerated(t *testing.T) {
	app := testGrammar().Model
	for file, make := range map[string]func(now []byte) (string, error){
		"docs/reference.md":           func([]byte) (string, error) { return usage.Reference(app, settings.PlacesOf), nil },
		"docs/from-xtrabackup.md":     func(now []byte) (string, error) { return withOptions(now, usage.XtraBackup) },
		"docs/from-mariadb-backup.md": func(now []byte) (string, error) { return withOptions(now, usage.MariaDBBackup) },
	} {
		now, err := os.ReadFile(file)
		if err != nil && !*update {
			t.Fatal(err)
		}
		text, err := make(now)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(now, []byte(text)) {
			continue
		}
		if !*update {
			t.Errorf("%s is out of date: run go generate, and look at what changed", file)
			continue
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: written", file)
	}
}

// withOptions is a page with the tables of a tool's options where they belong.
func withOptions(page []byte, tool usage.Tool) (string, error) {
	const begin, end = "<!-- options: made by go generate -->\n", "\n<!-- end of options -->\n"
	head, rest, found := strings.Cut(string(page), begin)
	_, tail, ended := strings.Cut("\n"+rest, end)
	if !found || !ended {
		return "", errors.New("there is no place for the options")
	}
	return head + begin + usage.PeerTables(tool) + end + tail, nil
}

// readPages reads README.md and what is in docs, by name.
func readPages(t *testing.T) map[string]string {
	t.Helper()
	pages := make(map[string]string)
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/*/*.md"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			pages[name] = string(text)
		}
	}
	return pages
}

// TestPages: command lines of hb in README.md and in docs can be parsed.
func TestPages(t *testing.T) {
	n := 0
	for name, text := range readPages(t) {
		if strings.Count(name, "/") > 1 {
			continue // recipes are run
		}
		for _, line := range codeLines(text) {
			n += parseLine(t, line)
		}
	}
	if n < 60 {
		t.Errorf("%d commands", n)
	}
	t.Logf("%d commands", n)
}

// What leads somewhere in a page, and what can be led to.
var (
	pageLink = regexp.MustCompile(`\]\(([^)\s#]*)(?:#([^)\s]*))?\)`)
	pageHead = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// TestLinks: what pages refer to is there, headings too, and docs/README.md has all
// pages of docs.
func TestLinks(t *testing.T) {
	pages := readPages(t)
	n := 0
	for name, text := range pages {
		for _, m := range pageLink.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			n++
			target := name
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(name), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if m[2] != "" && !slices.Contains(anchors(pages[target]), m[2]) {
				t.Errorf("%s: %s has no heading %q", name, target, m[2])
			}
		}
		if dir, base := filepath.Split(name); dir == "docs/" && base != "README.md" && !strings.Contains(pages["docs/README.md"], "]("+base+")") {
			t.Errorf("docs/README.md does not have %s", base)
		}
	}
	if n < 60 {
		t.Errorf("%d links", n)
	}
}

// anchors are what links to a page's headings end in.
func anchors(page string) (list []string) {
	for _, m := range pageHead.FindAllStringSubmatch(page, -1) {
		text := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-")
		list = append(list, regexp.MustCompile(`[^a-z0-9_-]`).ReplaceAllString(text, ""))
	}
	return list
}

// codeLines are the lines of a page that Markdown shows as they are.
func codeLines(page string) (lines []string) {
	fenced := false
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		text, indented := strings.CutPrefix(line, "    ")
		switch {
		case strings.HasPrefix(line, "```"):
			fenced = !fenced
		case fenced:
			lines = append(lines, line)
		case indented:
			lines = append(lines, text)
		}
	}
	return lines
}

// TestPlaces: each option can be set where the reference says, and nowhere else.
func TestPlaces(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range testGrammar().Model.Children {
		for _, f := range append(slices.Clone(c.Flags), testGrammar().Model.Flags...) {
			if usage.Tells(c) || slices.Contains([]string{"help", "version"}, f.Name) {
				continue
			}
			n++
			setPlaces(t, c, f, empty)
		}
	}
	if n < 100 {
		t.Errorf("%d options", n)
	}
}

// setPlaces sets an option of a command wherever it can be.
func setPlaces(t *testing.T, c *kong.Node, f *kong.Flag, empty string) {
	t.Helper()
	variables, key := settings.PlacesOf(f.Name)
	own := settings.Variable(f.Name)
	value := sample(f, empty)
	set, err := isSet(t, c, f.Name, map[string]string{own: value}, "")
	// The variables that mysqld reads belong to no flag.
	if want := slices.Contains(variables, own) && f.Name != "password"; err != nil || set != want {
		t.Errorf("hb %s with %s=%s: set %v, want %v, %v", c.Name, own, value, set, want, err)
	}
	set, err = isSet(t, c, f.Name, nil, "[hb]\n"+f.Name+"="+value+"\n")
	switch {
	case key == "":
		if err == nil || !strings.Contains(err.Error(), "belongs on the command line") {
			t.Errorf("hb %s with %s in [hb]: %v", c.Name, f.Name, err)
		}
	case err != nil:
		t.Errorf("hb %s with %s=%s in [hb]: %v", c.Name, key, value, err)
	case set == slices.Contains(login.FileOptions, strings.TrimPrefix(key, "skip-")):
		t.Errorf("hb %s with %s=%s in [hb]: set %v", c.Name, key, value, set)
	}
}

// sample is a value for an option that is not its default.
func sample(f *kong.Flag, file string) string {
	for _, word := range f.EnumSlice() {
		if f.Enum != "" && word != "" && word != f.Default {
			return word
		}
	}
	switch {
	case f.Tag.Type == "path":
		return file
	case f.Tag.PlaceHolder == "TYPE":
		return "update"
	case f.IsBool():
		return "1"
	}
	return "7"
}

// isSet reports whether a command's option is another than its default, with this
// environment and this option file.
func isSet(t *testing.T, c *kong.Node, name string, environment map[string]string, file string) (bool, error) {
	parse := func(environment map[string]string, args []string) (any, error) {
		env := login.Env{Getenv: func(v string) string { return environment[v] }, System: []string{}}
		ctx, err := grammar(new(cli), settings.New(env), io.Discard).Parse(args)
		if err != nil {
			return nil, err
		}
		for _, f := range ctx.Flags() {
			if f.Name == name {
				return f.Target.Interface(), nil
			}
		}
		return nil, os.ErrNotExist
	}
	args := []string{c.Name}
	if len(c.Positional) > 0 {
		args = append(args, "x")
	}
	without, err := parse(nil, args)
	if err != nil {
		t.Fatal(err)
	}
	if file != "" {
		path := filepath.Join(t.TempDir(), "my.cnf")
		if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--defaults-file="+path)
	}
	with, err := parse(environment, args)
	return !reflect.DeepEqual(with, without), err
}
