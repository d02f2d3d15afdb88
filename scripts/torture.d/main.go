// Command torture.d is the body of scripts/torture: an adversary of hb that never
// ends. Each round draws a plan from a seed (plan.go), starts a server with it
// (server.go), writes to it and hurts it (load, fault.go) while hb backs it up
// (backup.go), restores the archive in several ways (restore.go), and asks
// oracles that know nothing of hb whether that is right (judge.go, oracle).
//
// A backup that says OK and is wrong ends the run: everything that is needed to
// see it again stays in one directory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"hb/scripts/torture.d/mutant"
	"hb/source/mysqld/mysqldtest"
)

func main() {
	var t torture
	flag.StringVar(&t.root, "root", ".", "the `directory` of hb's source")
	flag.StringVar(&t.dir, "dir", "", "an empty `directory` for all files")
	flag.StringVar(&t.keep, "keep", "", "the `directory` below which a finding is kept")
	flag.Uint64Var(&t.seed, "seed", 0, "draw from this `number`; 0: a new one")
	round := flag.Int("round", 0, "run only round `N` of the seed")
	rounds := flag.Int("rounds", 0, "end after `N` rounds")
	length := flag.Duration("for", 0, "begin no round after this `time` (default 3m, with --long 6h; for each of --mutants 4m)")
	long := flag.Bool("long", false, "go on after a finding too")
	mutants := flag.Bool("mutants", false, "break hb, one rule at a time, and see how soon that is found; arguments choose mutants by name")
	flag.Func("aim", "draw only plans with this `choice`, such as server=mysql57 or load=indexes; may be repeated", t.aim.set)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if t.seed == 0 {
		t.seed = uint64(time.Now().UnixNano() % 1e9)
	}
	switch {
	case *length == 0 && *mutants:
		*length = mutantLimit
	case *length == 0 && *long:
		*length = 6 * time.Hour
	case *length == 0:
		*length = 3 * time.Minute
	}
	var err error
	switch {
	case *mutants:
		err = t.mutants(ctx, flag.Args(), *length)
	case *round > 0:
		err = t.run(ctx, *round, *round, time.Time{}, false)
	default:
		err = t.run(ctx, 1, *rounds, time.Now().Add(*length), *long)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// torture is one run of the program.
type torture struct {
	root, dir, keep string
	seed            uint64
	aim             aim
	hb              programs
	templates       *templates
	sound           map[mutant.GoTest]bool // tests that pass without a mutant
}

// say prints one line of the story.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// run runs the rounds from first to last (0: no end) that begin before end (zero:
// all of them). A finding ends the run unless goOn is set.
func (t *torture) run(ctx context.Context, first, last int, end time.Time, goOn bool) error {
	say("seed %d", t.seed)
	if err := t.build(ctx); err != nil {
		return err
	}
	began, count := time.Now(), tally{}
	var found []error
	for n := first; (last == 0 || n <= last) && (end.IsZero() || time.Now().Before(end)); n++ {
		p := draw(t.seed, n, t.aim)
		say("-- %v", p)
		start := time.Now()
		out, err := t.round(ctx, p)
		count.add(p, out)
		say("   %s, %v", out, time.Since(start).Round(100*time.Millisecond))
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			say("   FOUND: %v", err)
			found = append(found, fmt.Errorf("round %d of seed %d: %w", n, t.seed, err))
			if !goOn {
				break
			}
		}
	}
	count.print(time.Since(began))
	say("%d rounds held, %d did not", count.rounds()-len(found), len(found))
	return errors.Join(found...)
}

// tally counts rounds by server and by what became of the backup.
type tally map[string]map[outcome]int

func (c tally) add(p *plan, o outcome) {
	if c[p.server] == nil {
		c[p.server] = map[outcome]int{}
	}
	c[p.server][o]++
}

func (c tally) rounds() (n int) {
	for _, of := range c {
		for _, k := range of {
			n += k
		}
	}
	return n
}

func (c tally) print(took time.Duration) {
	say("in %v:", took.Round(time.Second))
	for _, name := range servers {
		if c[name] == nil {
			continue
		}
		line := fmt.Sprintf("%-12s", name)
		for _, o := range outcomes {
			line += fmt.Sprintf(" %d %s,", c[name][o], o)
		}
		say("%s", line[:len(line)-1])
	}
}

// outcome is what a round came to.
type outcome string

const (
	restored outcome = "restored and right"
	refused  outcome = "failed, as it had to or might"
	broken   outcome = "wrong"
)

var outcomes = []outcome{restored, refused, broken}

// round runs one plan in a directory of its own, and keeps that if the plan found
// something.
func (t *torture) round(ctx context.Context, p *plan) (outcome, error) {
	return t.inDirectory(ctx, p, t.keepEvidence)
}

// tryRound runs one plan and keeps nothing.
func (t *torture) tryRound(ctx context.Context, p *plan) (outcome, error) {
	return t.inDirectory(ctx, p, func(*round, error) error { return nil })
}

func (t *torture) inDirectory(ctx context.Context, p *plan, keep func(*round, error) error) (outcome, error) {
	if t.templates == nil {
		t.templates = &templates{dir: filepath.Join(t.dir, "templates")}
	}
	r := &round{plan: p, hb: t.hb, templates: t.templates, dir: filepath.Join(t.dir, fmt.Sprintf("round%d", p.round))}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return broken, err
	}
	out, err := r.run(ctx)
	if err != nil && ctx.Err() == nil {
		err = errors.Join(err, keep(r, err))
	}
	return out, errors.Join(err, os.RemoveAll(r.dir))
}

