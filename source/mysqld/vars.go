package mysqld

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// Vars are the server's global variables as SHOW GLOBAL VARIABLES gave them
// when hb connected. Names are lower case.
type Vars struct {
	m map[string]string
	// dots: names in innodb_data_file_path that begin with "./" or "../" count
	// from the data directory. True of MySQL 8.0 and later (9.7.4; not of
	// 5.6.24 and 5.7.29).
	dots bool
}

// Has reports whether the server knows the variable.
func (v Vars) Has(name string) bool { _, ok := v.m[name]; return ok }

// String returns a variable, "" if the server has none of that name.
func (v Vars) String(name string) string { return v.m[name] }

// Bool reports whether a variable is ON.
func (v Vars) Bool(name string) bool {
	s := v.m[name]
	return strings.EqualFold(s, "ON") || s == "1"
}

// Int returns a number, or an error if the variable is missing or not a number.
func (v Vars) Int(name string) (int64, error) {
	s, ok := v.m[name]
	if !ok {
		return 0, fmt.Errorf("the server has no variable %s", name)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the server's variable %s is %q, not a number", name, s)
	}
	return n, nil
}

// Datadir is the absolute path of the data directory.
func (v Vars) Datadir() string { return filepath.Clean(v.m["datadir"]) }

// Path returns a directory or file variable as an absolute path: relative ones
// count from the data directory, an empty or missing one is the data directory
// itself.
func (v Vars) Path(name string) string {
	p := v.m[name]
	if p == "" {
		return v.Datadir()
	}
	if !filepath.IsAbs(p) {
		return filepath.Join(v.Datadir(), p)
	}
	return filepath.Clean(p)
}

// The directories that a backup reads. In each, an unset variable means the
// data directory.
func (v Vars) InnodbHome() string   { return v.Path("innodb_data_home_dir") }
func (v Vars) LogDir() string       { return v.Path("innodb_log_group_home_dir") } // of ib_logfile0
func (v Vars) UndoDir() string      { return v.Path("innodb_undo_directory") }     // of undo001 and so on
func (v Vars) AriaLogDir() string   { return v.Path("aria_log_dir_path") }         // of aria_log_control
func (v Vars) DataFilePath() string { return v.m["innodb_data_file_path"] }        // "ibdata1:12M:autoextend"

// RedoFilesDir is the directory of MySQL's #ib_redo files (8.0.30 and later);
// before, redo log files ib_logfile0 … are in LogDir.
func (v Vars) RedoFilesDir() string { return filepath.Join(v.LogDir(), "#innodb_redo") }

// Directories are innodb_directories: where MySQL 8.0 and later look for
// tablespaces, beside InnodbHome, UndoDir and Datadir. Absolute.
func (v Vars) Directories() []string {
	var dirs []string
	for d := range strings.SplitSeq(v.m["innodb_directories"], ";") {
		if d = strings.Trim(strings.TrimSpace(d), `"'`); d == "" {
			continue
		}
		if !filepath.IsAbs(d) {
			d = filepath.Join(v.Datadir(), d)
		}
		dirs = append(dirs, filepath.Clean(d))
	}
	return dirs
}

// BinlogIndex is the path of the binary log's index file, "" if the binary log
// is off.
func (v Vars) BinlogIndex() string {
	if on, _ := v.LogBin(); !on {
		return ""
	}
	return v.Path("log_bin_index")
}

// PageSize is innodb_page_size in bytes.
func (v Vars) PageSize() (int, error) {
	n, err := v.Int("innodb_page_size")
	if err != nil {
		return 0, err
	}
	switch n {
	case 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10:
		return int(n), nil
	}
	return 0, fmt.Errorf("the server's innodb_page_size is %d, which no server supports", n)
}

// IgnoredDirs are the database directories that the server does not see.
func (v Vars) IgnoredDirs() []string {
	var dirs []string
	for d := range strings.SplitSeq(v.m["ignore_db_dirs"], ",") {
		if d != "" {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// LogBin reports whether the binary log is on; basename is the path of its
// files without the number, absolute.
func (v Vars) LogBin() (on bool, basename string) {
	if v.m["log_bin_basename"] != "" {
		basename = v.Path("log_bin_basename")
	}
	return v.Bool("log_bin"), basename
}

// SystemFiles are the paths of the files of the system tablespace, in order.
func (v Vars) SystemFiles() ([]string, error) {
	spec := v.DataFilePath()
	var files []string
	for part := range strings.SplitSeq(spec, ";") {
		// A file is NAME:SIZE[:autoextend[:max:SIZE]]; raw devices have
		// "newraw" or "raw" at the end and are not files.
		name, size, ok := strings.Cut(part, ":")
		if !ok || name == "" || strings.HasSuffix(size, "raw") {
			return nil, fmt.Errorf("the server's innodb_data_file_path %q is not NAME:SIZE;...: raw devices are not supported", spec)
		}
		switch dot := strings.HasPrefix(name, "./") || strings.HasPrefix(name, "../"); {
		case filepath.IsAbs(name):
		case dot && v.dots:
			name = filepath.Join(v.Datadir(), name)
		default:
			name = filepath.Join(v.InnodbHome(), name)
		}
		files = append(files, name)
	}
	return files, nil
}

// SocketPath is the path of the server's own socket, absolute.
func (v Vars) SocketPath() string {
	if p := v.m["socket"]; p != "" && !filepath.IsAbs(p) {
		return filepath.Join(v.Datadir(), p)
	}
	return v.m["socket"]
}
