package mysql

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// fieldsOf describes an index: of each field "4" or "v" or "V" (variable, above
// 255), "!" for NOT NULL, "+n" and "-n" for the versions it was added and dropped
// in. The second list has the physical positions, if not the same.
func fieldsOf(uniq int, list string, order ...int) *mlog.Index {
	x := &mlog.Index{Compact: true, NUniq: uniq}
	for i, s := range strings.Fields(list) {
		var f mlog.Field
		for len(s) > 0 {
			switch c := s[0]; c {
			case '!':
				f.NotNull = true
			case 'V':
				f.Big = true
			case 'v':
			case '+':
				f.Added, f.HasAdded, s = s[1]-'0', true, s[1:]
			case '-':
				f.Dropped, f.HasDropped, s = s[1]-'0', true, s[1:]
			default:
				f.Len = uint16(c - '0')
			}
			s = s[1:]
		}
		x.Fields, x.Physical = append(x.Fields, f), append(x.Physical, i)
		x.Versioned = x.Versioned || f.HasAdded || f.HasDropped
	}
	if order != nil {
		x.Versioned, x.Physical = true, order
	}
	return x
}

func instant(n int, x *mlog.Index) *mlog.Index {
	x.HasInstant, x.NInstant = true, n
	return x
}

// reversed is a header as documentation has it, from the origin down.
func reversed(b ...byte) []byte {
	slices.Reverse(b)
	return b
}

// show prints a layout: extra bytes, and the end of each field with N for NULL,
// E for a part stored elsewhere, - for none.
func show(r *record) string {
	s := fmt.Sprintf("%d:", r.extra)
	for _, f := range r.fields {
		s += fmt.Sprintf(" %d", f.end())
		for _, flag := range []struct {
			f field
			s string
		}{{fieldNull, "N"}, {fieldExtern, "E"}, {fieldAbsent, "-"}} {
			if f.is(flag.f) {
				s += flag.s
			}
		}
	}
	return s + fmt.Sprintf(" = %d", r.data)
}

