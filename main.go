// Command hb backs up a running MySQL or MariaDB server physically, as a Unix
// filter: see README.md.
//
// This file is the command grammar, and the one place where errors become
// messages and exit codes. Only it uses package terminal: no other package
// prints, and none exits.
package main

//go:generate go test -count=1 -run ^TestGenerated$ . -update

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"hb/sink"
	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/sink/extract"
	"hb/sink/listing"
	"hb/sink/merge"
	"hb/sink/mergedir"
	"hb/sink/verify"
	"hb/source"
	"hb/source/binlog"
	"hb/source/check"
	"hb/source/datadir"
	"hb/source/infofile"
	"hb/source/mysqld"
	"hb/source/mysqld/identity"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/login"
	"hb/source/mysqld/position"
	"hb/source/pages"
	"hb/source/redo"
	"hb/source/settings"
	"hb/source/since"
	"hb/source/stage"
	"hb/source/subject"
	"hb/stream"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/stream/stdout"
	"hb/stream/terminal"
	"hb/stream/terminal/tty"
	"hb/stream/terminal/usage"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mariadbredo"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/metadata"
)

// cli is the grammar of the command line.
type cli struct {
	Backup  backupCmd  `cmd:"" help:"Back up a running server; the archive goes to standard output."`
	Check   checkCmd   `cmd:"" help:"Check whether a backup with these options would succeed, without taking one."`
	Extract extractCmd `cmd:"" help:"Extract an archive into a directory."`
	Apply   applyCmd   `cmd:"" help:"Replay the redo log of an extracted backup, so that a server can start on it."`
	Verify  verifyCmd  `cmd:"" help:"Check a backup, an archive or a directory, without writing anything."`
	List    listCmd    `cmd:"" help:"List the files of an archive."`
	Merge   mergeCmd   `cmd:"" help:"Make one full backup of a full one and the incremental ones that build on it; the archive goes to standard output."`
	usage.Commands

	Quiet     bool              `short:"q" help:"Print only warnings and errors."`
	LogFormat string            `help:"Format of messages: text, or json with one object per line." enum:"text,json" default:"text" placeholder:"text|json"`
	Help      usage.HelpFlag    `help:"Show help."`
	Version   usage.VersionFlag `help:"Show the version of hb."`

	settings.Files `embed:"" group:"Option files"`
}

// BeforeResolve reads the option files. Commands about hb itself do without.
func (c *cli) BeforeResolve(ctx *kong.Context, s *settings.Settings) error {
	if usage.Tells(ctx.Selected()) {
		return nil
	}
	return s.Load(ctx)
}

type backupCmd struct{ source.Flags }

// subject is the object that a command works on, for programs; so below.
func (c *backupCmd) subject() []slog.Attr { return nil }

func (c *backupCmd) Run(ctx context.Context, t *terminal.Console, s *settings.Settings) error {
	if err := source.CheckSystem(runtime.GOOS); err != nil {
		return err
	}
	if c.Estimate {
		return c.estimate(ctx, t, s.Env)
	}
	info, err := infofile.Create(c.InfoFile, os.Stdout, terminal.MaskedCommand(os.Args), version())
	if err != nil {
		return err
	}
	err = c.run(ctx, t, s.Env, info)
	why, code := explain(ctx, err)
	return info.End(err, code, why)
}

func (c *backupCmd) run(ctx context.Context, t *terminal.Console, env login.Env, info *infofile.File) error {
	if err := checkOutput(); err != nil {
		return err
	}
	stages, err := c.Prepare()
	if err != nil {
		return err
	}
	c.Tool, c.ToolVersion, c.Command = "hb", version(), terminal.MaskedCommand(os.Args)
	c.Progress, c.Warn = new(progress.Tracker), func(text string) { t.Warn(text); info.Warn(text) }
	manifest, err := infofile.CreateManifest(c.ManifestOut, os.Stdout)
	if err != nil {
		return err
	}
	if manifest != nil {
		c.Manifest = manifest
	}
	srv, err := c.Connect(ctx, env, c.Warn)
	if err != nil {
		return manifest.End(err)
	}
	info.Note(func(i *infofile.Info) { i.Server, i.Options = srv.String(), c.Stored })
	return errors.Join(c.backup(ctx, t, srv, stages, info, manifest), srv.Close())
}

// checkOutput refuses a standard output that cannot take an archive.
func checkOutput() error {
	if tty.IsTerminal(os.Stdout) {
		return usageError("standard output is a terminal: send the archive into a file or a pipe, such as hb backup | ssh host \"hb extract -C dir\"")
	}
	if tty.IsClosed(os.Stdout) {
		return usageError("standard output is closed, so that the archive would be lost: send it into a file or a pipe")
	}
	return nil
}

