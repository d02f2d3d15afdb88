package export

import (
	"context"

	"hb/sink/backupdir"
	"hb/stream/progress"
	"hb/xbstream/innodb"
)

// Verify reads all pages of a table of InnoDB, and returns a *backupdir.DamageError of the first
// one that is damaged: a server would come upon it when it imports the table, or later.
func (d *Directory) Verify(ctx context.Context, t *Table, m *progress.Tracker) error {
	var files []*backupdir.File
	var sum backupdir.PageSum
	for _, part := range t.Parts {
		st, err := d.root.Stat(part.Path)
		if err != nil {
			return err
		}
		f := &backupdir.File{Path: part.Path, Size: st.Size()}
		if err := d.with(part.Path, func(p *Pages) error {
			f.Pages = &backupdir.CheckedFile{File: innodb.File{Space: *p.Space()}, Name: part.Path, Sum: &sum}
			return nil
		}); err != nil {
			return err
		}
		files = append(files, f)
	}
	return backupdir.ReadFiles(ctx, d.root, files, 1, m)
}
