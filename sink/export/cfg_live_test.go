package export_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hb/sink/export"
	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb/cfg"
	"hb/xbstream/innodb/dict"
	"hb/xbstream/innodb/sdi"
)

var allServers = append(slices.Clone(mysqldtest.MySQL), mysqldtest.MariaDB...)

// exportTables runs FLUSH TABLES … FOR EXPORT for each table of the database t, and returns
// the .cfg files by the names of tablespaces.
func exportTables(t *testing.T, s *mysqldtest.Server, db string, names []string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	conn := s.Conn(t)
	for _, name := range names {
		if _, err := conn.ExecContext(t.Context(), "FLUSH TABLES "+db+".`"+name+"` FOR EXPORT"); err != nil {
			t.Fatalf("%s: FLUSH TABLES %s FOR EXPORT: %v", s.Root.Name, name, err)
		}
		all, err := filepath.Glob(filepath.Join(s.Datadir, db, "*.cfg"))
		if err != nil || len(all) == 0 {
			t.Fatalf("%s: no .cfg file of %s: %v", s.Root.Name, name, err)
		}
		for _, file := range all {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			files[strings.TrimSuffix(filepath.Base(file), ".cfg")] = b
		}
		if _, err := conn.ExecContext(t.Context(), "UNLOCK TABLES"); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestCfg: hb's .cfg files are those that FLUSH TABLES … FOR EXPORT of six servers writes, for
// tables of all kinds.
func TestCfg(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		names := makeTables(t, s)
		want := exportTables(t, s, "t", names)
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		compareCfg(t, s, "t", want)
	})
}

// someRows are rows for tables of some kinds.
var someRows = map[string]string{
	"keys":        "INSERT INTO %s (a,b,c,d,e,f) VALUES (1,'abcdefgh',REPEAT('c',5000),REPEAT('d',150),7,'f'),(2,'abcdefgx','c',NULL,NULL,'g')",
	"nokey":       "INSERT INTO %s VALUES (1,'x'),(NULL,NULL),(1,'x')",
	"strings":     "INSERT INTO %s (a,c,e,h,l,o,p,r) VALUES ('a','c','e','h',REPEAT('l',20000),'b','x,z','')",
	"f_redundant": "INSERT INTO %s VALUES ('a','b','c',REPEAT('d',30000),1),('b',NULL,'c',NULL,2)",
	"f_compact":   "INSERT INTO %s VALUES ('a','b','c',REPEAT('d',30000),1),('b',NULL,'c',NULL,2)",
	"zip8":        "INSERT INTO %s VALUES (1,'x',REPEAT('d',60000)),(2,NULL,NULL)",
	"generated":   "INSERT INTO %s (a,b,c) VALUES (1,1,'c'),(2,NULL,'d')",
	"part":        "INSERT INTO %s (a,b) VALUES (1,'x'),(100,'y')",
	"json":        `INSERT INTO %s VALUES (1,'{"a":1}','[1]')`,
	"cs_utf8mb4":  "INSERT INTO %s (a,c) VALUES ('ä','ö'),('b','')",
	"multivalued": `INSERT INTO %s VALUES (1,'{"x":[1,2,3],"y":["a","b"]}')`,
	"functional":  "INSERT INTO %s VALUES (1,'ABC'),(2,NULL)",
	"desc8":       "INSERT INTO %s VALUES (1,'ABC',3),(2,'x',NULL)",
	"spatial":     "INSERT INTO %s (a,g,p) VALUES (1,ST_GeomFromText('POINT(1 2)'),ST_GeomFromText('POINT(3 4)'))",
	"pagecomp":    "INSERT INTO %s VALUES (1,REPEAT('x',150))",
	"instantadd":  "INSERT INTO %s VALUES (5,6,'seven')",
	"unikey":      "INSERT INTO %s VALUES (1,'a',2),(NULL,'b',3)",
	"instantpart": "INSERT INTO %s VALUES (11,12,13),(14,15,16)",
	"foreign":     "INSERT INTO %s VALUES (1,1),(2,NULL)",
}

