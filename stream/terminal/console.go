// Package terminal is where a command meets the person, or the program, that
// started it: messages and progress on standard error, questions on the
// terminal, signals, and arguments with passwords in them. Only package main uses
// it.
//
// Messages are lines of text that begin with "hb: ", or, for programs, objects in
// JSON, one in each line, with the fields time, level, event, msg and what facts
// there are. Progress is one line at the bottom of a terminal, drawn again and again; a
// message takes its place. Where nothing can be drawn it is a message from time
// to time.
package terminal

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"hb/stream/progress"
	"hb/stream/terminal/tty"
)

// Console is the place for messages, standard error as a rule. What cannot be
// written to it is lost: there is nowhere to say so.
type Console struct {
	w     io.Writer
	width func() int // columns of the terminal that w is; nil: none to draw on
	quiet bool
	json  *slog.Logger     // nil: messages are text
	ask   <-chan os.Signal // a signal that asks for progress, whatever else is set

	// Of the command: it has one goroutine that calls the methods which use these.
	command string            // "": not known yet
	began   time.Time         // when the process did
	meter   *progress.Tracker // of its last work; or nil
	done    string            // what it has achieved
	facts   []slog.Attr       // of that

	mu    sync.Mutex
	shown bool          // progress is being shown, by a goroutine that alone writes
	queue []message     // what it has to print
	wake  chan struct{} // tells it so
}

// An event is what a message is about. Package usage describes each, for programs
// that read messages as JSON.
type event string

const (
	eventStart     event = "start"     // a command has begun
	eventWarning   event = "warning"   // what the user should know
	eventProgress  event = "progress"  // how far the work is
	eventExtracted event = "extracted" // an archive is extracted, while the command goes on
	eventFinding   event = "finding"   // of a Report
	eventEnd       event = "end"       // the command has ended, the last message
)

// message is one message with its facts, which only JSON shows.
type message struct {
	event event
	level slog.Level
	text  string
	facts []slog.Attr
}

// New returns a Console on w. A signal from ask has progress told at once.
func New(w io.Writer, ask <-chan os.Signal) *Console {
	c := &Console{w: w, ask: ask, began: time.Now(), wake: make(chan struct{}, 1)}
	if f, ok := w.(*os.File); ok && tty.CanDraw(f) {
		c.width = func() int { return tty.Columns(f) }
	}
	return c
}

// Set says how messages look from now on: quiet leaves out all but warnings,
// errors and what was asked for; asJSON makes objects of them, and draws nothing.
func (c *Console) Set(quiet, asJSON bool) {
	c.quiet = quiet
	if asJSON {
		c.json = slog.New(slog.NewJSONHandler(c.w, nil))
	}
}

// Begin says, for programs only, that a command has begun, and on what.
func (c *Console) Begin(command string, facts ...slog.Attr) {
	c.command = command
	if c.json != nil {
		facts = append([]slog.Attr{slog.String("command", command)}, facts...)
		c.say(eventStart, command+" begins", facts...)
	}
}

// Took is how long the command has run.
func (c *Console) Took() time.Duration { return time.Since(c.began).Round(time.Millisecond) }

// Extracted tells that an archive is extracted, while the command goes on.
func (c *Console) Extracted(text string, facts ...slog.Attr) { c.say(eventExtracted, text, facts...) }

// say tells what the user may want to know.
func (c *Console) say(event event, text string, facts ...slog.Attr) {
	if !c.quiet {
		c.put(message{event, slog.LevelInfo, text, facts})
	}
}

// Warn tells what the user should know. It does not wait until that is written
// while progress is shown: a terminal that was stopped holds no work up.
func (c *Console) Warn(text string) { c.put(message{eventWarning, slog.LevelWarn, text, nil}) }

// Done says what the command has achieved, which End tells.
func (c *Console) Done(text string, facts ...slog.Attr) {
	c.done, c.facts = text, append(c.facts, facts...)
}

// End tells how the command ended, with its exit code: what it has achieved, and why
// it failed; "": it did not, or need not say so. A command that never began is only
// told of where it failed.
func (c *Console) End(why string, code int) {
	achieved, facts := c.done, c.outcome(code)
	switch {
	case c.json != nil && why != "":
		achieved = "" // programs are told once
	case c.json != nil && c.command != "":
		achieved = cmp.Or(achieved, "ended")
	}
	if achieved != "" {
		c.say(eventEnd, achieved, facts...)
	}
	if why != "" {
		c.put(message{eventEnd, slog.LevelError, why, facts})
	}
}

// outcome is what programs are told at the end.
func (c *Console) outcome(code int) []slog.Attr {
	var facts []slog.Attr
	if c.command != "" {
		facts = append(facts, slog.String("command", c.command))
	}
	facts = append(facts, slog.Int("exit_code", code), slog.Float64("seconds", c.Took().Seconds()))
	if code != 0 && c.meter != nil && c.meter.State().Phase != nil {
		facts = append(facts, slog.String("phase", c.meter.State().Name))
	}
	return append(facts, c.facts...)
}

func (c *Console) put(m message) {
	if !c.enqueue(m) {
		c.print(m, "")
	}
}

// enqueue leaves a message to the goroutine that shows progress, if there is one.
func (c *Console) enqueue(m message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.shown {
		return false
	}
	c.queue = append(c.queue, m)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return true
}

// print writes a message, and text before it what clears the line.
func (c *Console) print(m message, clear string) {
	if c.json != nil {
		log(c.json, m)
		return
	}
	prefix := "hb: "
	if m.level == slog.LevelWarn {
		prefix += "warning: "
	}
	fmt.Fprint(c.w, clear+prefix+strings.ReplaceAll(printable(m.text), "\n", "\n"+prefix)+"\n")
}

// log writes a message as an object.
func log(json *slog.Logger, m message) {
	facts := append([]slog.Attr{slog.String("event", string(m.event))}, m.facts...)
	json.LogAttrs(context.Background(), m.level, m.text, facts...)
}

// printable takes out what would move the cursor: names in messages may come
// from anywhere.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return '?'
		}
		return r
	}, text)
}
