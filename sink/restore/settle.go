package restore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"hb/sink/export"
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

// exchange puts the new table in the place of the old one, and drops that. If it is not certain
// what became of the two, nothing is dropped any more.
func (i *importing) exchange(ctx context.Context, at Name) error {
	database, err := i.makeOwn(ctx, replaced)
	if err != nil {
		return err
	}
	old := Name{database, i.name.Table}
	if err := i.Exec(ctx, fmt.Sprintf("RENAME TABLE %s TO %s, %s TO %s", i.name.SQL(), old.SQL(), at.SQL(), i.name.SQL())); err != nil {
		return errors.Join(err, i.whereIs(old, at))
	}
	own := i.own
	i.tables, i.files, i.own = nil, nil, nil // what was made is in its place, and the old table is not to be lost
	// With the check, so that the server refuses if a key refers to it that the account cannot see.
	err = i.Exec(ctx, "SET SESSION foreign_key_checks=1")
	if err == nil {
		err = i.Exec(ctx, "DROP TABLE "+old.SQL())
	}
	if err == nil {
		err = i.Exec(ctx, "SET SESSION foreign_key_checks=0")
	}
	if err != nil {
		return fmt.Errorf("the table of the backup is in its place, and the old one is %s, which could not be dropped: %w", old, err)
	}
	i.own = own
	return nil
}

