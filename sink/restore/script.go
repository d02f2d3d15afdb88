package restore

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"

	"hb/sink/backupdir"
	"hb/sink/export"
	"hb/xbstream/createtable"
	"hb/xbstream/innodb/cfg"
	"hb/xbstream/metadata"
)

// ScriptName is the file of a script beside the files that it brings back.
const ScriptName = "import.sql"

// Objects are what a script makes besides tables.
type Objects struct {
	// Definitions are those of the backup; nil: it has none.
	Definitions *metadata.Definitions
	// Databases are brought back as a whole: with their views, triggers, routines and events.
	Databases []string
	// Sequences are where those of MariaDB go on.
	Sequences map[Name]*export.Sequence
}

// setSequence is the statement that makes a sequence, which was made just now, go on where it was;
// "": that is not known.
func (o *Objects) setSequence(d *metadata.Definition) string {
	name := Name{d.Database, d.Name}
	s := o.Sequences[name]
	switch {
	case d.Kind != metadata.DefinesSequence || s == nil:
		return ""
	case s.Next.Cmp(s.Max) > 0:
		return fmt.Sprintf("DO SETVAL(%s, %v, 1)", name.SQL(), s.Max) // which was given out
	case s.Next.Cmp(s.Min) < 0:
		return fmt.Sprintf("DO SETVAL(%s, %v, 1)", name.SQL(), s.Min)
	}
	return fmt.Sprintf("ALTER SEQUENCE %s RESTART WITH %v", name.SQL(), s.Next)
}

// settings are what the statements need of the session, and must not change on replicas.
// Replicas do not get the files: each statement that asks for them would end replication there.
func (s Server) settings() []string {
	list := slices.Concat(createtable.Session, []string{"SET SESSION sql_log_bin=0", "SET SESSION foreign_key_checks=0, SESSION unique_checks=1, SESSION innodb_strict_mode=0"})
	if !s.MariaDB && s.Version >= 80013 {
		list = append(list, "SET SESSION sql_require_primary_key=0")
	}
	if !s.MariaDB && s.Version >= 80030 {
		list = append(list, "SET SESSION sql_generate_invisible_primary_key=0")
	}
	if !s.MariaDB && s.Version >= 50700 || s.Version >= 101100 {
		list = append(list, "SET SESSION explicit_defaults_for_timestamp=1")
	}
	return list
}

// Script is a script for the server's client, which is to be run in the directory with the files,
// by a user who may write into the data directory: DATADIR=… mysql < import.sql. A file that
// cannot be copied ends the client, and so does the first statement that fails.
func Script(tables []*Table, s Server, o Objects) ([]byte, error) {
	tables = slices.Clone(tables)
	slices.SortStableFunc(tables, func(a, b *Table) int { return isMerge(a.Engine) - isMerge(b.Engine) })
	w := &script{server: s, Objects: o, tables: tables}
	w.comment("Brings back these tables:")
	for _, t := range tables {
		w.comment("  " + t.Name.String())
	}
	client := "mysql"
	if !s.MariaDB && s.Version >= 80000 {
		client += " --loose-commands --loose-system-command" // which are off in 9.7
	}
	w.comment("On the server's machine, in this directory, as root or as the server's user, run",
		"  DATADIR=/var/lib/mysql "+client+" < "+ScriptName,
		"with the server's data directory (SELECT @@datadir). The first error ends it; but look at the",
		"lines of CHECK TABLE: each must end with OK. Tables of these names must not be there. The",
		"binary log does not get the statements (sql_log_bin): do the same on each replica.")
	for _, q := range s.settings() {
		w.statement(q)
	}
	w.databases()
	w.sequences()
	for _, t := range tables {
		w.comment("", "Table "+t.Name.String())
		w.table(t)
		w.statement("ANALYZE TABLE " + t.Name.SQL())
		w.statement("CHECK TABLE " + t.Name.SQL() + " EXTENDED")
	}
	w.foreign()
	w.others()
	return w.out.Bytes(), nil
}

type script struct {
	Objects
	server Server
	tables []*Table
	out    bytes.Buffer
}

