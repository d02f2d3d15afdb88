// Package subject is what a backup is of: a server and its files, and the options that
// say how to back it up. In go the connection and the options; out come listings of the
// files that belong to a backup, and what the user should know of them.
package subject

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/source/pages"
	"hb/source/redo"
	"hb/source/since"
	"hb/stream/disk"
	"hb/xbstream/aria"
	"hb/xbstream/innodb"
	"hb/xbstream/keyring"
)

// Subject is a server and its files: what backups, checks and estimates look at.
type Subject struct {
	Disk      disk.System
	Options   Options
	Server    *mysqld.Server
	Layout    datadir.Layout
	PageSize  int
	RedoName  string // of the redo log in the archive
	Inventory *pages.Inventory
	Engines   *datadir.Engines
	Identity  string      // of the server, for the manifest: see Identify
	Base      *since.Base // of an incremental backup
	// Keys are those of a server that encrypts at rest: see LoadKeys.
	Keys *keyring.Keys
	// Lacking are the keys of MariaDB that hb was not given, although it was given some: see
	// pages.Inventory.ProveKeys.
	Lacking []keyring.MariaDBKey

	BeforeList func(ctx context.Context) error // runs before hb lists the files; may be nil

	lookAtRedo func(system disk.System, dir string) (redo.State, error)

	warnMu   sync.Mutex
	warnings []string
	passed   map[string]bool // paths that passOver has told of
}

// New looks at the server's variables only.
func New(system disk.System, srv *mysqld.Server, opt Options) (*Subject, error) {
	layout, err := datadir.NewLayout(system, srv.Vars, opt.Datadir)
	if err != nil {
		return nil, err
	}
	pageSize, err := srv.Vars.PageSize()
	if err != nil {
		return nil, err
	}
	s := &Subject{
		Disk: system, Options: opt, Server: srv, Layout: layout, PageSize: pageSize,
		RedoName: "xtrabackup_logfile", lookAtRedo: redo.LookMySQL,
		Inventory: pages.NewInventory(system, pageSize),
		Engines:   datadir.NewEngines(system),
	}
	if s.Keys = opt.Keys; s.Keys == nil {
		s.Keys = new(keyring.Keys)
	}
	s.Inventory.Keys = s.Keys
	if srv.Series.Stages {
		s.RedoName, s.lookAtRedo = "ib_logfile0", redo.Look
	}
	s.Layout.Pass = s.passOver
	if s.Layout.Scope, err = opt.Scope.Compile(); err != nil {
		return nil, err
	}
	s.Layout.General = srv.Flavor == mysqld.MySQL
	return s, nil
}

// Identify learns what identifies the server, over the whole life of its data directory:
// MySQL's server_uuid, and the UUID in MariaDB's aria_log_control, which MariaDB has
// no variable for. Of a directory that was copied, MySQL draws a new one if auto.cnf was
// not copied, as in backups of hb's; MariaDB's copies all have the same one.
func (s *Subject) Identify() error {
	if s.Server.Flavor != mysqld.MariaDB {
		s.Identity = strings.ToLower(s.Server.Vars.String("server_uuid"))
		return nil
	}
	control, err := s.Disk.OpenRegular(filepath.Join(s.Layout.AriaLogDir, aria.ControlName), true)
	if err != nil {
		return err
	}
	id, err := aria.ReadUUID(control)
	if err = errors.Join(err, control.Close()); err != nil {
		return fmt.Errorf("%s: %w", s.Layout.AriaLogDir, err)
	}
	s.Identity = id
	return nil
}

// Warn records what the user should know although the backup is good.
func (s *Subject) Warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.Options.Warn != nil {
		s.Options.Warn(text)
	}
	s.warnMu.Lock()
	defer s.warnMu.Unlock()
	s.warnings = append(s.warnings, text)
}

// Warnings are those so far.
func (s *Subject) Warnings() []string {
	s.warnMu.Lock()
	defer s.warnMu.Unlock()
	return slices.Clone(s.warnings)
}

// passOver warns, once for each path, of something that has the name of a file of the
// backup and is not one.
func (s *Subject) passOver(path, what string) {
	s.warnMu.Lock()
	told := s.passed[path]
	if s.passed == nil {
		s.passed = make(map[string]bool)
	}
	s.passed[path] = true
	s.warnMu.Unlock()
	if !told {
		s.Warn("passed over %s: it is %s, which has no data of a table", path, what)
	}
}

// List lists the databases' files, and adds those that only the server knows.
func (s *Subject) List(ctx context.Context) (*datadir.Listing, error) {
	if s.BeforeList != nil {
		if err := s.BeforeList(ctx); err != nil {
			return nil, err
		}
	}
	if err := s.FindOwners(ctx); err != nil {
		return nil, err
	}
	list, err := s.Layout.List()
	if err != nil || s.Server.Flavor != mysqld.MySQL {
		return list, err
	}
	return list, s.AddRemote(ctx, list)
}

