// Command hb backs up a running MySQL or MariaDB server physically, as a Unix
// filter: see README.md.
//
// This file is the command grammar, and the one place where errors become
// messages and exit codes. It alone uses package terminal: no other package
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
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"hb/sink"
	"hb/sink/apply"
	"hb/sink/backupdir"
	"hb/sink/catalog"
	"hb/sink/extract"
	"hb/sink/verify"
	"hb/source"
	"hb/source/binlog"
	"hb/source/datadir"
	"hb/source/infofile"
	"hb/source/mysqld"
	"hb/source/pages"
	"hb/source/redo"
	"hb/source/settings"
	"hb/source/stage"
	"hb/stream"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/stream/terminal"
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
	usage.Commands

	Quiet     bool              `help:"Print only warnings and errors."`
	LogFormat string            `help:"Format of messages: text, or json with one object per line." enum:"text,json" default:"text" placeholder:"text|json"`
	Help      usage.HelpFlag    `help:"Show help."`
	Version   usage.VersionFlag `help:"Show the version of hb."`

	settings.Files `embed:"" group:"Option files"`
}

// BeforeResolve reads the option files. What tells of hb itself does without.
func (c *cli) BeforeResolve(ctx *kong.Context, s *settings.Settings) error {
	if usage.Tells(ctx.Selected()) {
		return nil
	}
	return s.Load(ctx)
}

// backupFlags say what is backed up, and how.
type backupFlags struct {
	Connection mysqld.Flags `embed:"" group:"Connection"`
	source.Options
	InfoFile string            `help:"Keep the status of the backup in this file, as JSON: running, complete or failed." placeholder:"FILE" type:"path"`
	Estimate bool              `help:"Estimate the size of the archive without taking a backup. Prints a number for aws s3 cp --expected-size."`
	Stages   stream.WriteFlags `embed:"" group:"Stages"`
}

// maxDefaultParallel bounds the readers that are started without being asked
// for: more do not help a pipe.
const maxDefaultParallel = 8

type backupCmd struct{ backupFlags }

func (c *backupCmd) Run(ctx context.Context, t *terminal.Console, s *settings.Settings) error {
	if err := source.CheckSystem(runtime.GOOS); err != nil {
		return err
	}
	if c.Estimate {
		return c.estimate(ctx, t, s.Env)
	}
	info, err := infofile.Create(c.InfoFile, os.Stdout, terminal.MaskedCommand(os.Args), version())
	if err != nil {
		return usageError{err.Error()}
	}
	if err := c.run(ctx, t, s.Env, info); err != nil {
		why, code := explain(ctx, err)
		return errors.Join(err, info.Failed(code, why))
	}
	if err := info.Complete(); err != nil {
		return fmt.Errorf("the archive is complete, but %w", err)
	}
	return nil
}

func (c *backupCmd) run(ctx context.Context, t *terminal.Console, env mysqld.Env, info *infofile.File) error {
	if terminal.IsTerminal(os.Stdout) {
		return usageError{"standard output is a terminal: send the archive into a file or a pipe, such as hb backup | ssh host \"hb extract -C dir\""}
	}
	if terminal.IsClosed(os.Stdout) {
		return usageError{"standard output is closed, so that the archive would be lost: send it into a file or a pipe"}
	}
	write, options, err := c.prepare(env)
	if err != nil {
		return err
	}
	warn := func(text string) { t.Warn(text); info.Warn(text) }
	srv, err := connect(ctx, warn, options)
	if err != nil {
		return err
	}
	o := c.options(write)
	o.Progress, o.Warn = new(progress.Tracker), warn
	info.Note(func(i *infofile.Info) {
		i.Server, i.Options = srv.Flavor.String()+" "+srv.Version.Full, metadata.ArchiveFlags{Compressed: o.Compressed, Encrypted: o.Encrypted}
	})
	err = c.backup(ctx, t, srv, write, o, info)
	return errors.Join(err, srv.Close())
}

// prepare reads what the flags say of the archive and of the connection.
func (c *backupFlags) prepare(env mysqld.Env) (w stream.WriteOptions, o mysqld.Options, err error) {
	if err := checkTmpdir(&c.Tmpdir); err != nil {
		return w, o, err
	}
	if w, err = c.Stages.Options(); err != nil {
		return w, o, err
	}
	o, err = c.resolve(env)
	return w, o, err
}

// resolve says how to connect. Where nothing says where the server is, and it is
// not where servers are, it does not run: that is no mistake.
func (c *backupFlags) resolve(env mysqld.Env) (mysqld.Options, error) {
	o, _, err := mysqld.Resolve(c.Connection, env)
	if err != nil && !as[*mysqld.NoSocketError](err) {
		err = usageError{err.Error()}
	}
	return o, err
}