// table writes the steps of one. After the last statement before files are copied, which makes
// InnoDB take its own away, there must be none; before that there must be one.
func (w *script) table(t *Table) {
	for i := range t.Steps {
		if t.Engine == export.InnoDB && strings.Contains(t.Steps[i].SQL, " DISCARD ") && i+1 < len(t.Steps) {
			w.made(&t.Steps[i+1])
		}
		if from := copiesBefore(t.Steps, i); from < i {
			w.place(t.Steps[from:i])
		}
		w.step(&t.Steps[i], t.Engine)
		if i > 0 && strings.Contains(t.Steps[i].SQL, " IMPORT ") {
			if t.Rebuild {
				w.comment("Changes of its indexes were only in the change buffer of the server. Warnings "+badIndex+" are of",
					"these; ALTER TABLE … FORCE builds the indexes again.")
			}
			w.statement("SHOW WARNINGS")
			for n := i - 1; n >= 0 && len(t.Steps[n].Copies) > 0; n-- {
				w.remove(&t.Steps[n])
			}
		}
	}
	for i := range t.After {
		w.step(&t.After[i], t.Engine)
	}
}

// copiesBefore is where the steps that copy files begin right before a statement; the statement's
// own number: it has none before it.
func copiesBefore(steps []Step, statement int) int {
	from := statement
	if len(steps[statement].Copies) > 0 {
		return from
	}
	for from > 0 && len(steps[from-1].Copies) > 0 {
		from--
	}
	return from
}

// comment writes lines of comments.
func (w *script) comment(lines ...string) {
	for _, line := range lines {
		for part := range strings.SplitSeq(line, "\n") {
			w.out.WriteString(strings.TrimRight("-- "+part, " ") + "\n")
		}
	}
}

func (w *script) statement(q string) { w.out.WriteString(q + ";\n") }

// compound writes a statement that may have semicolons, and ends it with what it does not have.
func (w *script) compound(q string) {
	delimiter := "$$"
	for strings.Contains(q, delimiter) {
		delimiter += "$"
	}
	fmt.Fprintf(&w.out, "DELIMITER %s\n%s\n%s\nDELIMITER ;\n", delimiter, q, delimiter)
}

// step writes a statement, or the commands that copy files. What the server needs only once
// goes when it has been used.
func (w *script) step(s *Step, engine export.Engine) {
	if len(s.Copies) == 0 {
		w.statement(s.SQL)
		return
	}
	for _, c := range s.Copies {
		to, test := `"$DATADIR"/`+shellQuote(c.To), "test ! -e"
		if engine != export.InnoDB {
			test = "test -f" // the empty table's
		}
		passing := `"$DATADIR"/` + shellQuote(c.To+backupdir.ExtTemporary)
		fmt.Fprintf(&w.out, `\! %s %s && cp %s %s && chown --reference="$DATADIR"/%s %s && chmod %s %s || kill $PPID`+"\n",
			test, to, shellQuote("./"+c.From), passing, shellQuote(path.Dir(c.To)), passing, c.shellMode(), passing)
	}
}

// shellMode is the mode of a file in the data directory.
func (c *Copy) shellMode() string {
	if path.Ext(c.To) == cfg.ExtKey {
		return "600"
	}
	return "660"
}

// place gives the files that were copied their names, right before the statement that they are
// for: see importing.place.
func (w *script) place(steps []Step) {
	for _, s := range steps {
		for _, c := range s.Copies {
			fmt.Fprintf(&w.out, `\! mv "$DATADIR"/%s "$DATADIR"/%s || kill $PPID`+"\n", shellQuote(c.To+backupdir.ExtTemporary), shellQuote(c.To))
		}
	}
}

// remove removes the files that the server needed only while it imported.
func (w *script) remove(s *Step) {
	for _, c := range s.Copies {
		if c.Passing() {
			fmt.Fprintf(&w.out, `\! rm -f "$DATADIR"/%s`+"\n", shellQuote(c.To))
		}
	}
}

