// Package scope is which tables a backup is of, where not all: it reads the options, and
// decides by the name of a file. In come names of files in the data directory; out comes
// whether the backup has them, and the error about an option that names nothing.
//
// A table is in or out as a whole: its partitions, its definition and its FULLTEXT
// auxiliary tables follow it. What counts is the name at the end of the backup. Always in
// are the system tablespace, undo and general tablespaces, mysql.ibd, and the databases
// that a server needs (Always).
package scope

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"hb/stream"
	"hb/stream/nearest"
	"hb/xbstream/metadata"
)

// Options are the command line's.
type Options struct {
	Databases        []string `sep:"none" help:"Back up only these databases, or tables of them: names separated by spaces, \"db1 db2.table\". May be given more than once." placeholder:"LIST"`
	DatabasesFile    string   `help:"Back up only the databases and tables that this file names, one in each line." placeholder:"FILE" type:"path"`
	DatabasesExclude []string `sep:"none" help:"Leave out these databases, or tables of them." placeholder:"LIST"`
	Tables           []string `sep:"none" help:"Back up only tables for which one of these regular expressions (POSIX extended, separated by commas) is found in \"db.table\", as files are named." placeholder:"REGEX"`
	TablesFile       string   `help:"Back up only the tables that this file names, one db.table in each line." placeholder:"FILE" type:"path"`
	TablesExclude    []string `sep:"none" help:"Leave out tables for which one of these regular expressions is found in \"db.table\". It overrides the other options." placeholder:"REGEX"`
}

// Always are the databases without which a server does not start, or not in order.
var Always = []string{"mysql", "performance_schema", "sys"}

// A Scope is which tables a backup is of. nil: all.
type Scope struct {
	asked            metadata.Scope
	databases        names // with --tables-file
	excluded         names
	tables, unwanted []*regexp.Regexp
	// owners are the tables that FULLTEXT auxiliary tables belong to: by the id in their
	// names, as "db/table".
	owners map[string]string
}

// names are those of databases, and of tables of them.
type names struct {
	databases map[string]bool            // whole ones
	tables    map[string]map[string]bool // by database
}

func (n *names) add(entry string) {
	db, table, one := strings.Cut(entry, ".")
	if !one {
		n.databases[db] = true
		return
	}
	if n.tables[db] == nil {
		n.tables[db] = make(map[string]bool)
	}
	n.tables[db][table] = true
}

func newNames(entries []string) names {
	n := names{make(map[string]bool), make(map[string]map[string]bool)}
	for _, e := range entries {
		n.add(e)
	}
	return n
}

func (n *names) any() bool { return len(n.databases)+len(n.tables) > 0 }

// Compile reads the options, and the files that they name. A mistake is a
// *stream.UsageError. It returns nil if nothing was asked for.
func (o *Options) Compile() (*Scope, error) {
	s, err := o.compile()
	return s, stream.AsUsage(err)
}

func (o *Options) compile() (*Scope, error) {
	s := &Scope{}
	for _, list := range []struct {
		option string
		values []string
		file   string
		tables bool // databases are not enough
		to     *[]string
	}{
		{"--databases", o.Databases, "", false, &s.asked.Databases},
		{"--databases-file", nil, o.DatabasesFile, false, &s.asked.Databases},
		{"--databases-exclude", o.DatabasesExclude, "", false, &s.asked.DatabasesExclude},
		{"--tables-file", nil, o.TablesFile, true, &s.asked.Databases},
	} {
		entries := strings.Fields(strings.Join(list.values, " "))
		if list.file != "" {
			var err error
			if entries, err = readList(list.file); err != nil {
				return nil, fmt.Errorf("%s: %w", list.option, err)
			}
		}
		if (list.values != nil || list.file != "") && len(entries) == 0 {
			return nil, fmt.Errorf("%s names nothing", list.option)
		}
		for _, e := range entries {
			if err := checkEntry(e, list.tables); err != nil {
				return nil, fmt.Errorf("%s: %w", list.option, err)
			}
		}
		*list.to = append(*list.to, entries...)
	}
	if err := s.addPatterns("--tables", o.Tables, &s.asked.Tables, &s.tables); err != nil {
		return nil, err
	}
	if err := s.addPatterns("--tables-exclude", o.TablesExclude, &s.asked.TablesExclude, &s.unwanted); err != nil {
		return nil, err
	}
	s.databases, s.excluded = newNames(s.asked.Databases), newNames(s.asked.DatabasesExclude)
	for _, db := range Always {
		if s.excluded.databases[db] || s.excluded.tables[db] != nil {
			return nil, fmt.Errorf("--databases-exclude: a server needs the database %s, which every backup has", db)
		}
	}
	if asked := &s.asked; len(asked.Databases)+len(asked.DatabasesExclude)+len(asked.Tables)+len(asked.TablesExclude) == 0 {
		return nil, nil
	}
	return s, s.checkSize()
}

