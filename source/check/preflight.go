package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hb/source/binlog"
	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/identity"
	"hb/source/mysqld/locks"
	"hb/source/mysqld/position"
	"hb/source/mysqld/tracking"
	"hb/source/pages"
	"hb/source/scope"
	"hb/source/since"
	"hb/source/stage"
	"hb/source/subject"
	"hb/stream/disk"
	"hb/xbstream/metadata"
)

// checkBinlog makes sure that the binary log is one that hb can read. Servers
// without log_status (and MariaDB) need no copy of it.
func (c *checker) checkBinlog(ctx context.Context, f *Finding) error {
	on, _ := c.Server.Vars.LogBin()
	switch {
	case !on:
		f.Text = "the server writes none"
		return nil
	case !c.Server.Series.LogStatus:
		f.Text = "only its position is recorded"
		return nil
	}
	st, err := position.ReadLogStatus(ctx, c.Server)
	if err != nil || st.Binlog == nil || st.Binlog.File == "" {
		return err
	}
	log, err := c.OpenBinlog(st.Binlog.File)
	if err != nil {
		return err
	}
	defer log.Close()
	content, _, err := binlog.Open(log, c.Keys)
	if err == nil {
		err = binlog.Look(io.NewSectionReader(content, 0, math.MaxInt64))
	}
	if err != nil {
		return &subject.BinlogError{File: st.Binlog.File, Err: err}
	}
	f.Text = "its end can be copied and read"
	return nil
}

// checkReplica finds out whether the position of this replica's sources can be
// recorded, before anything is locked.
func (c *checker) checkReplica(ctx context.Context, f *Finding) error {
	if !c.Options.SlaveInfo {
		f.Text = "not asked for (--slave-info)"
		return nil
	}
	exact, err := position.ReplicaIsExact(ctx, c.Server)
	if err == nil && !exact && !c.Options.SafeSlave {
		err = subject.InexactSourceError{}
	}
	if err != nil {
		return err
	}
	f.Text = "the position of its source can be recorded"
	return nil
}

// checkNames makes sure, before anything is copied, that the archive can hold every
// file under its own name.
func (c *checker) checkNames(list *datadir.Listing) error {
	names := make(datadir.NameSet)
	for _, n := range []metadata.Names{metadata.XtraBackupNames, metadata.MariaDBNames} {
		for _, name := range []string{n.BinlogInfo, n.SlaveInfo, n.GaleraInfo, n.Checkpoints, n.Info} {
			names[name] = "a file that describes the backup"
		}
	}
	for _, name := range []string{metadata.ArchiveName, metadata.IndexName, metadata.ManifestName, metadata.MyCnfName, metadata.ExternalName, metadata.DonorGaleraInfoName, metadata.DefinitionsName, c.RedoName} {
		names[name] = "a file of the backup"
	}
	for _, p := range c.Layout.System {
		if err := names.Add(filepath.Base(p), p); err != nil {
			return err
		}
	}
	for _, info := range append(list.Tablespaces, list.Others...) {
		if err := names.Add(info.Name, info.Path); err != nil {
			return err
		}
	}
	for _, db := range list.Databases {
		if err := names.AddDirectory(db); err != nil {
			return err
		}
	}
	return nil
}

// checker makes the checks of a server and its files.
type checker struct{ *subject.Subject }

// A check is one of them. Only Check reports its findings; its error is that with
// which a backup fails.
type check struct {
	name string
	look func(c *checker, ctx context.Context, f *Finding) error
}

// run is look; a file that this user may not open becomes an *UnreadableError.
func (c *check) run(ctx context.Context, by *checker, f *Finding) error {
	err := c.look(by, ctx, f)
	if _, told := errors.AsType[*subject.UnreadableError](err); told || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		return &subject.UnreadableError{Path: at.Path, Err: at.Err}
	}
	return err
}

// preflightChecks are the checks with which every backup begins, in this order:
// missing privileges, features that hb cannot copy, files that are not this server's
// or cannot be read, a redo log or a binary log of unknown format.
var preflightChecks = []check{
	{"privileges", (*checker).checkPrivileges},
	{"features", (*checker).checkFeatures},
	{"replication", (*checker).checkReplica},
	{"files", (*checker).checkReadable},
	{"keys", (*checker).loadKeys},
	{"data directory", (*checker).checkDatadir},
	{"tablespaces", (*checker).checkTablespaces},
	{"scope", (*checker).checkScope},
	{"redo log", (*checker).checkRedo},
	{"binary log", (*checker).checkBinlog},
}

