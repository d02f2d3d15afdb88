package definitions

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"hb/source/datadir"
	"hb/source/mysqld"
	"hb/source/mysqld/locks"
	"hb/source/scope"
	"hb/xbstream/innodb/filename"
	"hb/xbstream/metadata"
)

// A group is what one stamp is of. Their order is that of the file.
type group uint8

const (
	groupDatabase group = iota
	groupTable          // or a view, or a sequence: a .frm file
	groupView           // of MySQL 8.0 and later
	groupRoutine
	groupTriggers // all of a table: a .TRG file
	groupTrigger  // one, of MySQL 8.0 and later
	groupEvent
)

// groupOf is that of objects that the server lists.
func groupOf(k metadata.DefinitionKind) group {
	switch k {
	case metadata.DefinesDatabase:
		return groupDatabase
	case metadata.DefinesView:
		return groupView
	case metadata.DefinesTrigger:
		return groupTrigger
	case metadata.DefinesEvent:
		return groupEvent
	}
	return groupRoutine
}

// A key is a unit. Names are as SQL has them.
type key struct {
	group    group
	database string
	name     string                  // of groupTriggers that of the table
	kind     metadata.DefinitionKind // unless the group says it
}

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k.database, other.database), cmp.Compare(k.group, other.group),
		cmp.Compare(k.name, other.name), cmp.Compare(k.kind, other.kind))
}

func (k key) String() string {
	if k.group == groupDatabase {
		return "database " + k.database
	}
	if k.group == groupTriggers {
		return "triggers of " + k.database + "." + k.name
	}
	return string(k.missing("").Kind) + " " + k.database + "." + k.name
}

// missing is what the file has in place of a definition.
func (k key) missing(why string) metadata.Definition {
	d := metadata.Definition{Kind: k.kind, Database: k.database, Name: k.name, Missing: why}
	switch k.group {
	case groupDatabase:
		d.Kind = metadata.DefinesDatabase
	case groupTable: // it may be a view or a sequence
		d.Kind = metadata.DefinesTable
	case groupTriggers:
		d.Kind, d.Name, d.Table = metadata.DefinesTrigger, metadata.AllTriggers, k.name
	}
	return d
}

// A state is that of a unit when hb looked.
type state struct {
	file    datadir.File      // that the stamp is of, of groups that are files
	row     [sha256.Size]byte // or a hash of what the server lists
	settled bool              // any later change shows in the stamp
	table   string            // of groupTrigger
	order   int
}

// same reports whether the stamps are the same.
func (s state) same(other state) bool {
	return s.row == other.row && s.file.Name == other.file.Name && s.file.SameContent(other.file)
}

func sorted(list map[key]state) []key {
	return slices.SortedFunc(maps.Keys(list), key.compare)
}

// serverOwn are databases of which nobody restores single objects.
func serverOwn(database string) bool {
	return slices.Contains(scope.Always, database) || database == "information_schema"
}

// inFile reports whether a file defines the unit.
func (k key) inFile() bool {
	return k.group == groupTable || k.group == groupTriggers || k.group == groupDatabase && k.kind == ""
}

// listFiles lists the units that the staged files define.
func (r *Recorder) listFiles() map[key]state {
	out := make(map[key]state, len(r.units)+len(r.units)/8) // it is made under the lock
	if r.inFiles() && r.has(mysqld.PrivSelect) {
		r.Stage.Each(func(info datadir.File, settled bool) {
			if k, ok := r.unitOf(info.Name); ok {
				out[k] = state{file: info, settled: settled}
			}
		})
	}
	return out
}

// filesNow lists the units that files define now, before they are staged.
func (r *Recorder) filesNow() (map[key]state, error) {
	out := make(map[key]state)
	if !r.inFiles() || !r.has(mysqld.PrivSelect) {
		return out, nil
	}
	sure := time.Now().Add(-stampGrain).UnixNano()
	list, err := r.Layout.List()
	if err != nil {
		return nil, onDisk(err)
	}
	for _, info := range list.Others {
		r.noteIndex(info)
		if k, ok := r.unitOf(info.Name); ok {
			out[k] = state{file: info, settled: info.Changed <= sure && info.Modified <= sure}
		}
	}
	return out, nil
}

// unitOf is the unit that a file defines. It remembers names, as it is asked under the lock.
func (r *Recorder) unitOf(file string) (key, bool) {
	k, known := r.byFile[file]
	if !known {
		var ok bool
		if k, ok = r.newUnit(file); ok {
			r.byFile[file] = k
		}
		return k, ok
	}
	return k, true
}

func (r *Recorder) newUnit(file string) (key, bool) {
	switch path.Ext(file) {
	case ".frm", ".TRG", ".opt":
	default:
		return key{}, false
	}
	dir, base := path.Split(file)
	dir = strings.TrimSuffix(dir, "/")
	if dir == "" || serverOwn(dir) {
		return key{}, false
	}
	ext := path.Ext(base)
	k := key{database: sqlName(dir), name: sqlName(strings.TrimSuffix(base, ext))}
	switch {
	case base == "db.opt":
		k.group, k.name = groupDatabase, ""
	case ext == ".frm":
		k.group = groupTable
	case ext == ".TRG" && r.has(mysqld.PrivTrigger):
		k.group = groupTriggers
	default:
		return key{}, false
	}
	return k, true
}

