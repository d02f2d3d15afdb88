package definitions

import (
	"context"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"hb/source/datadir"
	"hb/xbstream/innodb/filename"
	"hb/xbstream/metadata"
)

// Foreign keys of MySQL 5 and MariaDB are in InnoDB's dictionary, and not in the table's file:
// if a table or a column that they refer to is renamed, SHOW CREATE TABLE answers otherwise,
// and the table's file is the same. (The table itself may be renamed and get its name back, so
// that the dictionary before and under the lock shows nothing.) But then the file of
// the table that they refer to is another one, or has been renamed: hb looks at that file before
// it asks, and under the lock.

// parent is a table that a foreign key refers to, with its file before hb asked.
type parent struct {
	key
	path    string
	file    datadir.File
	settled bool // a later change shows in file; false too if there is no such table
}

// reference is where SHOW CREATE TABLE names such a table: with the database, if that is another.
var reference = regexp.MustCompile("(?m)^  CONSTRAINT `.*` FOREIGN KEY \\(`.*`\\) REFERENCES ((?:`(?:[^`]|``)+`\\.)?`(?:[^`]|``)+`) \\(")

// foreignKey begins each foreign key; a part of a comment may look like one.
var foreignKey = regexp.MustCompile("(?m)^  CONSTRAINT `.* FOREIGN KEY \\(")

// quotedName is one name of them.
var quotedName = regexp.MustCompile("`((?:[^`]|``)+)`")

// parentsOf are those tables, in an answer; one without a name: hb does not know all.
func parentsOf(database, text string) (tables []key) {
	if !strings.Contains(text, " FOREIGN KEY ") {
		return nil
	}
	found := reference.FindAllStringSubmatch(text, -1)
	if len(found) != len(foreignKey.FindAllString(text, -1)) {
		return []key{{}}
	}
	for _, m := range found {
		names := []string{database}
		for _, n := range quotedName.FindAllStringSubmatch(m[1], -1) {
			names = append(names, strings.ReplaceAll(n[1], "``", "`"))
		}
		names = names[len(names)-2:]
		tables = append(tables, key{group: groupTable, database: names[0], name: names[1]})
	}
	slices.SortFunc(tables, key.compare)
	return slices.Compact(tables)
}

// withParents notes the files of the tables that a table's foreign keys refer to, and then asks
// again, so that the answer is from after that look.
func (r *Recorder) withParents(ctx context.Context, k key, u *unit, d *metadata.Definition) error {
	u.parents = nil
	tables := parentsOf(k.database, d.Create)
	if len(tables) == 0 {
		return nil
	}
	sure := time.Now().Add(-stampGrain).UnixNano()
	for _, t := range tables {
		path := filepath.Join(r.Layout.Datadir, filename.Encode(t.database), filename.Encode(t.name)+".frm")
		info, err := datadir.Stat(r.Disk, path, path)
		if datadir.IgnoreGone(err) != nil {
			return onDisk(err)
		}
		settled := err == nil && t.name != "" && info.Changed <= sure && info.Modified <= sure
		u.parents = append(u.parents, parent{t, path, info, settled})
	}
	again, err := r.table(ctx, k)
	if err != nil {
		return err
	}
	if again.Kind != metadata.DefinesTable || !slices.Equal(tables, parentsOf(k.database, again.Create)) {
		u.parents[0].settled = false // hb looked at other files
	}
	*d = again
	return nil
}

// stampGrain is more than the resolution of files' times: see package stage.
const stampGrain = 100 * time.Millisecond

// sameParents reports whether the tables that a table's foreign keys refer to are as they were
// before hb asked about it. Those that the backup does not have are not staged.
func (r *Recorder) sameParents(u *unit) (bool, error) {
	for _, p := range u.parents {
		if !p.settled {
			return false, nil
		}
		if staged, ok := r.locked[p.key]; ok {
			if !staged.file.SameContent(p.file) {
				return false, nil
			}
			continue
		}
		now, err := datadir.Stat(r.Disk, p.path, p.path)
		if datadir.IgnoreGone(err) != nil {
			return false, onDisk(err)
		}
		if err != nil || !now.SameContent(p.file) {
			return false, nil
		}
	}
	return true, nil
}
