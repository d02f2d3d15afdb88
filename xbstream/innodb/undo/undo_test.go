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
