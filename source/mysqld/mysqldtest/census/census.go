// Package census makes a MySQL server write every type of redo record that its
// series can write, in well under a minute and with some tens of MB of redo, and
// turns such servers into crash images: data directories whose pages are far
// behind their redo, together with what the server itself makes of them.
//
// The statements are the same on each run. They are of no use as a load on a
// server that is backed up: package workload is.
package census

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"hb/source/mysqld/mysqldtest"
)

// DB is the database of the census.
const DB = "census"

// Options bound a census. Zero values mean the defaults.
type Options struct {
	// Rows is how many rows are inserted at a time; 400.
	Rows int
	// Small leaves out the largest things, for a test's data.
	Small bool
	// Flush is called between the phases, to have some pages written.
	Flush func(ctx context.Context) error
}

// census is one run on one server.
type census struct {
	Options
	ctx      context.Context
	db       *sql.DB
	c        *sql.Conn
	root     *mysqldtest.Root
	pageSize int
	rows     int // of each insertion
}

func begin(ctx context.Context, s *mysqldtest.Server, o Options) (*census, error) {
	c := &census{Options: o, ctx: ctx, db: s.DB(), root: s.Root, rows: o.Rows}
	if c.rows == 0 {
		c.rows = 400
	}
	var err error
	if c.c, err = s.DB().Conn(ctx); err != nil {
		return nil, err
	}
	if err := c.c.QueryRowContext(ctx, "SELECT @@innodb_page_size").Scan(&c.pageSize); err != nil {
		return nil, errors.Join(err, c.c.Close())
	}
	return c, nil
}

// use selects the database: 9.7 wants one for INSERT ... SELECT with functions.
func (c *census) use() error { return c.exec("USE " + DB) }

// exec runs statements in the session of the census until one fails.
func (c *census) exec(statements ...string) error {
	for _, q := range statements {
		if _, err := c.c.ExecContext(c.ctx, q); err != nil {
			if len(q) > 300 {
				q = q[:300] + "..."
			}
			return fmt.Errorf("census on %s: %s: %w", c.root.Name, q, err)
		}
	}
	return nil
}

// table is a table of the census in one row format.
type table struct {
	name, clause string
	zip          int // KEY_BLOCK_SIZE, or 0
}

func (t *table) full() string { return DB + "." + t.name }

// tables are those of the row formats that the server has at its page size.
func (c *census) tables() []table {
	t := []table{
		{"t_redundant", "ROW_FORMAT=REDUNDANT", 0},
		{"t_compact", "ROW_FORMAT=COMPACT", 0},
		{"t_dynamic", "ROW_FORMAT=DYNAMIC", 0},
	}
	for _, kb := range []int{8, 4, 2, 1} {
		if kb*1024 < c.pageSize && c.pageSize <= 16384 && (!c.Small || kb == 2 || kb == 4) {
			t = append(t, table{fmt.Sprintf("t_zip%d", kb), fmt.Sprintf("ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=%d", kb), kb})
		}
	}
	return t
}

const (
	numbers  = DB + ".n"
	docTable = DB + ".doc"
)

// Prepare makes the tables and rows that a census finds in the data files.
func Prepare(ctx context.Context, s *mysqldtest.Server, o Options) (err error) {
	c, err := begin(ctx, s, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.c.Close()) }()
	digit := "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)"
	q := []string{
		"CREATE DATABASE " + DB + " DEFAULT CHARACTER SET latin1",
		"USE " + DB,
		"CREATE TABLE " + numbers + " (n INT NOT NULL PRIMARY KEY) ENGINE=InnoDB",
		"INSERT INTO " + numbers + " SELECT a.d*100+b.d*10+c.d+1 FROM " + digit + " a, " + digit + " b, " + digit + " c",
	}
	for _, t := range c.tables() {
		q = append(q, c.create(t), c.insert(t, "n*3"))
	}
	if c.hasCompression() {
		t := c.compression()
		q = append(q, c.create(t), c.insert(t, "n"), c.insert(t, "n + 10000"))
	}
	return c.exec(q...)
}

