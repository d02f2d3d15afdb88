// Command hb backs up a running MySQL or MariaDB server physically, as a Unix
// filter: see README.md.
//
// This file is the command grammar, and the one place where errors become
// messages and exit codes. No other package prints or exits.
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"hb/sink"
	"hb/source"
	"hb/source/innodb/mlog"
	"hb/source/innodb/redolog"
	"hb/source/mysqld"
	"hb/source/redo"
	"hb/stream"
	"hb/xbstream"
	"hb/xbstream/metadata"
)

// cli is the grammar of the command line.
type cli struct {
	Backup  backupCmd  `cmd:"" help:"Back up a running server; the archive goes to standard output."`
	Extract extractCmd `cmd:"" help:"Unpack an archive from standard input into a directory."`
	Apply   applyCmd   `cmd:"" help:"Replay the redo log of an extracted backup, so that a server can start on it."`
	Verify  verifyCmd  `cmd:"" help:"Check a backup, an archive or a directory, without writing anything."`
	List    listCmd    `cmd:"" help:"Read an archive from standard input and list what it holds."`

	Quiet   bool             `help:"Say nothing but warnings and errors."`
	Help    helpFlag         `help:"Show help."`
	Version kong.VersionFlag `help:"Show the version of hb."`
}

// helpFlag is --help without kong's short form -h, which is the host, as in
// the servers' own clients.
type helpFlag bool

// BeforeReset prints the help of what was given so far.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	ctx.Exit(0)
	return nil
}

// terminal is where commands talk to the user: standard error, nothing else.
type terminal struct {
	mu    sync.Mutex
	w     io.Writer
	quiet bool
}

func (t *terminal) line(prefix, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.w, "hb: "+prefix+format+"\n", args...)
}

func (t *terminal) say(format string, args ...any) {
	if !t.quiet {
		t.line("", format, args...)
	}
}

func (t *terminal) warn(messages []string) {
	for _, m := range messages {
		t.line("warning: ", "%s", m)
	}
}

// connectFlags say how to reach the server. They are those of the servers'
// clients.
type connectFlags struct {
	DefaultsFile        string  `help:"Read only this option file." placeholder:"FILE" type:"path"`
	DefaultsExtraFile   string  `help:"Read this option file after the global ones." placeholder:"FILE" type:"path"`
	DefaultsGroupSuffix string  `help:"Also read option groups with this suffix." placeholder:"SUFFIX"`
	NoDefaults          bool    `help:"Read no option files."`
	User                string  `short:"u" help:"User to connect as."`
	Password            *string `help:"Password; better in HB_PASSWORD, a file or an option file. Without a value, or as -p: ask for it." placeholder:"PASSWORD"`
	AskPassword         bool    `short:"p" help:"Ask for the password on the terminal."`
	PasswordFile        string  `help:"Read the password from the first line of this file." placeholder:"FILE" type:"path"`
	Host                string  `short:"h" help:"Host to connect to; localhost means the socket. The server's files must be on this machine."`
	Port                int     `short:"P" help:"TCP port."`
	Socket              string  `short:"S" help:"Unix socket." placeholder:"FILE"`
	Protocol            string  `help:"tcp or socket." enum:"tcp,socket," default:"" placeholder:"tcp|socket"`
	SslMode             string  `help:"DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY." placeholder:"MODE"`
	SslCa               string  `help:"Certificate authorities to trust." placeholder:"FILE" type:"path"`
	SslCert             string  `help:"Client certificate." placeholder:"FILE" type:"path"`
	SslKey              string  `help:"Key of the client certificate." placeholder:"FILE" type:"path"`
	SslVerifyServerCert bool    `help:"Check the server's certificate and name."`
	SkipSsl             bool    `help:"Do not use TLS."`
	ConnectTimeout      wait    `help:"How long to wait for the server's answer." placeholder:"SECONDS"`
	LockWaitTimeout     wait    `help:"How long to wait for each backup lock (default 60)." placeholder:"SECONDS"`
}

// wait is a time to wait: a number of seconds, as the peers' options have it,
// or a Go duration, such as 2m30s.
type wait time.Duration

// maxWait bounds what can be waited for: the longest timeout that servers take.
const maxWait = 365 * 24 * time.Hour

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
		DefaultsFile: c.DefaultsFile, DefaultsExtraFile: c.DefaultsExtraFile,
		DefaultsGroupSuffix: c.DefaultsGroupSuffix, NoDefaults: c.NoDefaults,
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

