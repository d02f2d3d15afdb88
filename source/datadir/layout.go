// Package datadir knows where a server's files are and what they are called: it lists
// them, recognises each by name and content, knows which of them hb does not copy, and
// notices files that appear and vanish.
//
// In come the settings of a server and a file system; out come lists of files, with
// the names that they have in the archive. It copies nothing and locks nothing.
package datadir

import (
	"cmp"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"hb/source/mysqld"
	"hb/source/scope"
	"hb/stream/disk"
	"hb/xbstream/aria"
)

// Layout says where a server keeps the files that a backup copies. All paths are
// absolute.
type Layout struct {
	Datadir string
	// System lists the files of the system tablespace (ibdata1 …) in the order
	// of innodb_data_file_path: their pages are numbered through.
	System     []string
	UndoDir    string
	RedoDir    string
	AriaLogDir string   // MariaDB; where aria_log_control and aria_log.* are
	IgnoreDirs []string // ignore_db_dirs: directories of Datadir that are not databases
	General    bool     // tablespaces lie in Datadir itself too (MySQL)
	SkipUndo   bool     // leave out undo tablespaces: they are copied last

	Scope *scope.Scope // which tables the backup is of; nil: all

	Disk  disk.System
	Seen  func(path string) string // where hb sees a path of the server's; nil: there
	Links bool                     // the server has non-transactional tables elsewhere, by symbolic links (symbolic-links)
	Pass  func(path, what string)  // called for a path with the name of a backup's file that is not a file; may be nil
}

// NewLayout finds the server's files, below datadir instead of the place that
// the server names where that is given.
func NewLayout(files disk.System, v mysqld.Vars, datadir string) (Layout, error) {
	seen := func(path string) string {
		if rel, ok := strings.CutPrefix(path+"/", v.Datadir()+"/"); ok && datadir != "" {
			return filepath.Join(datadir, rel)
		}
		return path
	}
	system, err := v.SystemFiles()
	if err != nil {
		return Layout{}, err
	}
	for i := range system {
		system[i] = seen(system[i])
	}
	return Layout{
		Disk:    files,
		Datadir: seen(v.Datadir()), System: system,
		UndoDir: seen(v.UndoDir()), RedoDir: seen(v.LogDir()), AriaLogDir: seen(v.AriaLogDir()),
		IgnoreDirs: v.IgnoredDirs(), Seen: seen, Links: v.String("have_symlink") == "YES",
	}, nil
}

// Listing is one look at the data directory.
type Listing struct {
	*Layout
	Tablespaces []File   // .ibd files and undo tablespaces; not the system tablespace
	Others      []File   // files of other engines, definitions, options
	Databases   []string // directories
	// LeftOut and LeftOthers are the files that Tablespaces and Others would have, were they
	// in the scope of the backup.
	LeftOut, LeftOthers []File
}

// AddTablespace adds a tablespace to the list that it belongs to: by the name of which that of
// its file may be an alias, given now or in the backup that the server was restored from. One
// that is too long to be in its alias counts as any of the database.
func (out *Listing) AddTablespace(info File) {
	name := PlainName(info.Name)
	if IsNameless(info.Name) {
		dir, _ := filepath.Split(info.Name)
		name = dir + "db.opt"
	}
	if out.Scope.Has(name) {
		out.Tablespaces = append(out.Tablespaces, info)
	} else {
		out.LeftOut = append(out.LeftOut, info)
	}
}

// Names are those of all files, in the scope of the backup or not.
func (out *Listing) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, list := range [][]File{out.Tablespaces, out.LeftOut, out.Others, out.LeftOthers} {
			for _, info := range list {
				if !yield(info.Name) {
					return
				}
			}
		}
	}
}

