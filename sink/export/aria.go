package export

import (
	"errors"
	"fmt"
	"path"

	"hb/sink/backupdir"
	"hb/xbstream/aria"
)

// describeAria refuses tables of Aria that are crash-safe: they are copied while the server
// writes them, and what their files lack then is in the Aria log, which only a server applies,
// when it starts on all of the backup.
func (d *Directory) describeAria(t *Table) error {
	indexes := 0
	for _, name := range t.Others {
		if path.Ext(name) != ".MAI" {
			continue
		}
		indexes++
		table, err := d.ariaTable(name)
		switch {
		case err != nil:
			return &backupdir.DamageError{File: name, Err: err}
		case table.Logged:
			return &RefusedError{t.String(), "it is a crash-safe table of Aria, of which changes can be in the Aria log only: restore the whole backup, start a server on it, and dump the table there"}
		case table.Encrypted:
			return &RefusedError{t.String(), "it is an encrypted table of Aria, which only its server can read: restore the whole backup, start a server on it, and dump the table there"}
		}
	}
	if indexes == 0 {
		return backupdir.Missing("the index file (.MAI) of table %v is missing", t)
	}
	return nil
}

func (d *Directory) ariaTable(name string) (_ aria.Table, err error) {
	f, _, err := d.open(name)
	if err != nil {
		return aria.Table{}, err
	}
	table, err := aria.ReadTable(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return table, fmt.Errorf("reading its header: %w", err)
	}
	return table, nil
}