func TestCompactLayouts(t *testing.T) {
	const leaf, node, version, count = 0, statusNode, infoVersioned, infoInstant
	plain := fieldsOf(1, "4! v V 2")
	clustered := func() *mlog.Index { return fieldsOf(1, "4! 6! 7! v 2") } // key, DB_TRX_ID, DB_ROLL_PTR, two that can be NULL
	many := fieldsOf(1, "4!"+strings.Repeat(" 1", 12))
	first := fieldsOf(1, "4! 6! 7! 1 v! 1 2") // three of the table, two with the first ADD COLUMN …
	rows := fieldsOf(1, "4! 6! 7! v-2 1+1 2 1+1-3 v+3")
	moved := fieldsOf(1, "4! 6! 7! 1+1 v", 0, 1, 2, 4, 3) // 1+1 was added before v, but is after it in rows
	for name, c := range map[string]struct {
		x            *mlog.Index
		info, status byte
		header       []byte // from the origin's fixed bytes down
		want         string
	}{
		"plain":               {plain, 0, leaf, []byte{0b100, 3, 0x80, 200}, "9: 4 7 207 207N = 207"},
		"short":               {plain, 0, leaf, []byte{0, 3, 127}, "8: 4 7 134 136 = 136"},
		"all NULL":            {plain, 0, leaf, []byte{0b111}, "6: 4 4N 4N 4N = 4"},
		"stored elsewhere":    {plain, 0, leaf, []byte{0b101, 0xC0, 20}, "8: 4 4N 24E 24N = 24"},
		"255":                 {plain, 0, leaf, []byte{0b110, 255}, "7: 4 259 259N 259N = 259"},
		"second byte of NULL": {many, 0, leaf, []byte{0xFF, 0b0111}, "7: 4" + strings.Repeat(" 4N", 11) + " 5 = 5"},
		"infimum":             {plain, 0, statusInfimum, nil, "5: 8 = 8"},
		"supremum":            {plain, 0, statusSupremum, nil, "5: 8 = 8"},
		"node pointer":        {clustered(), 0, node, []byte{0}, "6: 4 8 = 8"},
		"secondary node":      {fieldsOf(2, "v 4!"), 0, node, []byte{0b1}, "6: 0N 4 8 = 8"},
		"clustered leaf":      {clustered(), 0, leaf, []byte{0, 5}, "7: 4 10 17 22 24 = 24"},

		// Before 8.0.29: the first three user fields are the table's.
		"instant, before":     {instant(5, first), 0, leaf, []byte{0, 9}, "7: 4 10 17 18 27 27- 27- = 27"},
		"instant, six":        {instant(5, first), count, leaf, []byte{6, 0b10, 9}, "8: 4 10 17 18 27 27N 27- = 27"},
		"instant, seven":      {instant(5, first), count, leaf, []byte{7, 0, 9}, "8: 4 10 17 18 27 28 30 = 30"},
		"instant, long count": {instant(5, first), count, leaf, []byte{0x80, 7, 0, 9}, "9: 4 10 17 18 27 28 30 = 30"},
		"instant, node":       {instant(3, clustered()), 0, node, nil, "5: 4 8 = 8"},
		"instant, node, NULL": {instant(4, clustered()), 0, node, []byte{0}, "6: 4 8 = 8"},

		"version 0, not said": {rows, 0, leaf, []byte{0b00, 3}, "7: 4 10 17 20 20- 22 22- 22- = 22"},
		"version 1":           {rows, version, leaf, []byte{1, 0b0010, 3}, "8: 4 10 17 20 20N 22 23 23- = 23"},
		"version 2":           {rows, version, leaf, []byte{2, 0b101}, "7: 4 10 17 17- 17N 19 19N 19- = 19"},
		"version 3":           {rows, version, leaf, []byte{3, 0b001, 5}, "8: 4 10 17 17- 17N 19 19- 24 = 24"},
		"version, node":       {rows, 0, node, []byte{0}, "6: 4 8 = 8"},
		"moved, version 0":    {moved, 0, leaf, []byte{0, 3}, "7: 4 10 17 20 20- = 20"},
		"moved, version 1":    {moved, version, leaf, []byte{1, 0b10, 3}, "8: 4 10 17 20 20N = 20"},
		"upgraded, before":    {instant(5, fieldsOf(1, "4! 6! 7! 1-1 v! 2 2+1")), 0, leaf, []byte{0, 3}, "7: 4 10 17 18 21 21- 21- = 21"},
		"upgraded, six":       {instant(5, fieldsOf(1, "4! 6! 7! 1-1 v! 2 2+1")), count, leaf, []byte{6, 0, 3}, "8: 4 10 17 18 21 23 23- = 23"},
		"upgraded, version 0": {instant(5, fieldsOf(1, "4! 6! 7! 1-1 v! 2 2+1")), version, leaf, []byte{0, 0, 3}, "8: 4 10 17 18 21 23 23- = 23"},
		"upgraded, node":      {instant(6, fieldsOf(1, "4! 6! 7! 1-1 v! 2 2+1")), 0, node, []byte{0}, "6: 4 8 = 8"},
		"upgraded, version 1": {instant(5, fieldsOf(1, "4! 6! 7! 1-1 v! 2 2+1")), version, leaf, []byte{1, 0b10, 3}, "8: 4 10 17 17- 20 22 22N = 22"},
	} {
		fixed := []byte{0, 0, c.status, 0, c.info}
		b := reversed(append(fixed, c.header...)...)
		origin := len(b)
		var r record
		// Nothing before the header, and nothing after the data, is looked at.
		full := append(b, make([]byte, 300)...)
		if err := r.parse(full, origin, c.x); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := show(&r); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if err := r.parse(full[:origin+r.data], origin, c.x); err != nil {
			t.Errorf("%s: exact: %v", name, err)
		}
		if err := r.parse(full[:origin+r.data-1], origin, c.x); err == nil {
			t.Errorf("%s: no error without the last byte", name)
		}
		for cut := 1; cut <= origin; cut++ {
			if err := r.parse(full[cut:], origin-cut, c.x); err == nil {
				t.Errorf("%s: no error without %d bytes of the header", name, cut)
			}
		}
	}
	var r record
	if err := r.parse(make([]byte, 64), 32, &mlog.Index{}); err == nil {
		t.Error("no fields: no error")
	}
	both := make([]byte, 64)
	both[32-5] = infoInstant | infoVersioned
	if err := r.parse(both, 32, rows); err == nil {
		t.Error("row version and number of fields: no error")
	}
	both[32-5], both[32-3] = 0, 5
	if err := r.parse(both, 32, rows); err == nil {
		t.Error("status 5: no error")
	}
}

