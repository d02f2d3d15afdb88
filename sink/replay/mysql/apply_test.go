package mysql

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/innodbtest"
	"hb/xbstream/innodb/mysqlredo"
)

// sample is one page of a server that was killed: as it was on disk (nothing if
// the log initialises it), the runs of the redo log that it lacked, and as the
// server's own recovery left it (innodb_force_recovery=3). Servers have pages of
// 4 KiB. Every type of record that is of pages not ROW_FORMAT=COMPRESSED and that
// a server of the series can be made to write occurs for each: 9.7, 5.7, 5.6.
type sample struct {
	Server string           `json:"server"`
	Format mysqlredo.Format `json:"format"`
	Space  innodb.SpaceID   `json:"space"`
	Page   innodb.PageNo    `json:"page"`
	Flags  uint32           `json:"flags"`
	LSN    innodb.LSN       `json:"lsn"` // end of the last run's mini-transaction
	Before []byte           `json:"before,omitempty"`
	Runs   [][]byte         `json:"runs"`
	After  []byte           `json:"after"`
}

func (s *sample) id() innodb.PageID { return innodb.PageID{Space: s.Space, No: s.Page} }

// image returns the page before the first run.
func (s *sample) image() []byte {
	if s.Before != nil {
		return bytes.Clone(s.Before)
	}
	return make([]byte, len(s.After))
}

func (s *sample) space(t testing.TB) *innodb.Space {
	space, err := innodb.ParseFlags(s.Flags)
	if err != nil {
		t.Fatal(err)
	}
	space.ID = s.Space
	return &space
}

func samples(t testing.TB) []sample { return innodbtest.Load[sample](t, "pages.json.gz") }

// records calls f with each record of runs.
func records(t testing.TB, runs [][]byte, f func(r mysqlredo.Record, whole []byte)) {
	for _, b := range runs {
		for len(b) > 0 {
			r, _, err := mysqlredo.ParseRecord(b)
			if err != nil {
				t.Fatal(err)
			}
			f(r, b[:r.Size])
			b = b[r.Size:]
		}
	}
}

// replayed applies runs and returns the page as the engine would write it.
func (s *sample) replayed(t testing.TB, runs [][]byte) []byte {
	image, space := s.image(), s.space(t)
	a := NewApplier(s.Format)
	if err := a.Begin(image, s.id(), space); err != nil {
		t.Fatal(err)
	}
	for i, run := range runs {
		if err := a.Apply(innodb.LSN(i+1), run); err != nil {
			t.Fatalf("run %d: %v", i, err)
		}
	}
	if err := a.Finish(); err != nil {
		t.Fatal(err)
	}
	sum, err := space.Verify(s.After, s.Page)
	if err != nil {
		t.Fatal(err)
	}
	space.SetLSN(image, s.LSN)
	space.Stamp(image, sum)
	return image
}

func samePage(t testing.TB, got, want []byte) {
	t.Helper()
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("first difference at byte %d: %#02x, want %#02x", i, got[i], want[i])
		}
	}
}

