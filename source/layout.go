package source

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"hb/source/mysqld"
	"hb/stream/disk"
)

// Layout says where on disk a server keeps what a backup copies. All paths are
// absolute.
type Layout struct {
	Datadir string
	// System lists the files of the system tablespace (ibdata1 …) in the order
	// of innodb_data_file_path: their pages are numbered through.
	System     []string
	UndoDir    string
	RedoDir    string
	AriaLogDir string   // MariaDB; where aria_log_control and aria_log.* are
	IgnoreDirs []string // ignore_db_dirs: directories of Datadir that are no databases
	General    bool     // tablespaces lie in Datadir itself too (MySQL)
	skipUndo   bool     // leave out undo tablespaces: they are copied last

	disk disk.System
	seen func(path string) string // where hb sees a path of the server's; nil: there
}

// newLayout finds the server's files, below datadir instead of the place that
// the server names where that is given.
func newLayout(files disk.System, v mysqld.Vars, datadir string) (Layout, error) {
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
		disk:    files,
		Datadir: seen(v.Datadir()), System: system,
		UndoDir: seen(v.UndoDir()), RedoDir: seen(v.LogDir()), AriaLogDir: seen(v.AriaLogDir()),
		IgnoreDirs: v.IgnoredDirs(), seen: seen,
	}, nil
}

// fileID tells files apart across renames and reuse of a name. Inode numbers
// are reused soon after a file is deleted, so that the birth time counts too
// (zero on file systems that have none).
type fileID struct {
	dev, ino uint64
	born     int64 // nanoseconds
}

// fileInfo is what a listing knows of one file.
type fileInfo struct {
	path string // on disk
	name string // relative to the data directory, as the archive has it
	fileID
	size     int64
	modified int64 // nanoseconds
	changed  int64 // nanoseconds, ctime
}

// sameContent reports whether nothing was written to the file since it was
// listed as old. A file that is written through a memory map can escape this.
func (f fileInfo) sameContent(old fileInfo) bool {
	return f.fileID == old.fileID && f.size == old.size &&
		f.modified == old.modified && f.changed == old.changed
}

// listing is one look at the data directory.
type listing struct {
	disk        disk.System
	tablespaces []fileInfo // .ibd files and undo tablespaces; not the system tablespace
	others      []fileInfo // files of other engines, definitions, options
	databases   []string   // directories
}

// otherSuffixes are the files beside InnoDB's that belong to a database:
// table definitions (.frm, and .sdi since MySQL 8.0), options, triggers,
// partitions, and the data of MyISAM, Aria, MERGE, ARCHIVE and CSV tables.
var otherSuffixes = map[string]bool{
	".frm": true, ".sdi": true, ".opt": true, ".par": true, ".TRG": true, ".TRN": true,
	".MYD": true, ".MYI": true, ".MAD": true, ".MAI": true, ".MRG": true,
	".ARM": true, ".ARZ": true, ".CSM": true, ".CSV": true,
}

var (
	// undoName are the undo tablespaces that the server gives names to, which
	// truncates them as they are, and newUndoName are those of MySQL 8.0 and
	// later, which makes new ones instead.
	undoName    = regexp.MustCompile(`^undo[0-9]{3}$`)
	newUndoName = regexp.MustCompile(`^undo_[0-9]{3}$`)
	ariaLogName = regexp.MustCompile(`^aria_log\.[0-9]{8}$`)
)

// temporaryTable starts the names of tables that a server makes for itself
// during DDL, and drops after a crash.
const temporaryTable = "#sql"

// list looks at the databases, undo tablespaces, and on MySQL general ones. What vanishes meanwhile is
// left out; what cannot be read is an error.
func (l *Layout) list() (*listing, error) {
	out := listing{disk: l.disk}
	entries, err := l.disk.ReadDir(l.Datadir)
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
	undo, err := l.disk.ReadDir(l.UndoDir)
	if err != nil {
		return nil, fmt.Errorf("listing innodb_undo_directory: %w", err)
	}
	for _, e := range undo {
		if l.isUndo(e.Name()) && !l.skipUndo {
			if err := out.add(&out.tablespaces, filepath.Join(l.UndoDir, e.Name()), e.Name()); err != nil {
				return nil, err
			}
		}
	}
	return &out, nil
}

