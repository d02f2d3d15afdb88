// Package restore brings tables that package export wrote back to a server: as the statements
// of a script that a client runs, or through a session of the server.
//
// What is done with a table is planned once, for both: see New. Source: the servers' manuals
// on ALTER TABLE … IMPORT TABLESPACE and EXCHANGE PARTITION; what the manuals do not say was
// found by running it on MySQL 5.6.24, 5.7.29 and 9.7.4 and MariaDB 10.5.23, 10.11.18 and 11.8.9.
package restore

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"

	"hb/sink/backupdir"
	"hb/sink/export"
	"hb/xbstream/createtable"
	"hb/xbstream/innodb/cfg"
	"hb/xbstream/innodb/filename"
)

// A Server is what the statements depend on.
type Server struct {
	MariaDB bool
	Version int // 50729 for MySQL 5.7.29, 101118 for MariaDB 10.11.18
	// RowFormat is innodb_default_row_format, in capital letters; empty: that of the series.
	RowFormat string
}

// importsPartitions reports whether the server knows IMPORT PARTITION. With others each
// partition is imported as a table, and exchanged.
func (s Server) importsPartitions() bool { return !s.MariaDB && s.Version >= 50704 }

// A Name is a table's, as SQL has it.
type Name struct{ Database, Table string }

// SQL is the name as statements have it.
func (n Name) SQL() string { return quote(n.Database) + "." + quote(n.Table) }

// String is the name with a dot.
func (n Name) String() string { return n.Database + "." + n.Table }

// file is the name of the table's files, without their ends.
func (n Name) file() string { return fileName(n.Database) + "/" + fileName(n.Table) }

// rawFile begins the names in SQL of files whose names are of no name in SQL.
const rawFile = "#mysql50#"

func fileName(name string) string {
	if raw, ok := strings.CutPrefix(name, rawFile); ok {
		return raw
	}
	return filename.Encode(name)
}

func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// A Step is a statement, or, if it has Copies, files that are to be put into the data directory.
type Step struct {
	SQL    string
	Copies []Copy
}

// A Copy is a file: From in the directory that was written, To in the data directory.
type Copy struct{ From, To string }

// Passing reports whether the server needs the file only while it imports.
func (c *Copy) Passing() bool {
	ext := path.Ext(c.To)
	return ext == cfg.Ext || ext == cfg.ExtKey
}

// mode is that of the file in the data directory: of one with a key none but the server's user
// reads it, others are as the server's.
func (c *Copy) mode(like fs.FileInfo) fs.FileMode {
	if path.Ext(c.To) == cfg.ExtKey {
		return 0o600
	}
	return like.Mode().Perm()
}

// A Table is how one is brought back.
type Table struct {
	Name   Name
	Was    Name
	Engine export.Engine
	// Rebuild: see export.Written.
	Rebuild bool
	// Steps make the table with its rows, and After what it can have only then, such as FULLTEXT
	// indexes.
	Steps, After []Step
	// Foreign are its foreign keys, as "ADD CONSTRAINT …" of ALTER TABLE.
	Foreign []string
}

// partitionTable is what the table is called that a partition is imported as.
const partitionTable = "hb_import_partition"

// New plans how a table is brought back. create is its CREATE TABLE statement, as the server
// shows it with an empty sql_mode.
func New(w *export.Written, create string, s Server, to Name) (*Table, error) {
	t := w.Table
	if err := checkRaw(t); err != nil {
		return nil, err
	}
	if t.Engine == export.Merge && to != (Name{}) && to != (Name{t.Database, t.Name}) {
		return nil, &export.RefusedError{Table: t.String(), What: "it is a MERGE table, of today's tables under any name: make it with its definition"}
	}
	if t.Engine != export.InnoDB && oldTimes.MatchString(create) {
		return nil, &export.RefusedError{Table: t.String(), What: "it has times in the format of old servers, and CREATE TABLE makes columns of the new one, with which its files would have other values: restore the whole backup, and dump the table there"}
	}
	split, err := parse(create, t.Engine)
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", t, err)
	}
	if t.Engine == export.InnoDB {
		setRowFormat(split, t, s)
	}
	p := &planner{Table: &Table{Name: to, Was: Name{t.Database, t.Name}, Engine: t.Engine, Rebuild: w.Rebuild, Foreign: split.Foreign}, of: w, server: s}
	if p.Name == (Name{}) {
		p.Name = p.Was
	}
	if t.Engine == export.Merge {
		p.run("USE %s", quote(p.Was.Database)) // where the tables are that it is of
	}
	p.run("%s", split.As(p.Name.Database, p.Name.Table))
	switch {
	case t.Engine != export.InnoDB:
		p.otherEngine()
	case !t.Partitioned():
		err = p.whole(create)
	case s.importsPartitions():
		p.partitions()
	default:
		p.exchange()
	}
	for _, index := range slices.Concat(split.FullText, split.Vector) {
		p.After = append(p.After, Step{SQL: "ALTER TABLE " + p.Name.SQL() + " " + index})
	}
	return p.Table, err
}

func parse(create string, engine export.Engine) (*createtable.Split, error) {
	if engine != export.InnoDB {
		return createtable.ParseOther(create)
	}
	return createtable.Parse(create)
}

// oldTimes are the comments on columns whose values are in the format of servers before MySQL 5.6 and
// MariaDB 10.0 (with show_old_temporals on MySQL).
var oldTimes = regexp.MustCompile(`/\* (?:5\.5 binary format|mariadb-5\.3) \*/`)