// FindOwners asks which tables FULLTEXT auxiliary tables belong to, where the scope of the
// backup depends on it.
func (s *Subject) FindOwners(ctx context.Context) error {
	if !s.Layout.Scope.NeedsOwners() {
		return nil
	}
	tables, err := contents.InnoDBTables(ctx, s.Server)
	if contents.NoSuchList(err) {
		return &mysqld.UnsupportedFeatureError{Feature: "a backup of some tables where the server does not list InnoDB's tables (innodb_sys_tables=OFF)",
			Detail: "hb cannot know to which of them FULLTEXT auxiliary tables belong: choose whole databases"}
	}
	s.Layout.Scope.SetOwners(tables)
	return err
}

// AddRemote adds to a listing the tablespaces that the server knows and hb did not
// find: those outside the data directory. The archive has them as if they lay in it
// (see datadir.Layout.ArchiveName).
func (s *Subject) AddRemote(ctx context.Context, list *datadir.Listing) error {
	spaces, err := contents.Tablespaces(ctx, s.Server)
	if err != nil {
		return err
	}
	there, taken := make(map[datadir.FileID]bool), make(map[string]string) // names, and the paths that have them
	for _, path := range s.Layout.System {
		taken[filepath.Base(path)] = path
	}
	for _, info := range slices.Concat(list.Tablespaces, list.LeftOut) {
		there[info.FileID], taken[info.Name] = true, info.Path
	}
	for _, space := range spaces {
		if space.Kind == contents.SpaceSystem || space.Kind == contents.SpaceTemporary || datadir.IsTemporary(space) ||
			space.Kind == contents.SpaceUndo && s.Layout.SkipUndo {
			continue
		}
		name := s.Layout.ArchiveName(space)
		info, err := s.Layout.Find(s.Layout.Seen(space.Path), name)
		if err != nil || info == nil {
			if datadir.IgnoreGone(err) != nil {
				return err
			}
			continue // DDL, or proveComplete, explains it
		}
		if there[info.FileID] {
			continue
		}
		switch taken[info.Name] {
		case "":
		case info.Path:
			continue // DDL has put another file there since: the next listing has it
		default:
			// 5.6 and 5.7 would not find it under another name; later servers know
			// it by its id.
			if !s.Server.Series.LogStatus {
				return &datadir.NameError{Name: info.Name, What: "the name of two tablespaces, one of them " + space.Name + ", " + space.Path}
			}
			info.Name = datadir.AliasName(info.Name, space.ID, 1)
		}
		taken[info.Name] = info.Path
		list.AddTablespace(*info)
	}
	return nil
}

// A backup has everything in one directory. If the server keeps files elsewhere, the
// user must know that when restoring over this server.

// OutsideText names the server's files outside its data directory, and the settings
// that put them there; "" if all lie inside.
func (s *Subject) OutsideText(files []datadir.File) string {
	var paths []string
	for _, info := range files {
		if s.Layout.IsOutside(info.Path) && !s.Layout.IsUndo(filepath.Base(info.Path)) {
			paths = append(paths, info.Path)
		}
	}
	slices.Sort(paths)
	var text []string
	if n := len(paths); n > 0 {
		const most = 3
		text = append(text, fmt.Sprintf("%d tablespaces lie outside the data directory (%s): the backup has them inside. "+
			"When it is restored on this machine in the place of the server, hb apply --in-place sets the old files aside",
			n, strings.Join(paths[:min(most, n)], ", ")))
	}
	if settings := s.outsideSettings(); len(settings) > 0 {
		text = append(text, fmt.Sprintf("%s lead outside the data directory: the backup has those files inside. "+
			"Take the settings out before a server is started on it, or move the files to there", strings.Join(settings, ", ")))
	}
	return strings.Join(text, "; ")
}

// outsideSettings are the settings that make a server look elsewhere for files that
// the backup has in its directory.
func (s *Subject) outsideSettings() (out []string) {
	add := func(name, path string) {
		if path != "" && s.Layout.IsOutside(path) {
			out = append(out, name)
		}
	}
	for _, path := range s.Layout.System {
		add("innodb_data_home_dir or innodb_data_file_path", path)
	}
	add("innodb_undo_directory", s.Layout.UndoDir)
	add("innodb_log_group_home_dir", s.Layout.RedoDir)
	if s.Server.Series.Stages {
		add("aria_log_dir_path", s.Layout.AriaLogDir)
	}
	return slices.Compact(out)
}

