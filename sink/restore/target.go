package restore

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A Session is one connection to a server, which answers with an empty sql_mode. NULL is "".
type Session interface {
	Exec(ctx context.Context, statement string) error
	Rows(ctx context.Context, statement string) ([]map[string]string, error)
}

// A Connection is a Session that can be ended.
type Connection interface {
	Session
	Close() error
}

// A TargetServerError says why a server cannot take the tables, and what to do.
type TargetServerError struct{ What string }

func (e *TargetServerError) Error() string { return e.What }

func refuse(format string, args ...any) error {
	return &TargetServerError{fmt.Sprintf(format, args...)}
}

// target is the server that the tables are brought to.
type target struct {
	Server
	text     string // its version, as it states it
	datadir  string
	pageSize int  // bytes
	logs     bool // it writes a binary log
	lower    bool // names are in lower case (lower_case_table_names)
}

// learn asks a server what it is, and refuses those that would take the tables in a way that
// does them or the server no good.
func learn(ctx context.Context, s Session) (*target, error) {
	rows, err := s.Rows(ctx, "SELECT VERSION() AS version, @@datadir AS datadir, @@innodb_page_size AS size, @@read_only AS readonly, @@log_bin AS log, @@lower_case_table_names AS lower")
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, fmt.Errorf("the server does not say which version it is of")
	}
	t := &target{text: rows[0]["version"], datadir: rows[0]["datadir"], logs: rows[0]["log"] == "1", lower: rows[0]["lower"] == "1"}
	var major, minor, patch int
	if n, _ := fmt.Sscanf(t.text, "%d.%d.%d", &major, &minor, &patch); n != 3 || major > 99 || minor > 99 || patch > 99 {
		return nil, fmt.Errorf("the server's version %q is not of the form 1.2.3", t.text)
	}
	t.MariaDB, t.Version = strings.Contains(t.text, "MariaDB"), major*10000+minor*100+patch
	if t.RowFormat, err = defaultRowFormat(ctx, s); err != nil {
		return nil, err
	}
	if t.pageSize, err = strconv.Atoi(rows[0]["size"]); err != nil {
		return nil, fmt.Errorf("innodb_page_size of the server: %w", err)
	}
	if v := rows[0]["readonly"]; v != "0" && v != "OFF" {
		return nil, refuse("the server is read-only, perhaps a replica: import into the primary, or SET GLOBAL read_only=0 first")
	}
	return t, t.checkCluster(ctx, s)
}

// checkCluster refuses nodes of clusters, whose other nodes would not get the tables: a node on
// which tables differ leaves the cluster.
func (t *target) checkCluster(ctx context.Context, s Session) error {
	rows, err := s.Rows(ctx, "SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")
	if err != nil {
		return err
	}
	if len(rows) == 1 && rows[0]["Value"] == "ON" {
		return refuse("the server is a node of a Galera cluster, and the other nodes would not get the table: import it into a server of its own, and copy its rows with statements")
	}
	if t.MariaDB || t.Version < 50717 {
		return nil
	}
	rows, err = s.Rows(ctx, "SELECT COUNT(*) AS n FROM performance_schema.replication_group_members WHERE MEMBER_STATE<>'OFFLINE'")
	if err != nil {
		return err
	}
	if len(rows) == 1 && rows[0]["n"] != "0" {
		return refuse("the server is a member of a replication group, and the other members would not get the table: import it into a server of its own, and copy its rows with statements")
	}
	return nil
}

// keepOut makes sure that files do not wait in the server's data directory: MySQL 8.0 and later take
// every .ibd file there for one of their own when they start.
func (t *target) keepOut(dir string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(t.datadir, abs)
	if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return refuse("%s is in the server's data directory, where it would take the files for its own: choose another directory with -C", dir)
	}
	return nil
}

// named is what a table is to be called.
func (t *target) named(src Source) Name {
	if src.As != (Name{}) {
		return t.cased(src.As)
	}
	return t.cased(Name{src.Written.Table.Database, src.Written.Table.Name})
}

// cased is a name as the server has it.
func (t *target) cased(n Name) Name {
	if t.lower {
		return Name{strings.ToLower(n.Database), strings.ToLower(n.Table)}
	}
	return n
}

// checkNames makes sure that each table can have its name.
func (t *target) checkNames(ctx context.Context, s Session, sources []Source, replace bool) error {
	taken := map[Name]string{}
	for _, src := range sources {
		name, was := t.named(src), src.Written.Table.String()
		if other, twice := taken[name]; twice {
			return refuse("tables %s and %s would both be %s on the server, which has names in lower case: import one of them with --as", other, was, name)
		}
		taken[name] = was
		if _, err := checkFree(ctx, s, name, replace); err != nil {
			return err
		}
	}
	return nil
}

