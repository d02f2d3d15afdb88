package mysql

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"hb/xbstream/innodb"
	"hb/xbstream/innodb/mysqlredo/mlog"
)

// checkPage checks what holds for every index page: the list of records, the
// directory, the heap and the list of deleted records fit one another.
func checkPage(t testing.TB, frame []byte) {
	t.Helper()
	if err := intact(frame); err != nil {
		t.Fatal(err)
	}
}

func intact(frame []byte) error {
	p := page{frame: frame}
	if err := p.open(p.isCompact()); err != nil {
		return err
	}
	heap := make(map[int]bool)
	see := func(rec int) error {
		no := p.heapNo(rec)
		if heap[no] || no < firstUser || no >= p.heapSize() {
			return fmt.Errorf("record %d: heap number %d", rec, no)
		}
		heap[no] = true
		return nil
	}
	n, owned, slot := 0, 1, 1
	if p.owned(p.infimum) != 1 {
		return fmt.Errorf("the infimum owns %d", p.owned(p.infimum))
	}
	for rec := p.next(p.infimum); ; rec = p.next(rec) {
		if err := p.linked(rec); err != nil {
			return err
		}
		if k := p.owned(rec); k != 0 {
			last := rec == p.supremum
			if k != owned || p.get(p.slot(slot)) != rec || k > slotMax || k < slotMin && !last {
				return fmt.Errorf("record %d owns %d of %d, slot %d is of %d", rec, k, owned, slot, p.get(p.slot(slot)))
			}
			owned, slot = 0, slot+1
		}
		if rec == p.supremum {
			break
		}
		if err := see(rec); err != nil {
			return err
		}
		n, owned = n+1, owned+1
	}
	if n != p.get(pageRecords) || slot != p.slots() {
		return fmt.Errorf("%d records of %d, %d slots of %d", n, p.get(pageRecords), slot, p.slots())
	}
	for rec := p.get(pageFree); rec != 0; rec = p.next(rec) {
		if err := p.user(rec); err != nil {
			return err
		}
		if err := see(rec); err != nil {
			return err
		}
	}
	if len(heap)+firstUser != p.heapSize() {
		return fmt.Errorf("%d records of %d in the heap are in a list", len(heap), p.heapSize()-firstUser)
	}
	return nil
}

// model is an index page and what should be on it: a number for each record, in
// order. Records are of different lengths.
type model struct {
	t    *testing.T
	page page
	x    mlog.Index
	want []uint32
}

func newModel(t *testing.T, isCompact bool) *model {
	m := &model{t: t, page: page{frame: make([]byte, 4096)}}
	m.x = mlog.Index{Compact: isCompact, NUniq: 2, Fields: []mlog.Field{{NotNull: true, Len: 4}, {NotNull: true}}, Physical: []int{0, 1}}
	if !isCompact {
		m.x = mlog.Index{}
	}
	m.page.create(innodb.TypeIndex, isCompact)
	return m
}

// tail is a record with a number and n bytes more.
func (m *model) tail(v uint32, n int) tail {
	var b []byte
	extra := 6
	if m.x.Compact {
		b = []byte{byte(n), 0, 0, 0, 0, 0}
	} else {
		extra = 6 + 2
		b = []byte{byte(4 + n), 4, 0, 0, 0, 2<<1 | 1, 0, 0}
	}
	b = binary.BigEndian.AppendUint32(b, v)
	return tail{bytes: append(b, make([]byte, n)...), explicit: true, extra: extra}
}

// origins follows the list of records.
func (m *model) origins() (out []int) {
	p := &m.page
	for rec := p.next(p.infimum); rec != p.supremum; rec = p.next(rec) {
		out = append(out, rec)
	}
	return out
}

func (m *model) check() {
	m.t.Helper()
	checkPage(m.t, m.page.frame)
	var got []uint32
	size := 0
	for _, rec := range m.origins() {
		got = append(got, binary.BigEndian.Uint32(m.page.frame[rec:]))
		if err := m.page.layout(&m.page.one, rec, &m.x); err != nil {
			m.t.Fatal(err)
		}
		size += m.page.one.size()
	}
	if !slices.Equal(got, m.want) {
		m.t.Fatalf("got %v\nwant %v", got, m.want)
	}
	if top := m.page.get(pageHeapTop); size+m.page.get(pageGarbage) > top-m.page.heap {
		m.t.Fatalf("%d bytes of records and %d of garbage in a heap of %d", size, m.page.get(pageGarbage), top-m.page.heap)
	}
}

