package dict_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/dict"
	"hb/xbstream/innodb/innodbtest"
)

// The files in testdata are the first 900 pages, of 4 KiB, of the system tablespaces of MySQL
// 5.6.24 and MariaDB 10.5.23 that have tables t.dyn and t.red (ROW_FORMAT=REDUNDANT):
//
//	CREATE TABLE t (id INT NOT NULL PRIMARY KEY, b LONGBLOB, c VARCHAR(300)) CHARSET latin1
var files = map[string][2]uint64{ // index ids of dyn and red, as information_schema had them
	"mysql56-ibdata1": {22, 23}, "mariadb105-ibdata1": {25, 26},
}

func stored(t testing.TB, name string) *innodbtest.Stored {
	return innodbtest.ReadStored(t, "testdata/"+name+".gz")
}

func TestRead(t *testing.T) {
	for name, ids := range files {
		d, err := dict.Read(stored(t, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, want := range []struct {
			name  string
			flags uint32
		}{{"t/dyn", 0x21}, {"t/red", 0}} {
			tb := d.Table(want.name)
			if tb == nil {
				t.Errorf("%s: there is no table %s", name, want.name)
				continue
			}
			if err := tb.Check(); err != nil {
				t.Error(err)
			}
			var columns []string
			for _, c := range tb.Columns {
				columns = append(columns, fmt.Sprintf("%s %d %d %d", c.Name, c.Pos, c.MType, c.Len))
			}
			// DATA_INT 6, DATA_BLOB 5, DATA_VARCHAR 1: data0type.h
			if !slices.Equal(columns, []string{"id 0 6 4", "b 1 5 12", "c 2 1 300"}) || tb.Flags() != want.flags || tb.Space == 0 || d.TableByID(tb.ID) != tb || d.MaxSpace < tb.Space {
				t.Errorf("%s: %+v", name, tb)
			}
			if len(tb.Indexes) != 1 || tb.Indexes[0].ID != ids[i] || tb.Indexes[0].Name != "PRIMARY" || tb.Indexes[0].Root != 3 || tb.Indexes[0].Type != 3 || tb.Indexes[0].Fields[0] != (dict.Field{Column: "id"}) {
				t.Errorf("%s: %s: %+v", name, tb.Name, tb.Indexes[0])
			}
		}
	}
}

// TestDamage: what pages without checksums could have is refused.
func TestDamage(t *testing.T) {
	for want, damage := range map[string]func(s *innodbtest.Stored){
		"reading SYS_COLUMNS": func(s *innodbtest.Stored) { s.Data[7*4096+38+43]++ },
		"has the same id":     func(s *innodbtest.Stored) { number(s, 12, 1) },
		"not 11 and 0":        func(s *innodbtest.Stored) { number(s, 23, 11) },
		"has 4 bytes in":      func(s *innodbtest.Stored) { shorten(s) },
	} {
		s := stored(t, "mysql56-ibdata1")
		damage(s)
		d, err := dict.Read(s)
		if err == nil {
			err = d.Table("SYS_FOREIGN").Check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q: %v", want, err)
		}
	}
}

// sysForeign returns the record of SYS_FOREIGN in SYS_TABLES, from its origin: after the name
// are DB_TRX_ID, DB_ROLL_PTR, ID (8) and N_COLS (4).
func sysForeign(s *innodbtest.Stored) (page []byte, origin int) {
	for no := range len(s.Data) / 4096 {
		page := s.Data[no*4096:][:4096]
		if innodb.HeaderType(page) != innodb.TypeIndex || binary.BigEndian.Uint64(page[66:]) != 1 || binary.BigEndian.Uint16(page[64:]) != 0 {
			continue
		}
		for at := 101; at != 116; at = int(binary.BigEndian.Uint16(page[at-2:])) {
			if strings.HasPrefix(string(page[at:]), "SYS_FOREIGN\x00") {
				return page, at
			}
		}
	}
	panic("SYS_TABLES has no SYS_FOREIGN")
}

// number changes the last byte of a field of four or eight bytes: that of ID is 12+11+8-1.
func number(s *innodbtest.Stored, which int, v byte) {
	page, at := sysForeign(s)
	at += len("SYS_FOREIGN") + 13 + 8
	if which == 12 {
		page[at-1] = v + 11 // SYS_FOREIGN_COLS
		return
	}
	page[at+3] = v
}

// shorten moves the end of ID by four bytes.
func shorten(s *innodbtest.Stored) {
	page, at := sysForeign(s)
	page[at-6-4] -= 4
}

// FuzzRead reads dictionaries of which some bytes were changed.
func FuzzRead(f *testing.F) {
	whole := map[string][]byte{}
	for name := range files {
		whole[name] = stored(f, name).Data
	}
	f.Add(true, uint32(8*4096), []byte{1, 2, 3})
	f.Add(false, uint32(12*4096), []byte{0xff})
	f.Fuzz(func(t *testing.T, mysql bool, at uint32, change []byte) {
		name := "mariadb105-ibdata1"
		if mysql {
			name = "mysql56-ibdata1"
		}
		data := slices.Clone(whole[name])
		copy(data[int(at)%len(data):], change)
		s, err := innodbtest.NewStored(data)
		if err != nil {
			return
		}
		if d, err := dict.Read(s); err == nil {
			for _, tb := range d.Tables {
				_ = tb.Check()
			}
		}
	})
}
