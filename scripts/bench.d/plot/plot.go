//go:build linux

// Package plot draws bars with limits as SVG. In go panels of rows; out comes the picture.
package plot

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

// Panel is a part of the plot: bars on one scale.
type Panel struct {
	Title string
	One   string // what a line at 1 means; empty: there is no line
	Rows  []Row
}

// Row is a bar or, if it has a Heading, a line of text above bars.
type Row struct {
	Heading string
	Apart   bool    // a small gap comes before it
	What    string  // what the bar is about
	Share   float64 // its length; 1 is the line
	Limit   float64 // where its limit is marked; 0: it has none
	Verdict Verdict
	Text    string // beside the bar
}

// Verdict is the colour of a bar.
type Verdict int

// The verdicts: a bar without a limit, within it, beyond it.
const (
	Unlimited Verdict = iota
	Met
	Missed
)

var colours = map[Verdict]string{Unlimited: plainColour, Met: metColour, Missed: missedColour}

// plotMost is the ratio at the right edge.
const plotMost = 1.4

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

// SVG draws the panels, one below the other, each bar as long as its share, with its
// limit marked. A panel without rows is left out.
func SVG(panels []Panel) string {
	d := &drawing{y: 46}
	d.legend()
	for i := range panels {
		panels[i].draw(d)
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

func (p *Panel) draw(d *drawing) {
	if len(p.Rows) == 0 {
		return
	}
	top := d.y + 54
	rows := drawing{y: top}
	for i := range p.Rows {
		rows.row(&p.Rows[i])
	}
	d.text(12, d.y+16, `font-size="15" font-weight="bold"`, p.Title)
	p.scale(d, top, rows.y)
	d.WriteString(rows.String())
	d.y = rows.y + 24
}

// scale draws the grid of a panel from top to bottom.
func (p *Panel) scale(d *drawing, top, bottom float64) {
	for _, at := range []float64{0, 0.25, 0.5, 0.75, 1, 1.25} {
		style := `stroke="` + gridColour + `"`
		if at == 1 && p.One != "" {
			style = `stroke="` + greyColour + `" stroke-dasharray="4 3"`
			d.text(plotX(at), top-20, `text-anchor="middle" font-size="11" fill="`+greyColour+`"`, p.One)
		}
		d.text(plotX(at), top-6, `text-anchor="middle" font-size="11" fill="`+greyColour+`"`, fmt.Sprint(at))
		d.upright(plotX(at), top, bottom+4-top, style)
	}
}

func plotX(share float64) float64 { return plotLabels + share/plotMost*plotBars }

// row draws a heading or a bar. A bar that is longer than the field ends in an arrow.
func (d *drawing) row(r *Row) {
	const high = plotRow - 6
	if r.Heading != "" {
		d.y += plotGap
		d.text(12, d.y+13, `font-weight="bold"`, r.Heading)
		d.y += plotRow
		return
	}
	if r.Apart {
		d.y += plotGap / 2
	}
	colour := colours[r.Verdict]
	d.text(plotLabels-10, d.y+13, `text-anchor="end"`, r.What)
	end := plotX(min(r.Share, plotMost))
	d.box(plotLabels, d.y+3, end-plotLabels, high, colour)
	if r.Share > plotMost {
		fmt.Fprintf(d, `<path d="M%.1f %.1f l8 %.1f l-8 %.1f z" fill="%s"/>`+"\n", end, d.y+3, high/2.0, high/2.0, colour)
	}
	if r.Limit > 0 {
		d.upright(plotX(r.Limit), d.y, plotRow, markStyle)
	}
	d.text(plotLabels+plotBars+14, d.y+13, "", r.Text)
	d.y += plotRow
}
