// Package recipes holds recipes for daily use, as Markdown, and runs them: what
// a recipe says is what its test did.
//
// A fenced block of the kind sh is a command that the reader types. The tests
// execute all of them literally, in order. A block of another kind after a line
// that ends in a path in backquotes and a colon, such as "`/etc/cron.d/hb`:", is
// that file, and is written there when the reader comes to it. What is left only
// shows something.
//
// Each page has a function that runs it, registered under the page's name, in
// the file beside it.
package recipes

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/stream/leaktest"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(asSystemctl); socket != "" {
		os.Exit(askSystemctl(socket, os.Args[1:]))
	}
	dir, err := os.MkdirTemp("", "hb-recipes-")
	if err == nil {
		hb, err = buildHB(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := leaktest.Run(m)
	os.RemoveAll(dir)
	os.Exit(code)
}

// test runs a page with a server.
type test struct {
	run     func(t *testing.T, r *recipe, root *mysqldtest.Root)
	servers []string
}

var tests = map[string]test{}

// register says how a page of this directory is run, once for each server. It is
// for func init.
func register(page string, run func(t *testing.T, r *recipe, root *mysqldtest.Root), servers ...string) {
	tests[page] = test{run, servers}
}

// index is the page that lists the others.
const index = "README.md"

// TestRecipes runs every page.
func TestRecipes(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) < 2 {
		t.Fatalf("pages: %v, %v", pages, err)
	}
	for page := range tests {
		if !slices.Contains(pages, page) {
			t.Errorf("%s is tested, and not there", page)
		}
	}
	t.Cleanup(func() { checkLeft(t) })
	list, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if page == index {
			continue
		}
		if !bytes.Contains(list, []byte("]("+page+")")) {
			t.Errorf("%s does not list %s", index, page)
		}
		if len(tests[page].servers) == 0 {
			t.Errorf("nothing runs %s", page)
		}
		for _, server := range tests[page].servers {
			t.Run(page+"/"+server, func(t *testing.T) {
				t.Parallel()
				r := read(t, page)
				tests[page].run(t, r, mysqldtest.Need(t, server))
				if !t.Failed() {
					r.complete()
					noteRun(r)
				}
			})
		}
	}
}

// recipe is a page, and how far its reader has come.
type recipe struct {
	t      *testing.T
	page   string
	blocks []block
	done   int      // blocks that were used
	left   []string // sections that another run does
}

// block is a fenced block.
type block struct {
	section string // the heading above it
	kind    string // the word after the fence
	file    string // which file the text says it is
	text    string
	line    int
}

var (
	fenceLine   = regexp.MustCompile("^```+([a-z]*)$")
	headingLine = regexp.MustCompile(`^#+ (.*)$`)
	fileLine    = regexp.MustCompile("`([^` ]+)`[^`]*:$")
)

// read reads a page.
func read(t *testing.T, page string) *recipe {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	r := &recipe{t: t, page: page}
	var section, before string
	var open *block
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSuffix(line, "\n")
		fence := fenceLine.FindStringSubmatch(line)
		switch {
		case open != nil && fence == nil:
			open.text += line + "\n"
		case open != nil:
			r.blocks = append(r.blocks, *open)
			open = nil
		case fence != nil:
			open = &block{section: section, kind: fence[1], line: n}
			if m := fileLine.FindStringSubmatch(before); m != nil && open.kind != "sh" {
				open.file = m[1]
			}
		case headingLine.MatchString(line):
			section, before = headingLine.FindStringSubmatch(line)[1], ""
		case line != "":
			before = line
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block does not end", page, open.line)
	}
	return r
}

// take returns the blocks under a heading. Sections are taken in the page's
// order; none with anything in it may be left out.
func (r *recipe) take(section string) []block {
	r.t.Helper()
	first := slices.IndexFunc(r.blocks, func(b block) bool { return b.section == section })
	if first < 0 {
		r.t.Fatalf("%s has no blocks under %q", r.page, section)
	}
	if first != r.done {
		r.t.Fatalf("%s: %q is not what comes next, but %q", r.page, section, r.next())
	}
	for r.done < len(r.blocks) && r.blocks[r.done].section == section {
		r.done++
	}
	return r.blocks[first:r.done]
}

// next is the heading of what comes next.
func (r *recipe) next() string {
	if r.done == len(r.blocks) {
		return ""
	}
	return r.blocks[r.done].section
}

// complete fails the test if a command or file was left out.
func (r *recipe) complete() {
	for _, b := range r.blocks[r.done:] {
		if b.kind == "sh" || b.file != "" {
			r.t.Errorf("%s:%d: this block was not run", r.page, b.line)
		}
	}
}

// script is what a reader does with a block, for a shell: types it, or writes
// the file. It is empty if there is nothing to do.
func (b block) script() string {
	switch {
	case b.kind == "sh":
		return b.text
	case b.file != "":
		const end = "end-of-the-block"
		return fmt.Sprintf("mkdir -p \"$(dirname %s)\"\ncat >%s <<'%s'\n%s%s\n", b.file, b.file, end, b.text, end)
	}
	return ""
}

// run does all that stands under a heading, in a shell, and returns what that
// printed. A command that fails ends the test.
func (r *recipe) run(s *shell, section string) (printed string) {
	r.t.Helper()
	return r.start(s, section)()
}

// start does what stands under a heading, beside what the test does next. The
// function that it returns waits for the end; it must be called.
func (r *recipe) start(s *shell, section string) (wait func() (printed string)) {
	r.t.Helper()
	type outcome struct {
		printed string
		err     error
	}
	ended := make(chan outcome, 1)
	blocks := r.take(section)
	go func() {
		printed, err := r.do(s, blocks)
		ended <- outcome{printed, err}
	}()
	return func() string {
		r.t.Helper()
		o := <-ended
		if o.err != nil {
			r.t.Fatal(o.err)
		}
		return o.printed
	}
}

func (r *recipe) do(s *shell, blocks []block) (printed string, err error) {
	for _, b := range blocks {
		if b.script() == "" {
			continue
		}
		code, out := s.try(b.script())
		if code != 0 {
			return "", fmt.Errorf("%s:%d: on %s this ends with exit code %d:\n%s\n%s", r.page, b.line, s.host.name, code, b.text, out)
		}
		printed += out
	}
	return printed, nil
}

// runAll does all that is left of the page, in one shell.
func (r *recipe) runAll(s *shell) {
	r.t.Helper()
	for r.done < len(r.blocks) {
		r.run(s, r.next())
	}
}
