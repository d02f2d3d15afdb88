// Command hb backs up a running MySQL or MariaDB server physically, as a Unix
// filter: see README.md.
//
// This file is the command grammar, and the one place where errors become
// messages and exit codes. The commands are in packages sourcecmd and sinkcmd, which
// get what they need of the process as a program.Program. Only this file uses package
// terminal: no other package prints, and none exits.
package main

//go:generate go test -count=1 -run ^TestGenerated$ . -update

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/alecthomas/kong"

	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/sink/export"
	"hb/sink/export/committed"
	"hb/sink/merge"
	"hb/sink/restore"
	"hb/sink/sinkcmd"
	"hb/sink/tables"
	"hb/sink/verify"
	"hb/source"
	"hb/source/binlog"
	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/identity"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/login"
	"hb/source/mysqld/position"
	"hb/source/pages"
	"hb/source/redo"
	"hb/source/scope"
	"hb/source/settings"
	"hb/source/since"
	"hb/source/sourcecmd"
	"hb/source/stage"
	"hb/source/subject"
	"hb/stream"
	"hb/stream/disk"
	"hb/stream/program"
	"hb/stream/stdout"
	"hb/stream/terminal"
	"hb/stream/terminal/tty"
	"hb/stream/terminal/usage"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// cli is the grammar of the command line.
type cli struct {
	Backup  sourcecmd.Backup `cmd:"" help:"Back up a running server; the archive goes to standard output."`
	Check   sourcecmd.Check  `cmd:"" help:"Check whether a backup with these options would succeed, without taking one."`
	Extract extractCommand   `cmd:"" help:"Extract an archive into a directory."`
	Apply   sinkcmd.Apply    `cmd:"" help:"Replay the redo log of an extracted backup, so that a server can start on it."`
	Verify  sinkcmd.Verify   `cmd:"" help:"Check a backup, an archive or a directory, without writing anything."`
	List    sinkcmd.List     `cmd:"" help:"List the files of an archive."`
	Merge   sinkcmd.Merge    `cmd:"" help:"Make one full backup of a full one and the incremental ones that build on it; the archive goes to standard output."`
	usage.Commands

	Quiet     bool              `short:"q" help:"Print only warnings and errors."`
	LogFormat string            `help:"Format of messages: text, or json with one object per line." enum:"text,json" default:"text" placeholder:"text|json"`
	Help      usage.HelpFlag    `help:"Show help."`
	Version   usage.VersionFlag `help:"Show the version of hb."`

	settings.Files `embed:"" group:"Option files"`
}

// extractCommand is hb extract with the way to the server that it imports tables into: the two
// halves of hb know nothing of each other.
type extractCommand struct {
	sinkcmd.Extract `embed:""`
	Connection      login.Flags `embed:"" group:"Connection, for --into"`
}

// Run extracts.
func (c *extractCommand) Run(ctx context.Context, p *program.Program, s *settings.Settings) error {
	c.Connect = func(ctx context.Context, warn func(string)) (sinkcmd.Target, error) {
		f := subject.Flags{}
		f.Connection = c.Connection
		srv, err := f.Connect(ctx, s.Env, warn)
		if err != nil {
			return nil, err
		}
		if _, err := identity.Prove(ctx, srv, identity.Files{Datadir: srv.Vars.Datadir()}); err != nil {
			return nil, errors.Join(err, srv.Close())
		}
		return importTarget{srv}, nil
	}
	return c.Extract.Run(ctx, p)
}

// importTarget is a server as package sinkcmd needs it.
type importTarget struct{ *mysqld.Server }

