package replay

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"
)

// spilledEntry is the size of an entry in the temporary file; its records
// follow.
const spilledEntry = 32

func appendEntry(b []byte, e *entry) []byte {
	le := binary.NativeEndian
	b = le.AppendUint32(b, e.space)
	b = le.AppendUint32(b, e.page)
	b = le.AppendUint64(b, e.lsn)
	b = le.AppendUint32(b, e.size)
	b = le.AppendUint32(b, e.start)
	b = le.AppendUint32(b, e.end)
	return le.AppendUint32(b, uint32(e.kind))
}

func readEntry(b []byte) entry {
	le := binary.NativeEndian
	return entry{
		space: le.Uint32(b), page: le.Uint32(b[4:]), lsn: le.Uint64(b[8:]), size: le.Uint32(b[16:]),
		start: le.Uint32(b[20:]), end: le.Uint32(b[24:]), kind: Kind(le.Uint32(b[28:])),
	}
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
	r       *bufio.Reader
	e       entry
	head    [spilledEntry]byte
	records []byte // of a run; grows to the longest
}

func (f *filePart) next() (*entry, []byte, error) {
	_, err := io.ReadFull(f.r, f.head[:])
	if err == io.EOF {
		return nil, nil, nil
	}
	if err == nil {
		f.e = readEntry(f.head[:])
		if f.e.size > maxRun {
			return nil, nil, fmt.Errorf("internal error: %d bytes of redo records were put aside for one page", f.e.size)
		}
		if int(f.e.size) > cap(f.records) {
			f.records = make([]byte, max(int(f.e.size), 2*cap(f.records)))
		}
		f.records = f.records[:f.e.size]
		_, err = io.ReadFull(f.r, f.records)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading redo records that were put aside: %w", err)
	}
	return &f.e, f.records, nil
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
	sequences := []func() (*entry, []byte, error){p.store.sorted().next}
	if p.spill != nil {
		size := min(maxPart, max(minPart, mergeMemory/len(p.spill.parts)))
		for i, at := range p.spill.parts {
			end := p.spill.size
			if i+1 < len(p.spill.parts) {
				end = p.spill.parts[i+1]
			}
			f := &filePart{r: bufio.NewReaderSize(io.NewSectionReader(p.spill.f, at, end-at), size)}
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