func (c *backupCmd) backup(ctx context.Context, t *terminal.Console, srv *mysqld.Server, stages stream.WriteOptions, info *infofile.File, manifest *infofile.Manifest) error {
	out, err := stdout.New(os.Stdout)
	if err != nil {
		return manifest.End(err)
	}
	w, err := stream.Create(out, stages)
	if err != nil {
		return manifest.End(err)
	}
	defer context.AfterFunc(ctx, w.Interrupt)()
	var result *source.Result
	t.During(c.Progress, func() {
		if result, err = source.Run(ctx, srv, w, c.Options); err != nil {
			w.Abort(err)
			return
		}
		c.Progress.Begin("syncing the archive", 0)
		err = errors.Join(w.Close(), out.Close())
	})
	info.Note(func(i *infofile.Info) {
		if i.Bytes, i.Locks = w.Sent(), result.Locks; err != nil {
			i.Phase = c.Progress.State().Name
		} else {
			i.ArchiveBytes, i.Manifest = result.Bytes, &result.Manifest
		}
	})
	if err := manifest.End(err); err != nil {
		return err
	}
	t.Done(result.Describe(w.Sent(), t.Took()), append(result.Facts(), slog.Int64("bytes", w.Sent()))...)
	return nil
}

// estimate reports how large the archive would become. Standard output gets one
// number, for a shell's $(...).
func (c *backupCmd) estimate(ctx context.Context, t *terminal.Console, env login.Env) error {
	stages, err := c.Prepare()
	if err != nil {
		return err
	}
	srv, err := c.Connect(ctx, env, t.Warn)
	if err != nil {
		return err
	}
	e, err := check.EstimateSize(ctx, srv, c.Options, stages)
	if err := errors.Join(err, srv.Close()); err != nil {
		return err
	}
	t.Done(e.Describe(), e.Facts()...)
	_, err = fmt.Println(e.Expected())
	return err
}

type checkCmd struct {
	source.Flags
	RateInterval time.Duration `help:"How long to measure the redo write rate (default 5)." default:"5" placeholder:"SECONDS"`
	Grants       bool          `help:"Print only the GRANT statements that the account still needs, for the server's client to run."`
}

func (c *checkCmd) subject() []slog.Attr { return nil }

func (c *checkCmd) Run(ctx context.Context, t *terminal.Console, s *settings.Settings) error {
	if err := source.CheckSystem(runtime.GOOS); err != nil {
		return err
	}
	if c.Grants {
		return c.printGrants(ctx, t, s.Env)
	}
	report, written := t.Report(os.Stdout), error(nil)
	err := check.Run(ctx, &c.Flags, s.Env, c.RateInterval, func(f check.Finding) {
		if f.Err != nil {
			f.Facts = append(f.Facts, slog.Int("exit_code", exitStatus(f.Err)))
		}
		written = report.Add(f.Level(), f.Check, f.Text, f.Facts...)
	})
	return cmp.Or(written, err)
}

// printGrants prints statements and nothing else: they are meant to be run.
func (c *checkCmd) printGrants(ctx context.Context, t *terminal.Console, env login.Env) error {
	srv, err := c.Connect(ctx, env, t.Warn)
	if err != nil {
		return err
	}
	grants, err := check.MissingGrants(ctx, srv, c.Options)
	if err := errors.Join(err, srv.Close()); err != nil {
		return err
	}
	for _, statement := range grants {
		if _, err := fmt.Println(statement); err != nil {
			return err
		}
	}
	return nil
}

// readMemory is the size of the heap, in bytes, beyond which garbage is collected
// more often while an archive is read. The memory in use does not reach it, except
// for archives of some million files.
const readMemory = 148 << 20

// open opens the archive, for parts of it by its index, if that can be.
func open(ctx context.Context, f *stream.ReadFlags, phase *progress.Phase, parts bool) (*stream.Input, error) {
	if err := beginReading(f); err != nil {
		return nil, err
	}
	if parts {
		return f.OpenParts(ctx, phase, tty.AskSecret)
	}
	return f.Open(ctx, phase, tty.AskSecret)
}

// beginReading prepares for reading an archive.
func beginReading(f *stream.ReadFlags) error {
	if f.Stdin() && tty.IsTerminal(os.Stdin) {
		return usageError("standard input is a terminal: give the archive through a pipe or name a file")
	}
	debug.SetMemoryLimit(readMemory)
	return nil
}