// sqlName is the name by which a server knows a file: names that no name in SQL has get
// a mark.
func sqlName(file string) string {
	if name, ok := filename.Decode(file); ok {
		return name
	}
	return "#mysql50#" + file
}

// A listing is how the server lists objects. Its columns d, n, k, t and o are the names of
// database and object, its kind, the trigger's table and its order. All columns are the
// stamp, except fresh, which is 1 if the object was changed just now. Columns h… are hashes;
// the server may have none.
type listing struct {
	needs    []mysqld.Privilege
	query    string
	counters []string // status variables that are in the stamp, too
}

const (
	users  = " NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')"
	recent = " > NOW() - INTERVAL 2 SECOND AS fresh"
)

// tableListings are those of MySQL 5 and MariaDB.
var tableListings = []listing{
	{[]mysqld.Privilege{mysqld.PrivSelect}, "SELECT LOWER(type) AS k, db AS d, name AS n, MD5(COALESCE(param_list, '')) AS h1, MD5(COALESCE(returns, '')) AS h2, MD5(COALESCE(body, '')) AS h3, MD5(COALESCE(comment, '')) AS h4," +
		" definer, language, sql_data_access, is_deterministic, security_type, sql_mode, character_set_client, collation_connection, db_collation, created, modified, modified" + recent +
		" FROM mysql.proc WHERE db" + users, nil},
	{[]mysqld.Privilege{mysqld.PrivSelect, mysqld.PrivEvent}, "SELECT 'event' AS k, db AS d, name AS n, MD5(COALESCE(body, '')) AS h1, MD5(COALESCE(comment, '')) AS h2," +
		" definer, execute_at, interval_value, interval_field, starts, ends, status, on_completion, originator, time_zone, sql_mode, character_set_client, collation_connection, db_collation, created, modified, modified" + recent +
		" FROM mysql.event WHERE db" + users, nil},
}

// dictionaryListings are those of MySQL 8.0 and later.
var dictionaryListings = []listing{
	{[]mysqld.Privilege{mysqld.PrivSelect}, "SELECT 'database' AS k, SCHEMA_NAME AS d, '' AS n, s.*, 0 AS fresh FROM information_schema.SCHEMATA s WHERE SCHEMA_NAME" + users,
		[]string{"Com_create_db", "Com_alter_db", "Com_drop_db"}},
	{[]mysqld.Privilege{mysqld.PrivSelect, mysqld.PrivShowView}, "SELECT 'view' AS k, v.TABLE_SCHEMA AS d, v.TABLE_NAME AS n, SHA2(NULLIF(v.VIEW_DEFINITION, ''), 256) AS h1, v.CHECK_OPTION, v.DEFINER, v.SECURITY_TYPE," +
		" v.CHARACTER_SET_CLIENT, v.COLLATION_CONNECTION, t.CREATE_TIME, t.CREATE_TIME" + recent +
		" FROM information_schema.VIEWS v JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = v.TABLE_SCHEMA AND t.TABLE_NAME = v.TABLE_NAME WHERE v.TABLE_SCHEMA" + users,
		[]string{"Com_create_view", "Com_drop_view", "Com_rename_table", "Com_create_db", "Com_drop_db"}},
	{[]mysqld.Privilege{mysqld.PrivSelect}, "SELECT LOWER(ROUTINE_TYPE) AS k, ROUTINE_SCHEMA AS d, ROUTINE_NAME AS n, SHA2(COALESCE(ROUTINE_DEFINITION, ''), 256) AS h1, SHA2(COALESCE(ROUTINE_COMMENT, ''), 256) AS h2, DTD_IDENTIFIER, EXTERNAL_LANGUAGE," +
		" DEFINER, SECURITY_TYPE, SQL_DATA_ACCESS, IS_DETERMINISTIC, SQL_MODE, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION, CREATED, LAST_ALTERED, LAST_ALTERED" + recent +
		" FROM information_schema.ROUTINES WHERE ROUTINE_TYPE IN ('PROCEDURE', 'FUNCTION') AND ROUTINE_SCHEMA" + users,
		[]string{"Com_create_procedure", "Com_create_function", "Com_alter_procedure", "Com_alter_function", "Com_drop_procedure", "Com_drop_function", "Com_create_db", "Com_drop_db"}},
	{[]mysqld.Privilege{mysqld.PrivTrigger}, "SELECT 'trigger' AS k, TRIGGER_SCHEMA AS d, TRIGGER_NAME AS n, EVENT_OBJECT_TABLE AS t, ACTION_ORDER AS o, SHA2(COALESCE(ACTION_STATEMENT, ''), 256) AS h1, ACTION_TIMING, EVENT_MANIPULATION," +
		" DEFINER, SQL_MODE, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION, CREATED, CREATED" + recent +
		" FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA" + users, nil},
	{[]mysqld.Privilege{mysqld.PrivEvent}, "SELECT 'event' AS k, EVENT_SCHEMA AS d, EVENT_NAME AS n, SHA2(COALESCE(EVENT_DEFINITION, ''), 256) AS h1, SHA2(COALESCE(EVENT_COMMENT, ''), 256) AS h2," +
		" DEFINER, TIME_ZONE, EVENT_TYPE, EXECUTE_AT, INTERVAL_VALUE, INTERVAL_FIELD, SQL_MODE, STARTS, ENDS, STATUS, ON_COMPLETION, ORIGINATOR, CHARACTER_SET_CLIENT, COLLATION_CONNECTION, DATABASE_COLLATION, CREATED, LAST_ALTERED, LAST_ALTERED" + recent +
		" FROM information_schema.EVENTS WHERE EVENT_SCHEMA" + users, nil},
}