// preflightChecks are those of a backup with these options.
func (c *checker) preflightChecks() []check {
	if c.Options.Since == "" {
		return preflightChecks
	}
	return append(slices.Clone(preflightChecks), check{"base", (*checker).checkBase})
}

// Preflight makes these checks, before anything is locked or sent.
func Preflight(ctx context.Context, s *subject.Subject) error {
	c := &checker{s}
	c.Options.Progress.Begin("looking at the server", 0)
	for _, look := range c.preflightChecks() {
		if err := look.run(ctx, c, &Finding{}); err != nil {
			return err
		}
	}
	if text := c.withoutEffect(); text != "" {
		c.Warn("%s", text)
	}
	return nil
}

// withoutEffect names the given options that have no effect on this server, or "".
func (c *checker) withoutEffect() string {
	var names []string
	add := func(given bool, name string) {
		if given {
			names = append(names, name)
		}
	}
	d := &c.Server.Series
	add(c.Options.GaleraInfo && !d.Stages, "--galera-info")
	add(c.Options.FTWRL.WaitTimeout > 0 && d.Stages, "--ftwrl-wait-timeout")
	add(c.Options.FTWRL.KillTimeout > 0 && d.Stages, "--kill-long-queries-timeout")
	add(c.Options.LockDDLPerTable && (d.Stages || d.LogStatus), "--lock-ddl-per-table")
	add(c.Options.LockDDL == subject.LockDDLOn && !d.LogStatus, "--lock-ddl")
	add(c.Options.SafeSlave && d.Stages, "--safe-slave-backup")
	add(c.Options.DumpBufferPool && d.Stages, "--dump-innodb-buffer-pool")
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("without effect on %v %s: %s", c.Server.Flavor, c.Server.Version.Full, strings.Join(names, ", "))
}

// checkPrivileges checks all privileges now, so that none is missing at the end of a
// long copy.
func (c *checker) checkPrivileges(ctx context.Context, f *Finding) error {
	needs, err := c.needs(ctx)
	if err != nil {
		return err
	}
	if err := c.Server.CheckPrivileges(ctx, needs); err != nil {
		return err
	}
	f.Text = "the account has all that this backup needs"
	return nil
}

// needs says what the backup is going to do that it must be allowed to.
func (c *checker) needs(ctx context.Context) (needs mysqld.Needs, err error) {
	if needs = c.Needs(); c.Server.Series.LogStatus {
		needs.HoldTables, err = c.mustHoldTables(ctx)
	}
	if err == nil {
		needs.Keyring, err = c.lacksKeyring(ctx)
	}
	return needs, err
}

// listsChanges reports whether the server is set up to list the pages that it changes. An
// increment can do without that, only slower.
func (c *checker) listsChanges(ctx context.Context) (bool, error) {
	if c.Options.Since == "" || !c.Server.Series.LogStatus {
		return false, nil
	}
	_, err := tracking.Read(ctx, c.Server)
	unusable, ok := errors.AsType[*tracking.Unusable](err)
	if ok {
		return unusable.Reason != tracking.NotInstalled, nil
	}
	return err == nil, err
}

// mustHoldTables reports whether non-transactional tables have to be locked at the end
// (8.0 and later).
func (c *checker) mustHoldTables(ctx context.Context) (bool, error) {
	list, err := c.Layout.List()
	switch {
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist):
		list = &datadir.Listing{} // checkReadable has the words for it
	case err != nil:
		return false, err
	}
	tables, some, err := c.HasPlainTables(ctx, func(yield func(string) bool) {
		for _, info := range list.Others {
			if !yield(info.Name) {
				return
			}
		}
	})
	if err != nil {
		return false, err
	}
	return some, locks.CheckHold(c.Server, tables)
}

// checkLogTables refuses log tables that cannot be copied.
func (c *checker) checkLogTables() error {
	v := c.Server.Vars
	if !strings.Contains(strings.ToUpper(v.String("log_output")), "TABLE") {
		return nil
	}
	return stage.CheckLogTables(c.Disk, filepath.Join(c.Layout.Datadir, "mysql"), v.Bool("general_log"), v.Bool("slow_query_log"))
}

func (c *checker) checkFeatures(ctx context.Context, f *Finding) error {
	if err := errors.Join(contents.CheckFeatures(ctx, c.Server), c.checkLogTables(), c.checkEngines()); err != nil {
		return err
	}
	f.Text = "no encryption, engine or setting that hb does not back up"
	return nil
}