// openChain opens a full backup and the increments that build on it.
func openChain(ctx context.Context, t *terminal.Console, f stream.ReadFlags, increments []string, tmpdir string, phase *progress.Phase) (*merge.Archives, error) {
	for _, name := range append([]string{f.Archive}, increments...) {
		if err := beginReading(f.Of(name)); err != nil {
			return nil, err
		}
	}
	chain, err := merge.Open(ctx, f, increments, tmpdir, phase, tty.AskSecret)
	if err == nil {
		warn(t, chain.Warnings())
	}
	return chain, err
}

// chained calls read with the full backup that a chain makes.
func chained(ctx context.Context, t *terminal.Console, chain *merge.Archives, m *progress.Tracker, read func(io.Reader) error) error {
	var err error
	t.During(m, func() {
		merged := chain.Stream(ctx, merge.Options{HBVersion: version()})
		err = merged.Wait(read(merged))
	})
	return errors.Join(err, chain.Close())
}

type extractCmd struct {
	stream.ReadFlags
	merge.Flags
	sink.Options
	Tmpdir string `help:"Directory for an increment that cannot be read anywhere, such as standard input (default: TMPDIR or /tmp)." placeholder:"DIR" type:"path"`
}

func (c *extractCmd) subject() []slog.Attr {
	facts := append(c.ReadFlags.Facts(), c.Flags.Facts()...)
	if c.Check(c.Name()) != nil {
		return facts // Run reports what is wrong
	}
	return append(facts, slog.String("directory", c.Directory))
}

func (c *extractCmd) Run(ctx context.Context, t *terminal.Console) error {
	if err := c.Check(c.Name()); err != nil {
		return err
	}
	phase := progress.NewPhase("extracting", 0)
	c.Tool, c.Progress = tool(), new(progress.Tracker)
	if len(c.Increments) > 0 {
		return c.merged(ctx, t, phase)
	}
	if c.InPlace {
		if err := sink.CheckInPlace(ctx, &c.ReadFlags); err != nil {
			return err
		}
	}
	r, err := open(ctx, &c.ReadFlags, phase, len(c.Files) > 0)
	if err != nil {
		return err
	}
	c.Parts = r.Parts
	c.Progress.Enter(phase)
	var extracted *extract.Result
	var applied *apply.Result
	t.During(c.Progress, func() { extracted, applied, err = sink.Run(ctx, r, c.Options) })
	return c.report(t, extracted, applied, r.BytesRead(), errors.Join(err, r.Close()))
}

// merged extracts what a chain makes.
func (c *extractCmd) merged(ctx context.Context, t *terminal.Console, phase *progress.Phase) error {
	chain, err := openChain(ctx, t, c.ReadFlags, c.Increments, c.Tmpdir, phase)
	if none, ok := errors.AsType[*merge.NoIncrementError](err); ok {
		return usageError(fmt.Sprintf("%v; to extract chosen files only, use --files %s", none, filepath.Base(none.Name)))
	}
	if err != nil {
		return err
	}
	c.Progress.Enter(phase)
	var extracted *extract.Result
	var applied *apply.Result
	err = chained(ctx, t, chain, c.Progress, func(r io.Reader) (err error) {
		extracted, applied, err = sink.Run(ctx, r, c.Options)
		return err
	})
	return c.report(t, extracted, applied, chain.BytesRead(), err)
}

// report tells what became of the directory.
func (c *extractCmd) report(t *terminal.Console, extracted *extract.Result, applied *apply.Result, read int64, err error) error {
	if extracted == nil || err != nil && !c.Apply {
		return err
	}
	warn(t, extracted.Warnings)
	extracted.Read = read
	text := extracted.Describe(c.Directory, t.Took(), applied != nil)
	if applied == nil {
		t.Done(text, append(extracted.Facts(), slog.Int64("bytes_read", extracted.Read))...)
		return err
	}
	t.Extracted(text, extracted.Facts()...)
	warn(t, applied.Warnings)
	t.Done(applied.Describe(c.Directory, t.Took()), append(extracted.Size(), applied.Facts()...)...)
	return err
}

type applyCmd struct {
	Directory string `arg:"" help:"Directory of an extracted backup." type:"path"`
	Merge     string `help:"First put the incremental backup of mariadb-backup in this directory onto the backup, which was applied before." placeholder:"DIR" type:"path"`
	apply.Options
}

func (c *applyCmd) subject() []slog.Attr { return []slog.Attr{slog.String("directory", c.Directory)} }

