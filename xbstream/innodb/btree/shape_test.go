package btree_test

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/btree"
	"hb/xbstream/innodb/innodbtest"
)

// instantFiles are tablespaces with pages of 4 KiB that servers wrote, of a table
//
//	(a INT PRIMARY KEY, b VARCHAR(20), c INT) CHARSET=latin1, (1,'one',1)
//	ADD d INT NOT NULL DEFAULT 7, (2,'two',2,22); DROP b, (3,3,33)
//	ADD e VARCHAR(300), (4,4,44,'eeee')
//
// with ALGORITHM=INSTANT.
var instantFiles = []struct {
	name string
	root innodb.PageNo
	id   uint64
}{
	{"mysql97-ins-dyn", 4, 154}, {"mysql97-ins-red", 4, 155}, {"mariadb1011-ins-dyn", 3, 23}, {"mariadb1011-ins-red", 3, 24},
}

// instantTree opens one, with the format that its table's history gives.
func instantTree(t testing.TB, name string, root innodb.PageNo, id uint64) *btree.Tree {
	t.Helper()
	tr := tree(t, name, root, id)
	tr.Format.Fields = []btree.Field{{Fixed: 4}, {Fixed: 6}, {Fixed: 7}, {Nullable: true}, {Fixed: 4, Nullable: true}, {Fixed: 4}, {Long: true, Nullable: true}}
	if strings.HasPrefix(name, "mysql") {
		tr.Format.Fields[3].Dropped, tr.Format.Fields[5].Added, tr.Format.Fields[6].Added = 2, 1, 3
		return tr
	}
	core, err := tr.Core()
	// Five fields before the first ALTER TABLE; b and c can be NULL.
	if err != nil || !reflect.DeepEqual(core, &btree.Core{Fields: 5, Nulls: 1}) {
		t.Errorf("%s: %+v, %v", name, core, err)
	}
	tr.Format.Core = core
	return tr
}

// instantRows returns the values of the rows, without the system columns.
func instantRows(tr *btree.Tree) (rows []string, err error) {
	err = tr.Walk(func(r *btree.Record) error {
		row := fmt.Sprintf("version %d:", r.Version)
		for i, v := range r.Fields {
			switch {
			case i == 1 || i == 2:
			case v.Missing:
				row += " -"
			case v.Null:
				row += " NULL"
			case i == 3 || i == 6:
				row += " " + string(v.Data)
			default:
				row += fmt.Sprintf(" %d", binary.BigEndian.Uint32(v.Data)^1<<31)
			}
		}
		rows = append(rows, row)
		return nil
	})
	return rows, err
}

// TestInstant: rows have the fields that the table had when they were written.
func TestInstant(t *testing.T) {
	versions := []string{"version -1: 1 one 1 - -", "version 1: 2 two 2 22 -", "version 2: 3 - 3 33 -", "version 3: 4 - 4 44 eeee"}
	// MariaDB writes NULL for a column that was dropped.
	counts := []string{"version -1: 1 one 1 - -", "version -1: 2 two 2 22 -", "version -1: 3 NULL 3 33 -", "version -1: 4 NULL 4 44 eeee"}
	for _, f := range instantFiles {
		want := counts
		if strings.HasPrefix(f.name, "mysql") {
			want = versions
		}
		tr := instantTree(t, f.name, f.root, f.id)
		if got, err := instantRows(tr); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v: %q", f.name, err, got)
		}
		plain := *tr
		plain.Format.Core, plain.Format.Fields = nil, slices.Clone(tr.Format.Fields[:5])
		for i := range plain.Format.Fields {
			plain.Format.Fields[i].Dropped = 0
		}
		if _, err := instantRows(&plain); err == nil {
			t.Errorf("%s: rows of instant ALTER TABLE are read without their format", f.name)
		}
	}
}

// TestInstantEachByte: whatever one byte of such a table is, reading ends, and without a panic.
func TestInstantEachByte(t *testing.T) {
	for _, f := range instantFiles {
		tr := instantTree(t, f.name, f.root, f.id)
		data := tr.Pages.(*innodbtest.Stored).Data
		refused := 0
		for at := int(f.root) * 4096; at < (int(f.root)+1)*4096; at++ {
			for _, x := range []byte{0xFF, 0x40, 0x80, 0x10, 4, 1} {
				was := data[at]
				data[at] ^= x
				if readAll(tr) != nil {
					refused++
				}
				_, _ = tr.Core()
				data[at] = was
			}
		}
		if refused < 100 {
			t.Errorf("%s: %d changes are refused", f.name, refused)
		}
	}
}

func FuzzInstant(f *testing.F) {
	for _, file := range instantFiles {
		f.Add(instantTree(f, file.name, file.root, file.id).Pages.(*innodbtest.Stored).Data, uint32(file.root), file.id, !strings.HasSuffix(file.name, "red"), strings.HasPrefix(file.name, "mysql"))
	}
	f.Fuzz(func(t *testing.T, data []byte, root uint32, id uint64, compact, versions bool) {
		pages, err := innodbtest.NewStored(data)
		if err != nil || len(data) > 1<<18 {
			return
		}
		tr := &btree.Tree{Pages: pages, Root: innodb.PageNo(root), ID: id, Format: format(compact)}
		tr.Format.Fields = append(tr.Format.Fields, btree.Field{Fixed: 4}, btree.Field{Nullable: true})
		tr.Format.Core = &btree.Core{Fields: 5, Nulls: -1}
		if versions {
			tr.Format.Core, tr.Format.Fields[3].Dropped, tr.Format.Fields[5].Added = nil, 2, 1
		} else if core, err := tr.Core(); err == nil && core != nil {
			tr.Format.Core = core
		}
		_ = readAll(tr)
	})
}