// estimate says how large the archive would become. Standard output gets one
// number, for a shell's $(...).
func (c *backupCmd) estimate(ctx context.Context, t *terminal.Console, env mysqld.Env) error {
	write, options, err := c.prepare(env)
	if err != nil {
		return err
	}
	srv, err := connect(ctx, t.Warn, options)
	if err != nil {
		return err
	}
	e, err := source.EstimateSize(ctx, srv, c.options(write), write)
	if err := errors.Join(err, srv.Close()); err != nil {
		return err
	}
	t.Say(e.Describe(), e.Facts()...)
	_, err = fmt.Println(e.Expected())
	return err
}

// checkTmpdir fills in where temporary files go, and makes sure that they can.
func checkTmpdir(dir *string) error {
	if *dir == "" {
		*dir = os.TempDir()
	}
	if err := disk.Access(*dir, disk.Writable|disk.Searchable); err != nil {
		return usageError{fmt.Sprintf("nothing can be spooled to %s: %v; give another place with --tmpdir", *dir, err)}
	}
	return nil
}

func (c *backupCmd) backup(ctx context.Context, t *terminal.Console, srv *mysqld.Server, write stream.WriteOptions, o source.Options, info *infofile.File) error {
	began := time.Now()
	out, err := stream.NewStdout(os.Stdout)
	if err != nil {
		return err
	}
	w, err := stream.Create(out, write)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, w.Interrupt)()
	var result *source.Result
	t.During(o.Progress, func() {
		if result, err = source.Run(ctx, srv, w, o); err != nil {
			w.Abort(err)
			return
		}
		o.Progress.Begin("syncing the archive", 0)
		err = errors.Join(w.Close(), out.Close())
	})
	info.Note(func(i *infofile.Info) { i.Bytes, i.Locks = w.Sent(), srv.LockTimes() })
	if err != nil {
		info.Note(func(i *infofile.Info) { i.Phase = o.Progress.State().Name })
		return err
	}
	info.Note(func(i *infofile.Info) { i.ArchiveBytes, i.Manifest = result.Bytes, &result.Manifest })
	took := took(began)
	t.Say(fmt.Sprintf("backup complete: %s in %s, %s/s\n%s", stream.Size(w.Sent()), took, stream.Rate(w.Sent(), took), result.Describe()),
		append(result.Facts(), slog.Int64("bytes", w.Sent()), seconds(took))...)
	return nil
}

// took is the time since a command began, as it is told.
func took(began time.Time) time.Duration { return time.Since(began).Round(time.Millisecond) }

// seconds is a time for programs.
func seconds(d time.Duration) slog.Attr { return slog.Float64("seconds", d.Seconds()) }

// options completes those of the command line.
func (c *backupFlags) options(write stream.WriteOptions) source.Options {
	o := c.Options
	if o.Parallel <= 0 {
		o.Parallel = min(runtime.GOMAXPROCS(0), maxDefaultParallel)
	}
	o.Tool, o.ToolVersion, o.Command = "hb", version(), terminal.MaskedCommand(os.Args)
	o.Compressed, o.Encrypted = write.Compress != nil, len(write.Recipients) > 0
	return o
}

type checkCmd struct {
	backupFlags
	RateInterval time.Duration `help:"How long to measure the redo write rate (default 5)." default:"5" placeholder:"SECONDS"`
	Grants       bool          `help:"Print only the GRANT statements that the account still needs, for the server's client to run."`
}

func (c *checkCmd) Run(ctx context.Context, t *terminal.Console, s *settings.Settings) error {
	if err := source.CheckSystem(runtime.GOOS); err != nil {
		return err
	}
	if c.Grants {
		return c.printGrants(ctx, t, s.Env)
	}
	v := verdict{report: t.Report(os.Stdout)}
	if err := errors.Join(c.check(ctx, s.Env, &v), v.written); err != nil {
		return err
	}
	return v.WouldFail()
}