// step does something to the page, if there is room for it.
func (m *model) step(r *rand.Rand) {
	at := r.IntN(len(m.want) + 1)
	p, recs := &m.page, m.origins()
	rec := func(i int) int {
		switch {
		case i < 0:
			return p.infimum
		case i == len(recs):
			return p.supremum
		}
		return recs[i]
	}
	var err error
	switch k := r.IntN(100); {
	case k < 60:
		if p.slot(p.slots())-p.get(pageHeapTop) < 150 {
			err = p.reorganize(&m.x)
			break
		}
		v := r.Uint32()
		err = p.insert(&m.x, rec(at-1), m.tail(v, r.IntN(60)))
		m.want = slices.Insert(m.want, at, v)
	case k < 95:
		if at < len(m.want) {
			err = p.delete(&m.x, rec(at))
			m.want = slices.Delete(m.want, at, at+1)
		}
	case k < 96:
		err = p.deleteListEnd(&m.x, rec(at))
		m.want = m.want[:at]
	case k < 97:
		err = p.deleteListStart(&m.x, rec(at))
		m.want = slices.Delete(m.want, 0, at)
	case k < 98:
		err = p.deleteEach(&m.x, rec(at))
		m.want = m.want[:at]
	default:
		err = p.reorganize(&m.x)
		if garbage := p.get(pageGarbage); garbage != 0 || p.get(pageFree) != 0 {
			m.t.Fatalf("%d bytes of garbage in a reorganized page", garbage)
		}
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func TestPageModel(t *testing.T) {
	for seed := range uint64(20) {
		m := newModel(t, seed%2 == 0)
		r := rand.New(rand.NewPCG(seed, 0))
		for range 800 {
			if len(m.want) > 60 {
				m.want = m.want[:30]
				if err := m.page.deleteListEnd(&m.x, m.origins()[30]); err != nil {
					t.Fatal(err)
				}
			}
			m.step(r)
			m.check()
		}
	}
}

// TestFreeListHead: only the head of the list of deleted records is looked at,
// and what it has more than is needed is lost.
func TestFreeListHead(t *testing.T) {
	m := newModel(t, true)
	p := &m.page
	for i, n := range []int{50, 10, 0} {
		if err := p.insert(&m.x, p.infimum, m.tail(uint32(i), n)); err != nil {
			t.Fatal(err)
		}
	}
	recs := m.origins() // of 0, 10 and 50 bytes
	for _, i := range []int{1, 2} {
		if err := p.delete(&m.x, recs[i]); err != nil {
			t.Fatal(err)
		}
	}
	top, garbage := p.get(pageHeapTop), p.get(pageGarbage)
	if garbage != 6+4+10+6+4+50 {
		t.Fatalf("%d bytes of garbage", garbage)
	}
	// Takes the place of the large one, not of the one that would just fit.
	if err := p.insert(&m.x, p.infimum, m.tail(9, 10)); err != nil {
		t.Fatal(err)
	}
	if rec := m.origins()[0]; rec != recs[2] || p.heapNo(rec) != 2 || p.get(pageGarbage) != garbage-20 || p.get(pageFree) != recs[1] || p.get(pageHeapTop) != top {
		t.Errorf("at %d, heap number %d, garbage %d", rec, p.heapNo(rec), p.get(pageGarbage))
	}
	// The head is too small now.
	if err := p.insert(&m.x, p.infimum, m.tail(10, 11)); err != nil {
		t.Fatal(err)
	}
	if rec := m.origins()[0]; rec != top+6 || p.heapNo(rec) != 5 || p.get(pageFree) != recs[1] {
		t.Errorf("at %d, heap number %d", rec, p.heapNo(rec))
	}
}

// TestEndlessLists: lists that bite their own tail end in errors.
func TestEndlessLists(t *testing.T) {
	for name, f := range map[string]func(p *page, x *mlog.Index, recs []int) error{
		"reorganize": func(p *page, x *mlog.Index, recs []int) error { return p.reorganize(x) },
		"delete":     func(p *page, x *mlog.Index, recs []int) error { return p.delete(x, recs[9]) },
		"list end":   func(p *page, x *mlog.Index, recs []int) error { return p.deleteListEnd(x, recs[9]) },
		"each":       func(p *page, x *mlog.Index, recs []int) error { return p.deleteEach(x, recs[9]) },
		"list start": func(p *page, x *mlog.Index, recs []int) error { return p.deleteListStart(x, recs[9]+1) },
		"insert":     func(p *page, x *mlog.Index, recs []int) error { return p.link(recs[9], recs[3], 5) },
	} {
		m := newModel(t, true)
		for i := range uint32(10) {
			if err := m.page.insert(&m.x, m.page.infimum, m.tail(i, 3)); err != nil {
				t.Fatal(err)
			}
		}
		recs := m.origins()
		for _, rec := range recs {
			m.page.setOwned(rec, 0)
		}
		m.page.setNext(recs[9], recs[2])
		if err := f(&m.page, &m.x, recs); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
