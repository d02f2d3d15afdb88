package main

import (
	"fmt"
	"html"
	"os"
	"runtime"
	"strings"
	"time"

	"hb/stream"
)

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func mib(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

// ratio is hb's median of a figure to that of a peer.
func (c *contest) ratio(b bar) float64 {
	return b.figure.of(medians(c.sides[0].runs)) / b.figure.of(medians(c.sides[b.peer].runs))
}

// markdown is the report as a table.
func markdown(o *options, all []*contest) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Medians of %d runs in turns, %s of data on each server, warm cache, %d processors%s.\n\n",
		o.runs, stream.Size(o.size), runtime.NumCPU(), processor())
	b.WriteString("| job | command | time | CPU | peak memory | hb is at |\n|---|---|---|---|---|---|\n")
	for _, c := range all {
		title := c.title
		for i, s := range c.sides {
			m := medians(s.runs)
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", title, s.name, seconds(m.Wall), seconds(m.CPU), mib(m.Peak), c.against(i))
			title = ""
		}
	}
	return b.String()
}

// against tells the ratios to one side.
func (c *contest) against(side int) string {
	var parts []string
	for _, b := range c.bars {
		if b.peer == side {
			parts = append(parts, fmt.Sprintf("%.2f of its %s (bar %.2g)", c.ratio(b), b.figure.name, b.most))
		}
	}
	return strings.Join(parts, ", ")
}

// processor names the machine's processor, where the system tells.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(text), "model name")
	line, _, _ := strings.Cut(rest, "\n")
	_, name, _ := strings.Cut(line, ": ")
	if name == "" {
		return ""
	}
	return " (" + strings.TrimSpace(name) + ")"
}

// plot draws each ratio as a bar; the line at 1 is the peer.
func plot(all []*contest) string {
	const (
		left, width = 430, 420
		row         = 26
		most        = 1.5 // ratio at the right edge
	)
	var lines strings.Builder
	n := 0
	for _, c := range all {
		for _, b := range c.bars {
			r := c.ratio(b)
			y := 30 + n*row
			n++
			label := fmt.Sprintf("%s: %s, to %s", c.title, b.figure.name, c.sides[b.peer].name)
			fmt.Fprintf(&lines, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", left-8, y+14, html.EscapeString(label))
			fmt.Fprintf(&lines, `<rect x="%d" y="%d" width="%.1f" height="18" fill="#2a7"/>`+"\n", left, y, min(r, most)/most*width)
			fmt.Fprintf(&lines, `<text x="%.1f" y="%d">%.2f</text>`+"\n", left+min(r, most)/most*width+6, y+14, r)
		}
	}
	height := 40 + n*row
	one := left + 1/most*width
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
<text x="%d" y="16">hb's share of what its peers take: less is better</text>
%s<line x1="%.1f" y1="24" x2="%.1f" y2="%d" stroke="#c33" stroke-dasharray="4 3"/>
</svg>
`, left+width+60, height, left, lines.String(), one, one, height-8)
}
