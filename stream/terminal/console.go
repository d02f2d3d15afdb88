// Package terminal is where a command meets the person, or the program, that
// started it: messages and progress on standard error, questions on the
// terminal, signals, and arguments with passwords in them. Only package main uses
// it.
//
// Messages are lines of text that begin with "hb: ", or, for programs, objects in
// JSON, one in each line, with the fields time, level, msg and what facts there
// are. Progress is one line at the bottom of a terminal, drawn again and again; a
// message takes its place. Where nothing can be drawn it is a message from time
// to time.
package terminal

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"unicode"
)

// Console is the place for messages, standard error as a rule. What cannot be
// written to it is lost: there is nowhere to say so.
type Console struct {
	w     io.Writer
	width func() int // columns of the terminal that w is; nil: none to draw on
	quiet bool
	json  *slog.Logger     // nil: messages are text
	ask   <-chan os.Signal // a signal that asks for progress, whatever else is set

	mu    sync.Mutex
	shown bool          // progress is being shown, by a goroutine that alone writes
	queue []message     // what it has to print
	wake  chan struct{} // tells it so
}

// message is one message with its facts, which only JSON shows.
type message struct {
	level slog.Level
	text  string
	facts []slog.Attr
}

// New returns a Console on w. A signal from ask has progress told at once.
func New(w io.Writer, ask <-chan os.Signal) *Console {
	c := &Console{w: w, ask: ask, wake: make(chan struct{}, 1)}
	if f, ok := w.(*os.File); ok && canDraw(f) {
		c.width = func() int { return columns(f) }
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

// Say tells what the user may want to know.
func (c *Console) Say(text string, facts ...slog.Attr) {
	if !c.quiet {
		c.put(message{slog.LevelInfo, text, facts})
	}
}

// Warn tells what the user should know. It does not wait until that is written
// while progress is shown: a terminal that was stopped holds no work up.
func (c *Console) Warn(text string) { c.put(message{slog.LevelWarn, text, nil}) }

// Fail tells why the command failed, and its exit code.
func (c *Console) Fail(text string, code int) {
	c.put(message{slog.LevelError, text, []slog.Attr{slog.Int("exit_code", code)}})
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
		c.json.LogAttrs(context.Background(), m.level, m.text, m.facts...)
		return
	}
	prefix := "hb: "
	if m.level == slog.LevelWarn {
		prefix += "warning: "
	}
	fmt.Fprint(c.w, clear+prefix+strings.ReplaceAll(printable(m.text), "\n", "\n"+prefix)+"\n")
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
