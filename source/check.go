package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"hb/source/aria"
	"hb/source/mysqld"
	"hb/source/redo"
	"hb/stream"
	"hb/stream/disk"
)

// A Finding is what one check found.
type Finding struct {
	Check   string      // what was looked at
	Text    string      // what was seen, and what to do about it; a statement to run has a line for itself
	Warning bool        // a backup would succeed, but somebody should see to this
	Err     error       // a backup would end with it
	Facts   []slog.Attr // for programs
}

// Check finds out what would stop a backup of srv, and what may become a problem,
// and tells all of it: the preflight of the backup first, in its order, and then
// how much there will be to do. It takes no lock and writes nothing. The rate at
// which redo is written is measured over interval. The error is that of ctx.
func Check(ctx context.Context, srv *mysqld.Server, opt Options, interval time.Duration, tell func(Finding)) (err error) {
	b, err := newBackup(disk.OS, srv, io.Discard, opt)
	if err != nil {
		tell(Finding{Check: "files", Text: err.Error(), Err: err})
		return nil
	}
	defer func() { err = errors.Join(err, b.close(nil)) }()
	if text := b.withoutEffect(); text != "" {
		tell(Finding{Check: "options", Text: text, Warning: true})
	}
	o := &outlook{interval: interval}
	checks := slices.Concat([]check{{"version", (*backup).tellVersion}}, preflightChecks,
		[]check{{"redo rate", o.redoRate}, {"tables without transactions", (*backup).tellPlainTables}, {"space", o.space}})
	blind := false // privileges are missing, so that the server refuses answers
	for _, c := range checks {
		f := c.find(ctx, b, blind)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		_, lacks := errors.AsType[*mysqld.MissingPrivilegesError](f.Err)
		blind = blind || lacks
		tell(f)
	}
	return nil
}

// find looks, and puts an error into words.
func (c check) find(ctx context.Context, b *backup, blind bool) Finding {
	f := Finding{Check: c.name}
	err := c.look(b, ctx, &f)
	missing, lacks := errors.AsType[*mysqld.MissingPrivilegesError](err)
	_, unsupported := errors.AsType[*mysqld.UnsupportedFeatureError](err)
	switch {
	case err == nil:
	case blind && mysqld.IsDenied(err) && !unsupported:
		if f.Text != "" {
			f.Text += "; the rest is "
		}
		f.Text += "not known yet: the server does not say without the privileges above"
		f.Warning = true
	case lacks:
		f.Text, f.Err = missing.Lacks()+": run\n"+strings.Join(missing.Grants(), "\n"), err
		f.Facts = append(f.Facts, slog.Any("grants", missing.Grants()))
	default:
		f.Text, f.Err = err.Error(), err
	}
	return f
}

// tellVersion says how well the server's release is known. One that is not
// supported is refused when hb connects.
func (b *backup) tellVersion(_ context.Context, f *Finding) error {
	srv := b.srv
	f.Text = fmt.Sprintf("%v %s is supported", srv.Flavor, srv.Version.Full)
	if tested := mysqld.TestedWith(srv.Flavor, srv.Version); len(tested) > 0 {
		f.Text += "; hb was tested with " + strings.Join(tested, ", ")
	} else {
		f.Text += ", but hb was not tested with it: rehearse a restore"
		f.Warning = true
	}
	f.Facts = append(f.Facts, slog.String("server", srv.Flavor.String()+" "+srv.Version.Full))
	return nil
}

// outlook looks at what a backup will have to do with.
type outlook struct {
	interval time.Duration
	rate     float64 // of redo, bytes a second; 0: none, or not known
}

const (
	// shortLap is the time in which a server should not come round its redo log.
	shortLap = time.Minute
	// shortSpool is the time for which redo should find room in --tmpdir, while
	// the archive takes none.
	shortSpool = 10 * time.Minute
	// muchPlain is how many bytes, in tables without transactions, may hold up
	// their writers for long.
	muchPlain = 1 << 30
)

