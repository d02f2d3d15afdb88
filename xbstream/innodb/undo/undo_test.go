package undo_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/undo"
)

// stored is the system tablespace of MySQL 5.6.24, with pages of 4 KiB, with two open
// transactions: 1298, prepared as ('global','branch',7), inserted a row into table 20. 1299
// inserted 20 rows into table 20, and 20 times changed both rows of table 21.
func stored(t testing.TB) *innodbtest.Stored {
	return innodbtest.ReadStored(t, "testdata/mysql56-ibdata1.gz")
}

// find returns the page of the undo segment of a transaction's log that changed a table.
func find(t *testing.T, s *innodbtest.Stored, trx uint64, table uint64) []byte {
	t.Helper()
	logs, err := undo.Read(undo.Spaces{0: s}, 50624)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range logs {
		if l.Trx == trx && l.Tables[table] > 0 {
			return s.Data[int(l.Page.No)*4096:][:4096]
		}
	}
	t.Fatalf("transaction %d has no log for table %d", trx, table)
	return nil
}

func TestRead(t *testing.T) {
	logs, err := undo.Read(undo.Spaces{0: stored(t)}, 50624)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range logs {
		name := ""
		if l.XID != nil {
			name = fmt.Sprintf(" %d %s %s", l.XID.Format, l.XID.Global, l.XID.Branch)
		}
		got = append(got, fmt.Sprintf("%d %v %v %d%s", l.Trx, l.State, l.Tables, l.Records, name))
	}
	slices.Sort(got)
	if want := []string{"1298 prepared map[20:1] 1 7 global branch", "1299 active map[20:20] 20", "1299 active map[21:40] 40"}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

// TestDamage: what pages without checksums could have is refused.
func TestDamage(t *testing.T) {
	be := binary.BigEndian
	for want, damage := range map[string]func(s *innodbtest.Stored){
		"has state 9":           func(s *innodbtest.Stored) { be.PutUint16(find(t, s, 1299, 21)[56:], 9) },
		"no undo log can begin": func(s *innodbtest.Stored) { be.PutUint16(find(t, s, 1299, 21)[58:], 4090) },
		"end at 4095":           func(s *innodbtest.Stored) { be.PutUint16(find(t, s, 1299, 20)[42:], 4095) },
		"more pages than": func(s *innodbtest.Stored) {
			p := find(t, s, 1299, 21)
			be.PutUint32(p[50:], uint32(innodb.HeaderPageNo(p)))
		},
		"it is of type 6":    func(s *innodbtest.Stored) { be.PutUint16(find(t, s, 1299, 21)[24:], 6) },
		"which is not there": func(s *innodbtest.Stored) { be.PutUint32(s.Data[5*4096+56:], 3) },
		"has 200 and 6 bytes": func(s *innodbtest.Stored) {
			p := find(t, s, 1298, 20)
			be.PutUint32(p[int(be.Uint16(p[58:]))+50:], 200)
		},
		"an undo record cannot": func(s *innodbtest.Stored) {
			p := find(t, s, 1299, 20)
			be.PutUint16(p[int(be.Uint16(p[int(be.Uint16(p[58:]))+18:])):], 3)
		},
	} {
		s := stored(t)
		damage(s)
		if logs, err := undo.Read(undo.Spaces{0: s}, 50624); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q: %d logs, %v", want, len(logs), err)
		}
	}
}

// FuzzRead reads rollback segments of which some bytes were changed.
func FuzzRead(f *testing.F) {
	whole := stored(f)
	f.Add(uint32(5*4096+56), []byte{0, 0, 0, 1})
	f.Add(uint32(7*4096), []byte{0xff})
	f.Fuzz(func(t *testing.T, at uint32, change []byte) {
		part := whole.Data[int(at)%len(whole.Data):]
		part = part[:min(len(part), len(change))]
		was := slices.Clone(part)
		copy(part, change)
		_, _ = undo.Read(undo.Spaces{0: whole}, 50624)
		copy(part, was)
	})
}

// records are the places of the records on the first page of a log.
func records(page []byte) (at []int) {
	be := binary.BigEndian
	begin, end := int(be.Uint16(page[int(be.Uint16(page[58:]))+18:])), int(be.Uint16(page[42:]))
	for ; begin < end; begin = int(be.Uint16(page[begin:])) {
		at = append(at, begin)
	}
	return at
}

// TestRecord: the records of the two transactions are of what these did.
func TestRecord(t *testing.T) {
	s := stored(t)
	h, err := undo.NewHistory(undo.Spaces{0: s}, 50624)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		trx, table uint64
		is         undo.Type
		keys       int // different ones
	}{{1298, 20, undo.Inserted, 1}, {1299, 20, undo.Inserted, 20}, {1299, 21, undo.Updated, 2}} {
		page := find(t, s, test.trx, test.table)
		keys := map[string]bool{}
		for n, at := range records(page) {
			ptr := undo.RollPtr(innodb.HeaderPageNo(page))<<16 | undo.RollPtr(at)
			r, err := h.Record(ptr, 1)
			if err != nil {
				t.Fatal(err)
			}
			keys[string(r.Key[0])] = true
			if r.Table != test.table || r.Type != test.is || len(r.Key) != 1 || len(r.Key[0]) != 4 || (len(r.Changed) > 0) != (test.is == undo.Updated) {
				t.Errorf("%+v of table %d", r, test.table)
			}
			// Of an update, the version before is that of another transaction, or of this one.
			if test.is == undo.Updated && (r.Deleted || (r.Trx == test.trx) != (n >= 2) || r.Roll.Inserted() != (n < 2)) {
				t.Errorf("record %d: %+v", n, r)
			}
			if _, err := h.Record(ptr+1, 1); err == nil {
				t.Errorf("there is a record at byte %d, too", at+1)
			}
		}
		if len(keys) != test.keys {
			t.Errorf("transaction %d changed %d rows of table %d, not %d", test.trx, len(keys), test.table, test.keys)
		}
	}
	if _, err := h.Record(9<<48|5<<16|100, 1); err == nil {
		t.Error("a record that is not on a page of undo records is read")
	}
}

// FuzzRecord reads records of which some bytes were changed.
func FuzzRecord(f *testing.F) {
	s := stored(f)
	h, err := undo.NewHistory(undo.Spaces{0: s}, 50624)
	if err != nil {
		f.Fatal(err)
	}
	logs, err := undo.Read(undo.Spaces{0: s}, 50624)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(0), uint16(3), []byte{0xff, 0xff}, uint8(1))
	f.Add(uint16(2), uint16(2), []byte{0xfc}, uint8(2))
	f.Fuzz(func(t *testing.T, which, from uint16, change []byte, keys uint8) {
		page := s.Data[int(logs[int(which)%len(logs)].Page.No)*4096:][:4096]
		places := records(page)
		at := places[int(which)%len(places)]
		end := int(binary.BigEndian.Uint16(page[at:])) - 2
		part := page[min(end, at+2+int(from)%(end-at)):end]
		part = part[:min(len(part), len(change))]
		was := slices.Clone(part)
		copy(part, change)
		_, _ = h.Record(undo.RollPtr(innodb.HeaderPageNo(page))<<16|undo.RollPtr(at), int(keys)%8)
		copy(part, was)
	})
}
