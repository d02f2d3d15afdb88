package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/contents"
	"hb/source/mysqld/locks"
	"hb/source/pages"
	"hb/source/redo"
	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// subject is a server and its files: what backups, checks and estimates look at.
type subject struct {
	disk      disk.System
	opt       Options
	srv       *mysqld.Server
	sequence  *sequence
	layout    datadir.Layout
	pageSize  int
	inventory *pages.Inventory
	engines   *datadir.Engines

	beforeList func(ctx context.Context) error // runs before hb lists the files; may be nil

	warnMu   sync.Mutex
	warnings []string
	passed   map[string]bool // paths that passOver has told of
}

func newSubject(system disk.System, srv *mysqld.Server, opt Options) (*subject, error) {
	layout, err := datadir.NewLayout(system, srv.Vars, opt.Datadir)
	if err != nil {
		return nil, err
	}
	pageSize, err := srv.Vars.PageSize()
	if err != nil {
		return nil, err
	}
	s := &subject{
		disk: system, opt: opt, srv: srv, sequence: sequenceOf(&srv.Series), layout: layout, pageSize: pageSize,
		inventory: pages.NewInventory(system, pageSize),
		engines:   datadir.NewEngines(system),
	}
	s.layout.Pass = s.passOver
	s.layout.General = srv.Flavor == mysqld.MySQL
	return s, nil
}

// warn records what the user should know although the backup is good.
func (s *subject) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.opt.Warn != nil {
		s.opt.Warn(text)
	}
	s.warnMu.Lock()
	defer s.warnMu.Unlock()
	s.warnings = append(s.warnings, text)
}

// passOver warns, once for each path, of something that has the name of a file of the
// backup and is not one.
func (s *subject) passOver(path, what string) {
	s.warnMu.Lock()
	told := s.passed[path]
	if s.passed == nil {
		s.passed = make(map[string]bool)
	}
	s.passed[path] = true
	s.warnMu.Unlock()
	if !told {
		s.warn("passed over %s: it is %s, which has no data of a table", path, what)
	}
}

// list lists the databases' files, and adds those that only the server knows.
func (s *subject) list(ctx context.Context) (*datadir.Listing, error) {
	if s.beforeList != nil {
		if err := s.beforeList(ctx); err != nil {
			return nil, err
		}
	}
	list, err := s.layout.List()
	if err != nil || s.srv.Flavor != mysqld.MySQL {
		return list, err
	}
	return list, s.addRemote(ctx, list)
}

// addRemote adds to a listing the tablespaces that the server knows and hb did not
// find: those outside the data directory. The archive has them as if they lay in it
// (see datadir.Layout.ArchiveName).
func (s *subject) addRemote(ctx context.Context, list *datadir.Listing) error {
	spaces, err := contents.Tablespaces(ctx, s.srv)
	if err != nil {
		return err
	}
	there, taken := make(map[datadir.FileID]bool), make(map[string]string) // names, and the paths that have them
	for _, path := range s.layout.System {
		taken[filepath.Base(path)] = path
	}
	for _, info := range list.Tablespaces {
		there[info.FileID], taken[info.Name] = true, info.Path
	}
	for _, space := range spaces {
		if space.Kind == contents.SpaceSystem || space.Kind == contents.SpaceTemporary || datadir.IsTemporary(space) ||
			space.Kind == contents.SpaceUndo && s.layout.SkipUndo {
			continue
		}
		name := s.layout.ArchiveName(space)
		info, err := s.layout.Find(s.layout.Seen(space.Path), name)
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
			if !s.srv.Series.LogStatus {
				return &datadir.NameError{Name: info.Name, What: "the name of two tablespaces, one of them " + space.Name + ", " + space.Path}
			}
			info.Name = datadir.AliasName(info.Name, space.ID, 1)
		}
		taken[info.Name] = info.Path
		list.Tablespaces = append(list.Tablespaces, *info)
	}
	return nil
}

// MissingSpacesError says that hb found no files of tablespaces that the server knows.
type MissingSpacesError struct{ Spaces []contents.Tablespace }

func newMissingSpaces(spaces []contents.Tablespace) *MissingSpacesError {
	slices.SortFunc(spaces, func(a, b contents.Tablespace) int { return cmp.Compare(a.ID, b.ID) })
	return &MissingSpacesError{spaces}
}

