// Package source makes an archive of a live server: it copies InnoDB's pages
// while they are written, follows the redo log that makes them consistent, and
// takes what belongs to other engines under a lock as short as it can be.
//
// The order of a backup, for each kind of server, is in sequence.go.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"hb/source/check"
	"hb/source/datadir"
	"hb/source/definitions"
	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/position"
	"hb/source/pages"
	"hb/source/redo"
	"hb/source/spool"
	"hb/source/stage"
	"hb/source/subject"
	"hb/stream"
	"hb/stream/disk"
	"hb/xbstream"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
	"hb/xbstream/metadata"
)

// Options say how to make a backup, and Flags are those of the command line.
type (
	Options      = subject.Options
	MySQLOptions = subject.MySQLOptions
	LockDDL      = subject.LockDDL
	Flags        = subject.Flags
)

// When DDL is locked out, on MySQL 8.0 and later.
const (
	LockDDLOn      = subject.LockDDLOn
	LockDDLReduced = subject.LockDDLReduced
)

// SystemError says that hb does not back up on an operating system.
type SystemError struct{ System string }

func (e *SystemError) Error() string {
	return fmt.Sprintf("hb can back up servers only on Linux; on %s use it to extract, apply, verify and list backups", e.System)
}

// CheckSystem reports why hb cannot back up on an operating system, which has the
// name that Go has for it.
func CheckSystem(system string) error {
	if system != "linux" {
		return &SystemError{system}
	}
	return nil
}

// maxParallel bounds the readers, each of which has a buffer of pages.SegmentSize;
// defaultParallel bounds those that nobody asked for: more do not help a pipe.
const (
	maxParallel     = 64
	defaultParallel = 8
)

// backup is one run: what the servers of all families have in common.
type backup struct {
	*subject.Subject
	sequence *sequence
	family   family
	started  time.Time
	fail     context.CancelCauseFunc // ends the context of all steps

	archive  *archive
	registry *pages.Registry
	copier   *pages.Copier
	follower *redo.Follower
	locks    *locks.Set
	only     *locks.Only        // until the server is not needed any more
	lsns     *position.Observer // that the follower asks; nil: it asks nobody
	redoFile *xbstream.File
	stage    *stage.Stage

	definitions *definitions.Recorder // nil: they are not recorded

	increment *increment           // nil: it is a full backup
	at        position.Moment      // what the backup stands for: set by stand only
	newest    innodb.LSN           // newest checkpoint when following ended
	system    innodb.Space         // the system tablespace, when its copy began
	last      pages.Found          // the tablespaces at the end
	now       map[pages.Key]string // and their final names
	databases []string             // at the end, that the backup has
	leftOut   []metadata.SpaceRange
	watcher   watcher
	young     map[string]keyring.MariaDBKey // of tablespaces whose page 0 only the redo log has, among others
	keysSent  bool                          // the archive has keys
	manifest  metadata.Manifest
}

// Run backs srv up into out. When it returns nil the archive is complete; after
// an error the archive has no valid end, and only Locks of the result is set.
// Locks are released in any case: if out has a method Interrupt, Run calls it when
// the backup fails, so that a write that nobody reads does not keep them.
func Run(ctx context.Context, srv *mysqld.Server, out io.Writer, opt Options) (*Result, error) {
	return runOn(ctx, disk.OS, srv, out, opt)
}

func runOn(ctx context.Context, system disk.System, srv *mysqld.Server, out io.Writer, opt Options) (_ *Result, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	b, err := newBackup(system, srv, out, opt)
	if err != nil {
		cancel(err)
		return &Result{}, err
	}
	b.fail = cancel
	r := &Result{}
	defer func() {
		cancel(err)
		err = b.close(err)
		r.Locks = b.locks.Times()
	}()
	if i, ok := out.(interface{ Interrupt() }); ok {
		defer context.AfterFunc(ctx, i.Interrupt)() // what follows a backup that succeeded goes on
	}
	if err := b.run(ctx); err != nil {
		// The first failure ended the context, and explains more than the
		// errors that followed from it.
		if cause := context.Cause(ctx); cause != nil {
			return r, cause
		}
		return r, err
	}
	r.Manifest, r.Bytes = b.manifest, b.archive.w.Written()
	return r, nil
}

