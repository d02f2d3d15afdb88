// Package sink turns an archive into a directory, and that into one that a server
// starts on: [Restore] does in one pass what packages extract and apply do one after
// the other, and [Run] does either.
package sink

import (
	"cmp"
	"context"
	"errors"
	"io"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"filippo.io/age"

	"hb/sink/apply"
	"hb/sink/catalog"
	"hb/sink/extract"
	"hb/stream"
	"hb/stream/progress"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
)

// Options are those of Run. The tags are the command line's.
type Options struct {
	// Directory is empty, or does not exist; "" before Check.
	Directory string `short:"C" help:"Directory to extract into: empty, or not existing (default: the archive's name without its extension)." placeholder:"DIR" type:"path"`
	// Files are patterns for the files to extract; none: all. See catalog.NewPatterns.
	Files []string `help:"Extract only files that match this shell pattern: a path, a directory, or, without a slash, a file's name. May be repeated. Only what is needed is read, if the archive is a file." placeholder:"PATTERN" sep:"none"`
	// Parallel is that of extract.Options, and of apply.Options.
	Parallel int `type:"count" help:"Number of writers, and of workers of --apply (default: processors, at most 8)." placeholder:"N"`
	// Apply recovers the directory too. Memory, LogBin and InPlace are how: see
	// apply.Options.
	Apply   bool   `help:"Also replay the redo log, as hb apply does, in the same pass."`
	Memory  int64  `type:"size" help:"Memory for redo records with --apply (default 256MiB); more records are sorted on disk." placeholder:"SIZE"`
	LogBin  string `help:"With --apply: log_bin of the server that will start on the directory; see hb apply." placeholder:"PATH"`
	InPlace bool   `help:"With --apply: restore over the original server, which must be stopped. Rename its old tablespaces outside the data directory, and its binary log if that is outside, to FILE.hb-aside."`

	apply.KeyringOptions `group:"Encryption at rest"`

	// Keys are those of apply.Options.
	Keys *keyring.Keys `kong:"-"`
	// Identities are those of apply.Options.
	Identities func() ([]age.Identity, error) `kong:"-"`
	// Selection is that of extract.Options, for a directory from which tables are to be
	// taken.
	Selection extract.Selection `kong:"-"`
	// Parts is that of extract.Options.
	Parts *stream.Parts `kong:"-"`
	// Tool is that of apply.Options.
	Tool string `kong:"-"`
	// Progress counts what is done, except for the reading of the archive, which
	// its reader can count; nil: nobody looks.
	Progress *progress.Tracker `kong:"-"`
}

// extensions are those of archives and of the stages around them.
var extensions = []string{".age", ".zst", ".hb", ".xb", ".xbstream", ".mbstream"}

// inDirectory returns the directory for the archive of that name: one of its own, and
// never just the working directory.
func (o *Options) inDirectory(archive string) error {
	if o.Directory != "" {
		return nil
	}
	base := filepath.Base(archive)
	name := base
	for _, e := range extensions {
		name = strings.TrimSuffix(name, e)
	}
	if archive == "" || name == base || name == "" {
		return stream.AsUsage(errors.New("name the directory to extract into: -C DIR"))
	}
	o.Directory = name
	return nil
}

// Check fills in Directory by the name of the archive, "" if it has none. It returns a
// *stream.UsageError if that does not give a name, or if there are options that only
// Apply has, and not that.
func (o *Options) Check(archive string) error {
	if err := o.inDirectory(archive); err != nil {
		return err
	}
	if _, err := catalog.NewPatterns(o.Files); err != nil {
		return err
	}
	switch {
	case o.Apply && len(o.Files) > 0:
		return stream.AsUsage(errors.New("--files gives no backup that --apply could recover"))
	case o.Apply:
		return nil
	case o.Memory != 0:
		return stream.AsUsage(errors.New("--memory is for --apply"))
	case o.LogBin != "":
		return stream.AsUsage(errors.New("--log-bin is for --apply"))
	case o.WriteKeyring != "" || o.NewMasterKey:
		return stream.AsUsage(errors.New("--write-keyring and --new-master-key are for --apply: without it, give them to hb apply"))
	case o.InPlace:
		return stream.AsUsage(errors.New("--in-place is for --apply: without it, give it to hb apply"))
	}
	return nil
}

const (
	// busy is how many goroutines of Restore compute while the archive passes through
	// others, in many short steps. Where processors are few, those would wait for them
	// at every step, as Go lets a goroutine run for many milliseconds; with so many more
	// in GOMAXPROCS it is the kernel that shares them out.
	busy = 2
	// restoreMemory is what Restore needs besides apply.Options.Memory, in bytes.
	restoreMemory = 64 << 20
)

// Run extracts the archive in r, already without its stages, and recovers the
// directory, if that is wanted: see extract.Run and Restore, whose results it
// returns; without Apply the second is nil. To recover, it raises GOMAXPROCS and Go's
// memory limit, if the process has one, as far as the work needs, until it returns.
func Run(ctx context.Context, r io.Reader, o Options) (*extract.Result, *apply.Result, error) {
	x := extract.Options{Parallel: o.Parallel, Progress: o.Progress, Parts: o.Parts, Selection: o.Selection}
	if len(o.Files) > 0 {
		var err error
		if x.Patterns, err = catalog.NewPatterns(o.Files); err != nil {
			return nil, nil, err
		}
	}
	if !o.Apply {
		extracted, err := extract.Run(ctx, r, o.Directory, x)
		return extracted, nil, err
	}
	processors, memory := runtime.GOMAXPROCS(0), cmp.Or(o.Memory, apply.DefaultMemory)
	if x.Parallel <= 0 {
		x.Parallel = min(processors, catalog.MaxWorkers)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(processors + busy))
	limit := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(max(limit, memory+restoreMemory)))
	a := apply.Options{Parallel: x.Parallel, Memory: memory, LogBin: o.LogBin, InPlace: o.InPlace, KeyringOptions: o.KeyringOptions, Keys: o.Keys, Identities: o.Identities, Tool: o.Tool, Progress: o.Progress,
		Scratch: o.Selection != nil}
	if s, ok := o.Selection.(interface{ PassesOver(innodb.SpaceID) bool }); ok {
		a.PassOver = s.PassesOver
	}
	return Restore(ctx, r, o.Directory, x, a)
}

// Restore is extract.Run and then apply.Run, in one pass: what the extraction has
// verified and written is not read again to compare it with the manifest, and the redo
// log of an archive of hb's is read while it arrives. The directory takes the same
// steps: killed before the archive's end it has the file backupdir.MarkerName in it,
// and afterwards apply.Run goes on.
//
// It returns the extraction's result once that is complete, whatever
// becomes of the recovery.
func Restore(ctx context.Context, r io.Reader, dir string, x extract.Options, o apply.Options) (extracted *extract.Result, applied *apply.Result, err error) {
	t, err := extract.Open(x.System, dir)
	if err != nil {
		return nil, nil, err
	}
	ahead := apply.NewAhead(ctx, t.Root, o)
	defer func() { err = errors.Join(err, ahead.Close(), t.Root.Close()) }()
	x.Follow = ahead.Begin
	if extracted, err = t.Extract(ctx, r, x); err != nil {
		return nil, nil, err
	}
	applied, err = ahead.Apply(ctx, dir)
	return extracted, applied, err
}
