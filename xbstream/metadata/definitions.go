package metadata

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

const (
	// DefinitionsName is the file of an archive that has the definitions of the server's
	// objects as SQL: a JSON object on each line, the first of them DefinitionsHead.
	DefinitionsName = "hb-definitions"

	definitionsVersion = 1
	// MaxDefinition bounds each line in bytes.
	MaxDefinition = 16 << 20
	// MaxDefinitions bounds what ReadDefinitions keeps, in bytes.
	MaxDefinitions = 512 << 20
)

// DefinitionKind is what an object is.
type DefinitionKind string

// The kinds. An hb may know more of them later.
const (
	DefinesDatabase    DefinitionKind = "database"
	DefinesTable       DefinitionKind = "table"
	DefinesView        DefinitionKind = "view"
	DefinesSequence    DefinitionKind = "sequence" // MariaDB
	DefinesTrigger     DefinitionKind = "trigger"
	DefinesProcedure   DefinitionKind = "procedure"
	DefinesFunction    DefinitionKind = "function"
	DefinesPackage     DefinitionKind = "package"      // MariaDB
	DefinesPackageBody DefinitionKind = "package body" // MariaDB
	DefinesEvent       DefinitionKind = "event"
)

// AllTriggers is the name in a Definition without a text that is of all triggers of a table.
const AllTriggers = "*"

// DefinitionsHead is the first line of hb-definitions.
type DefinitionsHead struct {
	Version int    `json:"hb_definitions"`
	Server  string `json:"server"` // family and version, as Archive.Server has them
	// Lacking are the privileges that the backup's account lacked: kinds of objects that need
	// them are not recorded.
	Lacking []string `json:"lacking,omitempty"`
	// Incomplete are reasons why objects may be missing without a Definition that says so: a list
	// that the server did not give.
	Incomplete []string `json:"incomplete,omitempty"`
	// Tables says that the file has tables. If not, they are in the tablespaces, and in .sdi
	// files (MySQL 8.0 and later).
	Tables bool `json:"tables"`
}

// Definition is the definition of one object as the backup has it, or why hb does not have it.
// Names are as in SQL, and "#mysql50#" and the name of the file if no name in SQL has that one.
//
// Create is the server's SHOW CREATE in UTF-8, from a session with an empty sql_mode, without a
// default database and with the time zone +00:00: literals of TIMESTAMP are in that zone. A
// table's AUTO_INCREMENT is not in it: that is data. What the server's answer has beside it, to
// be set for the statement that creates the object again, is in the other fields.
type Definition struct {
	Kind     DefinitionKind `json:"kind"`
	Database string         `json:"database"`
	Name     string         `json:"name,omitempty"`  // not of a database
	Table    string         `json:"table,omitempty"` // of a trigger
	// Order is the trigger's place among those of its table, event and time, from 1; 0: not known
	// (MySQL 5.6, which allows one).
	Order int `json:"order,omitempty"`

	Create string `json:"create,omitempty"`
	// Bytes is Create if that is not UTF-8: of a routine whose text is not of its own
	// character set.
	Bytes []byte `json:"create_base64,omitempty"`

	SQLMode             string `json:"sql_mode,omitempty"` // of triggers, routines and events
	CharacterSetClient  string `json:"character_set_client,omitempty"`
	CollationConnection string `json:"collation_connection,omitempty"`
	DatabaseCollation   string `json:"database_collation,omitempty"` // of triggers, routines and events
	TimeZone            string `json:"time_zone,omitempty"`          // of events

	// Missing is why there is no Create.
	Missing string `json:"missing,omitempty"`
}

// Line is the definition's line in the file, with its newline. A text that is too long for a
// line is left out, and Missing says so.
func (d Definition) Line() ([]byte, error) {
	if !utf8.ValidString(d.Create) {
		d.Create, d.Bytes = "", []byte(d.Create)
	}
	text, err := json.Marshal(d)
	if err == nil && len(text) >= MaxDefinition {
		d.Create, d.Bytes, d.Missing = "", nil, "it is too long"
		text, err = json.Marshal(d)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", DefinitionsName, err)
	}
	return append(text, '\n'), d.validate()
}

// Text is Create, whatever bytes it has.
func (d *Definition) Text() string {
	if len(d.Bytes) > 0 {
		return string(d.Bytes)
	}
	return d.Create
}

func (d *Definition) validate() error {
	texts := 0
	for _, has := range []bool{d.Create != "", len(d.Bytes) > 0, d.Missing != ""} {
		if has {
			texts++
		}
	}
	switch {
	case d.Kind == "" || d.Database == "" || (d.Name == "") != (d.Kind == DefinesDatabase):
		return fmt.Errorf("%s: the definition of %.20q %.100q in %.100q is of no object", DefinitionsName, d.Kind, d.Name, d.Database)
	case texts != 1:
		return fmt.Errorf("%s: %s %.100q of %.100q has %d texts", DefinitionsName, d.Kind, d.Name, d.Database, texts)
	}
	return nil
}

// definitionsEnd is the last line.
type definitionsEnd struct {
	Version int   `json:"hb_definitions_end"`
	Records int64 `json:"records"` // definitions before it
}

// DefinitionsWriter writes hb-definitions.
type DefinitionsWriter struct {
	w       *bufio.Writer
	records int64
}

// NewDefinitionsWriter writes the first line. Version is set by it.
func NewDefinitionsWriter(w io.Writer, head DefinitionsHead) (*DefinitionsWriter, error) {
	head.Version = definitionsVersion
	d := &DefinitionsWriter{w: bufio.NewWriterSize(w, 1<<20)}
	return d, d.put(head)
}