// Kept are the databases of which the backup has something, or would have if it were
// there.
func (out *Listing) Kept() []string {
	if out.Scope == nil {
		return out.Databases
	}
	has := make(map[string]bool)
	for _, list := range [][]File{out.Tablespaces, out.Others} {
		for _, info := range list {
			if db, table := scope.TableOf(info.Name); table != "" {
				has[db] = true
			}
		}
	}
	var kept []string
	for _, db := range out.Databases {
		if has[db] || out.Scope.HasAll(db) {
			kept = append(kept, db)
		}
	}
	return kept
}

// leaveOptions leaves out the options of databases of which the backup has nothing.
func (out *Listing) leaveOptions() {
	if out.Scope == nil {
		return
	}
	kept := make(map[string]bool)
	for _, db := range out.Kept() {
		kept[db] = true
	}
	out.Others = slices.DeleteFunc(out.Others, func(info File) bool {
		db, table := scope.TableOf(info.Name)
		leave := table == "" && !kept[db]
		if leave {
			out.LeftOthers = append(out.LeftOthers, info)
		}
		return leave
	})
}

// A tableName says how a file whose name is not that of its table names the table. Names
// with characters that files encode count as unknown.
type tableName struct {
	pattern *regexp.Regexp
	most    int64 // bytes of the file in which the name is
}

var (
	triggerTable = tableName{regexp.MustCompile(`(?m)^trigger_table=([0-9A-Za-z_]+)$`), 64 << 10}
	sdiTable     = tableName{regexp.MustCompile(`"dd_object": ?\{\s*"name": ?"([0-9A-Za-z_]+)"`), 4 << 10}
	// sdiCut is the name of an .sdi file that may have only the first 16 characters of the
	// table's (FILENAME_PREFIX_CHARS in sql/dd/sdi_file.h of MySQL 9.7.2), each of which is
	// at least one byte.
	sdiCut = regexp.MustCompile(`/[^/]{16,}_[0-9]+\.sdi$`)
)

// belongs is the name by which a file is in the scope or out of it: its own, or that of a
// file of its table; or, if it does not say which table that is, of one of the database.
func (out *Listing) belongs(path, name string) (string, error) {
	var in *tableName
	switch {
	case out.Scope == nil:
	case filepath.Ext(name) == ".TRN": // it has the trigger's name
		in = &triggerTable
	case sdiCut.MatchString(name):
		in = &sdiTable
	}
	if in == nil {
		return name, nil
	}
	text, err := ReadAll(out.Disk, path, in.most)
	if err != nil {
		return "", err
	}
	db := filepath.Dir(name)
	if m := in.pattern.FindSubmatch(text); m != nil {
		return db + "/" + string(m[1]), nil
	}
	return db + "/db.opt", nil
}

// addOther adds a file that is not InnoDB's to the list that it belongs to.
func (out *Listing) addOther(path, name string) error {
	info, err := out.Find(path, name)
	if err != nil || info == nil {
		return IgnoreGone(err)
	}
	belongs, err := out.belongs(path, name)
	if err != nil {
		return IgnoreGone(err)
	}
	if out.Scope.Has(belongs) {
		out.Others = append(out.Others, *info)
	} else {
		out.LeftOthers = append(out.LeftOthers, *info)
	}
	return nil
}

// List looks at the databases, undo tablespaces, and on MySQL general ones. What
// vanishes in the meantime is left out; a directory that cannot be read is an error.
func (l *Layout) List() (*Listing, error) {
	out := Listing{Layout: l}
	entries, err := l.Disk.ReadDir(l.Datadir)
	if err != nil {
		return nil, fmt.Errorf("listing the data directory: %w", err)
	}
	for _, e := range entries {
		if err := l.listDatabase(&out, e); err != nil {
			return nil, err
		}
		if err := l.listGeneral(&out, e); err != nil {
			return nil, err
		}
	}
	undo, err := l.Disk.ReadDir(l.UndoDir)
	if err != nil {
		return nil, fmt.Errorf("listing innodb_undo_directory: %w", err)
	}
	for _, e := range undo {
		if l.IsUndo(e.Name()) && !l.SkipUndo {
			if err := out.add(filepath.Join(l.UndoDir, e.Name()), e.Name()); err != nil {
				return nil, err
			}
		}
	}
	out.leaveOptions()
	return &out, nil
}