func (t importTarget) Open(ctx context.Context) (restore.Connection, error) {
	c, err := t.Server.Open(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// BeforeResolve reads the option files. Commands about hb itself do without.
func (c *cli) BeforeResolve(ctx *kong.Context, s *settings.Settings) error {
	if usage.Tells(ctx.Selected()) {
		return nil
	}
	return s.Load(ctx)
}

// exitCode is one exit code of errors. Its meaning to the user is in package usage.
type exitCode struct {
	code int
	of   []func(error) bool // any of these
}

// Exit codes that more than the table needs.
const (
	exitUsage      = 2 // mistakes in the command line
	exitReaderGone = 9 // of standard output
)

// exitCodes maps errors to exit codes; the first line that matches counts, and
// what matches none is 1.
var exitCodes = []exitCode{
	{130, of(is(terminal.ErrInterrupted))},
	{exitUsage, of(as[*stream.UsageError], as[*usage.UnknownError], as[*keyring.FlagError], as[subject.InexactSourceError], as[*apply.BinlogPlaceError], isMistake, as[*tables.NotFoundError], as[*tables.RenamedError])},
	{3, of(as[*mysqld.ConnectError], as[*login.NoSocketError], as[*mysqld.MissingPrivilegesError], as[*identity.DatadirError], as[*subject.UnreadableError])},
	{4, of(as[*mysqld.UnsupportedError], as[*mysqld.UnsupportedFeatureError], as[*locks.PacketError], as[*pages.EncryptedError], as[*stage.BusyLogError], as[*datadir.NameError], as[*datadir.LinkError], as[*pages.DuplicateError], is(binlog.ErrEncrypted),
		as[*source.SystemError], as[*disk.NameError], as[*export.RefusedError], as[*export.LackingError], as[*tables.RefusedError],
		as[*innodb.UnsupportedError], as[*mariadbredo.UnsupportedError], as[*mysqlredo.UnsupportedError], as[*mysqlredo.FlagsError], as[*metadata.VersionError])},
	{5, of(as[*redo.OverrunError], is(locks.ErrLost), is(mysqld.ErrConnectionLost), as[*locks.TimeoutError], as[*locks.OtherBackupError],
		as[*position.OpenTempTablesError], as[*source.LockBrokenError], as[*source.LostCopyError], as[*subject.BinlogError], as[*source.UnloggedError], as[*source.UnloggedInstanceError], as[*scope.NameError])},
	{exitReaderGone, of(stdout.IsBrokenPipe)},
	{6, of(as[*catalog.IncompleteError], as[*backupdir.MissingError], is(io.ErrUnexpectedEOF))},
	{7, of(as[*xbstream.CorruptError], as[*stream.DamageError], as[*stream.NotArchiveError], as[*backupdir.DamageError], as[*since.DamageError])},
	{8, of(as[*backupdir.TargetError], as[*backupdir.NotBackupError], as[*restore.TargetServerError])},
	{10, of(as[*stream.EncryptedError], as[*keyring.MissingKeyError], as[*keyring.WrongKeyError], as[*keyring.CommandError])},
	{11, of(as[*merge.ChainError], as[*merge.MismatchError], as[*merge.DivergedError],
		as[*since.ServerError], as[*since.ReleaseError], as[*since.PageSizeError], as[*since.AheadError], as[*since.UnusableError], as[*since.ScopeError], as[*since.DirectoryError])},
	{12, of(as[*verify.PartialError])},
	{13, of(as[*committed.PendingError], as[*committed.ServerError])},
}

// isMistake is for the names of databases and tables that the server never had.
func isMistake(err error) bool {
	e, ok := errors.AsType[*scope.NameError](err)
	return ok && !e.Gone
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func as[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func of(errors ...func(error) bool) []func(error) bool { return errors }

// exitStatus chooses the exit code of an error.
func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	for _, e := range exitCodes {
		if slices.ContainsFunc(e.of, func(matches func(error) bool) bool { return matches(err) }) {
			return e.code
		}
	}
	return 1
}

func main() { os.Exit(run(terminal.Arguments(), os.Stderr)) }

// run is the whole program, except for the process's exit.
func run(args []string, stderr io.Writer) int {
	// A reader that went away is an error to report, not a signal to die of.
	signal.Ignore(syscall.SIGPIPE)
	var c cli
	options := settings.New(environment())
	parser := grammar(&c, options, stderr)
	t := terminal.New(stderr, terminal.Questions())
	parsed, err := parser.Parse(usage.ShortHelp(terminal.PasswordFlags(args)))
	switch {
	case errors.Is(err, usage.ErrTold):
		return 0
	case stdout.IsBrokenPipe(err): // of --help or --version
		return exitReaderGone
	}
	t.Set(c.Quiet, c.LogFormat == formatJSON || err != nil && options.Peek(args, "log-format") == formatJSON)
	if err != nil {
		t.End(terminal.WithoutPasswords(usage.Mistake(parser.Model, err), args), exitUsage)
		return exitUsage
	}
	if !c.PrintDefaults {
		begin(t, parsed.Selected())
	}
	for _, w := range options.Env.Options.Warnings {
		t.Warn(w)
	}
	if c.PrintDefaults {
		return ended(context.Background(), t, options.Print(os.Stdout, parsed), false)
	}
	return execute(parsed, t)
}

// formatJSON is the value of --log-format for programs.
const formatJSON = "json"

// grammar is the parser of the command line.
func grammar(c *cli, options *settings.Settings, stderr io.Writer) *kong.Kong {
	parser, err := kong.New(c, append(settings.Types(), kong.Name("hb"),
		kong.Description("Hot physical backup of MySQL and MariaDB, as a Unix filter."),
		kong.NoDefaultHelp(), kong.Writers(os.Stdout, stderr), kong.Bind(options, about()), kong.Resolvers(options))...)
	if err != nil {
		panic(err) // the grammar itself is wrong
	}
	return parser
}

// begin reports to programs what a command begins to work on, if it does.
func begin(t *terminal.Console, command *kong.Node) {
	if c, works := command.Target.Addr().Interface().(program.Command); works {
		t.Begin(command.Name, append(c.Subject(), slog.String("hb_version", version()), slog.Int("schema", usage.MessageSchema))...)
	}
}

func execute(parsed *kong.Context, t *terminal.Console) int {
	ctx, stop := terminal.Signals()
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(&program.Program{
		Console: t, Stdout: os.Stdout, Find: t.Report(os.Stdout).Add, Ask: tty.AskSecret,
		StdinTerminal: tty.IsTerminal(os.Stdin), StdoutTerminal: tty.IsTerminal(os.Stdout), StdoutClosed: tty.IsClosed(os.Stdout),
		Version: version(), Tool: usage.ReadBuild().String(), Line: terminal.MaskedCommand(os.Args),
		ExitCode: exitStatus, Explain: explain,
	})
	command := parsed.Selected().Name
	return ended(ctx, t, parsed.Run(), command == "backup" || command == "merge")
}

// ended prints an error and returns its exit code. If the reader of standard output
// went away, it prints that only where an archive is lost: head and the like go when
// they have enough.
func ended(ctx context.Context, t *terminal.Console, err error, archive bool) int {
	text, code := explain(ctx, err)
	if code == exitReaderGone && !archive {
		text = ""
	}
	t.End(text, code)
	return code
}

// explain returns why a command failed, and its exit code.
func explain(ctx context.Context, err error) (text string, code int) {
	if err == nil {
		return "", 0
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	text = terminal.Causes(err)
	if disk.IsFull(err) {
		text += "\nmake room and start again"
	}
	return text, exitStatus(err)
}

// environment is the process's environment, with the terminal to ask for a
// password.
func environment() login.Env {
	env := login.OSEnv()
	env.AskPassword = func(prompt string) (login.Secret, error) {
		s, err := tty.AskSecret(prompt)
		return login.NewSecret(s), err
	}
	return env
}

// version is the module's version as the build recorded it.
func version() string { return usage.ReadBuild().Version }

// about is the text of hb version.
func about() usage.About {
	return usage.About{Build: usage.ReadBuild(), Facts: []usage.Fact{
		{Name: "servers", Value: mysqld.Supported},
		{Name: "redo logs", Value: fmt.Sprintf("MySQL up to format %d (%v and later), %v, %v", mysqlredo.LastFormat, mysqlredo.LastFormat, mariadbredo.Format105, mariadbredo.Format108)},
		{Name: "archives", Value: fmt.Sprintf("xbstream and mbstream, hb-archive.json up to version %d; zstd, age", metadata.LastArchiveVersion)},
	}}
}