func (w *DefinitionsWriter) put(v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		_, err = w.w.Write(append(text, '\n'))
	}
	return wrapDefinitions(err)
}

// AddLine writes what Definition.Line returned.
func (w *DefinitionsWriter) AddLine(line []byte) error {
	w.records++
	_, err := w.w.Write(line)
	return wrapDefinitions(err)
}

// Close writes the last line. It does not close the file.
func (w *DefinitionsWriter) Close() error {
	if err := w.put(definitionsEnd{definitionsVersion, w.records}); err != nil {
		return err
	}
	return wrapDefinitions(w.w.Flush())
}

func wrapDefinitions(err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", DefinitionsName, err)
	}
	return nil
}

// EachDefinition reads hb-definitions and calls f for each definition, with a new one each
// time. A file that is cut off is io.ErrUnexpectedEOF, one of a later version a *VersionError.
func EachDefinition(r io.Reader, f func(*Definition) error) (head DefinitionsHead, err error) {
	lines := lineReader{r: bufio.NewReaderSize(r, 64<<10)}
	line, err := lines.next()
	if err != nil {
		return head, wrapDefinitions(err)
	}
	if err := unmarshalVersioned(DefinitionsName, "hb_definitions", definitionsVersion, line, &head); err != nil {
		return head, err
	}
	for records := int64(0); ; records++ {
		if line, err = lines.next(); err != nil {
			return head, wrapDefinitions(err)
		}
		d := &struct {
			Definition
			definitionsEnd
		}{}
		if err := unmarshalOne(line, d); err != nil {
			return head, wrapDefinitions(err)
		}
		if d.definitionsEnd.Version != 0 {
			return head, wrapDefinitions(lines.atEnd(d.definitionsEnd, records))
		}
		if err := d.Definition.validate(); err != nil {
			return head, err
		}
		if err := f(&d.Definition); err != nil {
			return head, err
		}
	}
}

// lineReader reads lines of bounded length.
type lineReader struct {
	r    *bufio.Reader
	line []byte
}

// next returns a line, to the next call. The end of the file is io.ErrUnexpectedEOF.
func (l *lineReader) next() ([]byte, error) {
	l.line = l.line[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		if len(l.line)+len(part) > MaxDefinition {
			return nil, fmt.Errorf("it has a line of more than %d bytes", MaxDefinition)
		}
		l.line = append(l.line, part...)
		switch {
		case err == nil:
			return l.line, nil
		case err == io.EOF:
			return nil, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// atEnd makes sure that the last line, and nothing after it, was read.
func (l *lineReader) atEnd(end definitionsEnd, records int64) error {
	if end.Records != records {
		return fmt.Errorf("it has %d definitions, and its end states %d", records, end.Records)
	}
	switch _, err := l.r.ReadByte(); err {
	case io.EOF:
		return nil
	case nil:
		return errors.New("it goes on after its end")
	default:
		return err
	}
}

// Definitions are definitions in memory.
type Definitions struct {
	Head   DefinitionsHead
	list   []*Definition
	byName map[definitionKey]*Definition
}

type definitionKey struct {
	kind           DefinitionKind
	database, name string
	table          string // of AllTriggers, of which there may be one for each table
}

// ReadDefinitions reads hb-definitions, and keeps those for which keep is true; nil: all. They
// may have MaxDefinitions bytes together.
func ReadDefinitions(r io.Reader, keep func(*Definition) bool) (*Definitions, error) {
	all := &Definitions{byName: make(map[definitionKey]*Definition)}
	size := 0
	head, err := EachDefinition(r, func(d *Definition) error {
		if keep != nil && !keep(d) {
			return nil
		}
		const around = 256 // the memory that each takes apart from its texts
		size += len(d.Database) + len(d.Name) + len(d.Create) + len(d.Bytes) + len(d.Missing) + around
		if size > MaxDefinitions {
			return fmt.Errorf("%s: the definitions have more than %d bytes: choose fewer tables", DefinitionsName, MaxDefinitions)
		}
		key := definitionKey{d.Kind, d.Database, d.Name, ""}
		if d.Name == AllTriggers && d.Missing != "" {
			key.table = d.Table
		}
		if all.byName[key] != nil {
			return fmt.Errorf("%s: it has %s %.100q of %.100q twice", DefinitionsName, d.Kind, d.Name, d.Database)
		}
		all.byName[key] = d
		all.list = append(all.list, d)
		return nil
	})
	all.Head = head
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Find returns the definition of an object; nil if it is not there. name is "" for a database.
func (d *Definitions) Find(kind DefinitionKind, database, name string) *Definition {
	return d.byName[definitionKey{kind, database, name, ""}]
}

// Of returns the definitions of some kinds in a database, in the order of the file; no kind:
// of all kinds.
func (d *Definitions) Of(database string, kinds ...DefinitionKind) (out []*Definition) {
	for _, def := range d.list {
		if def.Database != database {
			continue
		}
		wanted := len(kinds) == 0
		for _, k := range kinds {
			wanted = wanted || def.Kind == k
		}
		if wanted {
			out = append(out, def)
		}
	}
	return out
}

// Triggers returns those of a table, in the order in which they are to be created.
func (d *Definitions) Triggers(database, table string) (out []*Definition) {
	for _, def := range d.Of(database, DefinesTrigger) {
		if def.Table == table {
			out = append(out, def)
		}
	}
	return out
}
