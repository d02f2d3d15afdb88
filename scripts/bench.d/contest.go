//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"hb/stream"
)

// contest is one job done by hb and by others, in turns.
type contest struct {
	name    string // for --only
	title   string
	section *section
	note    string // what is to be known of this run of it; may be empty
	bars    []bar
	sides   []*side // hb's is the first
	warm    bool    // a round that does not count precedes
	// cached are files that are read before each run: some peers throw out of the
	// page cache what they have read.
	cached []string
	cold   []string // files that are not in the page cache when a run begins
}

// side is one way to do the job.
type side struct {
	name    string
	prepare func(ctx context.Context) error // not measured; may be nil
	run     func(ctx context.Context) (usage, error)
	runs    []usage
}

// section is a part of the report: contests with the same figures.
type section struct {
	title   string
	columns []figure
	text    string // what is to be known of the figures
}

// figure is what the runs of a side come to.
type figure struct {
	name string
	of   func(runs []usage) float64
	text func(float64) string
}

var (
	wall = figure{"time", median(func(u usage) float64 { return u.Wall.Seconds() }), seconds}
	cpu  = figure{"CPU", median(func(u usage) float64 { return u.CPU.Seconds() }), seconds}
	peak = figure{"peak memory", median(func(u usage) float64 { return float64(u.Peak) }), bytesText}
	size = figure{"archive", median(func(u usage) float64 { return float64(u.Bytes) }), bytesText}

	stall = figure{"longest stall", median(func(u usage) float64 { return u.Stall.Seconds() }), milliseconds}
	rate  = figure{"transactions/s", median(func(u usage) float64 { return u.Rate }), number}
)

// perUnit is a figure for each unit of what there was to do.
func perUnit(f figure, unit string) figure {
	units := median(func(u usage) float64 { return u.Units })
	return figure{f.name + " per " + unit, func(runs []usage) float64 { return f.of(runs) / units(runs) }, nil}
}

// median makes a figure of the median of all runs.
func median(of func(usage) float64) func([]usage) float64 {
	return func(runs []usage) float64 {
		v := make([]float64, len(runs))
		for i, u := range runs {
			v[i] = of(u)
		}
		slices.Sort(v)
		return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	}
}

// bar is what a side's figure may be: a ratio to that of a peer, or by itself.
type bar struct {
	figure figure
	side   int // of what is judged: an index in sides
	peer   int // index in sides; alone: limit is what the figure itself may be
	limit  float64
	rule   rule
}

// alone is the peer of a bar that compares with nothing.
const alone = -1

// rule says on which side of its limit a figure must be.
type rule int

const (
	atMost rule = iota
	above
	tell // there is no limit
)

// against is a bar of hb's: at most limit times what a peer takes.
func against(peer int, f figure, limit float64) bar {
	return bar{figure: f, peer: peer, limit: limit}
}

// within is a bar of hb's that needs no peer.
func within(f figure, limit float64) bar {
	return bar{figure: f, peer: alone, limit: limit}
}

// value is what the bar is about: a ratio, or the figure itself.
func (c *contest) value(b bar) float64 {
	v := b.figure.of(c.sides[b.side].runs)
	if b.peer == alone {
		return v
	}
	return v / b.figure.of(c.sides[b.peer].runs)
}

func (c *contest) met(b bar) bool {
	switch b.rule {
	case atMost:
		return c.value(b) <= b.limit
	case above:
		return c.value(b) > b.limit
	}
	return true
}

// hold holds those of the contests that were asked for: all sides of each in turns.
func (b *bench) hold(ctx context.Context, contests ...*contest) error {
	for _, c := range contests {
		if !b.wants(c.name) {
			continue
		}
		say("%s", c.title)
		if err := b.turns(ctx, c, b.runs, c.sides...); err != nil {
			return err
		}
		b.held = append(b.held, c)
	}
	return nil
}

// turns runs sides in turns, until each has enough runs that count.
func (b *bench) turns(ctx context.Context, c *contest, rounds int, sides ...*side) error {
	if c.warm {
		rounds++
	}
	for round := range rounds {
		for _, s := range sides {
			err := errors.Join(readAll(c.cached), dropCached(c.cold))
			var u usage
			if err == nil {
				u, err = s.once(ctx)
			}
			if err != nil {
				return fmt.Errorf("%s, %s: %w", c.name, s.name, err)
			}
			if round > 0 || !c.warm {
				s.runs = append(s.runs, u)
			}
		}
	}
	for _, s := range sides {
		line := fmt.Sprintf("  %-60s", s.name)
		for _, f := range c.section.columns {
			line += fmt.Sprintf("  %s %s", f.name, f.text(f.of(s.runs)))
		}
		say("%s", line)
	}
	return nil
}

func (s *side) once(ctx context.Context) (u usage, err error) {
	if s.prepare != nil {
		if err := s.prepare(ctx); err != nil {
			return u, fmt.Errorf("preparing: %w", err)
		}
	}
	return s.run(ctx)
}

// into is a side that sends an archive into a pipe.
func into(name string, programs ...[]string) *side {
	return &side{name: name, run: func(ctx context.Context) (usage, error) {
		return pipeline(ctx, "", discard, programs...)
	}}
}

// parts does one after the other, whatever becomes of each: what fails is in the
// report, and the others are measured all the same.
func (b *bench) parts(ctx context.Context, parts ...func(context.Context) error) {
	for _, part := range parts {
		err := ctx.Err()
		if err == nil {
			err = part(ctx)
		}
		if err != nil {
			say("FAILED: %v", err)
			b.failed = append(b.failed, err)
		}
	}
}

var began = time.Now()

// say reports how far the run is.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench %5.0fs: "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...)
}

// err is what did not work.
func (b *bench) err() error { return errors.Join(b.failed...) }

func seconds(v float64) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f s", v)
}

func milliseconds(v float64) string {
	return fmt.Sprintf("%d ms", time.Duration(v*float64(time.Second)).Milliseconds())
}

func bytesText(v float64) string {
	if v == 0 {
		return "–"
	}
	return stream.Size(v).String()
}

func ratio(v float64) string { return fmt.Sprintf("%.2f", v) }

func number(v float64) string { return fmt.Sprintf("%.0f", v) }
