package datadir

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"hb/source/mysqld/contents"
	"hb/xbstream"
	"hb/xbstream/innodb"
)

// ArchiveName is the name of a tablespace's file in the archive: where it lies in
// the data directory or, from elsewhere, where a server looks for it that knows
// nothing of that place.
//
//   - Tables and partitions: db/table.ibd. 5.6 and 5.7 fall back to that path
//     without a link file, and 8.0 and later find a file by the id in it.
//   - General tablespaces: their name and .ibd.
//   - Undo tablespaces, from a directory of the data directory too: undo_001 for
//     those that the server made, otherwise their name and .ibu.
//
// Where that name is another tablespace's, its id is added (AliasName).
//
// So XtraBackup names them, too, except that it puts them back to where they
// came from.
func (l *Layout) ArchiveName(s contents.Tablespace) string {
	path := l.Seen(s.Path)
	rel, err := filepath.Rel(l.Datadir, path)
	if err == nil && filepath.IsLocal(rel) && (s.Kind != contents.SpaceUndo || filepath.Base(rel) == rel) {
		return rel
	}
	base := filepath.Base(path)
	switch {
	case s.Kind == contents.SpaceUndo && l.IsUndo(base):
		return base
	case s.Kind == contents.SpaceUndo:
		return s.Name + ".ibu"
	case strings.Contains(s.Name, "/"):
		return filepath.Join(filepath.Base(filepath.Dir(path)), base)
	}
	return s.Name + ".ibd"
}

// A NameError says that the backup cannot have two things under one name, or one
// under a name that no file system takes.
type NameError struct {
	Name string // in the archive
	What string // what is wrong
}

func (e *NameError) Error() string {
	return fmt.Sprintf("the backup would have %q as %s, so that nobody could unpack it: "+
		"rename the database or the tablespace, or move its file", e.Name, e.What)
}

// NameSet is the names in an archive, each with its origin: what the server calls a
// file, or "" for a directory.
type NameSet map[string]string

// Add enters a file.
func (n NameSet) Add(name, from string) error {
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > xbstream.MaxName {
			return &NameError{name, fmt.Sprintf("a name of more than %d bytes", xbstream.MaxName)}
		}
	}
	if err := n.AddDirectory(path.Dir(name)); err != nil {
		return err
	}
	switch other, taken := n[name]; {
	case taken && other == "":
		return &NameError{name, "the name of a file and of a database"}
	case taken:
		return &NameError{name, fmt.Sprintf("the name of two files, %s and %s", other, from)}
	}
	n[name] = from
	return nil
}

// AddDirectory enters a directory, and those that it is in.
func (n NameSet) AddDirectory(name string) error {
	for ; name != "." && name != "/"; name = path.Dir(name) {
		if n[name] != "" {
			return &NameError{name, "the name of a file and of a database"}
		}
		n[name] = ""
	}
	return nil
}

const aliasMark = "#hb#"

// AliasName is the name of a tablespace's file whose own name is taken, for the
// nth time: one that no server gives out, with the suffix by which one is known.
func AliasName(name string, id innodb.SpaceID, n int) string {
	ext := path.Ext(name)
	if ext != ".ibd" && ext != ".ibu" {
		ext = ""
	}
	mark := fmt.Sprintf("%s%d", aliasMark, id)
	if n > 1 {
		mark += fmt.Sprintf("#%d", n)
	}
	dir, base := path.Split(strings.TrimSuffix(name, ext))
	if len(base+mark+ext) > xbstream.MaxName {
		base = ""
	}
	return dir + base + mark + ext
}

// PlainName is the name of which a name is an alias, or the name itself.
func PlainName(name string) string {
	plain, _, alias := strings.Cut(name, aliasMark)
	if !alias {
		return name
	}
	return plain + path.Ext(name)
}

// IsNameless reports whether a name is an alias that does not have the name that it is of,
// which was too long.
func IsNameless(name string) bool { return strings.HasPrefix(path.Base(name), aliasMark) }