func (c *applyCmd) Run(ctx context.Context, t *terminal.Console) error {
	c.Tool, c.Progress = tool(), new(progress.Tracker)
	if c.Merge != "" {
		var merged *mergedir.Result
		var err error
		t.During(c.Progress, func() { merged, err = mergedir.Run(ctx, c.Directory, c.Merge, mergedir.Options{Progress: c.Progress}) })
		if err != nil {
			return err
		}
		warn(t, merged.Warnings)
	}
	var result *apply.Result
	var err error
	t.During(c.Progress, func() { result, err = apply.Run(ctx, c.Directory, c.Options) })
	if err != nil {
		return err
	}
	warn(t, result.Warnings)
	t.Done(result.Describe(c.Directory, t.Took()), result.Facts()...)
	return nil
}

type verifyCmd struct {
	stream.ReadFlags
	merge.Flags
	verify.Options
}

func (c *verifyCmd) subject() []slog.Attr {
	if c.isDirectory() {
		return []slog.Attr{slog.String("directory", c.Archive)}
	}
	return append(c.ReadFlags.Facts(), c.Flags.Facts()...)
}

// isDirectory reports whether verify gets a directory, not an archive.
func (c *verifyCmd) isDirectory() bool {
	st, err := os.Stat(c.Archive)
	return err == nil && st.IsDir()
}

func (c *verifyCmd) Run(ctx context.Context, t *terminal.Console) error {
	result, err := c.verify(ctx, t)
	if err != nil {
		return err
	}
	warn(t, result.Warnings)
	t.Done(result.Describe(t.Took()), result.Facts()...)
	return nil
}

func (c *verifyCmd) verify(ctx context.Context, t *terminal.Console) (result *verify.Result, err error) {
	c.Progress = new(progress.Tracker)
	if len(c.Increments) > 0 {
		return c.chain(ctx, t)
	}
	if c.isDirectory() {
		t.During(c.Progress, func() { result, err = verify.Directory(ctx, c.Archive, c.Options) })
		return result, err
	}
	phase := progress.NewPhase("verifying", 0)
	r, err := open(ctx, &c.ReadFlags, phase, false)
	if err != nil {
		return nil, err
	}
	if c.Replay {
		c.At = r.Anywhere()
	}
	c.Progress.Enter(phase)
	t.During(c.Progress, func() { result, err = verify.Archive(ctx, r, c.Options) })
	return result, errors.Join(err, r.Close())
}

// chain verifies what a chain makes.
func (c *verifyCmd) chain(ctx context.Context, t *terminal.Console) (result *verify.Result, err error) {
	phase := progress.NewPhase("verifying", 0)
	chain, err := openChain(ctx, t, c.ReadFlags, c.Increments, c.Tmpdir, phase)
	if err != nil {
		return nil, err
	}
	c.Progress.Enter(phase)
	err = chained(ctx, t, chain, c.Progress, func(r io.Reader) (err error) {
		result, err = verify.Archive(ctx, r, c.Options)
		return err
	})
	return result, err
}

type mergeCmd struct {
	stream.ReadFlags
	merge.Flags
	stream.WriteFlags
	Tmpdir string `help:"Directory for an increment that cannot be read anywhere, such as standard input (default: TMPDIR or /tmp)." placeholder:"DIR" type:"path"`
}

func (c *mergeCmd) subject() []slog.Attr { return append(c.ReadFlags.Facts(), c.Flags.Facts()...) }

func (c *mergeCmd) Run(ctx context.Context, t *terminal.Console) error {
	if err := checkOutput(); err != nil {
		return err
	}
	stages, err := c.WriteFlags.Options()
	if err != nil {
		return err
	}
	phase, m := progress.NewPhase("merging", 0), new(progress.Tracker)
	chain, err := openChain(ctx, t, c.ReadFlags, c.Increments, c.Tmpdir, phase)
	if err != nil {
		return err
	}
	m.Enter(phase)
	return errors.Join(c.merge(ctx, t, m, chain, stages), chain.Close())
}

// merge writes the archive. Until the chain is known to be one, nothing is written.
func (c *mergeCmd) merge(ctx context.Context, t *terminal.Console, m *progress.Tracker, chain *merge.Archives, stages stream.WriteOptions) error {
	out, err := stdout.New(os.Stdout)
	if err != nil {
		return err
	}
	w, err := stream.Create(out, stages)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, w.Interrupt)()
	var result *merge.Result
	t.During(m, func() {
		stored := metadata.ArchiveFlags{Compressed: stages.Compress != nil, Encrypted: len(stages.Recipients) > 0}
		if result, err = chain.Run(ctx, w, merge.Options{HBVersion: version(), Stored: stored}); err != nil {
			w.Abort(err)
			return
		}
		m.Begin("syncing the archive", 0)
		err = errors.Join(w.Close(), out.Close())
	})
	if err != nil {
		return err
	}
	warn(t, result.Manifest.Warnings)
	t.Done(result.Describe(t.Took()), append(result.Facts(), slog.Int64("bytes", w.Sent()), slog.Int64("bytes_read", chain.BytesRead()))...)
	return nil
}