// whereIs finds out what a RENAME TABLE has done that failed. If the old table is not certainly
// where it was, undo is to leave all tables as they are, and the error says what to look at.
func (i *importing) whereIs(old, at Name) (err error) {
	leave := func() error {
		i.tables, i.files, i.own = nil, nil, nil
		return fmt.Errorf("hb leaves the tables as they are: look for the old one as %s or %s, and for that of the backup as %s or %s", i.name, old, i.name, at)
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	s, err := i.Open(ctx)
	if err != nil {
		return leave()
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := i.end(ctx, s); err != nil {
		return leave()
	}
	var there [3]bool
	for n, name := range []Name{i.name, old, at} {
		found, err := values(ctx, s, "x", "SELECT TABLE_NAME AS x FROM information_schema.TABLES WHERE TABLE_SCHEMA="+text(name.Database)+" AND TABLE_NAME="+text(name.Table))
		if err != nil {
			return leave()
		}
		there[n] = len(found) > 0
	}
	if there != [3]bool{true, false, true} { // nothing was renamed
		return leave()
	}
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

// warnChildren warns of tables that refer to one that comes back: the server does not check their
// rows.
func (i *importing) warnChildren(ctx context.Context) error {
	found, err := children(ctx, i, i.name)
	if len(found) > 0 {
		i.warn("foreign keys of %s refer to table %s, and the server does not check whether their rows have what they refer to", strings.Join(found, ", "), i.name)
	}
	return err
}

// badIndex is the number of the server's warning that an index has not as many entries as there
// are rows, or that changes of it are lost (ER_INNODB_INDEX_CORRUPT).
const badIndex = "1817"

// warnings tells what the server said of the import. What it says of indexes that it builds again
// is no news.
func (i *importing) warnings(ctx context.Context) error {
	rows, err := i.Rows(ctx, "SHOW WARNINGS")
	for _, r := range rows {
		if r["Level"] != "Note" && !(i.plan.Rebuild && r["Code"] == badIndex) {
			i.warn("table %s: the server says: %s", i.name, r["Message"])
		}
	}
	return err
}

func (i *importing) warn(format string, args ...any) {
	i.result.Warnings = append(i.result.Warnings, fmt.Sprintf(format, args...))
}

// undoTime bounds what is done to remove a table after its import failed.
const undoTime = 5 * time.Minute

// undo removes what was made, over a connection of its own: the other one may be lost, and its
// statement may go on at the server. A table's files are removed only once the server has dropped
// it, and only those that hb made. What is left is in the error.
func (i *importing) undo() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), undoTime)
	defer cancel()
	left := func(err error) error {
		what := append([]string{}, i.own...)
		for _, t := range i.tables {
			what = append(what, t.String())
		}
		return fmt.Errorf("hb could not remove what it had made; left on the server are %q: %w", what, err)
	}
	if len(i.tables)+len(i.own) == 0 && i.perhaps == (Name{}) {
		return nil
	}
	s, err := i.Open(ctx)
	if err != nil {
		return left(err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := errors.Join(i.end(ctx, s), i.target.prepare(ctx, s)); err != nil {
		return left(err)
	}
	if i.perhaps != (Name{}) {
		if err := i.lookFor(ctx, s); err != nil {
			return err
		}
	}
	for len(i.tables) > 0 {
		name := i.tables[len(i.tables)-1]
		if err := s.Exec(ctx, "DROP TABLE IF EXISTS "+name.SQL()); err != nil {
			return left(err)
		}
		if err := i.removeFiles(name); err != nil {
			return left(err)
		}
		i.tables = i.tables[:len(i.tables)-1]
	}
	if err := i.dropOwn(ctx, s); err != nil {
		return left(err)
	}
	return nil
}

// lookFor looks whether a table was made by a statement whose end hb did not see. Only in a
// database of hb's own it is certainly hb's.
func (i *importing) lookFor(ctx context.Context, s Session) error {
	_, err := checkFree(ctx, s, i.perhaps, false)
	if _, there := errors.AsType[*TargetServerError](err); !there {
		return err
	}
	if slices.Contains(i.own, i.perhaps.Database) {
		i.tables = append(i.tables, i.perhaps)
		return nil
	}
	return fmt.Errorf("left on the server is table %s, which is empty: hb does not drop it, because it did not see the server make it", i.perhaps)
}

// end ends the first connection at the server, with its statement, and waits until that is so.
func (i *importing) end(ctx context.Context, s Session) error {
	_ = s.Exec(ctx, "KILL "+i.id) // an error says that it is not there any more
	for {
		found, err := values(ctx, s, "x", "SELECT ID AS x FROM information_schema.PROCESSLIST WHERE ID="+i.id)
		if err != nil || len(found) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("connection %s of hb has not ended: %w", i.id, ctx.Err())
		case <-time.After(endPause):
		}
	}
}

const endPause = 200 * time.Millisecond

// removeFiles removes the files that hb put beside those of a table that was dropped.
func (i *importing) removeFiles(of Name) error {
	for _, f := range i.files {
		if f.of != of {
			continue
		}
		st, err := i.datadir.Lstat(f.path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(st, f.made) {
			continue
		}
		if err == nil {
			err = i.datadir.Remove(f.path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropOwn drops the databases that hb made for the way, which are empty by then.
func (i *importing) dropOwn(ctx context.Context, s Session) error {
	for _, name := range i.own {
		in := " WHERE " + "%s_SCHEMA=" + text(name)
		n, err := values(ctx, s, "n", "SELECT (SELECT COUNT(*) FROM information_schema.TABLES"+fmt.Sprintf(in, "TABLE")+") + (SELECT COUNT(*) FROM information_schema.ROUTINES"+
			fmt.Sprintf(in, "ROUTINE")+") + (SELECT COUNT(*) FROM information_schema.EVENTS"+fmt.Sprintf(in, "EVENT")+") AS n")
		if err != nil {
			return err
		}
		if n[0] != "0" {
			i.warn("database %s, which hb made, is not empty, and stays", name)
			continue
		}
		if err := s.Exec(ctx, "DROP DATABASE "+quote(name)); err != nil {
			return err
		}
	}
	i.own = nil
	return nil
}

// compare makes sure that the server made the table of the definition, whatever its settings
// are. It compares where both are texts of the same series.
func (i *importing) compare(ctx context.Context, create string, name Name) error {
	to, from := i.target.Server, i.From
	if to.Version/100 != from.Version/100 || !to.MariaDB && 80000 <= to.Version && to.Version < ownTexts || i.plan.Engine == export.Merge || name.Table == partitionTable {
		return nil
	}
	shown, err := values(ctx, i, "Create Table", "SHOW CREATE TABLE "+name.SQL())
	if err != nil {
		return err
	}
	split, err := parse(shown[0], i.plan.Engine)
	if err != nil {
		return err
	}
	got, want := comparable(split.As(name.Database, name.Table)), comparable(create)
	if got == want {
		return nil
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for n := range min(len(g), len(w)) {
		if g[n] != w[n] {
			return refuse("the server makes another table of the definition, with the line %q where the backup has %q: look for settings that differ between the servers", g[n], w[n])
		}
	}
	return refuse("the server makes another table of the definition, with %d lines, not %d", len(g), len(w))
}

// ownTexts is the version of MySQL from which on SHOW CREATE TABLE shows what package createtable
// makes.
const ownTexts = 90700

var autoIncrement = regexp.MustCompile(` AUTO_INCREMENT=[0-9]+`)

// comparable is a definition without what may differ.
func comparable(create string) string {
	create = collation.ReplaceAllString(withoutCheckNames(create), "$1")
	if at := strings.LastIndex(create, "\n) ENGINE="); at >= 0 {
		create = create[:at] + autoIncrement.ReplaceAllString(create[at:], "")
	}
	return create
}

// collation is a column's character set and collation. MySQL 8.0 and later show the first only
// if a collation was given for the column itself, as it is by the definition of a column that
// had it from the table. The name of the collation begins with that of the character set.
var collation = regexp.MustCompile(` CHARACTER SET [0-9a-z_]+( COLLATE )`)

// checkName is a CHECK constraint's name. SHOW CREATE TABLE has no line breaks in texts.
var checkName = regexp.MustCompile("\n  CONSTRAINT `(?:[^`]|``)*` CHECK ")

// withoutCheckNames leaves the names of CHECK constraints to the server: they are unique in a
// database of MySQL.
func withoutCheckNames(create string) string {
	return checkName.ReplaceAllString(create, "\n  CHECK ")
}
