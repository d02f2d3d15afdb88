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
	"hb/xbstream/innodb/mysqlredo/mlog"
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
func records(t testing.TB, runs [][]byte, f func(r mlog.Record, whole []byte)) {
	for _, b := range runs {
		for len(b) > 0 {
			r, _, err := mlog.ParseRecord(b)
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
	seen := map[string]map[mlog.Type]bool{}
	versioned := map[bool]bool{} // by row format
	for _, s := range samples(t) {
		t.Run(fmt.Sprintf("%s/%v", s.Server, s.id()), func(t *testing.T) {
			got := s.replayed(t, s.Runs)
			samePage(t, got, s.After)
			if isIndex(innodb.HeaderType(got)) {
				checkPage(t, got)
			}
			if seen[s.Server] == nil {
				seen[s.Server] = map[mlog.Type]bool{}
			}
			records(t, s.Runs, func(r mlog.Record, _ []byte) {
				seen[s.Server][r.Type] = true
				var x mlog.Index
				if _, err := x.Parse(r.Type, r.Body); err != nil {
					t.Fatal(err)
				}
				if x.Versioned {
					versioned[x.Compact] = true
				}
			})
		})
	}
	all := []mlog.Type{mlog.Write1, mlog.Write2, mlog.Write4, mlog.Write8, mlog.WriteString, mlog.SecDeleteMark,
		mlog.PageCreate, mlog.CompPageCreate, mlog.UndoInsert, mlog.UndoEraseEnd, mlog.UndoInit, mlog.UndoHdrReuse,
		mlog.UndoHdrCreate, mlog.IbufBitmapInit, mlog.MinRecMark, mlog.CompMinRecMark}
	for server, more := range map[string][]mlog.Type{
		"mysql97": append([]mlog.Type{mlog.InitFilePage2, mlog.PageCreateRTree, mlog.CompPageCreateRTree, mlog.CompPageCreateSDI}, newTypes...),
		"mysql57": append([]mlog.Type{mlog.InitFilePage2, mlog.PageCreateRTree, mlog.CompPageCreateRTree}, oldTypes...),
		"mysql56": append([]mlog.Type{mlog.InitFilePage}, oldTypes...),
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
var successors = map[mlog.Type][2]mlog.Type{ // REDUNDANT, others
	mlog.Insert:             {mlog.OldInsert, mlog.OldCompInsert},
	mlog.ClustDeleteMark:    {mlog.OldClustDeleteMark, mlog.OldCompClustDeleteMark},
	mlog.Delete:             {mlog.OldDelete, mlog.OldCompDelete},
	mlog.UpdateInPlace:      {mlog.OldUpdateInPlace, mlog.OldCompUpdateInPlace},
	mlog.ListEndCopyCreated: {mlog.OldListEndCopyCreated, mlog.OldCompListEndCopyCreated},
	mlog.Reorganize:         {mlog.OldReorganize, mlog.OldCompReorganize},
	mlog.ListEndDelete:      {mlog.OldListEndDelete, mlog.OldCompListEndDelete},
	mlog.ListStartDelete:    {mlog.OldListStartDelete, mlog.OldCompListStartDelete},
}

var newTypes, oldTypes = func() (n, o []mlog.Type) {
	for t, old := range successors {
		n, o = append(n, t), append(o, old[:]...)
	}
	return n, o
}()

// old writes the record in the form of 8.0.28, if that can say it.
func old(t testing.TB, r mlog.Record, whole []byte) ([]byte, bool) {
	types, ok := successors[r.Type]
	if !ok {
		return whole, true
	}
	var x mlog.Index
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
func oldInfo(x *mlog.Index) []byte {
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
	seen := map[mlog.Type]bool{}
	for _, s := range samples(t) {
		var runs [][]byte
		changed, possible := 0, true
		records(t, s.Runs, func(r mlog.Record, whole []byte) {
			b, ok := old(t, r, whole)
			possible = possible && ok
			if ok && !bytes.Equal(b, whole) {
				changed++
				seen[mlog.Type(b[0]&0x7F)] = true
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
	run := rec(mlog.WriteString, id, 0, 26, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8)
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
func rec(t mlog.Type, id innodb.PageID, body ...byte) []byte {
	return innodbtest.MySQLRecord(t, uint32(id.Space), uint32(id.No), body...)
}

func TestApplyPlainRecords(t *testing.T) {
	id := innodb.PageID{Space: 7, No: 5}
	image := bytes.Repeat([]byte{0xEE}, 4096)
	run := slices.Concat(
		rec(mlog.InitFilePage2, id),
		rec(mlog.Write1, id, 0, 50, 0x80, 0xFE),
		rec(mlog.Write2, id, 0, 52, 0xC0, 0xAB, 0xCD),
		rec(mlog.Write4, id, 0, 54, 0xF0, 1, 2, 3, 4),
		rec(mlog.Write4, id, 0, 58, 0xFB, 0xFF), // 8.0.19: all ones
		rec(mlog.Write8, id, 0, 62, 0x80, 0x81, 5, 6, 7, 8),
		rec(mlog.WriteString, id, 0x0F, 0xFC, 0, 4, 'l', 'a', 's', 't'),
		rec(mlog.UndoInit, id, 2),
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
	first := rec(mlog.InitFilePage2, id)
	a := NewApplier(mysqlredo.Format8030)
	if err := a.Begin(make([]byte, 4096), id, &innodb.Space{}); err != nil {
		t.Fatal(err)
	}
	err := a.Apply(1, slices.Concat(first, rec(mlog.Write1, id, 0x10, 0, 1)))
	if want := fmt.Sprintf("MLOG_1BYTE at byte %d of the run: 1 bytes at offset 4096", len(first)); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestApplyRefuses(t *testing.T) {
	id := innodb.PageID{Space: 7, No: 5}
	index := func(records ...[]byte) []byte {
		return slices.Concat(rec(mlog.InitFilePage2, id), rec(mlog.CompPageCreate, id), slices.Concat(records...))
	}
	info := oldInfo(&mlog.Index{NUniq: 1, Fields: []mlog.Field{{NotNull: true, Len: 4}}})
	of := func(t mlog.Type, body ...byte) []byte { return rec(t, id, append(bytes.Clone(info), body...)...) }
	undo := func(records ...[]byte) []byte {
		return slices.Concat(rec(mlog.InitFilePage2, id), rec(mlog.UndoInit, id, 1), slices.Concat(records...))
	}
	row := []byte{2*9 + 1, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4} // explicit, 9 bytes, origin 5, nothing in common
	for name, run := range map[string][]byte{
		"beyond the page":            rec(mlog.Write4, id, 0x0F, 0xFD, 1),
		"string beyond the page":     rec(mlog.WriteString, id, 0x0F, 0xFF, 0, 2, 1, 2),
		"number too large":           rec(mlog.Write1, id, 0, 50, 0x81, 0),
		"another page":               rec(mlog.Write1, innodb.PageID{Space: 7, No: 6}, 0, 50, 1),
		"a file's record":            rec(mlog.FileDelete, id, 0, 3, 'a', 'b', 0),
		"no record of a page":        rec(mlog.IndexLoad, id, 0, 0, 0, 0, 0, 0, 0, 1),
		"end of a group":             {byte(mlog.MultiRecEnd)},
		"unknown":                    {66, 7, 5},
		"cut":                        rec(mlog.Write1, id, 0),
		"discarded undo header":      rec(mlog.UndoHdrDiscard, id),
		"undo record on no page":     slices.Concat(rec(mlog.InitFilePage2, id), rec(mlog.UndoInsert, id, 0, 1, 9)),
		"undo record too long":       undo(rec(mlog.UndoInsert, id, append([]byte{0x0F, 0xC8}, make([]byte, 0x0FC8)...)...)),
		"undo free space":            undo(rec(mlog.Write2, id, 0, 42, 0xC0, 0x0F, 0xF9), rec(mlog.UndoEraseEnd, id)),
		"undo log without room":      undo(rec(mlog.Write2, id, 0, 42, 0xC0, 0x0F, 0), rec(mlog.UndoHdrCreate, id, 0, 0, 0, 0, 1)),
		"undo log in the header":     undo(rec(mlog.UndoHdrCreate, id, 0, 0, 0, 0, 1)),
		"insert into no index":       of(mlog.OldCompInsert, append([]byte{0, 99}, row...)...),
		"insert into another format": slices.Concat(rec(mlog.PageCreate, id), of(mlog.OldCompInsert, append([]byte{0, 99}, row...)...)),
		"insert after the supremum":  index(of(mlog.OldCompInsert, append([]byte{0, 112}, row...)...)),
		"insert after nothing":       index(of(mlog.OldCompInsert, append([]byte{0, 50}, row...)...)),
		"insert far":                 index(of(mlog.OldCompInsert, append([]byte{0x7F, 0xFF}, row...)...)),
		"record of another size":     index(of(mlog.OldCompInsert, 0, 99, 2*8+1, 0, 5, 0, 0, 0, 0, 0, 0, 1, 2, 3)),
		"origin outside":             index(of(mlog.OldCompInsert, append([]byte{0, 99, 2*9 + 1, 0, 10}, row[3:]...)...)),
		"too much in common":         index(of(mlog.OldCompInsert, 0, 99, 2*0+1, 0, 5, 20)),
		"less than in common":        index(of(mlog.OldCompInsert, append([]byte{0, 99, 2 * 20}, make([]byte, 20)...)...)),
		"delete the infimum":         index(of(mlog.OldCompDelete, 0, 99)),
		"delete the supremum":        index(of(mlog.OldCompDelete, 0, 112)),
		"delete nothing":             index(of(mlog.OldCompDelete, 0, 130)),
		"delete the list's infimum":  index(of(mlog.OldCompListEndDelete, 0, 99)),
		"delete up to nothing":       index(of(mlog.OldCompListStartDelete, 0, 120)),
		"mark nothing":               index(rec(mlog.SecDeleteMark, id, 1, 1, 0)),
		"mark in another format":     index(rec(mlog.MinRecMark, id, 0, 99)),
		"copy to a filled page":      index(of(mlog.OldCompInsert, append([]byte{0, 99}, row...)...), of(mlog.OldCompListEndCopyCreated, 0, 0, 0, 0)),
		"copy cut short":             index(of(mlog.OldCompListEndCopyCreated, 0, 0, 0, 3, 2*9+1, 0, 5)),
		"compressed page's record":   index(rec(mlog.ZipWriteHeader, id, 50, 1, 0)),
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
		r, _, err := mlog.ParseRecord(run)
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