type listCmd struct {
	stream.ReadFlags
	listing.Options
}

func (c *listCmd) subject() []slog.Attr { return c.Facts() }

func (c *listCmd) Run(ctx context.Context, t *terminal.Console) error {
	if c.Manifest {
		return c.writeManifest(ctx, t)
	}
	list, err := listing.New(c.Options)
	if err != nil {
		return err
	}
	r, err := open(ctx, &c.ReadFlags, nil, true)
	if err != nil {
		return err
	}
	result, err := catalog.ListInput(ctx, r, list.Add)
	out := bufio.NewWriter(os.Stdout)
	if err := errors.Join(err, list.Write(out, result), out.Flush(), r.Close()); err != nil {
		return err
	}
	warn(t, result.Warnings)
	t.Done(result.Describe(), append(result.Facts(), slog.Int64("bytes_read", r.BytesRead()))...)
	return nil
}

// writeManifest writes what hb backup --since needs of the archive.
func (c *listCmd) writeManifest(ctx context.Context, t *terminal.Console) error {
	if err := c.CheckManifest(); err != nil {
		return err
	}
	r, err := open(ctx, &c.ReadFlags, nil, true)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	result, err := catalog.WriteManifest(ctx, r, out)
	if err := errors.Join(err, out.Flush(), r.Close()); err != nil {
		return err
	}
	t.Done(result.Describe(), append(result.Facts(), slog.Int64("bytes_read", r.BytesRead()))...)
	return nil
}

// warn prints the warnings that a result may have although it is good.
func warn(t *terminal.Console, warnings []string) {
	for _, w := range warnings {
		t.Warn(w)
	}
}

// usageError is a mistake in the command line.
func usageError(text string) error { return stream.AsUsage(errors.New(text)) }

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
	{exitUsage, of(as[*stream.UsageError], as[*usage.UnknownError], as[subject.InexactSourceError], as[*apply.BinlogPlaceError])},
	{3, of(as[*mysqld.ConnectError], as[*login.NoSocketError], as[*mysqld.MissingPrivilegesError], as[*identity.DatadirError], as[*subject.UnreadableError])},
	{4, of(as[*mysqld.UnsupportedError], as[*mysqld.UnsupportedFeatureError], as[*locks.PacketError], as[*pages.EncryptedError], as[*stage.BusyLogError], as[*datadir.NameError], as[*datadir.LinkError], as[*pages.DuplicateError], is(binlog.ErrEncrypted),
		as[*source.SystemError], as[*disk.NameError],
		as[*innodb.UnsupportedError], as[*mariadbredo.UnsupportedError], as[*mysqlredo.UnsupportedError], as[*mysqlredo.FlagsError], as[*metadata.VersionError])},
	{5, of(as[*redo.OverrunError], is(locks.ErrLost), is(mysqld.ErrConnectionLost), as[*locks.TimeoutError], as[*locks.OtherBackupError],
		as[*position.OpenTempTablesError], as[*source.LockBrokenError], as[*subject.BinlogError], as[*source.UnloggedError])},
	{exitReaderGone, of(stdout.IsBrokenPipe)},
	{6, of(as[*catalog.IncompleteError], as[*backupdir.MissingError], is(io.ErrUnexpectedEOF))},
	{7, of(as[*xbstream.CorruptError], as[*stream.DamageError], as[*stream.NotArchiveError], as[*backupdir.DamageError], as[*since.DamageError])},
	{8, of(as[*backupdir.TargetError], as[*backupdir.NotBackupError])},
	{10, of(as[*stream.EncryptedError])},
	{11, of(as[*merge.ChainError], as[*merge.MismatchError], as[*merge.DivergedError],
		as[*since.ServerError], as[*since.ReleaseError], as[*since.PageSizeError], as[*since.AheadError], as[*since.UnusableError], as[*since.DirectoryError])},
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
	warn(t, options.Env.Options.Warnings)
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
	if c, works := command.Target.Addr().Interface().(interface{ subject() []slog.Attr }); works {
		t.Begin(command.Name, append(c.subject(), slog.String("hb_version", version()), slog.Int("schema", usage.MessageSchema))...)
	}
}

func execute(parsed *kong.Context, t *terminal.Console) int {
	ctx, stop := terminal.Signals()
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(t)
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

// tool is hb with its version, as backups and recovered directories name it.
func tool() string { return usage.ReadBuild().String() }

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
