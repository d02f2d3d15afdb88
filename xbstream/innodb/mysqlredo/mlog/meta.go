package mlog

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
)

// Meta is a record of type DynamicMeta: what the server knows about a table and
// writes into its data dictionary later.
type Meta struct {
	Table, Version uint64
	// Item begins with its kind: 1 corrupted indexes, 2 AUTO_INCREMENT counter.
	Item []byte
}

// The kinds of metadata (persistent_type_t).
const (
	metaCorrupted = 1 // count (1), each: space (4), index id (8)
	metaCounter   = 2 // counter (m64)

	metaIndex    = 4 + 8
	maxCorrupted = 255
)

// Kind is the kind of metadata.
func (m *Meta) Kind() byte { return m.Item[0] }

// ParseMeta decodes the body of a DynamicMeta record. Item is part of it.
func ParseMeta(body []byte) (Meta, error) {
	p := parser{b: body}
	m := Meta{Table: p.m64(), Version: p.m64()}
	at := p.at
	p.metaItem()
	if p.failed() || p.at != len(body) {
		return Meta{}, &RecordError{DynamicMeta, "is malformed"}
	}
	m.Item = body[at:]
	return m, nil
}

// metaItem steps over the item of a record.
func (p *parser) metaItem() {
	switch p.u1() {
	case metaCorrupted:
		p.take(p.u1() * metaIndex)
	case metaCounter:
		p.m64()
	default:
		p.fail("has metadata of an unknown kind")
	}
}

// Append adds the metadata as a mini-transaction of one record.
func (m *Meta) Append(b []byte) []byte {
	b = append(b, byte(DynamicMeta)|SingleBit)
	b = AppendM64(AppendM64(b, m.Table), m.Version)
	return append(b, m.Item...)
}

// Check reports an error if the server could not read the metadata back.
func (m *Meta) Check() error {
	p := parser{b: m.Item}
	p.metaItem()
	if p.failed() || p.at != len(m.Item) {
		return &RecordError{DynamicMeta, "is malformed"}
	}
	return nil
}

// MetaSet collects what the records of a log amount to, as the server's own
// recovery does (Persister::aggregate in dict0dict.cc): the counter of the
// highest version, and of one version the highest counter, in whatever order
// they come; and all indexes that were ever corrupted. The zero value is not
// usable; make one.
type MetaSet map[MetaKey]Meta

// MetaKey identifies a record in a set.
type MetaKey struct {
	Table uint64
	Kind  byte
}

// metaSize is about the memory of a record in a set besides its item, in bytes.
const metaSize = 112

// Add adds a record from ParseMeta. It copies the item, and returns about how many
// bytes of memory the set has taken for that.
func (s MetaSet) Add(m Meta) (taken int) {
	key := MetaKey{m.Table, m.Kind()}
	old, ok := s[key]
	switch {
	case !ok:
		m.Item, taken = slices.Clone(m.Item), metaSize
	case key.Kind == metaCorrupted:
		m.Item, m.Version = union(old.Item, m.Item), max(old.Version, m.Version)
	case cmp.Or(cmp.Compare(m.Version, old.Version), cmp.Compare(m.counter(), old.counter())) <= 0:
		return 0
	default:
		m.Item = slices.Clone(m.Item)
	}
	s[key] = m
	return taken + len(m.Item) - len(old.Item)
}

func (m *Meta) counter() uint64 {
	v, _ := M64(m.Item[1:])
	return v
}

// union is the item of the corrupted indexes of two. The record has room for
// 255, which is more than a table can have.
func union(a, b []byte) []byte {
	out := slices.Clone(a)
	for b = b[2:]; len(b) >= metaIndex && out[1] < maxCorrupted; b = b[metaIndex:] {
		known := false
		for have := a[2:]; len(have) >= metaIndex; have = have[metaIndex:] {
			known = known || bytes.Equal(have[:metaIndex], b[:metaIndex])
		}
		if !known {
			out = append(out, b[:metaIndex]...)
			out[1]++
		}
	}
	return out
}

// Sorted returns the records, in order of table and kind.
func (s MetaSet) Sorted() []Meta {
	return slices.SortedFunc(maps.Values(s), func(a, b Meta) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Kind(), b.Kind()))
	})
}
