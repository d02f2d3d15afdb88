package terminal

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"hb/stream"
	"hb/stream/progress"
)

// size is a number of bytes as it is shown.
type size = stream.Size

const (
	// drawInterval is how often the line on a terminal is drawn.
	drawInterval = 250 * time.Millisecond
	// lookInterval is how often one looks, to know the rate, where nothing is drawn.
	lookInterval = time.Second
	// lineInterval is the time between two messages where nothing is drawn.
	lineInterval = 30 * time.Second
	// rateWindow is how far back the rate goes.
	rateWindow = 10 * time.Second
)

// What is sent to a terminal. The line is drawn with the cursor left at its
// beginning: when the window becomes narrower while it is there, most terminals
// break it in two and keep the cursor where it was in the text, so that clearing
// from the cursor to the end of the screen takes all of it away. It is written
// without the automatic break at the right margin, for the window may have
// become narrower since it was measured.
const (
	clearLine = "\r\x1b[J"
	drawStart = "\r\x1b[?7l"
	drawEnd   = "\x1b[J\x1b[?7h\r"
)

// During does the work, and shows its progress at the same time.
func (c *Console) During(m *progress.Tracker, work func()) {
	c.meter = m
	c.mu.Lock()
	c.shown = true
	c.mu.Unlock()
	d := &display{Console: c, meter: m, told: time.Now()}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { d.run(done) })
	work()
	close(done)
	wg.Wait()
}

// display is one During.
type display struct {
	*Console
	meter *progress.Tracker
	pace  pace
	told  time.Time // when a message told of the progress last
	drawn bool      // the line is on the terminal
}

// draws reports whether there is a line on a terminal.
func (d *display) draws() bool { return d.width != nil && !d.quiet && d.json == nil }

func (d *display) run(done <-chan struct{}) {
	interval := lookInterval
	if d.draws() {
		interval = drawInterval
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-done:
			d.end()
			return
		case <-d.wake:
			d.printAll(d.take(false))
		case <-d.ask:
			d.tell(d.look())
		case <-tick.C:
			d.tick()
		}
	}
}

// end prints the queue, takes the line away, and has senders print their messages
// themselves from now on.
func (d *display) end() {
	d.printAll(d.take(true))
	if d.drawn {
		fmt.Fprint(d.w, clearLine)
	}
}

func (d *display) take(last bool) []message {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queue
	d.queue, d.shown = nil, !last
	return q
}

func (d *display) printAll(messages []message) {
	for _, m := range messages {
		clear := ""
		if d.drawn {
			clear, d.drawn = clearLine, false
		}
		d.print(m, clear)
	}
}

func (d *display) tick() {
	r := d.look()
	switch {
	case r.Phase == nil:
	case d.draws():
		fmt.Fprint(d.w, drawStart+"hb: "+r.fit(d.width()-len("hb: ")-1)+drawEnd)
		d.drawn = true
	case !d.quiet && time.Since(d.told) >= lineInterval:
		d.tell(r)
	}
}

func (d *display) look() report {
	s := d.meter.State()
	return report{s, d.pace.rate(s, time.Now())}
}

// tell makes a message of the progress.
func (d *display) tell(r report) {
	d.told = time.Now()
	text := r.String()
	if d.json != nil {
		text = "progress"
	}
	d.printAll([]message{{eventProgress, slog.LevelInfo, text, r.facts()}})
}

// report is how far the work is and how fast it goes.
type report struct {
	progress.State
	rate float64 // bytes a second; 0: not known
}

// left estimates how long the phase will go on; below 0: that is not known.
func (r report) left() time.Duration {
	if r.rate <= 0 || r.Total == 0 {
		return -1
	}
	seconds := min(float64(r.Total-r.Done)/r.rate, maxLeft.Seconds())
	return time.Duration(seconds * float64(time.Second)).Round(time.Second)
}

// maxLeft is more than anybody waits.
const maxLeft = 999 * time.Hour

// items are the parts of the line, the most important first.
func (r report) items() []string {
	items := []string{r.Name}
	switch {
	case r.Phase == nil:
		items[0] = "not begun yet"
	case r.Total > 0:
		items[0] += fmt.Sprintf(" %d%%", int(float64(r.Done)*100/float64(r.Total)))
		items = append(items, fmt.Sprintf("%v of %v", size(r.Done), size(r.Total)))
	case r.Done > 0:
		items = append(items, size(r.Done).String())
	}
	if left := r.left(); left >= 0 {
		items = append(items, "ETA "+progress.Span(left))
	}
	if r.rate > 0 {
		items = append(items, fmt.Sprintf("%v/s", size(r.rate)))
	}
	if r.Lag >= 0 {
		items = append(items, fmt.Sprintf("redo lag %v", size(r.Lag)))
	}
	if r.Spool >= 0 {
		items = append(items, fmt.Sprintf("spool %v", size(r.Spool)))
	}
	return items
}

const separator = ", "

// String is all of it.
func (r report) String() string { return strings.Join(r.items(), separator) }

// fit is as much as fits into a number of columns.
func (r report) fit(columns int) string {
	items := r.items()
	line := items[0]
	if len(line) > columns {
		return line[:max(columns, 0)]
	}
	for _, item := range items[1:] {
		if len(line)+len(separator)+len(item) <= columns {
			line += separator + item
		}
	}
	return line
}

// facts are for programs.
func (r report) facts() []slog.Attr {
	facts := []slog.Attr{slog.String("phase", r.Name), slog.Int64("done", r.Done)}
	if r.Total > 0 {
		facts = append(facts, slog.Int64("total", r.Total))
	}
	facts = append(facts, slog.Int64("rate", int64(r.rate)))
	if left := r.left(); left >= 0 {
		facts = append(facts, slog.Int64("eta_seconds", int64(left/time.Second)))
	}
	if r.Lag >= 0 {
		facts = append(facts, slog.Int64("redo_lag", r.Lag))
	}
	if r.Spool >= 0 {
		facts = append(facts, slog.Int64("spool", r.Spool))
	}
	return facts
}

// pace knows how far the work was at the last looks at one phase.
type pace struct {
	phase *progress.Phase
	looks []look // of the last rateWindow, oldest first
}

type look struct {
	at   time.Time
	done int64
}

// rate takes in one more look and returns the bytes a second of the last ones.
func (p *pace) rate(s progress.State, now time.Time) float64 {
	if s.Phase != p.phase {
		p.phase, p.looks = s.Phase, append(p.looks[:0], look{at: s.Began})
	}
	for len(p.looks) > 1 && now.Sub(p.looks[1].at) >= rateWindow {
		p.looks = p.looks[1:]
	}
	p.looks = append(p.looks, look{now, s.Done})
	first := p.looks[0]
	if passed := now.Sub(first.at).Seconds(); passed > 0 {
		return float64(s.Done-first.done) / passed
	}
	return 0
}