func (r *Recorder) has(p mysqld.Privilege) bool { return !slices.Contains(r.lacking, p) }

// mayList are the listings for which the account has the privileges.
func (r *Recorder) mayList() []listing {
	list := dictionaryListings
	if r.inFiles() {
		list = tableListings
	}
	return slices.DeleteFunc(slices.Clone(list), func(l listing) bool {
		return slices.ContainsFunc(l.needs, func(p mysqld.Privilege) bool { return !r.has(p) })
	})
}

// listFirst is listAnswers for the first time. A list that the server refuses, such as of a
// damaged table of its own, is not asked for again.
func (r *Recorder) listFirst(ctx context.Context, out map[key]state) error {
	counters, err := r.counters(ctx)
	if err != nil {
		return err
	}
	var good []listing
	for _, l := range r.listings {
		err := r.listOne(ctx, l, counters, out)
		switch {
		case err == nil:
			good = append(good, l)
		case isBlocked(err) || refusal(err) != "":
			r.lose(err)
		default:
			return err
		}
	}
	r.listings = good
	return nil
}

// listAnswers adds what the server lists.
func (r *Recorder) listAnswers(ctx context.Context, out map[key]state) error {
	counters, err := r.counters(ctx)
	if err != nil {
		return err
	}
	for _, l := range r.listings {
		if err := r.listOne(ctx, l, counters, out); err != nil {
			return err
		}
	}
	return nil
}

func (r *Recorder) listOne(ctx context.Context, l listing, c counters, out map[key]state) error {
	common, calm := "", "0"
	for _, name := range l.counters {
		common += c.values[name] + " "
		if c.changing {
			calm = "" // nothing is settled
		}
	}
	return r.conn.Each(ctx, l.query, func(row map[string]string) error {
		kind := metadata.DefinitionKind(row["k"])
		k := key{group: groupOf(kind), database: row["d"], name: row["n"], kind: kind}
		if !r.inScope(k, row["t"]) {
			return nil
		}
		s := state{settled: row["fresh"] == calm, table: row["t"]}
		s.order, _ = strconv.Atoi(row["o"]) // 0 if it is not known
		s.row, s.settled = stampOf(row, common, s.settled)
		out[k] = s
		return nil
	})
}

// stampOf is over all columns of a row.
func stampOf(row map[string]string, common string, settled bool) ([sha256.Size]byte, bool) {
	text := []byte(common)
	for _, name := range slices.Sorted(maps.Keys(row)) {
		if name == "fresh" {
			continue
		}
		text = fmt.Appendf(text, "%s=%q\n", name, row[name])
		if len(name) == 2 && name[0] == 'h' && row[name] == "" { // the server made no hash
			settled = false
		}
	}
	return sha256.Sum256(text), settled
}

// counters are the server's counts of statements that change objects: it counts a statement as
// it begins to execute it. changing: a statement runs, or waits, that may change an object
// and is counted already, so that the counts do not show when it ends. (The counts are older: a
// statement that begins later counts later.)
type counters struct {
	values   map[string]string
	changing bool
}

func (r *Recorder) counters(ctx context.Context) (c counters, err error) {
	if r.inFiles() {
		return c, nil
	}
	if c.values, err = r.conn.Status(ctx, `Com\_%`); err != nil {
		return c, err
	}
	err = r.conn.Statements(ctx, func(s *mysqld.Statement) error {
		switch locks.FirstWord(s.Text) {
		case "CREATE", "ALTER", "DROP", "RENAME", "EXECUTE", "CALL":
			c.changing = true
		}
		return nil
	})
	return c, err
}

// inScope reports whether the backup has an object that no file of its own defines: of
// some tables of a database it has the triggers and views, and nothing else.
func (r *Recorder) inScope(k key, table string) bool {
	db := filename.Encode(k.database)
	switch k.group {
	case groupDatabase:
		return r.Layout.Scope.HasDatabase(db)
	case groupView:
		return r.Layout.Scope.Has(db + "/" + filename.Encode(k.name) + ".frm")
	case groupTrigger:
		return r.Layout.Scope.Has(db + "/" + filename.Encode(table) + ".frm")
	}
	return r.Layout.Scope.HasAll(db)
}
