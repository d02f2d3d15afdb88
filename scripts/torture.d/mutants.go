package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hb/scripts/torture.d/mutant"
)

// A mutant is looked for until it has had so many rounds and, unless told otherwise,
// so much time.
const (
	mutantRounds = 5
	mutantLimit  = 4 * time.Minute
)

// aimOf is what a mutant's plans have.
func aimOf(m *mutant.Mutant) (out aim) {
	for _, a := range strings.Split(m.Guard, ", ") {
		if c, err := parseChoice(a); err == nil {
			out = append(out, c)
		}
	}
	return out
}

// caught is what became of one mutant.
type caught struct {
	*mutant.Mutant
	rounds int // 0: a test looked for it
	took   time.Duration
	by     string // what found it; "": nothing did
}

// mutants breaks one rule after the other, and runs rounds until that is found.
func (t *torture) mutants(ctx context.Context, names []string, limit time.Duration) error {
	say("seed %d", t.seed)
	var results []caught
	var errs []error
	for _, m := range chosen(names) {
		c, err := t.hunt(ctx, m, limit)
		if ctx.Err() != nil {
			return errors.Join(report(results), context.Cause(ctx))
		}
		if err != nil {
			say("== %s: %v", m.Name, err)
			errs = append(errs, err)
			continue
		}
		results = append(results, c)
		say("== %s", c)
	}
	return errors.Join(append(errs, report(results))...)
}

// chosen are the mutants of these names, in that order, or all.
func chosen(names []string) (out []*mutant.Mutant) {
	for i := range mutant.List {
		out = append(out, &mutant.List[i])
	}
	if len(names) == 0 {
		return out
	}
	out = slices.DeleteFunc(out, func(m *mutant.Mutant) bool { return !slices.Contains(names, m.Name) })
	slices.SortFunc(out, func(a, b *mutant.Mutant) int { return slices.Index(names, a.Name) - slices.Index(names, b.Name) })
	return out
}

// hunt runs rounds with a broken hb, or the test that guards the rule.
func (t *torture) hunt(ctx context.Context, m *mutant.Mutant, limit time.Duration) (caught, error) {
	c := caught{Mutant: m}
	text, err := m.Replaced(t.root)
	if err != nil {
		return c, err
	}
	file := filepath.Join(t.dir, "mutant.go")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return c, err
	}
	if test := m.Test(); test != (mutant.GoTest{}) {
		say("-- mutant %q: %s (%v)", m.Name, m.Breaks, test)
		began := time.Now()
		c.by, err = t.huntByTest(ctx, test, map[string]string{m.File: file})
		c.took = time.Since(began)
		return c, err
	}
	if err := t.buildFaulty(ctx, map[string]string{m.File: file}); err != nil {
		return c, fmt.Errorf("mutant %q: %w", m.Name, err)
	}
	say("-- mutant %q: %s (%s)", m.Name, m.Breaks, m.Guard)
	began := time.Now()
	for c.rounds < mutantRounds || time.Since(began) < limit {
		c.rounds++
		p := draw(t.seed, c.rounds, aimOf(m))
		p.lighten(m.File)
		say("   %v", p)
		_, err := t.tryRound(ctx, p)
		if ctx.Err() != nil {
			return c, context.Cause(ctx)
		}
		c.took = time.Since(began)
		if own, ok := errors.AsType[*ownError](err); ok {
			say("   not by hb: %v", own)
			continue
		}
		if err != nil {
			c.by = firstLine(err)
			return c, nil
		}
	}
	return c, nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	if len(line) > 200 {
		line = line[:200] + "..."
	}
	return line
}

func (c caught) String() string {
	took := c.took.Round(time.Second)
	switch {
	case c.by == "" && c.rounds == 0:
		return fmt.Sprintf("%s: SURVIVED its test, %v", c.Name, took)
	case c.by == "":
		return fmt.Sprintf("%s: SURVIVED %d rounds, %v", c.Name, c.rounds, took)
	case c.rounds == 0:
		return fmt.Sprintf("%s: caught by its test, %v: %s", c.Name, took, c.by)
	}
	return fmt.Sprintf("%s: caught in round %d, %v: %s", c.Name, c.rounds, took, c.by)
}

// report prints the table of all mutants; one that survived is an error.
func report(results []caught) error {
	say("\n| mutant | breaks | rounds | seconds | found by |\n|---|---|---|---|---|")
	var alive []string
	for _, c := range results {
		by := c.by
		if by == "" {
			by = "**nothing**"
			alive = append(alive, c.Name)
		}
		rounds := fmt.Sprint(c.rounds)
		if c.rounds == 0 {
			rounds = "a test"
		}
		say("| %s | %s | %s | %.0f | %s |", c.Name, c.Breaks, rounds, c.took.Seconds(), strings.ReplaceAll(by, "|", "/"))
	}
	say("%d mutants caught, %d survived", len(results)-len(alive), len(alive))
	if len(alive) > 0 {
		return errors.New("survived: " + strings.Join(alive, ", "))
	}
	return nil
}
