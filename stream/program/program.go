// Package program is what hb's commands share: the program that runs them, which package
// main hands to them, and the way of an archive to standard output.
//
// The commands themselves are in packages source/sourcecmd and sink/sinkcmd. They print
// nothing and do not exit: messages go to the Console and results to Stdout.
package program

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"hb/stream"
	"hb/stream/progress"
	"hb/stream/stdout"
)

// Program is the program that runs a command.
type Program struct {
	Console
	// Stdout takes archives, and what a command is asked for.
	Stdout *os.File
	// Find tells what a check found, on Stdout. The error is that of writing.
	Find func(level slog.Level, subject, text string, facts ...slog.Attr) error
	// Ask asks the user for a passphrase.
	Ask stream.Prompt

	StdinTerminal, StdoutTerminal bool // it is a terminal
	StdoutClosed                  bool // it was closed when the program began

	Version string // of hb, such as v1.2.3
	Tool    string // the name of hb with its version, as backups and recovered directories have it
	Line    string // the command line without passwords

	// ExitCode is the exit code of an error; 0 for nil.
	ExitCode func(error) int
	// Explain returns why a command failed with an error, as the user is told, and the
	// exit code: "" and 0 for nil. If ctx has ended, its cause is the reason.
	Explain func(ctx context.Context, err error) (text string, code int)
}

// Console is where a command meets its user. A command calls all of it from one goroutine,
// except for Warn.
type Console interface {
	// During does the work, and shows its progress at the same time.
	During(m *progress.Tracker, work func())
	// Warn tells what the user should know. It does not wait until that is written.
	Warn(text string)
	// Extracted tells that an archive is extracted, while the command goes on.
	Extracted(text string, facts ...slog.Attr)
	// Done says what the command has achieved, which is told when it ends.
	Done(text string, facts ...slog.Attr)
	// Took is how long the command has run.
	Took() time.Duration
}

// Command is a command that works, where others tell about hb.
type Command interface {
	// Subject is what the command works on, for programs.
	Subject() []slog.Attr
}

// CheckInput refuses a standard input that cannot be an archive: a *stream.UsageError.
func (p *Program) CheckInput() error {
	if p.StdinTerminal {
		return stream.AsUsage(errors.New("standard input is a terminal: give the archive through a pipe or name a file"))
	}
	return nil
}

// CheckOutput refuses a standard output that cannot take an archive: a *stream.UsageError.
func (p *Program) CheckOutput() error {
	switch {
	case p.StdoutTerminal:
		return stream.AsUsage(errors.New("standard output is a terminal: send the archive into a file or a pipe, such as hb backup | ssh host \"hb extract -C dir\""))
	case p.StdoutClosed:
		return stream.AsUsage(errors.New("standard output is closed, so that the archive would be lost: send it into a file or a pipe"))
	}
	return nil
}

// WarnAll tells the warnings that a result may have although it is good.
func (p *Program) WarnAll(warnings []string) {
	for _, w := range warnings {
		p.Warn(w)
	}
}

// Send sends what write writes to standard output, through stages, and shows the progress.
// Unless it returns an error, the archive is complete and, if standard output is a file,
// on disk. It returns how many bytes standard output took. When ctx ends, a write that
// nobody reads ends, too.
func (p *Program) Send(ctx context.Context, stages stream.WriteOptions, m *progress.Tracker, write func(io.Writer) error) (sent int64, err error) {
	out, err := stdout.New(p.Stdout)
	if err != nil {
		return 0, err
	}
	w, err := stream.Create(out, stages)
	if err != nil {
		return 0, err
	}
	defer context.AfterFunc(ctx, w.Interrupt)()
	p.During(m, func() {
		if err = write(w); err != nil {
			w.Abort(err)
			return
		}
		m.Begin("syncing the archive", 0)
		err = errors.Join(w.Close(), out.Close())
	})
	return w.Sent(), err
}
