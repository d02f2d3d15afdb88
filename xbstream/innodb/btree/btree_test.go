package btree_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/innodbtest"
)

// The files in testdata were written by MySQL 5.6.24 and 9.7.4 and MariaDB 10.5.29, with
// pages of 4 KiB. dyn and red (ROW_FORMAT=REDUNDANT) are
//
//	CREATE TABLE t (id INT NOT NULL PRIMARY KEY, b LONGBLOB, c VARCHAR(300)) CHARSET latin1
//
// with rows 1 to 40: b is the byte 64+id, id*id*3 times (of row 40 9,000 times), c is "x",
// id*3 times, and NULL of each fifth row. Row 7 was deleted. js has one row, (1, JSON), with
// 40 strings k0 to k39 of 400 equal letters; then, while an older transaction could see it,
// k3, k6, k2, k5, k1 and k4 became 400 times 1, 2, 3, 4, 5 and 6.
var files = []struct {
	name string
	root innodb.PageNo
	id   uint64
}{
	{"mysql56-dyn", 3, 22}, {"mysql56-red", 3, 23}, {"mysql97-dyn", 4, 154}, {"mysql97-red", 4, 155},
	{"mariadb105-dyn", 3, 25}, {"mariadb105-red", 3, 26},
}

func tree(t testing.TB, name string, root innodb.PageNo, id uint64) *btree.Tree {
	t.Helper()
	return &btree.Tree{Pages: innodbtest.ReadStored(t, "testdata/"+name+".ibd.gz"), Root: root, ID: id, Format: format(!strings.HasSuffix(name, "red"))}
}

func format(compact bool) btree.Format {
	return btree.Format{Compact: compact, Key: 1, Fields: []btree.Field{
		{Fixed: 4}, {Fixed: 6}, {Fixed: 7}, {Long: true, Nullable: true}, {Long: true, Nullable: true}}}
}

// TestRows: the rows are those that the servers were given.
func TestRows(t *testing.T) {
	for _, f := range files {
		tr, id := tree(t, f.name, f.root, f.id), 0
		err := tr.Walk(func(r *btree.Record) error {
			if id++; id == 7 && !r.Deleted {
				id++
			}
			if r.Deleted {
				return nil
			}
			size := id * id * 3
			if id == 40 {
				size = 9000
			}
			b, err := tr.External(r.Fields[3], 10000)
			if err != nil {
				return fmt.Errorf("row %d: %w", id, err)
			}
			c := strings.Repeat("x", id*3)
			if id%5 == 0 {
				c = ""
			}
			if binary.BigEndian.Uint32(r.Fields[0].Data) != 1<<31+uint32(id) || !bytes.Equal(b, bytes.Repeat([]byte{byte(64 + id)}, size)) ||
				string(r.Fields[4].Data) != c || r.Fields[4].Null != (id%5 == 0) {
				t.Errorf("%s: row %d: %x, %d bytes, %q", f.name, id, r.Fields[0].Data, len(b), r.Fields[4].Data)
			}
			return nil
		})
		if err != nil || id != 40 {
			t.Errorf("%s: row %d: %v", f.name, id, err)
		}
	}
}

