package workload

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// maxFaults is how many faults one check reports before it stops.
const maxFaults = 20

// querier is a pool or one connection.
type querier interface {
	ExecContext(ctx context.Context, q string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, q string, args ...any) (*sql.Rows, error)
}

// checker collects faults.
type checker struct {
	ctx    context.Context
	db     querier
	d      *dialect
	faults []error
}

// Check verifies a server that carries the load's databases and on which nothing
// runs: [CheckTables] and [CheckRules]. The error joins what was found, up to
// twenty faults.
func Check(ctx context.Context, db *sql.DB) error {
	return check(ctx, db, append([]func(*checker) error{(*checker).objects}, slices.Concat(tableChecks, ruleChecks)...))
}

// CheckTables verifies the tables of a server on which nothing runs, whatever
// they are: CHECK TABLE EXTENDED on every one of every database, and in the
// databases whose names begin with "hb", each index against its table and each
// AUTO_INCREMENT counter against its column. Indexed columns there must not be
// NULL.
func CheckTables(ctx context.Context, db *sql.DB) error { return check(ctx, db, tableChecks) }

// CheckRules verifies the rules of the package comment on a server that carries
// the load's databases and on which nothing runs.
func CheckRules(ctx context.Context, db *sql.DB) error {
	return check(ctx, db, append([]func(*checker) error{(*checker).objects}, ruleChecks...))
}

var (
	tableChecks = []func(*checker) error{(*checker).checkTables, (*checker).indexes, (*checker).autoIncrements}
	ruleChecks  = []func(*checker) error{
		(*checker).counters, (*checker).xaTransactions, (*checker).bank, (*checker).documents, (*checker).parts, (*checker).logs,
		(*checker).misc, (*checker).points, (*checker).ddl,
	}
)

func check(ctx context.Context, db *sql.DB, checks []func(*checker) error) error {
	d, err := readDialect(ctx, db)
	if err != nil {
		return err
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if !d.mariadb && d.atLeast(8, 0) { // else AUTO_INCREMENT is as of a day ago
		if _, err := conn.ExecContext(ctx, "SET SESSION information_schema_stats_expiry = 0"); err != nil {
			return err
		}
	}
	c := &checker{ctx: ctx, db: conn, d: d}
	for _, f := range checks {
		if err := f(c); err != nil {
			c.faults = append(c.faults, err)
		}
		if len(c.faults) >= maxFaults {
			break
		}
	}
	return errors.Join(c.faults...)
}

func (c *checker) fault(format string, args ...any) {
	if len(c.faults) < maxFaults {
		c.faults = append(c.faults, fmt.Errorf(format, args...))
	}
}

// rows calls f for each row of a query; NULL is "".
func (c *checker) rows(f func(v []string), q string, args ...any) error {
	rows, err := c.db.QueryContext(c.ctx, q, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", q, err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		return err
	}
	vals := make([]sql.NullString, len(cols))
	ptrs := make([]any, len(cols))
	for i := range vals {
		ptrs[i] = &vals[i]
	}
	for rows.Next() {
		if err := rows.Scan(ptrs...); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
		v := make([]string, len(vals))
		for i := range vals {
			v[i] = vals[i].String
		}
		f(v)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%s: %w", q, err)
	}
	return nil
}

// none demands that a query has no rows.
func (c *checker) none(what, q string, args ...any) error {
	return c.rows(func(v []string) { c.fault("%s: %s", what, strings.Join(v, ", ")) }, q, args...)
}

// same demands that the first column of the first row is want.
func (c *checker) same(what, want, q string, args ...any) error {
	var got string
	if err := c.rows(func(v []string) { got = v[0] }, q, args...); err != nil {
		return err
	}
	if got != want {
		c.fault("%s: %s, want %s", what, got, want)
	}
	return nil
}

// objects demands that every database, trigger, view and procedure is there.
func (c *checker) objects() error {
	for _, n := range databases() {
		if err := c.same("database "+n, "1", "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = ?", n); err != nil {
			return err
		}
	}
	return errors.Join(
		c.same("tables in "+emptyDB, "0", "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = ?", emptyDB),
		c.same("triggers", fmt.Sprint(3*len(c.d.docTables())), "SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = ?", docsDB),
		c.same("procedures", "1", "SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema = ?", bankDB),
		c.same("view", "VIEW", "SELECT table_type FROM information_schema.tables WHERE table_schema = ? AND table_name = 'totals'", bankDB),
	)
}

// name is a table's place in the catalog.
type name struct{ db, table string }

func (n name) String() string { return quote(n.db, n.table) }

// virtualDBs hold no tables with files.
var virtualDBs = []string{"information_schema", "performance_schema"}

// baseTables lists all tables that have data of their own.
func baseTables(ctx context.Context, db querier) ([]name, error) {
	rows, err := db.QueryContext(ctx, "SELECT table_schema, table_name FROM information_schema.tables"+
		" WHERE table_type IN ('BASE TABLE', 'SEQUENCE') ORDER BY 1, 2")
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	defer rows.Close()
	var out []name
	for rows.Next() {
		var n name
		if err := rows.Scan(&n.db, &n.table); err != nil {
			return nil, err
		}
		if !slices.Contains(virtualDBs, strings.ToLower(n.db)) {
			out = append(out, n)
		}
	}
	return out, rows.Err()
}

// checkTables runs CHECK TABLE EXTENDED on every table. An engine that cannot
// check reports that in a note, which is not a fault; a warning is one.
func (c *checker) checkTables() error {
	names, err := baseTables(c.ctx, c.db)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		c.fault("CHECK TABLE: there are no tables")
	}
	for _, n := range names {
		if err := c.checkTable(n, true); err != nil {
			return err
		}
	}
	return nil
}