// HasPlainTables reports whether there are non-transactional tables, other than the
// log tables, and which of them the account may see. It goes by the files that are
// not InnoDB's: the server does not list tables that the account may not see.
func (s *Subject) HasPlainTables(ctx context.Context, files iter.Seq[string]) ([]contents.Table, bool, error) {
	tables, complete, err := contents.NonTransactionalTables(ctx, s.Server)
	tables = slices.DeleteFunc(tables, func(t contents.Table) bool { return !s.Layout.Scope.HasSQL(t.Schema, t.Name) })
	if err != nil || complete || len(tables) > 0 {
		return tables, len(tables) > 0, err
	}
	for name := range files {
		if datadir.IsPlainFile(name) {
			return nil, true, nil
		}
	}
	return nil, false, nil
}

// Needs says what the backup is going to do, apart from its last lock, which depends
// on the series.
func (s *Subject) Needs() mysqld.Needs {
	return mysqld.Needs{
		SlaveInfo: s.Options.SlaveInfo, KillQueries: s.Options.FTWRL.KillTimeout > 0, SafeSlave: s.Options.SafeSlave,
		DumpBufferPool: s.Options.DumpBufferPool, LockTableDDL: s.Options.LockDDLPerTable,
	}
}

// Increment says what an increment since Base has of tablespaces. Its Temp is nil.
func (s *Subject) Increment() *pages.Increment {
	base := s.Base
	return &pages.Increment{
		From: base.Manifest.FromLSN, Began: base.Manifest.Start,
		Has: func(id innodb.SpaceID, name string) bool {
			_, ok := base.Tablespace(id, name)
			return ok
		},
	}
}

// Passed are the paths that hb passed over.
func (s *Subject) Passed() []string {
	s.warnMu.Lock()
	defer s.warnMu.Unlock()
	return slices.Sorted(maps.Keys(s.passed))
}

// CheckEmpty decides what to do about an empty file. Unless it is just being created,
// hb passes it over, or refuses it if the server knows it.
func (s *Subject) CheckEmpty(ctx context.Context, info datadir.File) error {
	if empty, err := datadir.StaysEmpty(ctx, s.Disk, info); err != nil || !empty {
		return err
	}
	spaces, err := contents.Tablespaces(ctx, s.Server)
	if err != nil && !contents.NoSuchList(err) {
		return err
	}
	for _, space := range spaces {
		if s.Layout.Seen(space.Path) == info.Path {
			return fmt.Errorf("%s is empty, but the server has tablespace %d, %s, there: its data are lost; drop the table", info.Path, space.ID, space.Name)
		}
	}
	s.passOver(info.Path, "an empty file")
	return nil
}

// LookAtRedo reads the redo log's format, newest checkpoint and capacity.
func (s *Subject) LookAtRedo() (redo.State, error) {
	return s.lookAtRedo(s.Disk, s.Layout.RedoDir)
}

// Checkpoint reads the newest checkpoint of the redo log.
func (s *Subject) Checkpoint() (innodb.LSN, error) {
	state, err := s.LookAtRedo()
	return state.Checkpoint, err
}

// LoadKeys adds to the keys that hb was given those of the keyring file that the server
// uses. That it cannot be read matters only if a key is missing: the error about that
// names it.
func (s *Subject) LoadKeys(ctx context.Context) error {
	if s.Server.Flavor == mysqld.MariaDB {
		return s.loadMariaDBKeys()
	}
	file, err := contents.KeyringFile(ctx, s.Server)
	if err != nil || file == "" {
		return err
	}
	path := s.Layout.Seen(file)
	if err := s.Keys.ReadMySQLKeyring(path); err != nil {
		s.Keys.AddSource(fmt.Sprintf("the server's keyring (%v)", err))
	}
	return nil
}

// loadMariaDBKeys is LoadKeys of MariaDB: the key file of file_key_management, if that is not
// encrypted, as only the server has its secret. The file matters only for an encrypted redo
// log.
func (s *Subject) loadMariaDBKeys() error {
	v := s.Server.Vars
	if err := s.Keys.DefaultAlgorithm(keyring.Algorithm(v.String("file_key_management_encryption_algorithm"))); err != nil {
		return err
	}
	file := v.String("file_key_management_filename")
	if file == "" || len(s.Keys.Sources()) > 0 {
		return nil
	}
	if err := s.Keys.ReadKeyFile(s.Layout.Seen(file), ""); err != nil {
		s.Keys.AddSource(fmt.Sprintf("the server's key file (%v)", err))
	}
	return nil
}

// OpenBinlog opens a file of the binary log.
func (s *Subject) OpenBinlog(name string) (disk.File, error) {
	if filepath.Base(name) != name {
		return nil, &BinlogError{name, fmt.Errorf("%q is not the name of a file", name)}
	}
	_, base := s.Server.Vars.LogBin()
	path := filepath.Join(filepath.Dir(s.Layout.Seen(base)), name)
	f, err := s.Disk.OpenRegular(path, false)
	if err != nil {
		return nil, &UnreadableError{path, err}
	}
	return f, nil
}
