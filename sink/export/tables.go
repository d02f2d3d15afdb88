package export

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"hb/sink/backupdir"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/dict"
	"hb/xbstream/innodb/filename"
	"hb/xbstream/innodb/sdi"
)

// A Table is a table of a directory.
type Table struct {
	Database, Name string // as SQL has them
	Engine         Engine
	Parts          []Part // of InnoDB: in the order of their files' names
	// Others are its files that are not tablespaces, in the order of their names.
	Others []string

	// Describe sets these. SDI is nil before MySQL 8.0, and Dict, one for each part, since then.
	SDI  *sdi.Table
	Dict []*dict.Table

	space     *sdi.Tablespace // of the first part
	refusal   error           // it cannot be exported
	described bool
}

// A Part is a tablespace of a table: of all of it, or of a partition.
type Part struct {
	Partition string // as SQL has it: of a subpartition only its own name; "": it is all of the table
	Space     innodb.SpaceID
	Path      string // in the directory: db/t#p#p0.ibd
}

// Base is the file's name without its end: db/t#p#p0. InnoDB calls the partition so.
func (p *Part) Base() string { return strings.TrimSuffix(p.Path, backupdir.ExtTable) }

// String is the table's name with a dot.
func (t *Table) String() string { return t.Database + "." + t.Name }

// Partitioned reports whether its tablespaces are those of partitions.
func (t *Table) Partitioned() bool { return len(t.Parts) > 0 && t.Parts[0].Partition != "" }

// A RefusedError says why a table cannot be exported, and what to do.
type RefusedError struct{ Table, What string }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("table %s cannot be exported: %s", e.Table, e.What)
}

// Engine is a storage engine, as SHOW ENGINES has it.
type Engine string

// The engines whose tables have files. A table of the others is its definition.
const (
	InnoDB  Engine = "InnoDB"
	MyISAM  Engine = "MyISAM"
	Aria    Engine = "Aria"
	CSV     Engine = "CSV"
	Archive Engine = "ARCHIVE"
	Merge   Engine = "MRG_MYISAM"
)

// engines are told by the ends of their files' names.
var engines = map[string]Engine{
	".ibd": InnoDB, ".MYD": MyISAM, ".MYI": MyISAM, ".MAD": Aria, ".MAI": Aria, ".CSV": CSV, ".CSM": CSV, ".ARZ": Archive, ".MRG": Merge,
}

// definitions are the ends of the names of files that define tables: of all of them, of
// partitions of other engines, and, of MySQL 8.0 and later, of other engines.
var definitions = []string{".frm", ".par", extSDI}

const extSDI = ".sdi"

var (
	// hidden are tables that belong to others: FULLTEXT auxiliaries, and vector indexes of MariaDB.
	hidden = regexp.MustCompile(`(?i)^FTS_[0-9a-f]{16}_(?:[0-9a-f]{16}_INDEX_[1-6]|CONFIG|BEING_DELETED(?:_CACHE)?|DELETED(?:_CACHE)?)$|#i#`)
	// partition begins what follows a table's name in that of a partition; serial ends that of
	// an .sdi file.
	partition = regexp.MustCompile(`#[Pp]#`)
	serial    = regexp.MustCompile(`_[0-9]+$`)
)

const subpartition = "#sp#" // in lower case

// Tables returns all tables that have files, in the order of their names, those of the server
// itself included. Those that have none are there if InnoDB's dictionary has them, or if they
// share a tablespace. Temporary tables, FULLTEXT auxiliaries and the like are left out.
func (d *Directory) Tables() ([]*Table, error) {
	l := &listing{Directory: d, found: map[[2]string]*Table{}, spaces: map[innodb.SpaceID]bool{}}
	if err := backupdir.EachDatabaseFile(d.root, l.file); err != nil {
		return nil, err
	}
	var err error
	if d.hasSDI() {
		err = l.shared()
	} else {
		err = l.elsewhere()
	}
	var all []*Table
	for _, t := range l.found {
		if t.Engine != "" {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b *Table) int { return cmp.Or(cmp.Compare(a.Database, b.Database), cmp.Compare(a.Name, b.Name)) })
	return all, err
}

// listing is one call of Tables.
type listing struct {
	*Directory
	found  map[[2]string]*Table
	spaces map[innodb.SpaceID]bool // that are tables' own
}

// name is a name in SQL.
func name(file string) string {
	if name, ok := filename.Decode(file); ok {
		return name
	}
	return "#mysql50#" + file
}