// optional are settings that some servers have, and some let nobody change: what they would
// otherwise make of a definition, compare notices.
var optional = []string{"explicit_defaults_for_timestamp=1", "character_set_collations=''"}

// prepare sets what the statements need of the connection.
func (t *target) prepare(ctx context.Context, s Session) error {
	for _, q := range t.settings() {
		if err := s.Exec(ctx, q); err != nil {
			return err
		}
	}
	for _, q := range optional {
		_ = s.Exec(ctx, "SET SESSION "+q) // see there
	}
	return nil
}

// accepts makes sure that the server imports tablespaces of another: one of the same family and
// series, or of a later one of MariaDB (TestInto, TestIntoLater). No test could show that of MySQL.
func (t *target) accepts(from Server, pageSize int) error {
	series := func(s Server) int { return s.Version / 100 }
	switch {
	case t.MariaDB != from.MariaDB, series(t.Server) < series(from):
	case series(t.Server) == series(from), from.MariaDB:
		if t.pageSize != pageSize {
			return refuse("the server has pages of %d bytes, and the tables of %d: it cannot import them", t.pageSize, pageSize)
		}
		return nil
	}
	return refuse("the backup is of %v, and the server is %s, which does not import its tables: restore the backup with its own release, and dump the tables there", from, t.text)
}

// String is family and version.
func (s Server) String() string {
	family := "MySQL"
	if s.MariaDB {
		family = "MariaDB"
	}
	return fmt.Sprintf("%s %d.%d.%d", family, s.Version/10000, s.Version/100%100, s.Version%100)
}

// values is the first column of an answer.
func values(ctx context.Context, s Session, column, statement string) (out []string, err error) {
	rows, err := s.Rows(ctx, statement)
	for _, r := range rows {
		out = append(out, r[column])
	}
	return out, err
}

// serverDatabases are the server's own.
var serverDatabases = []string{"mysql", "sys", "performance_schema", "information_schema"}

// children are the tables whose foreign keys refer to one, as far as the account sees them.
func children(ctx context.Context, s Session, name Name) ([]string, error) {
	return values(ctx, s, "x", "SELECT DISTINCT CONCAT(TABLE_SCHEMA,'.',TABLE_NAME) AS x FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_SCHEMA="+text(name.Database)+
		" AND REFERENCED_TABLE_NAME="+text(name.Table)+" AND NOT (TABLE_SCHEMA="+text(name.Database)+" AND TABLE_NAME="+text(name.Table)+")")
}

// checkFree makes sure that nothing has the name that a table is to get, or that what has it
// can be replaced.
func checkFree(ctx context.Context, s Session, name Name, replace bool) (exists bool, err error) {
	if slices.Contains(serverDatabases, strings.ToLower(name.Database)) {
		return false, refuse("hb imports no table into %s, which is the server's own: give --as", name.Database)
	}
	where := " WHERE TABLE_SCHEMA=" + text(name.Database) + " AND TABLE_NAME=" + text(name.Table)
	kinds, err := values(ctx, s, "kind", "SELECT TABLE_TYPE AS kind FROM information_schema.TABLES"+where)
	if err != nil || len(kinds) == 0 {
		return false, err
	}
	if !replace {
		return true, refuse("the server has a table %s already: give --replace to put the one of the backup in its place, or --as to import it under another name", name)
	}
	if kinds[0] != "BASE TABLE" && kinds[0] != "SYSTEM VERSIONED" {
		return true, refuse("%s is a %s on the server, which hb does not replace: rename it, or give --as", name, strings.ToLower(kinds[0]))
	}
	for _, rule := range []struct{ query, what string }{
		{"SELECT TRIGGER_NAME AS x FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA=" + text(name.Database) + " AND EVENT_OBJECT_TABLE=" + text(name.Table), "it has triggers (%s)"},
		{"SELECT CONCAT(TABLE_SCHEMA,'.',TABLE_NAME) AS x FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_SCHEMA=" + text(name.Database) +
			" AND REFERENCED_TABLE_NAME=" + text(name.Table) + " AND NOT (TABLE_SCHEMA=" + text(name.Database) + " AND TABLE_NAME=" + text(name.Table) + ")", "foreign keys of other tables refer to it (%s)"},
	} {
		found, err := values(ctx, s, "x", rule.query)
		if err != nil {
			return true, err
		}
		if len(found) > 0 {
			return true, refuse("hb does not replace table %s: "+rule.what+", which would go, or stay with the old one; give --as to import the table under another name, and exchange them yourself", name, strings.Join(found, ", "))
		}
	}
	return true, nil
}
