package export_test

import (
	"database/sql"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/createtable"
	"hb/xbstream/innodb/sdi"
)

func manyValues(format string, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = "'" + fmt.Sprintf(format, i) + "'"
	}
	return strings.Join(list, ",")
}

// shownTables are the statements that a server shows of the tables of a database, in the
// session that package createtable describes, and their next AUTO_INCREMENT.
func shownTables(t *testing.T, s *mysqldtest.Server, db string) (shown map[string]string, next map[string]uint64) {
	t.Helper()
	c := s.Conn(t)
	ctx := t.Context()
	session := createtable.Session
	if !s.Root.MariaDB() && s.Root.AtLeast(8, 0) {
		session = append([]string{"SET SESSION information_schema_stats_expiry=0"}, session...)
	}
	for _, q := range session {
		if _, err := c.ExecContext(ctx, q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	rows, err := c.QueryContext(ctx, "SELECT TABLE_NAME, IFNULL(AUTO_INCREMENT,0) FROM information_schema.TABLES WHERE TABLE_SCHEMA=? AND TABLE_TYPE='BASE TABLE'", db)
	if err != nil {
		t.Fatal(err)
	}
	shown, next = map[string]string{}, map[string]uint64{}
	for rows.Next() {
		var name string
		var n uint64
		if err := rows.Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		next[name] = n
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	for name := range next {
		var create string
		if err := c.QueryRowContext(ctx, "SHOW CREATE TABLE `"+db+"`."+quoted(name)).Scan(&name, &create); err != nil {
			t.Fatal(err)
		}
		shown[name] = create
	}
	return shown, next
}

func quoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// definitions are the tables of a database that the documents in directories describe, and the
// documents of the tablespaces with them.
func definitions(t *testing.T, db string, dirs ...string) (tables map[string]*sdi.Table, spaces map[string]*sdi.Tablespace) {
	t.Helper()
	tables, spaces = map[string]*sdi.Table{}, map[string]*sdi.Tablespace{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".ibd") || e.Name() == "mysql.ibd" || strings.HasPrefix(e.Name(), "fts_") {
				return err
			}
			list, err := sdi.Read(open(t, path, nil))
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			var space *sdi.Tablespace
			var names []string
			for _, d := range list {
				if d.Type == sdi.TypeTablespace {
					if space, err = d.Tablespace(); err != nil {
						return err
					}
					continue
				}
				table, err := d.Table()
				if err != nil {
					return err
				}
				if table.Schema == db {
					tables[table.Name] = table
					names = append(names, table.Name)
				}
			}
			for _, n := range names {
				spaces[n] = space
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return tables, spaces
}

// hbTables are hb's statements for the tables that documents describe.
func hbTables(t *testing.T, tables map[string]*sdi.Table, spaces map[string]*sdi.Tablespace, next map[string]uint64) map[string]string {
	t.Helper()
	statements := map[string]string{}
	for name, table := range tables {
		create, err := createtable.FromSDI(table, createtable.Options{Space: spaces[name], AutoIncrement: next[name]})
		if err != nil {
			t.Error(err)
		}
		statements[name] = create
	}
	return statements
}

// compareShown compares hb's statements with the server's.
func compareShown(t *testing.T, got, want map[string]string) {
	t.Helper()
	same := 0
	for _, name := range slices.Sorted(maps.Keys(want)) {
		g := got[name]
		if marks := lossyKinds[name]; marks != "" {
			g = regexp.MustCompile(`[\x{10000}-\x{10FFFF}]`).ReplaceAllString(g, marks)
		}
		if g == want[name] {
			same++
			continue
		}
		t.Errorf("%s:\n%s", name, difference(strings.Split(g, "\n"), strings.Split(want[name], "\n")))
	}
	t.Logf("%d of %d statements are equal", same, len(want))
}

// lossyKinds have characters for which the server shows question marks.
var lossyKinds = map[string]string{"c_enums": "?", "c_enums2": "?", "c_bigenum2": "?", "c_emoji": "????"}

// makeAll makes tables of all kinds in the database t.
func makeAll(t *testing.T, s *mysqldtest.Server, dir string) {
	t.Helper()
	makeTables(t, s)
	s.Exec(t, "CREATE DATABASE other", "CREATE TABLE other.parent (a INT PRIMARY KEY)", "CREATE TABLESPACE ts ADD DATAFILE 'ts.ibd'")
	c := s.Conn(t)
	for _, n := range slices.Sorted(maps.Keys(createKinds)) {
		for _, q := range createKinds[n] {
			run(t, c, strings.ReplaceAll(strings.ReplaceAll(q, "%s", "t.c_"+n), "$DIR", dir))
		}
	}
}

func run(t *testing.T, c *sql.Conn, q string) bool {
	t.Helper()
	_, err := c.ExecContext(t.Context(), q)
	if err != nil {
		t.Errorf("%s: %v", q, err)
	}
	return err == nil
}

// TestCreateTable: the statements that hb makes of documents are those that the server shows,
// and the server makes the same tables of them, in one step and without FULLTEXT indexes and
// foreign keys first.
func TestCreateTable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	o := mysqldtest.Options{Config: []string{"innodb-directories=" + dir}}
	root := mysqldtest.Need(t, mysqldtest.MySQL97)
	s := mysqldtest.Start(t, root, o)
	makeAll(t, s, dir)
	want, next := shownTables(t, s, "t")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	tables, spaces := definitions(t, "t", s.Datadir, dir)
	hb := hbTables(t, tables, spaces, next)
	compareShown(t, hb, want)

	s = mysqldtest.StartOn(t, root, s.Datadir, o)
	made := map[string]map[string]string{} // by database, what it shows of them
	for _, db := range []string{"whole", "split", "theirs"} {
		c := s.Conn(t)
		for _, q := range append([]string{"CREATE DATABASE " + db, "USE " + db, "SET SESSION foreign_key_checks=0"}, createtable.Session...) {
			run(t, c, q)
		}
		var later []string
		for _, name := range slices.Sorted(maps.Keys(hb)) {
			switch {
			case db == "split":
				later = append(later, makeSplit(t, c, name, hb[name])...)
			case db == "whole" || lossyKinds[name] != "":
				run(t, c, hb[name])
			default:
				run(t, c, want[name])
			}
		}
		for _, q := range later {
			run(t, c, q)
		}
		made[db], _ = shownTables(t, s, db)
	}
	compareShown(t, made["whole"], made["theirs"])
	for name, create := range made["theirs"] { // hb leaves directories out of what it takes apart
		made["theirs"][name] = withoutDirectory.ReplaceAllString(create, "")
	}
	compareShown(t, made["split"], made["theirs"])
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	again, _ := definitions(t, "whole", s.Datadir, dir)
	for name := range lossyKinds {
		compareTexts(t, tables[name], again[name])
	}
}

// compareTexts compares what servers do not show of two tables.
func compareTexts(t *testing.T, a, b *sdi.Table) {
	t.Helper()
	texts := func(table *sdi.Table) (list []string) {
		for _, c := range table.Columns {
			list = append(list, c.Name, c.Generation, c.DefaultExpression)
			for _, e := range c.Elements {
				list = append(list, string(e.Name))
			}
		}
		for _, c := range table.Checks {
			list = append(list, string(c.Clause))
		}
		return list
	}
	if l, m := texts(a), texts(b); !slices.Equal(l, m) || len(l) < 6 {
		t.Errorf("%s:\n%s", a.Name, difference(m, l))
	}
}

var withoutDirectory = regexp.MustCompile(` DATA DIRECTORY ?= ?'/[^']*'`)

// makeSplit makes a table without FULLTEXT indexes and foreign keys, and returns the
// statements that add them.
func makeSplit(t *testing.T, c *sql.Conn, name, create string) (later []string) {
	t.Helper()
	split, err := createtable.Parse(create)
	if err != nil {
		t.Error(err)
		return nil
	}
	if !run(t, c, split.Create) {
		return nil
	}
	for _, clause := range slices.Concat(split.FullText, split.Vector, split.Foreign) {
		later = append(later, "ALTER TABLE "+quoted(name)+" "+clause)
	}
	return later
}

// TestCreateTableEngines: hb's statements are the server's also for tables of other engines,
// whose documents are files of their own.
func TestCreateTableEngines(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE t",
		"CREATE TABLE t.myisam (a INT AUTO_INCREMENT PRIMARY KEY, b VARCHAR(50), c TEXT, d GEOMETRY NOT NULL SRID 0, FULLTEXT (c), SPATIAL (d), KEY (b(7)) USING BTREE, KEY (b)) ENGINE=MyISAM PACK_KEYS=1 CHECKSUM=1 DELAY_KEY_WRITE=1 ROW_FORMAT=DYNAMIC MAX_ROWS=5 MIN_ROWS=2 AVG_ROW_LENGTH=7 COMMENT='x'",
		"CREATE TABLE t.fixed (a INT, b CHAR(5), KEY (a) KEY_BLOCK_SIZE=2048) ENGINE=MyISAM ROW_FORMAT=FIXED PACK_KEYS=0 KEY_BLOCK_SIZE=1024",
		"CREATE TABLE t.csv (a INT NOT NULL, b VARCHAR(9) NOT NULL) ENGINE=CSV", "CREATE TABLE t.archive (a INT AUTO_INCREMENT, b TEXT, KEY (a)) ENGINE=ARCHIVE",
		"CREATE TABLE t.memory (a INT, b VARCHAR(9), KEY (a), KEY (b) USING BTREE, UNIQUE (a,b) USING HASH) ENGINE=MEMORY MAX_ROWS=9", "CREATE TABLE t.blackhole (a INT, b JSON) ENGINE=BLACKHOLE")
	want, next := shownTables(t, s, "t")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(s.Datadir, "t", "*.sdi"))
	if err != nil || len(files) != len(want) {
		t.Fatalf("%q, %v", files, err)
	}
	tables := map[string]*sdi.Table{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		table, err := (&sdi.Document{Type: sdi.TypeTable, JSON: b}).Table()
		if err != nil {
			t.Fatal(err)
		}
		tables[table.Name] = table
	}
	compareShown(t, hbTables(t, tables, nil, next), want)
}

// TestCreateTableEncryption: a table without encryption in a database that has it by default is
// shown with ENCRYPTION='N', in a general tablespace in a comment.
func TestCreateTableEncryption(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE t DEFAULT ENCRYPTION='Y'", "CREATE TABLE t.own (a INT) ENCRYPTION='N' COMMENT 'x'", "CREATE TABLESPACE ts ADD DATAFILE 'ts.ibd'",
		"CREATE TABLE t.general (a INT) TABLESPACE ts ENCRYPTION='N' COMMENT 'x'")
	want, _ := shownTables(t, s, "t")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	tables, spaces := definitions(t, "t", s.Datadir)
	for name, create := range want {
		got, err := createtable.FromSDI(tables[name], createtable.Options{Space: spaces[name], SchemaEncrypted: true})
		if err != nil || got != create || !strings.Contains(got, "ENCRYPTION='N'") {
			t.Errorf("%v:\n%s\n%s", err, got, create)
		}
	}
}