// unpurged are of warnings that MariaDB 10.6 and later give for a record that is
// marked as deleted and that the running batch of the purge has yet to come to, in
// the one index or in the other.
var unpurged = []string{"Unpurged clustered index record", "Clustered index record not found"}

// checkTable checks one table. Where purge may be at work still it waits until
// that is done, and checks the table once more: what that finds is a fault.
func (c *checker) checkTable(n name, purging bool) error {
	var answers, bad []string
	err := c.rows(func(v []string) {
		kind, text := strings.ToLower(v[2]), v[3]
		answers = append(answers, text)
		switch {
		case kind == "status" && (text == "OK" || text == "Table is already up to date"):
		case kind == "note" && strings.Contains(text, "doesn't support check"):
		default:
			bad = append(bad, v[2]+": "+text)
		}
	}, "CHECK TABLE "+n.String()+" EXTENDED")
	if err != nil {
		return err
	}
	all := strings.Join(bad, " ")
	if purging && slices.ContainsFunc(unpurged, func(w string) bool { return strings.Contains(all, w) }) {
		if _, err := c.db.ExecContext(c.ctx, "SET GLOBAL innodb_max_purge_lag_wait = 0"); err != nil {
			return err
		}
		return c.checkTable(n, false)
	}
	if len(answers) == 0 {
		c.fault("CHECK TABLE %s: no answer", n)
	}
	for _, text := range bad {
		c.fault("CHECK TABLE %s: %s", n, text)
	}
	return nil
}

// indexQuery compares one index with its table: both statements give the number
// of rows and a sum over the indexed columns.
type indexQuery struct {
	table            name
	key              string
	byTable, byIndex string
}

// indexQueries lists a comparison for each secondary index of the load.
func (c *checker) indexQueries() ([]indexQuery, error) {
	type part struct{ column, length, kind string }
	parts := map[indexQuery][]part{}
	var order []indexQuery
	err := c.rows(func(v []string) {
		i := indexQuery{table: name{v[0], v[1]}, key: v[2]}
		if parts[i] == nil {
			order = append(order, i)
		}
		parts[i] = append(parts[i], part{quoteName(v[3]), v[4], v[5]})
	}, "SELECT s.table_schema, s.table_name, s.index_name, s.column_name, s.sub_part, c.data_type"+
		" FROM information_schema.statistics s JOIN information_schema.columns c"+
		" ON c.table_schema = s.table_schema AND c.table_name = s.table_name AND c.column_name = s.column_name"+
		" WHERE s.index_type = 'BTREE' AND s.index_name <> 'PRIMARY' AND (s.table_schema LIKE 'hb%' OR s.table_schema = ?)"+
		" ORDER BY s.table_schema, s.table_name, s.index_name, s.seq_in_index", oddDB)
	if err != nil {
		return nil, err
	}
	for k := range order {
		i := &order[k]
		var cols []string
		for _, p := range parts[*i] {
			if p.length != "" {
				p.column = fmt.Sprintf("LEFT(%s, %s)", p.column, p.length)
			}
			cols = append(cols, p.column)
		}
		// A condition that every row meets makes the server walk an index even if
		// it holds only prefixes. The load's columns are not NULL.
		first, lowest := parts[*i][0], "-1e15"
		if strings.HasSuffix(first.kind, "char") {
			lowest = "''"
		}
		// COUNT(*) would ask Aria, which counts without reading a row, and for a reader beside
		// other transactions may answer with a number of before the last insert: a replica of
		// 10.5 said 109 rows and summed up all 186. CHECK TABLE compares that number with the rows.
		q := fmt.Sprintf("SELECT SUM(1), SUM(CRC32(CONCAT_WS('|', %s))) FROM %s", strings.Join(cols, ", "), i.table)
		i.byTable = q + " IGNORE INDEX (" + quoteName(i.key) + ")"
		i.byIndex = q + fmt.Sprintf(" FORCE INDEX (%s) WHERE %s >= %s", quoteName(i.key), first.column, lowest)
	}
	return order, nil
}