func TestRedundantLayouts(t *testing.T) {
	self := &mlog.Index{}
	rows := fieldsOf(0, "v v v-2 v+1 v+1-3 v+3")
	rows.Compact = false
	head := func(n int, short byte, info byte, more ...byte) []byte {
		fixed := []byte{0, 0, byte(n<<1) | short, byte(n >> 7), 0, info}
		return append(fixed, more...)
	}
	for name, c := range map[string]struct {
		x      *mlog.Index
		header []byte
		want   string
	}{
		"infimum":     {self, head(1, 1, 0, 8), "7: 8 = 8"},
		"short":       {self, head(3, 1, 0, 4, 0x80|10, 12), "9: 4 10N 12 = 12"},
		"long":        {self, head(2, 0, 0, 4, 0, 44, 0x41), "10: 4 300E = 300"},
		"long NULL":   {self, head(2, 0, 0, 4, 0, 10, 0x80), "10: 4 10N = 10"},
		"versioned":   {self, head(2, 1, infoVersioned, 7, 4, 9), "9: 4 9 = 9"},
		"not said":    {rows, head(3, 1, 0, 4, 9, 10), "9: 4 9 10 10- 10- 10- = 10"},
		"version 1":   {rows, head(5, 1, infoVersioned, 1, 4, 9, 10, 0x80|12, 13), "12: 4 9 10 12N 13 13- = 13"},
		"version 2":   {rows, head(4, 1, infoVersioned, 2, 4, 9, 0x80|12, 13), "11: 4 9 9- 12N 13 13- = 13"},
		"version 3":   {rows, head(4, 1, infoVersioned, 3, 4, 9, 12, 14), "11: 4 9 9- 12 12- 14 = 14"},
		"node":        {rows, head(2, 1, 0, 4, 8), "8: 4 8 8- 8- 8- 8- = 8"},
		"one of many": {rows, head(1, 1, 0, 8), "7: 8 = 8"},
	} {
		b := reversed(c.header...)
		origin := len(b)
		full := append(b, make([]byte, 300)...)
		var r record
		if err := r.parse(full, origin, c.x); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := show(&r); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
		if err := r.parse(full[:origin+r.data-1], origin, c.x); err == nil {
			t.Errorf("%s: no error without the last byte", name)
		}
		for cut := 1; cut <= origin; cut++ {
			if err := r.parse(full[cut:], origin-cut, c.x); err == nil {
				t.Errorf("%s: no error without %d bytes of the header", name, cut)
			}
		}
	}
}

// script makes records for one page and applies them.
type script struct {
	t     *testing.T
	id    innodb.PageID
	image []byte
	a     *Applier
}

func newScript(t *testing.T, f mysqlredo.Format) *script {
	s := &script{t: t, id: innodb.PageID{Space: 7, No: 5}, image: make([]byte, 4096), a: NewApplier(f)}
	if err := s.a.Begin(s.image, s.id, &innodb.Space{}); err != nil {
		t.Fatal(err)
	}
	s.apply(rec(mlog.InitFilePage2, s.id), rec(mlog.CompPageCreate, s.id))
	return s
}

func (s *script) apply(records ...[]byte) {
	s.t.Helper()
	if err := s.a.Apply(1, slices.Concat(records...)); err != nil {
		s.t.Fatal(err)
	}
	checkPage(s.t, s.image)
}

// insertion is the body of an insert of a whole record after a cursor.
func insertion(cursor int, info byte, header []byte, data ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(cursor))
	b = mlog.AppendC32(b, uint32(len(header)+5+len(data))<<1|1)
	b = append(b, info)
	b = mlog.AppendC32(b, uint32(len(header)+5))
	b = append(b, 0)
	b = append(append(b, reversed(bytes.Clone(header)...)...), 0, 0, 0, 0, 0)
	return append(b, data...)
}

