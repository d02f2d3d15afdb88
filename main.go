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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"hb/sink"
	"hb/source"
	"hb/source/infofile"
	"hb/source/innodb/mlog"
	"hb/source/innodb/redolog"
	"hb/source/mysqld"
	"hb/source/redo"
	"hb/source/settings"
	"hb/stream"
	"hb/stream/disk"
	"hb/stream/progress"
	"hb/stream/terminal"
	"hb/stream/terminal/usage"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// cli is the grammar of the command line.
type cli struct {
	Backup  backupCmd  `cmd:"" help:"Back up a running server; the archive goes to standard output."`
	Check   checkCmd   `cmd:"" help:"Tell what would stop a backup with the same options, and do nothing else."`
	Extract extractCmd `cmd:"" help:"Unpack an archive from standard input into a directory."`
	Apply   applyCmd   `cmd:"" help:"Replay the redo log of an extracted backup, so that a server can start on it."`
	Verify  verifyCmd  `cmd:"" help:"Check a backup, an archive or a directory, without writing anything."`
	List    listCmd    `cmd:"" help:"Read an archive from standard input and list what it holds."`
	usage.Commands

	Quiet     bool             `help:"Say nothing but warnings and errors."`
	LogFormat string           `help:"How messages look: text, or json, one object in each line." enum:"text,json" default:"text" placeholder:"text|json"`
	Help      helpFlag         `help:"Show help."`
	Version   kong.VersionFlag `help:"Show the version of hb."`

	optionFiles `embed:"" group:"Option files"`
}

// optionFiles say where options are that the command line does not have; package
// settings reads them.
type optionFiles struct {
	DefaultsFile        string `help:"Read only this option file." placeholder:"FILE" type:"path"`
	DefaultsExtraFile   string `help:"Read this option file after the global ones." placeholder:"FILE" type:"path"`
	DefaultsGroupSuffix string `help:"Also read option groups with this suffix." placeholder:"SUFFIX"`
	NoDefaults          bool   `help:"Read no option files."`
	PrintDefaults       bool   `help:"Show which options are set, and by what, and do nothing."`
}

// BeforeResolve reads the option files. What tells of hb itself does without.
func (c *cli) BeforeResolve(ctx *kong.Context, s *settings.Settings) error {
	if usage.Tells(ctx.Selected()) {
		return nil
	}
	return s.Load(ctx)
}

// helpFlag is --help without kong's short form -h, which is the host, as in
// the servers' own clients.
type helpFlag bool

// BeforeReset prints the help of the command, or of hb.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	ctx.Exit(0)
	return nil
}

// connectFlags say how to reach the server. They are those of the servers'
// clients.
type connectFlags struct {
	User                string  `short:"u" help:"User to connect as (default: your own name)."`
	Password            *string `help:"Password; better in HB_PASSWORD, a file or an option file. Without a value, or as -p: ask for it." placeholder:"PASSWORD"`
	AskPassword         bool    `short:"p" help:"Ask for the password on the terminal."`
	PasswordFile        string  `help:"Read the password from the first line of this file." placeholder:"FILE" type:"path"`
	Host                string  `short:"h" help:"Host to connect to; localhost means the socket (default: localhost). The server's files must be on this machine."`
	Port                int     `short:"P" help:"TCP port (default 3306)."`
	Socket              string  `short:"S" help:"Unix socket (default: where distributions put it)." placeholder:"FILE"`
	Protocol            string  `help:"tcp or socket (default: what host and port mean)." enum:"tcp,socket," default:"" placeholder:"tcp|socket"`
	SslMode             string  `help:"DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY (default: PREFERRED by TCP, DISABLED by a socket)." placeholder:"MODE" complete:"DISABLED,PREFERRED,REQUIRED,VERIFY_CA,VERIFY_IDENTITY"`
	SslCa               string  `help:"Certificate authorities to trust (default: the system's)." placeholder:"FILE" type:"path"`
	SslCert             string  `help:"Client certificate." placeholder:"FILE" type:"path"`
	SslKey              string  `help:"Key of the client certificate." placeholder:"FILE" type:"path"`
	SslVerifyServerCert bool    `help:"Check the server's certificate and name."`
	SkipSsl             bool    `help:"Do not use TLS."`
	ConnectTimeout      wait    `help:"How long to wait for the server's answer (default 10)." placeholder:"SECONDS"`
	LockWaitTimeout     wait    `help:"How long to wait for each backup lock (default 60)." placeholder:"SECONDS"`
}

