//go:build linux

package main

import (
	"fmt"
	"html"
	"strings"
)

// The plot's measures, in pixels.
const (
	plotLabels = 376 // width of what the bars are about
	plotBars   = 300 // width of the bars' field
	plotValues = 190 // width of the figures
	plotWidth  = plotLabels + plotBars + plotValues
	plotRow    = 19
	plotGap    = 8 // between two contests
)

// The plot's colours.
const (
	metColour    = "#2a9d6f"
	missedColour = "#d1495b"
	plainColour  = "#8aa0b5" // of what has no limit
	markColour   = "#111"    // of a limit
	gridColour   = "#e3e6ea"
	greyColour   = "#555" // of what is written beside
)

// panel is a part of the plot: bars on one scale.
type panel struct {
	title string
	holds func(c *contest, b bar) bool
	one   string // what a line at 1 means; empty: there is no line
}

// plotMost is the ratio at the right edge.
const plotMost = 1.4

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

// drawing collects the elements of a plot from the top down.
type drawing struct {
	strings.Builder
	y float64 // where the next element begins
}

func (d *drawing) text(x, y float64, attributes, text string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" %s>%s</text>`+"\n", x, y, attributes, html.EscapeString(text))
}

func (d *drawing) box(x, y, width, height float64, colour string) {
	fmt.Fprintf(d, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n", x, y, width, height, colour)
}

func (d *drawing) upright(x, y, height float64, style string) {
	fmt.Fprintf(d, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" %s/>`+"\n", x, y, x, y+height, style)
}

const markStyle = `stroke="` + markColour + `" stroke-width="2.5"`

// plot draws every bar, its length the share that hb takes, with its limit marked.
func plot(held []*contest) string {
	d := &drawing{y: 46}
	d.legend()
	for _, p := range panels {
		p.draw(d, held)
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%d" height="%.0f" font-family="Helvetica, Arial, sans-serif" font-size="12" fill="#222">
<rect width="100%%" height="100%%" fill="#fff"/>
%s</svg>
`, plotWidth, d.y, plotWidth, d.y, d)
}

// legend says what the colours are.
func (d *drawing) legend() {
	x := 12.0
	for _, l := range []struct{ colour, text string }{
		{metColour, "within the limit"}, {missedColour, "beyond it"}, {plainColour, "no limit"},
	} {
		d.box(x, 14, 24, plotRow-6, l.colour)
		d.text(x+30, 25, "", l.text)
		x += 140
	}
	d.upright(x+12, 11, plotRow, markStyle)
	d.text(x+22, 25, "", "limit")
}

func (p *panel) draw(d *drawing, held []*contest) {
	top := d.y + 54
	rows := drawing{y: top}
	for _, c := range held {
		p.contest(&rows, c)
	}
	if rows.Len() == 0 {
		return
	}
	d.text(12, d.y+16, `font-size="15" font-weight="bold"`, p.title)
	p.scale(d, top, rows.y)
	d.WriteString(rows.String())
	d.y = rows.y + 24
}

// contest draws those bars of a contest that the panel holds.
func (p *panel) contest(d *drawing, c *contest) {
	titled := false
	for _, b := range c.bars {
		switch {
		case !p.holds(c, b):
			continue
		case b.peer == alone:
			d.y += plotGap / 2
			d.row(c, b, c.title)
			continue
		case !titled:
			d.y += plotGap
			d.text(12, d.y+13, `font-weight="bold"`, c.title)
			d.y += plotRow
			titled = true
		}
		d.row(c, b, c.what(b))
	}
}

// scale draws the grid of a panel from top to bottom.
func (p *panel) scale(d *drawing, top, bottom float64) {
	for _, at := range []float64{0, 0.25, 0.5, 0.75, 1, 1.25} {
		style := `stroke="` + gridColour + `"`
		if at == 1 && p.one != "" {
			style = `stroke="` + greyColour + `" stroke-dasharray="4 3"`
			d.text(plotX(at), top-20, `text-anchor="middle" font-size="11" fill="`+greyColour+`"`, p.one)
		}
		d.text(plotX(at), top-6, `text-anchor="middle" font-size="11" fill="`+greyColour+`"`, fmt.Sprint(at))
		d.upright(plotX(at), top, bottom+4-top, style)
	}
}

func plotX(share float64) float64 { return plotLabels + share/plotMost*plotBars }

// row draws one bar. One that is longer than the field ends in an arrow.
func (d *drawing) row(c *contest, b bar, what string) {
	const high = plotRow - 6
	share, limit := c.share(b)
	colour := metColour
	switch {
	case b.rule == tell:
		colour = plainColour
	case !c.met(b):
		colour = missedColour
	}
	d.text(plotLabels-10, d.y+13, `text-anchor="end"`, what)
	end := plotX(min(share, plotMost))
	d.box(plotLabels, d.y+3, end-plotLabels, high, colour)
	if share > plotMost {
		fmt.Fprintf(d, `<path d="M%.1f %.1f l8 %.1f l-8 %.1f z" fill="%s"/>`+"\n", end, d.y+3, high/2.0, high/2.0, colour)
	}
	text := c.valueText(b)
	if limit > 0 {
		d.upright(plotX(limit), d.y, plotRow, markStyle)
		text += ", " + b.limitText()
	}
	d.text(plotLabels+plotBars+14, d.y+13, "", text)
	d.y += plotRow
}