// indexes demands that each index holds the rows that its table holds.
func (c *checker) indexes() error {
	list, err := c.indexQueries()
	if err != nil {
		return err
	}
	for _, i := range list {
		var byTable, byIndex string
		err := errors.Join(
			c.rows(func(v []string) { byTable = v[0] + " rows, sum " + v[1] }, i.byTable),
			c.rows(func(v []string) { byIndex = v[0] + " rows, sum " + v[1] }, i.byIndex))
		if err != nil {
			return err
		}
		if byTable != byIndex {
			c.fault("index %s of %s has %s; its table %s", i.key, i.table, byIndex, byTable)
		}
	}
	return nil
}

// autoIncrements demands that no table will give out a number that it has.
func (c *checker) autoIncrements() error {
	type col struct{ table, name string }
	var list []col
	err := c.rows(func(v []string) { list = append(list, col{quote(v[0], v[1]), quoteName(v[2])}) },
		"SELECT table_schema, table_name, column_name FROM information_schema.columns WHERE extra LIKE '%auto_increment%' AND table_schema LIKE 'hb%'")
	if err != nil {
		return err
	}
	for _, a := range list {
		db, table, _ := strings.Cut(a.table, ".")
		err := c.none("AUTO_INCREMENT of "+a.table+" is not above its largest number", fmt.Sprintf(
			"SELECT t.auto_increment, m.n FROM information_schema.tables t, (SELECT MAX(%s) n FROM %s) m WHERE t.table_schema = ? AND t.table_name = ? AND t.auto_increment <= m.n",
			a.name, a.table), strings.Trim(db, "`"), strings.Trim(table, "`"))
		if err != nil {
			return err
		}
	}
	return nil
}

// bank demands that balances agree with the journal.
func (c *checker) bank() error {
	accounts := c.d.accounts()
	var have, want []string
	j := quote(bankDB, "journal")
	for i, a := range accounts {
		have = append(have, fmt.Sprintf("SELECT %d tab, id, balance FROM %s", i, a.name))
		want = append(want, fmt.Sprintf("SELECT %d tab, id, %d n FROM %s", i, opening, a.name))
	}
	want = append(want, "SELECT ftab, fid, -amount FROM "+j, "SELECT ttab, tid, amount FROM "+j)
	err := c.none("account (table, id, balance, by journal)", "SELECT a.tab, a.id, a.balance, w.n FROM ("+strings.Join(have, " UNION ALL ")+
		") a JOIN (SELECT tab, id, SUM(n) n FROM ("+strings.Join(want, " UNION ALL ")+") x GROUP BY tab, id) w ON a.tab = w.tab AND a.id = w.id WHERE a.balance <> w.n LIMIT 5")
	if err != nil {
		return err
	}
	return errors.Join(
		c.none("sum of all balances (rows, sum)", "SELECT SUM(n), SUM(total) FROM "+quote(bankDB, "totals")+
			fmt.Sprintf(" HAVING SUM(n) = 0 OR SUM(total) <> %d * SUM(n)", opening)),
		c.none("tables of accounts differ in size (table, rows)", "SELECT tab, n FROM "+quote(bankDB, "totals")+
			" WHERE n <> (SELECT COUNT(*) FROM "+accounts[0].name+")"),
	)
}