// wait is a time to wait: a number of seconds, as the peers' options have it,
// or a Go duration, such as 2m30s.
type wait time.Duration

// maxWait bounds what can be waited for: the longest timeout that servers take.
const maxWait = 365 * 24 * time.Hour

// MarshalText writes it as UnmarshalText reads it.
func (w wait) MarshalText() ([]byte, error) { return []byte(time.Duration(w).String()), nil }

// UnmarshalText reads the flag's value.
func (w *wait) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if seconds, e := strconv.ParseUint(string(text), 10, 32); e == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 || d > maxWait {
		return fmt.Errorf("%q is no time to wait: give seconds, or a duration such as 2m30s", text)
	}
	*w = wait(d)
	return nil
}

func (c *connectFlags) flags() mysqld.Flags {
	f := mysqld.Flags{
		User: c.User, Host: c.Host, Port: c.Port, Socket: c.Socket, Protocol: c.Protocol,
		PasswordFile: c.PasswordFile, AskPassword: c.AskPassword,
		SSLMode: c.SslMode, SSLCA: c.SslCa, SSLCert: c.SslCert, SSLKey: c.SslKey,
		SSLVerifyServerCert: c.SslVerifyServerCert, SkipSSL: c.SkipSsl,
		ConnectTimeout: time.Duration(c.ConnectTimeout), LockWait: time.Duration(c.LockWaitTimeout),
	}
	if c.Password != nil {
		secret := mysqld.NewSecret(*c.Password)
		f.Password = &secret
	}
	return f
}

// backupFlags say what is backed up, and how.
type backupFlags struct {
	connectFlags `embed:"" group:"Connection"`

	Datadir    string      `help:"Where the server's data directory is seen from here (default: where the server says)." placeholder:"DIR" type:"path"`
	Parallel   int         `help:"How many readers (default: processors, at most 8)." placeholder:"N"`
	Throttle   stream.Size `help:"Read at most so many bytes a second of tablespaces." placeholder:"SIZE"`
	Tmpdir     string      `help:"Where redo is spooled that the archive does not take at once (default: TMPDIR or /tmp)." placeholder:"DIR" type:"path"`
	SlaveInfo  bool        `help:"Record the position of the server's own replication."`
	GaleraInfo bool        `help:"Record the Galera position."`
	InfoFile   string      `help:"Write into this file what becomes of the backup, as JSON: when it begins, and when it is complete or failed." placeholder:"FILE" type:"path"`

	Estimate bool `help:"Estimate the archive's size, and back nothing up. Standard output gets the number for aws s3 cp --expected-size."`

	lockFlags `embed:"" group:"Locks and replication (MySQL)"`

	Compress              bool     `help:"Compress with zstd." group:"Stages"`
	CompressLevel         int      `help:"zstd level, 1 to 19 (default 3); implies --compress." placeholder:"N" group:"Stages"`
	EncryptTo             []string `help:"Encrypt to this age recipient: age1..., or an SSH public key. May be repeated." placeholder:"RECIPIENT" sep:"none" group:"Stages"`
	EncryptToFile         []string `help:"Encrypt to the recipients in this file. May be repeated." placeholder:"FILE" type:"path" sep:"none" group:"Stages"`
	EncryptPassphraseFile string   `help:"Encrypt with the passphrase in the first line of this file." placeholder:"FILE" type:"path" group:"Stages"`
}

// queryType is a kind of statements: all, update or select.
type queryType mysqld.QueryType

// MarshalText writes it as UnmarshalText reads it.
func (q queryType) MarshalText() ([]byte, error) { return []byte(mysqld.QueryType(q).String()), nil }

// UnmarshalText reads the flag's value.
func (q *queryType) UnmarshalText(text []byte) error {
	t, err := mysqld.ParseQueryType(string(text))
	*q = queryType(t)
	return err
}