func (s *Scope) checkSize() error {
	size := 0
	for _, v := range slices.Concat(s.asked.Databases, s.asked.DatabasesExclude, s.asked.Tables, s.asked.TablesExclude) {
		size += len(v) + 1
	}
	if size > metadata.MaxScopeText {
		return fmt.Errorf("the names and patterns of databases and tables have %d bytes together, more than %d: name whole databases, or use patterns", size, metadata.MaxScopeText)
	}
	return nil
}

func (s *Scope) addPatterns(option string, values []string, asked *[]string, to *[]*regexp.Regexp) error {
	for _, v := range values {
		for p := range strings.SplitSeq(v, ",") {
			if p == "" {
				continue // as strtok does
			}
			re, err := compile(option, p)
			if err != nil {
				return err
			}
			*asked, *to = append(*asked, p), append(*to, re)
		}
	}
	if len(values) > 0 && len(*to) == 0 {
		return fmt.Errorf("%s has no pattern", option)
	}
	return nil
}

// plain are the names that files can have: in SQL and in files they are the same if they
// have no @ or #.
var plain = regexp.MustCompile(`^[0-9A-Za-z_@#]+([.][0-9A-Za-z_@#]+)?$`)

// checkEntry refuses what cannot be the name of a database, or of a table of one.
func checkEntry(e string, table bool) error {
	db, name, one := strings.Cut(e, ".")
	switch {
	case table && !one:
		return fmt.Errorf("%q names no table: write db.table", e)
	case db == "" || one && name == "" || strings.ContainsAny(e, "/\\") || strings.Contains(name, "."):
		return fmt.Errorf("%q is neither db nor db.table", e)
	}
	if !plain.MatchString(e) {
		return fmt.Errorf("%q: write names as the server's files have them, where characters other than letters, digits and _ are @ and four digits, as in my@002dtable (see the directory)", e)
	}
	return nil
}

// readList reads names, one in each line. Empty lines do not count.
func readList(name string) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, metadata.MaxScopeText+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(text) > metadata.MaxScopeText {
		return nil, fmt.Errorf("%s has more than %d bytes: name whole databases, or use patterns", name, metadata.MaxScopeText)
	}
	var out []string
	for line := range strings.SplitSeq(string(text), "\n") {
		if line = strings.TrimSuffix(line, "\r"); line != "" {
			out = append(out, line)
		}
	}
	return out, nil
}

// Asked is what was asked for, for the manifest; nil: all tables.
func (s *Scope) Asked() *metadata.Scope {
	if s == nil {
		return nil
	}
	asked := s.asked
	return &asked
}

// part begins what follows a table's name in that of a partition, which MySQL 8.0 and later
// write in lower case, and in that of a vector index of MariaDB 11.7 and later (t#i#01).
var part = regexp.MustCompile(`#(?:[Pp]|i)#`)

// auxiliary is the name of a FULLTEXT auxiliary table, with the id of its table.
var auxiliary = regexp.MustCompile(`^(?:FTS|fts)_([0-9a-f]{16})_`)

// serial ends the name of an .sdi file: the id of its table (MySQL 8.0 and later).
var serial = regexp.MustCompile(`_[0-9]+$`)

// TableOf returns the database and the table that a file belongs to, as files name them.
// table is "" for a file of the database itself, and db for one of none.
func TableOf(name string) (db, table string) {
	dir, base := path.Split(name)
	if db = path.Clean(dir); dir == "" {
		return "", ""
	}
	table, _, _ = strings.Cut(base, ".")
	if ext := path.Ext(base); ext == ".opt" {
		return db, ""
	} else if ext == ".sdi" {
		table = serial.ReplaceAllString(table, "")
	}
	if at := part.FindStringIndex(table); at != nil {
		table = table[:at[0]]
	}
	return db, table
}

// Has reports whether a backup has a file, by its name in the archive.
func (s *Scope) Has(name string) bool {
	if s == nil {
		return true
	}
	db, table := TableOf(name)
	if db == "" || slices.Contains(Always, db) {
		return true
	}
	if m := auxiliary.FindStringSubmatch(table); m != nil {
		owner, known := s.owners[m[1]]
		if !known {
			// Of a table that DDL makes or drops just now: if it is there at the end, and
			// committed, its owner is known then. Or a user's table that is called so.
			return s.HasAll(db) || s.hasTable(db, table)
		}
		db, table = TableOf(owner)
	}
	if table == "" {
		return s.HasDatabase(db)
	}
	return s.hasTable(db, table)
}

// hasTable is the peers' order of rules (check_if_skip_table in extra/mariabackup/xtrabackup.cc
// of MariaDB 10.11.18), except that they also leave out a whole database if
// --databases-exclude names only a table of it, and --databases is not given.
func (s *Scope) hasTable(db, table string) bool {
	full := db + "." + table
	found := func(list []*regexp.Regexp) bool {
		return slices.ContainsFunc(list, func(re *regexp.Regexp) bool { return re.MatchString(full) })
	}
	switch {
	case !s.mayHave(db), s.excluded.tables[db][table], found(s.unwanted):
		return false
	case s.databases.tables[db][table], found(s.tables), s.databases.databases[db]:
		return true
	}
	return !s.databases.any() && len(s.tables) == 0
}