func (l *listing) table(dir, base string) *Table {
	key := [2]string{name(dir), name(base)}
	t := l.found[key]
	if t == nil {
		t = &Table{Database: key[0], Name: key[1]}
		l.found[key] = t
	}
	return t
}

// file notes a file of a database.
func (l *listing) file(file string) error {
	dir, rest := path.Split(file)
	dir = path.Clean(dir)
	base, ext := strings.TrimSuffix(rest, path.Ext(rest)), path.Ext(rest)
	engine := engines[ext]
	if engine == "" && !slices.Contains(definitions, ext) || strings.HasPrefix(base, "#") || strings.HasPrefix(dir, "#") || hidden.MatchString(base) {
		return nil
	}
	part := ""
	if at := partition.FindStringIndex(base); at != nil {
		base, part = base[:at[0]], base[at[1]:]
	}
	if ext == extSDI {
		base = serial.ReplaceAllString(base, "")
	}
	t := l.table(dir, base)
	if engine != InnoDB {
		t.Others = append(t.Others, file)
		slices.Sort(t.Others)
		t.Engine = cmp.Or(engine, t.Engine)
		return nil
	}
	id, err := l.spaceID(file)
	if err != nil {
		return err
	}
	l.spaces[id] = true
	t.Engine = InnoDB
	t.Parts = append(t.Parts, Part{Partition: partitionName(part), Space: id, Path: file})
	return nil
}

// partitionName is a partition's name in SQL, by what its file has of it.
func partitionName(file string) string {
	if at := strings.LastIndex(strings.ToLower(file), subpartition); at >= 0 {
		file = file[at+len(subpartition):]
	}
	if file == "" {
		return ""
	}
	return name(file)
}

// elsewhere adds the tables that InnoDB's dictionary has without a file of their own.
func (l *listing) elsewhere() error {
	for _, t := range l.dict.Tables {
		dir, base, ok := strings.Cut(t.Name, "/")
		if !ok || l.spaces[t.Space] || strings.HasPrefix(base, "#") || hidden.MatchString(base) {
			continue
		}
		if at := partition.FindStringIndex(base); at != nil {
			base = base[:at[0]]
		}
		table := l.table(dir, base)
		table.Engine = InnoDB
		table.refusal = &RefusedError{table.String(), missingSpace(t)}
	}
	return nil
}

// Bits of dict.Table.Flags2 (dict0mem.h, DICT_TF2_USE_FILE_PER_TABLE and DICT_TF2_DISCARDED).
const (
	ownSpace  = 16
	discarded = 32
)

// missingSpace says why a table has no file of its own.
func missingSpace(t *dict.Table) string {
	switch {
	case t.Flags2&discarded != 0:
		return "its tablespace is discarded: there is nothing of its rows in the backup"
	case t.Space == 0:
		return "it is in the system tablespace, and servers import only tables that have a file: restore the whole backup, and dump the table there"
	case t.Flags2&ownSpace == 0:
		return "it is in a general tablespace, and servers import only tables that have a file: restore the whole backup, and dump the table there"
	}
	return fmt.Sprintf("the file of its tablespace, %d, is not here", t.Space)
}

// shared adds the tables of MySQL 8.0 and later that are in the system tablespace and in
// general ones, which have their definitions.
func (l *listing) shared() error {
	if err := l.sharing("system", l.system); err != nil {
		return err
	}
	top, err := l.root.ReadDir(".")
	if err != nil {
		return fmt.Errorf("listing the backup directory: %w", err)
	}
	for _, e := range top {
		if e.IsDir() || path.Ext(e.Name()) != backupdir.ExtTable || e.Name() == "mysql.ibd" {
			continue
		}
		err := l.with(e.Name(), func(p *Pages) error { return l.sharing("general", p) })
		if err != nil {
			return err
		}
	}
	return nil
}

// sharing adds the tables of one.
func (l *listing) sharing(kind string, p *Pages) error {
	documents, err := sdi.Read(p)
	if errors.Is(err, sdi.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, doc := range documents {
		if doc.Type != sdi.TypeTable {
			continue
		}
		def, err := doc.Table()
		if err != nil {
			return err
		}
		if l.found[[2]string{def.Schema, def.Name}] == nil {
			t := &Table{Database: def.Schema, Name: def.Name, Engine: InnoDB}
			l.found[[2]string{def.Schema, def.Name}] = t
			t.refusal = &RefusedError{t.String(), "it is in " + map[string]string{"system": "the system", "general": "a general"}[kind] + " tablespace, and servers import only tables that have a file: restore the whole backup, and dump the table there"}
		}
	}
	return nil
}