func (l *Layout) isUndo(base string) bool {
	return undoName.MatchString(base) || l.General && newUndoName.MatchString(base)
}

// listGeneral adds an entry of the data directory that is a tablespace itself:
// mysql.ibd, general tablespaces and the links to them (5.7), undo tablespaces
// that a user made.
func (l *Layout) listGeneral(out *listing, e fs.DirEntry) error {
	if !l.General || e.IsDir() {
		return nil
	}
	path := filepath.Join(l.Datadir, e.Name())
	switch filepath.Ext(e.Name()) {
	case ".ibd", ".ibu":
		if slices.Contains(l.System, path) {
			return nil
		}
		return out.add(&out.tablespaces, path, e.Name())
	case ".isl":
		return out.addLinked(path, e.Name())
	}
	return nil
}

// listDatabase adds the files of one entry of the data directory, if it is a
// database: a directory, or a symbolic link to one.
func (l *Layout) listDatabase(out *listing, e fs.DirEntry) error {
	db := e.Name()
	if db[0] == '.' || db[0] == '#' || db == "lost+found" || slices.Contains(l.IgnoreDirs, db) {
		return nil
	}
	if !e.IsDir() && e.Type()&fs.ModeSymlink == 0 {
		return nil
	}
	dir := filepath.Join(l.Datadir, db)
	if st, err := l.disk.Stat(dir); err != nil || !st.IsDir() {
		return ignoreGone(err)
	}
	entries, err := l.disk.ReadDir(dir)
	if err != nil {
		return ignoreGone(err)
	}
	out.databases = append(out.databases, db)
	for _, e := range entries {
		if err := out.addEntry(dir, db, e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// addEntry adds one file of a database directory to the list it belongs to.
func (out *listing) addEntry(dir, db, base string) error {
	if strings.HasPrefix(base, temporaryTable) {
		return nil
	}
	path, name := filepath.Join(dir, base), db+"/"+base
	switch ext := filepath.Ext(base); {
	case ext == ".ibd":
		return out.add(&out.tablespaces, path, name)
	case ext == ".isl":
		return out.addLinked(path, name)
	case otherSuffixes[ext]:
		return out.add(&out.others, path, name)
	}
	return nil
}

// addLinked adds the tablespace that a link file points to, under the name that
// it would have without the link: so a restored server finds it, which has no
// link, nor the place that it points to.
func (out *listing) addLinked(path, name string) error {
	target, err := readLink(out.disk, path)
	if err != nil {
		return ignoreGone(err)
	}
	return out.add(&out.tablespaces, target, strings.TrimSuffix(name, filepath.Ext(name))+".ibd")
}

// maxLink bounds the path in an .isl file.
const maxLink = 4096

// readLink reads the .isl file of a table with DATA DIRECTORY, or of a general
// tablespace: the path of the tablespace file, perhaps with a newline behind.
func readLink(system disk.System, path string) (string, error) {
	f, err := system.Open(path)
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

func (out *listing) add(list *[]fileInfo, path, name string) error {
	info, err := statFile(out.disk, path, name)
	if err != nil {
		return ignoreGone(err)
	}
	*list = append(*list, info)
	return nil
}

// statFile describes the file at path, following symbolic links.
func statFile(system disk.System, path, name string) (fileInfo, error) {
	facts, err := system.Statx(path)
	if err != nil {
		return fileInfo{}, err
	}
	return newFileInfo(path, name, facts), nil
}

// statOpen describes the open file f, which was found at path.
func statOpen(f disk.File, path, name string) (fileInfo, error) {
	facts, err := f.Statx()
	if err != nil {
		return fileInfo{}, err
	}
	return newFileInfo(path, name, facts), nil
}

func newFileInfo(path, name string, f disk.Facts) fileInfo {
	return fileInfo{
		path: path, name: name, size: f.Size, modified: f.Modified, changed: f.Changed,
		fileID: fileID{dev: f.Dev, ino: f.Ino, born: f.Born},
	}
}

// ignoreGone passes every error but that a file is not there any more, which
// DDL explains and the final settling notices.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// largestFirst orders files so that the longest copies start first.
func largestFirst(files []fileInfo) {
	slices.SortStableFunc(files, func(a, b fileInfo) int { return cmp.Compare(b.size, a.size) })
}