// made ends the client unless the data directory has a table's file now: it is another one, or the
// server's tables are elsewhere.
func (w *script) made(s *Step) {
	for _, c := range s.Copies {
		if !c.Passing() {
			fmt.Fprintf(&w.out, `\! test -f "$DATADIR"/%s || kill $PPID`+"\n", shellQuote(c.To))
			return
		}
	}
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// databases makes the databases of the tables.
func (w *script) databases() {
	var done []string
	for _, t := range w.tables {
		if name := t.Name.Database; !slices.Contains(done, name) {
			done = append(done, name)
			w.statement(createDatabase(name, t.Was.Database, w.Definitions))
		}
	}
	for _, name := range w.Databases {
		if !slices.Contains(done, name) {
			done = append(done, name)
			w.statement(createDatabase(name, name, w.Definitions))
		}
	}
}

// createDatabase is the statement that makes a database as another one was.
func createDatabase(name, was string, definitions *metadata.Definitions) string {
	options := ""
	if definitions != nil {
		if d := definitions.Find(metadata.DefinesDatabase, was, ""); d != nil {
			options, _ = strings.CutPrefix(d.Text(), "CREATE DATABASE "+quote(was))
		}
	}
	return "CREATE DATABASE IF NOT EXISTS " + quote(name) + options
}

// foreign adds the foreign keys, which the server checks.
func (w *script) foreign() {
	begun := false
	for _, t := range w.tables {
		for _, key := range t.Foreign {
			if !begun {
				begun = true
				w.comment("", "Foreign keys. The server checks the rows: if one refers to a row that is not there, because",
					"the other table is of another time, the statement fails, and the table is without the key.")
				w.statement("SET SESSION foreign_key_checks=1")
			}
			w.out.WriteString("USE " + quote(t.Name.Database) + ";\n")
			w.statement("ALTER TABLE " + t.Name.SQL() + " " + key)
		}
	}
}

// kinds are what else a database has, in the order in which it is made: sequences before the
// tables, and the others after them. Triggers and events act from then on.
var kinds = []metadata.DefinitionKind{
	metadata.DefinesSequence, metadata.DefinesFunction, metadata.DefinesProcedure, metadata.DefinesPackage, metadata.DefinesPackageBody,
	metadata.DefinesView, metadata.DefinesTrigger, metadata.DefinesEvent,
}

// sequences makes those of databases, of which tables may have values by default.
func (w *script) sequences() {
	if w.Definitions == nil {
		return
	}
	for _, database := range w.Databases {
		w.define(database, w.Definitions.Of(database, metadata.DefinesSequence))
	}
	for _, q := range w.server.settings() { // again: definitions have settings of their own
		w.statement(q)
	}
}

// others makes the views, triggers, routines and events of databases, and the triggers of tables
// that are brought back under their own names.
func (w *script) others() {
	if w.Definitions == nil {
		return
	}
	for _, database := range w.Databases {
		for _, kind := range kinds[1:] {
			list := w.Definitions.Of(database, kind)
			if kind == metadata.DefinesView {
				list = viewsInOrder(list)
			}
			w.define(database, list)
		}
	}
	for _, t := range w.tables {
		if t.Name == t.Was && !slices.Contains(w.Databases, t.Was.Database) {
			w.define(t.Was.Database, w.Definitions.Triggers(t.Was.Database, t.Was.Table))
		}
	}
}

// define writes definitions with what they need of the session.
func (w *script) define(database string, list []*metadata.Definition) {
	for _, d := range list {
		w.comment("", fmt.Sprintf("The %s %s.%s", d.Kind, d.Database, d.Name))
		if d.Missing != "" {
			w.comment("is not in the backup: " + d.Missing)
			continue
		}
		w.statement("USE " + quote(database))
		w.statement(definitionSettings(d))
		w.compound(d.Text())
		if q := w.setSequence(d); q != "" {
			w.statement(q)
		}
	}
}

// definitionSettings is what the server had of the connection that made an object, but for the
// character set of the statement: that is UTF-8 here, unless it could not be.
func definitionSettings(d *metadata.Definition) string {
	client := "utf8mb4"
	if len(d.Bytes) > 0 {
		client = d.CharacterSetClient
	}
	set := []string{"sql_mode=" + text(d.SQLMode), "character_set_client=" + text(client)}
	for _, v := range [][2]string{{"collation_connection", d.CollationConnection}, {"collation_database", d.DatabaseCollation}, {"time_zone", d.TimeZone}} {
		if v[1] != "" {
			set = append(set, v[0]+"="+text(v[1]))
		}
	}
	return "SET SESSION " + strings.Join(set, ", ")
}

func text(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
}

// viewsInOrder puts views after those that they name.
func viewsInOrder(list []*metadata.Definition) (out []*metadata.Definition) {
	left := slices.Clone(list)
	for len(left) > 0 {
		next := slices.IndexFunc(left, func(v *metadata.Definition) bool {
			return !slices.ContainsFunc(left, func(o *metadata.Definition) bool {
				return o != v && strings.Contains(v.Text(), quote(o.Database)+"."+quote(o.Name))
			})
		})
		next = max(next, 0) // views that seem to name each other: as they come
		out = append(out, left[next])
		left = slices.Delete(left, next, next+1)
	}
	return out
}