// mayHave reports whether the lists of databases allow tables of one.
func (s *Scope) mayHave(db string) bool {
	if s.excluded.databases[db] {
		return false
	}
	return !s.databases.any() || s.databases.databases[db] || s.databases.tables[db] != nil
}

// HasDatabase reports whether tables of a database may be in the backup, and so its
// options and its directory: it is listed, or nothing is and a pattern for tables could
// match any.
func (s *Scope) HasDatabase(db string) bool {
	return s == nil || slices.Contains(Always, db) || s.mayHave(db)
}

// HasAll reports whether a database is in the backup as a whole, so that it is there
// without tables, too.
func (s *Scope) HasAll(db string) bool {
	return s == nil || slices.Contains(Always, db) || s.mayHave(db) && (s.databases.databases[db] || !s.databases.any() && len(s.tables) == 0)
}

// HasSQL is Has for a table by the names that SQL has for it. If files may have others, it
// is whether the database may be in the backup.
func (s *Scope) HasSQL(db, table string) bool {
	if s == nil || slices.Contains(Always, db) || !plain.MatchString(db+"."+table) || strings.ContainsAny(db+table, "@#") {
		return true
	}
	return s.hasTable(db, table)
}

// NeedsOwners reports whether it decides by tables, so that it has to know which table a
// FULLTEXT auxiliary table belongs to.
func (s *Scope) NeedsOwners() bool {
	return s != nil && (len(s.tables)+len(s.unwanted)+len(s.databases.tables)+len(s.excluded.tables) > 0)
}

// SetOwners takes the server's tables, "db/table" by id.
func (s *Scope) SetOwners(tables map[uint64]string) {
	s.owners = make(map[string]string, len(tables))
	for id, name := range tables {
		s.owners[fmt.Sprintf("%016x", id)] = name
	}
}

// A NameError says that an option names what the server does not have.
type NameError struct {
	Option, Name string
	What         string // "database", "table" or "pattern"
	Near         []string
	Gone         bool // it was there when the backup began
}

func (e *NameError) Error() string {
	var text string
	switch {
	case e.Gone:
		text = fmt.Sprintf("the %s %s, which %s names, was dropped or renamed during the backup: the backup would not have what was asked for; back up again", e.What, e.Name, e.Option)
	case e.What == "pattern":
		text = fmt.Sprintf("%s: no table matches %q, which is looked for in db.table (of partitions, in the name of the table)", e.Option, e.Name)
	default:
		text = fmt.Sprintf("%s: the server has no %s %s", e.Option, e.What, e.Name)
	}
	if len(e.Near) > 0 {
		text += ". Did you mean " + strings.Join(e.Near, " or ") + "?"
	}
	return text
}

// Contents is what a server has, as its files are named.
type Contents struct {
	Databases []string
	Tables    map[string]bool // "db.table"
}

// ContentsOf are those of databases, and of the tables that files belong to.
func ContentsOf(databases []string, files iter.Seq[string]) Contents {
	c := Contents{databases, make(map[string]bool)}
	for name := range files {
		c.Add(name)
	}
	return c
}

// Add enters the table that a file belongs to, unless it is one of the server's own.
func (c *Contents) Add(file string) {
	db, table := TableOf(file)
	if table != "" && db != "" && !auxiliary.MatchString(table) && !strings.HasPrefix(table, "#") {
		c.Tables[db+"."+table] = true
	}
}

// Check makes sure that the server has everything that the options name, and that each
// pattern matches something. gone: it had, when the backup began; then only what is to be
// in the backup is looked for.
func (s *Scope) Check(c Contents, gone bool) error {
	lists := []struct {
		option  string
		entries []string
	}{{"--databases", s.asked.Databases}, {"--databases-exclude", s.asked.DatabasesExclude}}
	if gone {
		lists = lists[:1]
	}
	for _, list := range lists {
		for _, e := range list.entries {
			if err := c.find(list.option, e, gone); err != nil {
				return err
			}
		}
	}
	if gone {
		return nil
	}
	tables := slices.Sorted(maps.Keys(c.Tables))
	for option, list := range map[string][]*regexp.Regexp{"--tables": s.tables, "--tables-exclude": s.unwanted} {
		for i, re := range list {
			if !slices.ContainsFunc(tables, func(t string) bool { return !isAlways(t) && re.MatchString(t) }) {
				patterns := s.asked.Tables
				if option == "--tables-exclude" {
					patterns = s.asked.TablesExclude
				}
				return &NameError{Option: option, Name: patterns[i], What: "pattern"}
			}
		}
	}
	return nil
}

func isAlways(table string) bool {
	db, _, _ := strings.Cut(table, ".")
	return slices.Contains(Always, db)
}

// find looks for an entry of a list.
func (c *Contents) find(option, entry string, gone bool) error {
	db, _, one := strings.Cut(entry, ".")
	if !slices.Contains(c.Databases, db) {
		return &NameError{Option: option, Name: db, What: "database", Near: nearest.To(db, c.Databases), Gone: gone}
	}
	if one && !c.Tables[entry] {
		return &NameError{Option: option, Name: entry, What: "table", Near: nearest.To(entry, slices.Sorted(maps.Keys(c.Tables))), Gone: gone}
	}
	return nil
}
