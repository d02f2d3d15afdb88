package replay

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"io"

	"hb/stream/disk"
)

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
	maxPart     = 256 << 10
)

// part is one sorted sequence on its way through a merge.
type part struct {
	entry // the next one
	f     disk.File
	at    int64 // of what is to be read next
	end   int64
	buf   []byte // entries read and not taken, the first one excluded
	all   []byte
	mem   []entry // instead of a file: the sequence in memory
}

// next moves the part to its next entry.
func (p *part) next() (bool, error) {
	if p.f == nil {
		if len(p.mem) == 0 {
			return false, nil
		}
		p.entry, p.mem = p.mem[0], p.mem[1:]
		return true, nil
	}
	if len(p.buf) == 0 {
		n := min(int64(len(p.all)), p.end-p.at)
		if n == 0 {
			return false, nil
		}
		if _, err := p.f.ReadAt(p.all[:n], p.at); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return false, fmt.Errorf("reading redo records that were put aside: %w", err)
		}
		p.buf = p.all[:n]
		p.at += n
	}
	p.entry, p.buf = readEntry(p.buf), p.buf[entrySize:]
	return true, nil
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
}

// merge begins to read the plan. Nothing can be added any more.
func (p *Plan) merge() (*merger, error) {
	p.sort()
	m := &merger{plan: p}
	add := func(x *part) error {
		ok, err := x.next()
		if ok {
			m.parts = append(m.parts, x)
		}
		return err
	}
	if err := add(&part{mem: p.entries}); err != nil {
		return nil, err
	}
	if p.spill != nil {
		size := mergeMemory / len(p.spill.parts) / entrySize * entrySize
		size = min(maxPart, max(minPart, size))
		for i, at := range p.spill.parts {
			end := p.spill.size
			if i+1 < len(p.spill.parts) {
				end = p.spill.parts[i+1]
			}
			if err := add(&part{f: p.spill.f, at: at, end: end, all: make([]byte, size)}); err != nil {
				return nil, err
			}
		}
	}
	heap.Init(&m.parts)
	return m, nil
}

// next returns the next entry; false at the end.
func (m *merger) next() (entry, bool, error) {
	for len(m.parts) > 0 {
		top := m.parts[0]
		e := top.entry
		ok, err := top.next()
		switch {
		case err != nil:
			return entry{}, false, err
		case !ok:
			heap.Pop(&m.parts)
		case len(m.parts) > 1:
			heap.Fix(&m.parts, 0)
		}
		if !m.plan.trimmed(&e) {
			return e, true, nil
		}
	}
	return entry{}, false, nil
}
