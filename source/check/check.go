// Package check answers what can be asked before a backup: would it succeed, which
// privileges are missing, how much work will it be, how large its archive. In goes a
// server with its files (package subject); out come findings, or the error with which a
// backup would fail. It takes no lock, and writes nothing.
//
// preflight.go has the checks with which every backup begins.
package check

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"time"

	"hb/source/datadir"
	"hb/source/infofile"
	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/login"
	"hb/source/mysqld/position"
	"hb/source/redo"
	"hb/source/stage"
	"hb/source/subject"
	"hb/stream"
	"hb/stream/disk"
	"hb/stream/progress"
)

// A Finding is what one check found.
type Finding struct {
	Check   string      // what was looked at
	Text    string      // what was found, and what to do about it; a statement to run has a line of its own
	Warning bool        // a backup would succeed, but the user should act on this
	Err     error       // with which a backup would fail
	Facts   []slog.Attr // for programs
}

// Level is the finding's severity.
func (f *Finding) Level() slog.Level {
	switch {
	case f.Err != nil:
		return slog.LevelError
	case f.Warning:
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// failure is what a check found that ended with an error.
func failure(check string, err error) Finding {
	return Finding{Check: check, Text: err.Error(), Err: err}
}

// WouldFailError says that a backup would fail; it wraps the error that the backup
// would meet first.
type WouldFailError struct{ failed []Finding }

func (e *WouldFailError) Error() string {
	var names []string
	for _, f := range e.failed {
		names = append(names, f.Check)
	}
	return "a backup would fail now: " + strings.Join(slices.Compact(names), ", ")
}

func (e *WouldFailError) Unwrap() error { return e.failed[0].Err }

// Run makes all checks for a backup with these flags, and passes each finding to
// tell: first the checks that a backup itself makes before it begins, in the same
// order, then how much work the backup will be. It takes no lock and writes
// nothing. The rate at which redo is written is measured over interval. If a backup
// would fail, the error is a *WouldFailError.
func Run(ctx context.Context, f *subject.Flags, env login.Env, interval time.Duration, tell func(Finding)) error {
	var failed []Finding
	err := checkFlags(ctx, f, env, interval, func(found Finding) {
		if found.Err != nil {
			failed = append(failed, found)
		}
		tell(found)
	})
	if err == nil && len(failed) > 0 {
		return &WouldFailError{failed}
	}
	return err
}

// checkFlags checks the flags and the connection, and the server if it can be reached.
func checkFlags(ctx context.Context, f *subject.Flags, env login.Env, interval time.Duration, tell func(Finding)) error {
	for _, path := range []string{f.InfoFile, f.ManifestOut} {
		if err := infofile.Check(path); err != nil {
			tell(failure("options", err))
		}
	}
	_, mistakes := f.PrepareAll()
	for _, err := range mistakes {
		tell(failure("options", err))
	}
	o, err := f.Resolve(env)
	if _, mistaken := errors.AsType[*stream.UsageError](err); mistaken {
		tell(failure("options", err))
		return nil
	}
	var srv *mysqld.Server
	if err == nil {
		srv, err = mysqld.Connect(ctx, o)
	}
	if err != nil {
		tell(failure("connection", err))
		return nil
	}
	connection := Finding{Check: "connection", Text: fmt.Sprint(o)}
	if doubts := o.Doubts(); len(doubts) > 0 {
		connection.Text += ": " + strings.Join(doubts, "; ")
		connection.Warning = true
	}
	tell(connection)
	return errors.Join(checkServer(ctx, srv, f.Options, interval, tell), srv.Close())
}

// checkServer checks a server and its files. The error is that of ctx.
func checkServer(ctx context.Context, srv *mysqld.Server, opt subject.Options, interval time.Duration, tell func(Finding)) error {
	s, err := subject.New(disk.OS, srv, opt)
	if err != nil {
		tell(failure("files", err))
		return nil
	}
	by := &checker{s}
	if text := by.withoutEffect(); text != "" {
		tell(Finding{Check: "options", Text: text, Warning: true})
	}
	o := &outlook{interval: interval}
	checks := slices.Concat([]check{{"version", (*checker).tellVersion}}, by.preflightChecks(),
		[]check{{"encryption", (*checker).tellEncryption}, {"page checksums", (*checker).tellChecksums}, {"redo rate", o.redoRate}, {"files elsewhere", (*checker).tellOutside}, {"definitions", (*checker).tellDefinitions}, {"binary log", (*checker).tellBinlog}, {"tables without transactions", (*checker).tellPlainTables}, {"rows elsewhere", (*checker).tellUnstored}, {"space", o.space}, {"other backups", (*checker).tellOthers}})
	blind := false // privileges are missing, so that the server refuses answers
	for _, c := range checks {
		f := c.find(ctx, by, blind)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_, lacks := errors.AsType[*mysqld.MissingPrivilegesError](f.Err)
		blind = blind || lacks
		tell(f)
	}
	return nil
}

// MissingGrants returns the statements that give the account what a backup of srv
// needs and it lacks; also what it can do without: of an incremental one what makes it faster,
// and what the definitions of all objects need.
func MissingGrants(ctx context.Context, srv *mysqld.Server, opt subject.Options) ([]string, error) {
	s, err := subject.New(disk.OS, srv, opt)
	if err != nil {
		return nil, err
	}
	c := &checker{s}
	needs, err := c.needs(ctx)
	if err != nil {
		return nil, err
	}
	if needs.ListChanges, err = c.listsChanges(ctx); err != nil {
		return nil, err
	}
	err = c.Server.CheckPrivileges(ctx, needs)
	missing, lacks := errors.AsType[*mysqld.MissingPrivilegesError](err)
	if err != nil && !lacks {
		return nil, err
	}
	var statements []string
	if lacks {
		statements = missing.Grants()
	}
	if c.Options.NoDefinitions {
		return statements, nil
	}
	if missing, err = c.Server.LacksForDefinitions(ctx); missing != nil {
		statements = append(statements, missing.Grants()...)
	}
	return statements, err
}

// find looks, and puts an error into words.
func (c check) find(ctx context.Context, by *checker, blind bool) Finding {
	f := Finding{Check: c.name}
	err := c.run(ctx, by, &f)
	missing, lacks := errors.AsType[*mysqld.MissingPrivilegesError](err)
	_, unsupported := errors.AsType[*mysqld.UnsupportedFeatureError](err)
	switch {
	case err == nil:
	case blind && mysqld.IsDenied(err) && !unsupported:
		if f.Text != "" {
			f.Text += "; the rest is "
		}
		f.Text += "not checked: this needs the privileges listed above"
		f.Warning = true
	case lacks:
		f.Text, f.Err = missing.Error(), err
		f.Facts = append(f.Facts, slog.Any("grants", missing.Grants()))
	default:
		f.Text, f.Err = err.Error(), err
	}
	return f
}

// tellDefinitions reports whether the account may ask for the definition of every object.
func (c *checker) tellDefinitions(ctx context.Context, f *Finding) error {
	if c.Options.NoDefinitions {
		f.Text = "not recorded (--no-definitions)"
		return nil
	}
	missing, err := c.Server.LacksForDefinitions(ctx)
	if err != nil {
		return err
	}
	if missing == nil {
		f.Text = "the account may ask for all of them"
		return nil
	}
	f.Text = "the archive will lack some, which restores of single tables need: " + missing.Error()
	f.Warning = true
	f.Facts = append(f.Facts, slog.Any("grants", missing.Grants()))
	return nil
}

// tellVersion reports how well hb knows the server's release. One that is not
// supported is refused when hb connects.
func (c *checker) tellVersion(_ context.Context, f *Finding) error {
	srv := c.Server
	f.Text = fmt.Sprintf("%v %s is supported", srv.Flavor, srv.Version.Full)
	if tested := mysqld.TestedWith(srv.Flavor, srv.Version); len(tested) > 0 {
		f.Text += "; hb was tested with " + strings.Join(tested, ", ")
	} else {
		f.Text += ", but hb was not tested with it: rehearse a restore"
		f.Warning = true
	}
	f.Facts = append(f.Facts, slog.String("server", srv.String()))
	return nil
}

// outlook is the second half of Run: how much work the backup will be.
type outlook struct {
	interval time.Duration
	rate     float64       // of redo, bytes a second; 0: none, or not known
	during   time.Duration // of a backup, estimated; 0: not known
	copied   string        // by what
}

const (
	// shortLap: a redo log that wraps in less time is worth a warning.
	shortLap = time.Minute
	// shortSpool is for how long --tmpdir should hold the redo while the archive
	// takes none.
	shortSpool = 10 * time.Minute
	// muchPlain: so many bytes in non-transactional tables may block their writers
	// for long.
	muchPlain = 1 << 30
)

// redoRate measures how fast the server writes redo, and reports how soon the log
// would wrap.
func (o *outlook) redoRate(c *checker, ctx context.Context, f *Finding) error {
	state, err := c.LookAtRedo()
	if err != nil {
		return err
	}
	capacity := state.Capacity
	if capacity == 0 {
		if capacity, err = position.RedoCapacity(ctx, c.Server); err != nil {
			return err
		}
	}
	first, err := position.CurrentLSN(ctx, c.Server)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := datadir.Pause(ctx, o.interval); err != nil {
		return err
	}
	last, err := position.CurrentLSN(ctx, c.Server)
	if err != nil {
		return err
	}
	o.rate = float64(last-first) / time.Since(began).Seconds()
	if o.during, o.copied, err = c.duration(ctx); err != nil && !mysqld.IsDenied(err) {
		return err
	}
	f.Facts = append(f.Facts, slog.Float64("backup_seconds", o.during.Seconds()), slog.Int64("redo_capacity", capacity), slog.Float64("redo_rate", o.rate))
	o.describeLap(f, capacity, c.Server.Series.RedoConsumer)
	return nil
}

// describeLap reports how soon a redo log of capacity bytes would wrap. kept: the
// server overwrites no redo that hb has not read.
func (o *outlook) describeLap(f *Finding, capacity int64, kept bool) {
	f.Text = fmt.Sprintf("the log holds %s; ", stream.Size(capacity))
	if o.rate == 0 {
		f.Text += "no redo was written during the measurement: check again under the load that you expect during a backup"
		return
	}
	lap := lasts(capacity, o.rate)
	f.Facts = append(f.Facts, slog.Float64("redo_lap_seconds", lap.Seconds()))
	f.Text += fmt.Sprintf("at %s/s it wraps in %s", stream.Size(o.rate), progress.Span(lap))
	f.Text += fmt.Sprintf("; hb reads %s/s even on a busy machine", stream.Size(redo.FollowRate))
	o.describeLaps(f, lap)
	if lap >= shortLap && o.rate < redo.FollowRate && !f.Warning {
		return
	}
	f.Warning = true
	f.Text += ": if hb falls behind by more than the size of the log, "
	if kept {
		f.Text += "the server's writers wait for it; "
	} else {
		f.Text += "the backup fails; "
	}
	f.Text += "make the log larger (innodb_log_file_size, or innodb_redo_log_capacity)"
}

// lasts is how long it takes to write so many bytes of redo.
func lasts(bytes int64, rate float64) time.Duration {
	const most = float64(1000 * 24 * time.Hour)
	return time.Duration(min(float64(bytes)/rate*float64(time.Second), most))
}

// tellPlainTables reports the non-transactional tables: hb copies those that change
// again, while their writers wait.
func (c *checker) tellPlainTables(_ context.Context, f *Finding) error {
	list, err := c.Layout.List()
	if err != nil {
		return err
	}
	tables, err := datadir.PlainTables(c.Disk, list.Others)
	if err != nil {
		return err
	}
	describePlain(f, tables, c.finalLock())
	return nil
}

// describePlain reports which tables need a lock.
func describePlain(f *Finding, tables []datadir.PlainTable, lock string) {
	const most = 5
	if len(tables) == 0 {
		f.Text = "there are none"
		return
	}
	var bytes int64
	var largest []string
	for i, t := range tables {
		if bytes += t.Bytes; i < most {
			largest = append(largest, fmt.Sprintf("%s (%s, %s)", t.Name, t.Engine, stream.Size(t.Bytes)))
		}
	}
	f.Facts = append(f.Facts, slog.Int("tables", len(tables)), slog.Int64("bytes", bytes))
	f.Text = fmt.Sprintf("%d with %s, the largest: %s; what changes in them during the backup is copied again under %s",
		len(tables), stream.Size(bytes), strings.Join(largest, ", "), lock)
	if bytes >= muchPlain {
		f.Warning = true
		f.Text += ", and their writers may wait long: use InnoDB, or back up when they rest"
	}
}

// finalLock is the lock under which hb copies non-transactional tables for the last
// time.
func (c *checker) finalLock() string {
	switch d := &c.Server.Series; {
	case d.Stages:
		return "BACKUP STAGE BLOCK_DDL"
	case d.LogStatus:
		return "FLUSH TABLES … WITH READ LOCK"
	case d.TablesLock:
		return "LOCK TABLES FOR BACKUP"
	}
	return "FLUSH TABLES WITH READ LOCK, while nobody writes"
}

// SpaceError says that there is not enough space for the spool.
type SpaceError struct {
	Dir          string
	Needed, Free int64 // bytes
}

func (e *SpaceError) Error() string {
	return fmt.Sprintf("files of other engines and undo tablespaces take %s in %s until the end, where %s are free: make room, or give another place with --tmpdir",
		stream.Size(e.Needed), e.Dir, stream.Size(e.Free))
}

func (e *SpaceError) Unwrap() error { return syscall.ENOSPC }

// space checks that --tmpdir has room for what a backup spools: always the files of
// other engines, and redo that the archive has not taken yet.
func (o *outlook) space(c *checker, ctx context.Context, f *Finding) error {
	free, inMemory, err := disk.FreeSpace(c.Options.Tmpdir)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", c.Options.Tmpdir, err)
	}
	staged, err := c.toStage(ctx)
	if err != nil {
		return err
	}
	return o.describeSpace(f, c.Options.Tmpdir, free, max(0, staged-stage.Memory), inMemory)
}

// toStage is how many bytes of files will be staged: those of other engines, and undo
// tablespaces of MySQL 8.0 and later.
func (c *checker) toStage(ctx context.Context) (n int64, err error) {
	list, err := c.List(ctx)
	if err != nil {
		return 0, err
	}
	files := list.Others
	if c.Server.Series.LogStatus && c.Options.LockDDL != subject.LockDDLOn {
		for _, info := range list.Tablespaces {
			if c.Layout.HasUndoName(info.Name) {
				files = append(files, info)
			}
		}
	}
	if c.Server.Series.Stages {
		_, logs, err := c.Layout.AriaFiles()
		if err != nil {
			return 0, err
		}
		files = append(files, logs...)
	}
	for _, info := range files {
		n += info.Size
	}
	return n, nil
}

// describeSpace judges the free space in dir, for toStage bytes of other files and
// for redo.
func (o *outlook) describeSpace(f *Finding, dir string, free, staged int64, inMemory bool) error {
	f.Facts = append(f.Facts, slog.Int64("free", free), slog.Int64("staged", staged), slog.Bool("in_memory", inMemory))
	if staged > free {
		return &SpaceError{dir, staged, free}
	}
	f.Text = fmt.Sprintf("%s has %s free; files of other engines and undo tablespaces take %s of it", dir, stream.Size(free), stream.Size(staged))
	if o.rate > 0 {
		left := lasts(free-staged, o.rate)
		f.Text += fmt.Sprintf(", and redo, while the archive takes none, would fill the rest in %s", progress.Span(left))
		if left < shortSpool {
			f.Warning = true
			f.Text += ": give a larger place with --tmpdir"
		}
	}
	if inMemory {
		f.Warning = true
		f.Text += "; it is in memory (tmpfs), so the spool takes memory from the server: name a directory on disk with --tmpdir"
	}
	return nil
}

// tellOutside reports files outside the data directory.
func (c *checker) tellOutside(ctx context.Context, f *Finding) error {
	list, err := c.List(ctx)
	if err != nil {
		return err
	}
	f.Text = "all files are in the data directory"
	if text := c.OutsideText(list.Tablespaces); text != "" {
		f.Text, f.Warning = text, true
		f.Facts = append(f.Facts, slog.Bool("outside", true))
	}
	return nil
}

// tellOthers says whether a backup would wait for another one.
func (c *checker) tellOthers(ctx context.Context, f *Finding) error {
	holder, err := locks.Other(ctx, c.Server)
	f.Text = "no other hb backs this server up"
	if holder != "" {
		f.Text, f.Warning = fmt.Sprintf("another hb backs this server up: %s; a backup waits for it for --lock-wait-timeout", holder), true
	}
	return err
}

// tellBinlog reports what a backup has of the binary log.
func (c *checker) tellBinlog(_ context.Context, f *Finding) error {
	on, base := c.Server.Vars.LogBin()
	f.Text = "the backup has the position of the binary log"
	switch {
	case !on:
		f.Warning = true
		f.Text = "the server writes none (log_bin): no new replica can start from the backup, and no restore can go on to a point in time"
	case c.Layout.IsOutside(c.Layout.Seen(base)):
		f.Text += ". The log lies outside the data directory, at " + base
		if c.Server.Series.LogStatus {
			f.Warning = true
			f.Text += ": hb apply asks for --log-bin of the restored server"
		}
	}
	f.Facts = append(f.Facts, slog.Bool("log_bin", on))
	return nil
}