// Counters warns of tables of MySQL 8.0 and later whose AUTO_INCREMENT goes on after the largest
// value that is there: servers before it begin there at each start, but these remember more, in a
// table of their dictionary that hb does not read. It returns "" if there is nothing to warn of.
func Counters(sources []Source, s Server) string {
	if s.MariaDB || s.Version < 80000 {
		return ""
	}
	var names []string
	for _, src := range sources {
		if src.Written.Table.Engine == export.InnoDB && strings.Contains(src.Create, " AUTO_INCREMENT") {
			names = append(names, src.Written.Table.String())
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "AUTO_INCREMENT goes on after the largest value that is in the table, also where rows with larger ones were deleted: " + strings.Join(names, ", ")
}

// plainRaw are the bytes of names of files that hb takes as they are, where they are not those of
// a name in SQL: with others they could be more than names in a script.
var plainRaw = regexp.MustCompile(`^[0-9A-Za-z_@$#. -]*$`)

func checkRaw(t *export.Table) error {
	for _, name := range []string{t.Database, t.Name} {
		if raw, ok := strings.CutPrefix(name, rawFile); ok && !plainRaw.MatchString(raw) {
			return &export.RefusedError{Table: fmt.Sprintf("%q", t.String()), What: "no server gives its file such a name: restore the whole backup"}
		}
	}
	return nil
}

type planner struct {
	*Table
	of     *export.Written
	server Server
}

func (p *planner) run(format string, args ...any) {
	p.Steps = append(p.Steps, Step{SQL: fmt.Sprintf(format, args...)})
}

// copies are the files of a part as a table's, or of all of them.
func (p *planner) copies(part *export.Part, to string) {
	var list []Copy
	for _, ext := range []string{backupdir.ExtTable, cfg.Ext, cfg.ExtKey} {
		for _, have := range p.of.Files {
			if have == part.Base()+ext {
				list = append(list, Copy{From: have, To: to + ext})
			}
		}
	}
	p.Steps = append(p.Steps, Step{Copies: list})
}

// whole plans a table with one tablespace. If it has a FULLTEXT index, or had one, it also has
// a hidden column FTS_DOC_ID with an index. The server must have made both before it
// imports: MySQL and MariaDB 10.5 refuse the tablespace otherwise, and MariaDB 10.11 and 11.8 import
// a damaged table. These crash when a FULLTEXT index is added to the imported table, unless
// that is rebuilt before.
func (p *planner) whole(create string) error {
	t := p.of.Table
	if t.HasDocID() && !strings.Contains(create, "\n  `FTS_DOC_ID` ") {
		column := t.TextColumn()
		if column == "" {
			return &export.RefusedError{Table: t.String(), What: "it had a FULLTEXT index, and has no column any more that one could be of: restore the whole backup, and dump the table there"}
		}
		p.run("ALTER TABLE %s ADD FULLTEXT KEY hb_import (%s)", p.Name.SQL(), quote(column))
		p.run("ALTER TABLE %s DROP KEY hb_import", p.Name.SQL())
		if p.server.MariaDB && !p.Rebuild {
			p.After = append(p.After, Step{SQL: "ALTER TABLE " + p.Name.SQL() + " FORCE"})
		}
	}
	p.importOne(p.Name, &t.Parts[0])
	return nil
}

func (p *planner) importOne(to Name, part *export.Part) {
	p.run("ALTER TABLE %s DISCARD TABLESPACE", to.SQL())
	p.copies(part, to.file())
	p.run("ALTER TABLE %s IMPORT TABLESPACE", to.SQL())
	p.rebuild(to)
}

// rebuild has the server build all indexes again of the rows. DROP INDEX and ADD INDEX of those
// that need it would not do for the index of an AUTO_INCREMENT column, and leave the others' pages
// with the mark that changes of them are in the change buffer.
func (p *planner) rebuild(name Name) {
	if p.Rebuild {
		p.run("ALTER TABLE %s FORCE", name.SQL())
	}
}

func (p *planner) partitions() {
	p.run("ALTER TABLE %s DISCARD PARTITION ALL TABLESPACE", p.Name.SQL())
	was := p.Was.file()
	for i := range p.of.Table.Parts {
		part := &p.of.Table.Parts[i]
		p.copies(part, p.Name.file()+strings.TrimPrefix(part.Base(), was))
	}
	p.run("ALTER TABLE %s IMPORT PARTITION ALL TABLESPACE", p.Name.SQL())
	p.rebuild(p.Name)
}

// exchange imports each partition as a table. The server checks that its rows belong there.
func (p *planner) exchange() {
	as := Name{p.Name.Database, partitionTable}
	for i := range p.of.Table.Parts {
		part := &p.of.Table.Parts[i]
		p.run("CREATE TABLE %s LIKE %s", as.SQL(), p.Name.SQL())
		p.run("ALTER TABLE %s REMOVE PARTITIONING", as.SQL())
		p.importOne(as, part)
		p.run("ALTER TABLE %s EXCHANGE PARTITION %s WITH TABLE %s", p.Name.SQL(), quote(part.Partition), as.SQL())
		p.run("DROP TABLE %s", as.SQL())
	}
}

// otherEngine puts the files of another engine in the place of the empty table's.
func (p *planner) otherEngine() {
	if len(p.of.Files) == 0 {
		return // of a MERGE table the definition is all
	}
	was := p.Was.file()
	var list []Copy
	for _, file := range p.of.Files {
		list = append(list, Copy{From: file, To: p.Name.file() + strings.TrimPrefix(file, was)})
	}
	p.run("FLUSH TABLES %s", p.Name.SQL())
	p.Steps = append(p.Steps, Step{Copies: list})
	p.run("FLUSH TABLES %s", p.Name.SQL())
	if p.of.Table.Engine == export.Aria {
		// Its pages have LSNs of the other server's log.
		p.run("REPAIR TABLE %s", p.Name.SQL())
	}
}
