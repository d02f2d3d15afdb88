// Package optfile reads the option files ("my.cnf") of MySQL and MariaDB by
// the rules of their own programs.
//
// The rules were taken from my_print_defaults of MariaDB 10.5.23, 10.11.18 and
// 11.8.6 and are held against it by this package's tests:
//
//   - Files, in order: /etc/my.cnf, /etc/mysql/my.cnf, my.cnf in
//     $MARIADB_HOME or else $MYSQL_HOME, the file of --defaults-extra-file,
//     ~/.my.cnf. A --defaults-file replaces them all. A missing file of the
//     list is no error; a missing file named by an option is one.
//   - A world-writable file is ignored with a warning, even a named one.
//   - A line is "[group]", "key", "key=value" or "!directive"; '#' and ';'
//     start a comment line, and '#' outside of quotes ends any line but a
//     directive. White space around key and value is dropped. One pair of
//     equal quotes around the value is dropped. \b \t \n \r \s \" \' and \\
//     are replaced in values, other backslashes stay.
//   - Group names compare without case; spaces before ']' are dropped, those
//     after '[' are not; what follows ']' is ignored. A group suffix adds
//     "group+suffix" to the groups read, in the order of the files.
//   - "!include FILE" and "!includedir DIR" (the *.cnf files of DIR in byte
//     order; not *.ini) are followed ten files deep. A directive line has no
//     comments. An unknown directive and a missing included file are skipped,
//     a missing directory is an error.
//   - In option names '-' and '_' are the same; "loose-", "skip-",
//     "disable-" and "enable-" are prefixes. The last setting wins.
//
// Where the programs are lax in a way that can only hide a mistake, this
// package is not: an overlong line (they cut it in two), a zero byte (they drop
// the rest of the line), a value without a name (they mangle it) and an error
// inside an included file (they go on without it) are errors here, and a missing
// included file is a warning.
package optfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Limits on what is read, far above anything real, so that a wrong file or a
// loop of includes ends in an error and not in all of the memory.
const (
	// maxFileSize bounds one option file, in bytes.
	maxFileSize = 1 << 20
	// maxLineLen bounds one line, in bytes without its end. The servers'
	// programs read lines into 4096 bytes and cut longer ones in two.
	maxLineLen = 4094
	// maxDepth is how deep includes nest below a file of the list. The
	// servers' programs follow the same number.
	maxDepth = 10
	// maxFiles bounds the files of one Load, repeated includes counted each
	// time.
	maxFiles = 1000
	// maxOptions bounds the options kept by one Load.
	maxOptions = 10000
)

// An Option is one line of an option file.
type Option struct {
	Group    string // as selected, without the brackets, in the file's spelling
	Key      string // the option's name in the file's spelling
	Value    string // unquoted; empty if HasValue is false. May be a secret
	HasValue bool   // whether there was a '='
	File     string // the file that holds it
	Line     int    // counted from 1
}

// String names the option and where it stands, never its value.
func (o Option) String() string {
	return fmt.Sprintf("option %q in group [%s] at %s:%d", o.Key, o.Group, o.File, o.Line)
}

// Place is the option's file and line.
func (o Option) Place() string { return fmt.Sprintf("%s:%d [%s]", o.File, o.Line, o.Group) }

// GoString is String, so that no way of printing shows a password.
func (o Option) GoString() string { return o.String() }

// A Source is which files and groups to read.
type Source struct {
	DefaultsFile string // --defaults-file: read this file only
	ExtraFile    string // --defaults-extra-file: read before ~/.my.cnf
	NoDefaults   bool   // --no-defaults: read nothing
	// GroupSuffix is --defaults-group-suffix. If empty, the environment's
	// MARIADB_GROUP_SUFFIX or else MYSQL_GROUP_SUFFIX counts.
	GroupSuffix string
	// Groups to read, such as "client" and "hb".
	Groups []string
	// Getenv reads the environment; nil means os.Getenv.
	Getenv func(string) string
	// System lists the files that come before those of the environment and
	// the user; nil means SystemFiles.
	System []string
}

// SystemFiles are the option files of the whole machine, in reading order.
// MySQL 9.7 and MariaDB 10.5 to 11.8 as packaged by Debian have the same ones.
var SystemFiles = []string{"/etc/my.cnf", "/etc/mysql/my.cnf"}

