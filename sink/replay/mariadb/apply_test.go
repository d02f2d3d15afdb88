package mariadb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mariadbredo"
)

// sample is one page of a real backup: as it was copied (nothing if the log
// initialises it), the runs of the redo log that it lacks, and as mariadb-backup
// --prepare left it. Each EXTENDED subtype occurs in each series, 10.5, 10.11
// and 11.8, and the others on ROW_FORMAT=COMPRESSED pages too.
type sample struct {
	Server string         `json:"server"`
	Space  innodb.SpaceID `json:"space"`
	Page   innodb.PageNo  `json:"page"`
	Zip    bool           `json:"zip,omitempty"`
	Flags  uint32         `json:"flags"`
	LSN    innodb.LSN     `json:"lsn"` // end of the last run's mini-transaction
	Before []byte         `json:"before,omitempty"`
	Runs   [][]byte       `json:"runs"`
	After  []byte         `json:"after"`
}

func (s *sample) id() innodb.PageID { return innodb.PageID{Space: s.Space, No: s.Page} }

// image returns the page before the first run.
func (s *sample) image() []byte {
	if s.Before != nil {
		return bytes.Clone(s.Before)
	}
	// What the page holds must not matter.
	return bytes.Repeat([]byte{0xA5}, len(s.After))
}

func samples(t testing.TB) []sample {
	all := innodbtest.Load[sample](t, "pages.json.gz")
	if len(all) < 30 {
		t.Fatalf("only %d samples", len(all))
	}
	return all
}

func TestApplyRealPages(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range samples(t) {
		t.Run(fmt.Sprintf("%s/%v", s.Server, s.id()), func(t *testing.T) {
			page := s.image()
			for i, run := range s.Runs {
				if err := Apply(page, s.id(), s.Zip, run); err != nil {
					t.Fatalf("run %d: %v", i, err)
				}
				for r := mariadbredo.ReadRecords(run); r.Next(); {
					name := r.Type.String()
					if r.Type == mariadbredo.Extended {
						name = fmt.Sprintf("%s %d", name, r.Body[0])
					}
					seen[name] = true
				}
			}
			space, err := innodb.ParseFlags(s.Flags)
			if err != nil {
				t.Fatal(err)
			}
			if !space.FullCRC32 {
				clear(page[innodb.OffsetFlushLSN:innodb.OffsetSpace])
			}
			space.SetLSN(page, s.LSN)
			space.Stamp(page, innodb.ChecksumCRC32)
			if !bytes.Equal(page, s.After) {
				for i := range page {
					if page[i] != s.After[i] {
						t.Fatalf("first difference at byte %d: %#02x, want %#02x", i, page[i], s.After[i])
					}
				}
			}
		})
	}
	for _, name := range []string{"INIT_PAGE", "WRITE", "MEMSET", "MEMMOVE"} {
		if !seen[name] {
			t.Errorf("no %s among the samples", name)
		}
	}
	for subtype := range mariadbredo.TrimPages {
		if name := fmt.Sprintf("EXTENDED %d", subtype); !seen[name] {
			t.Errorf("no %s among the samples", name)
		}
	}
}

// rec builds a record with ids 7 and 5; same leaves them out.
func rec(kind mariadbredo.Type, same bool, body ...byte) []byte {
	if same {
		return innodbtest.MariaDBRecord(byte(kind)<<4|0x80, body...)
	}
	return innodbtest.MariaDBRecord(byte(kind)<<4, append([]byte{7, 5}, body...)...)
}

func join(records ...[]byte) []byte { return bytes.Join(records, nil) }

func TestApplyPlainRecords(t *testing.T) {
	id := innodb.PageID{Space: 7, No: 5}
	page := bytes.Repeat([]byte{0xEE}, 4096)
	run := join(
		rec(mariadbredo.InitPage, false),
		rec(mariadbredo.Write, true, 38-24, 'a', 'b', 'c', 'd'),    // at 38, counted from the page type
		rec(mariadbredo.Memset, true, 2, 5, 'x'),                   // at 44
		rec(mariadbredo.Memset, true, 0, 7, 'p', 'q'),              // at 49, the pattern cut
		rec(mariadbredo.Memmove, true, 4, 6, 2*20+1),               // from 60-21=39 to 60
		rec(mariadbredo.Option, true, 0, 1, 2, 3, 4),               // changes nothing
		rec(mariadbredo.Memmove, true, 0, 2, 2*9),                  // from 66+10 (zero) to 66
		rec(mariadbredo.Write, false, 0x80+1, 0x80, 'e', 'n', 'd'), // at 128+384, from the page's start
	)
	if err := Apply(page, id, false, run); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 4096)
	binary.BigEndian.PutUint32(want[4:], 5)
	fill(want[8:16], 0xFF)
	binary.BigEndian.PutUint32(want[34:], 7)
	copy(want[38:], "abcd\x00\x00xxxxxpqpqpqp\x00\x00\x00\x00bcd\x00\x00x\x00\x00")
	copy(want[128+384:], "end")
	if !bytes.Equal(page, want) {
		t.Errorf("got  %q\nwant %q", page[:80], want[:80])
	}
}