// TestInstantRows inserts, updates, marks, reorganizes and deletes rows of a
// table that columns were added to before 8.0.29, in the form of those servers
// and in that of later ones. No server here writes such rows: what they look like,
// inserted and expected, is from the source of a server. TestInstantServer reads
// those of later servers.
func TestInstantRows(t *testing.T) {
	x := instant(4, fieldsOf(1, "4! 6! 7! 1 v 2!"))
	later := []byte{1, indexCompactInstant, 0, 6, 0, 4, 0, 1}
	later = append(later, oldInfo(x)[6:]...)
	for _, c := range []struct {
		format                           mysqlredo.Format
		info                             []byte
		insert, mark, update, reorg, del mlog.Type
	}{
		{mysqlredo.Format8020, oldInfo(x), mlog.OldCompInsert, mlog.OldCompClustDeleteMark, mlog.OldCompUpdateInPlace, mlog.OldCompReorganize, mlog.OldCompDelete},
		{mysqlredo.Format8030, later, mlog.Insert, mlog.ClustDeleteMark, mlog.UpdateInPlace, mlog.Reorganize, mlog.Delete},
	} {
		s := newScript(t, c.format)
		of := func(t mlog.Type, body []byte) []byte { return rec(t, s.id, slices.Concat(c.info, body)...) }
		row := func(id byte, more ...byte) []byte {
			return append([]byte{0, 0, 0, id, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2}, more...)
		}
		// A row of before: four fields, one NULL bit. One of after: all six, two
		// NULL bits and the length of the fifth.
		s.apply(of(c.insert, insertion(99, 0, []byte{0}, row(1, 'a')...)))
		s.apply(of(c.insert, insertion(126, infoInstant, []byte{6, 0, 3}, row(2, 'b', 'x', 'y', 'z', 0, 5)...)))
		const one, two = 126, 152
		if got := string(s.image[two : two+23]); got != string(row(2, 'b', 'x', 'y', 'z', 0, 5)) {
			t.Fatalf("second row: %q", got)
		}
		// The next one takes its header from the second, and what is the same in the key.
		third := row(3, 'c', 'x', 'y', 'z', 0, 6)
		s.apply(of(c.insert, append([]byte{0, two, 20 << 1}, third[3:]...)))
		const three = two + 23 + 8
		if got := s.image[three-8 : three+23]; got[3]&infoMask != infoInstant || got[2] != 6 || !bytes.Equal(got[8:], third) {
			t.Fatalf("third row: % x", got)
		}
		s.apply(of(c.del, []byte{0, three}))
		system := []byte{1, 9, 9, 9, 9, 9, 9, 9, 0, 0, 0, 0, 8} // position, roll pointer, transaction
		s.apply(of(c.update, slices.Concat([]byte{0}, system, []byte{0, two, 0, 2, 4, 3, 'X', 'Y', 'Z', 5, 2, 7, 7})))
		if got := string(s.image[two : two+23]); got != "\x00\x00\x00\x02\x00\x00\x00\x00\x00\x08\x09\x09\x09\x09\x09\x09\x09bXYZ\x07\x07" {
			t.Errorf("updated: %q", got)
		}
		if s.image[two-5]&infoMask != infoInstant {
			t.Errorf("updated: info bits %#x", s.image[two-5])
		}
		s.apply(of(c.mark, slices.Concat([]byte{4, 1}, system, []byte{0, one})))
		if s.image[one-5]&infoMask != infoDeleted || s.image[one+4] != 1 {
			t.Errorf("marked: %x", s.image[one-5:one+10])
		}
		s.apply(of(c.reorg, nil))
		s.apply(of(c.del, []byte{0, two}))
		if free := get16(s.image, pageFree); free != two || get16(s.image, pageGarbage) != 8+23 {
			t.Errorf("deleted: %d bytes at %d", get16(s.image, pageGarbage), free)
		}
		s.apply(of(c.del, []byte{0, one}))
		if get16(s.image, pageGarbage) != 8+23+6+18 || get16(s.image, pageRecords) != 0 {
			t.Errorf("deleted: %d bytes", get16(s.image, pageGarbage))
		}
	}
}

// indexCompactInstant are the flags of such an index in records since 8.0.30.
const indexCompactInstant = 1 | 4