// documents demands that the triggers' counts and the bodies' CRCs are right.
func (c *checker) documents() error {
	audit := quote(docsDB, "audit")
	for i, t := range c.d.docTables() {
		err := errors.Join(
			c.none("audit of "+t.name+" (writer, counted, bytes; rows, bytes)", fmt.Sprintf(
				"SELECT a.writer, a.inserted - a.deleted, a.bytes, d.n, d.b FROM %s a LEFT JOIN (SELECT writer, COUNT(*) n, SUM(LENGTH(body)) b FROM %s GROUP BY writer) d"+
					" ON a.writer = d.writer WHERE a.tab = %d AND (a.inserted - a.deleted <> COALESCE(d.n, 0) OR a.bytes <> COALESCE(d.b, 0))", audit, t.name, i)),
			c.none("body of a document in "+t.name+" (id)", "SELECT id FROM "+t.name+" WHERE h <> CRC32(body) OR len <> LENGTH(body) LIMIT 5"))
		if err != nil {
			return err
		}
	}
	first, tags := c.d.docTables()[0].name, quote(docsDB, "tags")
	if err := errors.Join(
		c.none("document without its two tags (id)", "SELECT d.id FROM "+first+" d LEFT JOIN "+tags+" t ON t.doc = d.id GROUP BY d.id HAVING COUNT(t.tag) <> 2 LIMIT 5"),
		c.none("tag without a document", "SELECT t.doc FROM "+tags+" t LEFT JOIN "+first+" d ON t.doc = d.id WHERE d.id IS NULL LIMIT 5"),
	); err != nil || !c.d.fulltext {
		return err
	}
	for _, w := range ftWords {
		var n string
		if err := c.rows(func(v []string) { n = v[0] }, "SELECT COUNT(*) FROM "+first+" IGNORE INDEX (ft) WHERE txt LIKE '%"+w+"%'"); err != nil {
			return err
		}
		if err := c.same("documents that FULLTEXT finds by "+w, n, "SELECT COUNT(*) FROM "+first+" WHERE MATCH (title, txt) AGAINST ('+"+w+"' IN BOOLEAN MODE)"); err != nil {
			return err
		}
	}
	return nil
}

// parts demands that partitioned tables have kept their rows and sums.
func (c *checker) parts() error {
	for _, t := range partTables() {
		if err := c.none("rows, sum, distinct ids of "+t, fmt.Sprintf("SELECT COUNT(*), SUM(v), COUNT(DISTINCT id) FROM %s HAVING COUNT(*) <> %d OR SUM(v) <> %d OR COUNT(DISTINCT id) <> %d",
			t, partRows, partRows*opening, partRows)); err != nil {
			return err
		}
	}
	return nil
}

// logs demands that the non-transactional tables end where marks says, or one
// row further, without gaps.
func (c *checker) logs() error {
	marks := quote(miscDB, "marks")
	check := func(table, extra string) error {
		return c.none("rows of "+table+" (writer, mark, rows, first, last)", fmt.Sprintf(
			"SELECT m.writer, m.n, t.c, t.lo, t.hi FROM %s m LEFT JOIN (SELECT writer, COUNT(*) c, MIN(n) lo, MAX(n) hi FROM %s GROUP BY writer) t ON t.writer = m.writer"+
				" WHERE COALESCE(t.hi, 0) NOT IN (m.n, m.n + 1) OR t.c <> t.hi - t.lo + 1 %s", marks, table, extra))
	}
	for _, l := range c.d.logTables() {
		t := quote(miscDB, l.name)
		extra := ""
		if !l.deletes {
			extra = "OR t.lo <> 1"
		}
		if err := errors.Join(check(t, extra),
			c.none("payload of "+t+" (writer, n)", "SELECT writer, n FROM "+t+" WHERE h <> CRC32(payload) LIMIT 5")); err != nil {
			return err
		}
	}
	if !c.d.engines["MRG_MYISAM"] {
		return nil
	}
	return errors.Join(check(quote(miscDB, "merge_two"), "OR t.lo <> 1"),
		c.none("MERGE table (rows, rows of its tables)", fmt.Sprintf("SELECT a, b FROM (SELECT (SELECT COUNT(*) FROM %s) a, (SELECT COUNT(*) FROM %s) + 2 b) x WHERE a <> b",
			quote(miscDB, "merge_all"), quote(miscDB, "merge_two"))))
}

// misc demands that big transactions are whole and sequence numbers ahead.
func (c *checker) misc() error {
	b := quote(miscDB, "bulk")
	err := errors.Join(
		c.none("part of a big transaction (writer, batch, rows, said)", "SELECT writer, batch, COUNT(*), MAX(n) FROM "+b+" GROUP BY writer, batch HAVING COUNT(*) <> MAX(n) OR COUNT(*) <> MIN(n)"),
		c.none("two batches of one writer", "SELECT writer FROM "+b+" GROUP BY writer HAVING COUNT(DISTINCT batch) > 1"),
		c.same("rows of the table of numbers", fmt.Sprint(numbers*(numbers+1)/2), "SELECT SUM(n) FROM "+quote(miscDB, "numbers")))
	if err != nil || !c.d.sequence {
		return err
	}
	return c.none("sequence is behind (next, used)", "SELECT s.next_not_cached_value, u.n FROM "+quote(miscDB, "seq")+" s, (SELECT MAX(n) n FROM "+quote(miscDB, "seq_used")+") u WHERE s.next_not_cached_value <= u.n")
}

