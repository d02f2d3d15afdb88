package btree

import (
	"hb/xbstream/innodb"
)

// After instant ALTER TABLE, the root of a clustered index of MariaDB is of type 18, and its
// first record is not a row but describes the others. If columns were dropped or moved, it is
// marked as deleted, and after DB_ROLL_PTR is a reference to a column of its own:
//
//	4  fields after DB_ROLL_PTR    2 for each: bit 15: it was dropped. If not, bits 0 to 9 are
//	                               the number of its column. If it was, bit 14: it was NOT
//	                               NULL; bits 0 to 9: 0 and 1: variable, of at most and more
//	                               than 255 bytes; else its fixed length + 1
//
// (dict_table_t::deserialise_columns and field_map_element_t in dict0mem.h of MariaDB 10.5 to
// 11.8; TestCfg of package sink/export compares what follows with what those servers say.)

// A Moved is a field of a clustered index of MariaDB.
type Moved struct {
	Dropped bool
	Column  int  // its number, if it was not dropped
	NotNull bool // if it was
	Fixed   int  // bytes, if it was; 0: variable
	Long    bool // if it was: variable, of more than 255 bytes at most
}

const (
	movedDropped = 1 << 15
	movedNotNull = 1 << 14
	movedNumber  = 1<<10 - 1

	systemSize = 6 + 7 // DB_TRX_ID and DB_ROLL_PTR
)

// Moved returns the fields that follow DB_ROLL_PTR in the rows of a clustered index of
// MariaDB, if columns were dropped or moved instantly; nil if none were. Of Format, it needs
// the fields of the key only.
func (t *Tree) Moved() ([]Moved, error) {
	p, err := t.page(t.Root, -1)
	if err != nil || innodb.HeaderType(p.b) != typeInstant {
		return nil, err
	}
	for p.level() > 0 {
		if p, err = t.leftmost(p); err != nil {
			return nil, err
		}
	}
	origin := p.follow(p.infimum)
	at := origin + systemSize
	for _, f := range t.Format.Fields[:t.Format.Key] {
		at += f.Fixed // others are empty there
	}
	if origin < p.heap+p.extra || origin > p.heapTop() {
		return nil, p.errorf("it has no record that describes instant ALTER TABLE")
	}
	switch info := p.b[origin-p.extra]; {
	case info&infoMinRec == 0:
		return nil, p.errorf("its first record does not describe instant ALTER TABLE")
	case info&infoDeleted == 0: // columns were added at the end
		return nil, nil
	case at+RefSize > p.heapTop():
		return nil, p.errorf("its record that describes instant ALTER TABLE does not fit")
	}
	b, err := t.External(Value{Data: p.b[at : at+RefSize], External: true}, 4+2*maxFields)
	if err != nil {
		return nil, err
	}
	if len(b) < 4 || len(b) != 4+2*int(min(be.Uint32(b), maxFields)) {
		return nil, p.errorf("it describes instant ALTER TABLE in %d bytes", len(b))
	}
	var list []Moved
	for b = b[4:]; len(b) > 0; b = b[2:] {
		v := int(be.Uint16(b))
		m := Moved{Column: v & movedNumber}
		if v&movedDropped != 0 {
			m = Moved{Dropped: true, NotNull: v&movedNotNull != 0, Fixed: max(v&movedNumber-1, 0), Long: v&movedNumber == 1}
		}
		list = append(list, m)
	}
	return list, nil
}

// leftmost descends from the first page of a level to that of the next lower one. How many
// bytes with bits for NULL the records have depends on columns that the table may not have
// any more, so that it looks which number makes the record point to that page: there is only
// one that is of the level and has no predecessor.
func (t *Tree) leftmost(p *page) (found *page, err error) {
	origin := p.follow(p.infimum)
	if origin < p.heap+p.extra || origin > p.heapTop() {
		return nil, p.errorf("it links a record at %d, where none can be", origin)
	}
	var last innodb.PageNo
	for nulls := 0; nulls <= (maxFields+7)/8; nulls++ {
		no, ok := p.child(origin, nulls, &t.Format)
		if !ok || found != nil && no == last {
			continue
		}
		next, err := t.page(no, p.level()-1)
		if err != nil || next.prev() != innodb.PageNull {
			continue
		}
		if found != nil {
			return nil, p.errorf("its first record can point to pages %d and %d", last, no)
		}
		found, last = next, no
		if !p.compact || !t.Format.variable() {
			break
		}
	}
	if found == nil {
		return nil, p.errorf("its first record does not point to a page of the next level")
	}
	return found, nil
}

// variable reports whether the key has fields of variable length.
func (f *Format) variable() bool {
	for _, k := range f.Fields[:f.Key] {
		if k.Fixed == 0 {
			return true
		}
	}
	return false
}

// child returns the page that a record points to, if it has so many bytes with bits for NULL.
func (p *page) child(origin, nulls int, format *Format) (innodb.PageNo, bool) {
	if !p.compact {
		var r Record
		if p.decode(&r, origin, format) != nil {
			return 0, false
		}
		b := r.Fields[len(r.Fields)-1].Data
		if len(b) != childSize {
			return 0, false
		}
		return innodb.PageNo(be.Uint32(b)), true
	}
	h := compactHeader{p: p, nulls: origin - p.extra - 1, lengths: origin - p.extra - 1 - nulls}
	if h.lengths < p.heap-1 {
		return 0, false
	}
	at := origin
	for _, f := range format.Fields[:format.Key] {
		n, v, ok := h.field(f)
		if !ok || v.Null || v.External {
			return 0, false
		}
		at += n
	}
	if at+childSize > p.heapTop() {
		return 0, false
	}
	return innodb.PageNo(be.Uint32(p.b[at:])), true
}