// hasCompression: 5.7 and later, with pages that are larger than what a file
// system can leave out.
func (c *census) hasCompression() bool { return c.root.AtLeast(5, 7) && c.pageSize > 4096 }

// compression is a table whose pages are compressed as they are written.
func (c *census) compression() table {
	return table{"t_compression", "ROW_FORMAT=DYNAMIC COMPRESSION='zlib'", 0}
}

// compressed changes such a table.
func (c *census) compressed() error {
	if !c.hasCompression() {
		return nil
	}
	t := c.compression()
	return c.exec(c.insert(t, "n*3 + 5000"), "UPDATE "+t.full()+" SET v = 'changed', k = k + 1 WHERE id % 3 = 0", "DELETE FROM "+t.full()+" WHERE id % 7 = 0")
}

// create makes a table whose rows have all kinds of fields. Tables with tiny
// pages can hold only short ones.
func (c *census) create(t table) string {
	v := 250
	if t.zip > 0 && t.zip <= 2 {
		v = 40
	}
	return fmt.Sprintf("CREATE TABLE %s (id INT NOT NULL PRIMARY KEY, k INT NOT NULL, v VARCHAR(%d), c CHAR(12), n INT, b MEDIUMBLOB,"+
		" w VARCHAR(30) NOT NULL DEFAULT 'w', KEY k (k), KEY v (v(%d)), KEY c (c, n)) ENGINE=InnoDB %s", t.full(), v, min(v, 60), t.clause)
}

// insert makes rows with the ids that an expression of n says; those that are
// there already stay.
func (c *census) insert(t table, id string) string {
	return fmt.Sprintf("INSERT IGNORE INTO %s (id, k, v, c, n, b) SELECT %s, CRC32(n) %% 1000, REPEAT(CHAR(97 + n %% 26), n %% %d), IF(n %% 5, HEX(n * 7919), NULL), IF(n %% 3, n, NULL),"+
		" CASE WHEN n %% 40 = 1 THEN REPEAT(LEFT(SHA2(n,256),32), 20 + n * 3) WHEN n %% 4 = 0 THEN NULL ELSE LEFT(SHA2(n,256),32) END FROM %s WHERE n <= %d ORDER BY n",
		t.full(), id, t.width(), numbers, c.rows)
}

// width is the longest v, in characters.
func (t *table) width() int {
	if t.zip > 0 && t.zip <= 2 {
		return 40
	}
	return 240
}