// points demands that the SPATIAL index finds what the columns say.
func (c *checker) points() error {
	t := quote(miscDB, "geo")
	if err := c.none("point (id)", "SELECT id FROM "+t+" WHERE ST_X(g) <> x OR ST_Y(g) <> y LIMIT 5"); err != nil {
		return err
	}
	for _, r := range [][4]int{{0, 0, 1000, 1000}, {0, 0, 300, 300}, {250, 400, 800, 999}, {700, 10, 720, 900}} {
		var n string
		if err := c.rows(func(v []string) { n = v[0] }, "SELECT COUNT(*) FROM "+t+" IGNORE INDEX (g) WHERE x > ? AND x < ? AND y > ? AND y < ?", r[0], r[2], r[1], r[3]); err != nil {
			return err
		}
		box := fmt.Sprintf("POLYGON((%d %d, %d %d, %d %d, %d %d, %d %d))", r[0], r[1], r[2], r[1], r[2], r[3], r[0], r[3], r[0], r[1])
		if err := c.same(fmt.Sprintf("points that SPATIAL finds in %v", r), n,
			"SELECT COUNT(*) FROM "+t+" FORCE INDEX (g) WHERE MBRWithin(g, ST_GeomFromText('"+box+"')) AND x > ? AND x < ? AND y > ? AND y < ?", r[0], r[2], r[1], r[3]); err != nil {
			return err
		}
	}
	return nil
}

// ddl demands that the tables of the DDL connection are those of one of the two
// recorded states.
func (c *checker) ddl() error {
	var before, after string
	if err := c.rows(func(v []string) { before, after = v[0], v[1] }, "SELECT before_state, after_state FROM "+ddlState); err != nil {
		return err
	}
	have, err := c.actualState()
	if err != nil {
		return err
	}
	if s := have.String(); s != before && s != after {
		c.fault("tables of the DDL connection:\n%s\nwant:\n%s\nor:\n%s", s, before, after)
	}
	return nil
}

// actualState reads what is in the databases of the DDL connection.
func (c *checker) actualState() (tables, error) {
	ts := tables{}
	in := " IN (" + strings.TrimSuffix(strings.Repeat("?,", len(ddlDBs)), ",") + ")"
	var args []any
	for _, db := range ddlDBs {
		args = append(args, db)
	}
	num := func(s string) (n int) {
		if _, err := fmt.Sscan(s, &n); err != nil {
			c.fault("%q is not a number", s)
		}
		return n
	}
	err := errors.Join(
		c.rows(func(v []string) {
			ts[quote(v[0], v[1])] = &table{Engine: strings.ToUpper(v[2]), Blocks: map[int]block{}}
		}, "SELECT table_schema, table_name, engine FROM information_schema.tables WHERE table_schema"+in, args...),
		c.rows(func(v []string) { ts[quote(v[0], v[1])].Cols = num(v[2]) },
			"SELECT table_schema, table_name, COUNT(*) FROM information_schema.columns WHERE table_schema"+in+" GROUP BY 1, 2", args...),
		c.rows(func(v []string) {
			t := ts[quote(v[0], v[1])]
			t.Idx, t.Fulltext = num(v[2]), num(v[3]) > 0
		}, "SELECT table_schema, table_name, COUNT(DISTINCT index_name), SUM(index_name = 'ft') FROM information_schema.statistics WHERE table_schema"+in+" GROUP BY 1, 2", args...),
		c.rows(func(v []string) {
			t := ts[quote(v[0], v[1])]
			t.Parts = append(t.Parts, num(v[2])/1000-1)
		}, "SELECT table_schema, table_name, partition_description FROM information_schema.partitions WHERE partition_name IS NOT NULL AND table_schema"+in+
			" ORDER BY table_schema, table_name, partition_ordinal_position", args...),
	)
	if err != nil {
		return nil, err
	}
	for n, t := range ts {
		if err := c.rows(func(v []string) {
			var sum int64
			if _, err := fmt.Sscan(v[2], &sum); err != nil {
				c.fault("%s: sum %q is not a number", n, v[2])
			}
			t.Blocks[num(v[0])] = block{Rows: num(v[1]), Sum: sum}
		}, "SELECT id DIV 1000, COUNT(*), SUM(v) FROM "+n+" GROUP BY 1"); err != nil {
			return nil, err
		}
		if err := c.none("row of "+n+" (id)", "SELECT id FROM "+n+" WHERE h <> CRC32(CONCAT_WS('-', id, v, pad)) LIMIT 3"); err != nil {
			return nil, err
		}
	}
	return ts, nil
}
