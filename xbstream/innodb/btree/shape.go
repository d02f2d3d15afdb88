package btree

import (
	"bytes"

	"hb/xbstream/innodb"
)

// After instant ALTER TABLE, rows of a clustered index have the columns that the table had
// when they were written. Which those are:
//
//	MySQL 8.0.29 and later: bit 0x40 of the info bits says that a byte, next to the header, is
//	the version of the row: it has the fields that were added in it or before, and not dropped
//	in it or before. Rows without one are of version 0.
//
//	MySQL 8.0.12 to 8.0.28: bit 0x80 says that there is the number of its fields, of COMPACT
//	records: 1 byte, or 2, big-endian backwards, if the first has bit 0x80. Rows without one
//	have those of before the first column was added instantly. Later servers leave such rows.
//
//	MariaDB: status 4 says the same of COMPACT records: the number of fields that the row has
//	more than those of before, minus 1: 1 byte, or 2 if the first has bit 0x80, the low 7 bits
//	first.
//
// REDUNDANT records have the number of their fields anyway. (rem/rec.h of MySQL 9.7.2,
// rem0rec.cc and btr_cur_instant_root_init in btr0cur.cc of MariaDB 10.11; a test of package
// sink/export reads rows that those servers wrote.)

// A Core is how many fields the rows of a table had before the first column was added
// instantly without versions of rows.
type Core struct {
	Fields int
	Nulls  int // bytes with bits for NULL; -1: as many as the fields need
}

// Core returns that of a clustered index of MariaDB, as its root has it; nil if columns were
// never added, dropped or moved instantly.
func (t *Tree) Core() (*Core, error) {
	p, err := t.page(t.Root, -1)
	if err != nil || innodb.HeaderType(p.b) != typeInstant {
		return nil, err
	}
	const offsetInstant, unused = innodb.OffsetBody + 12, 3 // PAGE_INSTANT: above the direction of inserts
	c := &Core{Fields: p.u16(offsetInstant) >> unused, Nulls: -1}
	if c.Fields < t.Format.Key || c.Fields > maxFields {
		return nil, p.errorf("its rows had %d fields before instant ALTER TABLE", c.Fields)
	}
	// After columns were dropped or moved, supremum has the number of bytes.
	infimum, supremum := p.b[p.infimum:][:8], p.b[p.supremum:][:8]
	switch {
	case string(infimum) == "infimum\x00" && string(supremum) == "supremum":
	case bytes.Equal(infimum, make([]byte, 8)) && bytes.Equal(supremum[:7], make([]byte, 7)) && supremum[7] <= (maxFields+7)/8:
		c.Nulls = int(supremum[7])
	default:
		return nil, p.errorf("it has %q and %q for system records", infimum, supremum)
	}
	return c, nil
}

// instant reports whether rows can have other fields than the format.
func (f *Format) instant() bool {
	if f.Core != nil {
		return true
	}
	for i := range f.Fields {
		if f.Fields[i].Added != 0 || f.Fields[i].Dropped != 0 {
			return true
		}
	}
	return false
}

// A shape is which fields a row has.
type shape struct {
	given   int // the version that the row has; -1: none
	version int // of the row; -1: it has the first count fields
	count   int
	nulls   int // bytes with bits for NULL; -1: as many as the fields need
}

// has reports whether a row has a field.
func (s *shape) has(i int, f Field) bool {
	if s.version < 0 {
		return i < s.count
	}
	return f.Added <= s.version && (f.Dropped == 0 || f.Dropped > s.version)
}

// nullBytes is how many bytes with bits for NULL a row has.
func (s *shape) nullBytes(format *Format) int {
	if s.nulls >= 0 {
		return s.nulls
	}
	n := 0
	for i, f := range format.Fields {
		if f.Nullable && s.has(i, f) {
			n++
		}
	}
	return (n + 7) / 8
}

// before is the shape of rows that do not say theirs.
func (f *Format) before() shape {
	if f.Core != nil {
		return shape{given: -1, version: -1, count: f.Core.Fields, nulls: f.Core.Nulls}
	}
	return shape{given: -1, nulls: -1}
}

// shape returns that of a COMPACT record, and where its bits for NULL begin; not ok: its
// status, or a number, is not of such a table.
func (p *page) shape(origin int, info byte, format *Format) (s shape, at int, ok bool) {
	s, at = format.before(), origin-p.extra-1
	if len(format.Fields) > maxFields {
		return s, at, false
	}
	status := p.u16(origin-4) & statusMask
	switch leaf := p.level() == 0; {
	case leaf && info&infoVersion != 0 && status == statusLeaf:
		v := int(p.b[at])
		s = shape{given: v, version: v, nulls: -1}
		at--
	case leaf && info&infoInstant != 0 && status == statusLeaf && format.Core != nil:
		s = shape{given: -1, version: -1, count: int(p.b[at]), nulls: -1}
		if at--; s.count&0x80 != 0 {
			s.count = s.count&0x7F<<8 | int(p.b[at])
			at--
		}
	case leaf && info&(infoVersion|infoInstant) == 0 && status == statusAdded && format.Core != nil:
		n := int(p.b[at])
		if at--; n&0x80 != 0 {
			n = n&0x7F | int(p.b[at])<<7
			at--
		}
		s = shape{given: -1, version: -1, count: format.Core.Fields + n + 1, nulls: -1}
	default:
		return s, at, leaf && status == statusLeaf || !leaf && status == statusNode
	}
	return s, at, s.version >= 0 || s.count <= len(format.Fields)
}

// spread puts the values of a REDUNDANT record where the fields of the format are.
func (p *page) spread(r *Record, format *Format) error {
	s := shape{given: r.Version, version: r.Version, count: len(r.Fields)}
	values := append([]Value(nil), r.Fields...)
	r.Fields = r.Fields[:0]
	for i, f := range format.Fields {
		switch {
		case !s.has(i, f):
			r.Fields = append(r.Fields, Value{Missing: true})
		case len(values) == 0:
			return p.errorf("the record at %d has fewer fields than its version", r.Origin)
		default:
			r.Fields, values = append(r.Fields, values[0]), values[1:]
		}
	}
	if len(values) > 0 {
		return p.errorf("the record at %d has %d fields too many", r.Origin, len(values))
	}
	return nil
}