// redoRate measures how fast the server writes redo, and says when it will
// overwrite what hb has not read.
func (o *outlook) redoRate(b *backup, ctx context.Context, f *Finding) error {
	state, err := b.lookAtRedo()
	if err != nil {
		return err
	}
	capacity := state.Capacity
	if capacity == 0 {
		if capacity, err = b.srv.RedoCapacity(ctx); err != nil {
			return err
		}
	}
	first, err := b.srv.CurrentLSN(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, o.interval); err != nil {
		return err
	}
	last, err := b.srv.CurrentLSN(ctx)
	if err != nil {
		return err
	}
	o.rate = float64(last-first) / time.Since(began).Seconds()
	f.Facts = append(f.Facts, slog.Int64("redo_capacity", capacity), slog.Float64("redo_rate", o.rate))
	o.describeLap(f, capacity, b.srv.Dialect.RedoConsumer)
	return nil
}

// describeLap says how long the redo log lasts, in bytes of capacity. kept: the
// server overwrites nothing that hb has not read.
func (o *outlook) describeLap(f *Finding, capacity int64, kept bool) {
	f.Text = fmt.Sprintf("the log holds %s; ", stream.Size(capacity))
	if o.rate == 0 {
		f.Text += "nothing was written just now: check again when the server is as busy as during the backup"
		return
	}
	lap := lasts(capacity, o.rate)
	f.Facts = append(f.Facts, slog.Float64("redo_lap_seconds", lap.Seconds()))
	f.Text += fmt.Sprintf("at %s/s the server comes round in %s", stream.Size(o.rate), roundly(lap))
	f.Text += fmt.Sprintf("; hb reads it whatever the archive takes, at %s/s on a busy machine", stream.Size(redo.FollowRate))
	if lap >= shortLap && o.rate < redo.FollowRate {
		return
	}
	f.Warning = true
	f.Text += ": should it be further behind than the log is long, "
	if kept {
		f.Text += "the server's writers wait for it; "
	} else {
		f.Text += "the backup is lost; "
	}
	f.Text += "make the log larger (innodb_log_file_size, or innodb_redo_log_capacity)"
}

// lasts is how long so many bytes last.
func lasts(bytes int64, rate float64) time.Duration {
	const most = float64(1000 * 24 * time.Hour)
	return time.Duration(min(float64(bytes)/rate*float64(time.Second), most))
}