func TestApplyRealPages(t *testing.T) {
	seen := map[string]map[mysqlredo.Type]bool{}
	versioned := map[bool]bool{} // by row format
	for _, s := range samples(t) {
		t.Run(fmt.Sprintf("%s/%v", s.Server, s.id()), func(t *testing.T) {
			got := s.replayed(t, s.Runs)
			samePage(t, got, s.After)
			if isIndex(innodb.HeaderType(got)) {
				checkPage(t, got)
			}
			if seen[s.Server] == nil {
				seen[s.Server] = map[mysqlredo.Type]bool{}
			}
			records(t, s.Runs, func(r mysqlredo.Record, _ []byte) {
				seen[s.Server][r.Type] = true
				var x mysqlredo.Index
				if _, err := x.Parse(r.Type, r.Body); err != nil {
					t.Fatal(err)
				}
				if x.Versioned {
					versioned[x.Compact] = true
				}
			})
		})
	}
	all := []mysqlredo.Type{mysqlredo.Write1, mysqlredo.Write2, mysqlredo.Write4, mysqlredo.Write8, mysqlredo.WriteString, mysqlredo.SecDeleteMark,
		mysqlredo.PageCreate, mysqlredo.CompPageCreate, mysqlredo.UndoInsert, mysqlredo.UndoEraseEnd, mysqlredo.UndoInit, mysqlredo.UndoHdrReuse,
		mysqlredo.UndoHdrCreate, mysqlredo.IbufBitmapInit, mysqlredo.MinRecMark, mysqlredo.CompMinRecMark}
	for server, more := range map[string][]mysqlredo.Type{
		"mysql97": append([]mysqlredo.Type{mysqlredo.InitFilePage2, mysqlredo.PageCreateRTree, mysqlredo.CompPageCreateRTree, mysqlredo.CompPageCreateSDI}, newTypes...),
		"mysql57": append([]mysqlredo.Type{mysqlredo.InitFilePage2, mysqlredo.PageCreateRTree, mysqlredo.CompPageCreateRTree}, oldTypes...),
		"mysql56": append([]mysqlredo.Type{mysqlredo.InitFilePage}, oldTypes...),
	} {
		for _, want := range slices.Concat(all, more) {
			if !seen[server][want] {
				t.Errorf("%s: no %v among the samples", server, want)
			}
		}
	}
	if !versioned[true] || !versioned[false] {
		t.Errorf("no record of an index with row versions in each family: %v", versioned)
	}
}

// successors are the record types that replaced those of 8.0.28 and before.
var successors = map[mysqlredo.Type][2]mysqlredo.Type{ // REDUNDANT, others
	mysqlredo.Insert:             {mysqlredo.OldInsert, mysqlredo.OldCompInsert},
	mysqlredo.ClustDeleteMark:    {mysqlredo.OldClustDeleteMark, mysqlredo.OldCompClustDeleteMark},
	mysqlredo.Delete:             {mysqlredo.OldDelete, mysqlredo.OldCompDelete},
	mysqlredo.UpdateInPlace:      {mysqlredo.OldUpdateInPlace, mysqlredo.OldCompUpdateInPlace},
	mysqlredo.ListEndCopyCreated: {mysqlredo.OldListEndCopyCreated, mysqlredo.OldCompListEndCopyCreated},
	mysqlredo.Reorganize:         {mysqlredo.OldReorganize, mysqlredo.OldCompReorganize},
	mysqlredo.ListEndDelete:      {mysqlredo.OldListEndDelete, mysqlredo.OldCompListEndDelete},
	mysqlredo.ListStartDelete:    {mysqlredo.OldListStartDelete, mysqlredo.OldCompListStartDelete},
}

var newTypes, oldTypes = func() (n, o []mysqlredo.Type) {
	for t, old := range successors {
		n, o = append(n, t), append(o, old[:]...)
	}
	return n, o
}()