// loadKeys reads the keys of a server that encrypts at rest. Whether they are the right
// ones, the checks that follow show. Tablespaces of MariaDB are verified without keys, its redo
// log and Aria tables are not.
func (c *checker) loadKeys(ctx context.Context, f *Finding) error {
	err := c.LoadKeys(ctx)
	f.Text = "none are needed or found"
	if where := c.Keys.Sources(); len(where) > 0 {
		f.Text = strings.Join(where, ", ")
	}
	if what := c.encryptedBySettings(); err == nil && c.Server.Flavor == mysqld.MariaDB && len(what) > 0 && c.Keys.None() {
		return c.Keys.Lacking("the key of " + strings.Join(what, " and "))
	}
	return err
}

// checkEngines refuses tables of engines that hb does not copy. On MySQL the
// engines themselves are refused.
func (c *checker) checkEngines() error {
	if !c.Server.Series.Stages {
		return nil
	}
	list, err := c.Layout.List()
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil // checkReadable has the words for it
	}
	if err != nil {
		return err
	}
	if err := c.Engines.Check(list.Others); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// checkReadable checks that this user may read every file of the backup: first those
// that hb finds without the server.
func (c *checker) checkReadable(ctx context.Context, f *Finding) error {
	for _, dir := range []string{c.Layout.Datadir, c.Layout.RedoDir, c.Layout.UndoDir, c.Layout.AriaLogDir} {
		if err := disk.Access(dir, disk.Readable|disk.Searchable); err != nil {
			return &subject.UnreadableError{Path: dir, Err: err}
		}
	}
	list, err := c.Layout.List()
	if err != nil {
		return err
	}
	local := len(list.Tablespaces)
	if err := readable(append(pathsOf(list.Tablespaces, list.Others), c.Layout.System...)); err != nil {
		return err
	}
	f.Text = "all in the data directory can be read"
	if c.Server.Flavor == mysqld.MySQL {
		if err := c.AddRemote(ctx, list); err != nil {
			return err
		}
	}
	if err := c.checkNames(list); err != nil {
		return err
	}
	f.Text = fmt.Sprintf("all can be read: %d tablespaces, %d files of other engines and definitions", len(list.Tablespaces)+len(c.Layout.System), len(list.Others))
	return readable(pathsOf(list.Tablespaces[local:]))
}

func pathsOf(lists ...[]datadir.File) (paths []string) {
	for _, files := range lists {
		for _, info := range files {
			paths = append(paths, info.Path)
		}
	}
	return paths
}

// readable checks that this user may read files; it ignores those that are gone.
func readable(paths []string) error {
	for _, path := range paths {
		if err := disk.Access(path, disk.Readable); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &subject.UnreadableError{Path: path, Err: err}
		}
	}
	return nil
}

// checkDatadir makes sure that the files are the server's.
func (c *checker) checkDatadir(ctx context.Context, f *Finding) error {
	_, err := identity.Prove(ctx, c.Server, identity.Files{
		Datadir: c.Layout.Datadir, SystemFile: c.Layout.System[0], Checkpoint: c.Checkpoint,
	})
	if err != nil {
		return err
	}
	f.Text = fmt.Sprintf("%s is the connected server's", c.Layout.Datadir)
	return c.Identify()
}

// checkTablespaces reads page 0 of every tablespace, so that a stray copy, an empty
// or a damaged file, or an encrypted one is reported before the copy begins. The
// backup remembers what it reads.
func (c *checker) checkTablespaces(ctx context.Context, f *Finding) error {
	list, err := c.List(ctx)
	if err != nil {
		return err
	}
	look, err := c.Inventory.Look(ctx, list.Tablespaces)
	if err != nil {
		return err
	}
	left, err := c.Inventory.Look(ctx, list.LeftOut) // whose ids the manifest names
	if err != nil {
		return err
	}
	look.Left = left.Files
	if err := c.refuseStrays(ctx, &look); err != nil {
		return err
	}
	for _, info := range look.Deferred {
		if err := c.CheckEmpty(ctx, info); err != nil {
			return err
		}
	}
	f.Text = fmt.Sprintf("%d tablespaces, each with an id of its own", len(look.Files)+1)
	c.tellPassed(f)
	return c.proveKeys(ctx, f, look.Files)
}