func TestMemmoveOverlaps(t *testing.T) {
	page := make([]byte, 4096)
	copy(page[100:], "0123456789")
	// Ten bytes two to the right, then eight of them one to the left.
	if err := Apply(page, innodb.PageID{Space: 7, No: 5}, true, rec(mariadbredo.Memmove, false, 102, 10, 1*2+1)); err != nil {
		t.Fatal(err)
	}
	if got := string(page[100:112]); got != "010123456789" {
		t.Errorf("right: %q", got)
	}
	if err := Apply(page, innodb.PageID{Space: 7, No: 5}, true, rec(mariadbredo.Memmove, false, 101, 8, 0)); err != nil {
		t.Fatal(err)
	}
	if got := string(page[100:112]); got != "001234567789" {
		t.Errorf("left: %q", got)
	}
}

func TestApplyRefuses(t *testing.T) {
	id := innodb.PageID{Space: 7, No: 5}
	big := func(v uint32) []byte { return innodbtest.AppendVarint(nil, v) }
	for name, run := range map[string][]byte{
		"before byte 8":           rec(mariadbredo.Write, false, 7, 1),
		"at the page's end":       rec(mariadbredo.Write, false, 0x80+0x0F, 0x80, 1), // 4096
		"over the page's end":     rec(mariadbredo.Write, false, 0x80+0x0F, 0x7F, 1, 2),
		"far":                     rec(mariadbredo.Write, false, append(big(70000), 1)...),
		"nothing to write":        rec(mariadbredo.Write, false, 50),
		"number too long":         rec(mariadbredo.Write, false, 0xF0, 1, 1, 1, 1, 1),
		"no number":               rec(mariadbredo.Write, false, 0xFF, 1),
		"memset too long":         rec(mariadbredo.Memset, false, append(append([]byte{50}, big(20000)...), 1)...),
		"memset without pattern":  rec(mariadbredo.Memset, false, 50, 4),
		"memmove from before":     rec(mariadbredo.Memmove, false, 50, 4, 42*2+1),
		"memmove from after":      rec(mariadbredo.Memmove, false, append([]byte{50, 4}, big(40000)...)...),
		"memmove trailing":        rec(mariadbredo.Memmove, false, 50, 4, 2, 2),
		"same page, offsets add":  join(rec(mariadbredo.Write, false, 0x80+0x0F, 0x70, 1), rec(mariadbredo.Write, true, 60, 1)),
		"init with a body":        rec(mariadbredo.InitPage, false, 1),
		"init of the same page":   join(rec(mariadbredo.Write, false, 50, 1), []byte{0x90}),
		"free of the same page":   join(rec(mariadbredo.Write, false, 50, 1), []byte{0x80}),
		"reserved":                rec(6, false, 1),
		"another page":            {0x33, 7, 6, 50},
		"cut":                     rec(mariadbredo.Write, false, 50, 1, 2)[:4],
		"end mark":                {0},
		"extended, empty":         rec(mariadbredo.Extended, false),
		"extended, unknown":       rec(mariadbredo.Extended, false, 11),
		"insert into no index":    rec(mariadbredo.Extended, false, insertHeapDynamic, 0, 0, 0, 0, 1),
		"delete from no index":    rec(mariadbredo.Extended, false, deleteRedundant, 0),
		"undo on no undo page":    rec(mariadbredo.Extended, false, undoAppend, 1, 2, 3),
		"insert, numbers missing": rec(mariadbredo.Extended, false, insertReuseDynamic, 0),
	} {
		if err := Apply(make([]byte, 4096), id, false, run); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, tc := range []struct {
		page innodb.PageNo
		zip  bool
	}{{2, false}, {5, true}} {
		run := []byte{0x23, 7, byte(tc.page), initDynamic}
		if err := Apply(make([]byte, 4096), innodb.PageID{Space: 7, No: tc.page}, tc.zip, run); err == nil {
			t.Errorf("EXTENDED on page %d (zip %v) was accepted", tc.page, tc.zip)
		}
	}
}

// TestDirectory inserts records of one field after the infimum and deletes
// them in turn, and checks list, directory and heap after every step.
func TestDirectory(t *testing.T) {
	id := innodb.PageID{Space: 7, No: 5}
	page := make([]byte, 4096)
	mustApply := func(body ...byte) {
		t.Helper()
		if err := Apply(page, id, false, rec(mariadbredo.Extended, false, body...)); err != nil {
			t.Fatal(err)
		}
		if err := checkIndex(page); err != nil {
			t.Fatal(err)
		}
	}
	for _, isOld := range []bool{true, false} {
		if err := Apply(page, id, false, rec(mariadbredo.InitPage, false)); err != nil {
			t.Fatal(err)
		}
		insert := func(i byte) {
			if isOld { // one field of one byte, one-byte offsets
				mustApply(insertHeapRedundant, 0, 4, 0, 0, 1, i)
			} else { // no variable header
				mustApply(insertHeapDynamic, 0, 0, 0, 0, i)
			}
		}
		remove := func() {
			if isOld {
				mustApply(deleteRedundant, 0)
			} else {
				mustApply(deleteDynamic, 0, 0, 1)
			}
		}
		kind := byte(initDynamic)
		if isOld {
			kind = initRedundant
		}
		mustApply(kind)
		for i := range 100 {
			insert(byte(i))
		}
		if get16(page, pageSlots) < 10 {
			t.Errorf("100 records in %d slots", get16(page, pageSlots))
		}
		for range 100 {
			remove()
		}
		if n, slots := get16(page, pageRecords), get16(page, pageSlots); n != 0 || slots != 2 {
			t.Errorf("%d records in %d slots left", n, slots)
		}
		// The last ones inserted were deleted first: they were the heap's top.
		if heap := get16(page, pageHeap) &^ dynamicBit; heap != userHeap {
			t.Errorf("heap of %d records left", heap)
		}
	}
}

// checkIndex checks an index page: the list reaches the supremum, each slot
// holds the record that owns the ones since the slot before, 4 to 8 of them.
func checkIndex(page []byte) error {
	l := &redundant
	if get16(page, pageHeap)&dynamicBit != 0 {
		l = &dynamic
	}
	p := index{page, l}
	if p.owned(l.infimum) != 1 || get16(page, p.slot(0)) != l.infimum {
		return errors.New("infimum")
	}
	records, since, slot := 0, 0, 1
	for rec := p.next(l.infimum); ; rec = p.next(rec) {
		since++
		if owned := p.owned(rec); owned != 0 {
			last := rec == l.supremum
			if owned != since || get16(page, p.slot(slot)) != rec || owned > slotMaxOwned || !last && owned < slotMinOwned {
				return fmt.Errorf("slot %d: record %d owns %d, %d records since", slot, rec, owned, since)
			}
			since = 0
			slot++
		}
		if rec == l.supremum {
			break
		}
		if records++; records > len(page) {
			return errors.New("the list has no end")
		}
	}
	if records != get16(page, pageRecords) || slot != p.slots() {
		return fmt.Errorf("%d records and %d slots, the header says %d and %d", records, slot, get16(page, pageRecords), p.slots())
	}
	return nil
}

// FuzzApply applies damaged runs to real pages: an error or a page, never a
// panic, and nothing outside the page.
func FuzzApply(f *testing.F) {
	all := samples(f)
	for i, s := range all {
		f.Add(uint8(i), uint16(0), s.Runs[0])
		f.Add(uint8(i), uint16(len(s.Runs)), s.Runs[len(s.Runs)-1])
	}
	f.Fuzz(func(t *testing.T, which uint8, after uint16, run []byte) {
		s := &all[int(which)%len(all)]
		const guard = 0x5A
		buf := append(s.image(), bytes.Repeat([]byte{guard}, 64)...)
		page := buf[:len(s.After):len(s.After)]
		for _, good := range s.Runs[:min(int(after), len(s.Runs))] {
			if err := Apply(page, s.id(), s.Zip, good); err != nil {
				t.Fatal(err)
			}
		}
		r := mariadbredo.ReadRecords(run)
		id := s.id()
		if r.Next() && !r.Type.IsFile() {
			id = r.Page // or hardly anything would get further
		}
		if err := Apply(page, id, s.Zip, run); err != nil {
			return
		}
		if !bytes.Equal(buf[len(s.After):], bytes.Repeat([]byte{guard}, 64)) {
			t.Fatal("written after the page")
		}
	})
}
