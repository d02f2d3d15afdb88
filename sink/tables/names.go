// Package tables gets single tables out of an archive. In come the names of tables, and an
// archive, or what a chain makes; out comes a recovered directory that has these tables, and
// of the rest only what their recovery needs: see [Selection].
//
// A table is what it is called at the end of the backup. The archive has its file under the
// name that it had when it was copied, and fix-up files (package backupdir) say what became of
// that name since. hb lists all tablespaces under the last lock, so that they say it of every
// file, and the redo log, which ends there, has nothing to add.
package tables

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"hb/sink/backupdir"
	"hb/stream"
	"hb/stream/nearest"
	"hb/xbstream/innodb/filename"
	"hb/xbstream/metadata"
)

// Name is the name of a table, or of a whole database if Table is "", as SQL has it.
type Name struct{ Database, Table string }

func (n Name) String() string {
	if n.Table == "" {
		return n.Database
	}
	return n.Database + "." + n.Table
}

// files are the names in the names of files.
func (n Name) files() Name {
	if n.Table == "" {
		return Name{Database: filename.Encode(n.Database)}
	}
	return Name{filename.Encode(n.Database), filename.Encode(n.Table)}
}

// ParseNames reads names of tables, "db.table", and of databases. In backquotes, a name may
// have any characters; a backquote in it is written twice. A mistake is a *stream.UsageError.
func ParseNames(tables, databases []string) (names []Name, err error) {
	for _, text := range tables {
		db, rest, err := cutName(text)
		var table string
		if err == nil {
			if rest, dotted := strings.CutPrefix(rest, "."); !dotted {
				err = errors.New("write it as db.table")
			} else if table, rest, err = cutName(rest); err == nil && rest != "" {
				err = errors.New("a name with a dot must be in backquotes: `my.db`.`table`")
			}
		}
		if err != nil {
			return nil, stream.AsUsage(fmt.Errorf("--table %q: %w", text, err))
		}
		names = append(names, Name{db, table})
	}
	for _, text := range databases {
		db, rest, err := cutName(text)
		if err == nil && rest != "" {
			err = errors.New("it is no name of a database: use --table for tables")
		}
		if err != nil {
			return nil, stream.AsUsage(fmt.Errorf("--database %q: %w", text, err))
		}
		names = append(names, Name{Database: db})
	}
	return names, nil
}

// cutName cuts the first name off a text.
func cutName(text string) (name, rest string, err error) {
	if quoted, ok := strings.CutPrefix(text, "`"); ok {
		for {
			part, after, closed := strings.Cut(quoted, "`")
			if !closed {
				return "", "", errors.New("a backquote is not closed")
			}
			name += part
			if quoted, ok = strings.CutPrefix(after, "`"); !ok {
				rest = after
				break
			}
			name += "`"
		}
	} else {
		end := strings.IndexByte(text, '.')
		if end < 0 {
			end = len(text)
		}
		name, rest = text[:end], text[end:]
	}
	if name == "" {
		return "", "", errors.New("a name is missing")
	}
	return name, rest, nil
}

// NotFoundError says that an archive has no table, or no database, of a name.
type NotFoundError struct {
	Name    Name
	Near    []string // names that were perhaps meant
	General []string // general tablespaces, which may have the table in them
	View    bool     // it has files, and they are of no table
	// Scope is what the backup is of, if not of all tables.
	Scope *metadata.Scope
}

func (e *NotFoundError) Error() string {
	what := "table"
	if e.Name.Table == "" {
		what = "database"
	}
	if e.View {
		return fmt.Sprintf("%v is not a table with files in the backup: it may be a view, or have no file of its own because its engine keeps no rows in files, or because it is in a general tablespace", e.Name)
	}
	text := fmt.Sprintf("the backup has no files of a %s %v", what, e.Name)
	if len(e.Near) > 0 {
		return text + ": did you mean " + strings.Join(e.Near, ", ") + "?"
	}
	text += ": hb list shows what it has"
	if e.Scope != nil {
		text += fmt.Sprintf("; it is a backup of some tables, %v", e.Scope)
	}
	if len(e.General) > 0 && e.Name.Table != "" {
		text += fmt.Sprintf("; if the table is in a general tablespace (%s), it cannot be taken out of that: restore the whole backup elsewhere (hb extract --apply), and copy the table from there",
			strings.Join(e.General, ", "))
	}
	return text
}

