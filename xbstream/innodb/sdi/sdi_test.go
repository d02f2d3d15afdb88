package sdi_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/sdi"
)

// wide is a table that MySQL 9.7.4 wrote, with pages of 4 KiB: t.wide, of a column id and 400
// columns column_number_0 to column_number_399, whose document is on other pages than its
// record.
const wide = "testdata/mysql97-wide.ibd.gz"

// TestRead: the documents are those of the table and of its tablespace.
func TestRead(t *testing.T) {
	list, err := sdi.Read(innodbtest.ReadStored(t, wide))
	if err != nil || len(list) != 2 {
		t.Fatalf("%d documents, %v", len(list), err)
	}
	var table struct {
		Object struct {
			Name    string
			Columns []struct{ Name string }
		} `json:"dd_object"`
	}
	if err := json.Unmarshal(list[0].JSON, &table); err != nil {
		t.Fatal(err)
	}
	columns := table.Object.Columns
	if list[0].Type != sdi.TypeTable || table.Object.Name != "wide" || len(columns) != 403 || columns[400].Name != "column_number_399" {
		t.Errorf("type %d, table %s, %d columns", list[0].Type, table.Object.Name, len(columns))
	}
	if list[1].Type != sdi.TypeTablespace || !strings.Contains(string(list[1].JSON), `"name":"t/wide"`) {
		t.Errorf("type %d: %s", list[1].Type, list[1].JSON)
	}
}

// TestTotal: the documents of a tablespace are bounded together, not only each.
func TestTotal(t *testing.T) {
	list, err := sdi.Read(innodbtest.ReadStored(t, wide))
	if err != nil {
		t.Fatal(err)
	}
	was := *sdi.MaxTotal
	defer func() { *sdi.MaxTotal = was }()
	size := len(list[0].JSON) + len(list[1].JSON)
	*sdi.MaxTotal = size
	if _, err := sdi.Read(innodbtest.ReadStored(t, wide)); err != nil {
		t.Error(err)
	}
	*sdi.MaxTotal = size - 1
	if _, err := sdi.Read(innodbtest.ReadStored(t, wide)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("%d bytes of documents: %v", size, err)
	}
}

// TestDamage: what a tablespace without checksums could have is refused.
func TestDamage(t *testing.T) {
	be := binary.BigEndian
	info := innodbtest.ReadStored(t, wide).Geo.OffsetMySQLInfo() + 115
	record := func(s *innodbtest.Stored) []byte { // of the table, from its origin
		root := s.Data[int(be.Uint32(s.Data[info+4:]))*4096:][:4096]
		at := 99
		for {
			if at += int(be.Uint16(root[at-2:])); be.Uint32(root[at:]) == sdi.TypeTable {
				return root[at:]
			}
		}
	}
	for want, damage := range map[string]func(s *innodbtest.Stored){
		"has version 2":            func(s *innodbtest.Stored) { s.Data[info+3] = 2 },
		"not a page of an index":   func(s *innodbtest.Stored) { s.Data[info+7] = 0 },
		"compressed bytes":         func(s *innodbtest.Stored) { record(s)[32]++ },
		"inflates to something":    func(s *innodbtest.Stored) { record(s)[28]++ },
		"reads up to":              func(s *innodbtest.Stored) { record(s)[25] = 0x7f },
		"unexpected EOF":           func(s *innodbtest.Stored) { s.Data = s.Data[:6*4096] },
		"is in tablespace":         func(s *innodbtest.Stored) { record(s)[33+3]++ },
		"no serialized dictionary": func(s *innodbtest.Stored) { s.Geo.Flags &^= 1 << 14 },
	} {
		s := innodbtest.ReadStored(t, wide)
		damage(s)
		if list, err := sdi.Read(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q: %d documents, %v", want, len(list), err)
		}
	}
	s := innodbtest.ReadStored(t, wide)
	s.Geo.Flags = 0
	if _, err := sdi.Read(s); !errors.Is(err, sdi.ErrNone) {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(innodbtest.ReadStored(f, wide).Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := innodbtest.NewStored(data); err == nil && len(data) < 1<<18 {
			_, _ = sdi.Read(s)
		}
	})
}