// TestImport: all servers import tablespaces of tables of all kinds with hb's .cfg files,
// without a warning, and have the rows of the original.
func TestImport(t *testing.T) {
	mysqldtest.EachServer(t, allServers, mysqldtest.Options{}, func(t *testing.T, s *mysqldtest.Server) {
		kinds := makeTables(t, s)
		for _, name := range kinds {
			if q := someRows[name]; q != "" {
				s.Exec(t, strings.ReplaceAll(q, "%s", "t."+name))
			}
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		root, datadir := s.Root, s.Datadir
		spaces := tablespaces(t, datadir, kinds)
		files := buildCfg(t, s, "t", slices.Concat(slices.Collect(maps.Values(spaces))...))
		s = mysqldtest.StartOn(t, root, datadir, mysqldtest.Options{})
		s.Exec(t, "CREATE DATABASE u")
		imported := 0
		for _, name := range kinds {
			if isRefused(root, name) {
				continue
			}
			if importTable(t, s, name, spaces[name], files) {
				imported++
			}
		}
		s.Exec(t, "INSERT INTO u.numbers (b,d,h,j,l,n,q,s) VALUES (1,1,b'1',1,1,2000,'10:00:00','2020-01-01')")
		if next := s.Value(t, "SELECT MAX(e) FROM u.numbers"); next != "3" {
			t.Errorf("%s: the next AUTO_INCREMENT is %s", root.Name, next)
		}
		t.Logf("%s: %d of %d tables are imported", root.Name, imported, len(kinds))
	})
}

// isRefused reports whether a server does not import its own export of a table, whose .cfg file
// hb's is equal to.
func isRefused(root *mysqldtest.Root, name string) bool {
	switch {
	case name == "keys": // 5.6 looks for the prefix of a column, and finds the column
		return root.Name == mysqldtest.MySQL56
	case strings.HasPrefix(name, "instant") && name != "instantadd":
		// 10.5 says "Metadata record is missing", and CHECK TABLE that the table is damaged.
		return root.Name == mysqldtest.MariaDB105
	case name == "part" || name == "subpart": // MariaDB has no IMPORT PARTITION
		return root.MariaDB()
	}
	return false
}

// tablespaces returns the names of the tablespaces that tables have, without .ibd.
func tablespaces(t *testing.T, datadir string, tables []string) map[string][]string {
	t.Helper()
	spaces := map[string][]string{}
	for _, name := range tables {
		for _, pattern := range []string{name + ".ibd", name + "#[Pp]#*.ibd"} {
			all, err := filepath.Glob(filepath.Join(datadir, "t", pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range all {
				spaces[name] = append(spaces[name], strings.TrimSuffix(filepath.Base(f), ".ibd"))
			}
		}
		if len(spaces[name]) == 0 {
			t.Fatalf("table %s has no tablespace", name)
		}
	}
	return spaces
}

// importTable makes the table again in database u, and imports the tablespaces of the one in t.
func importTable(t *testing.T, s *mysqldtest.Server, name string, spaces []string, files map[string]*cfg.File) bool {
	t.Helper()
	return importBy(t, s, name, spaces, func(space string) {
		from := filepath.Join(s.Datadir, "t", space+".ibd")
		if err := mysqldtest.CopyFile(filepath.Join(s.Datadir, "u", space+".ibd"), from); err != nil {
			t.Fatal(err)
		}
		b, err := files[space].Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(s.Datadir, "u", space+".cfg"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	})
}

// importBy makes the table again in database u, and imports the tablespaces that put brings
// there.
func importBy(t *testing.T, s *mysqldtest.Server, name string, spaces []string, put func(space string)) bool {
	t.Helper()
	conn := s.Conn(t)
	run := func(q string) bool {
		if _, err := conn.ExecContext(t.Context(), q); err != nil {
			t.Errorf("%s: %s: %v", s.Root.Name, q, err)
			return false
		}
		return true
	}
	tables := ""
	if spaces[0] != name {
		tables = " PARTITION ALL"
	}
	create := s.Rows(t, "SHOW CREATE TABLE t.`"+name+"`")[0][1]
	target := "u.`" + name + "`"
	create = strings.Replace(create, "CREATE TABLE `", "CREATE TABLE u.`", 1)
	create = strings.ReplaceAll(create, "REFERENCES `", "REFERENCES `t`.`")
	if !run("SET foreign_key_checks=0") || !run(create) {
		return false
	}
	// A table that had a FULLTEXT index keeps a hidden column, and its index. Without them MySQL
	// refuses the tablespace, and MariaDB 10.11 and 11.8 make a damaged table of it.
	if name == "ftsdropped" && (!run("ALTER TABLE "+target+" ADD FULLTEXT KEY k (b)") || !run("ALTER TABLE "+target+" DROP KEY k")) {
		return false
	}
	if !run("ALTER TABLE " + target + " DISCARD" + tables + " TABLESPACE") {
		return false
	}
	for _, space := range spaces {
		put(space)
	}
	if !run("ALTER TABLE " + target + " IMPORT" + tables + " TABLESPACE") {
		return false
	}
	ok := true
	rows, err := conn.QueryContext(t.Context(), "SHOW WARNINGS")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var level, code, text string
		if err := rows.Scan(&level, &code, &text); err != nil {
			t.Fatal(err)
		}
		t.Errorf("%s: IMPORT of %s: %s %s %s", s.Root.Name, name, level, code, text)
		ok = false
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	check := s.Rows(t, "CHECK TABLE "+target+" EXTENDED")
	if check[0][3] != "OK" {
		t.Errorf("%s: %s: %v", s.Root.Name, name, check)
		ok = false
	}
	// Not their checksums: MySQL's depend on where JSON lies in memory.
	want, got := sortedRows(t, s, "t.`"+name+"`"), sortedRows(t, s, target)
	if !slices.Equal(want, got) {
		t.Errorf("%s: %s: %d rows, not %d: %.500q, not %.500q", s.Root.Name, name, len(got), len(want), got, want)
		ok = false
	}
	return ok
}

// sortedRows returns the rows of a table.
func sortedRows(t *testing.T, s *mysqldtest.Server, table string) (rows []string) {
	t.Helper()
	for _, r := range s.Rows(t, "SELECT * FROM "+table) {
		rows = append(rows, fmt.Sprintf("%q", r))
	}
	slices.Sort(rows)
	return rows
}

func compareCfg(t *testing.T, s *mysqldtest.Server, db string, want map[string][]byte) {
	t.Helper()
	got := buildCfg(t, s, db, slices.Sorted(maps.Keys(want)))
	same, counted := 0, 0
	for name, w := range want {
		f := got[name]
		if f == nil {
			continue
		}
		theirs := decodeCfg(t, name, w)
		f.Host = theirs.host
		if !s.Root.MariaDB() {
			f.AutoInc = theirs.autoInc
		} else if theirs.autoInc > 1 {
			counted++
		} else if f.AutoInc == 0 {
			f.AutoInc = theirs.autoInc // no row has had one
		}
		b, err := f.Marshal()
		if err != nil {
			t.Errorf("%s: %s: %v", s.Root.Name, name, err)
			continue
		}
		if bytes.Equal(b, w) {
			same++
			continue
		}
		t.Errorf("%s: %s: hb's .cfg has %d bytes, the server's %d:\n%s", s.Root.Name, name, len(b), len(w), difference(decodeCfg(t, name, b).lines, theirs.lines))
	}
	t.Logf("%s: %d of %d .cfg files are equal", s.Root.Name, same, len(want))
	if s.Root.MariaDB() && counted == 0 {
		t.Error("no table has had an AUTO_INCREMENT")
	}
}

// versionID is a server's version as one number.
func versionID(t *testing.T, root *mysqldtest.Root) int {
	var major, minor, patch int
	if n, err := fmt.Sscanf(root.Version, "%d.%d.%d", &major, &minor, &patch); n != 3 {
		t.Fatalf("version %q: %v", root.Version, err)
	}
	return major*10000 + minor*100 + patch
}

// buildCfg makes the .cfg files of tablespaces in the database t.
func buildCfg(t *testing.T, s *mysqldtest.Server, db string, names []string) map[string]*cfg.File {
	t.Helper()
	files := map[string]*cfg.File{}
	var d *dict.Dictionary
	eight := !s.Root.MariaDB() && s.Root.AtLeast(8, 0)
	if !eight {
		var err error
		if d, err = dict.Read(open(t, filepath.Join(s.Datadir, "ibdata1"), nil)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		pages := open(t, filepath.Join(s.Datadir, db, name+".ibd"), nil)
		var f *cfg.File
		var err error
		if eight {
			f, err = fromSDI(t, s, db, name, pages)
		} else if tb := d.Table(db + "/" + name); tb == nil {
			err = fmt.Errorf("the dictionary does not have it")
		} else {
			f, err = cfg.FromDict(tb, pages, versionID(t, s.Root))
		}
		if err != nil {
			t.Errorf("%s: %s: %v", s.Root.Name, name, err)
			continue
		}
		files[name] = f
	}
	return files
}

// fromSDI makes the file of a tablespace of MySQL 8. Of a partitioned table only the first
// tablespace has the document.
func fromSDI(t *testing.T, s *mysqldtest.Server, db, name string, pages *export.Pages) (*cfg.File, error) {
	t.Helper()
	base, partition, _ := strings.Cut(name, "#p#")
	own := pages
	if partition != "" {
		all, err := filepath.Glob(filepath.Join(s.Datadir, db, base+"#p#*.ibd"))
		if err != nil || len(all) == 0 {
			t.Fatal(err)
		}
		for _, file := range all {
			pages = open(t, file, nil)
			if list, err := sdi.Read(pages); err != nil {
				return nil, err
			} else if len(list) == 2 {
				break
			}
		}
	}
	list, err := sdi.Read(pages)
	if err != nil {
		return nil, err
	}
	table, err := list[0].Table()
	if err != nil {
		return nil, err
	}
	var part *sdi.Partition
	if partition != "" {
		if part = table.Partition(partition); part == nil {
			return nil, fmt.Errorf("there is no partition %q", partition)
		}
	}
	page0, err := own.Page(0)
	if err != nil {
		return nil, err
	}
	root, err := sdi.Root(own.Space(), page0)
	if err != nil {
		return nil, err
	}
	return cfg.FromSDI(table, part, db+"/"+name, own.Space(), root, versionID(t, s.Root))
}

// difference returns the lines in which two lists differ.
func difference(got, want []string) string {
	var b strings.Builder
	for i := range max(len(got), len(want)) {
		var g, w string
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			fmt.Fprintf(&b, "\thb     %s\n\tserver %s\n", g, w)
		}
	}
	return b.String()
}

// decoded is a .cfg file, to say how two of them differ.
type decoded struct {
	host    string
	autoInc uint64
	lines   []string
}

type cfgDecoder struct {
	t    *testing.T
	name string
	b    []byte
	v    uint32
}

func (d *cfgDecoder) take(n int) []byte {
	if n > len(d.b) {
		d.t.Fatalf("%s: the .cfg file is cut short", d.name)
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *cfgDecoder) u8() uint32  { return uint32(d.take(1)[0]) }
func (d *cfgDecoder) u16() uint32 { return uint32(binary.BigEndian.Uint16(d.take(2))) }
func (d *cfgDecoder) u32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *cfgDecoder) u64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }
func (d *cfgDecoder) text() string {
	return strings.TrimSuffix(string(d.take(int(d.u32()))), "\x00")
}

func (d *cfgDecoder) list(n int) (v []uint32) {
	for range n {
		v = append(v, d.u32())
	}
	return v
}

// decodeCfg takes a .cfg file apart, to its last byte.
func decodeCfg(t *testing.T, name string, b []byte) (f decoded) {
	t.Helper()
	d := &cfgDecoder{t: t, name: name, b: b}
	add := func(format string, args ...any) { f.lines = append(f.lines, fmt.Sprintf(format, args...)) }
	d.v = d.u32()
	f.host = d.text()
	add("version %d, table %s", d.v, d.text())
	f.autoInc = d.u64()
	head := d.list(3)
	add("page size %d, flags %#x, columns %d", head[0], head[1], head[2])
	if d.v >= 5 {
		add("instant nullable %d", d.u32())
	}
	if d.v >= 7 {
		add("initial, current, total, dropped, row version %d", d.list(5))
	}
	if d.v >= 2 {
		add("space flags %#x", d.u32())
	}
	if d.v >= 6 {
		add("compression %d", d.u8())
	}
	for range head[2] {
		d.column(add)
	}
	for range d.u32() {
		id, v := d.u64(), d.list(8)
		add("index %s: id %d; space, root, type, trx offset, user, unique, nulls, fields %d", d.text(), id, v)
		for range v[7] {
			n := 2
			if d.v >= 4 {
				n = 3
			}
			p := d.list(n)
			add("  field %s: prefix, fixed, ascending %d", d.text(), p)
		}
	}
	if len(d.b) != 0 {
		t.Errorf("%s: %d bytes are left of the .cfg file", name, len(d.b))
	}
	return f
}

func (d *cfgDecoder) column(add func(string, ...any)) {
	v := d.list(7)
	name := d.text()
	line := fmt.Sprintf("column %s: prtype %#x, mtype, len, mbminmax, ind, ord, max prefix %d", name, v[0], v[1:])
	if d.v >= 7 {
		added, dropped := uint32(0), uint32(0)
		if d.v >= 8 {
			added, dropped = d.u16(), d.u16()
		} else {
			added, dropped = d.u8(), d.u8()
		}
		line += fmt.Sprintf("; added, dropped %#x %#x, position %#x", added, dropped, d.u32())
		if dropped != 0xFF && dropped != 0xFFFF {
			line += fmt.Sprintf("; was %d %d", d.u8(), d.u8())
			was := d.list(3)
			line += fmt.Sprintf(" %d collation %d", was, d.u64())
			if was[1] == 22 || was[1] == 23 {
				for range d.u32() {
					line += fmt.Sprintf(" %q", d.text())
				}
			}
		}
	}
	if d.v >= 3 && d.u8() == 1 {
		if d.u8() == 1 {
			line += "; default NULL"
		} else {
			line += fmt.Sprintf("; default %x", d.take(int(d.u32())))
		}
	}
	add("%s", line)
}