func newBackup(system disk.System, srv *mysqld.Server, out io.Writer, opt Options) (*backup, error) {
	s, err := subject.New(system, srv, opt)
	if err != nil {
		return nil, err
	}
	b := &backup{
		Subject: s, sequence: sequenceOf(&srv.Series), started: time.Now(),
		archive:  &archive{w: xbstream.NewWriter(out)},
		registry: pages.NewRegistry(),
		locks:    locks.New(srv),
		stage:    stage.New(system, spool.New(system, opt.Tmpdir, stage.Memory)),
	}
	if !opt.NoDefinitions {
		b.definitions = definitions.New(definitions.Options{Server: srv, Disk: system, Layout: &s.Layout, Tmpdir: opt.Tmpdir, Stage: b.stage, Warn: s.Warn})
	}
	b.family = b.sequence.begin(b)
	b.stage.Keys = b.Keys
	b.stage.Mapped = srv.Vars.Bool("myisam_use_mmap")
	pace := opt.Pace
	if pace == nil && opt.Throttle > 0 {
		pace = stream.NewPacer(opt.Throttle).Wait
	}
	b.copier = &pages.Copier{Disk: system, Create: b.archive.output, Registry: b.registry, PageSize: b.PageSize, Parallel: readers(opt.Parallel), Keys: b.Keys, Wait: pace}
	return b, nil
}

// readers is how many goroutines read tablespaces, if so many are asked for; 0: nobody
// asked.
func readers(parallel int) int {
	if parallel <= 0 {
		return min(runtime.GOMAXPROCS(0), defaultParallel)
	}
	return min(parallel, maxParallel)
}

