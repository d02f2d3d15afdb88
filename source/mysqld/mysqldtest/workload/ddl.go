package workload

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ddlState holds the state of the DDL connection's tables: what they were before
// its current statement and what they are after it. Between statements the two
// are the same.
var ddlState = quote(miscDB, "ddl_state")

// tables is what the databases of the DDL connection hold, by quoted name. Its
// JSON is canonical (keys are sorted), so states compare as strings.
type tables map[string]*table

// table is the state of one table. Its rows come in blocks: block b has the ids
// b*1000+1 ... b*1000+Rows.
type table struct {
	Engine   string        // in upper case
	Cols     int           // columns, of which the first four are the base
	Idx      int           // indexes, the primary key among them
	Fulltext bool          // has a FULLTEXT index
	Parts    []int         // its partitions, by the block that each takes; nil without
	Blocks   map[int]block // those that have rows

	// twin: has the definition of the partitioned tables, so that a partition
	// can be exchanged with it. It does not show in the catalog, so it is no part
	// of the recorded state.
	twin bool
	// general: in a general tablespace. The name tells: see freeName.
	general bool
}

// block is the content of one block of rows.
type block struct {
	Rows int
	Sum  int64 // of column v
}

const (
	baseCols  = 4
	maxCols   = 9
	maxIdx    = 4
	maxTables = 12
)

func (ts tables) String() string {
	b, err := json.Marshal(ts)
	if err != nil {
		panic("workload: internal error: " + err.Error()) // plain data cannot fail
	}
	return string(b)
}

func (ts tables) clone() tables {
	c := tables{}
	for n, t := range ts {
		u := *t
		u.Parts = slices.Clone(t.Parts)
		u.Blocks = maps.Clone(t.Blocks)
		c[n] = &u
	}
	return c
}

// change is one DDL statement and the state that it leads to.
type change struct {
	kind, sql string
	after     tables
}

// ddl is the state of the DDL connection.
type ddl struct {
	*session
	now   tables
	tag   int64 // of the next rows, so that no two fillings have equal sums
	space bool  // there is a tablespace ddlSpace
	undo  bool  // there is an undo tablespace undoSpace
}

// Tablespaces that come and go. They hold nothing that Check looks for.
const (
	ddlSpace  = "hb_ddl"
	undoSpace = "hb_undo"
)

// runDDL is the life of the DDL connection.
func (l *Load) runDDL(ctx context.Context, s *session) error {
	now, err := recordedState(ctx, l.db)
	if err != nil {
		return err
	}
	if l.d.mariadb { // options of InnoDB stay with a table that becomes MyISAM
		if err := s.exec("SET SESSION sql_mode = CONCAT(@@sql_mode, ',IGNORE_BAD_TABLE_OPTIONS')"); err != nil {
			return err
		}
	}
	d := &ddl{session: s, now: now, tag: time.Now().UnixMilli() % 1e9}
	if err := d.findSpaces(); err != nil {
		return err
	}
	for start := time.Now(); pace(ctx, start, l.o.DDLRate); {
		start = time.Now()
		if done, err := d.changeSpaces(); done || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		c, ok := d.choose()
		if !ok {
			continue
		}
		if err := d.do(c); err != nil {
			return err
		}
	}
	return nil
}

// findSpaces looks for what an earlier run left.
func (d *ddl) findSpaces() error {
	if !d.l.d.general {
		return nil
	}
	table := "innodb_sys_tablespaces"
	if d.l.d.undo {
		table = "innodb_tablespaces"
	}
	for name, there := range map[string]*bool{ddlSpace: &d.space, undoSpace: &d.undo} {
		n, err := d.ints("SELECT COUNT(*) FROM information_schema."+table+" WHERE name = ?", name)
		if err != nil {
			return err
		}
		*there = n[0] > 0
	}
	return nil
}

