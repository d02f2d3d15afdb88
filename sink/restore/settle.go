package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// removePassing removes the files that the server needed only while it imported.
func (i *importing) removePassing() error {
	for _, s := range i.plan.Steps {
		for _, c := range s.Copies {
			if !c.Passing() {
				continue
			}
			if err := i.datadir.Remove(c.To); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// check has the server check the table, and counts its rows.
func (i *importing) check(ctx context.Context) (rows int64, err error) {
	name := i.plan.Name.SQL()
	if err := i.Exec(ctx, "ANALYZE TABLE "+name); err != nil {
		return 0, err
	}
	found, err := i.Rows(ctx, "CHECK TABLE "+name+" EXTENDED")
	if err != nil {
		return 0, err
	}
	ok := false
	for _, r := range found {
		switch {
		case r["Msg_type"] == "status" && r["Msg_text"] == "OK":
			ok = true
		case r["Msg_type"] != "note" && r["Msg_type"] != "status":
			return 0, fmt.Errorf("CHECK TABLE says: %s: %s", r["Msg_type"], r["Msg_text"])
		}
	}
	if !ok {
		return 0, fmt.Errorf("CHECK TABLE does not say OK: %v", found)
	}
	counted, err := values(ctx, i, "n", "SELECT COUNT(*) AS n FROM "+name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(counted[0], 10, 64)
}

// exchange puts the new table in the place of the old one, and drops that.
func (i *importing) exchange(ctx context.Context, at Name) error {
	database, err := i.ownName(ctx, replaced)
	if err != nil {
		return err
	}
	old := Name{database, i.name.Table}
	if err := i.haveDatabase(ctx, old.Database); err != nil {
		return err
	}
	if err := i.Exec(ctx, fmt.Sprintf("RENAME TABLE %s TO %s, %s TO %s", i.name.SQL(), old.SQL(), at.SQL(), i.name.SQL())); err != nil {
		return err
	}
	made := i.databases
	i.tables, i.databases = nil, nil // what was made is in its place, and the old table is not to be lost
	if err := i.Exec(ctx, "DROP TABLE "+old.SQL()); err != nil {
		return fmt.Errorf("the table of the backup is in its place, and the old one is %s, which could not be dropped: %w", old, err)
	}
	i.databases = made
	return nil
}

// addForeign adds the foreign keys of a table that is called as it was. The server checks the
// rows: a key that they do not satisfy is missing, and the table stays.
func (i *importing) addForeign(ctx context.Context) {
	was := i.plan.Was
	if len(i.plan.Foreign) == 0 {
		return
	}
	if i.name != was {
		i.warn("table %s does not get the foreign keys of %s: %s", i.name, was, strings.Join(i.plan.Foreign, ", "))
		return
	}
	statements := []string{"USE " + quote(i.name.Database), "SET SESSION foreign_key_checks=1"}
	for _, key := range i.plan.Foreign {
		statements = append(statements, "ALTER TABLE "+i.name.SQL()+" "+key)
	}
	for n, q := range append(statements, "SET SESSION foreign_key_checks=0") {
		if err := i.Exec(ctx, q); err != nil {
			i.warn("table %s is without a foreign key, %s: %v", i.name, i.plan.Foreign[max(0, min(n-2, len(i.plan.Foreign)-1))], err)
		}
	}
}

// warnings tells what the server said of the import.
func (i *importing) warnings(ctx context.Context) error {
	rows, err := i.Rows(ctx, "SHOW WARNINGS")
	for _, r := range rows {
		if r["Level"] != "Note" {
			i.warn("table %s: the server says: %s", i.name, r["Message"])
		}
	}
	return err
}

func (i *importing) warn(format string, args ...any) {
	i.result.Warnings = append(i.result.Warnings, fmt.Sprintf(format, args...))
}

// undoTime bounds what is done to remove a table after its import failed, if the reason is that
// the context ended.
const undoTime = time.Minute

// undo removes what was made.
func (i *importing) undo() error {
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	var all []error
	for _, name := range slices.Backward(i.tables) {
		all = append(all, i.Exec(ctx, "DROP TABLE IF EXISTS "+name.SQL()))
	}
	for _, name := range i.files {
		if err := i.datadir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = append(all, err)
		}
	}
	for _, name := range i.databases {
		all = append(all, i.Exec(ctx, "DROP DATABASE IF EXISTS "+quote(name)))
	}
	if err := errors.Join(all...); err != nil {
		return fmt.Errorf("removing what was made of the table: %w", err)
	}
	return nil
}

// dropDatabases drops the databases that were made only for the way.
func (i *importing) dropDatabases(ctx context.Context) error {
	var all []error
	for _, name := range i.databases {
		if strings.HasPrefix(name, work) || strings.HasPrefix(name, replaced) {
			all = append(all, i.Exec(ctx, "DROP DATABASE "+quote(name)))
		}
	}
	return errors.Join(all...)
}

// checkName is a CHECK constraint's name. SHOW CREATE TABLE has no line breaks in texts.
var checkName = regexp.MustCompile("\n  CONSTRAINT `(?:[^`]|``)*` CHECK ")

// withoutCheckNames leaves the names of CHECK constraints to the server: they are unique in a
// database of MySQL.
func withoutCheckNames(create string) string {
	return checkName.ReplaceAllString(create, "\n  CHECK ")
}
