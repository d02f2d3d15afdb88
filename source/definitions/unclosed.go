package definitions

import (
	"context"
	"path"
	"strings"

	"hb/source/datadir"
	"hb/source/mysqld"
)

// A MyISAM or Aria table that a crash left open is repaired by a server with
// myisam_recover_options or aria_recover_options (MariaDB's default) when anybody opens it, and
// SHOW CREATE does: locked exclusively, for as long as it takes. hb does not ask about such
// tables.

// unclosedText is why.
const unclosedText = "it was not closed properly, and the server may repair it when hb asks: use it once, or CHECK TABLE"

// noteIndex remembers the index files of a table, partitions and all.
func (r *Recorder) noteIndex(info datadir.File) {
	ext := path.Ext(info.Name)
	if ext != ".MYI" && ext != ".MAI" {
		return
	}
	table, _, _ := strings.Cut(strings.TrimSuffix(info.Name, ext), "#P#")
	if k, ok := r.unitOf(table + ".frm"); ok {
		r.indexes[k] = append(r.indexes[k], info.Path)
	}
}

// unclosed reports whether a table is marked as open in its index file, or as damaged, and the
// server does not have it open: one that it has open is marked, too.
func (r *Recorder) unclosed(ctx context.Context, k key) (bool, error) {
	table := key{group: groupTable, database: k.database, name: k.name}
	for _, name := range r.indexes[table] {
		marked, err := markedOpen(r, name)
		if err != nil {
			return false, err
		}
		if !marked {
			continue
		}
		rows, err := r.conn.Rows(ctx, "SHOW OPEN TABLES FROM "+mysqld.QuoteName(k.database)+" WHERE `Table` = "+mysqld.QuoteString(k.name))
		return err == nil && len(rows) == 0, err
	}
	return false, nil
}

// markedOpen reads the head of an index file: after 24 bytes the number of those who have the
// table open for writing (2 bytes, big-endian), and flags, of which 2 and 4 mean that it is
// damaged: 1 byte of MyISAM, 2 of Aria. (Run on MySQL 5.7.29, MariaDB 10.5.23 and 10.11.18.)
func markedOpen(r *Recorder, name string) (bool, error) {
	const opened, damaged = 24, 2 | 4
	head, err := datadir.ReadAll(r.Disk, name, opened+4)
	if err != nil || len(head) < opened+4 {
		return false, onDisk(datadir.IgnoreGone(err))
	}
	flags := head[opened+2]
	if path.Ext(name) == ".MAI" {
		flags = head[opened+3]
	}
	return head[opened] != 0 || head[opened+1] != 0 || flags&damaged != 0, nil
}