// wanted are the tables that were asked for, by the names of files.
type wanted struct {
	names []Name // as they were given
	whole map[string]bool
	some  map[Name]bool
}

func newWanted(names []Name) *wanted {
	w := &wanted{names: names, whole: make(map[string]bool), some: make(map[Name]bool)}
	for _, n := range names {
		if f := n.files(); f.Table == "" {
			w.whole[f.Database] = true
		} else {
			w.some[f] = true
		}
	}
	return w
}

// scope is what was asked for, as metadata.Scope has it.
func (w *wanted) scope() (names []string) {
	for _, n := range w.names {
		names = append(names, n.files().String())
	}
	return names
}

// has reports whether a file in the directory of a database is one of those tables, by its
// final name. Auxiliary tables of FULLTEXT indexes are no one's: no server imports them.
func (w *wanted) has(file string) bool {
	n, ok := owner(file)
	return ok && (w.whole[n.Database] || w.some[n])
}

// auxiliary are the names of the tables that a FULLTEXT index is in (fts_get_table_name).
var auxiliary = regexp.MustCompile(`^(FTS|fts)_[0-9a-f]{16}_`)

// serialized are the files that MySQL 8.0 and later describe tables of other engines in, with
// the id of the table in their names.
var serialized = regexp.MustCompile(`_[0-9]+\.sdi$`)

// owner is the table that a file in the directory of a database is of, both as files are
// called; Table is "" for a file of the database. Partitions, and other parts of a table, have
// a # after its name.
func owner(file string) (Name, bool) {
	db, base := path.Split(file)
	db = strings.TrimSuffix(db, "/")
	if db == "" || strings.Contains(db, "/") || auxiliary.MatchString(base) {
		return Name{}, false
	}
	if base == "db.opt" {
		return Name{Database: db}, true
	}
	if at := serialized.FindStringIndex(base); at != nil {
		return Name{db, base[:at[0]]}, true
	}
	end := strings.IndexAny(base, ".#")
	if end <= 0 { // 0: a table that an ALTER was not done with
		return Name{}, false
	}
	return Name{db, base[:end]}, true
}

// missing returns a *NotFoundError of the first name of which none of these files is. They have
// their final names, and are those of a backup of that manifest, nil if it has none.
func (w *wanted) missing(files []string, m *metadata.Manifest) error {
	databases, found := make(map[string]bool), make(map[Name]bool)
	var general []string
	for _, file := range files {
		if n, ok := owner(file); ok {
			databases[n.Database], found[n] = true, true
		} else if path.Dir(file) == "." && path.Ext(file) == backupdir.ExtTable && file != dictionaryFile {
			general = append(general, file)
		}
	}
	for _, n := range w.names {
		f := n.files()
		if f.Table == "" && databases[f.Database] || f.Table != "" && found[f] {
			continue
		}
		e := &NotFoundError{Name: n, General: general}
		if m != nil {
			e.Scope = m.Scope
		}
		var near []string
		if f.Table == "" {
			for _, db := range slices.Sorted(maps.Keys(databases)) {
				near = append(near, decoded(Name{Database: db}).String())
			}
		} else {
			for n := range found {
				if n.Table != "" {
					near = append(near, decoded(n).String())
				}
			}
			slices.Sort(near)
		}
		e.Near = nearest.To(n.String(), near)
		return e
	}
	return nil
}

// decoded is a name as SQL has it; as files have it, if that means nothing.
func decoded(n Name) Name {
	for _, part := range []*string{&n.Database, &n.Table} {
		if name, ok := filename.Decode(*part); ok {
			*part = name
		}
	}
	return n
}