// TestVirtualFields: updates of 5.7 name virtual columns, which no row holds.
func TestVirtualFields(t *testing.T) {
	s := newScript(t, mysqlredo.Format57)
	info := oldInfo(fieldsOf(2, "4! 4!"))
	of := func(t mlog.Type, body []byte) []byte { return rec(t, s.id, slices.Concat(info, body)...) }
	s.apply(of(mlog.OldCompInsert, insertion(99, 0, nil, 0, 0, 0, 1, 0, 0, 0, 2)))
	body := slices.Concat([]byte{4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0, 125, infoDeleted, 3},
		mlog.AppendC32(nil, 1023), []byte{4, 9, 9, 9, 9}, []byte{1, 4, 0, 0, 0, 3}, mlog.AppendC32(nil, 1030), []byte{0xF0, 0xFF, 0xFF, 0xFF, 0xFF})
	s.apply(of(mlog.OldCompUpdateInPlace, body))
	if got := s.image[125 : 125+8]; !bytes.Equal(got, []byte{0, 0, 0, 1, 0, 0, 0, 3}) || s.image[120] != infoDeleted {
		t.Errorf("%x, info %#x", got, s.image[120])
	}
}

// TestRedundantNULL: fields of REDUNDANT rows become NULL and back in place.
func TestRedundantNULL(t *testing.T) {
	for _, x := range []*mlog.Index{{}, fieldsOf(0, "4 4-1 4")} {
		x.Compact = false
		p := page{frame: make([]byte, 4096)}
		p.create(innodb.TypeIndex, false)
		b := []byte{8, 4, 0, 0, 0, 2<<1 | 1, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2}
		info := byte(0)
		if x.Versioned { // the second field is not in rows of version 1
			b, info = slices.Insert(b, 2, 1), infoVersioned
		}
		at := len(b) - 8
		if err := p.insert(x, p.infimum, tail{bytes: b, explicit: true, info: info, extra: at}); err != nil {
			t.Fatal(err)
		}
		rec, field := p.next(p.infimum), byte(1)
		if x.Versioned {
			field = 2
		}
		update := func(size []byte, value ...byte) {
			b := slices.Concat([]byte{4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, byte(rec >> 8), byte(rec), 0, 1, field}, size, value)
			if err := p.update(x, body{b: b}); err != nil {
				t.Fatal(err)
			}
		}
		update([]byte{0xF0, 0xFF, 0xFF, 0xFF, 0xFF})
		if !bytes.Equal(p.frame[rec:rec+8], []byte{1, 1, 1, 1, 0, 0, 0, 0}) || p.frame[rec-at] != 0x88 || p.frame[rec-6] != info {
			t.Errorf("NULL: % x", p.frame[rec-at:rec+8])
		}
		update([]byte{4}, 3, 3, 3, 3)
		if !bytes.Equal(p.frame[rec:rec+8], []byte{1, 1, 1, 1, 3, 3, 3, 3}) || p.frame[rec-at] != 8 {
			t.Errorf("not NULL: % x", p.frame[rec-at:rec+8])
		}
		if err := p.setField(rec, 0, []byte{1, 2, 3}, false); err == nil {
			t.Error("a value of another length: no error")
		}
	}
}

// TestUnseenRecords: what servers know how to apply and were not seen to write.
func TestUnseenRecords(t *testing.T) {
	s := newScript(t, mysqlredo.Format57)
	info := oldInfo(fieldsOf(1, "4!"))
	of := func(t mlog.Type, body ...byte) []byte { return rec(t, s.id, slices.Concat(info, body)...) }
	s.apply(of(mlog.OldCompInsert, insertion(99, 0, nil, 0, 0, 0, 1)...), rec(mlog.Write8, s.id, 0, pageMaxTrxID, 0, 0, 0, 0, 9))
	s.apply(of(mlog.OldCompSecDeleteMark, 1, 0, 125))
	if s.image[120]&infoMask != infoDeleted {
		t.Error("not marked")
	}
	s.apply(of(mlog.OldCompSecDeleteMark, 0, 0, 125))
	if s.image[120]&infoMask != 0 {
		t.Error("still marked")
	}
	s.apply(of(mlog.OldCompListStartDelete, 0, 112)) // up to the supremum: all
	if get16(s.image, pageRecords) != 0 || get16(s.image, pageHeapTop) != 120 || s.image[125+3] != 0 || s.image[pageMaxTrxID+7] != 9 {
		t.Errorf("not emptied: % x", s.image[pageSlots:pageData+60])
	}
}