// proveKeys makes sure that the keys of MariaDB that the backup will have, or tell from
// others, are the server's, and warns of those that it will not have.
func (c *checker) proveKeys(ctx context.Context, f *Finding, files []*pages.File) (err error) {
	within := len(c.Options.Recipients) > 0
	if c.Lacking, err = c.Inventory.ProveKeys(ctx, files, within); err != nil || !within || len(c.Lacking) == 0 {
		return err
	}
	f.Warning = true
	text := fmt.Sprintf("the backup will not have all keys: hb was not given %v, which tablespaces are encrypted with. A restore needs the server's key file, of which you must keep a copy", c.Lacking)
	c.Warn("%s", text)
	f.Text += "; " + text
	return nil
}

// refuseStrays refuses two files of one id. A file that waits for IMPORT TABLESPACE
// has the id of another until then: the server knows its table.
func (c *checker) refuseStrays(ctx context.Context, look *pages.Found) error {
	err := look.Unique()
	twice, ok := errors.AsType[*pages.DuplicateError](err)
	if !ok {
		return err
	}
	known, err := contents.InnoDBNames(ctx, c.Server)
	if err != nil {
		return err
	}
	for _, t := range slices.Concat(look.Files, look.Left) {
		if t.Space.ID == twice.ID && !known[strings.TrimSuffix(t.Name, ".ibd")] {
			return twice
		}
	}
	return nil
}

// checkScope makes sure that the server has what a partial backup is asked for, and that
// no pattern is misspelled.
func (c *checker) checkScope(ctx context.Context, f *Finding) error {
	s := c.Layout.Scope
	if s == nil {
		f.Text = "all tables"
		return nil
	}
	list, err := c.List(ctx)
	if err != nil {
		return err
	}
	tables, err := contents.InnoDBNames(ctx, c.Server)
	if err != nil && !contents.NoSuchList(err) {
		return err
	}
	has := scope.ContentsOf(list.Databases, list.Names())
	for name := range tables {
		has.Add(name)
	}
	if err := s.Check(has, false); err != nil {
		return err
	}
	f.Text = fmt.Sprintf("%v: %d tablespaces and %d other files are in, %d and %d are left out", s.Asked(), len(list.Tablespaces)+len(c.Layout.System), len(list.Others), len(list.LeftOut), len(list.LeftOthers))
	return nil
}

// tellPassed adds to a finding which paths hb passes over.
func (c *checker) tellPassed(f *Finding) {
	if passed := c.Passed(); len(passed) > 0 {
		f.Warning = true
		f.Text += "; passed over, as no data of a table can be in there: " + strings.Join(passed, ", ")
	}
}

// checkBase reads the base of an incremental backup, and refuses one that is not of this
// server as it is now. The backup needs the base later.
func (c *checker) checkBase(ctx context.Context, f *Finding) error {
	base, err := since.Open(ctx, c.Options.Since)
	if err != nil {
		return err
	}
	now := since.Server{Flavor: metadata.FlavorMySQL, Version: c.Server.Version, Identity: c.Identity, PageSize: c.PageSize}
	if c.Server.Flavor == mysqld.MariaDB {
		now.Flavor = metadata.FlavorMariaDB
	}
	now.Scope = c.Layout.Scope.Asked()
	if now.LSN, err = position.CurrentLSN(ctx, c.Server); err != nil {
		return err
	}
	if now.Checkpoint, err = c.Checkpoint(); err != nil {
		return err
	}
	if err := base.Check(now); err != nil {
		return err
	}
	c.Base = base
	how, err := c.howRead(ctx)
	if err != nil {
		return err
	}
	f.Text = fmt.Sprintf("%s is of this server, begun %s, with all changes up to LSN %d; %s",
		base.Name, base.Archive.Created.Format(time.RFC3339), base.Manifest.LastLSN, how)
	f.Facts = append(f.Facts, slog.String("base", base.Point.String()))
	return nil
}

// howRead describes which pages an incremental backup reads.
func (c *checker) howRead(ctx context.Context) (string, error) {
	const all = "hb reads all pages, and sends those that changed since"
	if !c.Server.Series.LogStatus {
		return all, nil
	}
	err := tracking.Check(ctx, c.Server, tracking.Request{Base: c.Base.Manifest.Tracking, Disk: c.Disk, Datadir: c.Layout.Datadir})
	if unusable, ok := errors.AsType[*tracking.Unusable](err); ok {
		return all + ": " + unusable.Error(), nil
	}
	return "hb reads the pages that the server lists as changed, and sends those that changed since", err
}

// checkRedo makes sure that the redo log is one that hb can follow.
func (c *checker) checkRedo(_ context.Context, f *Finding) error {
	state, err := c.LookAtRedo()
	if err == nil {
		f.Text = fmt.Sprintf("the format is known: %v", state.Format)
	}
	return err
}
