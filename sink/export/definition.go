package export

import (
	"errors"
	"fmt"
	"io/fs"
	"path"

	"hb/xbstream/createtable"
	"hb/xbstream/innodb/sdi"
	"hb/xbstream/metadata"
)

// Definitions reads the definitions that the backup has as SQL, of those for which keep is
// true; nil: all. Without the file they are nil.
func (d *Directory) Definitions(keep func(*metadata.Definition) bool) (_ *metadata.Definitions, err error) {
	f, err := d.root.Open(metadata.DefinitionsName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return metadata.ReadDefinitions(f, keep)
}

// Create returns the CREATE TABLE statement of a table, as the server shows it with an empty
// sql_mode: of what MySQL 8.0 and later have beside the table, or of the definitions of the
// backup, which may be nil.
func (d *Directory) Create(t *Table, definitions *metadata.Definitions) (string, error) {
	if err := d.Describe(t); err != nil {
		return "", err
	}
	if d.hasSDI() {
		return d.createFromSDI(t)
	}
	if definitions == nil {
		return "", &RefusedError{t.String(), "the backup has no definitions (" + metadata.DefinitionsName + "), because another tool or an earlier hb made it, or because of --no-definitions: make the table yourself as it was then, and import its files; or restore the whole backup"}
	}
	def := definitions.Find(metadata.DefinesTable, t.Database, t.Name)
	switch {
	case def == nil && definitions.Find(metadata.DefinesSequence, t.Database, t.Name) != nil:
		return "", &RefusedError{t.String(), "it is a sequence, whose tablespace servers do not import: create it again, and set its value"}
	case def == nil:
		return "", &RefusedError{t.String(), "the definitions of the backup do not have it"}
	case def.Missing != "":
		return "", &RefusedError{t.String(), "the backup does not have its definition: " + def.Missing}
	}
	return def.Text(), nil
}

// createFromSDI makes the statement of the document in a tablespace, or in the .sdi file of
// another engine.
func (d *Directory) createFromSDI(t *Table) (string, error) {
	if t.Engine == InnoDB {
		return createtable.FromSDI(t.SDI, createtable.Options{Space: t.space})
	}
	for _, name := range t.Others {
		if path.Ext(name) != extSDI {
			continue
		}
		text, err := d.root.ReadFile(name)
		if err != nil {
			return "", err
		}
		document := sdi.Document{Type: sdi.TypeTable, JSON: text}
		def, err := document.Table()
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return createtable.FromSDI(def, createtable.Options{})
	}
	return "", &RefusedError{t.String(), "the file with its definition (" + extSDI + ") is missing"}
}