func (e *MissingSpacesError) Error() string {
	const most = 5
	var names []string
	for _, s := range e.Spaces[:min(len(e.Spaces), most)] {
		names = append(names, fmt.Sprintf("tablespace %d, %s (%s)", s.ID, s.Name, s.Path))
	}
	more := ""
	if n := len(e.Spaces) - most; n > 0 {
		more = fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("the server knows of tablespaces whose files are not there: %s%s; "+
		"a backup without them could not be restored: drop the tables, or bring the files back", strings.Join(names, "; "), more)
}

// A backup has everything in one directory. If the server keeps files elsewhere, the
// user must know that when restoring over this server.

// outsideText names the server's files outside its data directory, and the settings
// that put them there; "" if all lie inside.
func (s *subject) outsideText(files []datadir.File) string {
	var paths []string
	for _, info := range files {
		if s.layout.IsOutside(info.Path) && !s.layout.IsUndo(filepath.Base(info.Path)) {
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
func (s *subject) outsideSettings() (out []string) {
	add := func(name, path string) {
		if path != "" && s.layout.IsOutside(path) {
			out = append(out, name)
		}
	}
	for _, path := range s.layout.System {
		add("innodb_data_home_dir or innodb_data_file_path", path)
	}
	add("innodb_undo_directory", s.layout.UndoDir)
	add("innodb_log_group_home_dir", s.layout.RedoDir)
	if s.srv.Series.Stages {
		add("aria_log_dir_path", s.layout.AriaLogDir)
	}
	return slices.Compact(out)
}

// warnOutside warns of files outside the data directory.
func (s *subject) warnOutside(files []datadir.File) {
	if text := s.outsideText(files); text != "" {
		s.warn("%s", text)
	}
}

// mustHoldTables reports whether non-transactional tables have to be locked at the end
// (8.0 and later).
func (s *subject) mustHoldTables(ctx context.Context) (bool, error) {
	list, err := s.layout.List()
	switch {
	case errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist):
		list = &datadir.Listing{} // checkReadable has the words for it
	case err != nil:
		return false, err
	}
	tables, some, err := s.hasPlainTables(ctx, func(yield func(string) bool) {
		for _, info := range list.Others {
			if !yield(info.Name) {
				return
			}
		}
	})
	if err != nil {
		return false, err
	}
	return some, locks.CheckHold(s.srv, tables)
}

// hasPlainTables reports whether there are non-transactional tables, other than the
// log tables, and which of them the account may see. It goes by the files that are
// not InnoDB's: the server does not list tables that the account may not see.
func (s *subject) hasPlainTables(ctx context.Context, files iter.Seq[string]) ([]contents.Table, bool, error) {
	tables, complete, err := contents.NonTransactionalTables(ctx, s.srv)
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

// needs says what the backup is going to do, apart from its last lock, which depends
// on the series.
func (s *subject) needs() mysqld.Needs {
	return mysqld.Needs{
		SlaveInfo: s.opt.SlaveInfo, KillQueries: s.opt.FTWRL.KillTimeout > 0, SafeSlave: s.opt.SafeSlave,
		DumpBufferPool: s.opt.DumpBufferPool, LockTableDDL: s.opt.LockDDLPerTable,
	}
}

// checkEmpty decides what to do about an empty file. Unless it is just being created,
// hb passes it over, or refuses it if the server knows it.
func (s *subject) checkEmpty(ctx context.Context, info datadir.File) error {
	if empty, err := datadir.StaysEmpty(ctx, s.disk, info); err != nil || !empty {
		return err
	}
	spaces, err := contents.Tablespaces(ctx, s.srv)
	if err != nil && !contents.NoSuchList(err) {
		return err
	}
	for _, space := range spaces {
		if s.layout.Seen(space.Path) == info.Path {
			return fmt.Errorf("%s is empty, but the server has tablespace %d, %s, there: its data are lost; drop the table", info.Path, space.ID, space.Name)
		}
	}
	s.passOver(info.Path, "an empty file")
	return nil
}

func (s *subject) lookAtRedo() (redo.State, error) {
	return s.sequence.lookAtRedo(s.disk, s.layout.RedoDir)
}

// checkpoint reads the newest checkpoint of the redo log.
func (s *subject) checkpoint() (innodb.LSN, error) {
	state, err := s.lookAtRedo()
	return state.Checkpoint, err
}