// run takes the steps.
func (b *backup) run(ctx context.Context) error {
	for _, step := range b.family.steps() {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close ends everything that may still run or be held after an error, and
// keeps that error first.
func (b *backup) close(err error) error {
	if err != nil {
		b.archive.w.Abort(err)
	}
	others := b.family.release()
	b.watcher.wait()
	if b.follower != nil {
		others = errors.Join(others, b.follower.Close())
	}
	if b.lsns != nil { // which the follower asked
		others = errors.Join(others, b.lsns.Close())
	}
	others = errors.Join(others, b.definitions.Close(), b.stage.Close())
	if err != nil {
		return err
	}
	return others
}

// preflight makes the checks that come before anything is locked or sent.
func (b *backup) preflight(ctx context.Context) error { return check.Preflight(ctx, b.Subject) }

// awaitOthers waits until no other hb backs the server up.
func (b *backup) awaitOthers(ctx context.Context) (err error) {
	b.Options.Progress.Begin("waiting for another backup of this server", 0)
	b.only, err = b.locks.Only(ctx)
	return err
}

// letOthers lets another backup begin, while this one sends what is left: the server may be gone
// by the end of that. What it then has no more to tell is asked before.
func (b *backup) letOthers(ctx context.Context) error {
	if len(b.last.Deferred) > 0 && b.Server.Flavor == mysqld.MariaDB {
		// It only describes the backup, which is complete without: no error counts.
		b.young, _ = contents.EncryptedNames(ctx, b.Server)
	}
	return b.only.Close()
}

// followRedo begins the archive and the copy of the redo log in it.
func (b *backup) followRedo(ctx context.Context) error {
	b.Options.Progress.Begin("listing tablespaces", 0) // after the redo log's beginning, which is as short
	if err := b.family.openRedo(ctx); err != nil {
		return err
	}
	b.beginIncrement()
	b.copier.Since = b.follower.End
	b.copier.Info = func(id innodb.SpaceID) []byte { return b.follower.File(id).Info }
	b.copier.Begun = func(id innodb.SpaceID) innodb.LSN { return b.follower.File(id).Begun }
	if err := b.sendArchiveHeader(); err != nil {
		return err
	}
	var err error
	if b.redoFile, err = b.archive.create(b.RedoName); err != nil {
		return err
	}
	b.redoFile.Hurry() // else redo would wait for as many chunks of pages as there are workers
	b.follower.Start(ctx, b.redoFile, b.Options.Tool, b.fail)
	b.watcher.start(ctx, b)
	return nil
}

// copyTablespaces copies the tablespaces that exist now.
func (b *backup) copyTablespaces(ctx context.Context) error {
	list, err := b.List(ctx)
	if err != nil {
		return err
	}
	system, err := b.Inventory.System(ctx, b.Layout.System)
	if err != nil {
		return err
	}
	b.system = system[0].Space.Space
	if text := b.OutsideText(list.Tablespaces); text != "" {
		b.Warn("%s", text)
	}
	datadir.LargestFirst(list.Tablespaces)
	return b.copyFiles(ctx, "copying tablespaces", append(system, pages.Unopened(list.Tablespaces)...))
}

// copyFiles copies tablespaces, in a phase of that name.
func (b *backup) copyFiles(ctx context.Context, phase string, files []*pages.File) error {
	if len(files) == 0 {
		return nil
	}
	var total int64
	for _, t := range files {
		total += t.Size
	}
	b.copier.Phase = b.Options.Progress.Begin(phase, total)
	return b.copier.CopyFiles(ctx, files)
}

// copyRounds bounds how often the databases are listed again for tablespaces
// that appeared, or were changed without redo, while others were copied. Each
// round is shorter than the one before. What happened during the last one is left
// for the lock.
const copyRounds = 4

// copyRounds copies what appeared while others were copied.
func (b *backup) copyRounds(ctx context.Context) error {
	for range copyRounds {
		n, err := b.copyNew(ctx)
		if err != nil || n == 0 {
			return err
		}
	}
	return nil
}

// copyNew copies the tablespaces that are in no file of the archive yet, or not
// as they are now, and returns how many there were.
func (b *backup) copyNew(ctx context.Context) (int, error) {
	list, err := b.List(ctx)
	if err != nil {
		return 0, err
	}
	look, err := b.Inventory.Look(ctx, list.Tablespaces)
	if err != nil {
		return 0, err
	}
	return b.copyMissing(ctx, look)
}

// voidChanged is that of families whose redo records all changes.
func (b *backup) voidChanged(context.Context) error { return nil }

func (b *backup) copyMissing(ctx context.Context, look pages.Found) (int, error) {
	missing, err := b.missing(ctx, look)
	if err != nil {
		return 0, err
	}
	return len(missing), b.copyFiles(ctx, "copying changed tablespaces", missing)
}

// missing are the tablespaces of which the archive has no copy that counts.
func (b *backup) missing(ctx context.Context, look pages.Found) (missing []*pages.File, err error) {
	if err := b.family.voidChanged(ctx); err != nil {
		return nil, err
	}
	for _, t := range look.Files {
		if !b.registry.Has(t.Key()) {
			missing = append(missing, t)
		}
	}
	return missing, nil
}

// recordDefinitions records the definitions of all objects while DDL goes on, and
// askDefinitions those that changed during the last lock, after it.
func (b *backup) recordDefinitions(ctx context.Context) error {
	return b.definitions.Ahead(ctx, b.Options.Progress)
}

func (b *backup) askDefinitions(ctx context.Context) error { return b.definitions.After(ctx) }

// flushLogs has the server write out the redo log now, so that little is left to
// write under the lock. After this hb asks the server only for what the backup needs.
func (b *backup) flushLogs(ctx context.Context) error {
	b.watcher.rest()
	return position.FlushEngineLogs(ctx, b.Server)
}

// finishRedo waits for the redo up to the LSN that the server reported.
func (b *backup) finishRedo(ctx context.Context) error {
	b.Options.Progress.Begin("waiting for the redo log", 0)
	if err := b.follower.Finish(ctx, b.at.LSN); err != nil {
		return err
	}
	return b.proveWritten()
}

// sendRest sends everything that was held back under the lock, and ends the archive.
func (b *backup) sendRest(ctx context.Context) error {
	if b.increment != nil {
		b.increment.chooseFiles()
	}
	b.stage.Phase = b.Options.Progress.Begin("sending other files", b.stage.Size())
	if err := b.stage.Send(ctx, b.archive.output); err != nil {
		return err
	}
	newest, err := b.follower.Newest()
	if err != nil {
		return err
	}
	b.newest = min(newest.LSN, b.at.LSN)
	if _, err := b.follower.Drain(ctx, b.Options.Progress.Begin("sending the redo log", b.follower.Pending())); err != nil {
		return err
	}
	if err := b.redoFile.Close(); err != nil {
		return err
	}
	b.Options.Progress.Begin("sending the manifest", 0)
	if err := b.sendMetadata(ctx); err != nil {
		return err
	}
	return b.archive.w.Close()
}

// knowRedo waits until the redo of all DDL has been read: it records which
// tablespaces were changed without redo.
func (b *backup) knowRedo(ctx context.Context) error {
	lsn, err := position.CurrentLSN(ctx, b.Server)
	if err != nil {
		return err
	}
	if err := position.FlushEngineLogs(ctx, b.Server); err != nil {
		return err
	}
	return b.follower.Reach(ctx, lsn)
}

// flushLogTable has the server close a table of the database mysql.
func (b *backup) flushLogTable(ctx context.Context, table string) error {
	return locks.FlushTable(ctx, b.Server, contents.Table{Schema: "mysql", Name: table})
}

// underStage makes the copier write into the stage, at full speed: the archive may
// be slow, and the server's clients are waiting for the lock.
func (b *backup) underStage() { b.copier.Create, b.copier.Wait = b.stage.Output, nil }

// stageAhead stages lists of files, in a phase of their own.
func (b *backup) stageAhead(ctx context.Context, lists ...[]datadir.File) error {
	var total int64
	for _, files := range lists {
		for _, info := range files {
			total += info.Size
		}
	}
	b.stage.Phase = b.Options.Progress.Begin("copying other files", total)
	for _, files := range lists {
		if err := b.stage.CopyAhead(ctx, files); err != nil {
			return err
		}
	}
	return nil
}