type backupCmd struct {
	connectFlags `embed:"" group:"Connection"`

	Datadir    string      `help:"Where the server's data directory is seen from here (default: where the server says)." placeholder:"DIR" type:"path"`
	Parallel   int         `help:"How many readers (default: processors, at most 8)." placeholder:"N"`
	Throttle   stream.Size `help:"Read at most so many bytes a second of tablespaces." placeholder:"SIZE"`
	Tmpdir     string      `help:"Where redo is spooled that the archive does not take at once (default: TMPDIR or /tmp)." placeholder:"DIR" type:"path"`
	SlaveInfo  bool        `help:"Record the position of the server's own replication."`
	GaleraInfo bool        `help:"Record the Galera position."`

	lockFlags `embed:"" group:"Locks and replication (MySQL)"`

	Compress              bool     `help:"Compress with zstd." group:"Stages"`
	CompressLevel         int      `help:"zstd level, 1 to 19 (default 3); implies --compress." placeholder:"N" group:"Stages"`
	EncryptTo             []string `help:"Encrypt to this age recipient: age1…, an SSH public key. May be repeated." placeholder:"RECIPIENT" sep:"none" group:"Stages"`
	EncryptToFile         []string `help:"Encrypt to the recipients in this file. May be repeated." placeholder:"FILE" type:"path" sep:"none" group:"Stages"`
	EncryptPassphraseFile string   `help:"Encrypt with the passphrase in the first line of this file." placeholder:"FILE" type:"path" group:"Stages"`
}

// queryType is a kind of statements: all, update or select.
type queryType mysqld.QueryType

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
	FtwrlWaitQueryType     queryType `help:"Statements to wait for: all, update or select (default all)." placeholder:"TYPE"`
	KillLongQueriesTimeout wait      `help:"Kill statements that hold the lock up for longer (default 0: never)." placeholder:"SECONDS"`
	KillLongQueryType      queryType `help:"Statements to kill: all, update or select (default all)." placeholder:"TYPE"`
	LockDdlPerTable        bool      `help:"Lock every table against DDL before copying (5.6 and 5.7; not needed: what DDL changed is copied again)."`
	SafeSlaveBackup        bool      `help:"Stop the replica's SQL threads while the position is taken, when no temporary table of theirs is open."`
	SafeSlaveBackupTimeout wait      `help:"Wait so long for those tables (default 300)." placeholder:"SECONDS"`

	DumpInnodbBufferPool        bool `help:"Have the server dump which pages its buffer pool holds, and take that along."`
	DumpInnodbBufferPoolPct     int  `help:"How much of the buffer pool to dump." placeholder:"PERCENT"`
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

func (c *backupCmd) Run(ctx context.Context, t *terminal) error {
	if isTerminal(os.Stdout) {
		return usageError{"standard output is a terminal: send the archive into a file or a pipe, such as hb backup | ssh host \"hb extract -C dir\""}
	}
	if isClosed(os.Stdout) {
		return usageError{"standard output is closed, so that the archive would be lost: send it into a file or a pipe"}
	}
	if err := checkTmpdir(&c.Tmpdir); err != nil {
		return err
	}
	write, err := c.stages()
	if err != nil {
		return err
	}
	options, set, err := mysqld.Resolve(c.flags(), environment())
	if err != nil {
		return usageError{err.Error()}
	}
	t.warn(set.Warnings)
	srv, err := mysqld.Connect(ctx, options)
	if err != nil {
		return err
	}
	err = c.backup(ctx, t, srv, write)
	return errors.Join(err, srv.Close())
}

// checkTmpdir fills in where temporary files go, and makes sure that they can.
func checkTmpdir(dir *string) error {
	if *dir == "" {
		*dir = os.TempDir()
	}
	if err := unix.Access(*dir, unix.W_OK|unix.X_OK); err != nil {
		return usageError{fmt.Sprintf("nothing can be spooled to %s: %v; give another place with --tmpdir", *dir, err)}
	}
	return nil
}

