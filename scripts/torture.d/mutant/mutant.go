// Package mutant has the rules of hb, each broken: what the adversary must find. In goes
// the source of hb, out comes a file of it with one rule broken.
package mutant

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Mutant is hb with one rule broken: proof that the torture would find that.
// One that nothing finds is a missing oracle, load or fault.
type Mutant struct {
	Name string
	// file, below the top of the source, has old exactly once; the mutant has by in
	// its place.
	File, Old, By string
	Breaks        string // what it breaks, in a few words
	// Guard is what shows it: the plans that are most likely to, as --aim has them, or
	// "test=PACKAGE NAME", a Go test. A test guards rules that rounds show too rarely.
	Guard string
}

// GoTest is a test of hb's own: its package, as go test has it, and its name.
type GoTest struct{ Pkg, Name string }

func (g GoTest) String() string { return "go test " + g.Pkg + " -run " + g.Name }

// Test is the Go test that guards the rule, zero if rounds do.
func (m *Mutant) Test() GoTest {
	guard, is := strings.CutPrefix(m.Guard, "test=")
	pkg, name, ok := strings.Cut(guard, " ")
	if !is || !ok {
		return GoTest{}
	}
	return GoTest{pkg, name}
}

// Replaced returns the file with the rule broken.
func (m *Mutant) Replaced(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, m.File))
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), m.Old); n != 1 {
		return "", fmt.Errorf("mutant %q: %s has its text %d times, not once: follow what became of the rule", m.Name, m.File, n)
	}
	if m.Old == m.By {
		return "", fmt.Errorf("mutant %q changes nothing", m.Name)
	}
	return strings.Replace(string(text), m.Old, m.By, 1), nil
}