// lockFlags say how MySQL and Percona Server are locked, and what is asked of
// them beside the copy. They are XtraBackup's.
type lockFlags struct {
	FtwrlWaitTimeout       wait      `help:"Before FLUSH TABLES WITH READ LOCK, wait so long for statements that would hold it up (default 0: do not wait)." placeholder:"SECONDS"`
	FtwrlWaitThreshold     wait      `help:"Statements that have run so long are waited for (default 60)." placeholder:"SECONDS"`
	FtwrlWaitQueryType     queryType `help:"Statements to wait for: all, update or select (default all)." placeholder:"TYPE" complete:"all,update,select"`
	KillLongQueriesTimeout wait      `help:"Kill statements that hold the lock up for longer (default 0: never)." placeholder:"SECONDS"`
	KillLongQueryType      queryType `help:"Statements to kill: all, update or select (default all)." placeholder:"TYPE" complete:"all,update,select"`
	LockDdlPerTable        bool      `help:"Lock every table against DDL before copying (5.6 and 5.7; not needed: what DDL changed is copied again)."`
	SafeSlaveBackup        bool      `help:"Stop the replica's SQL threads while the position is taken, when no temporary table of theirs is open."`
	SafeSlaveBackupTimeout wait      `help:"Wait so long for those tables (default 300)." placeholder:"SECONDS"`

	DumpInnodbBufferPool        bool `help:"Have the server dump which pages its buffer pool holds, and take that along."`
	DumpInnodbBufferPoolPct     int  `help:"How much of the buffer pool to dump (default: as the server is set)." placeholder:"PERCENT"`
	DumpInnodbBufferPoolTimeout wait `help:"Wait so long for the dump, once pages are copied (default 10)." placeholder:"SECONDS"`
}

// set adds what the flags say to the options of a backup.
func (f *lockFlags) set(o *source.Options) {
	o.FTWRL = mysqld.FTWRL{
		WaitTimeout: time.Duration(f.FtwrlWaitTimeout), WaitThreshold: time.Duration(f.FtwrlWaitThreshold),
		WaitQueryType: mysqld.QueryType(f.FtwrlWaitQueryType),
		KillTimeout:   time.Duration(f.KillLongQueriesTimeout), KillQueryType: mysqld.QueryType(f.KillLongQueryType),
	}
	o.LockDDLPerTable = f.LockDdlPerTable
	o.SafeSlave, o.SafeSlaveTimeout = f.SafeSlaveBackup, time.Duration(f.SafeSlaveBackupTimeout)
	o.DumpBufferPool, o.DumpBufferPoolPct = f.DumpInnodbBufferPool, f.DumpInnodbBufferPoolPct
	o.DumpBufferPoolTimeout = time.Duration(f.DumpInnodbBufferPoolTimeout)
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
	srv, err := mysqld.Connect(ctx, options)
	if err != nil {
		return err
	}
	o := c.options(write)
	o.Progress, o.Warn = new(progress.Meter), warn
	info.Note(func(i *infofile.Info) {
		i.Server, i.Options = srv.Flavor.String()+" "+srv.Version.Full, metadata.ArchiveFlags{Compressed: o.Compressed, Encrypted: o.Encrypted}
	})
	err = c.backup(ctx, t, srv, write, o, info)
	return errors.Join(err, srv.Close())
}

// prepare reads what the flags say of the archive and of the connection.
func (c *backupCmd) prepare(env mysqld.Env) (w stream.WriteOptions, o mysqld.Options, err error) {
	if err := checkTmpdir(&c.Tmpdir); err != nil {
		return w, o, err
	}
	if w, err = c.stages(); err != nil {
		return w, o, err
	}
	o, err = c.resolve(env)
	return w, o, err
}