// old writes the record in the form of 8.0.28, if that can say it.
func old(t testing.TB, r mysqlredo.Record, whole []byte) ([]byte, bool) {
	types, ok := successors[r.Type]
	if !ok {
		return whole, true
	}
	var x mysqlredo.Index
	rest, err := x.Parse(r.Type, r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if x.Versioned {
		return nil, false
	}
	head := bytes.Clone(whole[:len(whole)-len(r.Body)])
	head[0] = head[0]&0x80 | byte(types[0])
	if x.Compact {
		head[0] = head[0]&0x80 | byte(types[1])
		head = append(head, oldInfo(&x)...)
	}
	return append(head, rest...), true
}

// oldInfo describes an index in the form of 8.0.28.
func oldInfo(x *mysqlredo.Index) []byte {
	var b []byte
	n := len(x.Fields)
	if x.HasInstant {
		b = binary.BigEndian.AppendUint16(b, uint16(x.NInstant)|0x8000)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = binary.BigEndian.AppendUint16(b, uint16(x.NUniq))
	for _, f := range x.Fields {
		v := f.Len
		if f.Big {
			v = 0x7FFF
		}
		if f.NotNull {
			v |= 0x8000
		}
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

// TestOldForm applies what 9.7 logged in the form that 8.0.28 used.
func TestOldForm(t *testing.T) {
	seen := map[mysqlredo.Type]bool{}
	for _, s := range samples(t) {
		var runs [][]byte
		changed, possible := 0, true
		records(t, s.Runs, func(r mysqlredo.Record, whole []byte) {
			b, ok := old(t, r, whole)
			possible = possible && ok
			if ok && !bytes.Equal(b, whole) {
				changed++
				seen[mysqlredo.Type(b[0]&0x7F)] = true
			}
			runs = append(runs, b)
		})
		if changed > 0 && possible {
			samePage(t, s.replayed(t, runs), s.After)
		}
	}
	for _, want := range oldTypes {
		if !seen[want] {
			t.Errorf("no %v was made", want)
		}
	}
}

// TestFlushLSN: 5.6 clears what is there as it writes a page of a
// ROW_FORMAT=COMPRESSED tablespace, and no other.
func TestFlushLSN(t *testing.T) {
	id := innodb.PageID{Space: 7, No: 5}
	run := rec(mysqlredo.WriteString, id, 0, 26, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8)
	for _, c := range []struct {
		format mysqlredo.Format
		flags  uint32
		stays  bool
	}{
		{mysqlredo.Format56, 0x27, false}, {mysqlredo.Format56, 0x21, true}, {mysqlredo.Format57, 0x27, true}, {mysqlredo.Format8030, 0x27, true},
	} {
		space, err := innodb.ParseFlags(c.flags)
		if err != nil {
			t.Fatal(err)
		}
		image := make([]byte, space.Physical)
		a := NewApplier(c.format)
		if err := errors.Join(a.Begin(image, id, &space), a.Apply(1, run), a.Finish()); err != nil {
			t.Fatal(err)
		}
		if stays := image[26] == 1 && image[33] == 8; stays != c.stays || !stays && !innodb.AllZero(image) {
			t.Errorf("format %v, flags %#x: %x", c.format, c.flags, image[24:40])
		}
	}
}

// rec builds a record of a page.
func rec(t mysqlredo.Type, id innodb.PageID, body ...byte) []byte {
	return innodbtest.MySQLRecord(t, uint32(id.Space), uint32(id.No), body...)
}

func TestApplyPlainRecords(t *testing.T) {
	id := innodb.PageID{Space: 7, No: 5}
	image := bytes.Repeat([]byte{0xEE}, 4096)
	run := slices.Concat(
		rec(mysqlredo.InitFilePage2, id),
		rec(mysqlredo.Write1, id, 0, 50, 0x80, 0xFE),
		rec(mysqlredo.Write2, id, 0, 52, 0xC0, 0xAB, 0xCD),
		rec(mysqlredo.Write4, id, 0, 54, 0xF0, 1, 2, 3, 4),
		rec(mysqlredo.Write4, id, 0, 58, 0xFB, 0xFF), // 8.0.19: all ones
		rec(mysqlredo.Write8, id, 0, 62, 0x80, 0x81, 5, 6, 7, 8),
		rec(mysqlredo.WriteString, id, 0x0F, 0xFC, 0, 4, 'l', 'a', 's', 't'),
		rec(mysqlredo.UndoInit, id, 2),
	)
	a := NewApplier(mysqlredo.Format8030)
	if err := errors.Join(a.Begin(image, id, &innodb.Space{}), a.Apply(1, run), a.Finish()); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 4096)
	want[7], want[37], want[25] = 5, 7, 2
	copy(want[38:], []byte{0, 2, 0, 56, 0, 56})
	copy(want[50:], []byte{0xFE, 0, 0xAB, 0xCD, 1, 2, 3, 4, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0x81, 5, 6, 7, 8}[:4])
	copy(want[54:], []byte{1, 2, 3, 4, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0x81, 5, 6, 7, 8})
	copy(want[62:], []byte{0, 0, 0, 0x81, 5, 6, 7, 8})
	copy(want[4092:], "last")
	samePage(t, image, want)
}

// TestErrorsNameTheRecord and where it is.
func TestErrorsNameTheRecord(t *testing.T) {
	id := innodb.PageID{Space: 7, No: 5}
	first := rec(mysqlredo.InitFilePage2, id)
	a := NewApplier(mysqlredo.Format8030)
	if err := a.Begin(make([]byte, 4096), id, &innodb.Space{}); err != nil {
		t.Fatal(err)
	}
	err := a.Apply(1, slices.Concat(first, rec(mysqlredo.Write1, id, 0x10, 0, 1)))
	if want := fmt.Sprintf("MLOG_1BYTE at byte %d of the run: 1 bytes at offset 4096", len(first)); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestApplyRefuses(t *testing.T) {
	id := innodb.PageID{Space: 7, No: 5}
	index := func(records ...[]byte) []byte {
		return slices.Concat(rec(mysqlredo.InitFilePage2, id), rec(mysqlredo.CompPageCreate, id), slices.Concat(records...))
	}
	info := oldInfo(&mysqlredo.Index{NUniq: 1, Fields: []mysqlredo.Field{{NotNull: true, Len: 4}}})
	of := func(t mysqlredo.Type, body ...byte) []byte { return rec(t, id, append(bytes.Clone(info), body...)...) }
	undo := func(records ...[]byte) []byte {
		return slices.Concat(rec(mysqlredo.InitFilePage2, id), rec(mysqlredo.UndoInit, id, 1), slices.Concat(records...))
	}
	row := []byte{2*9 + 1, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4} // explicit, 9 bytes, origin 5, nothing in common
	for name, run := range map[string][]byte{
		"beyond the page":            rec(mysqlredo.Write4, id, 0x0F, 0xFD, 1),
		"string beyond the page":     rec(mysqlredo.WriteString, id, 0x0F, 0xFF, 0, 2, 1, 2),
		"number too large":           rec(mysqlredo.Write1, id, 0, 50, 0x81, 0),
		"another page":               rec(mysqlredo.Write1, innodb.PageID{Space: 7, No: 6}, 0, 50, 1),
		"a file's record":            rec(mysqlredo.FileDelete, id, 0, 3, 'a', 'b', 0),
		"no record of a page":        rec(mysqlredo.IndexLoad, id, 0, 0, 0, 0, 0, 0, 0, 1),
		"end of a group":             {byte(mysqlredo.MultiRecEnd)},
		"unknown":                    {66, 7, 5},
		"cut":                        rec(mysqlredo.Write1, id, 0),
		"discarded undo header":      rec(mysqlredo.UndoHdrDiscard, id),
		"undo record on no page":     slices.Concat(rec(mysqlredo.InitFilePage2, id), rec(mysqlredo.UndoInsert, id, 0, 1, 9)),
		"undo record too long":       undo(rec(mysqlredo.UndoInsert, id, append([]byte{0x0F, 0xC8}, make([]byte, 0x0FC8)...)...)),
		"undo free space":            undo(rec(mysqlredo.Write2, id, 0, 42, 0xC0, 0x0F, 0xF9), rec(mysqlredo.UndoEraseEnd, id)),
		"undo log without room":      undo(rec(mysqlredo.Write2, id, 0, 42, 0xC0, 0x0F, 0), rec(mysqlredo.UndoHdrCreate, id, 0, 0, 0, 0, 1)),
		"undo log in the header":     undo(rec(mysqlredo.UndoHdrCreate, id, 0, 0, 0, 0, 1)),
		"insert into no index":       of(mysqlredo.OldCompInsert, append([]byte{0, 99}, row...)...),
		"insert into another format": slices.Concat(rec(mysqlredo.PageCreate, id), of(mysqlredo.OldCompInsert, append([]byte{0, 99}, row...)...)),
		"insert after the supremum":  index(of(mysqlredo.OldCompInsert, append([]byte{0, 112}, row...)...)),
		"insert after nothing":       index(of(mysqlredo.OldCompInsert, append([]byte{0, 50}, row...)...)),
		"insert far":                 index(of(mysqlredo.OldCompInsert, append([]byte{0x7F, 0xFF}, row...)...)),
		"record of another size":     index(of(mysqlredo.OldCompInsert, 0, 99, 2*8+1, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2, 3)),
		"origin outside":             index(of(mysqlredo.OldCompInsert, append([]byte{0, 99, 2*9 + 1, 0, 10}, row[3:]...)...)),
		"too much in common":         index(of(mysqlredo.OldCompInsert, 0, 99, 2*0+1, 0, 5, 20)),
		"less than in common":        index(of(mysqlredo.OldCompInsert, append([]byte{0, 99, 2 * 20}, make([]byte, 20)...)...)),
		"delete the infimum":         index(of(mysqlredo.OldCompDelete, 0, 99)),
		"delete the supremum":        index(of(mysqlredo.OldCompDelete, 0, 112)),
		"delete nothing":             index(of(mysqlredo.OldCompDelete, 0, 130)),
		"delete the list's infimum":  index(of(mysqlredo.OldCompListEndDelete, 0, 99)),
		"delete up to nothing":       index(of(mysqlredo.OldCompListStartDelete, 0, 120)),
		"mark nothing":               index(rec(mysqlredo.SecDeleteMark, id, 1, 1, 0)),
		"mark in another format":     index(rec(mysqlredo.MinRecMark, id, 0, 99)),
		"copy to a filled page":      index(of(mysqlredo.OldCompInsert, append([]byte{0, 99}, row...)...), of(mysqlredo.OldCompListEndCopyCreated, 0, 0, 0, 0)),
		"copy cut short":             index(of(mysqlredo.OldCompListEndCopyCreated, 0, 0, 0, 3, 2*9+1, 0, 5)),
		"compressed page's record":   index(rec(mysqlredo.ZipWriteHeader, id, 50, 1, 0)),
	} {
		a := NewApplier(mysqlredo.Format57)
		space, err := innodb.ParseFlags(0)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Begin(make([]byte, 4096), id, &space); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(a.Apply(1, run), a.Finish()); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestDamagedIndexPages: whatever is wrong with an index page is an error, or
// not noticed, but never more.
func TestDamagedIndexPages(t *testing.T) {
	for _, s := range samples(t) {
		if !isIndex(innodb.HeaderType(s.After)) || s.Before == nil {
			continue
		}
		for at := innodb.OffsetType; at < pageData+60; at++ {
			for _, v := range []byte{0, 1, 0x7F, 0xFF} {
				image := s.image()
				image[at] = v
				applyAll(&s, image, s.space(t))
			}
		}
	}
}

func applyAll(s *sample, image []byte, space *innodb.Space) {
	a := NewApplier(s.Format)
	if a.Begin(image, s.id(), space) != nil {
		return
	}
	for _, run := range s.Runs {
		if a.Apply(1, run) != nil {
			return
		}
	}
	_ = a.Finish()
}

// FuzzApply: no page and no records make Apply panic or go on for ever.
func FuzzApply(f *testing.F) {
	for _, s := range samples(f) {
		image := s.image()
		for i, run := range s.Runs {
			if i%8 == 0 {
				f.Add(uint8(s.Format), s.Flags, bytes.Clone(image), run)
			}
			a := NewApplier(s.Format)
			if err := errors.Join(a.Begin(image, s.id(), s.space(f)), a.Apply(1, run), a.Finish()); err != nil {
				f.Fatal(err)
			}
		}
	}
	f.Fuzz(func(_ *testing.T, format uint8, flags uint32, image, run []byte) {
		space, err := innodb.ParseFlags(flags)
		if err != nil || len(run) > 4<<10 {
			return
		}
		r, _, err := mysqlredo.ParseRecord(run)
		if err != nil {
			return
		}
		page := make([]byte, space.Physical)
		copy(page, image)
		a := NewApplier(mysqlredo.Format(format))
		if a.Begin(page, r.Page, &space) == nil && a.Apply(1, run) == nil {
			_ = a.Finish()
		}
	})
}

// BenchmarkApply applies real runs, of records of index pages mostly.
func BenchmarkApply(b *testing.B) {
	s := slices.MaxFunc(samples(b), func(a, b sample) int { return len(a.Runs) - len(b.Runs) })
	space, a, size := s.space(b), NewApplier(s.Format), 0
	for _, run := range s.Runs {
		size += len(run)
	}
	before, image := s.image(), s.image()
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		copy(image, before)
		if err := a.Begin(image, s.id(), space); err != nil {
			b.Fatal(err)
		}
		for _, run := range s.Runs {
			if err := a.Apply(1, run); err != nil {
				b.Fatal(err)
			}
		}
		if err := a.Finish(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(s.Runs)), "ns/run")
}
