package replay

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"

	"hb/stream/disk"
	"hb/xbstream/innodb"
)

// In the temporary file, each sequence consists of pages in order: tablespace,
// page and the number of bytes of its runs, 4 bytes each, and these, packed, in the
// log's order.
const pageHead = 12

func appendPageHead(b []byte, space, page, size uint32) []byte {
	b = binary.NativeEndian.AppendUint32(b, space)
	b = binary.NativeEndian.AppendUint32(b, page)
	return binary.NativeEndian.AppendUint32(b, size)
}

// memoryEntries goes through a store, entry by entry.
type memoryEntries struct {
	part *memoryPart
	runs []located // of a page, not taken
	e    entry
}

func (m *memoryEntries) next() (*entry, []byte, error) {
	if len(m.runs) == 0 {
		if m.e.space, m.e.page, m.runs = m.part.page(); m.runs == nil {
			return nil, nil, nil
		}
	}
	l := m.runs[0]
	m.runs = m.runs[1:]
	records, err := m.e.unpack(m.part.run(l), m.part.store.base)
	return &m.e, records, err
}

// mergeMemory bounds the buffers of a merge, whatever the number of sequences:
// each has between minPart and maxPart bytes.
const (
	mergeMemory = 16 << 20
	minPart     = 4 << 10
	maxPart     = 1 << 20
)

// filePart goes through a sequence in the temporary file.
type filePart struct {
	f       disk.File
	at, end int64  // of the part that was not read
	base    uint64 // LSN that runs are counted from
	buf     []byte // read
	b       []byte // the end of buf, not taken
	left    int    // of the page's runs, bytes
	e       entry
}

func (p *filePart) next() (*entry, []byte, error) {
	if p.left == 0 {
		if len(p.b) == 0 && p.at == p.end {
			return nil, nil, nil
		}
		head, err := p.take(pageHead)
		if err != nil {
			return nil, nil, err
		}
		p.e.space, p.e.page = binary.NativeEndian.Uint32(head), binary.NativeEndian.Uint32(head[4:])
		p.left = int(binary.NativeEndian.Uint32(head[8:]))
	}
	size, err := p.measure()
	if err != nil {
		return nil, nil, err
	}
	run, err := p.take(size)
	if err != nil {
		return nil, nil, err
	}
	p.left -= size
	records, err := p.e.unpack(run, p.base)
	return &p.e, records, err
}

// measure returns the size of the run that is next.
func (p *filePart) measure() (int, error) {
	if err := p.need(min(p.left, binary.MaxVarintLen32+1)); err != nil {
		return 0, err
	}
	n, w := binary.Uvarint(p.b)
	if w <= 0 || n == 0 || n > maxRun+maxRunHead || int(n) > p.left-w {
		return 0, &innodb.InternalError{What: fmt.Sprintf("redo records of tablespace %d, page %d were put aside damaged", p.e.space, p.e.page)}
	}
	return w + int(n), nil
}

// take takes n bytes, valid until the next call.
func (p *filePart) take(n int) ([]byte, error) {
	if err := p.need(n); err != nil {
		return nil, err
	}
	b := p.b[:n]
	p.b = p.b[n:]
	return b, nil
}

// need reads until there are n bytes to take.
func (p *filePart) need(n int) error {
	if len(p.b) >= n {
		return nil
	}
	if n > len(p.buf) {
		p.b = append(make([]byte, 0, n), p.b...)
		p.buf = p.b[:n]
	} else {
		copy(p.buf, p.b)
	}
	have := len(p.b)
	more := p.buf[have:min(int64(len(p.buf)), int64(have)+p.end-p.at)]
	p.b = p.buf[:have+len(more)]
	_, err := p.f.ReadAt(more, p.at)
	p.at += int64(len(more))
	if err == nil && len(p.b) < n || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("reading redo records that were put aside: %w", err)
	}
	return nil
}

// part is a sequence of entries by page on its way through a merge.
type part struct {
	next    func() (*entry, []byte, error) // nil, nil, nil at the end; valid until the next call
	entry   *entry                         // the first that was not taken
	records []byte                         // its
}

// advance moves the part to its next entry, and reports whether there is one.
func (p *part) advance() (ok bool, err error) {
	p.entry, p.records, err = p.next()
	return p.entry != nil, err
}

type parts []*part

func (p parts) Len() int           { return len(p) }
func (p parts) Less(i, j int) bool { return order(p[i].entry, p[j].entry) < 0 }
func (p parts) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }
func (p *parts) Push(x any)        { *p = append(*p, x.(*part)) }
func (p *parts) Pop() any {
	old := *p
	x := old[len(old)-1]
	*p = old[:len(old)-1]
	return x
}

// merger yields all entries of a plan in order, without those that a truncation
// made meaningless.
type merger struct {
	plan  *Plan
	parts parts
	taken bool // the first part's entry was given out
}

// merge begins to read the plan. Nothing can be added any more.
func (p *Plan) merge() (*merger, error) {
	if err := p.Settle(); err != nil {
		return nil, err
	}
	m := &merger{plan: p}
	sequences := []func() (*entry, []byte, error){(&memoryEntries{part: p.store.sorted()}).next}
	if p.spill != nil {
		size := min(maxPart, max(minPart, mergeMemory/len(p.spill.parts)))
		for i, x := range p.spill.parts {
			end := p.spill.size
			if i+1 < len(p.spill.parts) {
				end = p.spill.parts[i+1].at
			}
			f := &filePart{f: p.spill.f, at: x.at, end: end, base: x.base, buf: make([]byte, size)}
			sequences = append(sequences, f.next)
		}
	}
	for _, next := range sequences {
		x := &part{next: next}
		ok, err := x.advance()
		if err != nil {
			return nil, err
		}
		if ok {
			m.parts = append(m.parts, x)
		}
	}
	heap.Init(&m.parts)
	return m, nil
}

// next returns the next entry and its records, both valid until the call after
// it; nil at the end.
func (m *merger) next() (*entry, []byte, error) {
	for {
		if err := m.settle(); err != nil {
			return nil, nil, err
		}
		if len(m.parts) == 0 {
			return nil, nil, nil
		}
		m.taken = true
		if top := m.parts[0]; !m.plan.trimmed(top.entry) {
			return top.entry, top.records, nil
		}
	}
}

// settle takes the entry that was given out from its part.
func (m *merger) settle() error {
	if !m.taken {
		return nil
	}
	m.taken = false
	top := m.parts[0]
	id := top.entry.id()
	ok, err := top.advance()
	switch {
	case err != nil:
		return err
	case !ok:
		heap.Pop(&m.parts)
	case len(m.parts) > 1 && top.entry.id() != id:
		// What one sequence has of a page is older than all that later ones have.
		heap.Fix(&m.parts, 0)
	}
	return nil
}
