//go:build linux

package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"hb/scripts/bench.d/plot"
	"hb/stream"
)

// markdown is the report.
func (b *bench) markdown(ctx context.Context) (string, error) {
	var t strings.Builder
	fmt.Fprintf(&t, "# Benchmark: hb and its peers\n\nMade by `%s` on %s.\n", b.command, time.Now().UTC().Format("2 January 2006"))
	if b.out != "" {
		fmt.Fprintf(&t, "\n![What hb needs, as a share of what its peers need](%s.svg)\n", filepath.Base(b.out))
	}
	about, err := machine(b.dir)
	if err != nil {
		return "", err
	}
	programs, err := versions(ctx, b.hb)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&t, "\n- %s\n- %s\n- %s of data on each server, cached; the server is idle unless the job says otherwise\n"+
		"- medians of %s, hb and its peers take turns (growth: medians of %s, hb only)\n"+
		"- every pipe has a buffer of %s; splice(2) moves the output of the last program to /dev/null\n",
		about, programs, stream.Size(b.size), count(b.runs), count(min(b.runs, growthRuns)), stream.Size(pipeSize))
	for _, err := range b.failed {
		fmt.Fprintf(&t, "\n**Not all could be measured:** %s\n", firstLine(err.Error()))
	}
	if len(b.held) > 0 {
		t.WriteString(barsTable(b.held))
	}
	for _, s := range []*section{moved, tracked, loaded, raced, growing} {
		t.WriteString(s.table(b.held))
	}
	return t.String(), nil
}

func count(runs int) string {
	if runs == 1 {
		return "1 run"
	}
	return fmt.Sprintf("%d runs", runs)
}

// barsTable says of each bar whether hb meets it.
func barsTable(held []*contest) string {
	var t strings.Builder
	t.WriteString("\n## Limits\n\n| job | what | hb is at | limit | met |\n|---|---|---|---|---|\n")
	for _, c := range held {
		title := c.title
		for _, b := range c.bars {
			fmt.Fprintf(&t, "| %s | %s | %s | %s | %s |\n", title, c.what(b), c.valueText(b), b.limitText(), c.verdict(b))
			title = ""
		}
	}
	return t.String()
}

// what says what a bar is about.
func (c *contest) what(b bar) string {
	what := b.figure.name
	if b.side != 0 {
		what = c.sides[b.side].name + ": " + what
	}
	if b.peer == alone {
		return what
	}
	return what + ", against " + c.sides[b.peer].name
}

func (c *contest) valueText(b bar) string {
	if b.peer == alone {
		return b.figure.text(c.value(b))
	}
	return fmt.Sprintf("%.2f", c.value(b))
}

func (b bar) limitText() string {
	limit := strconv.FormatFloat(math.Round(100*b.limit)/100, 'g', -1, 64)
	if b.peer == alone {
		limit = b.figure.text(b.limit)
	}
	switch b.rule {
	case atMost:
		return "at most " + limit
	case above:
		return "above " + limit
	}
	return ""
}

func (c *contest) verdict(b bar) string {
	switch {
	case b.rule == tell:
		return ""
	case c.met(b):
		return "yes"
	}
	return "**no**"
}

// table shows the figures of the contests of a section.
func (s *section) table(held []*contest) string {
	if !slices.ContainsFunc(held, func(c *contest) bool { return c.section == s }) {
		return ""
	}
	var t strings.Builder
	fmt.Fprintf(&t, "\n## %s\n\n%s\n", s.title, s.text)
	for _, c := range held {
		if c.section == s && c.note != "" {
			fmt.Fprintf(&t, "%s\n", c.note)
		}
	}
	t.WriteString("\n| job | command |")
	for _, f := range s.columns {
		fmt.Fprintf(&t, " %s |", f.name)
	}
	fmt.Fprintf(&t, "\n|---|---|%s\n", strings.Repeat("---|", len(s.columns)))
	for _, c := range held {
		if c.section != s {
			continue
		}
		title := c.title
		for _, side := range c.sides {
			fmt.Fprintf(&t, "| %s | %s |", title, side.name)
			for _, f := range s.columns {
				fmt.Fprintf(&t, " %s |", f.text(f.of(side.runs)))
			}
			t.WriteByte('\n')
			title = ""
		}
	}
	return t.String()
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// panel is a part of the plot, and which bars it holds.
type panel struct {
	title string
	holds func(c *contest, b bar) bool
	one   string // what a line at 1 means; empty: there is no line
}

var panels = []panel{
	{"What hb needs, as a share of what its peers need", func(c *contest, b bar) bool { return b.peer != alone && c.section != growing }, "the peer"},
	{"Peak memory, as a share of what it may be", func(_ *contest, b bar) bool { return b.peer == alone && b.figure.name == peak.name }, ""},
	{"Growth: time for each GiB or table, as a share of the step before", func(c *contest, b bar) bool {
		return c.section == growing && strings.HasPrefix(b.figure.name, wall.name)
	}, "linear"},
}

// share is the length of a bar, and where its limit is: 0 if there is none.
func (c *contest) share(b bar) (share, limit float64) {
	switch {
	case b.peer == alone:
		return c.value(b) / b.limit, 1
	case b.rule == tell:
		return c.value(b), 0
	}
	return c.value(b), b.limit
}

// plotted puts every bar into the panels that hold it.
func plotted(held []*contest) (list []plot.Panel) {
	for _, p := range panels {
		drawn := plot.Panel{Title: p.title, One: p.one}
		for _, c := range held {
			drawn.Rows = append(drawn.Rows, p.rows(c)...)
		}
		list = append(list, drawn)
	}
	return list
}

// rows are those bars of a contest that the panel holds.
func (p *panel) rows(c *contest) (list []plot.Row) {
	titled := false
	for _, b := range c.bars {
		switch {
		case !p.holds(c, b):
			continue
		case b.peer == alone:
			list = append(list, c.row(b, c.title))
			list[len(list)-1].Apart = true
			continue
		case !titled:
			list = append(list, plot.Row{Heading: c.title})
			titled = true
		}
		list = append(list, c.row(b, c.what(b)))
	}
	return list
}

// row is one bar.
func (c *contest) row(b bar, what string) plot.Row {
	r := plot.Row{What: what, Verdict: plot.Met, Text: c.valueText(b)}
	r.Share, r.Limit = c.share(b)
	switch {
	case b.rule == tell:
		r.Verdict = plot.Unlimited
	case !c.met(b):
		r.Verdict = plot.Missed
	}
	if r.Limit > 0 {
		r.Text += ", " + b.limitText()
	}
	return r
}
