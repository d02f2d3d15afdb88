package export

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"hb/sink/backupdir"
	"hb/sink/export/committed"
)

// Described is what DescribeAll did.
type Described struct {
	Tables  int     // that have the files
	Files   int     // .cfg and .cfp files
	Refused []error // of tables that servers do not import
	// Lacking is of those among them that have tablespaces of their own, which could be taken for
	// exported; nil: without any.
	Lacking *LackingError
	// Pending is of tables that have no files because something is pending for them; nil: of
	// none.
	Pending *committed.PendingError
}

// LackingError says that tablespaces are without the files with which servers import them.
type LackingError struct{ Tables []string }

func (e *LackingError) Error() string {
	return fmt.Sprintf("%d tables have tablespaces that servers do not import, and no .cfg files: %s; a server can start on the directory, and has them", len(e.Tables), strings.Join(e.Tables[:min(len(e.Tables), shownTables)], ", "))
}

// shownTables is how many tables an error names.
const shownTables = 10

// DescribeAll writes beside each tablespace of a table in the directory what a server needs to
// import it: a .cfg file and, if it is encrypted by MySQL, a .cfp file, with the owner of the
// tablespace. All are on disk when it returns. A server that starts on the directory passes over
// them.
func (d *Directory) DescribeAll(ctx context.Context) (*Described, error) {
	result := &Described{}
	tables, err := d.importable(result)
	if err != nil {
		return nil, err
	}
	waits := map[string]bool{}
	if err := d.Check(tables...); err != nil {
		var is bool
		if result.Pending, is = errors.AsType[*committed.PendingError](err); !is {
			return nil, err
		}
		for _, p := range result.Pending.Tables {
			waits[p.Table] = true
		}
	}
	for _, t := range tables {
		if waits[t.String()] {
			continue
		}
		n, err := d.describeBeside(ctx, t)
		if result.refuses(t, err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("describing table %s: %w", t, err)
		}
		result.Tables, result.Files = result.Tables+1, result.Files+n
	}
	return result, backupdir.SyncTree(d.root)
}

// Importable returns the tables of InnoDB that are described, and that servers can import as far
// as that shows.
func (d *Directory) Importable() ([]*Table, error) { return d.importable(&Described{}) }

func (d *Directory) importable(result *Described) (tables []*Table, err error) {
	all, err := d.Tables()
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if t.Engine != InnoDB {
			continue
		}
		err := d.Describe(t)
		if result.refuses(t, err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// refuses notes that a table cannot be imported.
func (r *Described) refuses(t *Table, err error) bool {
	_, is := errors.AsType[*RefusedError](err)
	if is {
		r.Refused = append(r.Refused, err)
	}
	if is && len(t.Parts) > 0 {
		if r.Lacking == nil {
			r.Lacking = &LackingError{}
		}
		r.Lacking.Tables = append(r.Lacking.Tables, t.String())
	}
	return is
}

// describeBeside writes the files of a table, and returns how many there are.
func (d *Directory) describeBeside(ctx context.Context, t *Table) (n int, err error) {
	for i := range t.Parts {
		if err := context.Cause(ctx); err != nil {
			return n, err
		}
		files, err := d.descriptions(t, i, beside)
		if err != nil {
			return n, err
		}
		like, err := d.root.Lstat(t.Parts[i].Path)
		if err != nil {
			return n, err
		}
		for _, f := range files {
			if err := f.write(d.root, like); err != nil {
				return n, err
			}
			n++
		}
	}
	return n, nil
}
