package restore

import (
	"fmt"
	"path"

	"hb/sink/backupdir"
	"hb/stream/disk"
)

// ExtDefinition ends the names of files with the CREATE TABLE statement of a table.
const ExtDefinition = ".sql"

// Write puts beside the files of tables, in the directory that they were written to, each one's
// definition, as database/table.sql, and the script that brings all of them back: ScriptName. They
// are on disk when it returns; the names are once the directory is synced.
func Write(to disk.Dir, sources []Source, s Server, o Objects) error {
	var tables []*Table
	put := func(name string, content []byte) error {
		if err := disk.Replace(to, name, name+backupdir.ExtTemporary, backupdir.FileMode, content, nil); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		return nil
	}
	for _, src := range sources {
		t, err := New(src.Written, src.Create, s, src.As)
		if err != nil {
			return err
		}
		name := t.Was.file() + ExtDefinition
		if err := backupdir.HaveDir(to, path.Dir(name)); err != nil {
			return err
		}
		if err := put(name, []byte(src.Create+";\n")); err != nil {
			return err
		}
		tables = append(tables, t)
	}
	script, err := Script(tables, s, o)
	if err != nil {
		return err
	}
	return put(ScriptName, script)
}