// TestParts: a column that was changed in parts has the newest ones.
func TestParts(t *testing.T) {
	tr := tree(t, "mysql97-js", 4, 156)
	tr.Format.Fields = tr.Format.Fields[:4]
	err := tr.Walk(func(r *btree.Record) error {
		b, err := tr.External(r.Fields[3], 1<<20)
		if err != nil {
			return err
		}
		for k := range 40 {
			letter := string(rune('a' + k%26))
			if i := strings.Index("362514", fmt.Sprint(k)); i >= 0 {
				letter = fmt.Sprint(i + 1)
			}
			if !bytes.Contains(b, []byte(strings.Repeat(letter, 400))) {
				t.Errorf("k%d is not %s", k, letter)
			}
		}
		_, err = tr.External(r.Fields[3], len(b)-1)
		if err == nil {
			t.Error("a column of more bytes than the limit is returned")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// readAll reads all records and columns of a tree.
func readAll(tr *btree.Tree) error {
	return tr.Walk(func(r *btree.Record) error {
		for _, v := range r.Fields {
			if _, err := tr.External(v, 1<<20); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestDamage: what a page without a checksum could have is refused.
func TestDamage(t *testing.T) {
	be := binary.BigEndian
	pageOf := func(s *innodbtest.Stored, no int) []byte { return s.Data[no*4096:][:4096] }
	// leaf returns the first leaf, and the one after it.
	leaf := func(s *innodbtest.Stored) (first, second []byte) {
		for no := 3; no < len(s.Data)/4096; no++ {
			p := pageOf(s, no)
			if innodb.HeaderType(p) == innodb.TypeIndex && be.Uint16(p[64:]) == 0 && be.Uint32(p[8:]) == 0xFFFFFFFF && be.Uint16(p[54:]) > 0 && be.Uint32(p[12:]) != 0xFFFFFFFF {
				return p, pageOf(s, int(be.Uint32(p[12:])))
			}
		}
		t.Fatal("no leaf")
		return nil, nil
	}
	for _, test := range []struct {
		name   string
		damage func(s *innodbtest.Stored, root int)
	}{
		{"does not come before it", func(s *innodbtest.Stored, _ int) { _, p := leaf(s); be.PutUint32(p[8:], 3) }},
		{"does not come before it", func(s *innodbtest.Stored, _ int) { a, b := leaf(s); be.PutUint32(b[12:], innodbNo(a)) }},
		{"of level 1", func(s *innodbtest.Stored, _ int) { _, p := leaf(s); be.PutUint16(p[64:], 1) }},
		{"of level 0", func(s *innodbtest.Stored, root int) { be.PutUint16(pageOf(s, root)[64:], 2) }},
		{"of level 700", func(s *innodbtest.Stored, root int) { be.PutUint16(pageOf(s, root)[64:], 700) }},
		{"of index 9", func(s *innodbtest.Stored, _ int) { p, _ := leaf(s); be.PutUint64(p[66:], 9) }},
		{"not the root", func(s *innodbtest.Stored, root int) { be.PutUint32(pageOf(s, root)[12:], 5) }},
		{"never written", func(s *innodbtest.Stored, root int) { clear(pageOf(s, root)) }},
		{"of type 6", func(s *innodbtest.Stored, _ int) { p, _ := leaf(s); be.PutUint16(p[24:], 6) }},
		{"records", func(s *innodbtest.Stored, _ int) { p, _ := leaf(s); be.PutUint16(p[54:], be.Uint16(p[54:])-1) }},
		{"records", func(s *innodbtest.Stored, _ int) { p, _ := leaf(s); be.PutUint16(p[54:], be.Uint16(p[54:])+1) }},
		{"row format", func(s *innodbtest.Stored, _ int) { p, _ := leaf(s); p[42] ^= 0x80 }},
		{"directory slots", func(s *innodbtest.Stored, _ int) { p, _ := leaf(s); be.PutUint16(p[38:], 1) }},
		{"directory", func(s *innodbtest.Stored, _ int) { p, _ := leaf(s); be.PutUint16(p[4096-10-2:], 200) }},
		{"heap cannot end", func(s *innodbtest.Stored, _ int) { p, _ := leaf(s); be.PutUint16(p[40:], 4090) }},
		{"system records", func(s *innodbtest.Stored, _ int) { p, _ := leaf(s); be.PutUint16(p[4096-10:], 98) }},
	} {
		for _, f := range files {
			tr := tree(t, f.name, f.root, f.id)
			if err := readAll(tr); err != nil {
				t.Fatalf("%s: %v", f.name, err)
			}
			test.damage(tr.Pages.(*innodbtest.Stored), int(f.root))
			err := readAll(tr)
			if _, ok := errors.AsType[*innodb.PageError](err); !ok || !strings.Contains(err.Error(), test.name) {
				t.Errorf("%s: want an error with %q: %v", f.name, test.name, err)
			}
		}
	}
}

func innodbNo(p []byte) uint32 { return uint32(innodb.HeaderPageNo(p)) }

// TestEachByte: whatever one byte of a tree's pages is, reading ends, and without a panic.
func TestEachByte(t *testing.T) {
	const step = 31
	for _, f := range files {
		tr := tree(t, f.name, f.root, f.id)
		data := tr.Pages.(*innodbtest.Stored).Data
		refused := 0
		for at := int(f.root) * 4096; at < len(data); at += step {
			was := data[at]
			data[at] ^= 0xFF
			if readAll(tr) != nil {
				refused++
			}
			data[at] = was
		}
		if refused < 25 {
			t.Errorf("%s: %d changes are refused", f.name, refused)
		}
	}
}

func FuzzTree(f *testing.F) {
	for _, file := range files {
		f.Add(tree(f, file.name, file.root, file.id).Pages.(*innodbtest.Stored).Data, uint32(file.root), file.id, !strings.HasSuffix(file.name, "red"))
	}
	f.Add(tree(f, "mysql97-js", 4, 156).Pages.(*innodbtest.Stored).Data, uint32(4), uint64(156), true)
	f.Fuzz(func(t *testing.T, data []byte, root uint32, id uint64, compact bool) {
		pages, err := innodbtest.NewStored(data)
		if err != nil || len(data) > 1<<18 {
			return
		}
		tr := &btree.Tree{Pages: pages, Root: innodb.PageNo(root), ID: id, Format: format(compact)}
		_ = readAll(tr)
	})
}

// TestRebuild: a page that is rebuilt has the records that it had, but for those that are to be
// other ones; what does not fit is not written.
func TestRebuild(t *testing.T) {
	for _, f := range files {
		if strings.HasSuffix(f.name, "red") {
			continue
		}
		tr := tree(t, f.name, f.root, f.id)
		s := tr.Pages.(*innodbtest.Stored)
		want, changed := rows(t, tr), map[innodb.PageNo]map[int]btree.Version{}
		n := 0
		if err := tr.Walk(func(r *btree.Record) error {
			if changed[r.Page] == nil {
				changed[r.Page] = map[int]btree.Version{}
			}
			if n++; n%3 == 0 { // column c in capital letters, and shorter; column b gone
				c := []byte(strings.Repeat("X", n%50))
				changed[r.Page][r.Origin] = btree.Version{Deleted: n%2 == 0, Fields: []btree.Value{r.Fields[0], r.Fields[1], r.Fields[2], {Null: true}, {Data: c}}}
				want[n-1] = fmt.Sprintf("%v %x NULL %s", n%2 == 0, r.Fields[0].Data, c)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for no, versions := range changed {
			page := s.Data[int(no)*4096:][:4096]
			out, fits, err := tr.Rebuild(page, versions, false)
			if err != nil || !fits {
				t.Fatalf("%s: page %d: %v, %v", f.name, no, fits, err)
			}
			copy(page, out)
		}
		if got := rows(t, tr); !slices.Equal(got, want) {
			t.Errorf("%s: %.500q, not %.500q", f.name, got, want)
		}
		if err := tr.Walk(func(r *btree.Record) error {
			v := btree.Version{Fields: slices.Clone(r.Fields)}
			v.Fields[4] = btree.Value{Data: make([]byte, 5000)}
			if _, fits, err := tr.Rebuild(s.Data[int(r.Page)*4096:][:4096], map[int]btree.Version{r.Origin: v}, false); fits || err != nil {
				t.Errorf("%s: a row of 5000 bytes fits: %v", f.name, err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for no := range changed {
			out, fits, err := tr.Rebuild(s.Data[int(no)*4096:][:4096], nil, true)
			if err != nil || !fits {
				t.Fatal(err)
			}
			copy(s.Data[int(no)*4096:][:4096], out)
		}
		want = slices.DeleteFunc(want, func(row string) bool { return strings.HasPrefix(row, "true") })
		if got := rows(t, tr); !slices.Equal(got, want) {
			t.Errorf("%s: without what was deleted %.500q, not %.500q", f.name, got, want)
		}
	}
}

// rows are the rows of a tree: deleted or not, id, whether b is NULL, c.
func rows(t *testing.T, tr *btree.Tree) (list []string) {
	t.Helper()
	err := tr.Walk(func(r *btree.Record) error {
		b := "b"
		if r.Fields[3].Null {
			b = "NULL"
		}
		list = append(list, fmt.Sprintf("%v %x %s %s", r.Deleted, r.Fields[0].Data, b, r.Fields[4].Data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
