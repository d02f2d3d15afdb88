package export_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"hb/source/mysqld/mysqldtest"
	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
)

// columnBytes makes the column of a row: every second one is hard to compress.
func columnBytes(id int) []byte {
	sizes := []int{0, 1, 127, 128, 255, 256, 700, 768, 769, 788, 2000, 8000, 8200, 16300, 16384, 20000, 70000, 131072, 131073, 400000, 1000000}
	size := sizes[id%len(sizes)]
	if id%2 == 0 {
		return bytes.Repeat([]byte(fmt.Sprintf("row %d; ", id)), size/6+1)[:size]
	}
	r := rand.New(rand.NewPCG(uint64(id), 1))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// rowFormats are forms of the same table.
var rowFormats = map[string]string{
	"redundant": "ROW_FORMAT=REDUNDANT", "compact": "ROW_FORMAT=COMPACT", "dynamic": "ROW_FORMAT=DYNAMIC",
	"zip16": "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=16", "zip8": "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8",
	"zip4": "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=4", "zip2": "ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=2",
}

const columnRows = 84

// TestColumns: btree reads, from the files of six servers and in all row formats, the rows
// that were written, with columns of none to a million bytes.
func TestColumns(t *testing.T) {
	all := append(append([]string(nil), mysqldtest.MySQL...), mysqldtest.MariaDB...)
	mysqldtest.EachServer(t, all, mysqldtest.Options{Config: []string{"max-allowed-packet=64M"}}, func(t *testing.T, s *mysqldtest.Server) {
		s.Exec(t, "CREATE DATABASE t")
		for name, form := range rowFormats {
			s.Exec(t, fmt.Sprintf("CREATE TABLE t.%s (id INT NOT NULL PRIMARY KEY, b LONGBLOB, c VARCHAR(300), d CHAR(5) NOT NULL) CHARSET latin1 %s", name, form))
			for id := range columnRows {
				var b any = columnBytes(id)
				if id%9 == 8 {
					b = nil
				}
				if _, err := s.DB().ExecContext(t.Context(), "INSERT INTO t."+name+" VALUES (?,?,?,?)", id, b, strings.Repeat("c", id*2), "d"); err != nil {
					t.Fatal(err)
				}
			}
			s.Exec(t, "DELETE FROM t."+name+" WHERE id=40")
		}
		trees := map[string]*btree.Tree{}
		for name := range rowFormats {
			trees[name] = clustered(t, s, name)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		for name, tree := range trees {
			tree.Pages = open(t, filepath.Join(s.Datadir, "t", name+".ibd"), nil)
			tree.Format = btree.Format{Compact: name != "redundant", Key: 1, Fields: []btree.Field{
				{Fixed: 4}, {Fixed: 6}, {Fixed: 7}, {Long: true, Nullable: true}, {Long: true, Nullable: true}, {Fixed: 5}}}
			if n := checkColumns(t, name, tree); n != columnRows-1 {
				t.Errorf("%s: %d rows", name, n)
			}
		}
	})
}

// clustered returns the clustered index of a table in database t, as the server describes it.
func clustered(t *testing.T, s *mysqldtest.Server, name string) *btree.Tree {
	t.Helper()
	tables, indexes := "INNODB_SYS_TABLES", "INNODB_SYS_INDEXES"
	if !s.Root.MariaDB() && s.Root.AtLeast(8, 0) {
		tables, indexes = "INNODB_TABLES", "INNODB_INDEXES"
	}
	tree := new(btree.Tree)
	row := s.DB().QueryRowContext(t.Context(), fmt.Sprintf(`SELECT i.INDEX_ID, i.PAGE_NO FROM information_schema.%s t JOIN information_schema.%s i USING (TABLE_ID) WHERE t.NAME=? AND i.NAME='PRIMARY'`, tables, indexes), "t/"+name)
	if err := row.Scan(&tree.ID, &tree.Root); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return tree
}

// checkColumns compares all rows of a tree with those that were written, and counts them.
func checkColumns(t *testing.T, name string, tree *btree.Tree) (n int) {
	t.Helper()
	last, pages := -1, map[innodb.PageNo]bool{}
	err := tree.Walk(func(r *btree.Record) error {
		if r.Deleted {
			return nil
		}
		n++
		pages[r.Page] = true
		id := int(bigEndian(r.Fields[0].Data)) - 1<<31
		if id <= last {
			t.Errorf("%s: row %d comes after row %d", name, id, last)
		}
		last = id
		got, err := tree.External(r.Fields[3], 4<<20)
		if err != nil {
			return fmt.Errorf("row %d: %w", id, err)
		}
		if r.Fields[3].Null != (id%9 == 8) || !r.Fields[3].Null && !bytes.Equal(got, columnBytes(id)) {
			t.Errorf("%s: row %d: %d bytes, NULL %v, not %d", name, id, len(got), r.Fields[3].Null, len(columnBytes(id)))
		}
		if string(r.Fields[4].Data) != strings.Repeat("c", id*2) || string(r.Fields[5].Data) != "d    " {
			t.Errorf("%s: row %d: %q, %q", name, id, r.Fields[4].Data, r.Fields[5].Data)
		}
		return nil
	})
	if err != nil || len(pages) < 2 {
		t.Errorf("%s: %d leaf pages, %v", name, len(pages), err)
	}
	return n
}

func bigEndian(b []byte) (v uint64) {
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v
}

// TestChangedColumns: of a column that MySQL changed in parts, while a transaction still saw
// the former one, btree reads the newest version; with the reference's version changed to
// that of the first, it reads the first one.
func TestChangedColumns(t *testing.T) {
	s := mysqldtest.Start(t, mysqldtest.Need(t, mysqldtest.MySQL97), mysqldtest.Options{})
	s.Exec(t, "CREATE DATABASE t")
	forms := []string{"dynamic", "zip8"}
	value := func(key, version int) string {
		return fmt.Sprintf("<%03d.%03d%s>", key, version, strings.Repeat("-", 800))
	}
	const keys, changes = 200, 12
	old := s.Conn(t)
	for _, name := range forms {
		s.Exec(t, fmt.Sprintf("CREATE TABLE t.%s (id INT NOT NULL PRIMARY KEY, j JSON) %s", name, rowFormats[name]))
		var doc []string
		for k := range keys {
			doc = append(doc, fmt.Sprintf(`"k%d":"%s"`, k, value(k, 0)))
		}
		s.Exec(t, "INSERT INTO t."+name+" VALUES (1, '{"+strings.Join(doc, ",")+"}')")
	}
	for _, q := range []string{"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT", "SELECT COUNT(*) FROM t.dynamic"} {
		if _, err := old.ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	want := make([]int, keys)
	trees := map[string]*btree.Tree{}
	for _, name := range forms {
		for v := 1; v <= changes; v++ {
			k := v * 7 % 40
			want[k] = v
			s.Exec(t, fmt.Sprintf(`UPDATE t.%s SET j=JSON_SET(j,'$.k%d','%s')`, name, k, value(k, v)))
		}
		trees[name] = clustered(t, s, name)
	}
	s.WriteOut(t)
	for name, tree := range trees {
		tree.Pages = open(t, filepath.Join(s.Datadir, "t", name+".ibd"), nil)
		tree.Format = btree.Format{Compact: true, Key: 1, Fields: []btree.Field{{Fixed: 4}, {Fixed: 6}, {Fixed: 7}, {Long: true, Nullable: true}}}
		err := tree.Walk(func(r *btree.Record) error {
			v := r.Fields[3]
			newest, err := tree.External(v, 1<<20)
			if err != nil {
				return err
			}
			ref := bytes.Clone(v.Data)
			if ref[len(ref)-9] < changes { // the version's last byte
				t.Errorf("%s: version %d: the server changed the whole column", name, ref[len(ref)-9])
			}
			ref[len(ref)-9] = 1
			v.Data = ref
			oldest, err := tree.External(v, 1<<20)
			if err != nil {
				return err
			}
			for k := range keys {
				if !bytes.Contains(newest, []byte(value(k, want[k]))) || !bytes.Contains(oldest, []byte(value(k, 0))) {
					t.Errorf("%s: value %d is not version %d, or was not 0", name, k, want[k])
				}
			}
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