// TestCreateTableLists: collations and keywords are those that the server has.
func TestCreateTableLists(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	n := 0
	for _, r := range s.Rows(t, "SELECT ID, COLLATION_NAME, CHARACTER_SET_NAME, IS_DEFAULT='Yes' FROM information_schema.COLLATIONS") {
		id, err := strconv.ParseUint(r[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		table := sdi.Table{Name: "t", Collation: id, Columns: []sdi.Column{{Name: "a", Type: sdi.ColumnLong}}}
		got, err := createtable.FromSDI(&table, createtable.Options{})
		want := " DEFAULT CHARSET=" + r[2]
		if r[3] != "1" || r[1] == "utf8mb4_0900_ai_ci" {
			want += " COLLATE=" + r[1]
		}
		if err != nil || !strings.HasSuffix(got, want) {
			t.Errorf("%v: %v\n%s", r, err, got)
		}
		n++
	}
	words := s.Rows(t, "SELECT LOWER(WORD) FROM information_schema.KEYWORDS UNION SELECT 'abs' UNION SELECT 'hb' UNION SELECT 'ü' UNION SELECT '1x' UNION SELECT '17' UNION SELECT '$x' UNION SELECT 'x$' UNION SELECT 'substring'")
	var create strings.Builder
	for _, r := range words {
		fmt.Fprintf(&create, ",PARTITION `%s`", r[0])
	}
	s.Exec(t, "CREATE DATABASE t", "CREATE TABLE t.words (a INT) ENGINE=InnoDB PARTITION BY KEY (a) ("+create.String()[1:]+")")
	want, _ := shownTables(t, s, "t")
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	tables, spaces := definitions(t, "t", s.Datadir)
	compareShown(t, hbTables(t, tables, spaces, nil), want)
	t.Logf("%d collations, %d words", n, len(words))
}