// Run makes the redo. Nothing is left open.
func Run(ctx context.Context, s *mysqldtest.Server, o Options) (err error) {
	c, err := begin(ctx, s, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.c.Close()) }()
	phases := []func() error{
		c.use, c.changes, c.downwards, c.rollbacks, c.merges, c.rightOfRoot, c.leftmost, c.lobs, c.bulkIndexes, c.definitions,
		c.partitions, c.compressed, c.fulltext, c.spatial, c.systemTables, c.counters, c.unlogged, c.generalSpaces, c.virtual, c.instant, c.undoSpaces,
	}
	for _, p := range phases {
		if err := p(); err != nil {
			return err
		}
		if c.Flush != nil {
			if err := c.Flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// changes inserts, changes and deletes rows in every way that the formats know.
func (c *census) changes() error {
	for _, t := range c.tables() {
		n := t.full()
		err := c.exec(
			c.insert(t, "CRC32(n) % 1000000 + 10000"),
			c.insert(t, "-n"), // descending: pages are split to the left
			"UPDATE "+n+" SET k = k + 1 WHERE id % 7 = 0",
			"UPDATE "+n+" SET n = n + 1 WHERE id % 5 = 0",
			"UPDATE "+n+" SET c = REVERSE(c), w = REVERSE(w) WHERE id % 4 = 0",
			fmt.Sprintf("UPDATE %s SET v = LEFT(CONCAT(COALESCE(v, 'null'), REPEAT('x', id %% 9)), %d) WHERE id %% 3 = 0", n, t.width()),
			"UPDATE "+n+" SET v = NULL, n = NULL WHERE id % 11 = 0",
			"UPDATE "+n+" SET n = id, c = 'again' WHERE id % 22 = 0",
			"UPDATE "+n+" SET w = REPEAT('y', 30) WHERE id % 2 = 0",
			"UPDATE "+n+" SET id = id + 5000000 WHERE id % 13 = 0",
			"DELETE FROM "+n+" WHERE id % 6 = 1",
			"REPLACE INTO "+n+" (id, k, v) SELECT id, k + 1, 'replaced' FROM (SELECT id, k FROM "+n+" WHERE id % 17 = 0) x",
			fmt.Sprintf("INSERT INTO %s (id, k) SELECT n * 3, n FROM %s WHERE n <= %d ON DUPLICATE KEY UPDATE k = %s.k + 2", n, numbers, c.rows/2, t.name),
		)
		if err != nil {
			return err
		}
	}
	return nil
}

// downwards inserts rows with ever smaller keys, some pages full: each page is
// divided by moving the beginning of its list.
func (c *census) downwards() error {
	for _, t := range c.tables() {
		if t.zip > 0 {
			continue
		}
		n := DB + ".down_" + t.name
		if err := c.exec("CREATE TABLE "+n+" (id INT NOT NULL PRIMARY KEY, v VARCHAR(250) NOT NULL) ENGINE=InnoDB "+t.clause,
			fmt.Sprintf("INSERT INTO %s SELECT 2000 - n, REPEAT('d', 240) FROM %s WHERE n <= %d ORDER BY n", n, numbers, c.pageSize/60)); err != nil {
			return err
		}
	}
	return nil
}

// rollbacks rolls back all and parts of transactions.
func (c *census) rollbacks() error {
	for _, t := range c.tables() {
		n := t.full()
		if err := c.exec("BEGIN",
			c.insert(t, "n + 20000000"),
			"UPDATE "+n+" SET k = k + 3, v = 'short' WHERE id % 5 = 2",
			"DELETE FROM "+n+" WHERE id % 9 = 4",
			"UPDATE "+n+" SET b = REPEAT('b', 9000) WHERE id % 50 = 0",
			"ROLLBACK", "BEGIN",
			c.insert(t, "n + 30000000"),
			"SAVEPOINT a",
			"DELETE FROM "+n+" WHERE id > 30000000 AND id % 2 = 0",
			"UPDATE "+n+" SET c = 'gone' WHERE id % 6 = 0",
			"ROLLBACK TO SAVEPOINT a", "COMMIT"); err != nil {
			return err
		}
	}
	return nil
}

// merges deletes most rows, so that pages are merged and freed by the purge.
func (c *census) merges() error {
	for _, t := range c.tables() {
		if err := c.exec("DELETE FROM "+t.full()+" WHERE id % 10 <> 3", "DELETE FROM "+t.full()+" WHERE id BETWEEN 0 AND 500"); err != nil {
			return err
		}
	}
	if err := c.purge(); err != nil {
		return err
	}
	for _, t := range c.tables() {
		if err := c.exec(c.insert(t, "n*5 + 1"), c.insert(t, "n + 40000000"),
			fmt.Sprintf("UPDATE %s SET v = REPEAT('g', %d), w = REPEAT('z', id %% 30) WHERE id %% 2 = 1", t.full(), t.width())); err != nil {
			return err
		}
	}
	return nil
}

// rightOfRoot makes trees of three levels with few rows, from long keys, and
// takes them down again.
func (c *census) rightOfRoot() error {
	for _, t := range c.tables() {
		if t.zip > 0 && t.zip <= 2 {
			continue
		}
		n := DB + ".deep_" + t.name
		length := min(700, c.pageSize/8)
		if t.zip > 0 {
			length = 200
		}
		if err := c.exec(
			fmt.Sprintf("CREATE TABLE %s (a VARCHAR(%d) NOT NULL, i INT, PRIMARY KEY (a), KEY i (i)) ENGINE=InnoDB %s", n, length, t.clause),
			fmt.Sprintf("INSERT INTO %s SELECT CONCAT(LPAD(CRC32(n) %% 1000000, 8, '0'), REPEAT('k', %d)), n FROM %s WHERE n <= %d", n, length-10, numbers, c.rows*2),
			"DELETE FROM "+n+" WHERE i % 8 <> 0",
		); err != nil {
			return err
		}
	}
	return c.purge()
}

// leftmost empties the leftmost leaves of trees one by one. With two rows to a
// page they cannot be merged, so that each is given up and the next node pointer
// becomes the smallest.
func (c *census) leftmost() error {
	var names []string
	for _, t := range c.tables() {
		if t.zip > 0 {
			continue
		}
		n := DB + ".wide_" + t.name
		names = append(names, n)
		if err := c.exec(
			fmt.Sprintf("CREATE TABLE %s (id INT NOT NULL PRIMARY KEY, p VARCHAR(%d) NOT NULL) ENGINE=InnoDB %s", n, c.pageSize*2/5, t.clause),
			fmt.Sprintf("INSERT INTO %s SELECT n, REPEAT('w', %d) FROM %s WHERE n <= 40", n, c.pageSize*2/5, numbers),
		); err != nil {
			return err
		}
	}
	for i := 1; i <= 12; i++ {
		for _, n := range names {
			if err := c.exec(fmt.Sprintf("DELETE FROM %s WHERE id = %d", n, i)); err != nil {
				return err
			}
		}
		if err := c.purge(); err != nil {
			return err
		}
	}
	return nil
}

// lobs writes, changes and frees columns that are stored off the page.
func (c *census) lobs() error {
	size := 6000 * c.rows / 10 // some hundred pages
	for _, t := range c.tables() {
		n := t.full()
		if err := c.exec(
			fmt.Sprintf("INSERT INTO %s (id, k, b) VALUES (60000001, 1, REPEAT(LEFT(SHA2(1,256),32), %d)), (60000002, 2, REPEAT('lob ', %d)), (60000003, 3, REPEAT(LEFT(SHA2(3,256),32), 300))", n, size/32, size/4),
			"UPDATE "+n+" SET b = CONCAT(b, REPEAT('more', 3000)) WHERE id BETWEEN 60000001 AND 60000003",
			"UPDATE "+n+" SET b = INSERT(b, 2000, 6, 'change') WHERE id = 60000001",
			"UPDATE "+n+" SET b = NULL WHERE id = 60000002",
			"UPDATE "+n+" SET k = k + 1 WHERE id = 60000001",
			"DELETE FROM "+n+" WHERE id = 60000003"); err != nil {
			return err
		}
	}
	if !c.root.AtLeast(5, 7) {
		return c.purge()
	}
	// JSON: 8.0 and later change parts of one in place.
	doc := docTable
	if err := c.exec("CREATE TABLE "+doc+" (id INT NOT NULL PRIMARY KEY, j JSON) ENGINE=InnoDB",
		fmt.Sprintf("INSERT INTO %s SELECT n, JSON_OBJECT('a', REPEAT('x', 30000), 'b', n, 'c', REPEAT('y', 60000)) FROM %s WHERE n <= 4", doc, numbers),
		"UPDATE "+doc+" SET j = JSON_SET(j, '$.b', 77)",
		"UPDATE "+doc+" SET j = JSON_SET(j, '$.a', REPEAT('z', 29000))",
		"UPDATE "+doc+" SET j = JSON_REPLACE(j, '$.c', 'short') WHERE id = 2",
		"DELETE FROM "+doc+" WHERE id = 3"); err != nil {
		return err
	}
	return c.purge()
}

// bulkIndexes builds indexes in sorted order, which is not logged row by row
// since 5.7, and changes them afterwards.
func (c *census) bulkIndexes() error {
	for _, t := range c.tables() {
		n := t.full()
		if err := c.exec("ALTER TABLE "+n+" ADD KEY w (w, id)", c.insert(t, "n*7 + 2"),
			"UPDATE "+n+" SET w = 'indexed' WHERE id % 4 = 2", "ALTER TABLE "+n+" DROP KEY c"); err != nil {
			return err
		}
	}
	return nil
}

// definitions creates, renames, rebuilds, empties and drops tables.
func (c *census) definitions() error {
	for _, t := range c.tables() {
		x := table{"x_" + t.name, t.clause, t.zip}
		y := DB + ".y_" + t.name
		if err := c.exec(c.create(x), c.insert(x, "n"),
			"RENAME TABLE "+x.full()+" TO "+y, "RENAME TABLE "+y+" TO "+x.full(),
			"ALTER TABLE "+x.full()+" ADD COLUMN extra VARCHAR(20) NOT NULL DEFAULT 'e' AFTER k",
			"ALTER TABLE "+x.full()+" ENGINE=InnoDB",
			"TRUNCATE TABLE "+x.full(), c.insert(x, "n*2"),
			"CREATE TABLE "+y+" "+t.clause+" ENGINE=InnoDB AS SELECT id, k, v FROM "+x.full(),
			"DROP TABLE "+y); err != nil {
			return err
		}
	}
	return nil
}

func (c *census) partitions() error {
	n := DB + ".parts"
	return c.exec(
		"CREATE TABLE "+n+" (id INT NOT NULL PRIMARY KEY, v VARCHAR(100)) ENGINE=InnoDB PARTITION BY RANGE (id)"+
			" (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN (200), PARTITION p2 VALUES LESS THAN MAXVALUE)",
		fmt.Sprintf("INSERT INTO %s SELECT n, REPEAT('p', n %% 90) FROM %s WHERE n <= %d", n, numbers, c.rows),
		"ALTER TABLE "+n+" TRUNCATE PARTITION p0", "ALTER TABLE "+n+" DROP PARTITION p1",
		"ALTER TABLE "+n+" REORGANIZE PARTITION p2 INTO (PARTITION p3 VALUES LESS THAN (300), PARTITION p4 VALUES LESS THAN MAXVALUE)")
}

func (c *census) fulltext() error {
	n := DB + ".texts"
	return c.exec(
		"CREATE TABLE "+n+" (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, t TEXT, FULLTEXT KEY ft (t)) ENGINE=InnoDB",
		fmt.Sprintf("INSERT INTO %s (t) SELECT CONCAT('redo word', n %% 30, ' page number', n %% 7, ' checkpoint') FROM %s WHERE n <= %d", n, numbers, c.rows/4),
		"DELETE FROM "+n+" WHERE id % 3 = 0", "UPDATE "+n+" SET t = CONCAT(t, ' changed') WHERE id % 5 = 0",
		"SET GLOBAL innodb_optimize_fulltext_only=ON", "OPTIMIZE TABLE "+n, "SET GLOBAL innodb_optimize_fulltext_only=OFF")
}

// spatial makes R-trees, which InnoDB has since 5.7.
func (c *census) spatial() error {
	if !c.root.AtLeast(5, 7) {
		return nil
	}
	point := "POINT NOT NULL"
	if c.root.AtLeast(8, 0) {
		point += " SRID 0"
	}
	for _, f := range []string{"REDUNDANT", "DYNAMIC", "COMPRESSED"} {
		if f == "COMPRESSED" && c.pageSize > 16384 {
			continue
		}
		n := DB + ".geo_" + strings.ToLower(f)
		if err := c.exec("CREATE TABLE "+n+" (id INT NOT NULL PRIMARY KEY, g "+point+", SPATIAL KEY g (g)) ENGINE=InnoDB ROW_FORMAT="+f,
			fmt.Sprintf("INSERT INTO %s SELECT n, POINT(CRC32(n) %% 1000, CRC32(n*7) %% 1000) FROM %s WHERE n <= %d", n, numbers, c.rows*2),
			"DELETE FROM "+n+" WHERE id % 3 = 0",
			fmt.Sprintf("UPDATE %s SET g = POINT(id %% 100, id %% 77) WHERE id %% 5 = 1", n)); err != nil {
			return err
		}
	}
	if err := c.purge(); err != nil {
		return err
	}
	for _, f := range []string{"redundant", "dynamic"} {
		n := DB + ".geo_" + f
		if err := c.exec(fmt.Sprintf("INSERT INTO %s SELECT n + 10000, POINT(n, n) FROM %s WHERE n <= %d", n, numbers, c.rows),
			"ALTER TABLE "+n+" DROP KEY g, ADD COLUMN z INT", "ALTER TABLE "+n+" ADD SPATIAL KEY g2 (g)"); err != nil {
			return err
		}
	}
	return nil
}

// systemTables puts tables into the system tablespace.
func (c *census) systemTables() error {
	in := table{"t_system", "ROW_FORMAT=COMPACT", 0}
	return c.exec("SET GLOBAL innodb_file_per_table=OFF", c.create(in), c.insert(in, "n"), "DELETE FROM "+in.full()+" WHERE id % 2 = 0",
		"SET GLOBAL innodb_file_per_table=ON")
}

// counters draws AUTO_INCREMENT values in many small transactions.
func (c *census) counters() error {
	n := DB + ".auto"
	if err := c.exec("CREATE TABLE " + n + " (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, w INT NOT NULL) ENGINE=InnoDB"); err != nil {
		return err
	}
	for i := range c.rows / 2 {
		if err := c.exec(fmt.Sprintf("INSERT INTO %s (w) VALUES (%d), (%d)", n, i, i+1)); err != nil {
			return err
		}
		if i%7 == 0 {
			if err := c.exec(fmt.Sprintf("UPDATE %s SET w = w + 1 WHERE id = %d", n, i), fmt.Sprintf("DELETE FROM %s WHERE id = %d", n, i/2)); err != nil {
				return err
			}
		}
	}
	return c.exec("ALTER TABLE "+n+" AUTO_INCREMENT = 100000", "INSERT INTO "+n+" (w) VALUES (1)", "DELETE FROM "+n+" WHERE id = 100000")
}

// unlogged lets the server leave the images of compressed pages out of the log,
// so that recovery has to compress.
func (c *census) unlogged() error {
	var zips, untouched []table
	for _, t := range c.tables() {
		if t.zip > 0 {
			zips = append(zips, t)
			untouched = append(untouched, table{"u_" + t.name, t.clause, t.zip})
		}
	}
	// Deleted rows of all shapes, in tables that nothing changes afterwards.
	for _, t := range untouched {
		if err := c.exec(c.create(t), c.insert(t, "n*2"), "UPDATE "+t.full()+" SET v = NULL, c = NULL WHERE id % 8 = 0",
			"DELETE FROM "+t.full()+" WHERE id % 6 = 0"); err != nil {
			return err
		}
	}
	if err := errors.Join(c.purge(), c.exec("SET GLOBAL innodb_log_compressed_pages=OFF")); err != nil {
		return err
	}
	for _, t := range untouched {
		for i := range 6 {
			// One row at a time in between, so that rows of one shape take the place
			// of others.
			if err := c.exec(fmt.Sprintf("INSERT IGNORE INTO %s (id, k, v, c, n, b) SELECT n*2 + 1, n, IF(n %% 3 = %d, NULL, REPEAT('i', n %% %d)), IF(n %% 4 = 1, NULL, 'c'), n, IF(n %% 5, NULL, 'b') FROM %s WHERE n %% 6 = %d AND n <= %d ORDER BY CRC32(n)",
				t.full(), i%3, t.width(), numbers, i, c.rows)); err != nil {
				return err
			}
		}
	}
	for _, t := range zips {
		n := t.full()
		if err := c.exec(c.insert(t, "n*2 + 70000000"), c.insert(t, "CRC32(n) % 1000 + 70000000"),
			fmt.Sprintf("UPDATE %s SET v = REPEAT('u', id %% %d) WHERE id > 70000000 AND id %% 2 = 0", n, t.width()),
			"UPDATE "+n+" SET w = REVERSE(w), c = 'grown' WHERE id % 3 = 0",
			"DELETE FROM "+n+" WHERE id > 70000000 AND id % 4 > 0"); err != nil {
			return err
		}
	}
	return errors.Join(c.purge(), c.exec("SET GLOBAL innodb_log_compressed_pages=ON"))
}

// generalSpaces puts tables into tablespaces of their own (5.7 and later).
func (c *census) generalSpaces() error {
	if !c.root.AtLeast(5, 7) {
		return nil
	}
	a, b := table{"t_general", "TABLESPACE=census_ts ROW_FORMAT=DYNAMIC", 0}, table{"t_general2", "TABLESPACE=census_ts ROW_FORMAT=REDUNDANT", 0}
	if err := c.exec("CREATE TABLESPACE census_ts ADD DATAFILE 'census_ts.ibd' ENGINE=InnoDB", c.create(a), c.create(b), c.insert(a, "n"), c.insert(b, "n*3"),
		"DROP TABLE "+b.full(), "ALTER TABLE "+a.full()+" ENGINE=InnoDB", c.insert(a, "n*4 + 1")); err != nil {
		return err
	}
	return c.exec("CREATE TABLESPACE census_ts2 ADD DATAFILE 'census_ts2.ibd' ENGINE=InnoDB", "DROP TABLESPACE census_ts2")
}

// virtual changes rows whose virtual columns are indexed (5.7 and later).
func (c *census) virtual() error {
	if !c.root.AtLeast(5, 7) {
		return nil
	}
	n := DB + ".virt"
	return c.exec("CREATE TABLE "+n+" (id INT NOT NULL PRIMARY KEY, a INT, t INT AS (a * 2) VIRTUAL, s VARCHAR(30), KEY t (t)) ENGINE=InnoDB",
		fmt.Sprintf("INSERT INTO %s (id, a, s) SELECT n, n, 'virtual' FROM %s WHERE n <= %d", n, numbers, c.rows),
		"UPDATE "+n+" SET a = a + 1 WHERE id % 3 = 0", "UPDATE "+n+" SET s = REVERSE(s)", "DELETE FROM "+n+" WHERE id % 5 = 0")
}

// instant changes rows of several versions (8.0 and later).
func (c *census) instant() error {
	if !c.root.AtLeast(8, 0) {
		return nil
	}
	for _, f := range []string{"REDUNDANT", "COMPACT", "DYNAMIC"} {
		t := table{"inst_" + strings.ToLower(f), "ROW_FORMAT=" + f, 0}
		n := t.full()
		if err := c.exec(c.create(t), c.insert(t, "n*3"),
			"ALTER TABLE "+n+" ADD COLUMN i1 INT NOT NULL DEFAULT 7 AFTER id, ALGORITHM=INSTANT", c.insert(t, "n*3 + 1"),
			"UPDATE "+n+" SET i1 = i1 + 1 WHERE id % 2 = 0",
			"ALTER TABLE "+n+" ADD COLUMN i2 VARCHAR(40) DEFAULT 'two', ALGORITHM=INSTANT",
			"UPDATE "+n+" SET i2 = REPEAT('2', id % 40), n = NULL WHERE id % 3 = 0",
			"ALTER TABLE "+n+" DROP KEY c", "ALTER TABLE "+n+" DROP COLUMN n, ALGORITHM=INSTANT", c.insertInstant(t, "n*3 + 2"),
			"UPDATE "+n+" SET i1 = 3, w = REPEAT('i', id % 30) WHERE id % 4 = 1",
			"UPDATE "+n+" SET i2 = NULL WHERE id % 5 = 1",
			"ALTER TABLE "+n+" ADD COLUMN i3 CHAR(10) FIRST, ALGORITHM=INSTANT",
			"UPDATE "+n+" SET i3 = 'third', k = k + 1 WHERE id % 3 = 1",
			// More columns that can be NULL than a byte has bits.
			"ALTER TABLE "+n+" ADD COLUMN a1 INT, ADD COLUMN a2 CHAR(3), ADD COLUMN a3 VARCHAR(9), ADD COLUMN a4 INT, ADD COLUMN a5 INT, ADD COLUMN a6 INT, ALGORITHM=INSTANT",
			"UPDATE "+n+" SET a2 = 'two', a6 = id WHERE id % 5 = 0",
			"UPDATE "+n+" SET k = k + 1, w = REVERSE(w) WHERE id % 7 = 0",
			"DELETE FROM "+n+" WHERE id % 4 <> 0", c.insertInstant(t, "n*5 + 900000"),
			"BEGIN", "UPDATE "+n+" SET i1 = 9, i3 = NULL, v = 'rolled back'", "ROLLBACK"); err != nil {
			return err
		}
	}
	return c.purge()
}

// insertInstant is insert for the tables that have lost their column n.
func (c *census) insertInstant(t table, id string) string {
	return fmt.Sprintf("INSERT IGNORE INTO %s (id, k, v, c) SELECT %s, n, REPEAT('v', n %% 200), IF(n %% 5, HEX(n), NULL) FROM %s WHERE n <= %d", t.full(), id, numbers, c.rows)
}

// undoSpaces creates, truncates and drops undo tablespaces (8.0 and later).
func (c *census) undoSpaces() error {
	if !c.root.AtLeast(8, 0) {
		return nil
	}
	if err := c.exec("CREATE UNDO TABLESPACE census_undo ADD DATAFILE 'census_undo.ibu'",
		"UPDATE "+DB+".t_dynamic SET k = k + 1", "ALTER UNDO TABLESPACE innodb_undo_001 SET INACTIVE",
		"UPDATE "+DB+".t_dynamic SET k = k + 1"); err != nil {
		return err
	}
	if err := c.await("SELECT COUNT(*) FROM information_schema.innodb_tablespaces WHERE name = 'innodb_undo_001' AND state = 'empty'"); err != nil {
		return err
	}
	if err := c.exec("ALTER UNDO TABLESPACE innodb_undo_001 SET ACTIVE", "UPDATE "+DB+".t_dynamic SET k = k + 1",
		"ALTER UNDO TABLESPACE census_undo SET INACTIVE"); err != nil {
		return err
	}
	if err := c.await("SELECT COUNT(*) FROM information_schema.innodb_tablespaces WHERE name = 'census_undo' AND state = 'empty'"); err != nil {
		return err
	}
	return c.exec("DROP UNDO TABLESPACE census_undo", "UPDATE "+DB+".t_dynamic SET k = k + 1")
}

// waitFor bounds the waits for the server's own threads.
const waitFor = 2 * time.Minute

// await waits until a query returns 1.
func (c *census) await(q string) error {
	for end := time.Now().Add(waitFor); ; {
		var n int
		if err := c.c.QueryRowContext(c.ctx, q).Scan(&n); err != nil {
			return fmt.Errorf("census on %s: %s: %w", c.root.Name, q, err)
		}
		if n == 1 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("census on %s: it did not happen within %v: %s", c.root.Name, waitFor, q)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// purge waits until the server has removed what was deleted: until its purge
// thread has been idle for a while. (The length of the history says nothing: it
// is cut only now and then.)
func (c *census) purge() error {
	idle := 0
	for end := time.Now().Add(waitFor); idle < 8; time.Sleep(10 * time.Millisecond) {
		var kind, name, status string
		if err := c.c.QueryRowContext(c.ctx, "SHOW ENGINE INNODB STATUS").Scan(&kind, &name, &status); err != nil {
			return fmt.Errorf("census on %s: %w", c.root.Name, err)
		}
		idle++
		if !strings.Contains(status, "state: running but idle") {
			idle = 0
		}
		if time.Now().After(end) {
			return fmt.Errorf("census on %s: what was deleted is not purged after %v", c.root.Name, waitFor)
		}
	}
	return nil
}