// aim is what every plan of a run must have.
type aim []choice

type choice struct{ name, value string }

func (a *aim) set(s string) error {
	c, err := parseChoice(s)
	*a = append(*a, c)
	return err
}

func (a aim) of(name string) []string {
	var out []string
	for _, c := range a {
		if c.name == name {
			out = append(out, c.value)
		}
	}
	return out
}

// force returns the only value that is aimed at, or what was drawn.
func (a aim) force(name, drawn string) string {
	if v := a.of(name); len(v) > 0 {
		return v[len(v)-1]
	}
	return drawn
}

func (a aim) args() (out string) {
	for _, c := range a {
		out += fmt.Sprintf(" --aim %s=%s", c.name, c.value)
	}
	return out
}

func parseChoice(s string) (choice, error) {
	for i := range s {
		if s[i] == '=' {
			c := choice{s[:i], s[i+1:]}
			if !slices.Contains(choices, c.name) {
				return c, fmt.Errorf("there is no choice %q; there are %v", c.name, choices)
			}
			return c, nil
		}
	}
	return choice{}, fmt.Errorf("%q is not NAME=VALUE; names are %v", s, choices)
}

// keepEvidence moves the directory of a round to where it stays: the archive, the
// data directories of the source and of all copies, every log, and a note that
// says how to see it again.
func (t *torture) keepEvidence(r *round, found error) error {
	to := filepath.Join(t.keep, fmt.Sprintf("seed%d-round%d", r.seed, r.round))
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); err != nil {
			break
		}
		to = filepath.Join(t.keep, fmt.Sprintf("seed%d-round%d.%d", r.seed, r.round, n))
	}
	text := fmt.Sprintf("%v\n\n%v\n\nAgain: %s\n\n%s\n", found, r.plan, r.plan.command(), strings.Join(r.notes, "\n"))
	err := errors.Join(
		os.MkdirAll(t.keep, 0o755),
		mysqldtest.CopyTree(to, r.dir),
		os.WriteFile(filepath.Join(to, "FINDING"), []byte(text), 0o644),
	)
	say("   kept in %s; again: %s", to, r.plan.command())
	return err
}