// roundly is a duration as people say it.
func roundly(d time.Duration) time.Duration {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// plainTable is a table without transactions, partitions and all.
type plainTable struct {
	name, engine string
	bytes        int64
}

// plainEngines are the engines of such tables, by the suffixes of their files.
var plainEngines = map[string]string{
	".MYD": "MyISAM", ".MYI": "MyISAM", ".MAD": "Aria", ".MAI": "Aria",
	".CSV": "CSV", ".CSM": "CSV", ".ARZ": "ARCHIVE", ".ARM": "ARCHIVE", ".MRG": "MERGE",
}

// plainTables finds the users' tables without transactions by their files, the
// largest first. Aria's crash-safe tables are not among them: they are written
// while they are copied.
func plainTables(system disk.System, files []fileInfo) ([]plainTable, error) {
	tables, safe := make(map[string]*plainTable), make(map[string]bool)
	for _, info := range files {
		suffix := filepath.Ext(info.name)
		engine := plainEngines[suffix]
		if engine == "" || !isUserFile(info.name) {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimSuffix(info.name, suffix), "#P#")
		if tables[name] == nil {
			tables[name] = &plainTable{name: name, engine: engine}
		}
		tables[name].bytes += info.size
		if suffix == ".MAI" {
			crashSafe, err := isCrashSafe(system, info.path)
			if err != nil {
				return nil, err
			}
			safe[name] = crashSafe
		}
	}
	var out []plainTable
	for name, t := range tables {
		if !safe[name] {
			out = append(out, *t)
		}
	}
	slices.SortFunc(out, func(a, b plainTable) int {
		if a.bytes != b.bytes {
			return int(min(max(b.bytes-a.bytes, -1), 1))
		}
		return strings.Compare(a.name, b.name)
	})
	return out, nil
}

// isCrashSafe reports whether an Aria table is, by its index file. One that is
// gone, or being made, is.
func isCrashSafe(system disk.System, path string) (safe bool, err error) {
	f, err := system.Open(path)
	if err != nil {
		return true, ignoreGone(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	t, err := aria.ReadTable(f)
	if err != nil && !systemFailed(err) {
		return true, nil
	}
	return err == nil && t.CrashSafe, err
}

// tellPlainTables says what is to be copied again, where it changes, while its
// writers wait.
func (b *backup) tellPlainTables(_ context.Context, f *Finding) error {
	list, err := b.layout.list()
	if err != nil {
		return err
	}
	tables, err := plainTables(b.disk, list.others)
	if err != nil {
		return err
	}
	describePlain(f, tables, b.finalLock())
	return nil
}

// describePlain says which tables need a lock.
func describePlain(f *Finding, tables []plainTable, lock string) {
	const most = 5
	if len(tables) == 0 {
		f.Text = "there are none"
		return
	}
	var bytes int64
	var largest []string
	for i, t := range tables {
		if bytes += t.bytes; i < most {
			largest = append(largest, fmt.Sprintf("%s (%s, %s)", t.name, t.engine, stream.Size(t.bytes)))
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

// finalLock is the lock under which tables without transactions are copied for
// the last time.
func (b *backup) finalLock() string {
	switch d := &b.srv.Dialect; {
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
	return fmt.Sprintf("files of other engines take %s in %s until the end, where %s are free: make room, or give another place with --tmpdir",
		stream.Size(e.Needed), e.Dir, stream.Size(e.Free))
}

func (e *SpaceError) Unwrap() error { return syscall.ENOSPC }

// space looks for room for what a backup spools: the files of other engines,
// for certain, and redo that the archive has not taken yet.
func (o *outlook) space(b *backup, ctx context.Context, f *Finding) error {
	free, inMemory, err := freeSpace(b.opt.Tmpdir)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", b.opt.Tmpdir, err)
	}
	staged, err := b.toStage()
	if err != nil {
		return err
	}
	return o.describeSpace(f, b.opt.Tmpdir, free, max(0, staged-stageMemory), inMemory)
}

// toStage is how many bytes of other files will be staged.
func (b *backup) toStage() (n int64, err error) {
	list, err := b.layout.list()
	if err != nil {
		return 0, err
	}
	files := list.others
	if b.srv.Dialect.Stages {
		_, logs, err := b.layout.ariaFiles()
		if err != nil {
			return 0, err
		}
		files = append(files, logs...)
	}
	for _, info := range files {
		n += info.size
	}
	return n, nil
}

// describeSpace judges the free space in dir for so many bytes of other files,
// and redo.
func (o *outlook) describeSpace(f *Finding, dir string, free, staged int64, inMemory bool) error {
	f.Facts = append(f.Facts, slog.Int64("free", free), slog.Int64("staged", staged), slog.Bool("in_memory", inMemory))
	if staged > free {
		return &SpaceError{dir, staged, free}
	}
	f.Text = fmt.Sprintf("%s has %s free; files of other engines take %s of it", dir, stream.Size(free), stream.Size(staged))
	if o.rate > 0 {
		left := lasts(free-staged, o.rate)
		f.Text += fmt.Sprintf(", and redo, while the archive takes none, would fill the rest in %s", roundly(left))
		if left < shortSpool {
			f.Warning = true
			f.Text += ": give a larger place with --tmpdir"
		}
	}
	if inMemory {
		f.Warning = true
		f.Text += "; it is in memory (tmpfs), so that what is spooled takes memory from the server: give a place on disk with --tmpdir"
	}
	return nil
}