// resolve says how to connect. Where nothing says where the server is, and it is
// not where servers are, it does not run: that is no mistake.
func (c *connectFlags) resolve(env mysqld.Env) (mysqld.Options, error) {
	o, _, err := mysqld.Resolve(c.flags(), env)
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
	srv, err := mysqld.Connect(ctx, options)
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

// stages reads what the flags say about compression and encryption.
func (c *backupFlags) stages() (w stream.WriteOptions, err error) {
	if c.Compress || c.CompressLevel != 0 {
		w.Compress = &stream.Compression{Level: c.CompressLevel}
	}
	for _, s := range c.EncryptTo {
		r, err := stream.ParseRecipient(s)
		if err != nil {
			return w, usageError{err.Error()}
		}
		w.Recipients = append(w.Recipients, r)
	}
	for _, name := range c.EncryptToFile {
		r, err := stream.ParseRecipientsFile(name)
		if err != nil {
			return w, usageError{err.Error()}
		}
		w.Recipients = append(w.Recipients, r...)
	}
	if c.EncryptPassphraseFile != "" {
		phrase, err := terminal.FirstLine(c.EncryptPassphraseFile)
		if err != nil {
			return w, usageError{err.Error()}
		}
		r, err := stream.PassphraseRecipient(phrase)
		if err != nil {
			return w, usageError{err.Error()}
		}
		w.Recipients = append(w.Recipients, r)
	}
	if err := w.Validate(); err != nil {
		return w, usageError{err.Error()}
	}
	return w, nil
}

func (c *backupCmd) backup(ctx context.Context, t *terminal.Console, srv *mysqld.Server, write stream.WriteOptions, o source.Options, info *infofile.File) error {
	began := time.Now()
	out, err := stream.NewSink(os.Stdout)
	if err != nil {
		return err
	}
	w, err := stream.Create(ctx, out, write)
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
	t.Say(fmt.Sprintf("backup complete: %s in %s, %s/s\n%s", stream.Size(w.Sent()), took, rate(w.Sent(), took), result.Describe()),
		append(result.Facts(), slog.Int64("bytes", w.Sent()), seconds(took))...)
	return nil
}

// took is the time since a command began, as it is told.
func took(began time.Time) time.Duration { return time.Since(began).Round(time.Millisecond) }

// seconds is a time for programs.
func seconds(d time.Duration) slog.Attr { return slog.Float64("seconds", d.Seconds()) }

// rate is bytes a second.
func rate(bytes int64, d time.Duration) stream.Size {
	return stream.Size(float64(bytes) / max(d, time.Millisecond).Seconds())
}

func (c *backupFlags) options(write stream.WriteOptions) source.Options {
	parallel := c.Parallel
	if parallel <= 0 {
		parallel = min(runtime.GOMAXPROCS(0), maxDefaultParallel)
	}
	o := source.Options{
		Parallel: parallel, Tmpdir: c.Tmpdir, Datadir: c.Datadir,
		SlaveInfo: c.SlaveInfo, GaleraInfo: c.GaleraInfo,
		Tool: "hb", ToolVersion: version(), Command: terminal.MaskedCommand(os.Args),
		Compressed: write.Compress != nil, Encrypted: len(write.Recipients) > 0,
	}
	c.lockFlags.set(&o)
	if c.Throttle > 0 {
		o.Pace = stream.NewPacer(c.Throttle).Wait
	}
	return o
}

type checkCmd struct {
	backupFlags
	RateInterval wait `help:"Watch the redo log grow for so long (default 5)." default:"5" placeholder:"SECONDS"`
}

func (c *checkCmd) Run(ctx context.Context, t *terminal.Console, s *settings.Settings) error {
	if err := source.CheckSystem(runtime.GOOS); err != nil {
		return err
	}
	v := verdict{report: t.Report(os.Stdout)}
	if err := c.check(ctx, s.Env, &v); err != nil {
		return err
	}
	return v.outcome()
}

// check looks at everything that a backup would, in the same order.
func (c *checkCmd) check(ctx context.Context, env mysqld.Env, v *verdict) (err error) {
	if err := infofile.Check(c.InfoFile); err != nil {
		v.fail("options", usageError{err.Error()})
	}
	if err := checkTmpdir(&c.Tmpdir); err != nil {
		v.fail("options", err)
	}
	write, err := c.stages()
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
	v.tell(source.Finding{Check: "connection", Text: fmt.Sprint(options)})
	return source.Check(ctx, srv, c.options(write), time.Duration(c.RateInterval), v.tell)
}

// verdict is what becomes of findings.
type verdict struct {
	report  *terminal.Report
	written error            // of the report
	failed  []source.Finding // with errors
}

func (v *verdict) fail(check string, err error) {
	v.tell(source.Finding{Check: check, Text: err.Error(), Err: err})
}

func (v *verdict) tell(f source.Finding) {
	level := slog.LevelInfo
	switch {
	case f.Err != nil:
		v.failed = append(v.failed, f)
		level = slog.LevelError
		f.Facts = append(f.Facts, slog.Int("exit_code", exitStatus(f.Err)))
	case f.Warning:
		level = slog.LevelWarn
	}
	v.written = v.report.Add(level, f.Check, f.Text, f.Facts...)
}

// outcome is nil if a backup would succeed.
func (v *verdict) outcome() error {
	if v.written != nil || len(v.failed) == 0 {
		return v.written
	}
	return &wouldFailError{v.failed}
}

// wouldFailError says that a backup would fail; it is, for the exit code, the
// error that the backup would meet first.
type wouldFailError struct{ failed []source.Finding }

func (e *wouldFailError) Error() string {
	var names []string
	for _, f := range e.failed {
		names = append(names, f.Check)
	}
	return "a backup would fail now: " + strings.Join(slices.Compact(names), ", ")
}

func (e *wouldFailError) Unwrap() error { return e.failed[0].Err }

// readFlags say how to get at an archive.
type readFlags struct {
	Identity       []string `short:"i" help:"Decrypt with the age identity or SSH key in this file. May be repeated." placeholder:"FILE" type:"path" sep:"none"`
	PassphraseFile string   `help:"Decrypt with the passphrase in the first line of this file (default: ask)." placeholder:"FILE" type:"path"`
	Archive        string   `arg:"" optional:"" help:"Archive to read (default: standard input)." type:"path"`
}

// readMemory is from how much memory on, in bytes, garbage is collected more
// often while an archive is read. What is in use does not reach it, but for
// archives of some million files.
const readMemory = 160 << 20

// open opens the archive and takes its stages off. What is read of it counts as
// done in the phase.
func (c *readFlags) open(phase *progress.Phase) (r *stream.Reader, closeAll func() error, err error) {
	in := os.Stdin
	if c.Archive != "" && c.Archive != "-" {
		if in, err = os.Open(c.Archive); err != nil {
			return nil, nil, err
		}
	} else if terminal.IsTerminal(os.Stdin) {
		return nil, nil, usageError{"standard input is a terminal: give the archive through a pipe or name a file"}
	}
	opts := stream.Options{Passphrase: c.passphrase}
	for _, name := range c.Identity {
		ids, err := stream.ParseIdentitiesFile(name, terminal.AskSecret)
		if err != nil {
			return nil, nil, errors.Join(usageError{err.Error()}, in.Close())
		}
		opts.Identities = append(opts.Identities, ids...)
	}
	if st, err := in.Stat(); err == nil && st.Mode().IsRegular() {
		phase.Expect(st.Size())
	}
	debug.SetMemoryLimit(readMemory)
	if r, err = stream.Open(phase.Reader(in), opts); err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	return r, func() error { return errors.Join(r.Close(), in.Close()) }, nil
}

func (c *readFlags) passphrase(prompt string) (string, error) {
	if c.PassphraseFile != "" {
		return terminal.FirstLine(c.PassphraseFile)
	}
	return terminal.AskSecret(prompt)
}

type extractCmd struct {
	readFlags
	Directory string      `short:"C" help:"Directory to unpack into: empty, or not there yet." default:"." placeholder:"DIR" type:"path"`
	Parallel  int         `help:"How many writers, and workers of --apply (default: processors, at most 8)." placeholder:"N"`
	Apply     bool        `help:"Replay the redo log as well, as hb apply does, in the same pass."`
	Memory    stream.Size `help:"How much memory records may take with --apply (default 256MiB); more are sorted on disk." placeholder:"SIZE"`
}

func (c *extractCmd) Run(ctx context.Context, t *terminal.Console) error {
	began := time.Now()
	if c.Memory != 0 && !c.Apply {
		return usageError{"--memory is for --apply"}
	}
	phase, meter := progress.NewPhase("extracting", 0), new(progress.Meter)
	r, closeAll, err := c.open(phase)
	if err != nil {
		return err
	}
	meter.Enter(phase)
	var extracted *sink.ExtractResult
	var applied *sink.ApplyResult
	t.During(meter, func() { extracted, applied, err = c.extract(ctx, r, meter) })
	err = errors.Join(err, closeAll())
	if extracted == nil || err != nil && !c.Apply {
		return err
	}
	warn(t, extracted.Warnings)
	took := took(began)
	text := fmt.Sprintf("extracted %d files, %s", extracted.Files, stream.Size(extracted.Bytes))
	if applied == nil {
		text += fmt.Sprintf(", in %s, %s/s; next: hb apply %s", took, rate(extracted.Bytes, took), c.Directory)
	}
	t.Say(text, slog.Int64("files", extracted.Files), slog.Int64("bytes", extracted.Bytes), seconds(took))
	if applied != nil {
		sayApplied(t, applied, c.Directory, false, took)
	}
	return err
}

// extract unpacks the archive, and recovers it if that is wanted.
func (c *extractCmd) extract(ctx context.Context, r io.Reader, m *progress.Meter) (*sink.ExtractResult, *sink.ApplyResult, error) {
	if !c.Apply {
		result, err := sink.Extract(ctx, r, c.Directory, sink.ExtractOptions{Parallel: c.Parallel, Progress: m})
		return result, nil, err
	}
	processors := runtime.GOMAXPROCS(0)
	parallel := cmp.Or(c.Parallel, min(processors, maxDefaultParallel))
	runtime.GOMAXPROCS(processors + sink.RestoreBusy)
	memory := cmp.Or(int64(c.Memory), sink.DefaultMemory)
	debug.SetMemoryLimit(max(readMemory, memory+restoreMemory))
	return sink.Restore(ctx, r, c.Directory, sink.ExtractOptions{Parallel: parallel, Progress: m},
		sink.ApplyOptions{Parallel: parallel, Memory: memory, Tool: "hb " + version(), Progress: m})
}

// restoreMemory is what extract --apply needs besides --memory, in bytes.
const restoreMemory = 64 << 20

type applyCmd struct {
	Directory string      `arg:"" help:"Directory of an extracted backup." type:"path"`
	Parallel  int         `help:"How many workers, as far as --memory goes (default: processors)." placeholder:"N"`
	Memory    stream.Size `help:"How much memory records may take (default 256MiB); more are sorted on disk." placeholder:"SIZE"`
	ByServer  bool        `help:"Do not replay: put the redo log where a server of that series looks for it, so that the server recovers the directory when it starts."`
}

func (c *applyCmd) Run(ctx context.Context, t *terminal.Console) error {
	began := time.Now()
	meter := new(progress.Meter)
	var result *sink.ApplyResult
	var err error
	t.During(meter, func() {
		result, err = sink.Apply(ctx, c.Directory, sink.ApplyOptions{
			Parallel: c.Parallel, Memory: int64(c.Memory), ByServer: c.ByServer, Tool: "hb " + version(), Progress: meter,
		})
	})
	if err != nil {
		return err
	}
	sayApplied(t, result, c.Directory, c.ByServer, took(began))
	return nil
}

// sayApplied says what became of a directory.
func sayApplied(t *terminal.Console, r *sink.ApplyResult, dir string, byServer bool, took time.Duration) {
	warn(t, r.Warnings)
	facts := []slog.Attr{slog.Bool("already_applied", r.AlreadyApplied), slog.Uint64("from_lsn", uint64(r.FromLSN)),
		slog.Uint64("last_lsn", uint64(r.LSN)), slog.Uint64("pages", r.Pages), seconds(took)}
	switch {
	case r.AlreadyApplied:
		t.Say(fmt.Sprintf("%s was applied before: nothing to do", dir), facts...)
	case byServer:
		t.Say(fmt.Sprintf("the redo log, LSN %d to %d, is where the server looks for it: %s recovers when a server starts on it",
			r.FromLSN, r.LSN, dir), facts...)
	default:
		t.Say(fmt.Sprintf("applied redo from LSN %d to %d, %d pages written, in %s; a server can start on %s",
			r.FromLSN, r.LSN, r.Pages, took, dir), facts...)
	}
}

// warn tells what the user should know although the result is good.
func warn(t *terminal.Console, messages []string) {
	for _, m := range messages {
		t.Warn(m)
	}
}

type verifyCmd struct {
	readFlags
	Parallel int         `help:"How many workers (default: processors, at most 8)." placeholder:"N"`
	Memory   stream.Size `help:"How much memory redo records may take (default 256MiB); more are sorted on disk." placeholder:"SIZE"`
	Tmpdir   string      `help:"Where temporary files go: the redo log of an archive, and what --replay writes (default: TMPDIR or /tmp)." placeholder:"DIR" type:"path"`
	Replay   bool        `help:"Rehearse hb apply, and throw the result away. In --tmpdir this takes the size of the pages that the redo changes; with an archive from a pipe, or that is compressed or encrypted, that of all tablespaces."`
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
	t.Say(fmt.Sprintf("verified in %s: %s", took, result.Verdict()),
		slog.Int64("files", result.Files), slog.Int64("bytes", result.Bytes), slog.Int64("pages", result.Pages),
		slog.Uint64("from_lsn", uint64(result.FromLSN)), slog.Uint64("last_lsn", uint64(result.LSN)), seconds(took))
	return nil
}

func (c *verifyCmd) verify(ctx context.Context, t *terminal.Console) (result *sink.VerifyResult, err error) {
	if err := checkTmpdir(&c.Tmpdir); err != nil {
		return nil, err
	}
	o := sink.VerifyOptions{Parallel: c.Parallel, Memory: int64(c.Memory), Tmpdir: c.Tmpdir, Replay: c.Replay, Progress: new(progress.Meter)}
	if st, err := os.Stat(c.Archive); err == nil && st.IsDir() {
		t.During(o.Progress, func() { result, err = sink.VerifyDir(ctx, c.Archive, o) })
		return result, err
	}
	phase := progress.NewPhase("verifying", 0)
	r, closeAll, err := c.open(phase)
	if err != nil {
		return nil, err
	}
	anywhere, closeFile, err := c.anywhere(r)
	if err != nil {
		return nil, errors.Join(err, closeAll())
	}
	o.At = anywhere
	o.Progress.Enter(phase)
	t.During(o.Progress, func() { result, err = sink.Verify(ctx, r, o) })
	return result, errors.Join(err, closeFile(), closeAll())
}

// anywhere opens the archive for reading anywhere in it, if a rehearsal can: nil
// if it is no file, or has stages.
func (c *verifyCmd) anywhere(r *stream.Reader) (at io.ReaderAt, closeFile func() error, err error) {
	none := func() error { return nil }
	st, err := os.Stat(c.Archive)
	if !c.Replay || len(r.Stages) > 0 || err != nil || !st.Mode().IsRegular() {
		return nil, none, nil
	}
	f, err := os.Open(c.Archive)
	if err != nil {
		return nil, none, err
	}
	return f, f.Close, nil
}

type listCmd struct {
	readFlags
}

func (c *listCmd) Run(ctx context.Context, t *terminal.Console) error {
	r, closeAll, err := c.open(nil)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	result, err := sink.List(ctx, r, func(e sink.Entry) error { _, err := fmt.Fprintln(out, e); return err })
	if err := errors.Join(err, out.Flush(), closeAll()); err != nil {
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
	code    int
	matches func(error) bool
}

// exitUsage is the exit code of such a mistake.
const exitUsage = 2

// exitCodes maps errors to exit codes; the first line that matches counts, and
// what matches none is 1.
var exitCodes = []exitCode{
	{130, is(terminal.ErrInterrupted)},
	{exitUsage, any1(as[usageError], as[*usage.UnknownError], as[source.InexactSourceError])},
	{3, any1(as[*mysqld.ConnectError], as[*mysqld.NoSocketError], as[*mysqld.MissingPrivilegesError], as[*mysqld.DatadirError], as[*source.UnreadableError])},
	{4, any1(as[*mysqld.UnsupportedError], as[*mysqld.UnsupportedFeatureError], as[*source.EncryptedError],
		as[*source.SystemError], as[*disk.NameError],
		as[*redolog.UnsupportedError], as[*mlog.UnsupportedError], as[*mlog.FlagsError], as[*metadata.VersionError])},
	{5, any1(as[*redo.OverrunError], is(mysqld.ErrLockLost), is(mysqld.ErrConnectionLost), as[*mysqld.LockTimeoutError],
		as[*mysqld.OpenTempTablesError], as[*source.LockBrokenError])},
	{9, stream.IsBrokenPipe},
	{6, any1(as[*sink.IncompleteError], as[*sink.MissingError], is(io.ErrUnexpectedEOF))},
	{7, any1(as[*xbstream.CorruptError], as[*stream.DamageError], as[*stream.NotArchiveError], as[*sink.DamageError])},
	{8, any1(as[*sink.TargetError], as[*sink.NotBackupError])},
	{10, any1(as[*stream.EncryptedError])},
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func as[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func any1(matchers ...func(error) bool) func(error) bool {
	return func(err error) bool {
		for _, m := range matchers {
			if m(err) {
				return true
			}
		}
		return false
	}
}

// exitStatus chooses the exit code of an error.
func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	for _, e := range exitCodes {
		if e.matches(err) {
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
	exited := -1
	options := settings.New(environment())
	parser := grammar(&c, options, stderr, func(code int) { exited = code; panic(exitPanic{}) })
	t := terminal.New(stderr, terminal.Questions())
	status := func() (code int) {
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(exitPanic); !ok {
					panic(r)
				}
				code = exited
			}
		}()
		parsed, err := parser.Parse(terminal.PasswordFlags(args))
		t.Set(c.Quiet, c.LogFormat == formatJSON || err != nil && asksForJSON(args))
		if err != nil {
			t.Fail(terminal.WithoutPasswords(usage.Mistake(parser.Model, err), args), exitUsage)
			return exitUsage
		}
		for _, w := range options.Env.Options.Warnings {
			t.Warn(w)
		}
		if c.PrintDefaults {
			_, connects := parsed.Selected().Target.Addr().Interface().(interface{ flags() mysqld.Flags })
			if err := options.Print(os.Stdout, parsed, connects); err != nil {
				t.Fail(err.Error(), 1)
				return 1
			}
			return 0
		}
		return execute(parsed, t)
	}
	return status()
}

// grammar is the parser of the command line.
func grammar(c *cli, options *settings.Settings, stderr io.Writer, exit func(int)) *kong.Kong {
	parser, err := kong.New(c, kong.Name("hb"),
		kong.Description("Hot physical backup of MySQL and MariaDB, as a Unix filter."),
		kong.NoDefaultHelp(), kong.Vars{"version": "hb " + version()},
		kong.Help(func(_ kong.HelpOptions, ctx *kong.Context) error {
			return usage.Print(ctx.Stdout, ctx.Model, cmp.Or(ctx.Selected(), ctx.Model.Node))
		}),
		kong.Exit(exit), kong.Writers(os.Stdout, stderr),
		kong.Bind(options, about()), kong.Resolvers(options))
	if err != nil {
		panic(err) // the grammar itself is wrong
	}
	return parser
}

// formatJSON is the value of --log-format for programs.
const formatJSON = "json"

// asksForJSON tells of arguments that the parser refused how to say so.
func asksForJSON(args []string) bool {
	const flag = "--log-format"
	i := slices.Index(args, flag)
	return slices.Contains(args, flag+"="+formatJSON) || i >= 0 && i+1 < len(args) && args[i+1] == formatJSON ||
		os.Getenv(settings.Variable(flag[2:])) == formatJSON
}

// exitPanic carries kong's wish to exit through its parser.
type exitPanic struct{}

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

// version is the module's version as the build recorded it.
func version() string { return usage.ReadBuild().Version }

// about is what hb version tells.
func about() usage.About {
	return usage.About{Build: usage.ReadBuild(), Facts: []usage.Fact{
		{Name: "servers", Value: mysqld.Supported},
		{Name: "redo logs", Value: fmt.Sprintf("MySQL up to format %d (%v and later), %v, %v", mlog.LastFormat, mlog.LastFormat, redolog.MariaDB105, redolog.MariaDB108)},
		{Name: "archives", Value: fmt.Sprintf("xbstream and mbstream, hb-archive.json up to version %d; zstd, age", metadata.ArchiveVersion)},
	}}
}
