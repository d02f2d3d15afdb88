package xbstream

import (
	"hash/maphash"
	"iter"
)

// Names holds a value for each of many names, as a map does, in less than half of a
// map's memory: 4 to 8 bytes for a name besides the entry itself. An archive may have a
// million files, and several steps keep something of each. The zero value is not
// usable: see NewNames. No name is empty. Nobody can choose names that collide, as the
// hash is seeded.
type Names[V any] struct {
	seed   maphash.Seed
	slots  []uint32          // number of an entry, plus one; 0: free; goneSlot: deleted
	blocks [][]namesEntry[V] // each but the last has namesBlock
	free   []uint32          // entries that were deleted
	n      int               // names
	used   int               // slots that are not free
}

type namesEntry[V any] struct {
	value V      // first: at the end, one of size 0 would take space
	name  string // "": it was deleted
}

const (
	goneSlot = ^uint32(0)
	// namesBlock is how many entries are kept in one piece: one slice of all would be in
	// memory twice when it grows.
	namesBlock = 4096
	leastSlots = 16
)

// NewNames returns an empty set of names. It has room for MaxFiles names.
func NewNames[V any]() *Names[V] {
	return &Names[V]{seed: maphash.MakeSeed(), slots: make([]uint32, leastSlots)}
}

// Len is the number of names.
func (s *Names[V]) Len() int { return s.n }

// Entries is how many entries All looks at, those of deleted names among them.
func (s *Names[V]) Entries() (n int) {
	for _, block := range s.blocks {
		n += len(block)
	}
	return n
}

func (s *Names[V]) entry(number uint32) *namesEntry[V] {
	return &s.blocks[number/namesBlock][number%namesBlock]
}

// find returns the slot of a name, or the one that it would get.
func (s *Names[V]) find(name string) (slot int, found bool) {
	mask := len(s.slots) - 1
	slot = -1
	for at := int(maphash.String(s.seed, name)) & mask; ; at = (at + 1) & mask {
		switch number := s.slots[at]; {
		case number == 0 && slot >= 0:
			return slot, false
		case number == 0:
			return at, false
		case number == goneSlot:
			if slot < 0 {
				slot = at
			}
		case s.entry(number-1).name == name:
			return at, true
		}
	}
}

// Get returns the value of a name, and whether it is there.
func (s *Names[V]) Get(name string) (value V, there bool) {
	slot, there := s.find(name)
	if there {
		value = s.entry(s.slots[slot] - 1).value
	}
	return value, there
}

// Has reports whether a name is there.
func (s *Names[V]) Has(name string) bool {
	_, there := s.find(name)
	return there
}

// Put sets the value of a name.
func (s *Names[V]) Put(name string, value V) {
	slot, there := s.find(name)
	if there {
		s.entry(s.slots[slot] - 1).value = value
		return
	}
	if s.slots[slot] == 0 {
		if s.used+1 > len(s.slots)/4*3 {
			s.grow()
			slot, _ = s.find(name)
		}
		s.used++
	}
	s.slots[slot] = s.add(namesEntry[V]{value, name}) + 1
	s.n++
}

// add returns the number of a new entry.
func (s *Names[V]) add(e namesEntry[V]) uint32 {
	if last := len(s.free) - 1; last >= 0 {
		number := s.free[last]
		s.free = s.free[:last]
		*s.entry(number) = e
		return number
	}
	last := len(s.blocks) - 1
	switch {
	case last < 0: // it grows: there may be few names
		s.blocks = append(s.blocks, nil)
		last++
	case len(s.blocks[last]) == namesBlock:
		s.blocks = append(s.blocks, make([]namesEntry[V], 0, namesBlock))
		last++
	}
	s.blocks[last] = append(s.blocks[last], e)
	return uint32(last*namesBlock + len(s.blocks[last]) - 1)
}

// grow makes more slots, or the same number if many are of deleted names.
func (s *Names[V]) grow() {
	size := len(s.slots)
	if s.n >= size/2 {
		size *= 2
	}
	s.slots, s.used = make([]uint32, size), s.n
	for i := range s.blocks {
		for j := range s.blocks[i] {
			if e := &s.blocks[i][j]; e.name != "" {
				slot, _ := s.find(e.name)
				s.slots[slot] = uint32(i*namesBlock+j) + 1
			}
		}
	}
}

// Delete takes a name away, if it is there.
func (s *Names[V]) Delete(name string) {
	slot, there := s.find(name)
	if !there {
		return
	}
	number := s.slots[slot] - 1
	s.slots[slot] = goneSlot
	*s.entry(number) = namesEntry[V]{}
	s.n--
	s.free = append(s.free, number)
}

// All yields all names, in no order. The name that was yielded may be deleted
// meanwhile, no other may, nor may any be put.
func (s *Names[V]) All() iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, block := range s.blocks {
			for i := range block {
				if e := &block[i]; e.name != "" && !yield(e.name, e.value) {
					return
				}
			}
		}
	}
}
