package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hb/scripts/torture.d/damage"
	"hb/scripts/torture.d/load/kinds"
	"hb/scripts/torture.d/mutant"
	"hb/source/mysqld/mysqldtest"
)

// TestDraw: a seed and a round are one plan, an aim changes nothing else of it,
// and all that can be drawn is drawn by some.
func TestDraw(t *testing.T) {
	seen := map[string]bool{}
	for n := range 2000 {
		p := draw(1, n, nil)
		if again := draw(1, n, nil); !reflect.DeepEqual(p, again) {
			t.Fatalf("round %d: %v, then %v", n, p, again)
		}
		for _, s := range slices.Concat([]string{p.server, p.fault, p.disturb, p.connect, p.pipe, p.last, p.when}, p.loads, p.ways, p.damage[:]) {
			seen[s] = true
		}
		for _, s := range p.settings {
			if s != nil {
				seen[s.name] = true
			}
		}
		aimed := draw(1, n, aim{{"fault", "file cut"}, {"pipe", "slow"}})
		if aimed.fault != "file cut" || aimed.pipe != "slow" {
			t.Fatalf("round %d ignores the aim: %v", n, aimed)
		}
		// What does not fit the fault may be left out of the settings.
		aimed.fault, aimed.pipe, aimed.settings, aimed.damage, aimed.aim = p.fault, p.pipe, p.settings, p.damage, nil
		for _, of := range []*plan{p, aimed} { // which goes with one of the settings
			of.loads = slices.DeleteFunc(of.loads, func(l string) bool { return l == "encryptions" })
		}
		if !reflect.DeepEqual(p, aimed) {
			t.Fatalf("round %d: the aim changed more than it says: %v, and %v", n, p, aimed)
		}
	}
	for _, name := range all() {
		if !seen[name] {
			t.Errorf("%q is never drawn", name)
		}
	}
}

// all are the names of all that a plan can have.
func all() []string {
	want := slices.Concat(servers, []string{"socket", "tcp", "tls", "fast", "slow", "stalls"}, disturbances, lastThings, whens)
	for _, f := range faults {
		want = append(want, f.name)
	}
	for _, d := range slices.Concat(damage.Recovered, damage.Foreign) {
		want = append(want, d.Name)
	}
	for _, k := range kinds.All {
		want = append(want, k.Name)
	}
	for _, w := range ways {
		want = append(want, w.name)
	}
	for _, g := range settingGroups {
		for _, s := range g.of {
			want = append(want, s.name)
		}
	}
	return want
}

func TestParseChoice(t *testing.T) {
	if c, err := parseChoice("setting=page 4k"); err != nil || c != (choice{"setting", "page 4k"}) {
		t.Errorf("%v, %v", c, err)
	}
	for _, s := range []string{"", "server", "unknown=1"} {
		if c, err := parseChoice(s); err == nil {
			t.Errorf("%q is %v", s, c)
		}
	}
}

func TestLadder(t *testing.T) {
	for _, c := range []struct {
		share float64
		want  int
	}{{0, 1}, {0.5, 31}, {0.999999, 999}} {
		if n := ladder(c.share, 1000); n != c.want {
			t.Errorf("%v: %d, want %d", c.share, n, c.want)
		}
	}
}

// TestMutants: every mutant's rule is where the list says, and the list is long
// enough, with names of its own and aims that can be drawn.
func TestMutants(t *testing.T) {
	known := map[string]bool{}
	for _, name := range all() {
		known[name] = true
	}
	names := map[string]bool{}
	for i := range mutant.List {
		m := &mutant.List[i]
		if names[m.Name] {
			t.Errorf("two mutants are called %q", m.Name)
		}
		names[m.Name] = true
		text, err := m.Replaced("../..")
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.File, text, parser.SkipObjectResolution); err != nil {
			t.Errorf("mutant %q is no Go: %v", m.Name, err)
		}
		if test := m.Test(); test != (mutant.GoTest{}) {
			if !has(t, test) {
				t.Errorf("mutant %q: there is no %v", m.Name, test)
			}
			continue
		}
		if n := len(strings.Split(m.Guard, ", ")); len(aimOf(m)) != n {
			t.Errorf("mutant %q: aims %q are %d, not %d", m.Name, m.Guard, len(aimOf(m)), n)
		}
		for _, c := range aimOf(m) {
			if c.name != "option" && !known[c.value] {
				t.Errorf("mutant %q: there is no %s %q", m.Name, c.name, c.value)
			}
		}
	}
	if len(names) < 40 {
		t.Errorf("%d mutants", len(names))
	}
}

// has reports whether a package has a test.
func has(t *testing.T, test mutant.GoTest) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../..", test.Pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(name string) bool {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(text), "\nfunc "+test.Name+"(t *testing.T) {")
	})
}

// TestMutantByTest: a test guards a rule if it passes, and fails without the rule. One
// that does not run, or fails in any case, guards nothing.
func TestMutantByTest(t *testing.T) {
	root := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("go.mod", "module m\n")
	write("p/rule.go", "package p\n\nfunc rule() int { return 1 }\n")
	write("p/rule_test.go", `package p

import "testing"

func TestRule(t *testing.T) {
	if rule() != 1 {
		t.Errorf("the rule is %d", rule())
	}
}

func TestIdle(t *testing.T) {}

func TestSkips(t *testing.T) { t.Skip("never") }

func TestFails(t *testing.T) { t.Error("always") }
`)
	const broken, unsound = "package p\n\nfunc rule() int { return 2 }\n", "package p\n\nfunc rule() string { return 2 }\n"
	for _, c := range []struct{ test, mutant, by, err string }{
		{"TestRule", broken, "TestRule: rule_test.go:7: the rule is 2", ""},
		{"TestRule", unsound, "", "did not run"},
		{"TestIdle", broken, "", ""},
		{"TestSkips", broken, "", "did not run"},
		{"TestFails", broken, "", "fails without a mutant"},
		{"TestNone", broken, "", "did not run"},
		{"TestRul", broken, "", "did not run"},
	} {
		tt := &torture{root: root, dir: t.TempDir()}
		by, err := tt.huntByTest(t.Context(), mutant.GoTest{Pkg: "./p", Name: c.test}, map[string]string{"p/rule.go": write("mutant.txt", c.mutant)})
		if by != c.by || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: found by %q, %v; want %q, %q", c.test, by, err, c.by, c.err)
		}
	}
}

// TestMutantsCompile builds the package of each mutant, in the long form: a rule
// that is broken so that it does not compile proves nothing.
func TestMutantsCompile(t *testing.T) {
	if !mysqldtest.Long() {
		return
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for i := range mutant.List {
		m := &mutant.List[i]
		text, err := m.Replaced(root)
		if err != nil {
			continue // TestMutants says so
		}
		file := filepath.Join(dir, "mutant.go")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := goBuild(t.Context(), root, filepath.Join(dir, "out"), "./"+filepath.Dir(m.File), map[string]string{m.File: file}); err != nil {
			t.Errorf("mutant %q: %v", m.Name, err)
		}
	}
}