// stages reads what the flags say about compression and encryption.
func (c *backupCmd) stages() (w stream.WriteOptions, err error) {
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
		phrase, err := firstLine(c.EncryptPassphraseFile)
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

func (c *backupCmd) backup(ctx context.Context, t *terminal, srv *mysqld.Server, write stream.WriteOptions) error {
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
	result, err := source.Run(ctx, srv, w, c.options(write))
	if err != nil {
		w.Abort(err)
		return err
	}
	if err := errors.Join(w.Close(), out.Close()); err != nil {
		return err
	}
	t.say("backup complete: %s in %s, redo to LSN %d%s", stream.Size(w.Sent()), time.Since(began).Round(time.Millisecond),
		result.Manifest.LastLSN, describePosition(result.Manifest))
	for _, s := range result.Locks {
		t.say("%s: waited %s, held %s", s.Lock, s.Wait.Round(time.Microsecond), s.Held.Round(time.Microsecond))
	}
	return nil
}

func (c *backupCmd) options(write stream.WriteOptions) source.Options {
	parallel := c.Parallel
	if parallel <= 0 {
		parallel = min(runtime.GOMAXPROCS(0), maxDefaultParallel)
	}
	o := source.Options{
		Parallel: parallel, Tmpdir: c.Tmpdir, Datadir: c.Datadir,
		SlaveInfo: c.SlaveInfo, GaleraInfo: c.GaleraInfo,
		Tool: "hb", ToolVersion: version(), Command: maskedCommand(os.Args),
		Compressed: write.Compress != nil, Encrypted: len(write.Recipients) > 0,
	}
	c.lockFlags.set(&o)
	if c.Throttle > 0 {
		o.Pace = stream.NewPacer(c.Throttle).Wait
	}
	return o
}

func describePosition(m metadata.Manifest) string {
	if m.Binlog == nil {
		return ""
	}
	return fmt.Sprintf(", binlog %s:%d %s", m.Binlog.File, m.Binlog.Pos, m.Binlog.GTID)
}

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

// open opens the archive and takes its stages off.
func (c *readFlags) open() (r *stream.Reader, closeAll func() error, err error) {
	in := os.Stdin
	if c.Archive != "" && c.Archive != "-" {
		if in, err = os.Open(c.Archive); err != nil {
			return nil, nil, err
		}
	} else if isTerminal(os.Stdin) {
		return nil, nil, usageError{"standard input is a terminal: give the archive through a pipe or name a file"}
	}
	opts := stream.Options{Passphrase: c.passphrase}
	for _, name := range c.Identity {
		ids, err := stream.ParseIdentitiesFile(name, askSecret)
		if err != nil {
			return nil, nil, errors.Join(usageError{err.Error()}, in.Close())
		}
		opts.Identities = append(opts.Identities, ids...)
	}
	debug.SetMemoryLimit(readMemory)
	if r, err = stream.Open(in, opts); err != nil {
		return nil, nil, errors.Join(err, in.Close())
	}
	return r, func() error { return errors.Join(r.Close(), in.Close()) }, nil
}

func (c *readFlags) passphrase(prompt string) (string, error) {
	if c.PassphraseFile != "" {
		return firstLine(c.PassphraseFile)
	}
	return askSecret(prompt)
}

type extractCmd struct {
	readFlags
	Directory string      `short:"C" help:"Directory to unpack into: empty, or not there yet." default:"." placeholder:"DIR" type:"path"`
	Parallel  int         `help:"How many writers, and workers of --apply (default: processors, at most 8)." placeholder:"N"`
	Apply     bool        `help:"Replay the redo log as well, as hb apply does, in the same pass."`
	Memory    stream.Size `help:"How much memory records may take with --apply (default 256MiB); more are sorted on disk." placeholder:"SIZE"`
}

func (c *extractCmd) Run(ctx context.Context, t *terminal) error {
	began := time.Now()
	if c.Memory != 0 && !c.Apply {
		return usageError{"--memory is for --apply"}
	}
	r, closeAll, err := c.open()
	if err != nil {
		return err
	}
	extracted, applied, err := c.extract(ctx, r)
	err = errors.Join(err, closeAll())
	if extracted == nil || err != nil && !c.Apply {
		return err
	}
	t.warn(extracted.Warnings)
	took := time.Since(began)
	if applied == nil {
		t.say("extracted %d files, %s, in %s; next: hb apply %s", extracted.Files, stream.Size(extracted.Bytes),
			took.Round(time.Millisecond), c.Directory)
		return err
	}
	t.say("extracted %d files, %s", extracted.Files, stream.Size(extracted.Bytes))
	t.applied(applied, c.Directory, false, took)
	return err
}

// extract unpacks the archive, and recovers it if that is wanted.
func (c *extractCmd) extract(ctx context.Context, r io.Reader) (*sink.ExtractResult, *sink.ApplyResult, error) {
	o := sink.ExtractOptions{Parallel: c.Parallel}
	if !c.Apply {
		result, err := sink.Extract(ctx, r, c.Directory, o)
		return result, nil, err
	}
	memory := cmp.Or(int64(c.Memory), sink.DefaultMemory)
	debug.SetMemoryLimit(max(readMemory, memory+restoreMemory))
	return sink.Restore(ctx, r, c.Directory, o, sink.ApplyOptions{Parallel: c.Parallel, Memory: memory, Tool: "hb " + version()})
}

// restoreMemory is what extract --apply needs besides --memory, in bytes.
const restoreMemory = 64 << 20

type applyCmd struct {
	Directory string      `arg:"" help:"Directory of an extracted backup." type:"path"`
	Parallel  int         `help:"How many workers (default: processors, at most 8)." placeholder:"N"`
	Memory    stream.Size `help:"How much memory records may take (default 256MiB); more are sorted on disk." placeholder:"SIZE"`
	ByServer  bool        `help:"Do not replay: put the redo log where a server of that series looks for it, so that the server recovers the directory when it starts."`
}

func (c *applyCmd) Run(ctx context.Context, t *terminal) error {
	began := time.Now()
	result, err := sink.Apply(ctx, c.Directory, sink.ApplyOptions{Parallel: c.Parallel, Memory: int64(c.Memory), ByServer: c.ByServer, Tool: "hb " + version()})
	if err != nil {
		return err
	}
	t.applied(result, c.Directory, c.ByServer, time.Since(began))
	return nil
}

// applied says what became of a directory.
func (t *terminal) applied(r *sink.ApplyResult, dir string, byServer bool, took time.Duration) {
	t.warn(r.Warnings)
	switch {
	case r.AlreadyApplied:
		t.say("%s was applied before: nothing to do", dir)
	case byServer:
		t.say("the redo log, LSN %d to %d, is where the server looks for it: %s recovers when a server starts on it", r.FromLSN, r.LSN, dir)
	default:
		t.say("applied redo from LSN %d to %d, %d pages written, in %s; a server can start on %s", r.FromLSN, r.LSN,
			r.Pages, took.Round(time.Millisecond), dir)
	}
}

type verifyCmd struct {
	readFlags
	Parallel int         `help:"How many workers (default: processors, at most 8)." placeholder:"N"`
	Memory   stream.Size `help:"How much memory redo records may take (default 256MiB); more are sorted on disk." placeholder:"SIZE"`
	Tmpdir   string      `help:"Where temporary files go: the redo log of an archive, and what --replay writes (default: TMPDIR or /tmp)." placeholder:"DIR" type:"path"`
	Replay   bool        `help:"Rehearse hb apply, and throw the result away. In --tmpdir this takes the size of the pages that the redo changes; with an archive from a pipe, or that is compressed or encrypted, that of all tablespaces."`
}

// Help is what hb verify --help says besides.
func (c *verifyCmd) Help() string {
	return "A directory is verified too, whether hb apply has recovered it or not, and whichever tool made the backup."
}

func (c *verifyCmd) Run(ctx context.Context, t *terminal) error {
	began := time.Now()
	result, err := c.verify(ctx)
	if err != nil {
		return err
	}
	t.warn(result.Warnings)
	t.say("%s", result.Describe())
	t.say("verified in %s: %s", time.Since(began).Round(time.Millisecond), describeVerified(result))
	return nil
}

func (c *verifyCmd) verify(ctx context.Context) (*sink.VerifyResult, error) {
	if err := checkTmpdir(&c.Tmpdir); err != nil {
		return nil, err
	}
	o := sink.VerifyOptions{Parallel: c.Parallel, Memory: int64(c.Memory), Tmpdir: c.Tmpdir, Replay: c.Replay}
	if st, err := os.Stat(c.Archive); err == nil && st.IsDir() {
		return sink.VerifyDir(ctx, c.Archive, o)
	}
	r, closeAll, err := c.open()
	if err != nil {
		return nil, err
	}
	anywhere, closeFile, err := c.anywhere(r)
	if err != nil {
		return nil, errors.Join(err, closeAll())
	}
	o.At = anywhere
	result, err := sink.Verify(ctx, r, o)
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

func describeVerified(r *sink.VerifyResult) string {
	switch {
	case r.Applied && r.HandedOver:
		return fmt.Sprintf("%d pages, none newer than LSN %d, to which a server will recover it", r.Pages, r.LSN)
	case r.Applied:
		return fmt.Sprintf("%d pages, none newer than LSN %d; it was recovered: a server can start", r.Pages, r.LSN)
	case r.Replayed:
		return fmt.Sprintf("%d pages; hb apply was rehearsed to LSN %d, with %d pages written", r.Pages, r.LSN, r.Recovered)
	}
	return fmt.Sprintf("%d pages; %d mini-transactions of redo, unbroken to LSN %d", r.Pages, r.MTRs, r.LSN)
}

type listCmd struct {
	readFlags
}

func (c *listCmd) Run(ctx context.Context, t *terminal) error {
	r, closeAll, err := c.open()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	result, err := sink.List(ctx, r, func(e sink.Entry) error { return printEntry(out, e) })
	if err := errors.Join(err, out.Flush(), closeAll()); err != nil {
		return err
	}
	t.warn(result.Warnings)
	t.say("%s", result.Describe())
	return nil
}

// printEntry prints one line of a listing: size, chunks, path.
func printEntry(w io.Writer, e sink.Entry) (err error) {
	switch e.Op {
	case sink.OpRename:
		_, err = fmt.Fprintf(w, "%12s %6s %s -> %s\n", "renamed", "", e.Path, e.NewPath)
	case sink.OpRemove:
		_, err = fmt.Fprintf(w, "%12s %6s %s\n", "removed", "", e.Path)
	default:
		_, err = fmt.Fprintf(w, "%12d %6d %s\n", e.Size, e.Chunks, e.Path)
	}
	return err
}

// usageError is a mistake in the command line or in what it names.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

// exitCode is one line of the table that README.md documents.
type exitCode struct {
	code    int
	matches func(error) bool
}

// errInterrupted ends a command at SIGINT or SIGTERM.
var errInterrupted = errors.New("interrupted")

// exitCodes maps errors to exit codes; the first line that matches counts, and
// what matches none is 1.
var exitCodes = []exitCode{
	{130, is(errInterrupted)},
	{2, any1(as[usageError], as[source.InexactSourceError])},
	{3, any1(as[*mysqld.ConnectError], as[*mysqld.MissingPrivilegesError], as[*mysqld.DatadirError], as[*source.UnreadableError])},
	{4, any1(as[*mysqld.UnsupportedError], as[*mysqld.UnsupportedFeatureError], as[*source.EncryptedError],
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

func main() { os.Exit(run(ownArgs(), os.Stderr)) }

// ownArgs returns the arguments, and takes passwords out of those that other
// users see in the list of processes, as the servers' clients do. (The strings of
// os.Args are the kernel's copy itself.)
func ownArgs() []string {
	args := make([]string, 0, len(os.Args))
	for _, a := range os.Args[1:] {
		args = append(args, strings.Clone(a))
		if at := passwordAt(a); at > 0 {
			for i := range unsafe.Slice(unsafe.StringData(a), len(a))[at:] {
				unsafe.Slice(unsafe.StringData(a), len(a))[at+i] = 'x'
			}
		}
	}
	return args
}

// passwordAt returns where in an argument a password begins, or 0.
func passwordAt(arg string) int {
	for _, flag := range []string{"--password=", "-p"} {
		if strings.HasPrefix(arg, flag) && len(arg) > len(flag) {
			return len(flag)
		}
	}
	return 0
}

// run is the whole program but for the process's exit.
func run(args []string, stderr io.Writer) int {
	// A reader that went away is an error to report, not a signal to die of.
	signal.Ignore(syscall.SIGPIPE)
	var c cli
	exited := -1
	parser, err := kong.New(&c, kong.Name("hb"),
		kong.Description("Hot physical backup of MySQL and MariaDB, as a Unix filter."),
		kong.NoDefaultHelp(), kong.Vars{"version": "hb " + version()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Exit(func(code int) { exited = code; panic(exitPanic{}) }),
		kong.Writers(os.Stdout, stderr))
	if err != nil {
		panic(err) // the grammar itself is wrong
	}
	t := &terminal{w: stderr}
	status := func() (code int) {
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(exitPanic); !ok {
					panic(r)
				}
				code = exited
			}
		}()
		parsed, err := parser.Parse(passwordFlags(args))
		if err != nil {
			t.line("", "%v (hb --help shows how)", withoutPasswords(err.Error(), args))
			return 2
		}
		t.quiet = c.Quiet
		return execute(parsed, t)
	}
	return status()
}

// exitPanic carries kong's wish to exit through its parser.
type exitPanic struct{}

func execute(parsed *kong.Context, t *terminal) int {
	ctx, stop := signalContext()
	defer stop()
	parsed.BindTo(ctx, (*context.Context)(nil))
	parsed.Bind(t)
	err := parsed.Run()
	if err == nil {
		return 0
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	text := strings.ReplaceAll(err.Error(), "\n", "; ") // of errors that came together
	if errors.Is(err, syscall.ENOSPC) {
		text += "; make room and start again"
	}
	t.line("", "%s", text)
	return exitStatus(err)
}

// signalContext ends with errInterrupted at SIGINT or SIGTERM. A second signal
// ends the process at once.
func signalContext() (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case s := <-c:
			cancel(fmt.Errorf("%w by signal %v", errInterrupted, s))
			signal.Reset(os.Interrupt, syscall.SIGTERM)
		case <-done:
		}
	}()
	return ctx, func() {
		// The command has ended, well or not, and its exit code has to say so.
		signal.Ignore(os.Interrupt, syscall.SIGTERM)
		close(done)
		cancel(nil)
	}
}

// passwordFlags turns the servers' clients' ways to give a password, -pSECRET
// and a bare --password, into flags that the grammar knows.
func passwordFlags(args []string) []string {
	out := make([]string, 0, len(args))
	for i, a := range args {
		switch {
		case a == "--":
			return append(out, args[i:]...)
		case a == "--password":
			a = "--ask-password"
		case strings.HasPrefix(a, "-p") && passwordAt(a) > 0:
			a = "--password=" + a[2:]
		}
		out = append(out, a)
	}
	return out
}

// maskedCommand is the command line without passwords, for the metadata.
func maskedCommand(args []string) string {
	out := []string{filepath.Base(args[0])}
	for _, a := range args[1:] {
		if at := passwordAt(a); at > 0 {
			a = a[:at] + "..."
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}

// withoutPasswords is what the parser says of arguments, without a password
// that stands where it does not belong: behind a flag that asks for it.
func withoutPasswords(text string, args []string) string {
	for i, a := range args {
		if at := passwordAt(a); at > 0 {
			text = strings.ReplaceAll(text, a[at:], "...")
		}
		if (a == "-p" || a == "--password") && i+1 < len(args) && args[i+1] != "" && !strings.HasPrefix(args[i+1], "-") {
			text = strings.ReplaceAll(text, args[i+1], "...")
		}
	}
	return text
}

// environment is the process's environment, with the terminal to ask for a
// password.
func environment() mysqld.Env {
	env := mysqld.OSEnv()
	env.AskPassword = func(prompt string) (mysqld.Secret, error) {
		s, err := askSecret(prompt)
		return mysqld.NewSecret(s), err
	}
	return env
}

// maxSecret bounds a line that holds a password or passphrase.
const maxSecret = 4096

// firstLine reads the first line of a small file.
func firstLine(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readLine(f, name)
}

func readLine(r io.Reader, name string) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxSecret)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading %s: %w", name, err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// askSecret asks on the terminal, which does not show what is typed. Standard
// input and output belong to the archive.
func askSecret(prompt string) (_ string, err error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return "", fmt.Errorf("there is no terminal to ask on (%s)", strings.TrimSpace(prompt))
	}
	defer func() { err = errors.Join(err, tty.Close()) }()
	fd := int(tty.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", err
	}
	silent := *old
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &silent); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unix.IoctlSetTermios(fd, unix.TCSETS, old)) }()
	fmt.Fprint(tty, prompt)
	line, err := readLine(tty, "the terminal")
	fmt.Fprintln(tty)
	return line, err
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// isClosed reports whether f, a standard stream, was closed when the process
// began. Go then puts /dev/null in its place, open in both directions, which no
// shell's > does.
func isClosed(f *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return true
	}
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	null := st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == unix.Mkdev(1, 3)
	return err != nil || null && flags&unix.O_ACCMODE == unix.O_RDWR
}

// version is the module's version as the build recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				v += "-" + s.Value[:min(12, len(s.Value))]
			}
		}
	}
	return v
}