// changeSpaces creates, empties or drops a tablespace now and then, where the
// server has such. It reports whether it did.
func (d *ddl) changeSpaces() (bool, error) {
	switch n := d.rnd.IntN(40); {
	case n < 2 && d.l.d.general:
		return true, d.changeSpace()
	case n == 2 && d.l.d.undo:
		return true, d.changeUndo()
	}
	return false, nil
}

func (d *ddl) changeSpace() error {
	q, kind := "CREATE TABLESPACE "+ddlSpace+" ADD DATAFILE '"+ddlSpace+".ibd' ENGINE=InnoDB", "create tablespace"
	if d.space {
		q, kind = "DROP TABLESPACE "+ddlSpace, "drop tablespace"
	}
	if err := d.exec(q); err != nil {
		return err
	}
	d.space = !d.space
	d.count(kind)
	return nil
}

// changeUndo creates an undo tablespace, or has one emptied and then uses or
// drops it. None of that is replicated.
func (d *ddl) changeUndo() error {
	if err := d.exec("SET SESSION sql_log_bin = 0"); err != nil {
		return err
	}
	err := d.emptyUndo()
	return errors.Join(err, d.exec("SET SESSION sql_log_bin = 1"))
}

func (d *ddl) emptyUndo() error {
	if !d.undo {
		d.undo = true
		d.count("create undo tablespace")
		return d.exec("CREATE UNDO TABLESPACE " + undoSpace + " ADD DATAFILE '" + undoSpace + ".ibu'")
	}
	name := []string{undoSpace, "innodb_undo_001", "innodb_undo_002"}[d.rnd.IntN(3)]
	if err := d.exec("ALTER UNDO TABLESPACE " + name + " SET INACTIVE"); err != nil {
		return err
	}
	d.count("empty undo tablespace")
	for range 50 { // it waits for the purge, and that for the writers
		n, err := d.ints("SELECT COUNT(*) FROM information_schema.innodb_tablespaces WHERE name = ? AND state = 'empty'", name)
		if err != nil {
			return err
		}
		if n[0] > 0 && name == undoSpace && d.rnd.IntN(2) == 0 {
			d.undo = false
			d.count("drop undo tablespace")
			return d.exec("DROP UNDO TABLESPACE " + name)
		}
		if n[0] > 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return d.exec("ALTER UNDO TABLESPACE " + name + " SET ACTIVE")
}

// count counts a statement that was done.
func (d *ddl) count(kind string) {
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	d.l.stats.DDL[kind]++
}

func recordedState(ctx context.Context, db *sql.DB) (tables, error) {
	var before, after string
	err := db.QueryRowContext(ctx, "SELECT before_state, after_state FROM "+ddlState).Scan(&before, &after)
	if err != nil {
		return nil, fmt.Errorf("read the state of the DDL tables: %w", err)
	}
	if before != after {
		return nil, fmt.Errorf("a DDL statement was cut short: its tables are of no known state")
	}
	ts := tables{}
	if err := json.Unmarshal([]byte(after), &ts); err != nil {
		return nil, fmt.Errorf("read the state of the DDL tables: %w", err)
	}
	for name, t := range ts {
		t.general = strings.Contains(name, ".`"+generalPrefix)
	}
	return ts, nil
}

// do records where the statement leads, runs it, and records that it is done.
func (d *ddl) do(c change) error {
	after := c.after.String()
	if err := d.exec("UPDATE "+ddlState+" SET after_state = ?", after); err != nil {
		return err
	}
	if err := d.exec(c.sql); err != nil {
		return err
	}
	if err := d.exec("UPDATE "+ddlState+" SET before_state = ?", after); err != nil {
		return err
	}
	d.now = c.after
	d.count(c.kind)
	return nil
}

// choose returns a statement that is possible now.
func (d *ddl) choose() (change, bool) {
	if len(d.now) < 4 {
		return d.create()
	}
	kinds := []func() (change, bool){
		d.create, d.create, d.drop, d.fill, d.fill, d.update, d.update, d.empty, d.truncate, d.rename, d.swap, d.swap,
		d.addIndex, d.dropIndex, d.addColumn, d.addColumn, d.dropColumn, d.copyTable, d.optimize,
		d.changeEngine, d.fulltext, d.exchange, d.exchange, d.addPartition, d.dropPartition, d.rebuildPartition, d.move,
	}
	return kinds[d.rnd.IntN(len(kinds))]()
}

// pick returns the name of a random table for which ok holds.
func (d *ddl) pick(ok func(*table) bool) (string, bool) {
	var names []string
	for _, n := range slices.Sorted(maps.Keys(d.now)) {
		if ok(d.now[n]) {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return "", false
	}
	return names[d.rnd.IntN(len(names))], true
}

func plain(t *table) bool { return t.Parts == nil }

// generalPrefix begins the names of tables in general tablespaces.
const generalPrefix = "g"

func inno(t *table) bool { return t.Engine == "INNODB" && t.Parts == nil }

func parted(t *table) bool { return t.Parts != nil }

// freeName returns a name that no table has.
func (d *ddl) freeName(general bool) string {
	for {
		n := fmt.Sprintf("t%d", d.rnd.IntN(40))
		if general {
			n = generalPrefix + n
		} else if d.rnd.IntN(3) == 0 {
			n = "té-" + n
		}
		q := quote(ddlDBs[d.rnd.IntN(len(ddlDBs))], n)
		if d.now[q] == nil {
			return q
		}
	}
}

// alter makes the change that a statement on one table is.
func (d *ddl) alter(kind, name, statement string, f func(*table)) (change, bool) {
	after := d.now.clone()
	f(after[name])
	return change{kind, statement, after}, true
}

func (d *ddl) create() (change, bool) {
	if len(d.now) >= maxTables {
		return change{}, false
	}
	t := &table{Engine: "INNODB", Cols: baseCols, Idx: 1, Blocks: map[int]block{}}
	name, clause, kind := d.freeName(false), "", "create"
	switch n := d.rnd.IntN(10); {
	case n < 3:
		kind = "create partitioned"
		t.Parts = []int{0, 1, 2}
		clause = "ENGINE=InnoDB PARTITION BY RANGE (id) (" + partition(0) + "," + partition(1) + "," + partition(2) + ")"
	case n < 4 && !d.l.o.DDLInnoDBOnly:
		t.Engine, clause = "MYISAM", "ENGINE=MyISAM"
	case n < 5 && !d.l.o.DDLInnoDBOnly && d.l.d.engines["ARIA"]:
		t.Engine, clause = "ARIA", "ENGINE=Aria"
	case n < 7:
		t.twin, clause = true, "ENGINE=InnoDB"
	case n < 8 && d.l.d.general:
		name, kind, t.general = d.freeName(true), "create in tablespace", true
		clause = "ENGINE=InnoDB TABLESPACE=" + generalSpaces[d.rnd.IntN(len(generalSpaces))]
	default:
		f := d.l.d.formats()
		clause = "ENGINE=InnoDB " + f[d.rnd.IntN(len(f))].clause
	}
	after := d.now.clone()
	after[name] = t
	return change{kind, "CREATE TABLE " + name + " (id INT NOT NULL PRIMARY KEY, v BIGINT NOT NULL," +
		" pad VARCHAR(500) CHARACTER SET latin1 NOT NULL, h INT UNSIGNED NOT NULL) " + clause, after}, true
}

func partition(b int) string {
	return fmt.Sprintf("PARTITION p%d VALUES LESS THAN (%d)", b, (b+1)*1000)
}

func (d *ddl) drop() (change, bool) {
	name, ok := d.pick(func(*table) bool { return true })
	if !ok {
		return change{}, false
	}
	after := d.now.clone()
	delete(after, name)
	return change{"drop", "DROP TABLE " + name, after}, true
}

// fill inserts a block of rows in one statement.
func (d *ddl) fill() (change, bool) {
	free := func(t *table) (blocks []int) {
		of := t.Parts
		if of == nil && len(t.Blocks) < 2 {
			of = []int{0, 1, 2}
		}
		for _, b := range of {
			if t.Blocks[b].Rows == 0 {
				blocks = append(blocks, b)
			}
		}
		return blocks
	}
	name, ok := d.pick(func(t *table) bool { return len(free(t)) > 0 })
	if !ok {
		return change{}, false
	}
	blocks := free(d.now[name])
	b := blocks[d.rnd.IntN(len(blocks))]
	rows := int64(d.rnd.IntN(900) + 1)
	d.tag++
	base, tag := int64(b)*1000, d.tag*1000
	q := fmt.Sprintf("INSERT INTO %s (id, v, pad, h) SELECT n+%d, n+%d, REPEAT(CHAR(97+n%%26), n%%400), CRC32(CONCAT_WS('-', n+%d, n+%d, REPEAT(CHAR(97+n%%26), n%%400))) FROM %s WHERE n <= %d",
		name, base, tag, base, tag, quote(miscDB, "numbers"), rows)
	return d.alter("insert", name, q, func(t *table) {
		t.Blocks[b] = block{Rows: int(rows), Sum: tag*rows + rows*(rows+1)/2}
	})
}

// update changes all rows of a block in one statement: rows of several versions
// where columns were added and dropped instantly.
func (d *ddl) update() (change, bool) {
	name, b, ok := d.pickBlock()
	if !ok {
		return change{}, false
	}
	q := fmt.Sprintf("UPDATE %s SET v = v + 1, pad = REPEAT(CHAR(97 + v %% 26), v %% 400), h = CRC32(CONCAT_WS('-', id, v, pad)) WHERE id BETWEEN %d AND %d", name, b*1000+1, b*1000+1000)
	return d.alter("update", name, q, func(t *table) {
		n := t.Blocks[b].Rows
		t.Blocks[b] = block{Rows: n, Sum: t.Blocks[b].Sum + int64(n)}
	})
}

// empty deletes all rows of a block in one statement.
func (d *ddl) empty() (change, bool) {
	name, b, ok := d.pickBlock()
	if !ok {
		return change{}, false
	}
	q := fmt.Sprintf("DELETE FROM %s WHERE id BETWEEN %d AND %d", name, b*1000+1, b*1000+1000)
	return d.alter("delete", name, q, func(t *table) { delete(t.Blocks, b) })
}

// pickBlock returns a block that has rows.
func (d *ddl) pickBlock() (name string, b int, ok bool) {
	name, ok = d.pick(func(t *table) bool { return len(t.Blocks) > 0 })
	if ok {
		blocks := slices.Sorted(maps.Keys(d.now[name].Blocks))
		b = blocks[d.rnd.IntN(len(blocks))]
	}
	return name, b, ok
}

// move takes a table to another general tablespace, or to the same.
func (d *ddl) move() (change, bool) {
	name, ok := d.pick(func(t *table) bool { return t.general })
	if !ok {
		return change{}, false
	}
	to := generalSpaces[d.rnd.IntN(len(generalSpaces))]
	return d.alter("move to tablespace", name, "ALTER TABLE "+name+" TABLESPACE="+to, func(*table) {})
}

func (d *ddl) truncate() (change, bool) {
	name, ok := d.pick(func(t *table) bool { return len(t.Blocks) > 0 })
	if !ok {
		return change{}, false
	}
	return d.alter("truncate", name, "TRUNCATE TABLE "+name, func(t *table) { clear(t.Blocks) })
}

func (d *ddl) rename() (change, bool) {
	name, ok := d.pick(func(*table) bool { return true })
	if !ok {
		return change{}, false
	}
	to := d.freeName(d.now[name].general)
	after := d.now.clone()
	after[to] = after[name]
	delete(after, name)
	kind := "rename"
	if dbOf(name) != dbOf(to) {
		kind = "rename across databases"
	}
	return change{kind, "RENAME TABLE " + name + " TO " + to, after}, true
}

func dbOf(name string) string {
	db, _, _ := strings.Cut(name, ".")
	return db
}

// swap exchanges the names of two tables, or turns those of three around.
func (d *ddl) swap() (change, bool) {
	a, ok := d.pick(func(*table) bool { return true })
	if !ok {
		return change{}, false
	}
	b, ok := d.pick(func(t *table) bool { return t != d.now[a] && t.general == d.now[a].general })
	if !ok {
		return change{}, false
	}
	x := d.freeName(d.now[a].general)
	after := d.now.clone()
	after[a], after[b] = after[b], after[a]
	return change{"swap", fmt.Sprintf("RENAME TABLE %s TO %s, %s TO %s, %s TO %s", a, x, b, a, x, b), after}, true
}

func (d *ddl) addIndex() (change, bool) {
	name, ok := d.pick(func(t *table) bool { return plain(t) && t.Idx < maxIdx && !t.Fulltext })
	if !ok {
		return change{}, false
	}
	n := d.now[name].Idx
	v := "v"
	if d.l.d.mariadb { // MySQL has descending indexes in InnoDB only, and the table may leave that
		v += d.l.d.desc()
	}
	cols := []string{v, "pad(40), v", "h, id"}[d.rnd.IntN(3)]
	q := fmt.Sprintf("ALTER TABLE %s ADD KEY i%d (%s)", name, n, cols)
	if inno(d.now[name]) {
		q += ", ALGORITHM=INPLACE"
	}
	return d.alter("add index", name, q, func(t *table) { t.Idx++ })
}

func (d *ddl) dropIndex() (change, bool) {
	name, ok := d.pick(func(t *table) bool { return t.Idx > 1 && !t.Fulltext })
	if !ok {
		return change{}, false
	}
	q := fmt.Sprintf("ALTER TABLE %s DROP KEY i%d", name, d.now[name].Idx-1)
	return d.alter("drop index", name, q, func(t *table) { t.Idx-- })
}

// addColumn lets the server choose how: instantly where it can.
func (d *ddl) addColumn() (change, bool) {
	name, ok := d.pick(func(t *table) bool { return plain(t) && t.Cols < maxCols })
	if !ok {
		return change{}, false
	}
	where := []string{"", "", " AFTER id"}[d.rnd.IntN(3)]
	q := fmt.Sprintf("ALTER TABLE %s ADD COLUMN x%d VARCHAR(20) NOT NULL DEFAULT 'added'%s", name, d.now[name].Cols-baseCols, where)
	return d.alter("add column", name, q, func(t *table) { t.Cols++; t.twin = false })
}

func (d *ddl) dropColumn() (change, bool) {
	name, ok := d.pick(func(t *table) bool { return t.Cols > baseCols })
	if !ok {
		return change{}, false
	}
	q := fmt.Sprintf("ALTER TABLE %s DROP COLUMN x%d", name, d.now[name].Cols-baseCols-1)
	return d.alter("drop column", name, q, func(t *table) { t.Cols-- })
}

func (d *ddl) copyTable() (change, bool) {
	name, ok := d.pick(func(t *table) bool { return true })
	if !ok {
		return change{}, false
	}
	if d.rnd.IntN(2) == 0 {
		return d.alter("alter copy", name, "ALTER TABLE "+name+" FORCE, ALGORITHM=COPY", func(*table) {})
	}
	return d.alter("alter force", name, "ALTER TABLE "+name+" FORCE", func(*table) {})
}

func (d *ddl) optimize() (change, bool) {
	name, ok := d.pick(func(t *table) bool { return true })
	if !ok {
		return change{}, false
	}
	return d.alter("optimize", name, "OPTIMIZE TABLE "+name, func(*table) {})
}

func (d *ddl) changeEngine() (change, bool) {
	name, ok := d.pick(func(t *table) bool { return plain(t) && !t.Fulltext && !t.general })
	if !ok {
		return change{}, false
	}
	to := []string{"InnoDB"}
	if !d.l.o.DDLInnoDBOnly {
		to = append(to, "InnoDB", "MyISAM")
		if d.l.d.engines["ARIA"] {
			to = append(to, "Aria")
		}
	}
	e := to[d.rnd.IntN(len(to))]
	q := "ALTER TABLE " + name + " ENGINE=" + e + " ROW_FORMAT=DEFAULT KEY_BLOCK_SIZE=0"
	return d.alter("change engine", name, q, func(t *table) { t.Engine, t.twin = strings.ToUpper(e), false })
}

// fulltext adds a FULLTEXT index to a table of InnoDB, or drops it again.
func (d *ddl) fulltext() (change, bool) {
	name, ok := d.pick(inno)
	if !ok {
		return change{}, false
	}
	if d.now[name].Fulltext {
		return d.alter("drop fulltext", name, "ALTER TABLE "+name+" DROP KEY ft", func(t *table) { t.Fulltext = false; t.Idx-- })
	}
	return d.alter("add fulltext", name, "ALTER TABLE "+name+" ADD FULLTEXT KEY ft (pad)", func(t *table) { t.Fulltext, t.twin = true, false; t.Idx++ })
}

// exchange swaps a partition with a table of the same columns whose rows fit.
func (d *ddl) exchange() (change, bool) {
	p, ok := d.pick(func(t *table) bool { return parted(t) && t.Idx == 1 && t.Cols == baseCols })
	if !ok {
		return change{}, false
	}
	parts := d.now[p].Parts
	b := parts[d.rnd.IntN(len(parts))]
	x, ok := d.pick(func(t *table) bool {
		if !inno(t) || t.general || t.Idx != 1 || t.Cols != baseCols || !t.twin {
			return false
		}
		for k := range t.Blocks {
			if k != b {
				return false
			}
		}
		return true
	})
	if !ok {
		return change{}, false
	}
	after := d.now.clone()
	pt, xt := after[p], after[x]
	was, had := pt.Blocks[b]
	delete(pt.Blocks, b)
	if n, ok := xt.Blocks[b]; ok {
		pt.Blocks[b] = n
	}
	clear(xt.Blocks)
	if had {
		xt.Blocks[b] = was
	}
	return change{"exchange partition", fmt.Sprintf("ALTER TABLE %s EXCHANGE PARTITION p%d WITH TABLE %s", p, b, x), after}, true
}

const maxParts = 6

func (d *ddl) addPartition() (change, bool) {
	name, ok := d.pick(func(t *table) bool { return parted(t) && len(t.Parts) < maxParts })
	if !ok {
		return change{}, false
	}
	b := slices.Max(d.now[name].Parts) + 1
	return d.alter("add partition", name, "ALTER TABLE "+name+" ADD PARTITION ("+partition(b)+")", func(t *table) { t.Parts = append(t.Parts, b) })
}

func (d *ddl) dropPartition() (change, bool) {
	name, ok := d.pick(func(t *table) bool { return len(t.Parts) > 2 })
	if !ok {
		return change{}, false
	}
	i := d.rnd.IntN(len(d.now[name].Parts))
	b := d.now[name].Parts[i]
	kind, q := "drop partition", fmt.Sprintf("ALTER TABLE %s DROP PARTITION p%d", name, b)
	if d.rnd.IntN(3) == 0 {
		return d.alter("truncate partition", name, fmt.Sprintf("ALTER TABLE %s TRUNCATE PARTITION p%d", name, b),
			func(t *table) { delete(t.Blocks, b) })
	}
	return d.alter(kind, name, q, func(t *table) {
		t.Parts = slices.Delete(t.Parts, i, i+1)
		delete(t.Blocks, b)
	})
}

func (d *ddl) rebuildPartition() (change, bool) {
	name, ok := d.pick(parted)
	if !ok {
		return change{}, false
	}
	parts := d.now[name].Parts
	q := fmt.Sprintf("ALTER TABLE %s REBUILD PARTITION p%d", name, parts[d.rnd.IntN(len(parts))])
	return d.alter("rebuild partition", name, q, func(*table) {})
}