// IsUndo reports whether a file is, by its name, an undo tablespace to which the
// server gave that name.
func (l *Layout) IsUndo(base string) bool {
	return undoName.MatchString(base) || l.General && newUndoName.MatchString(base)
}

// HasUndoName reports whether a file of the archive is, by its name, an undo tablespace.
func (l *Layout) HasUndoName(name string) bool {
	return l.IsUndo(name) || l.General && filepath.Ext(name) == ".ibu"
}

// listGeneral adds an entry of the data directory that is a tablespace itself:
// mysql.ibd, general tablespaces and the links to them (5.7), undo tablespaces
// that a user made.
func (l *Layout) listGeneral(out *Listing, e fs.DirEntry) error {
	if !l.General || e.IsDir() || IsTemporaryTable(e.Name()) {
		return nil // the last are temporary tables of 5.6 and 5.7 whose tmpdir this is
	}
	path := filepath.Join(l.Datadir, e.Name())
	switch filepath.Ext(e.Name()) {
	case ".ibd", ".ibu":
		if slices.Contains(l.System, path) || l.SkipUndo && l.HasUndoName(e.Name()) {
			return nil
		}
		return out.add(path, e.Name())
	case ".isl":
		return out.addLinked(path, e.Name())
	}
	return nil
}

// listDatabase adds the files of one entry of the data directory, if it is a
// database: a directory, or a symbolic link to one.
func (l *Layout) listDatabase(out *Listing, e fs.DirEntry) error {
	db := e.Name()
	if db[0] == '.' || db[0] == '#' || db == "lost+found" || slices.Contains(l.IgnoreDirs, db) {
		return nil
	}
	if !e.IsDir() && e.Type()&fs.ModeSymlink == 0 {
		return nil
	}
	dir := filepath.Join(l.Datadir, db)
	if st, err := l.Disk.Stat(dir); err != nil || !st.IsDir() {
		return IgnoreGone(err)
	}
	entries, err := l.Disk.ReadDir(dir)
	if err != nil {
		return IgnoreGone(err)
	}
	out.Databases = append(out.Databases, db)
	for _, e := range entries {
		if err := out.addEntry(dir, db, e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// addEntry adds one file of a database directory to the list it belongs to.
func (out *Listing) addEntry(dir, db, base string) error {
	if IsTemporaryTable(base) {
		return nil
	}
	path, name := filepath.Join(dir, base), db+"/"+base
	switch ext := filepath.Ext(base); {
	case ext == ".ibd":
		return out.add(path, name)
	case ext == ".isl":
		return out.addLinked(path, name)
	case otherSuffixes[ext]:
		return out.addOther(path, name)
	}
	return nil
}

// addLinked adds the tablespace that a link file points to, under the name that
// it would have without the link: so a restored server finds it, which has no
// link, nor the place that it points to.
func (out *Listing) addLinked(path, name string) error {
	target, err := readLink(out.Disk, path)
	if err != nil {
		return IgnoreGone(err)
	}
	return out.add(target, strings.TrimSuffix(name, filepath.Ext(name))+".ibd")
}

// maxLink bounds the path in an .isl file.
const maxLink = 4096

// readLink reads the .isl file of a table with DATA DIRECTORY, or of a general
// tablespace: the path of the tablespace file, perhaps followed by a newline.
func readLink(system disk.System, path string) (string, error) {
	f, err := system.OpenRegular(path, false)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, maxLink+1)
	n, err := f.Read(b)
	target := strings.TrimRight(string(b[:n]), "\r\n \x00")
	if n > maxLink || !filepath.IsAbs(target) {
		return "", fmt.Errorf("%s does not hold the absolute path of a tablespace (read: %w)", path, err)
	}
	return target, nil
}

func (out *Listing) add(path, name string) error {
	info, err := out.Find(path, name)
	if err != nil || info == nil {
		return IgnoreGone(err)
	}
	out.AddTablespace(*info)
	return nil
}

// Find describes the file at path, which is to be in the backup. It returns nil for
// what no server can have made: a directory, a pipe, a socket or a device.
func (l *Layout) Find(path, name string) (*File, error) {
	facts, err := l.Disk.Lstatx(path)
	linked := err == nil && facts.Mode == fs.ModeSymlink
	if linked {
		if err := l.checkLink(path); err != nil {
			return nil, err
		}
		facts, err = l.Disk.Statx(path)
	}
	if err != nil {
		return nil, err
	}
	if facts.Mode != 0 {
		if l.Pass != nil {
			l.Pass(path, kindNames[facts.Mode])
		}
		return nil, nil
	}
	info := newFile(path, name, facts)
	info.Linked = linked
	return &info, nil
}

var kindNames = map[fs.FileMode]string{
	fs.ModeDir: "a directory", fs.ModeNamedPipe: "a named pipe", fs.ModeSocket: "a socket", fs.ModeDevice: "a device",
}

// LinkError says that a file of the backup is a symbolic link that the server did
// not make.
type LinkError struct{ Path string }

func (e *LinkError) Error() string {
	return fmt.Sprintf("%s is a symbolic link: hb, which may read files that the server may not, follows only links that servers make "+
		"(MyISAM, Aria and ARCHIVE tables with DATA DIRECTORY, where symbolic-links is on); put the file there, or remove the link", e.Path)
}

// checkLink returns a *LinkError unless a symbolic link is one that servers make
// for DATA DIRECTORY and INDEX DIRECTORY: to a file of the same name elsewhere.
func (l *Layout) checkLink(path string) error {
	target, err := l.Disk.Readlink(path)
	if err != nil {
		return err
	}
	switch filepath.Ext(path) {
	case ".MYD", ".MYI", ".MAD", ".MAI", ".ARZ":
		if l.Links && filepath.IsAbs(target) && filepath.Base(target) == filepath.Base(path) {
			return nil
		}
	}
	return &LinkError{path}
}

// LargestFirst orders files so that the longest copies start first.
func LargestFirst(files []File) {
	slices.SortStableFunc(files, func(a, b File) int { return cmp.Compare(b.Size, a.Size) })
}

// AriaFiles lists Aria's control file and its logs.
func (l *Layout) AriaFiles() (control, logs []File, err error) {
	entries, err := l.Disk.ReadDir(l.AriaLogDir)
	if err != nil {
		return nil, nil, fmt.Errorf("listing aria_log_dir_path: %w", err)
	}
	for _, e := range entries {
		list := &logs
		switch {
		case e.Name() == aria.ControlName:
			list = &control
		case !IsAriaLog(e.Name()):
			continue
		}
		info, err := l.Find(filepath.Join(l.AriaLogDir, e.Name()), e.Name())
		if err != nil {
			return nil, nil, err
		}
		if info != nil {
			*list = append(*list, *info)
		}
	}
	return control, logs, nil
}

// LateFiles lists the files for which IsLateFile holds.
func (l *Layout) LateFiles() ([]File, error) {
	dir := filepath.Join(l.Datadir, lateDatabase)
	entries, err := l.Disk.ReadDir(dir)
	if err != nil {
		return nil, IgnoreGone(err)
	}
	out := Listing{Layout: l}
	for _, e := range entries {
		if !AnyFile(e.Name()) {
			continue
		}
		if err := out.addEntry(dir, lateDatabase, e.Name()); err != nil {
			return nil, err
		}
	}
	return out.Others, nil
}

// IsOutside reports whether a path is outside the data directory.
func (l *Layout) IsOutside(path string) bool {
	rel, err := filepath.Rel(l.Datadir, path)
	return err != nil || !filepath.IsLocal(rel)
}