// printGrants prints statements and nothing else: they are meant to be run.
func (c *checkCmd) printGrants(ctx context.Context, t *terminal.Console, env mysqld.Env) error {
	options, err := c.resolve(env)
	if err != nil {
		return err
	}
	srv, err := connect(ctx, t.Warn, options)
	if err != nil {
		return err
	}
	grants, err := source.MissingGrants(ctx, srv, c.options(stream.WriteOptions{}))
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

// connect connects, and warns of what the connection does not prove.
func connect(ctx context.Context, warn func(text string), o mysqld.Options) (*mysqld.Server, error) {
	if text := o.Unverified(); text != "" {
		warn(text)
	}
	return mysqld.Connect(ctx, o)
}

// check looks at everything that a backup would, in the same order.
func (c *checkCmd) check(ctx context.Context, env mysqld.Env, v *verdict) (err error) {
	if err := infofile.Check(c.InfoFile); err != nil {
		v.fail("options", usageError{err.Error()})
	}
	if err := checkTmpdir(&c.Tmpdir); err != nil {
		v.fail("options", err)
	}
	write, err := c.Stages.Options()
	if err != nil {
		v.fail("options", err)
	}
	options, err := c.resolve(env)
	if as[*mysqld.NoSocketError](err) {
		v.fail("connection", err)
		return nil
	}
	if err != nil {
		v.fail("options", err)
		return nil
	}
	srv, err := mysqld.Connect(ctx, options)
	if err != nil {
		v.fail("connection", err)
		return nil
	}
	defer func() { err = errors.Join(err, srv.Close()) }()
	connection := source.Finding{Check: "connection", Text: fmt.Sprint(options)}
	if text := options.Unverified(); text != "" {
		connection.Text += ": " + text
		connection.Warning = true
	}
	v.tell(connection)
	return source.Check(ctx, srv, c.options(write), c.RateInterval, v.tell)
}

// verdict reports findings, and remembers those with errors.
type verdict struct {
	source.Failures
	report  *terminal.Report
	written error // of the report
}

func (v *verdict) fail(check string, err error) {
	v.tell(source.Finding{Check: check, Text: err.Error(), Err: err})
}

func (v *verdict) tell(f source.Finding) {
	level := slog.LevelInfo
	switch {
	case f.Err != nil:
		v.Add(f)
		level = slog.LevelError
		f.Facts = append(f.Facts, slog.Int("exit_code", exitStatus(f.Err)))
	case f.Warning:
		level = slog.LevelWarn
	}
	v.written = v.report.Add(level, f.Check, f.Text, f.Facts...)
}

// readMemory is from how much memory on, in bytes, garbage is collected more
// often while an archive is read. What is in use does not reach it, but for
// archives of some million files.
const readMemory = 160 << 20

// open opens the archive.
func open(f *stream.ReadFlags, phase *progress.Phase) (*stream.Input, error) {
	if f.Stdin() && terminal.IsTerminal(os.Stdin) {
		return nil, usageError{"standard input is a terminal: give the archive through a pipe or name a file"}
	}
	debug.SetMemoryLimit(readMemory)
	return f.Open(phase, terminal.AskSecret)
}

type extractCmd struct {
	stream.ReadFlags
	Directory string      `short:"C" help:"Directory to extract into: empty, or not existing." default:"." placeholder:"DIR" type:"path"`
	Parallel  int         `help:"Number of writers, and of workers of --apply (default: processors, at most 8)." placeholder:"N"`
	Apply     bool        `help:"Also replay the redo log, as hb apply does, in the same pass."`
	Memory    stream.Size `help:"Memory for redo records with --apply (default 256MiB); more records are sorted on disk." placeholder:"SIZE"`
	LogBin    string      `help:"With --apply: log_bin of the server that will start on the directory; see hb apply." placeholder:"PATH"`
	InPlace   bool        `help:"With --apply: restore over the original server, which must be stopped. Rename its old tablespaces outside the data directory to FILE.hb-aside."`
}

func (c *extractCmd) Run(ctx context.Context, t *terminal.Console) error {
	began := time.Now()
	if c.Memory != 0 && !c.Apply {
		return usageError{"--memory is for --apply"}
	}
	if c.LogBin != "" && !c.Apply {
		return usageError{"--log-bin is for --apply"}
	}
	if c.InPlace && !c.Apply {
		return usageError{"--in-place is for --apply: without it, give it to hb apply"}
	}
	phase, meter := progress.NewPhase("extracting", 0), new(progress.Tracker)
	r, err := open(&c.ReadFlags, phase)
	if err != nil {
		return err
	}
	meter.Enter(phase)
	var extracted *extract.Result
	var applied *apply.Result
	t.During(meter, func() { extracted, applied, err = c.extract(ctx, r, meter) })
	err = errors.Join(err, r.Close())
	if extracted == nil || err != nil && !c.Apply {
		return err
	}
	warn(t, extracted.Warnings)
	took := took(began)
	t.Say(extracted.Describe(c.Directory, took, applied != nil), append(extracted.Facts(), seconds(took))...)
	if applied != nil {
		sayApplied(t, applied, c.Directory, took)
	}
	return err
}

// extract unpacks the archive, and recovers it if that is wanted.
func (c *extractCmd) extract(ctx context.Context, r io.Reader, m *progress.Tracker) (*extract.Result, *apply.Result, error) {
	if !c.Apply {
		result, err := extract.Run(ctx, r, c.Directory, extract.Options{Parallel: c.Parallel, Progress: m})
		return result, nil, err
	}
	processors := runtime.GOMAXPROCS(0)
	parallel := cmp.Or(c.Parallel, min(processors, maxDefaultParallel))
	runtime.GOMAXPROCS(processors + sink.RestoreBusy)
	memory := cmp.Or(int64(c.Memory), apply.DefaultMemory)
	debug.SetMemoryLimit(max(readMemory, memory+restoreMemory))
	return sink.Restore(ctx, r, c.Directory, extract.Options{Parallel: parallel, Progress: m},
		apply.Options{Parallel: parallel, Memory: memory, LogBin: c.LogBin, InPlace: c.InPlace, Tool: tool(), Progress: m})
}

// restoreMemory is what extract --apply needs besides --memory, in bytes.
const restoreMemory = 64 << 20

type applyCmd struct {
	Directory string `arg:"" help:"Directory of an extracted backup." type:"path"`
	apply.Options
}

func (c *applyCmd) Run(ctx context.Context, t *terminal.Console) error {
	began := time.Now()
	o := c.Options
	o.Tool, o.Progress = tool(), new(progress.Tracker)
	var result *apply.Result
	var err error
	t.During(o.Progress, func() { result, err = apply.Run(ctx, c.Directory, o) })
	if err != nil {
		return err
	}
	sayApplied(t, result, c.Directory, took(began))
	return nil
}

// sayApplied says what became of a directory.
func sayApplied(t *terminal.Console, r *apply.Result, dir string, took time.Duration) {
	warn(t, r.Warnings)
	t.Say(r.Describe(dir, took), append(r.Facts(), seconds(took))...)
}

// warn tells what the user should know although the result is good.
func warn(t *terminal.Console, messages []string) {
	for _, m := range messages {
		t.Warn(m)
	}
}

type verifyCmd struct {
	stream.ReadFlags
	verify.Options
}

func (c *verifyCmd) Run(ctx context.Context, t *terminal.Console) error {
	began := time.Now()
	result, err := c.verify(ctx, t)
	if err != nil {
		return err
	}
	warn(t, result.Warnings)
	took := took(began)
	t.Say(result.Describe())
	t.Say(fmt.Sprintf("verified in %s: %s", took, result.Verdict()), append(result.Facts(), seconds(took))...)
	return nil
}

func (c *verifyCmd) verify(ctx context.Context, t *terminal.Console) (result *verify.Result, err error) {
	if err := checkTmpdir(&c.Tmpdir); err != nil {
		return nil, err
	}
	o := c.Options
	o.Progress = new(progress.Tracker)
	if st, err := os.Stat(c.Archive); err == nil && st.IsDir() {
		t.During(o.Progress, func() { result, err = verify.Directory(ctx, c.Archive, o) })
		return result, err
	}
	phase := progress.NewPhase("verifying", 0)
	r, err := open(&c.ReadFlags, phase)
	if err != nil {
		return nil, err
	}
	if o.Replay {
		o.At = r.Anywhere()
	}
	o.Progress.Enter(phase)
	t.During(o.Progress, func() { result, err = verify.Archive(ctx, r, o) })
	return result, errors.Join(err, r.Close())
}

type listCmd struct {
	stream.ReadFlags
}

func (c *listCmd) Run(ctx context.Context, t *terminal.Console) error {
	r, err := open(&c.ReadFlags, nil)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	result, err := catalog.List(ctx, r, func(e catalog.Entry) error { _, err := fmt.Fprintln(out, e); return err })
	if err := errors.Join(err, out.Flush(), r.Close()); err != nil {
		return err
	}
	warn(t, result.Warnings)
	t.Say(result.Describe())
	return nil
}

// usageError is a mistake in the command line or in what it names.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// exitCode is one exit code of errors. What it means to the user stands in
// package usage.
type exitCode struct {
	code int
	of   []func(error) bool // any of these
}

// exitUsage is the exit code of such a mistake.
const exitUsage = 2

// exitCodes maps errors to exit codes; the first line that matches counts, and
// what matches none is 1.
var exitCodes = []exitCode{
	{130, of(is(terminal.ErrInterrupted))},
	{exitUsage, of(as[usageError], as[*stream.FlagError], as[*usage.UnknownError], as[source.InexactSourceError], as[*apply.BinlogPlaceError])},
	{3, of(as[*mysqld.ConnectError], as[*mysqld.NoSocketError], as[*mysqld.MissingPrivilegesError], as[*mysqld.DatadirError], as[*source.UnreadableError])},
	{4, of(as[*mysqld.UnsupportedError], as[*mysqld.UnsupportedFeatureError], as[*mysqld.PacketError], as[*pages.EncryptedError], as[*stage.BusyLogError], as[*datadir.NameError], as[*datadir.LinkError], as[*pages.DuplicateError], is(binlog.ErrEncrypted),
		as[*source.SystemError], as[*disk.NameError],
		as[*innodb.UnsupportedError], as[*mariadbredo.UnsupportedError], as[*mysqlredo.UnsupportedError], as[*mysqlredo.FlagsError], as[*metadata.VersionError])},
	{5, of(as[*redo.OverrunError], is(mysqld.ErrLockLost), is(mysqld.ErrConnectionLost), as[*mysqld.LockTimeoutError],
		as[*mysqld.OpenTempTablesError], as[*source.LockBrokenError], as[*source.BinlogError], as[*source.UnloggedError])},
	{9, of(stream.IsBrokenPipe)},
	{6, of(as[*catalog.IncompleteError], as[*backupdir.MissingError], is(io.ErrUnexpectedEOF))},
	{7, of(as[*xbstream.CorruptError], as[*stream.DamageError], as[*stream.NotArchiveError], as[*backupdir.DamageError])},
	{8, of(as[*backupdir.TargetError], as[*backupdir.NotBackupError])},
	{10, of(as[*stream.EncryptedError])},
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

// run is the whole program but for the process's exit.
func run(args []string, stderr io.Writer) int {
	// A reader that went away is an error to report, not a signal to die of.
	signal.Ignore(syscall.SIGPIPE)
	var c cli
	options := settings.New(environment())
	parser := grammar(&c, options, stderr)
	t := terminal.New(stderr, terminal.Questions())
	parsed, err := parser.Parse(usage.ShortHelp(terminal.PasswordFlags(args)))
	if errors.Is(err, usage.ErrTold) {
		return 0
	}
	t.Set(c.Quiet, c.LogFormat == formatJSON || err != nil && options.Peek(args, "log-format") == formatJSON)
	if err != nil {
		t.Fail(terminal.WithoutPasswords(usage.Mistake(parser.Model, err), args), exitUsage)
		return exitUsage
	}
	for _, w := range options.Env.Options.Warnings {
		t.Warn(w)
	}
	if c.PrintDefaults {
		if err := options.Print(os.Stdout, parsed); err != nil {
			t.Fail(err.Error(), 1)
			return 1
		}
		return 0
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

func execute(parsed *kong.Context, t *terminal.Console) int {
	ctx, stop := terminal.Signals()
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(t)
	err := parsed.Run()
	if err == nil {
		return 0
	}
	text, code := explain(ctx, err)
	t.Fail(text, code)
	return code
}

// explain says why a command failed, and its exit code.
func explain(ctx context.Context, err error) (text string, code int) {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	text = strings.ReplaceAll(err.Error(), "\n", "; ") // of errors that came together
	if disk.IsFull(err) {
		text += "; make room and start again"
	}
	return text, exitStatus(err)
}

// environment is the process's environment, with the terminal to ask for a
// password.
func environment() mysqld.Env {
	env := mysqld.OSEnv()
	env.AskPassword = func(prompt string) (mysqld.Secret, error) {
		s, err := terminal.AskSecret(prompt)
		return mysqld.NewSecret(s), err
	}
	return env
}

// tool is hb with its version, as backups and recovered directories name it.
func tool() string { return usage.ReadBuild().String() }

// version is the module's version as the build recorded it.
func version() string { return usage.ReadBuild().Version }

// about is what hb version tells.
func about() usage.About {
	return usage.About{Build: usage.ReadBuild(), Facts: []usage.Fact{
		{Name: "servers", Value: mysqld.Supported},
		{Name: "redo logs", Value: fmt.Sprintf("MySQL up to format %d (%v and later), %v, %v", mysqlredo.LastFormat, mysqlredo.LastFormat, mariadbredo.Format105, mariadbredo.Format108)},
		{Name: "archives", Value: fmt.Sprintf("xbstream and mbstream, hb-archive.json up to version %d; zstd, age", metadata.ArchiveVersion)},
	}}
}
