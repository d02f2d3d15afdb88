package usage

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/alecthomas/kong"

	"hb/stream/nearest"
	"hb/stream/terminal/usage/completion"
	"hb/stream/terminal/usage/grammar"
)

// Commands are the commands about the program itself. They write to the
// standard output of the grammar, and need an About bound to it.
type Commands struct {
	Help       helpCommand       `cmd:"" help:"Explain a command or a topic."`
	Completion completionCommand `cmd:"" help:"Write a shell's completion script."`
	Man        manCommand        `cmd:"" help:"Write a manual page, in roff."`
	Version    versionCommand    `cmd:"" help:"Tell version and commit, and which servers and formats are supported."`
}

// ErrTold means that a flag asked for some text, such as the version, and
// that it was: there is nothing more to do.
var ErrTold = errors.New("told")

// HelpFlag is --help without kong's short form -h, which is the host, as in the
// servers' own clients.
type HelpFlag bool

// BeforeReset prints the help of the command, or of hb, and returns ErrTold.
func (HelpFlag) BeforeReset(ctx *kong.Context) error {
	return cmp.Or(Print(ctx.Stdout, ctx.Model, cmp.Or(ctx.Selected(), ctx.Model.Node)), ErrTold)
}

// VersionFlag is --version.
type VersionFlag bool

// BeforeReset prints name and version of the program, and returns ErrTold.
func (VersionFlag) BeforeReset(ctx *kong.Context, about About) error {
	_, err := fmt.Fprintln(ctx.Stdout, about.Build)
	return cmp.Or(err, ErrTold)
}

// Tells reports whether a command is one of those. It needs no settings.
func Tells(n *kong.Node) bool {
	if n == nil {
		return false
	}
	_, ok := n.Target.Addr().Interface().(interface{ tells() })
	return ok
}

// An UnknownError says that a command or topic does not exist.
type UnknownError struct{ text string }

func (e *UnknownError) Error() string { return e.text }

type helpCommand struct {
	Topic string `arg:"" optional:"" help:"A command, or a topic (default: a list of both)." complete:"topics"`
}

func (*helpCommand) tells() {}

// Run prints the help.
func (c *helpCommand) Run(ctx *kong.Context) error {
	if c.Topic == "" {
		return Print(ctx.Stdout, ctx.Model, ctx.Model.Node)
	}
	if t, ok := topic(c.Topic); ok {
		return printTopic(ctx.Stdout, t)
	}
	if command, ok := find(ctx.Model, c.Topic); ok {
		return Print(ctx.Stdout, ctx.Model, command.Node)
	}
	names := append(grammar.Names(ctx.Model), topicNames()...)
	return &UnknownError{fmt.Sprintf("there is no help on %q%s", c.Topic, didYouMean(nearest.To(c.Topic, names)))}
}

type completionCommand struct {
	Shell string `arg:"" help:"bash, zsh or fish." enum:"bash,zsh,fish"`
}

func (*completionCommand) tells() {}

// Run prints the script.
func (c *completionCommand) Run(ctx *kong.Context) error {
	_, err := io.WriteString(ctx.Stdout, completion.Script(ctx.Model, c.Shell, topicNames()))
	return err
}

type manCommand struct {
	Command string `arg:"" optional:"" help:"The command that the page is about (default: all of them)." complete:"commands"`
}

func (*manCommand) tells() {}

// Run prints the page.
func (c *manCommand) Run(ctx *kong.Context, about About) error {
	if c.Command == "" {
		_, err := io.WriteString(ctx.Stdout, manual(ctx.Model, about.Build))
		return err
	}
	command, ok := find(ctx.Model, c.Command)
	if !ok {
		return &UnknownError{fmt.Sprintf("there is no command %q%s", c.Command, didYouMean(nearest.To(c.Command, grammar.Names(ctx.Model))))}
	}
	_, err := io.WriteString(ctx.Stdout, manualOf(ctx.Model, command, about.Build))
	return err
}

type versionCommand struct{}

func (*versionCommand) tells() {}

// Run prints it.
func (*versionCommand) Run(ctx *kong.Context, about About) error {
	_, err := io.WriteString(ctx.Stdout, about.String())
	return err
}