// A Set is the options of a Source.
type Set struct {
	Options  []Option // in reading order: later ones win
	Files    []string // the files read, in order
	Warnings []string // lines that were skipped, and why

	suffix string // of the groups that were read too
}

// Load reads the files of the source.
func (s Source) Load() (*Set, error) {
	l := &loader{set: &Set{}, home: s.getenv("HOME")}
	if s.NoDefaults {
		return l.set, nil
	}
	suffix := s.suffix()
	l.set.suffix = suffix
	l.groups = make(map[string]bool)
	for _, g := range s.Groups {
		l.groups[strings.ToLower(g)] = true
		if suffix != "" {
			l.groups[strings.ToLower(g+suffix)] = true
		}
	}
	for _, f := range s.files() {
		if err := l.load(f.path, f.required); err != nil {
			return nil, err
		}
	}
	return l.set, nil
}

func (s Source) getenv(name string) string {
	if s.Getenv != nil {
		return s.Getenv(name)
	}
	return os.Getenv(name)
}

func (s Source) suffix() string {
	for _, v := range []string{s.GroupSuffix, s.getenv("MARIADB_GROUP_SUFFIX"), s.getenv("MYSQL_GROUP_SUFFIX")} {
		if v != "" {
			return v
		}
	}
	return ""
}

type listedFile struct {
	path     string
	required bool // named by an option, so it must exist
}

func (s Source) files() []listedFile {
	if s.DefaultsFile != "" {
		return []listedFile{{s.DefaultsFile, true}}
	}
	system := s.System
	if system == nil {
		system = SystemFiles
	}
	var list []listedFile
	for _, f := range system {
		list = append(list, listedFile{path: f})
	}
	if dir := s.getenv("MARIADB_HOME"); dir != "" {
		list = append(list, listedFile{path: filepath.Join(dir, "my.cnf")})
	} else if dir := s.getenv("MYSQL_HOME"); dir != "" {
		list = append(list, listedFile{path: filepath.Join(dir, "my.cnf")})
	}
	if s.ExtraFile != "" {
		list = append(list, listedFile{s.ExtraFile, true})
	}
	if home := s.getenv("HOME"); home != "" {
		list = append(list, listedFile{path: filepath.Join(home, ".my.cnf")})
	}
	return list
}

type loader struct {
	set    *Set
	groups map[string]bool // lower case
	home   string
	opened int
}

// load reads one file of the list with all that it includes.
func (l *loader) load(path string, required bool) error {
	err := l.file(path, 0)
	if required {
		return err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission):
		// A distribution may make some files readable only for the server's user.
		l.warn("%v: ignored", err)
		return nil
	}
	return err
}

// expand replaces a leading "~/" by the home directory, as the programs do.
func (l *loader) expand(path string) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok && l.home != "" {
		return filepath.Join(l.home, rest)
	}
	return path
}

// file reads one option file. The error is fs.ErrNotExist or fs.ErrPermission
// only if that file itself cannot be opened.
func (l *loader) file(path string, depth int) error {
	path = l.expand(path)
	l.opened++
	if l.opened > maxFiles {
		return fmt.Errorf("option file %s: more than %d option files: do they include each other?", path, maxFiles)
	}
	st, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("option file: %w", err)
	}
	switch {
	case st.IsDir():
		l.warn("option file %s is a directory and is ignored", path)
		return nil
	case !st.Mode().IsRegular():
		// A pipe, as of a shell's <(...), is read like a file.
	case st.Mode().Perm()&0o002 != 0:
		l.warn("option file %s is ignored: anyone may write to it (chmod o-w %s)", path, path)
		return nil
	}
	text, err := readBounded(path)
	if err != nil {
		return err
	}
	l.set.Files = append(l.set.Files, path)
	return l.parse(path, text, depth)
}

func (l *loader) warn(format string, args ...any) {
	l.set.Warnings = append(l.set.Warnings, fmt.Sprintf(format, args...))
}

// add keeps an option if its group was asked for.
func (l *loader) add(o Option) error {
	if !l.groups[strings.ToLower(o.Group)] {
		return nil
	}
	if len(l.set.Options) >= maxOptions {
		return fmt.Errorf("option file %s:%d: more than %d options", o.File, o.Line, maxOptions)
	}
	l.set.Options = append(l.set.Options, o)
	return nil
}
